//! Few channels a group, channels last: target channels are the lanes, read where they lie.
//!
//! A position's channels are next to each other in the source and in the target, so nothing is
//! packed but the weights; a task takes some rows of some channels of an image. With more than one
//! channel a group, a vector of the source has all that a vector of several groups reads, and is
//! permuted once for each source channel of a group; the lanes of one group all read one number.
//!
//! Where the machine multiplies pairs of bf16, these are channels of a group where they lie, or two
//! rows of the source ([`reach`]).

mod channels;
mod gradient;
mod reach;
mod rows;
mod turned;

use super::gemm::Job;
use super::pairs::paired;
use super::scratch::{Scratch, product, take};
use super::split::{PIECES, share};
use super::stencil::{Roles, Stencil};
use crate::cpu::crew::{each_chunk, try_each_with};
use crate::cpu::simd::{
    Ahead, ChannelRow, ChannelTarget, Edges, Level, MicroKernel, POSITIONS, Run, as_acc,
    channel_row, channels_stream, join,
};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;
use channels::Channels;
pub(super) use gradient::{run_wgrad, wgrad_plan};
use reach::{Reaches, Runs};
use rows::{Extent, Read, Reading, Segment, Segments, SourceRows};
use turned::TargetRows;

/// Tiles are made smaller until there are this many tasks...
const TASKS: usize = 32;
/// ...while they have more products than this, in vectors.
const SMALLEST: usize = 1 << 11;

/// Some columns of a row whose runs were chosen, of `count` channels of the target.
fn channel_row_of<'a, A>(
    (pace, places): (usize, usize),
    (channels, count): (&'a Channels, usize),
    (segment, read): (&Segment, Read<'a, A>),
    runs: &'a mut [Run],
    ahead: &'a mut [Ahead],
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
        ahead,
    }
}

/// Rows of a stencil counted over the outer axes.
fn rows(stencil: &Stencil) -> usize {
    product(&stencil.count[..3])
}

/// Bytes of source and target up to which they may be in a cache: asking for them costs more there
/// than it saves. Tests ask always.
const CACHED: usize = if cfg!(test) { 0 } else { 1 << 24 };

/// Whether to ask for the next row of source and target.
fn far<T: Element>(roles: &Roles) -> bool {
    let image = roles.source.outer.saturating_add(roles.target.outer);
    product(&[roles.batch, image, size_of::<T>()]) > CACHED
}

/// Some channels of columns from `from` on, and the steps from one to the next of either.
fn ahead_of<A>(
    from: *const A,
    (columns, column): (usize, usize),
    (channels, channel): (usize, usize),
) -> Ahead {
    match channel {
        1 => Ahead::new(from, column, columns, channels),
        _ => Ahead::new(from, channel, channels, columns * column),
    }
}

/// Asks for some channels of the rows of the source that runs were chosen for, of those behind the last one
/// that was asked for.
fn ask_source<A>(
    roles: &Roles,
    (source, channels): (&[A], usize),
    runs: &Runs,
    asked: &mut Option<usize>,
    ahead: &mut Vec<Ahead>,
) {
    let columns = (roles.source_size[3], roles.source.spatial[3]);
    let channels = (channels, roles.source.channel);
    let rows = runs.new_rows(asked).map(|row| source[row..].as_ptr());
    ahead.extend(rows.map(|row| ahead_of(row, columns, channels)));
}

/// Columns of rows that are transposed where channels come first and taps are few; longer ones fill up vectors
/// of positions. The same where no two taps are neighbours, so that every one reads by itself.
const NARROW: usize = 28;
const NARROW_APART: usize = 14;
/// Taps from which on rows of any width are transposed, if channels fill up vectors nearly.
const MANY: usize = 17;

/// Whether to compute one channel a group as if channels came last where they come first. What it takes to
/// transpose rows was measured with AVX2, beside filters over positions.
fn turns(channels: &Channels, stencils: &[Stencil]) -> bool {
    let [stencil] = stencils else {
        return true;
    };
    let (width, taps) = (stencil.count[3], stencil.taps.len());
    let apart = (0..taps).all(|tap| stencil.neighbours(tap) == 1);
    match (stencil.pace[2..] == [1, 1], apart) {
        (false, _) => true,
        (true, true) => width <= NARROW_APART,
        (true, false) => width <= NARROW || taps >= MANY && channels.full(),
    }
}

/// Positions of a row, from which on those that read with neighbouring taps the same are computed together.
const LEAST: usize = POSITIONS / 2;

/// One stencil.
struct Grid {
    stencil: Stencil,
    reaches: Reaches,
    segments: Segments,
    first_weight: usize,
}

impl Grid {
    /// Packed weights of a vector of target channels.
    fn each(&self, channels: &Channels) -> usize {
        channels.sources * self.reaches.places.len() * channels.lanes
    }
}

/// How fprop or dgrad is cut up: a task is some rows of each stencil, of some channels of an image.
pub(super) struct Plan {
    /// Of the products.
    level: Level,
    channels: Channels,
    grids: Vec<Grid>,
    /// Stencils whose rows are computed in turn, as they read the same rows of the source and write
    /// neighbours.
    together: usize,
    /// Parts of the rows of an image.
    parts: usize,
    weights: usize,
    /// Whether to write past the caches.
    stream: bool,
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
    let turned = job.layout == Layout::ChannelsFirst;
    let channels = Channels::new::<T>(job.level, roles, job.layout)?;
    (!turned || turns(&channels, &job.stencils)).then_some(())?;
    let mut level = job.level;
    let in_place = !turned && as_acc::<S>(&[]).is_some();
    let stencils = match in_place {
        true => job
            .stencils
            .iter()
            .flat_map(|s| s.undilated(LEAST))
            .collect(),
        false => job.stencils.clone(),
    };
    let mut reaches: Vec<_> = stencils.iter().map(Reaches::new).collect();
    let pairs = paired::<S>(job.level).filter(|level| !level.tiles() && !turned);
    if let Some(pairs) = pairs.filter(|_| reaches.iter().any(Reaches::has_pairs)) {
        level = pairs;
        reaches = reaches.iter().map(Reaches::of_pairs).collect();
    }
    let places = reaches.iter().map(|reaches| reaches.places.len()).max()?;
    let longest = reaches.iter().map(Reaches::longest).max()?;
    let pixel = roles.target.spatial[3];
    let stream = job.streams() && channels_stream::<T>(channels.lanes, longest, pixel);
    let channels = channels.in_blocks(places);
    let sources = channels.source(channels.block);
    let whole = product(&[roles.target_size[3], channels.block]);
    (!turned || stencils.len() == 1 || whole <= turned::LARGEST).then_some(())?;
    let mut grids = Vec::with_capacity(stencils.len());
    let (mut weights, mut most, mut least, mut work) = (0usize, 0, 1, 0);
    // those that copy rows of their own do so one after the other
    let together = match turned || in_place {
        true => stencils.len().max(1),
        false => 1,
    };
    let extents = stencils.chunks(together).zip(reaches.chunks(together));
    let extents: Vec<_> = extents.map(|(s, r)| Extent::new(s, r)).collect();
    for (i, (stencil, reaches)) in stencils.into_iter().zip(reaches).enumerate() {
        let reading = match turned {
            true => Reading::Padded,
            false => Reading::InPlace,
        };
        let all = &extents[i / together];
        let segments = Segments::new::<S>(roles, &stencil, all, sources, reading)?;
        most = most.max(rows(&stencil));
        least = least.max(segments.least_rows());
        let row = product(&[
            stencil.count[3],
            (stencil.taps.len() * channels.sources).max(1),
            channels.block / channels.lanes,
        ]);
        work = row.saturating_add(work);
        let grid = Grid {
            stencil,
            segments,
            reaches,
            first_weight: weights,
        };
        weights = weights.saturating_add(product(&[channels.vectors(), grid.each(&channels)]));
        grids.push(grid);
    }
    let outer = product(&[roles.batch, channels.blocks]);
    let least = least.max(SMALLEST / work.max(1));
    let parts = TASKS.div_ceil(outer.max(1)).min(most.div_ceil(least));
    Some(Plan {
        level,
        together,
        parts: parts.max(1),
        channels,
        grids,
        weights,
        stream,
    })
}

fn run<T: Element, S: Element<Acc = T::Acc>>(job: &Job<T, S>, plan: &Plan) -> Result<()> {
    let channels = &plan.channels;
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    let packed = take(&mut kept, plan.weights)?;
    for grid in &plan.grids {
        let each = grid.each(channels);
        let to = &mut packed[grid.first_weight..][..channels.vectors() * each];
        each_chunk(to, each, |vector, to| {
            pack(job, grid, plan, vector, to);
        });
    }
    let packed = &*packed;
    let tasks = product(&[job.roles.batch, channels.blocks, plan.parts]);
    let count = tasks.min(PIECES);
    let done = try_each_with(0..count, Runs::default, |runs, piece| {
        let (from, to) = share(tasks, count, piece);
        T::Acc::scratch().with_borrow_mut(|scratch| {
            (from..to).try_for_each(|task| {
                let mut grids = plan.grids.chunks(plan.together);
                grids.try_for_each(|grids| tile(job, grids, plan, task, packed, (runs, scratch)))
            })
        })
    });
    T::Acc::packed().replace(kept);
    done
}

/// `to (source channels, places, lanes)`, zeros past the last channel.
fn pack<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    grid: &Grid,
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
    let (roles, taps) = (&job.roles, &grid.stencil.taps);
    // the second of a pair is another channel, or another tap
    let pairs_of_channels = job.level.pairs();
    for lane in 0..lanes {
        let channel = vector * lanes + lane;
        let mut to = to.chunks_exact_mut(lanes).map(|to| &mut to[lane]);
        if channel >= total {
            to.for_each(|to| *to = T::Acc::default());
            continue;
        }
        let (group, m) = (channel / targets, channel % targets);
        let first = group * roles.weight_group + m * roles.weight_target;
        let weight = |nth: usize, tap: usize| {
            job.weight[first + nth * roles.weight_source + taps[tap].weight]
        };
        for nth in 0..sources {
            // the places first: `zip` takes one more from its first iterator than from the second
            let places = grid.reaches.places.iter().zip(to.by_ref());
            if !plan.level.pairs() {
                let from = &job.weight[first + nth * roles.weight_source..];
                places.for_each(|(&(tap, _), to)| *to = from[taps[tap].weight].to_acc());
                continue;
            }
            for (&(tap, second), to) in places {
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

/// One task, of some stencils.
fn tile<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    grids: &[Grid],
    plan: &Plan,
    task: usize,
    packed: &[T::Acc],
    (chosen, scratch): (&mut Runs, &mut Scratch<T::Acc>),
) -> Result<()> {
    let (roles, channels) = (&job.roles, &plan.channels);
    let (rest, part) = (task / plan.parts, task % plan.parts);
    let (image, block) = (rest / channels.blocks, rest % channels.blocks);
    let (first, count) = channels.of_block(block);
    let source = &job.source[image * roles.source.outer..][..roles.source.outer];
    let source = &source[channels.source(first) * roles.source.channel..];
    let levels = (job.level, plan.level.pairs());
    // stencils have one segment each where several are computed in turn
    let segments = &grids[0].segments;
    let sources = channels.source(count);
    let mut tile = Tile {
        job,
        plan,
        packed,
        first,
        count,
        source,
        origin: image * roles.target.outer + first * roles.target.channel,
        far: far::<S>(roles),
        stream: plan.stream,
        reading: SourceRows::new(levels, source, (roles, segments), sources, &mut scratch.a)?,
        chosen,
        asked: None,
        ahead: Vec::new(),
        edges: Edges::new(scratch.b.take_behind(sources, 0)?),
        turned: match job.layout {
            Layout::ChannelsFirst => {
                let width = match plan.together {
                    1 => segments.width,
                    _ => roles.target_size[3],
                };
                Some(TargetRows::new(job, (first, count), width, &mut scratch.c)?)
            }
            Layout::ChannelsLast => None,
        },
    };
    let rows = |grid: &Grid| {
        let (begin, end) = share(rows(&grid.stencil), plan.parts, part);
        begin..end
    };
    let most = grids.iter().map(|grid| rows(grid).len()).max();
    for (n, segment) in segments.iter().enumerate() {
        tile.reading.begin(&segment);
        tile.asked = None;
        for nth in 0..most.unwrap_or(0) {
            // of the same rows of the target
            for grids in grids.chunk_by(|a, b| a.stencil.base[..3] == b.stencil.base[..3]) {
                for (i, grid) in grids.iter().enumerate() {
                    tile.row(grid, n, rows(grid).skip(nth), i == 0);
                }
            }
        }
    }
    tile.finish();
    Ok(())
}

/// Some channels of some rows of an image.
struct Tile<'a, 'b, T: Element, S: Element<Acc = T::Acc>> {
    job: &'a Job<'b, T, S>,
    plan: &'a Plan,
    packed: &'a [T::Acc],
    first: usize,
    count: usize,
    /// Of the image, from the first channel on that these read.
    source: &'a [S],
    /// Where the first channel of the image's first position is in the target.
    origin: usize,
    /// Whether to ask for the next row, and whether to write past the caches.
    far: bool,
    stream: bool,
    reading: SourceRows<'a, S>,
    chosen: &'a mut Runs,
    /// The last row of the source that was asked for.
    asked: Option<usize>,
    ahead: Vec<Ahead>,
    edges: Edges<'a, T::Acc>,
    /// Where channels come first.
    turned: Option<TargetRows<'a, T::Acc>>,
}

impl<T: Element, S: Element<Acc = T::Acc>> Tile<'_, '_, T, S> {
    /// The `n`th segment of the first of the rows, if there is one, which may be `new` to the target;
    /// meanwhile the next is asked for.
    fn row(&mut self, grid: &Grid, n: usize, rows: impl Iterator<Item = usize>, new: bool) {
        let (job, channels) = (self.job, &self.plan.channels);
        let (roles, output, stencil) = (&job.roles, &job.target, &grid.stencil);
        let mut positions = rows.map(|row| unravel(row * stencil.count[3], stencil.count));
        let (Some(j), next) = (positions.next(), positions.next()) else {
            return;
        };
        let (pace, places) = (stencil.pace[3], grid.reaches.places.len());
        let step = stencil.step[3] * roles.target.spatial[3];
        let at = |j| self.origin + roles.target.at(stencil.target(j));
        self.ahead.clear();
        if let Some(j) = next.filter(|_| self.far) {
            grid.reaches.choose((roles, stencil), j, None, self.chosen);
            let source = (self.source, channels.source(self.count));
            ask_source(roles, source, self.chosen, &mut self.asked, &mut self.ahead);
            if !self.stream {
                let to = output.start(at(j), 1);
                let columns = (stencil.count[3], step);
                let channels = (self.count, roles.target.channel);
                self.ahead.push(ahead_of(to, columns, channels));
            }
        }
        grid.reaches.choose((roles, stencil), j, None, self.chosen);
        let segment = grid.segments.nth(n);
        let read = self.reading.read(&segment, pace, self.chosen);
        let row = channel_row_of(
            (pace, places),
            (channels, self.count),
            (&segment, read),
            &mut self.chosen.runs,
            &mut self.ahead,
        );
        let first = grid.first_weight + self.first * channels.sources * places;
        let (level, weights) = (self.plan.level, &self.packed[first..]);
        if let Some(rows) = &mut self.turned {
            if new {
                let columns = match self.plan.together {
                    1 => (at(j) + segment.first, segment.width),
                    _ => (at(j) - stencil.base[3], roles.target_size[3]),
                };
                // SAFETY: no other task has these channels of these rows.
                unsafe { rows.begin(job, columns) };
            }
            let (sums, last, bias) = rows.last();
            let target = ChannelTarget {
                output: &sums,
                at: last + stencil.base[3] * self.count,
                step: stencil.step[3] * self.count,
                bias,
                write: Write::Overwrite,
                stream: false,
            };
            // SAFETY: the sums are borrowed here.
            unsafe { channel_row(level, row, weights, &target, &mut self.edges) };
            return;
        }
        let target = ChannelTarget {
            output,
            at: at(j) + segment.first * step,
            step,
            bias: job.bias.map(|bias| &bias[self.first..]),
            write: job.write,
            stream: self.stream,
        };
        // SAFETY: no other task has these channels of these rows.
        unsafe { channel_row(level, row, weights, &target, &mut self.edges) };
    }

    /// Stores what was not.
    fn finish(&mut self) {
        if let Some(rows) = &mut self.turned {
            // SAFETY: no other task has these channels of these rows.
            unsafe { rows.store(self.job) };
        }
    }
}
