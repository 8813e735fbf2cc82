//! Copies weights into the order in which the micro-kernel reads them, widening them on the way.

mod panels;

use num_traits::Zero;

use super::gemm::Job;
use super::scratch::product;
use super::stencil::{Roles, Stencil, Tap};
use super::tiling::Reduction;
use crate::cpu::crew::each_chunk;
use crate::cpu::simd::{self, Geometry, Level, ROW, Rows, as_acc};
use crate::element::Element;
use crate::shape::Layout;
pub(super) use panels::Panels;

/// Elements of a stencil's packed weights, all groups.
pub(super) fn packed_len(
    roles: &Roles,
    reduction: Reduction,
    layout: Layout,
    geometry: Geometry,
) -> usize {
    let group = match layout {
        // (blocks, target channels, ROW)
        Layout::ChannelsFirst => [reduction.blocks, roles.target_channels, ROW],
        // (blocks, panels, steps of a block * panel)
        Layout::ChannelsLast => {
            let panel = 2 * geometry.lanes;
            [
                reduction.blocks,
                roles.target_channels.div_ceil(panel),
                reduction.block * panel,
            ]
        }
    };
    roles.groups.saturating_mul(product(&group))
}

/// Packs the weights of all groups for one stencil.
pub(super) fn pack_weight<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    reduction: Reduction,
    packed: &mut [T::Acc],
) {
    if packed.is_empty() {
        return;
    }
    let channels = job.roles.target_channels;
    match job.layout {
        Layout::ChannelsFirst => {
            each_chunk(packed, STRIP * ROW, |strip, mut to| {
                let mut row = strip * STRIP;
                while !to.is_empty() {
                    let (rest, m) = (row / channels, row % channels);
                    let (group, block) = (rest / reduction.blocks, rest % reduction.blocks);
                    let count = (channels - m).min(to.len() / ROW);
                    let (rows, after) = to.split_at_mut(count * ROW);
                    row_blocks(job, stencil, reduction, (group, block), m, rows);
                    (row, to) = (row + count, after);
                }
            });
        }
        Layout::ChannelsLast => Panels::new(job, stencil, reduction).pack(packed),
    }
}

fn order<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    reduction: Reduction,
    block: usize,
) -> Rows {
    let (first, count) = reduction.range(block);
    Rows {
        first,
        count,
        channels: job.roles.source_channels,
        taps: stencil.taps.len(),
        channel_major: job.channel_major(),
    }
}

/// Target channels that are packed at once.
const STRIP: usize = 16;

/// One block of the weights of target channels from `m` on, which are rows of `a`, [`ROW`] apart.
pub(super) fn row_blocks<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    reduction: Reduction,
    (group, block): (usize, usize),
    m: usize,
    to: &mut [T::Acc],
) {
    let roles = &job.roles;
    let k = order(job, stencil, reduction, block);
    let from = &job.weight[group * roles.weight_group + m * roles.weight_target..];
    if roles.weight_target == 1 && stencil.taps.len() == 1 {
        let from = &from[k.first * roles.weight_source + stencil.taps[0].weight..];
        let size = (k.count, to.len() / ROW);
        transpose(job.level, from, roles.weight_source, size, to, ROW);
    } else if k.channel_major && roles.weight_target < roles.weight_source {
        // neighbours are read one after the other: they share lines of memory
        for strip in (0..to.len()).step_by(STRIP * ROW) {
            let mut row = 0;
            while row < k.count {
                let (channel, tap) = k.channel_and_tap(k.first + row);
                let run = &stencil.taps[tap..(tap + k.count - row).min(k.taps)];
                let from = &from[channel * roles.weight_source..];
                for (m, to) in to[strip..].chunks_exact_mut(ROW).enumerate().take(STRIP) {
                    let from = &from[(strip / ROW + m) * roles.weight_target..];
                    pack_run(from, run, &mut to[row..row + run.len()]);
                }
                row += run.len();
            }
        }
    } else {
        for (m, to) in to.chunks_exact_mut(ROW).enumerate() {
            pack_row(
                roles,
                stencil,
                k,
                &from[m * roles.weight_target..],
                &mut to[..k.count],
            );
        }
    }
}

/// The weights of some taps of a channel.
fn pack_run<T: Element>(from: &[T], run: &[Tap], to: &mut [T::Acc]) {
    let (first, last) = (run[0].weight, run[run.len() - 1].weight);
    if last == first + run.len() - 1 {
        T::widen(&from[first..=last], to);
    } else if first == last + run.len() - 1 {
        T::widen(&from[last..=first], to);
        to.reverse();
    } else {
        for (to, tap) in to.iter_mut().zip(run) {
            *to = from[tap.weight].to_acc();
        }
    }
}

/// One target channel: `to[k]`.
fn pack_row<T: Element>(roles: &Roles, stencil: &Stencil, k: Rows, from: &[T], to: &mut [T::Acc]) {
    let taps = &stencil.taps;
    let unbroken = (0..).zip(taps).all(|(i, tap)| tap.weight == i);
    if k.channel_major && unbroken && roles.weight_source == taps.len() {
        // channels and taps are all there, in order
        T::widen(&from[k.first..k.first + k.count], to);
        return;
    }
    let mut row = 0;
    while row < k.count {
        let (channel, tap) = k.channel_and_tap(k.first + row);
        let start = channel * roles.weight_source + taps[tap].weight;
        // the longest run that continues in memory
        let len = if k.channel_major {
            (k.taps - tap).min(k.count - row)
        } else {
            (k.channels - channel).min(k.count - row)
        };
        let to = &mut to[row..row + len];
        if k.channel_major {
            let from = &from[channel * roles.weight_source..];
            pack_run(from, &taps[tap..tap + len], to);
        } else if roles.weight_source == 1 {
            T::widen(&from[start..start + len], to);
        } else {
            let from = from[start..].iter().step_by(roles.weight_source);
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.to_acc();
            }
        }
        row += len;
    }
}

/// `to[column * pitch + row] = from[row * step + column]`
pub(super) fn transpose<T: Element>(
    level: Level,
    from: &[T],
    step: usize,
    (rows, columns): (usize, usize),
    to: &mut [T::Acc],
    pitch: usize,
) {
    if let Some(from) = as_acc(from) {
        simd::transpose(level, from, step, (rows, columns), to, pitch);
        return;
    }
    // widened a few rows at a time
    const ROWS: usize = 16;
    const COLUMNS: usize = 64;
    let mut widened = [T::Acc::zero(); ROWS * COLUMNS];
    for row in (0..rows).step_by(ROWS) {
        for column in (0..columns).step_by(COLUMNS) {
            let (height, width) = (ROWS.min(rows - row), COLUMNS.min(columns - column));
            for i in 0..height {
                let from = &from[(row + i) * step + column..][..width];
                T::widen(from, &mut widened[i * COLUMNS..][..width]);
            }
            let to = &mut to[column * pitch + row..];
            simd::transpose(level, &widened, COLUMNS, (height, width), to, pitch);
        }
    }
}
