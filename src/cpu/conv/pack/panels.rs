//! Weights for products with the channels last: panels of two vectors of target channels.

mod rows;

use std::ops::Range;

use num_traits::Zero;

use super::super::gemm::Job;
use super::super::stencil::Stencil;
use super::super::tiling::Reduction;
use super::{order, transpose};
use crate::cpu::crew::each;
use crate::cpu::output::Output;
use crate::cpu::simd::{self, MicroKernel, as_pairs, join_rows};
use crate::element::Element;

/// Source channels that a task packs, at least.
const SEGMENT: usize = 32;
/// Rows of the weight that are transposed at once.
const COLUMNS: usize = 64;
/// Elements of each row that are transposed at once, while the next ones are asked for.
const STRIP: usize = 32;
/// Elements of the widest panel.
const WIDEST: usize = 32;

/// All panels of a stencil: `(groups, blocks, panels, steps of a block * panel)`.
pub(in super::super) struct Panels<'a, 'b, T, S> {
    job: &'a Job<'b, T, S>,
    stencil: &'a Stencil,
    reduction: Reduction,
    /// Elements of a panel's step, but for the last panel, and panels of a block.
    wide: usize,
    panels: usize,
}

/// Some target channels.
struct Panel {
    number: usize,
    first: usize,
    channels: usize,
    /// Elements of a step: channels, and zeros that fill up vectors.
    width: usize,
}

impl<'a, 'b, T: Element, S: Element<Acc = T::Acc>> Panels<'a, 'b, T, S> {
    pub fn new(job: &'a Job<'b, T, S>, stencil: &'a Stencil, reduction: Reduction) -> Self {
        let wide = 2 * T::Acc::geometry(job.level).lanes;
        Panels {
            job,
            stencil,
            reduction,
            wide,
            panels: job.roles.target_channels.div_ceil(wide),
        }
    }

    pub fn pack(&self, packed: &mut [T::Acc]) {
        if let Some(taps) = self.taps_in_weight() {
            return self.transposed(taps, &Output::new(packed));
        }
        if self.job.roles.weight_target == 1 && self.panels > 1 {
            return self.rows(&Output::new(packed));
        }
        let all = packed.chunks_mut(self.size()).enumerate();
        each(all, |(index, to)| {
            let (rest, panel) = (index / self.panels, index % self.panels);
            let (group, block) = (rest / self.reduction.blocks, rest % self.reduction.blocks);
            self.blocks((group, block), panel..panel + 1, to);
        });
    }

    /// Elements from one panel to the next.
    pub fn size(&self) -> usize {
        self.reduction.block * self.wide
    }

    /// Where a panel of a block begins among those of its group.
    pub fn begin(&self, block: usize, panel: usize) -> usize {
        (block * self.panels + panel) * self.size()
    }

    fn panel(&self, number: usize) -> Panel {
        let first = number * self.wide;
        let channels = self.wide.min(self.job.roles.target_channels - first);
        Panel {
            number,
            first,
            channels,
            width: channels.next_multiple_of(self.wide / 2),
        }
    }

    /// Where a step of a block begins.
    fn at(&self, (group, block): (usize, usize), panel: &Panel, step: usize) -> usize {
        let block = group * self.reduction.blocks + block;
        self.begin(block, panel.number) + step * panel.width
    }

    /// Zeros behind the last step of a block, of which tiles read a few.
    ///
    /// # Safety
    /// As [`Output::part`], for what is there.
    unsafe fn finish(&self, place: (usize, usize), panel: &Panel, packed: &Output<T::Acc>) {
        let used = self.reduction.range(place.1).1 * panel.width;
        let (first, all) = (self.at(place, panel, 0), self.size());
        // SAFETY: by this function's contract.
        unsafe { packed.part(first + used, all - used) }.fill(T::Acc::zero());
    }

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

    fn transposed(&self, taps: usize, packed: &Output<T::Acc>) {
        let roles = &self.job.roles;
        let segments = roles.weight_channels.div_ceil(SEGMENT);
        let tasks = roles.groups * self.panels * segments;
        each(0..tasks, |task| {
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
        let panel = self.panel(panel);
        let (count, width) = (panel.channels, panel.width);
        let weight = group * roles.weight_group + panel.first * roles.weight_target;
        let weight = &self.job.weight[weight..];
        if channels.start == 0 {
            // SAFETY: no other task has the panel's first source channels.
            unsafe { self.finish((group, blocks - 1), &panel, packed) };
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
                    let at = self.at((group, k / block), &panel, k % block);
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

    /// One block of the weights of a panel: `to[step * width + channel]`.
    fn block(&self, (group, block): (usize, usize), panel: usize, to: &mut [T::Acc]) {
        let (job, roles) = (self.job, &self.job.roles);
        let Panel {
            first,
            channels,
            width,
            ..
        } = self.panel(panel);
        let k = order(job, self.stencil, self.reduction, block);
        let from = &job.weight[group * roles.weight_group + first * roles.weight_target..];
        let (to, behind) = to.split_at_mut(k.count * width);
        // of which tiles read a few steps
        behind.fill(T::Acc::zero());
        if channels < width {
            to.fill(T::Acc::zero());
        }
        // the last lanes stay zero
        let mut rows = [T::Acc::zero(); SEGMENT * WIDEST];
        let unit = self.unit();
        let mut step = 0;
        while step < k.count {
            let (channel, tap) = k.channel_and_tap(k.first + step);
            let to = &mut to[step * width..];
            let run = (k.channels - channel).min(k.count - step);
            let from = |channel: usize| {
                &from[channel * roles.weight_source + self.stencil.taps[tap].weight..]
            };
            let n = (unit * run).min(roles.weight_channels - unit * channel);
            if roles.weight_target == 1 {
                self.target_rows(from(unit * channel), (channels, n), to, width);
                step += run;
                continue;
            }
            if unit == 1 {
                self.channels(from(channel), (channels, run), to, width);
                step += run;
                continue;
            }
            if roles.weight_source == 1
                && roles.weight_channels.is_multiple_of(2)
                && let Some(from) = as_pairs(from(2 * channel))
            {
                let (pitch, size) = (roles.weight_target / 2, (channels, run));
                simd::transpose(job.level, from, pitch, size, to, width);
                step += run;
                continue;
            }
            let run = run.min(SEGMENT / 2);
            let n = n.min(2 * run);
            self.channels(from(2 * channel), (channels, n), &mut rows, width);
            let pairs = rows[..n * width].chunks(2 * width);
            for (rows, to) in pairs.zip(to.chunks_exact_mut(width)) {
                let (first, second) = rows.split_at(width);
                join_rows(first, Some(second).filter(|row| !row.is_empty()), to);
            }
            step += run;
        }
    }

    /// One block of the weights of some panels, [`Panels::size`] apart.
    pub fn blocks(&self, place: (usize, usize), panels: Range<usize>, to: &mut [T::Acc]) {
        let whole = self.whole(panels.clone());
        let (dealt, rest) = to.split_at_mut(whole.len() * self.size());
        if !whole.is_empty() {
            let count = self.reduction.range(place.1).1;
            for panel in dealt.chunks_exact_mut(self.size()) {
                // of which tiles read a few steps
                panel[count * self.wide..].fill(T::Acc::zero());
            }
            let (first, cuts) = (whole.start * self.wide, self.cuts(whole.len()));
            // SAFETY: the steps of a block fit its panels, which are all there and borrowed.
            unsafe { self.deal(place, 0..count, first, &cuts, dealt.as_mut_ptr()) };
        }
        let rest = rest.chunks_exact_mut(self.size());
        for (panel, to) in (whole.end..panels.end).zip(rest) {
            self.block(place, panel, to);
        }
    }

    /// Some source channels of some target channels: `to[source * width + target]`.
    fn channels(
        &self,
        from: &[T],
        (channels, count): (usize, usize),
        to: &mut [T::Acc],
        width: usize,
    ) {
        let roles = &self.job.roles;
        if roles.weight_source == 1 {
            let step = roles.weight_target;
            for first in (0..count).step_by(STRIP) {
                let end = count.min(first + STRIP);
                let next = end..count.min(end + STRIP);
                (0..channels).for_each(|row| simd::prefetch(&from[row * step..][next.clone()]));
                let (size, to) = ((channels, end - first), &mut to[first * width..]);
                transpose(self.job.level, &from[first..], step, size, to, width);
            }
            return;
        }
        for (i, to) in to.chunks_exact_mut(width).enumerate().take(count) {
            let from = from[i * roles.weight_source..].iter();
            let from = from.step_by(roles.weight_target);
            for (to, from) in to[..channels].iter_mut().zip(from) {
                *to = from.to_acc();
            }
        }
    }
}
