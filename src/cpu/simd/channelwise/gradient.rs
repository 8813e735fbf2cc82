//! The gradient of [`super::channel_row`]: sums over positions of products of both operands.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::{ChannelRow, POSITIONS, Positions, Row, Run, each_run, each_vector};
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
    <T::Acc as Dispatch<T>>::products(level, gradient);
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
            each_run!(self.taps::<V, WHOLE, TAIL, GROUPED>(block, lane, &dy, sums));
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
        (nth, lane): (usize, usize),
        dy: &[V; POSITIONS],
        target: *mut T::Acc,
    ) {
        // SAFETY: by this function's contract.
        unsafe {
            let mut sums = [V::zero(); K];
            for q in 0..K {
                sums[q] = V::load(target.add((nth * self.row.taps + run.taps[q]) * V::LANES));
            }
            let reads = self.row.reads::<GROUPED>(run, block, (nth, lane), V::LANES);
            for i in 0..POSITIONS + K - 1 {
                let Some(x) = reads.vector::<V, WHOLE, TAIL, GROUPED>(i) else {
                    continue;
                };
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
