//! The gradient of [`super::channel_row`]: sums over positions of products of both operands.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::{ChannelRow, POSITIONS, Positions, Row, Run, each_vector};
use crate::cpu::simd::{Dispatch, Level, Op, Stored, Vector};
use crate::element::Element;

/// `sums[c / lanes][k][tap][c % lanes] += sum over positions of dy[..][c] * source[..][k]`; `dy`
/// begins at the row's first position, and positions are `step` apart.
pub(crate) fn channel_gradient<T: Element>(
    level: Level,
    row: ChannelRow<T::Acc>,
    (dy, step): (&[T], usize),
    sums: &mut [T::Acc],
) {
    let gradient = Gradient {
        row,
        dy,
        step,
        sums,
    };
    <T::Acc as Dispatch<T>>::dispatch(level, gradient);
}

struct Gradient<'a, T: Element> {
    row: ChannelRow<'a, T::Acc>,
    dy: &'a [T],
    step: usize,
    sums: &'a mut [T::Acc],
}

impl<T: Element> Op<T::Acc, T> for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(mut self) {
        let row = &self.row;
        let channels = row.channels;
        let pitch = row.group.sources * row.taps * V::LANES;
        row.check(V::LANES);
        assert!(self.sums.len() >= channels.div_ceil(V::LANES) * pitch);
        assert!(self.dy.len() >= (row.width - 1) * self.step + channels);
        // SAFETY: the level is the caller's promise; reads inside the source's rows, `dy` and the
        // sums of every vector were just checked.
        unsafe { each_vector::<T, V, _>(&mut self, pitch) }
    }
}

impl<'a, T: Element> Row<'a, T> for Gradient<'a, T> {
    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc> {
        &mut self.row
    }

    #[inline(always)]
    unsafe fn vector<
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const WHOLE: bool,
        const TAIL: bool,
        const GROUPED: bool,
    >(
        &mut self,
        block: &Positions,
        lane: usize,
        at: usize,
    ) {
        let row = &self.row;
        let lanes = match TAIL {
            true => V::LANES.min(row.channels - lane),
            false => V::LANES,
        };
        // SAFETY: by this function's contract; lanes of channels that are not there, and positions
        // outside the source, are not accessed.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(at);
            let row = &self.row;
            let mut dy = [V::zero(); POSITIONS];
            for j in 0..POSITIONS {
                if !WHOLE && j >= block.count {
                    break;
                }
                let from = self.dy.as_ptr().add((block.first + j) * self.step + lane);
                dy[j] = match TAIL {
                    true => V::load_first(lanes, from),
                    false => V::load_from(from),
                };
            }
            let nths = if GROUPED { row.group.sources } else { 1 };
            macro_rules! taps {
                ($runs:expr, $count:literal) => {
                    for run in $runs {
                        for nth in 0..nths {
                            self.taps::<V, $count, WHOLE, TAIL, GROUPED>(
                                run, block, nth, lane, &dy, sums,
                            );
                        }
                    }
                };
            }
            // `dy` stays in registers while the number of taps is the same
            for runs in row.runs.chunk_by(|a, b| a.count == b.count) {
                match runs[0].count {
                    1 => taps!(runs, 1),
                    2 => taps!(runs, 2),
                    3 => taps!(runs, 3),
                    4 => taps!(runs, 4),
                    5 => taps!(runs, 5),
                    6 => taps!(runs, 6),
                    _ => taps!(runs, 7),
                }
            }
        }
    }
}

impl<T: Element> Gradient<'_, T> {
    /// `K` taps of the `nth` source channel for the positions of a block.
    ///
    /// # Safety
    /// As [`Row::vector`].
    #[inline(always)]
    unsafe fn taps<
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const K: usize,
        const WHOLE: bool,
        const TAIL: bool,
        const GROUPED: bool,
    >(
        &self,
        run: &Run,
        block: &Positions,
        nth: usize,
        lane: usize,
        dy: &[V; POSITIONS],
        target: *mut T::Acc,
    ) {
        let lanes = V::LANES.min(self.row.channels - lane);
        let mask = u32::MAX >> (32 - self.row.group.source(lanes));
        let index = self.row.group.lanes.as_ptr().wrapping_add(nth * V::LANES);
        let from = self.row.read::<GROUPED>(run, block.first, lane);
        let (lo, hi) = run.inside;
        let step = self.row.pace * self.row.pixel;
        // SAFETY: by this function's contract.
        unsafe {
            let mut sums = [V::zero(); K];
            for q in 0..K {
                sums[q] = V::load(target.add((nth * self.row.taps + run.taps[q]) * V::LANES));
            }
            for i in 0..POSITIONS + K - 1 {
                if !WHOLE && !(lo..hi).contains(&i) {
                    continue;
                }
                let from = from.wrapping_add(i * step);
                let mut x = match TAIL {
                    true => V::zero().load_masked(mask, from),
                    false => V::load(from),
                };
                if GROUPED {
                    x = x.permute(index);
                }
                for q in 0..K {
                    // a product with no position must not be taken, lest 0 * NaN reach a sum
                    if i >= q && i - q < POSITIONS && (WHOLE || i - q < block.count) {
                        sums[q] = dy[i - q].multiply_add(x, sums[q]);
                    }
                }
            }
            for q in 0..K {
                sums[q].store(target.add((nth * self.row.taps + run.taps[q]) * V::LANES));
            }
        }
    }
}
