//! Sums over channels and taps straight from the source: one vector of positions is read once for
//! some target channels, which is less work than packing it where those are few.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

mod gradient;

use super::lines::{Block, Lines, Read, Row};
use super::{Level, MicroKernel, Op, Vector};
use crate::cpu::output::Output;
pub(super) use gradient::PLACES;
pub(crate) use gradient::{DirectGradient, direct_gradient, gradient_places, gradient_tile};

/// Target channels that a kernel is there for.
pub(crate) const HEIGHTS: [usize; 6] = [1, 2, 3, 4, 6, 8];

/// Vectors a row that go with so many target channels.
pub(crate) fn vectors(height: usize, rows: usize) -> usize {
    let most = [4, 2, 1].into_iter().find(|n| n * height <= 2 * rows);
    most.unwrap_or(1)
}

/// The most target channels, one of [`HEIGHTS`], of which vectors are summed two at a time: a weight
/// that was read goes to both of them.
pub(crate) fn tallest(rows: usize) -> usize {
    let mut heights = HEIGHTS.into_iter().rev();
    heights
        .find(|&height| vectors(height, rows) > 1)
        .unwrap_or(1)
}

/// The operands of [`direct`].
pub(crate) struct Direct<'a, A> {
    pub lines: &'a Lines,
    pub rows: &'a [Row],
    pub blocks: &'a [Block],
    /// Channels of `plane` elements each.
    pub source: &'a [A],
    pub plane: usize,
    pub channels: usize,
    /// `(channels, taps, height)`
    pub weights: &'a [A],
    /// What sums begin with, one number a target channel; `None` where the target is added to.
    pub begin: Option<&'a [A]>,
    /// Position `j` of row `r` of target channel `m` is at
    /// `at + m * pitch + r * width + j - blocks[0].first`; up to a vector less one is written past the
    /// last one.
    pub target: &'a Output<'a, A>,
    pub at: usize,
    pub pitch: usize,
    pub width: usize,
    /// Whether to write past the caches, where vectors are aligned.
    pub stream: bool,
}

/// `target = sum over channels and taps of weight * source` for `height` target channels.
///
/// Every element is one chain of multiply-adds in the order of the channels and taps.
///
/// # Safety
/// The elements of the target that are written are the caller's, as [`Output::part`] demands.
pub(crate) unsafe fn direct<A: MicroKernel>(level: Level, height: usize, operands: Direct<A>) {
    macro_rules! by_height {
        ($($height:literal)*) => {
            match height {
                $($height if operands.lines.step == 1 => {
                    A::dispatch(level, Sums::<A, $height, false>(operands));
                }
                $height => A::dispatch(level, Sums::<A, $height, true>(operands)),)*
                _ => unreachable!("{height} target channels"),
            }
        };
    }
    by_height!(1 2 3 4 6 8);
}

/// A kernel of its own for `STRIDED` reads, as most are not.
struct Sums<'a, A, const M: usize, const STRIDED: bool>(Direct<'a, A>);

impl<A: Copy, const M: usize, const STRIDED: bool> Op<A> for Sums<'_, A, M, STRIDED> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Direct {
            lines,
            rows,
            blocks,
            source,
            plane,
            channels,
            weights,
            begin: bias,
            target,
            at: first,
            pitch,
            width,
            stream,
        } = self.0;
        let Some(end) = blocks.last().map(|b| b.first + b.vectors * V::LANES) else {
            return;
        };
        assert!(channels > 0 && lines.lanes == V::LANES && !rows.is_empty());
        assert!(STRIDED || lines.step == 1);
        lines.assert_inside(rows, (channels - 1) * plane, source.len());
        assert!(weights.len() >= channels * lines.taps.len() * M);
        let begin = blocks[0].first;
        assert!(bias.is_none_or(|bias| bias.len() >= M));
        let length = (M - 1) * pitch + (rows.len() - 1) * width + end - begin;
        let target = target.start(first, length);
        let aligned = [pitch, width].iter().all(|n| n.is_multiple_of(V::LANES));
        let stream = stream && aligned && target.cast::<V>().is_aligned();
        for (r, row) in rows.iter().enumerate() {
            let reads = &lines.classes[row.class].reads;
            for block in blocks {
                let at = r * width + block.first - begin;
                // SAFETY: the level is the caller's promise; all rows were just checked to read
                // inside the source, and the target to hold them, which is the caller's; `Lines` made
                // the masks.
                unsafe {
                    let part = Part::<A> {
                        reads,
                        masks: match block.masks {
                            Some(first) => &lines.masks[first..],
                            None => &[],
                        },
                        source: source
                            .as_ptr()
                            .wrapping_offset(row.start + (block.first * lines.step) as isize),
                        plane,
                        step: lines.step,
                        channels,
                        weights: weights.as_ptr(),
                        taps: lines.taps.len(),
                        begin: bias.map(<[A]>::as_ptr),
                        target: target.add(at),
                        pitch,
                        stream,
                    };
                    let full = block.masks.is_none();
                    match (block.vectors, full) {
                        (4, true) => part.run::<V, M, 4, true, STRIDED>(),
                        (4, false) => part.run::<V, M, 4, false, STRIDED>(),
                        (2, true) => part.run::<V, M, 2, true, STRIDED>(),
                        (2, false) => part.run::<V, M, 2, false, STRIDED>(),
                        (_, true) => part.run::<V, M, 1, true, STRIDED>(),
                        (_, false) => part.run::<V, M, 1, false, STRIDED>(),
                    }
                }
            }
        }
    }
}

/// One block of a row.
struct Part<'a, A> {
    reads: &'a [Read],
    masks: &'a [u32],
    source: *const A,
    plane: usize,
    step: usize,
    channels: usize,
    weights: *const A,
    taps: usize,
    begin: Option<*const A>,
    target: *mut A,
    pitch: usize,
    stream: bool,
}

impl<A: Copy> Part<'_, A> {
    /// # Safety
    /// The level of `V` must be available; the source must be valid where the reads and masks say,
    /// in every channel, the weights for `channels * taps * M` elements, and the target for `N`
    /// vectors in every one of `M` rows; there must be a mask for every column and vector.
    #[inline(always)]
    unsafe fn run<
        V: Vector<Scalar = A>,
        const M: usize,
        const N: usize,
        const FULL: bool,
        const STRIDED: bool,
    >(
        &self,
    ) {
        if N > 1 && M * N > 2 * V::ROWS {
            unreachable!("blocks are cut to `vectors`"); // known when compiled
        }
        let all = u32::MAX >> (32 - V::LANES);
        // SAFETY: by this function's contract; lanes outside the masks are not accessed.
        unsafe {
            let mut sums = [[V::zero(); N]; M];
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = match self.begin {
                        Some(begin) => V::splat(*begin.add(i)),
                        None => V::load(self.target.add(i * self.pitch + j * V::LANES)),
                    };
                }
            }
            let (mut source, mut weights) = (self.source, self.weights);
            for _ in 0..self.channels {
                for read in self.reads {
                    let from = source.wrapping_offset(read.offset);
                    let mut lanes = [V::zero(); N];
                    for j in 0..N {
                        let step = if STRIDED { self.step } else { 1 };
                        let from = from.wrapping_add(j * V::LANES * step);
                        let mask = match FULL {
                            true => all,
                            false => *self.masks.as_ptr().add(read.column * N + j),
                        };
                        lanes[j] = match FULL {
                            _ if STRIDED => V::zero().load_strided(mask, from, self.step),
                            true => V::load(from),
                            false => V::zero().load_masked(mask, from),
                        };
                    }
                    let weights = weights.add(read.tap * M);
                    for i in 0..M {
                        let factor = V::splat(*weights.add(i));
                        for j in 0..N {
                            sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
                        }
                    }
                }
                source = source.wrapping_add(self.plane);
                weights = weights.add(self.taps * M);
            }
            for i in 0..M {
                for j in 0..N {
                    let to = self.target.add(i * self.pitch + j * V::LANES);
                    match self.stream {
                        true => sums[i][j].stream(to),
                        false => sums[i][j].store(to),
                    }
                }
            }
        }
    }
}
