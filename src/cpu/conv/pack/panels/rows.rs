//! Weights whose target channels are next to each other: rows of them are dealt out to the panels.

use std::ops::Range;

use num_traits::Zero;

use super::super::super::tiling::Reduction;
use super::{Panels, SEGMENT};
use crate::cpu::crew::each;
use crate::cpu::output::Output;
use crate::cpu::simd::{self, Cuts, interleave};
use crate::element::Element;

/// Elements of rows that are asked for beforehand, and so many rows at most: each is on a page of its own,
/// so that the processor does not foresee them.
const ASKED: usize = 512;
const AHEAD: usize = 16;

impl<'a, T: Element, S: Element<Acc = T::Acc>> Panels<'a, '_, T, S> {
    /// Weights whose target channels are next to each other: a row is read once, in order, and its
    /// parts go to all panels.
    pub(super) fn rows(&self, packed: &Output<T::Acc>) {
        let roles = &self.job.roles;
        let Reduction { block, blocks, .. } = self.reduction;
        let pieces = block.div_ceil(SEGMENT);
        let tasks = roles.groups * blocks * pieces;
        let whole = self.whole(0..self.panels);
        let cuts = self.cuts(whole.len());
        each(0..tasks, |task| {
            let (index, piece) = (task / pieces, task % pieces);
            let place = (index / blocks, index % blocks);
            let (k0, count) = self.reduction.range(place.1);
            let weight = &self.job.weight[place.0 * roles.weight_group..];
            let steps = (piece * SEGMENT).min(count)..((piece + 1) * SEGMENT).min(count);
            if !whole.is_empty() && !steps.is_empty() {
                let at = self.at(place, &self.panel(0), steps.start);
                let size = (whole.len() - 1) * self.size() + steps.len() * self.wide;
                // SAFETY: no other task has these steps.
                unsafe { self.deal(place, steps.clone(), 0, &cuts, packed.start(at, size)) };
            }
            // the rest of a row, and pairs of rows
            for step in steps.filter(|_| whole.end < self.panels) {
                let k = k0 + step;
                let (tap, channel) = (k / roles.source_channels, k % roles.source_channels);
                let row = |channel: usize| {
                    let first = channel * roles.weight_source + self.stencil.taps[tap].weight;
                    &weight[first..][..roles.target_channels]
                };
                let (first, second) = match self.unit() {
                    1 => (row(channel), None),
                    _ => {
                        let second = 2 * channel + 1;
                        let second = (second < roles.weight_channels).then(|| row(second));
                        (row(2 * channel), second)
                    }
                };
                for panel in (whole.end..self.panels).map(|number| self.panel(number)) {
                    // SAFETY: no other task has these steps.
                    let to = unsafe { packed.part(self.at(place, &panel, step), panel.width) };
                    let (to, rest) = to.split_at_mut(panel.channels);
                    rest.fill(T::Acc::zero());
                    let part = |row: &'a [T]| &row[panel.first..][..panel.channels];
                    self.step(part(first), second.map(part), to);
                }
            }
            if piece + 1 == pieces {
                for panel in (0..self.panels).map(|number| self.panel(number)) {
                    // SAFETY: nor what is behind the last one.
                    unsafe { self.finish(place, &panel, packed) };
                }
            }
        });
    }

    /// A step of the reduction from the rows of its source channels.
    fn step(&self, first: &[T], second: Option<&[T]>, to: &mut [T::Acc]) {
        match self.unit() {
            1 => T::widen(first, to),
            _ => interleave(self.job.level, Some(first), second, to),
        }
    }

    /// Steps of some source channels whose target channels are neighbours.
    pub(super) fn target_rows(
        &self,
        from: &[T],
        (channels, count): (usize, usize),
        to: &mut [T::Acc],
        width: usize,
    ) {
        let (pitch, unit) = (self.job.roles.weight_source, self.unit());
        let row = |i: usize| (i < count).then(|| &from[i * pitch..][..channels]);
        if unit == 1 {
            for first in (0..count).step_by(AHEAD) {
                let end = count.min(first + AHEAD);
                (end..end + AHEAD).filter_map(row).for_each(simd::prefetch);
                let to = (&mut to[first * width..end * width], width);
                let size = (end - first, channels);
                simd::spread_rows(self.job.level, (&from[first * pitch..], pitch), size, to);
            }
            return;
        }
        let steps = (0..count).step_by(unit).zip(to.chunks_exact_mut(width));
        for (i, to) in steps {
            let ahead = i + AHEAD..i + AHEAD + unit;
            ahead.filter_map(row).for_each(simd::prefetch);
            let first = &from[i * pitch..][..channels];
            self.step(first, row(i + 1), &mut to[..channels]);
        }
    }

    /// Those of some panels that are dealt out all at once: their target channels are next to each other and
    /// fill them up.
    pub(super) fn whole(&self, panels: Range<usize>) -> Range<usize> {
        let roles = &self.job.roles;
        let end = match roles.weight_target == 1 && self.unit() == 1 {
            true => panels.end.min(roles.target_channels / self.wide),
            false => panels.start,
        };
        panels.start..end.max(panels.start)
    }

    /// How rows are dealt out to so many whole panels.
    pub(super) fn cuts(&self, panels: usize) -> Cuts {
        let starts: Vec<usize> = (0..=panels).map(|panel| panel * self.wide).collect();
        Cuts::new(self.wide / 2, &starts, self.wide, self.size())
    }

    /// Some steps of a block for whole panels, of which `first` is the first one's channel.
    ///
    /// # Safety
    /// As [`simd::cut_rows_to`].
    pub(super) unsafe fn deal(
        &self,
        (group, block): (usize, usize),
        steps: Range<usize>,
        first: usize,
        cuts: &Cuts,
        to: *mut T::Acc,
    ) {
        let roles = &self.job.roles;
        let weight = &self.job.weight[group * roles.weight_group + first..];
        let k0 = self.reduction.range(block).0;
        let (pitch, width) = (roles.weight_source, cuts.width());
        let rows = (ASKED / width).clamp(1, AHEAD);
        let mut step = steps.start;
        while step < steps.end {
            let k = k0 + step;
            let (tap, channel) = (k / roles.source_channels, k % roles.source_channels);
            let run = (roles.source_channels - channel).min(steps.end - step);
            let from = &weight[channel * pitch + self.stencil.taps[tap].weight..];
            for done in (0..run).step_by(rows) {
                let here = rows.min(run - done);
                let next = (done + here..run).take(rows);
                next.for_each(|row| simd::prefetch(&from[row * pitch..][..width]));
                // SAFETY: by this function's contract.
                unsafe {
                    let to = to.add((step + done - steps.start) * self.wide);
                    let from = (&from[done * pitch..], pitch);
                    simd::cut_rows_to(self.job.level, from, here, cuts, to);
                }
            }
            step += run;
        }
    }
}
