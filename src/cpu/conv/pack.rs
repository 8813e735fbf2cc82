//! Copies weights into the order in which the micro-kernel reads them, widening them on the way.

use std::ops::Range;

use num_traits::Zero;
use rayon::prelude::*;

use super::gemm::Job;
use super::scratch::product;
use super::stencil::{Roles, Stencil};
use super::tiling::Reduction;
use crate::cpu::output::Output;
use crate::cpu::simd::{
    self, Geometry, Level, MicroKernel, ROW, Rows, as_acc, as_pairs, interleave, join_rows,
};
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
pub(super) fn pack_weight<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    reduction: Reduction,
    geometry: Geometry,
    packed: &mut [T::Acc],
) {
    if packed.is_empty() {
        return;
    }
    let channels = job.roles.target_channels;
    match job.layout {
        Layout::ChannelsFirst => {
            let rows = packed.par_chunks_mut(ROW).with_min_len(8).enumerate();
            rows.for_each(|(row, to)| {
                let (rest, m) = (row / channels, row % channels);
                let (group, block) = (rest / reduction.blocks, rest % reduction.blocks);
                row_block(job, stencil, reduction, (group, block), m, to);
            });
        }
        Layout::ChannelsLast => {
            let wide = 2 * geometry.lanes;
            let panels = channels.div_ceil(wide);
            let packing = Panels {
                job,
                stencil,
                reduction,
                wide,
                panels,
            };
            if let Some(taps) = packing.taps_in_weight() {
                return packing.transposed(taps, &Output::new(packed));
            }
            if job.roles.weight_target == 1 && panels > 1 {
                return packing.rows(&Output::new(packed));
            }
            let all = packed.par_chunks_mut(reduction.block * wide).enumerate();
            all.for_each(|(index, to)| {
                let (rest, panel) = (index / panels, index % panels);
                let (group, block) = (rest / reduction.blocks, rest % reduction.blocks);
                panel_block(job, stencil, reduction, (group, block), panel, to);
            });
        }
    }
}

/// Source channels that a task packs, at least.
const SEGMENT: usize = 32;
/// Rows of the weight that are transposed at once.
const COLUMNS: usize = 64;
/// Elements of the widest panel.
const WIDEST: usize = 32;

/// All panels of a stencil.
struct Panels<'a, 'b, T, S> {
    job: &'a Job<'b, T, S>,
    stencil: &'a Stencil,
    reduction: Reduction,
    wide: usize,
    panels: usize,
}

impl<T: Element, S: Element<Acc = T::Acc>> Panels<'_, '_, T, S> {
    /// The taps of a channel pair, if they are next to each other and most of them are wanted:
    /// then the weight is read once, in order, and its rows go to where they belong.
    fn taps_in_weight(&self) -> Option<usize> {
        let roles = &self.job.roles;
        let taps = roles.weight_source.min(roles.weight_target);
        let most = 2 * self.stencil.taps.len() > taps && self.unit() * taps <= COLUMNS;
        (roles.taps_contiguous && taps > 1 && most).then_some(taps)
    }

    /// Source channels that are a step of the reduction.
    fn unit(&self) -> usize {
        1 + usize::from(self.job.level.pairs())
    }

    /// Weights whose target channels are next to each other: a row is read once, in order, and its
    /// parts go to all panels.
    fn rows(&self, packed: &Output<T::Acc>) {
        let roles = &self.job.roles;
        let Reduction { block, blocks, .. } = self.reduction;
        let pieces = block.div_ceil(SEGMENT);
        let tasks = roles.groups * blocks * pieces;
        (0..tasks).into_par_iter().for_each(|task| {
            let (index, piece) = (task / pieces, task % pieces);
            let (k0, count) = self.reduction.range(index % blocks);
            let weight = &self.job.weight[index / blocks * roles.weight_group..];
            let rows = (piece * SEGMENT).min(count)..((piece + 1) * SEGMENT).min(count);
            // the panel's first channel, its channels, its lanes, and where it begins
            let panel = |panel: usize| {
                let m0 = panel * self.wide;
                let channels = self.wide.min(roles.target_channels - m0);
                let first = (index * self.panels + panel) * block * self.wide;
                (
                    m0,
                    channels,
                    channels.next_multiple_of(self.wide / 2),
                    first,
                )
            };
            for row in rows {
                let k = k0 + row;
                let (tap, channel) = (k / roles.source_channels, k % roles.source_channels);
                let from = |channel: usize| {
                    let first = channel * roles.weight_source + self.stencil.taps[tap].weight;
                    &weight[first..][..roles.target_channels]
                };
                let rows = match self.unit() {
                    1 => (from(channel), None),
                    _ => {
                        let second = 2 * channel + 1;
                        let second = (second < roles.weight_channels).then(|| from(second));
                        (from(2 * channel), second)
                    }
                };
                for (m0, channels, width, first) in (0..self.panels).map(panel) {
                    // SAFETY: no other task has these rows.
                    let to = unsafe { packed.part(first + row * width, width) };
                    let (to, rest) = to.split_at_mut(channels);
                    rest.fill(T::Acc::zero());
                    let first = &rows.0[m0..m0 + channels];
                    if self.unit() == 1 {
                        T::widen(first, to);
                    } else {
                        let second = rows.1.map(|row| &row[m0..m0 + channels]);
                        interleave(self.job.level, Some(first), second, to);
                    }
                }
            }
            if piece + 1 == pieces {
                // tiles read a few steps more than the last block has
                for (_, _, width, first) in (0..self.panels).map(panel) {
                    let (at, end) = (count * width, block * self.wide);
                    // SAFETY: nor those behind the last row.
                    unsafe { packed.part(first + at, end - at) }.fill(T::Acc::zero());
                }
            }
        });
    }

    fn transposed(&self, taps: usize, packed: &Output<T::Acc>) {
        let roles = &self.job.roles;
        let segments = roles.weight_channels.div_ceil(SEGMENT);
        let tasks = roles.groups * self.panels * segments;
        (0..tasks).into_par_iter().for_each(|task| {
            let (rest, segment) = (task / segments, task % segments);
            let (group, panel) = (rest / self.panels, rest % self.panels);
            let from = segment * SEGMENT;
            let channels = from..roles.weight_channels.min(from + SEGMENT);
            self.segment(taps, (group, panel), channels, packed);
        });
    }

    /// Some source channels of a panel.
    fn segment(
        &self,
        taps: usize,
        (group, panel): (usize, usize),
        channels: Range<usize>,
        packed: &Output<T::Acc>,
    ) {
        let roles = &self.job.roles;
        let Reduction { block, blocks, .. } = self.reduction;
        let m0 = panel * self.wide;
        let count = self.wide.min(roles.target_channels - m0);
        let width = count.next_multiple_of(self.wide / 2);
        let weight = &self.job.weight[group * roles.weight_group + m0 * roles.weight_target..];
        if channels.start == 0 {
            // tiles read a few steps more than the last block has
            let used = self.reduction.range(blocks - 1).1 * width;
            let at = (group * blocks + blocks - 1) * self.panels + panel;
            // SAFETY: no other task has the panel's first source channels.
            unsafe { packed.part(at * block * self.wide + used, block * self.wide - used) }
                .fill(T::Acc::zero());
        }
        // lanes past the last target channel stay zero
        let mut rows = [T::Acc::zero(); COLUMNS * WIDEST];
        let mut pairs = [T::Acc::zero(); WIDEST];
        let unit = self.unit();
        let unbroken = roles.weight_source == taps;
        let together = match unbroken {
            true => COLUMNS / taps / unit * unit,
            false => unit,
        };
        for first in channels.clone().step_by(together) {
            let n = together.min(channels.end - first);
            let (step, size) = (roles.weight_target, if unbroken { n * taps } else { taps });
            for s in (0..n).step_by(size / taps) {
                let from = &weight[(first + s) * roles.weight_source..];
                let to = &mut rows[s * taps * width..];
                transpose(self.job.level, from, step, (count, size), to, width);
            }
            for s in (0..n).step_by(unit) {
                for (t, tap) in self.stencil.taps.iter().enumerate() {
                    let k = t * roles.source_channels + (first + s) / unit;
                    let at = (group * blocks + k / block) * self.panels + panel;
                    let at = at * block * self.wide + k % block * width;
                    let row = |s: usize| &rows[(s * taps + tap.weight) * width..][..width];
                    let row = match unit {
                        1 => row(s),
                        _ => {
                            let second = (s + 1 < n).then(|| row(s + 1));
                            join_rows(row(s), second, &mut pairs[..width]);
                            &pairs[..width]
                        }
                    };
                    // SAFETY: no other task has these rows of this panel.
                    unsafe { packed.part(at, width) }.copy_from_slice(row);
                }
            }
        }
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

/// One block of the weights of target channel `m`: a row of `a`.
pub(super) fn row_block<T: Element, S: Element<Acc = T::Acc>>(
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
    pack_row(roles, stencil, k, from, &mut to[..k.count]);
}

/// One block of the weights of a panel of target channels: a panel of `b`.
pub(super) fn panel_block<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    reduction: Reduction,
    (group, block): (usize, usize),
    panel: usize,
    to: &mut [T::Acc],
) {
    let roles = &job.roles;
    let lanes = T::Acc::geometry(job.level).lanes;
    let m0 = panel * 2 * lanes;
    let channels = (2 * lanes).min(roles.target_channels - m0);
    let k = order(job, stencil, reduction, block);
    let from = &job.weight[group * roles.weight_group + m0 * roles.weight_target..];
    let width = channels.next_multiple_of(lanes);
    // tiles read a few steps more
    to[k.count * width..].fill(T::Acc::default());
    pack_panel(job, stencil, k, from, (channels, width), to);
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
fn pack_panel<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    k: Rows,
    from: &[T],
    (channels, width): (usize, usize),
    to: &mut [T::Acc],
) {
    let roles = &job.roles;
    let pairs = job.level.pairs();
    let to = &mut to[..k.count * width];
    if channels < width {
        to.fill(T::Acc::default());
    }
    // the last lanes stay zero
    let mut rows = [T::Acc::zero(); SEGMENT * WIDEST];
    let mut row = 0;
    while row < k.count {
        let (channel, tap) = k.channel_and_tap(k.first + row);
        let to = &mut to[row * width..];
        let run = match roles.weight_source == 1 && !k.channel_major {
            true => (k.channels - channel).min(k.count - row),
            false => 1,
        };
        let from =
            |channel: usize| &from[channel * roles.weight_source + stencil.taps[tap].weight..];
        if !pairs {
            panel_rows(job, from(channel), (channels, run), to, width);
            row += run;
            continue;
        }
        if roles.weight_source == 1
            && roles.weight_channels.is_multiple_of(2)
            && let Some(from) = as_pairs(from(2 * channel))
        {
            let (step, size) = (roles.weight_target / 2, (channels, run));
            simd::transpose(job.level, from, step, size, to, width);
            row += run;
            continue;
        }
        let run = run.min(SEGMENT / 2);
        let n = (2 * run).min(roles.weight_channels - 2 * channel);
        panel_rows(job, from(2 * channel), (channels, n), &mut rows, width);
        let pairs = rows[..n * width]
            .chunks(2 * width)
            .zip(to.chunks_exact_mut(width));
        for (rows, to) in pairs {
            let (first, second) = rows.split_at(width);
            join_rows(first, Some(second).filter(|row| !row.is_empty()), to);
        }
        row += run;
    }
}

/// Some source channels of some target channels: `to[source * width + target]`.
fn panel_rows<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    from: &[T],
    (channels, count): (usize, usize),
    to: &mut [T::Acc],
    width: usize,
) {
    let roles = &job.roles;
    if roles.weight_source == 1 {
        let (step, size) = (roles.weight_target, (channels, count));
        return transpose(job.level, from, step, size, to, width);
    }
    for (i, to) in to.chunks_exact_mut(width).enumerate().take(count) {
        let from = &from[i * roles.weight_source..];
        if roles.weight_target == 1 {
            T::widen(&from[..channels], &mut to[..channels]);
        } else {
            let from = from.iter().step_by(roles.weight_target);
            for (to, from) in to[..channels].iter_mut().zip(from) {
                *to = from.to_acc();
            }
        }
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
