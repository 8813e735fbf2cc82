//! The geometry that fprop and dgrad share.
//!
//! ```text
//! target[n, m, base + j * step] = sum over c, tap of W[m, c, tap] * source[n, c, j * pace + offset]
//! ```
//!
//! fprop is one such stencil. dgrad is one for every residue of the input position modulo the
//! stride: there `i + padding.0 - t * dilation` must be divisible by the stride, so a residue has
//! its own taps, and no tap is visited in vain.

use std::ops::Range;

use crate::axis::Axis;
use crate::cpu::simd::inside_range;
use crate::cpu::strides::{Strides, unravel};
use crate::problem::ConvProblem;

/// What is read and written, and where, for either pass.
#[derive(Clone, Copy)]
pub(super) struct Roles {
    pub batch: usize,
    pub groups: usize,
    /// Channels of a group; of the source pairs of them, on a [paired](crate::cpu::simd::Level::paired) level.
    pub source_channels: usize,
    pub target_channels: usize,
    /// Channels of a group of the source, which the weight has.
    pub weight_channels: usize,
    pub source: Strides,
    pub target: Strides,
    /// Spatial sizes.
    pub source_size: [usize; 4],
    pub target_size: [usize; 4],
    /// Steps in the weight from one group, target channel, source channel to the next.
    pub weight_group: usize,
    pub weight_target: usize,
    pub weight_source: usize,
    /// Whether the taps of a channel are next to each other in the weight.
    pub taps_contiguous: bool,
}

impl Roles {
    /// What dgrad reads and writes, from those of fprop.
    pub fn backward(self) -> Self {
        Roles {
            source_channels: self.target_channels,
            target_channels: self.source_channels,
            weight_channels: self.target_channels,
            source: self.target,
            target: self.source,
            source_size: self.target_size,
            target_size: self.source_size,
            weight_target: self.weight_source,
            weight_source: self.weight_target,
            ..self
        }
    }
}

/// The greatest common divisor.
fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

/// One axis more that comes last, in the place of the first one.
pub(super) fn append<T: Copy>([_, a, b, c]: [T; 4], last: T) -> [T; 4] {
    [a, b, c, last]
}

/// One axis of a [`Stencil`].
#[derive(Clone, Debug)]
struct Line {
    count: usize,
    base: usize,
    step: usize,
    pace: usize,
    /// (tap, offset)
    taps: Vec<(usize, isize)>,
}

impl Line {
    fn forward(axis: &Axis) -> Self {
        Line {
            count: axis.output,
            base: 0,
            step: 1,
            pace: axis.stride,
            taps: (0..axis.kernel_size)
                .map(|t| (t, axis.position(0, t)))
                .collect(),
        }
    }

    /// Input positions `residue + j * stride` read output positions `j + offset`, with
    /// `offset = (residue + padding.0 - t * dilation) / stride` where that is whole. The last tap first: so the
    /// offsets ascend as those of fprop do, and neighbours are one run of memory.
    fn backward(axis: &Axis, residue: usize) -> Self {
        let stride = axis.stride as isize;
        let begin = residue as isize + axis.padding.0;
        Line {
            count: (axis.input - residue).div_ceil(axis.stride),
            base: residue,
            step: axis.stride,
            pace: 1,
            taps: (0..axis.kernel_size)
                .rev()
                .map(|t| (t, begin - (t * axis.dilation) as isize))
                .filter(|(_, distance)| distance % stride == 0)
                .map(|(t, distance)| (t, distance / stride))
                .collect(),
        }
        .reaching(axis.output)
    }

    /// Without the taps that lie outside the source at every position.
    fn reaching(mut self, source: usize) -> Self {
        let furthest = ((self.count - 1) * self.pace) as isize;
        let size = source as isize;
        let (count, pace) = (self.count as isize, self.pace as isize);
        self.taps.retain(|&(_, offset)| {
            if offset >= 0 {
                offset < size
            } else {
                // the first position at or past 0
                let j = (-offset + pace - 1) / pace;
                furthest + offset >= 0 && j < count && j * pace + offset < size
            }
        });
        self
    }
}

/// One tap of a stencil.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Where its weights are, from the first of a channel pair.
    pub weight: usize,
    /// What is added to a source position.
    pub offset: [isize; 4],
}

#[derive(Clone, Debug)]
pub(super) struct Stencil {
    pub count: [usize; 4],
    pub base: [usize; 4],
    pub step: [usize; 4],
    pub pace: [usize; 4],
    pub taps: Vec<Tap>,
    /// Taps of a column, if they are in order of those; else 1.
    pub rows_beside: usize,
}

impl Stencil {
    fn new(lines: [&Line; 4], weight: &Strides) -> Self {
        let taps = lines.map(|l| l.taps.len());
        Stencil {
            count: lines.map(|l| l.count),
            base: lines.map(|l| l.base),
            step: lines.map(|l| l.step),
            pace: lines.map(|l| l.pace),
            taps: (0..taps.iter().product())
                .map(|flat| {
                    let at = unravel(flat, taps);
                    let tap = [0, 1, 2, 3].map(|a| lines[a].taps[at[a]]);
                    Tap {
                        weight: weight.at(tap.map(|t| t.0)),
                        offset: tap.map(|t| t.1),
                    }
                })
                .collect(),
            rows_beside: 1,
        }
    }

    /// Positions of the target that it computes.
    pub fn positions(&self) -> usize {
        self.count.iter().product()
    }

    /// The position in the target of a position of the stencil.
    pub fn target(&self, j: [usize; 4]) -> [usize; 4] {
        [0, 1, 2, 3].map(|a| self.base[a] + j[a] * self.step[a])
    }

    /// The source coordinate that a tap reads at a position of the stencil along one axis.
    pub fn source(&self, axis: usize, j: usize, tap: &Tap) -> isize {
        (j * self.pace[axis]) as isize + tap.offset[axis]
    }

    /// Positions of a line before and after those of which all taps lie inside of a source of this size along the last
    /// axis.
    pub fn ends(&self, size: usize) -> (usize, usize) {
        let (count, pace) = (self.count[3], self.pace[3]);
        self.taps.iter().fold((0, 0), |(before, after), tap| {
            let (lo, hi) = inside_range(tap.offset[3], pace, count, size);
            let before = lo.max(before).min(count);
            (before, (count - hi).max(after).min(count - before))
        })
    }

    /// What part of the taps of all positions lies outside of a source of this size along some axes.
    pub fn outside(&self, size: &[usize; 4], axes: Range<usize>) -> f64 {
        let along = |axis: usize, tap: &Tap| {
            let (count, pace) = (self.count[axis], self.pace[axis]);
            let (lo, hi) = inside_range(tap.offset[axis], pace, count, size[axis]);
            hi.saturating_sub(lo) as f64 / count as f64
        };
        let inside = |tap: &Tap| axes.clone().map(|axis| along(axis, tap)).product::<f64>();
        let all = self.taps.len().max(1) as f64;
        1.0 - self.taps.iter().map(inside).sum::<f64>() / all
    }

    /// Where taps lie `n` times as far apart along the last axis as positions read, the stencils of every `n`th
    /// position, whose neighbours read the same with neighbouring taps; this one if `n` is 1 or they would have
    /// fewer positions than `least`.
    pub fn undilated(&self, least: usize) -> Vec<Self> {
        let (count, pace) = (self.count[3], self.pace[3]);
        let apart = self.taps.windows(2).fold(0, |all, pair| {
            gcd(all, pair[1].offset[3].abs_diff(pair[0].offset[3]))
        });
        let n = apart / pace;
        if n <= 1 || !apart.is_multiple_of(pace) || count / n < least {
            return vec![self.clone()];
        }
        let phase = |first: usize| {
            let mut phase = self.clone();
            phase.count[3] = (count - first).div_ceil(n);
            phase.base[3] += first * self.step[3];
            phase.step[3] *= n;
            phase.pace[3] *= n;
            for tap in &mut phase.taps {
                tap.offset[3] += (first * pace) as isize;
            }
            phase
        };
        (0..n).map(phase).collect()
    }

    /// The same stencil with an axis more that comes last, along which it reads what it computes.
    pub fn beside(&self, count: usize) -> Self {
        Stencil {
            count: append(self.count, count),
            base: append(self.base, 0),
            step: append(self.step, 1),
            pace: append(self.pace, 1),
            taps: self
                .taps
                .iter()
                .map(|tap| Tap {
                    offset: append(tap.offset, 0),
                    ..*tap
                })
                .collect(),
            rows_beside: 1,
        }
    }

    /// The same taps column by column, if there are several rows of as many [neighbours](Self::run).
    pub fn by_columns(&self) -> Option<Self> {
        let columns = self.run();
        let rows = self.taps.len() / columns;
        let place = |place: usize| place % rows * columns + place / rows;
        (columns > 1 && rows > 1).then(|| Stencil {
            taps: (0..self.taps.len()).map(|i| self.taps[place(i)]).collect(),
            rows_beside: rows,
            ..*self
        })
    }

    /// How many taps from `tap` on read one position after the other along the last axis.
    pub fn neighbours(&self, tap: usize) -> usize {
        let follows = |pair: &&[Tap]| {
            let [a, b] = [pair[0].offset, pair[1].offset];
            a[..3] == b[..3] && a[3] + 1 == b[3]
        };
        1 + self.taps[tap..].windows(2).take_while(follows).count()
    }

    /// Neighbouring taps, if all taps are in runs of as many that read the same positions along the last axis;
    /// else 1.
    pub fn run(&self) -> usize {
        let taps = self.neighbours(0).max(1);
        let alike = |(i, run): (usize, &[Tap])| {
            run[0].offset[3] == self.taps[0].offset[3] && self.neighbours(i * taps) == taps
        };
        match self.taps.chunks(taps).enumerate().all(alike) {
            true => taps,
            false => 1,
        }
    }

    /// What a tap reads for the positions `from..to`, row by row, of a source of this size.
    pub fn reads<'a>(
        &'a self,
        tap: &'a Tap,
        (size, strides): ([usize; 4], [usize; 4]),
        (from, to): (usize, usize),
    ) -> impl Iterator<Item = Read> + 'a {
        self.rows(from, to).map(move |(j, len)| {
            let outer = |a: usize| {
                let at = usize::try_from(self.source(a, j[a], tap)).ok();
                Some(at.filter(|&at| at < size[a])? * strides[a])
            };
            Read {
                len,
                row: (0..3).map(outer).sum(),
                column: self.source(3, j[3], tap),
            }
        })
    }

    /// The rows (runs along the last axis) of the positions `from..to` in row-major order:
    /// position of the first, and length.
    pub fn rows(&self, from: usize, to: usize) -> impl Iterator<Item = ([usize; 4], usize)> + '_ {
        let (mut at, mut j) = (from, unravel(from, self.count));
        std::iter::from_fn(move || {
            (at < to).then(|| {
                let first = j;
                let len = (self.count[3] - j[3]).min(to - at);
                at += len;
                j[3] = 0;
                for a in (0..3).rev() {
                    j[a] += 1;
                    if j[a] < self.count[a] {
                        break;
                    }
                    j[a] = 0;
                }
                (first, len)
            })
        })
    }
}

/// Some positions of a row, and what a tap reads for them.
pub(super) struct Read {
    pub len: usize,
    /// Where the tap's row of the source begins, if it is inside along the outer axes.
    pub row: Option<usize>,
    /// What the first position reads of it; the others are the pace apart.
    pub column: isize,
}

/// The one stencil of fprop.
pub(super) fn fprop(p: &ConvProblem<4>, weight: &Strides) -> Vec<Stencil> {
    let lines = p
        .axes()
        .map(|axis| Line::forward(&axis).reaching(axis.input));
    vec![Stencil::new(lines.each_ref(), weight)]
}

/// The stencil of fprop with every tap, in the order of the weight, reaching or not.
pub(super) fn wgrad(p: &ConvProblem<4>, weight: &Strides) -> Stencil {
    let lines = p.axes().map(|axis| Line::forward(&axis));
    Stencil::new(lines.each_ref(), weight)
}

/// The stencils of dgrad, one for every residue modulo the strides.
pub(super) fn dgrad(p: &ConvProblem<4>, weight: &Strides) -> Vec<Stencil> {
    let lines: [Vec<Line>; 4] = p.axes().map(|axis| {
        (0..axis.stride.min(axis.input))
            .map(|residue| Line::backward(&axis, residue))
            .collect()
    });
    let residues = lines.each_ref().map(Vec::len);
    (0..residues.iter().product())
        .map(|flat| {
            let at = unravel(flat, residues);
            Stencil::new([0, 1, 2, 3].map(|a| &lines[a][at[a]]), weight)
        })
        .collect()
}
