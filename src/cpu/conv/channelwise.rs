//! Few channels a group, channels last: target channels are the lanes, read where they lie.
//!
//! A position's channels are next to each other in the source and in the target, so nothing is
//! packed but the weights; a task takes some rows of some channels of an image. With more than one
//! channel a group, a vector of the source has all that a vector of the target reads, and is
//! permuted once for each source channel of a group.
//!
//! Where the machine multiplies pairs of bf16, these are channels of a group where they lie, or two
//! rows of the source ([`reach`]).

mod channels;
mod gradient;
mod reach;
mod rows;

use super::gemm::Job;
use super::pairs::paired;
use super::scratch::{Buffer, product, take};
use super::split::{PIECES, share};
use super::stencil::{Roles, Stencil};
use crate::cpu::crew::{each_chunk, try_each_with};
use crate::cpu::simd::{
    ChannelRow, ChannelTarget, Level, MicroKernel, Run, channel_row, join, prefetch,
};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use channels::Channels;
pub(super) use gradient::{run_wgrad, wgrad_plan};
use reach::{Reaches, Runs};
use rows::{Read, Segment, Segments, SourceRows};

/// Tiles are made smaller until there are this many tasks...
const TASKS: usize = 32;
/// ...while they have more products than this, in vectors.
const SMALLEST: usize = 1 << 11;

/// Some columns of a row whose runs were chosen, of `count` channels of the target.
fn channel_row_of<'a, A>(
    pace: usize,
    places: usize,
    (channels, count): (&'a Channels, usize),
    (segment, read): (&Segment, Read<'a, A>),
    runs: &'a mut [Run],
) -> ChannelRow<'a, A> {
    ChannelRow {
        runs,
        source: read.source,
        pixel: read.pixel,
        size: read.size,
        pace,
        width: segment.width,
        channels: count,
        taps: places,
        group: channels.group(),
    }
}

/// Rows of a stencil counted over the outer axes.
fn rows(stencil: &Stencil) -> usize {
    product(&stencil.count[..3])
}

/// Bytes of source and target up to which they may be in a cache: asking for them costs more there
/// than it saves. Tests ask always.
const CACHED: usize = if cfg!(test) { 0 } else { 1 << 24 };

/// Whether to ask for the next row of source and target, whose pixels the processor does not foresee:
/// they are read channels by channels.
fn far<T: Element>(roles: &Roles) -> bool {
    let image = roles.source.outer.saturating_add(roles.target.outer);
    product(&[roles.batch, image, size_of::<T>()]) > CACHED
}

/// Asks for some channels of pixels that are `pitch` apart.
fn prefetch_pixels<A>(from: &[A], pitch: usize, pixels: usize, channels: usize) {
    for pixel in 0..pixels {
        prefetch(&from[pixel * pitch..][..channels]);
    }
}

/// Asks for some channels of the pixels of the row that runs were chosen for and that is read last.
fn prefetch_source<A>(roles: &Roles, (source, channels): (&[A], usize), runs: &Runs) {
    if let Some(row) = runs.last_row() {
        let (pixel, size) = (roles.source.spatial[3], roles.source_size[3]);
        prefetch_pixels(&source[row..], pixel, size, channels);
    }
}

/// One stencil, cut up.
struct Grid {
    reaches: Reaches,
    segments: Segments,
    rows: usize,
    row_tiles: usize,
    first_task: usize,
    first_weight: usize,
}

impl Grid {
    /// Packed weights of a vector of target channels.
    fn each(&self, channels: &Channels) -> usize {
        channels.sources * self.reaches.places.len() * channels.lanes
    }
}

/// How fprop or dgrad is cut up.
pub(super) struct Plan {
    /// Of the products.
    level: Level,
    channels: Channels,
    grids: Vec<Grid>,
    tasks: usize,
    weights: usize,
}

/// Computes fprop or dgrad if this is the way to do it.
pub(super) fn forward<T: Element>(job: &Job<T>) -> Option<Result<()>> {
    if job.pairs_pay() {
        return None;
    }
    let level =
        paired::<T>(job.level).filter(|level| job.roles.source_channels > 1 && !level.tiles());
    let pairs = level.and_then(|level| job.in_pairs(level));
    if let Some((pairs, plan)) = pairs.and_then(|pairs| plan(&pairs).map(|plan| (pairs, plan))) {
        return Some(run(&pairs, &plan));
    }
    plan(job).map(|plan| run(job, &plan))
}

/// Whether lanes of channels are the way to compute a job.
pub(super) fn plan<T: Element, S: Element<Acc = T::Acc>>(job: &Job<T, S>) -> Option<Plan> {
    let roles = &job.roles;
    let channels = Channels::new::<T>(job.level, roles, job.layout)?;
    let mut level = job.level;
    let mut reaches: Vec<_> = job.stencils.iter().map(Reaches::new).collect();
    let pairs = paired::<S>(job.level).filter(|level| !level.tiles());
    if let Some(pairs) = pairs.filter(|_| reaches.iter().any(Reaches::has_pairs)) {
        level = pairs;
        reaches = reaches.iter().map(Reaches::of_pairs).collect();
    }
    let places = reaches.iter().map(|reaches| reaches.places.len()).max()?;
    let channels = channels.in_blocks(places);
    let mut plan = Plan {
        level,
        channels,
        grids: Vec::with_capacity(job.stencils.len()),
        tasks: 0,
        weights: 0,
    };
    let channels = &plan.channels;
    let outer = product(&[roles.batch, channels.blocks, job.stencils.len()]);
    for (stencil, reaches) in job.stencils.iter().zip(reaches) {
        let count = rows(stencil);
        let row = product(&[
            stencil.count[3],
            (stencil.taps.len() * channels.sources).max(1),
            channels.block / channels.lanes,
        ]);
        let sources = channels.source(channels.block);
        let segments = Segments::new::<S>(roles, stencil, &reaches, sources)?;
        let least = (SMALLEST / row.max(1)).max(segments.least_rows());
        let tiles = TASKS.div_ceil(outer.max(1)).min(count.div_ceil(least));
        let rows = count.div_ceil(tiles.max(1));
        let grid = Grid {
            segments,
            reaches,
            rows,
            row_tiles: count.div_ceil(rows),
            first_task: plan.tasks,
            first_weight: plan.weights,
        };
        plan.tasks += product(&[roles.batch, channels.blocks, grid.row_tiles]);
        let weights = product(&[channels.vectors(), grid.each(channels)]);
        plan.weights = plan.weights.saturating_add(weights);
        plan.grids.push(grid);
    }
    Some(plan)
}

fn run<T: Element, S: Element<Acc = T::Acc>>(job: &Job<T, S>, plan: &Plan) -> Result<()> {
    let channels = &plan.channels;
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    let packed = take(&mut kept, plan.weights)?;
    for (stencil, grid) in job.stencils.iter().zip(&plan.grids) {
        let each = grid.each(channels);
        let to = &mut packed[grid.first_weight..][..channels.vectors() * each];
        each_chunk(to, each, |vector, to| {
            pack(job, (stencil, grid), plan, vector, to);
        });
    }
    let packed = &*packed;
    let count = plan.tasks.min(PIECES);
    let done = try_each_with(0..count, Runs::default, |runs, piece| {
        let (from, to) = share(plan.tasks, count, piece);
        T::Acc::scratch().with_borrow_mut(|scratch| {
            (from..to).try_for_each(|task| {
                let s = plan.grids.partition_point(|grid| grid.first_task <= task) - 1;
                let (grid, stencil) = (&plan.grids[s], &job.stencils[s]);
                let work = (&mut *runs, &mut scratch.a);
                tile(job, (stencil, grid), plan, task, packed, work)
            })
        })
    });
    T::Acc::packed().replace(kept);
    done
}

/// `to (source channels, places, lanes)`, zeros past the last channel.
fn pack<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    (stencil, grid): (&Stencil, &Grid),
    plan: &Plan,
    vector: usize,
    to: &mut [T::Acc],
) {
    let Channels {
        lanes,
        total,
        targets,
        sources,
        ..
    } = plan.channels;
    let roles = &job.roles;
    // the second of a pair is another channel, or another tap
    let pairs_of_channels = job.level.pairs();
    for lane in 0..lanes {
        let channel = vector * lanes + lane;
        let mut to = to.iter_mut().skip(lane).step_by(lanes);
        if channel >= total {
            to.for_each(|to| *to = T::Acc::default());
            continue;
        }
        let (group, m) = (channel / targets, channel % targets);
        let first = group * roles.weight_group + m * roles.weight_target;
        let weight = |nth: usize, tap: usize| {
            job.weight[first + nth * roles.weight_source + stencil.taps[tap].weight]
        };
        for nth in 0..sources {
            // the places first: `zip` takes one more from its first iterator than from the second
            for (&(tap, second), to) in grid.reaches.places.iter().zip(to.by_ref()) {
                if !plan.level.pairs() {
                    *to = weight(nth, tap).to_acc();
                    continue;
                }
                let pair = match pairs_of_channels {
                    true => [weight(2 * nth, tap), weight(2 * nth + 1, tap)],
                    false => [
                        weight(nth, tap),
                        second.map_or(T::default(), |tap| weight(nth, tap)),
                    ],
                };
                join(&pair, std::slice::from_mut(to));
            }
        }
    }
}

/// One task.
fn tile<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    (stencil, grid): (&Stencil, &Grid),
    plan: &Plan,
    task: usize,
    packed: &[T::Acc],
    (chosen, memory): (&mut Runs, &mut Buffer<T::Acc>),
) -> Result<()> {
    let (roles, channels) = (&job.roles, &plan.channels);
    let index = task - grid.first_task;
    let (rest, part) = (index / grid.row_tiles, index % grid.row_tiles);
    let (image, block) = (rest / channels.blocks, rest % channels.blocks);
    let (first, count) = channels.of_block(block);
    let source = &job.source[image * roles.source.outer..][..roles.source.outer];
    let source = &source[channels.source(first)..];
    let output = &job.target;
    let sources = channels.source(count);
    let places = grid.reaches.places.len();
    let bias = job.bias.map(|bias| &bias[first..]);
    let (begin, end) = (part * grid.rows, rows(stencil).min((part + 1) * grid.rows));
    let far = far::<S>(roles);
    // lines of memory that are written past the caches part by part cost more than they save
    let stream = job.streams();
    let step = stencil.step[3] * roles.target.spatial[3];
    let at = |j| image * roles.target.outer + first + roles.target.at(stencil.target(j));
    let weights = &packed[grid.first_weight + first * channels.sources * places..];
    let pairs = plan.level.pairs();
    let mut reading = SourceRows::new(
        (job.level, pairs),
        source,
        (roles, &grid.segments),
        sources,
        memory,
    )?;
    for segment in grid.segments.iter() {
        reading.begin(&segment);
        for row in begin..end {
            if far && row + 1 < end {
                let j = unravel((row + 1) * stencil.count[3], stencil.count);
                grid.reaches.choose((roles, stencil), j, None, chosen);
                prefetch_source(roles, (source, sources), chosen);
                for pixel in (0..stencil.count[3]).filter(|_| !stream) {
                    // SAFETY: no other task has these channels of these rows.
                    prefetch(unsafe { output.part(at(j) + pixel * step, count) });
                }
            }
            let j = unravel(row * stencil.count[3], stencil.count);
            grid.reaches.choose((roles, stencil), j, None, chosen);
            let read = reading.read(&segment, stencil.pace[3], chosen);
            let (pace, read) = (stencil.pace[3], (&segment, read));
            let row = channel_row_of(pace, places, (channels, count), read, &mut chosen.runs);
            let target = ChannelTarget {
                output,
                at: at(j) + segment.first * step,
                step,
                bias,
                write: job.write,
                stream,
            };
            // SAFETY: no other task has these channels of these rows.
            unsafe { channel_row(plan.level, row, weights, &target) };
        }
    }
    Ok(())
}
