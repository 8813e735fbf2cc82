//! fprop, dgrad and wgrad where a matrix product would have next to no rows: one channel a group,
//! and results of very few channels.
//!
//! Every target channel is a filter over its packed source channels ([`Window`]), vectorised along
//! positions, or along the target channels where those are next to each other in memory.

use std::ops::Range;

use super::gemm::Job;
use super::scratch::{Scratch, product};
use super::split::{self, PIECES, Sums, share};
use super::stencil::{Roles, Stencil};
use super::wgrad;
use super::window::{Window, widen_strided};
use crate::cpu::crew::try_each;
use crate::cpu::output::{Output, add_scalar, store, store_strided};
use crate::cpu::simd::{Level, MicroKernel, correlate, fir_lanes, fir_positions};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// A matrix product with as many rows as this is faster.
const ROWS: usize = 8;
/// As [`ROWS`], where the reduction runs over more than one channel.
const ROWS_OF_MANY: usize = 3;

/// Which channels one lane (or all of them) works on.
#[derive(Clone, Copy)]
struct Channels {
    /// Channels side by side in a packed position: 1, or as many as a vector has.
    lanes: usize,
    /// First target channel, and how many.
    first: usize,
    count: usize,
}

impl Channels {
    /// Lanes of channels for channels-last, if the channels fill at least half of them.
    fn lanes<T: Element>(level: Level, roles: &Roles, layout: Layout) -> usize {
        let vector = T::Acc::geometry(level).lanes;
        let channels = roles.groups * roles.target_channels;
        match layout {
            Layout::ChannelsLast if roles.groups > 1 && channels * 2 >= vector => vector,
            _ => 1,
        }
    }

    /// Blocks of channels that read one packed box.
    fn blocks(lanes: usize, roles: &Roles) -> usize {
        if lanes == 1 {
            roles.groups
        } else {
            (roles.groups * roles.target_channels).div_ceil(lanes)
        }
    }

    /// The channels of a block: of one lane each, a whole group, else one set of all lanes.
    fn of_block(block: usize, lanes: usize, roles: &Roles) -> Range<usize> {
        let sets = if lanes == 1 { roles.target_channels } else { 1 };
        block * sets..(block + 1) * sets
    }

    /// A set of `lanes` channels.
    fn nth(set: usize, lanes: usize, roles: &Roles) -> Self {
        let first = set * lanes;
        let count = lanes.min(roles.groups * roles.target_channels - first);
        Channels {
            lanes,
            first,
            count,
        }
    }

    /// One vector of `lanes` weights for every source channel and tap.
    fn weights<T: Element>(&self, job: &Job<T>, stencil: &Stencil, to: &mut [T::Acc]) {
        let roles = &job.roles;
        let taps = stencil.taps.len();
        for lane in 0..self.lanes {
            let weights = to.iter_mut().skip(lane).step_by(self.lanes);
            if lane >= self.count {
                weights.for_each(|w| *w = T::Acc::default());
                continue;
            }
            let channel = self.first + lane;
            let (group, m) = (
                channel / roles.target_channels,
                channel % roles.target_channels,
            );
            let first = group * roles.weight_group + m * roles.weight_target;
            let mut weights = weights;
            for nth in 0..roles.source_channels {
                let from = &job.weight[first + nth * roles.weight_source..];
                for (to, tap) in weights.by_ref().take(taps).zip(&stencil.taps) {
                    *to = from[tap.weight].to_acc();
                }
            }
        }
    }

    /// Finishes one row of positions, from `to` on.
    ///
    /// # Safety
    /// The caller must own these elements of the target, as `Output::part` demands.
    unsafe fn store_row<T: Element>(
        &self,
        job: &Job<T>,
        stencil: &Stencil,
        row: &mut [T::Acc],
        to: usize,
    ) {
        let step = stencil.step[3] * job.roles.target.spatial[3];
        if self.lanes == 1 {
            if let Some(bias) = job.bias {
                add_scalar(row, bias[self.first].to_acc());
            }
            if step == 1 {
                // SAFETY: the caller owns the row.
                store(
                    job.level,
                    row,
                    unsafe { job.target.part(to, row.len()) },
                    job.write,
                );
            } else {
                // SAFETY: as above.
                unsafe { store_strided(job.level, row, &job.target, (to, step), job.write) };
            }
            return;
        }
        for (i, row) in row.chunks_exact_mut(self.lanes).enumerate() {
            let row = &mut row[..self.count];
            if let Some(bias) = job.bias {
                for (sum, bias) in row.iter_mut().zip(&bias[self.first..]) {
                    *sum += bias.to_acc();
                }
            }
            // SAFETY: as above.
            let part = unsafe { job.target.part(to + i * step, self.count) };
            store(job.level, row, part, job.write);
        }
    }

    /// The `nth` source channel of a lane.
    fn source(&self, roles: &Roles, lane: usize, nth: usize) -> usize {
        (self.first + lane) / roles.target_channels * roles.source_channels + nth
    }

    /// Packs the box of every lane's `nth` source channel.
    #[expect(clippy::too_many_arguments)]
    fn pack<T: Element>(
        &self,
        level: Level,
        (roles, stencil): (&Roles, &Stencil),
        window: &Window,
        begin: [usize; 4],
        image: &[T],
        nth: usize,
        to: &mut [T::Acc],
    ) {
        let first = self.source(roles, 0, nth) * roles.source.channel;
        let adjacent = roles.source_channels == 1 && roles.target_channels == 1;
        window.pack(roles, stencil, begin, self.lanes, to, |start, step, to| {
            if self.lanes == 1 {
                widen_strided(level, &image[first + start..], step, to);
                return;
            }
            for (i, to) in to.chunks_exact_mut(self.lanes).enumerate() {
                let (to, rest) = to.split_at_mut(self.count);
                rest.fill(T::Acc::default());
                let at = start + i * step;
                if adjacent {
                    T::widen(&image[at + first..][..self.count], to);
                } else {
                    for (lane, to) in to.iter_mut().enumerate() {
                        *to = image[at + self.source(roles, lane, nth)].to_acc();
                    }
                }
            }
        });
    }
}

/// Whether the filters suit a problem; if so the windows of its stencils.
pub(super) fn windows<T: Element>(job: &Job<T>) -> Option<Vec<Window>> {
    let roles = &job.roles;
    let suits = match (roles.source_channels, roles.target_channels) {
        (1, rows) => rows < ROWS,
        (_, rows) => rows <= ROWS_OF_MANY && (job.layout == Layout::ChannelsFirst || rows == 1),
    };
    let lanes = Channels::lanes::<T>(job.level, roles, job.layout);
    let channels = Channels::blocks(lanes, roles);
    let copies = lanes * roles.source_channels;
    let tasks = product(&[roles.batch, channels, job.stencils.len()]);
    suits.then(|| {
        let window = |stencil| Window::new(stencil, copies, tasks);
        job.stencils.iter().map(window).collect()
    })?
}

/// fprop or dgrad.
pub(super) fn run<T: Element>(job: &Job<T>, windows: &[Window]) -> Result<()> {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layout);
    let blocks = Channels::blocks(lanes, roles);
    let mut firsts = Vec::with_capacity(windows.len());
    let mut tasks = 0;
    for window in windows {
        firsts.push(tasks);
        tasks += roles.batch * blocks * product(&window.boxes);
    }
    let pieces = tasks.min(PIECES);
    try_each(0..pieces, |piece| {
        let (from, to) = share(tasks, pieces, piece);
        (from..to).try_for_each(|task| {
            let s = firsts.partition_point(|&first| first <= task) - 1;
            let index = task - firsts[s];
            let boxes = product(&windows[s].boxes);
            let (rest, tile) = (index / boxes, index % boxes);
            let part = Part {
                image: rest / blocks,
                block: rest % blocks,
                lanes,
                tile,
            };
            T::Acc::scratch().with_borrow_mut(|scratch| {
                let (stencil, window) = (&job.stencils[s], &windows[s]);
                filter(job, stencil, window, part, scratch)
            })
        })
    })
}

/// One task: a box of a block of channels.
struct Part {
    image: usize,
    block: usize,
    lanes: usize,
    tile: usize,
}

fn filter<T: Element>(
    job: &Job<T>,
    stencil: &Stencil,
    window: &Window,
    part: Part,
    scratch: &mut Scratch<T::Acc>,
) -> Result<()> {
    let roles = &job.roles;
    let Part { image, lanes, .. } = part;
    let vector = T::Acc::geometry(job.level).lanes;
    let (begin, size) = window.at(part.tile, stencil);
    // at least 1: a stencil without taps packs nothing
    let length = (window.length() * lanes).max(1);
    let span = (window.span(size) * lanes).next_multiple_of(vector);
    let sources = roles.source_channels;
    // one vector more: the last one of a row may begin at the last element
    let packed = scratch.a.take((sources * length + vector).max(span))?;
    let source = &job.source[image * roles.source.outer..][..roles.source.outer];
    let sets = Channels::of_block(part.block, lanes, roles);
    let mut offsets = std::mem::take(&mut scratch.offsets);
    offsets.clear();
    for (nth, to) in (0..sources).zip(packed.chunks_exact_mut(length)) {
        let channels = Channels::nth(sets.start, lanes, roles);
        channels.pack(job.level, (roles, stencil), window, begin, source, nth, to);
        offsets.extend(window.offsets.iter().map(|o| nth * length + o * lanes));
    }
    let weights = scratch.b.take(offsets.len() * lanes)?;
    let sums = scratch.c.take(span)?;
    for set in sets {
        let channels = Channels::nth(set, lanes, roles);
        channels.weights(job, stencil, weights);
        if lanes == 1 {
            fir_positions(job.level, &offsets, weights, packed, sums);
        } else {
            fir_lanes(job.level, &offsets, weights, packed, sums);
        }
        let first = image * roles.target.outer + channels.first * roles.target.channel;
        for (j, at) in window.rows(begin, size) {
            let row = &mut sums[at * lanes..][..size[3] * lanes];
            let to = first + roles.target.at(stencil.target(j));
            // SAFETY: no other task has this box of these channels; boxes do not overlap.
            unsafe { channels.store_row(job, stencil, row, to) };
        }
    }
    scratch.offsets = offsets;
    Ok(())
}

/// Whether the filters suit a wgrad; if so the window of its stencil.
pub(super) fn wgrad_window<T: Element>(job: &wgrad::Job<T>) -> Option<Window> {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layouts.activation);
    let suits = roles.source_channels == 1 && roles.target_channels < ROWS;
    suits.then(|| Window::new(&job.stencil, lanes, usize::MAX))?
}

pub(super) fn run_wgrad<T: Element>(
    job: &wgrad::Job<T>,
    window: Window,
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layouts.activation);
    let tiles = (roles.groups * roles.target_channels).div_ceil(lanes);
    let chunks = roles.batch * product(&window.boxes);
    let gradient = Gradient { job, window, lanes };
    split::run(job.level, &gradient, (tiles, chunks), dw, write)
}

/// The tiles are blocks of channels, the chunks images and boxes.
struct Gradient<'a, 'b, T> {
    job: &'a wgrad::Job<'b, T>,
    window: Window,
    lanes: usize,
}

impl<T: Element> Sums<T> for Gradient<'_, '_, T> {
    fn size(&self, _: usize) -> usize {
        self.job.stencil.taps.len() * T::Acc::geometry(self.job.level).lanes
    }

    fn add(
        &self,
        block: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, window, lanes) = (self.job, &self.window, self.lanes);
        let (roles, stencil) = (&job.roles, &job.stencil);
        let channels = Channels::nth(block, lanes, roles);
        let Channels { first, count, .. } = channels;
        let length = window.length() * lanes;
        let packed = scratch.a.take(length)?;
        let row = scratch.b.take(window.size[3] * lanes)?;
        let mut offsets = std::mem::take(&mut scratch.offsets);
        offsets.clear();
        offsets.extend(window.offsets.iter().map(|o| o * lanes));
        let boxes = product(&window.boxes);
        for chunk in chunks.0..chunks.1 {
            let (image, tile) = (chunk / boxes, chunk % boxes);
            let (begin, size) = window.at(tile, stencil);
            let x = &job.x[image * roles.source.outer..][..roles.source.outer];
            channels.pack(job.level, (roles, stencil), window, begin, x, 0, packed);
            let dy = &job.dy[image * roles.target.outer..][..roles.target.outer];
            let step = roles.target.spatial[3];
            for (j, at) in window.rows(begin, size) {
                let from = first * roles.target.channel + roles.target.at(j);
                let row = &mut row[..size[3] * lanes];
                if lanes == 1 {
                    widen_strided(job.level, &dy[from..], step, row);
                } else {
                    for (i, to) in row.chunks_exact_mut(lanes).enumerate() {
                        let (to, rest) = to.split_at_mut(count);
                        T::widen(&dy[from + i * step..][..count], to);
                        rest.fill(T::Acc::default());
                    }
                }
                correlate(job.level, &offsets, row, &packed[at * lanes..], sums);
            }
        }
        scratch.offsets = offsets;
        Ok(())
    }

    fn store(
        &self,
        block: usize,
        sums: &mut [T::Acc],
        _: &mut Scratch<T::Acc>,
        target: &Output<T>,
        write: Write,
    ) -> Result<()> {
        let (lanes, taps) = (self.lanes, &self.job.stencil.taps);
        let Channels { first, count, .. } = Channels::nth(block, lanes, &self.job.roles);
        let vector = T::Acc::geometry(self.job.level).lanes;
        for (tap, sums) in taps.iter().zip(sums.chunks_exact_mut(vector)) {
            if lanes == 1 {
                sums[0] = sums.iter().copied().sum();
            }
            // one input channel a group: the weights of an output channel are its taps
            let at = first * taps.len() + tap.weight;
            // SAFETY: no other task has these channels.
            unsafe {
                store_strided(
                    self.job.level,
                    &mut sums[..count],
                    target,
                    (at, taps.len()),
                    write,
                )
            };
        }
        Ok(())
    }
}
