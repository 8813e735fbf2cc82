//! fprop, dgrad and wgrad where a matrix product would have next to no rows: one channel a group,
//! and results of very few channels.
//!
//! Every target channel is a filter over its packed source channels ([`Window`]), vectorised along
//! positions, or along the target channels where those are next to each other in memory.

use rayon::prelude::*;

use super::gemm::Job;
use super::scratch::{Scratch, product};
use super::stencil::{Roles, Stencil};
use super::wgrad;
use super::window::{Window, widen_strided};
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

    fn nth(index: usize, lanes: usize, roles: &Roles) -> Self {
        let first = index * lanes;
        let count = lanes.min(roles.groups * roles.target_channels - first);
        Channels {
            lanes,
            first,
            count,
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
        roles: &Roles,
        stencil: &Stencil,
        window: &Window,
        begin: [usize; 4],
        image: &[T],
        nth: usize,
        to: &mut [T::Acc],
    ) {
        let first = self.source(roles, 0, nth) * roles.source.channel;
        let adjacent = roles.source_channels == 1 && roles.target_channels == 1;
        window.pack(
            roles,
            stencil,
            begin,
            self.lanes,
            to,
            |start, step, _, to| {
                if self.lanes == 1 {
                    widen_strided(&image[first + start..], step, to);
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
            },
        );
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
    let channels = (roles.groups * roles.target_channels).div_ceil(lanes);
    let copies = lanes * roles.source_channels;
    let tasks = roles.batch.saturating_mul(channels);
    suits.then(|| {
        let window = |stencil| Window::new(stencil, copies, tasks);
        job.stencils.iter().map(window).collect()
    })?
}

/// fprop or dgrad.
pub(super) fn run<T: Element>(job: &Job<T>, windows: &[Window]) -> Result<()> {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layout);
    let blocks = (roles.groups * roles.target_channels).div_ceil(lanes);
    let mut firsts = Vec::with_capacity(windows.len());
    let mut tasks = 0;
    for window in windows {
        firsts.push(tasks);
        tasks += roles.batch * blocks * product(&window.boxes);
    }
    (0..tasks)
        .into_par_iter()
        .with_max_len(1)
        .try_for_each(|task| {
            let s = firsts.partition_point(|&first| first <= task) - 1;
            let index = task - firsts[s];
            let boxes = product(&windows[s].boxes);
            let (rest, tile) = (index / boxes, index % boxes);
            let channels = Channels::nth(rest % blocks, lanes, roles);
            T::Acc::scratch().with_borrow_mut(|scratch| {
                let (stencil, window) = (&job.stencils[s], &windows[s]);
                filter(job, stencil, window, rest / blocks, channels, tile, scratch)
            })
        })
}

fn filter<T: Element>(
    job: &Job<T>,
    stencil: &Stencil,
    window: &Window,
    image: usize,
    channels: Channels,
    tile: usize,
    scratch: &mut Scratch<T::Acc>,
) -> Result<()> {
    let roles = &job.roles;
    let Channels {
        lanes,
        first,
        count,
    } = channels;
    let vector = T::Acc::geometry(job.level).lanes;
    let (begin, size) = window.at(tile, stencil);
    // at least 1: a stencil without taps packs nothing
    let length = (window.length() * lanes).max(1);
    let span = (window.span(size) * lanes).next_multiple_of(vector);
    let sources = roles.source_channels;
    // one vector more: the last one of a row may begin at the last element
    let packed = scratch.a.take((sources * length + vector).max(span))?;
    let source = &job.source[image * roles.source.outer..][..roles.source.outer];
    for (nth, to) in packed.chunks_exact_mut(length).take(sources).enumerate() {
        channels.pack(roles, stencil, window, begin, source, nth, to);
    }
    let weights = scratch.b.take(sources * stencil.taps.len() * lanes)?;
    let mut offsets = std::mem::take(&mut scratch.offsets);
    offsets.clear();
    for nth in 0..sources {
        offsets.extend(window.offsets.iter().map(|o| nth * length + o * lanes));
    }
    for (k, to) in weights.chunks_exact_mut(lanes).enumerate() {
        let (nth, tap) = (k / stencil.taps.len(), k % stencil.taps.len());
        to.fill(T::Acc::default());
        for (lane, to) in to[..count].iter_mut().enumerate() {
            let (group, m) = (
                (first + lane) / roles.target_channels,
                (first + lane) % roles.target_channels,
            );
            let at = group * roles.weight_group
                + m * roles.weight_target
                + nth * roles.weight_source
                + stencil.taps[tap].weight;
            *to = job.weight[at].to_acc();
        }
    }
    let sums = scratch.c.take(span)?;
    if lanes == 1 {
        fir_positions(job.level, &offsets, weights, packed, sums);
    } else {
        fir_lanes(job.level, &offsets, weights, packed, sums);
    }
    scratch.offsets = offsets;

    let base = image * roles.target.outer + first * roles.target.channel;
    let step = stencil.step[3] * roles.target.spatial[3];
    for (j, at) in window.rows(begin, size) {
        let row = &mut sums[at * lanes..][..size[3] * lanes];
        let to = base + roles.target.at(stencil.target(j));
        if lanes == 1 {
            if let Some(bias) = job.bias {
                add_scalar(row, bias[first].to_acc());
            }
            if step == 1 {
                // SAFETY: no other task has this box of this channel, and boxes do not overlap.
                store(row, unsafe { job.target.part(to, size[3]) }, job.write);
            } else {
                store_strided(row, &job.target, to, step, job.write);
            }
            continue;
        }
        for (i, row) in row.chunks_exact_mut(lanes).enumerate() {
            let row = &mut row[..count];
            if let Some(bias) = job.bias {
                for (sum, bias) in row.iter_mut().zip(&bias[first..]) {
                    *sum += bias.to_acc();
                }
            }
            // SAFETY: as above.
            store(
                row,
                unsafe { job.target.part(to + i * step, count) },
                job.write,
            );
        }
    }
    Ok(())
}

/// Whether the filters suit a wgrad; if so the window of its stencil.
pub(super) fn wgrad_window<T: Element>(job: &wgrad::Job<T>) -> Option<Window> {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layouts.activation);
    let suits = roles.source_channels == 1 && roles.target_channels < ROWS;
    suits.then(|| Window::new(&job.stencil, lanes, usize::MAX))?
}

/// Blocks of channels that wgrad has.
pub(super) fn wgrad_blocks<T: Element>(job: &wgrad::Job<T>) -> usize {
    let roles = &job.roles;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layouts.activation);
    (roles.groups * roles.target_channels).div_ceil(lanes)
}

/// The images and boxes `chunks` of one block of channels of wgrad, to `target[start..]`.
pub(super) fn wgrad_part<T: Element, S: Element<Acc = T::Acc>>(
    job: &wgrad::Job<T>,
    window: &Window,
    block: usize,
    chunks: (usize, usize),
    scratch: &mut Scratch<T::Acc>,
    (target, start): (&Output<S>, usize),
    write: Write,
) -> Result<()> {
    let (roles, stencil) = (&job.roles, &job.stencil);
    let vector = T::Acc::geometry(job.level).lanes;
    let lanes = Channels::lanes::<T>(job.level, roles, job.layouts.activation);
    let channels = Channels::nth(block, lanes, roles);
    let Channels { first, count, .. } = channels;
    let taps = stencil.taps.len();
    let length = window.length() * lanes;
    let packed = scratch.a.take(length)?;
    let row = scratch.b.take(window.size[3] * lanes)?;
    let sums = scratch.c.take(taps * vector)?;
    sums.fill(T::Acc::default());
    let mut offsets = std::mem::take(&mut scratch.offsets);
    offsets.clear();
    offsets.extend(window.offsets.iter().map(|o| o * lanes));
    let boxes = product(&window.boxes);
    for chunk in chunks.0..chunks.1 {
        let (image, tile) = (chunk / boxes, chunk % boxes);
        let (begin, size) = window.at(tile, stencil);
        let x = &job.x[image * roles.source.outer..][..roles.source.outer];
        channels.pack(roles, stencil, window, begin, x, 0, packed);
        let dy = &job.dy[image * roles.target.outer..][..roles.target.outer];
        let step = roles.target.spatial[3];
        for (j, at) in window.rows(begin, size) {
            let from = first * roles.target.channel + roles.target.at(j);
            let row = &mut row[..size[3] * lanes];
            if lanes == 1 {
                widen_strided(&dy[from..], step, row);
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
    for (tap, sums) in stencil.taps.iter().zip(sums.chunks_exact_mut(vector)) {
        if lanes == 1 {
            sums[0] = sums.iter().copied().sum();
        }
        // one input channel a group: the weights of an output channel are its taps
        let at = start + first * taps + tap.weight;
        store_strided(&sums[..count], target, at, taps, write);
    }
    Ok(())
}
