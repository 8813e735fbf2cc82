//! The gradient of [`super::channel_row`]: sums over positions of products of both operands.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::{ChannelRow, POSITIONS, Positions, Row, Run, each_vector};
use crate::cpu::simd::{Level, Op, Vector};
use crate::element::Accumulator;

/// `sums[c / lanes][k][tap][c % lanes] += sum over positions of dy[..][c] * source[..][k]`; `dy`
/// begins at the row's first position, and positions are `step` apart.
pub(crate) fn channel_gradient<A: Accumulator>(
    level: Level,
    row: ChannelRow<A>,
    (dy, step): (&[A], usize),
    sums: &mut [A],
) {
    A::dispatch(
        level,
        Gradient {
            row,
            dy,
            step,
            sums,
        },
    );
}

struct Gradient<'a, A> {
    row: ChannelRow<'a, A>,
    dy: &'a [A],
    step: usize,
    sums: &'a mut [A],
}

impl<A: Copy> Op<A> for Gradient<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(mut self) {
        let row = &self.row;
        let channels = row.channels;
        let pitch = row.group.sources * row.taps * V::LANES;
        row.check(V::LANES);
        assert!(self.sums.len() >= channels.div_ceil(V::LANES) * pitch);
        assert!(self.dy.len() >= (row.width - 1) * self.step + channels);
        // SAFETY: the level is the caller's promise; reads inside the source's rows, `dy` and the
        // sums of every vector were just checked.
        unsafe { each_vector::<V, _>(&mut self, pitch) }
    }
}

impl<'a, A: Copy> Row<'a, A> for Gradient<'a, A> {
    fn row(&mut self) -> &mut ChannelRow<'a, A> {
        &mut self.row
    }

    #[inline(always)]
    unsafe fn vector<
        V: Vector<Scalar = A>,
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
        let mask = u32::MAX >> (32 - lanes);
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
                    true => V::zero().load_masked(mask, from),
                    false => V::load(from),
                };
            }
            for run in row.runs.iter() {
                for nth in 0..if GROUPED { row.group.sources } else { 1 } {
                    macro_rules! taps {
                        ($count:literal) => {
                            self.taps::<V, $count, WHOLE, TAIL, GROUPED>(
                                run, block, nth, lane, &dy, sums,
                            )
                        };
                    }
                    match run.count {
                        1 => taps!(1),
                        2 => taps!(2),
                        3 => taps!(3),
                        _ => taps!(4),
                    }
                }
            }
        }
    }
}

impl<A: Copy> Gradient<'_, A> {
    /// `K` taps of the `nth` source channel for the positions of a block.
    ///
    /// # Safety
    /// As [`Row::vector`].
    #[inline(always)]
    unsafe fn taps<
        V: Vector<Scalar = A>,
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
        target: *mut A,
    ) {
        let lanes = V::LANES.min(self.row.channels - lane);
        let mask = u32::MAX >> (32 - self.row.group.source(lanes));
        let index = self.row.group.lanes.as_ptr().wrapping_add(nth * V::LANES);
        let from = self.row.read(run, block.first, lane);
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
