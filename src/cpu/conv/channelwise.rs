//! Few channels a group, channels last: target channels are the lanes, read where they lie.
//!
//! A position's channels are next to each other in the source and in the target, so nothing is
//! packed but the weights; a task takes some rows of some channels of an image. With more than one
//! channel a group, a vector of the source has all that a vector of the target reads, and is
//! permuted once for each source channel of a group.

mod gradient;
mod rows;

use super::gemm::Job;
use super::scratch::{Buffer, product, take};
use super::split::{PIECES, share};
use super::stencil::{Roles, Stencil};
use crate::cpu::crew::{each_chunk, try_each_with};
use crate::cpu::simd::{
    ChannelRow, ChannelTarget, Group, Level, MicroKernel, RUN, Run, channel_row, prefetch,
};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use crate::shape::Layout;
pub(super) use gradient::{run_wgrad, wgrad_plan};
use rows::{Read, Segment, Segments, SourceRows};

/// Weights of a block of channels: they should stay in the L1 cache.
const WEIGHTS: usize = 4096;
/// Vectors of a block of channels at least: lines of a position that are read together.
const VECTORS: usize = 4;
/// Tiles are made smaller until there are this many tasks...
const TASKS: usize = 32;
/// ...while they have more products than this, in vectors.
const SMALLEST: usize = 1 << 11;

/// Lanes of vectors that are worth permuting; narrower ones have no instruction for it.
const PERMUTED: usize = 8;

/// Target channels in vectors, and blocks of them.
struct Channels {
    total: usize,
    lanes: usize,
    /// Channels of a block, whole vectors.
    block: usize,
    blocks: usize,
    /// Channels of a group.
    sources: usize,
    targets: usize,
    /// As [`Group`] has it.
    index: Vec<u32>,
}

impl Channels {
    /// `None` where lanes of channels are not the way.
    fn new<T: Element>(level: Level, roles: &Roles, layout: Layout, taps: usize) -> Option<Self> {
        let lanes = T::Acc::geometry(level).lanes;
        let (sources, targets) = (roles.source_channels, roles.target_channels);
        let total = roles.groups * targets;
        let depthwise = (sources, targets) == (1, 1);
        let permuted = lanes >= PERMUTED
            && roles.groups > 1
            && targets < lanes
            && lanes.is_multiple_of(targets)
            && sources <= targets;
        let suits = layout == Layout::ChannelsLast && total * 2 >= lanes;
        (suits && (depthwise || permuted)).then(|| {
            let vectors = total.div_ceil(lanes);
            let most = (WEIGHTS / product(&[taps, sources, lanes]).max(1)).max(VECTORS);
            let each = vectors.div_ceil(vectors.div_ceil(most));
            let source = |nth, lane| (lane / targets * sources + nth) as u32;
            let index = (0..sources).flat_map(|nth| (0..lanes).map(move |lane| source(nth, lane)));
            Channels {
                total,
                lanes,
                block: each * lanes,
                blocks: vectors.div_ceil(each),
                sources,
                targets,
                index: match depthwise {
                    true => Vec::new(),
                    false => index.collect(),
                },
            }
        })
    }

    fn group(&self) -> Group<'_> {
        Group {
            sources: self.sources,
            targets: self.targets,
            lanes: &self.index,
        }
    }

    /// The first source channel of a block that begins at a target channel.
    fn source(&self, first: usize) -> usize {
        first / self.targets * self.sources
    }

    /// First channel of a block, and how many.
    fn of_block(&self, block: usize) -> (usize, usize) {
        let first = block * self.block;
        (first, self.block.min(self.total - first))
    }

    fn vectors(&self) -> usize {
        self.total.div_ceil(self.lanes)
    }
}

/// A [`Run`] before a row is chosen: the offset of its first tap.
struct Reach {
    offset: [isize; 4],
    run: Run,
}

/// The taps of a stencil in runs.
fn reaches(stencil: &Stencil) -> Vec<Reach> {
    let pace = stencil.pace[3] as isize;
    let offset = |tap: usize| stencil.taps[tap].offset;
    let mut order: Vec<usize> = (0..stencil.taps.len()).collect();
    order.sort_by_key(|&tap| {
        let [a, b, c, d] = offset(tap);
        (a, b, c, d.rem_euclid(pace), d)
    });
    let mut reaches: Vec<Reach> = Vec::new();
    for tap in order {
        let offset = offset(tap);
        if let Some(Reach { offset: first, run }) = reaches.last_mut() {
            let next = first[3] + run.count as isize * pace;
            if run.count < RUN && offset[..3] == first[..3] && offset[3] == next {
                run.taps[run.count] = tap;
                run.count += 1;
                continue;
            }
        }
        let run = Run::new(offset[3], tap);
        reaches.push(Reach { offset, run });
    }
    reaches
}

/// Some columns of a row whose runs were chosen, of `count` channels of the target.
fn channel_row_of<'a, A>(
    stencil: &Stencil,
    channels: &'a Channels,
    count: usize,
    (segment, read): (&Segment, Read<'a, A>),
    runs: &'a mut [Run],
) -> ChannelRow<'a, A> {
    ChannelRow {
        runs,
        source: read.source,
        pixel: read.pixel,
        size: read.size,
        pace: stencil.pace[3],
        width: segment.width,
        channels: count,
        taps: stencil.taps.len(),
        group: channels.group(),
    }
}

/// Rows of a stencil counted over the outer axes.
fn rows(stencil: &Stencil) -> usize {
    product(&stencil.count[..3])
}

/// The runs that the row of target position `j` has.
fn runs(roles: &Roles, stencil: &Stencil, reaches: &[Reach], j: [usize; 4], to: &mut Vec<Run>) {
    to.clear();
    to.extend(reaches.iter().filter_map(|reach| {
        let mut row = 0;
        for (a, &j) in j[..3].iter().enumerate() {
            let at = usize::try_from((j * stencil.pace[a]) as isize + reach.offset[a]).ok()?;
            row += (at < roles.source_size[a]).then_some(at)? * roles.source.spatial[a];
        }
        let mut run = reach.run;
        run.row = row;
        Some(run)
    }));
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

/// Asks for some channels of the pixels that the row of position `j` reads last.
fn prefetch_source<A>(
    (roles, stencil, reaches): (&Roles, &Stencil, &[Reach]),
    j: [usize; 4],
    (source, channels): (&[A], usize),
    row_runs: &mut Vec<Run>,
) {
    runs(roles, stencil, reaches, j, row_runs);
    if let Some(last) = row_runs.last() {
        let (pixel, size) = (roles.source.spatial[3], roles.source_size[3]);
        prefetch_pixels(&source[last.row..], pixel, size, channels);
    }
}

/// One stencil, cut up.
struct Grid {
    reaches: Vec<Reach>,
    segments: Segments,
    rows: usize,
    row_tiles: usize,
    first_task: usize,
    first_weight: usize,
}

/// How fprop or dgrad is cut up.
pub(super) struct Plan {
    channels: Channels,
    grids: Vec<Grid>,
    tasks: usize,
    weights: usize,
}

/// Whether this is the way to compute a job.
pub(super) fn plan<T: Element>(job: &Job<T>) -> Option<Plan> {
    let roles = &job.roles;
    if job.pairs_pay() {
        return None;
    }
    let taps = job.stencils.iter().map(|s| s.taps.len()).max()?;
    let channels = Channels::new::<T>(job.level, roles, job.layout, taps)?;
    let mut plan = Plan {
        channels,
        grids: Vec::with_capacity(job.stencils.len()),
        tasks: 0,
        weights: 0,
    };
    let channels = &plan.channels;
    let outer = product(&[roles.batch, channels.blocks, job.stencils.len()]);
    for stencil in &job.stencils {
        let count = rows(stencil);
        let row = product(&[
            stencil.count[3],
            (stencil.taps.len() * channels.sources).max(1),
            channels.block / channels.lanes,
        ]);
        let reaches = reaches(stencil);
        let sources = channels.source(channels.block);
        let segments = Segments::new::<T>(roles, stencil, &reaches, sources)?;
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
        let each = channels.sources * stencil.taps.len() * channels.lanes;
        let weights = product(&[channels.vectors(), each]);
        plan.weights = plan.weights.saturating_add(weights);
        plan.grids.push(grid);
    }
    Some(plan)
}

pub(super) fn run<T: Element>(job: &Job<T>, plan: &Plan) -> Result<()> {
    let channels = &plan.channels;
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    let packed = take(&mut kept, plan.weights)?;
    for (stencil, grid) in job.stencils.iter().zip(&plan.grids) {
        let each = channels.sources * stencil.taps.len() * channels.lanes;
        let to = &mut packed[grid.first_weight..][..channels.vectors() * each];
        each_chunk(to, each, |vector, to| {
            pack(job, stencil, channels, vector, to);
        });
    }
    let packed = &*packed;
    let count = plan.tasks.min(PIECES);
    let done = try_each_with(0..count, Vec::new, |runs, piece| {
        let (from, to) = share(plan.tasks, count, piece);
        T::Acc::scratch().with_borrow_mut(|scratch| {
            (from..to).try_for_each(|task| {
                let s = plan.grids.partition_point(|grid| grid.first_task <= task) - 1;
                let (grid, stencil) = (&plan.grids[s], &job.stencils[s]);
                let work = (&mut *runs, &mut scratch.a);
                tile(job, (stencil, grid), channels, task, packed, work)
            })
        })
    });
    T::Acc::packed().replace(kept);
    done
}

/// `to (source channels, taps, lanes)`, zeros past the last channel.
fn pack<T: Element>(
    job: &Job<T>,
    stencil: &Stencil,
    channels: &Channels,
    vector: usize,
    to: &mut [T::Acc],
) {
    let lanes = channels.lanes;
    for lane in 0..lanes {
        let channel = vector * lanes + lane;
        let mut to = to.iter_mut().skip(lane).step_by(lanes);
        if channel >= channels.total {
            to.for_each(|to| *to = T::Acc::default());
            continue;
        }
        let (group, m) = (channel / channels.targets, channel % channels.targets);
        let first = group * job.roles.weight_group + m * job.roles.weight_target;
        for nth in 0..channels.sources {
            let from = &job.weight[first + nth * job.roles.weight_source..];
            // the taps first: `zip` takes one more from its first iterator than from the second
            for (tap, to) in stencil.taps.iter().zip(to.by_ref()) {
                *to = from[tap.weight].to_acc();
            }
        }
    }
}

/// One task.
fn tile<T: Element>(
    job: &Job<T>,
    (stencil, grid): (&Stencil, &Grid),
    channels: &Channels,
    task: usize,
    packed: &[T::Acc],
    (row_runs, memory): (&mut Vec<Run>, &mut Buffer<T::Acc>),
) -> Result<()> {
    let roles = &job.roles;
    let index = task - grid.first_task;
    let (rest, part) = (index / grid.row_tiles, index % grid.row_tiles);
    let (image, block) = (rest / channels.blocks, rest % channels.blocks);
    let (first, count) = channels.of_block(block);
    let source = &job.source[image * roles.source.outer..][..roles.source.outer];
    let source = &source[channels.source(first)..];
    let output = &job.target;
    let sources = channels.source(count);
    let taps = stencil.taps.len();
    let bias = job.bias.map(|bias| &bias[first..]);
    let (begin, end) = (part * grid.rows, rows(stencil).min((part + 1) * grid.rows));
    let far = far::<T>(roles);
    let stream = job.streams();
    let step = stencil.step[3] * roles.target.spatial[3];
    let at = |j| image * roles.target.outer + first + roles.target.at(stencil.target(j));
    let weights = &packed[grid.first_weight + first * channels.sources * taps..];
    let mut reading = SourceRows::new(job.level, source, (roles, &grid.segments), sources, memory)?;
    for segment in grid.segments.iter() {
        reading.begin(&segment);
        for row in begin..end {
            if far && row + 1 < end {
                let j = unravel((row + 1) * stencil.count[3], stencil.count);
                let source = (source, sources);
                prefetch_source((roles, stencil, &grid.reaches), j, source, row_runs);
                for pixel in (0..stencil.count[3]).filter(|_| !stream) {
                    // SAFETY: no other task has these channels of these rows.
                    prefetch(unsafe { output.part(at(j) + pixel * step, count) });
                }
            }
            let j = unravel(row * stencil.count[3], stencil.count);
            runs(roles, stencil, &grid.reaches, j, row_runs);
            let read = reading.read(&segment, stencil.pace[3], row_runs);
            let row = channel_row_of(stencil, channels, count, (&segment, read), row_runs);
            let target = ChannelTarget {
                output,
                at: at(j) + segment.first * step,
                step,
                bias,
                write: job.write,
                stream,
            };
            // SAFETY: no other task has these channels of these rows.
            unsafe { channel_row(job.level, row, weights, &target) };
        }
    }
    Ok(())
}
