//! Copies operands into the order in which the micro-kernel reads them, widening them on the way.

use rayon::prelude::*;

use super::gemm::Job;
use super::scratch::product;
use super::stencil::{Roles, Stencil};
use super::tiling::Reduction;
use crate::cpu::simd::{Geometry, Plan, ROW, Rows};
use crate::element::Element;
use crate::shape::Layout;

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
pub(super) fn pack_weight<T: Element>(
    job: &Job<T>,
    stencil: &Stencil,
    reduction: Reduction,
    geometry: Geometry,
    packed: &mut [T::Acc],
) {
    if packed.is_empty() {
        return;
    }
    let roles = &job.roles;
    let order = |first, count| Rows {
        first,
        count,
        channels: roles.source_channels,
        taps: stencil.taps.len(),
        channel_major: job.channel_major(),
    };
    match job.layout {
        Layout::ChannelsFirst => {
            packed
                .par_chunks_mut(ROW)
                .with_min_len(8)
                .enumerate()
                .for_each(|(row, to)| {
                    let (rest, m) = (row / roles.target_channels, row % roles.target_channels);
                    let (group, block) = (rest / reduction.blocks, rest % reduction.blocks);
                    let (k0, depth) = reduction.range(block);
                    let from = &job.weight[group * roles.weight_group + m * roles.weight_target..];
                    pack_row(roles, stencil, order(k0, depth), from, &mut to[..depth]);
                });
        }
        Layout::ChannelsLast => {
            let wide = 2 * geometry.lanes;
            let panels = roles.target_channels.div_ceil(wide);
            packed
                .par_chunks_mut(reduction.block * wide)
                .enumerate()
                .for_each(|(index, to)| {
                    let (rest, panel) = (index / panels, index % panels);
                    let (group, block) = (rest / reduction.blocks, rest % reduction.blocks);
                    let m0 = panel * wide;
                    let channels = wide.min(roles.target_channels - m0);
                    let from = &job.weight[group * roles.weight_group + m0 * roles.weight_target..];
                    let (k0, depth) = reduction.range(block);
                    let width = channels.next_multiple_of(geometry.lanes);
                    pack_panel(roles, stencil, order(k0, depth), from, channels, width, to);
                });
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
            let run = &taps[tap..tap + len];
            if run[len - 1].weight == run[0].weight + len - 1 {
                T::widen(&from[start..start + len], to);
            } else {
                let from = &from[channel * roles.weight_source..];
                for (to, tap) in to.iter_mut().zip(run) {
                    *to = from[tap.weight].to_acc();
                }
            }
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

/// Some target channels: `to[k * width + channel]`, lanes past the last channel zero.
fn pack_panel<T: Element>(
    roles: &Roles,
    stencil: &Stencil,
    k: Rows,
    from: &[T],
    channels: usize,
    width: usize,
    to: &mut [T::Acc],
) {
    for (row, to) in to.chunks_exact_mut(width).take(k.count).enumerate() {
        let (channel, tap) = k.channel_and_tap(k.first + row);
        let from = &from[channel * roles.weight_source + stencil.taps[tap].weight..];
        let (to, rest) = to.split_at_mut(channels);
        rest.fill(T::Acc::default());
        if roles.weight_target == 1 {
            T::widen(&from[..channels], to);
        } else {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(roles.weight_target)) {
                *to = from.to_acc();
            }
        }
    }
}

/// Channels-first: which positions of a channel's plane every tap reads.
pub(super) fn plan(
    plan: &mut Plan,
    roles: &Roles,
    stencil: &Stencil,
    (from, to): (usize, usize),
    lanes: usize,
) {
    plan.reset(lanes, to - from, stencil.pace[3]);
    let size = roles.source_size;
    for tap in &stencil.taps {
        plan.begin_tap();
        let mut lane = 0;
        for (j, len) in stencil.rows(from, to) {
            let at = [0, 1, 2].map(|a| stencil.source(a, j[a], tap));
            let inside = (0..3).all(|a| (0..size[a] as isize).contains(&at[a]));
            if inside {
                let first = stencil.source(3, j[3], tap);
                let (lo, hi) = inside_range(first, stencil.pace[3], len, size[3]);
                if lo < hi {
                    let plane: usize = (0..3)
                        .map(|a| at[a] as usize * roles.source.spatial[a])
                        .sum();
                    let column = (first + (lo * stencil.pace[3]) as isize) as usize;
                    plan.run(lane + lo, lane + hi, plane + column);
                }
            }
            lane += len;
        }
        plan.end_tap();
    }
}

/// The `i` in `0..len` for which `first + i * pace` is in `0..size`, as a half-open range.
pub(super) fn inside_range(first: isize, pace: usize, len: usize, size: usize) -> (usize, usize) {
    let lo = if first < 0 {
        first.unsigned_abs().div_ceil(pace)
    } else {
        0
    };
    let room = size as isize - first; // i * pace < room
    let hi = if room <= 0 {
        0
    } else {
        (room as usize).div_ceil(pace)
    };
    (lo.min(len), hi.min(len))
}

/// Channels-last: `a[position * ROW + k]` with `k = (tap, channel)` in the block `(k0, depth)`.
pub(super) fn pixels<T: Element>(
    roles: &Roles,
    stencil: &Stencil,
    source: &[T],
    (from, to): (usize, usize),
    (k0, depth): (usize, usize),
    a: &mut [T::Acc],
) {
    let channels = roles.source_channels;
    let size = roles.source_size;
    let mut k = k0;
    while k < k0 + depth {
        let (tap, channel) = (&stencil.taps[k / channels], k % channels);
        let run = (channels - channel).min(k0 + depth - k);
        let mut rows = a.chunks_exact_mut(ROW);
        for (j, len) in stencil.rows(from, to) {
            let at = [0, 1, 2].map(|a| stencil.source(a, j[a], tap));
            let inside = (0..3).all(|a| (0..size[a] as isize).contains(&at[a]));
            let first = stencil.source(3, j[3], tap);
            let (lo, hi) = match inside {
                true => inside_range(first, stencil.pace[3], len, size[3]),
                false => (0, 0),
            };
            let plane: isize = (0..3)
                .map(|a| at[a] * roles.source.spatial[a] as isize)
                .sum();
            for (i, row) in rows.by_ref().take(len).enumerate() {
                let row = &mut row[k - k0..][..run];
                if (lo..hi).contains(&i) {
                    let column = first + (i * stencil.pace[3]) as isize;
                    let start = plane + column * roles.source.spatial[3] as isize;
                    let start = start as usize + channel;
                    T::widen(&source[start..start + run], row);
                } else {
                    row.fill(T::Acc::default());
                }
            }
        }
        k += run;
    }
}

/// `to[column * pitch + row] = from[row * step + column]`
pub(super) fn transpose<T: Element>(
    from: &[T],
    step: usize,
    rows: usize,
    columns: usize,
    to: &mut [T::Acc],
    pitch: usize,
) {
    const BLOCK: usize = 8;
    for first in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - first);
        if count == BLOCK {
            let from: [&[T]; BLOCK] =
                std::array::from_fn(|i| &from[(first + i) * step..][..columns]);
            for column in 0..columns {
                let to = &mut to[column * pitch + first..][..BLOCK];
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from[column].to_acc();
                }
            }
        } else {
            for row in first..rows {
                for (column, v) in from[row * step..][..columns].iter().enumerate() {
                    to[column * pitch + row] = v.to_acc();
                }
            }
        }
    }
}
