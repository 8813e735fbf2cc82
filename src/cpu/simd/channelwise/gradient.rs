//! The gradient of [`super::channel_row`]: sums over positions of products of both operands.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::sync::atomic::{Ordering, compiler_fence};

use super::{
    ChannelRow, OWN, PERMUTED, POSITIONS, Positions, RUN, Row, Run, SPREAD, each_run, each_vector,
    meets, unrolled,
};
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
        let row = &mut self.row;
        let channels = row.channels;
        row.check(V::LANES);
        assert!(self.sums.len() >= channels.div_ceil(V::LANES) * row.pitch(V::LANES));
        assert!(self.dy.len() >= (row.width - 1) * self.step + channels);
        // SAFETY: the level is the caller's promise; reads inside the source's rows, `dy` and the
        // sums of every vector were just checked.
        unsafe {
            match self.row.group.reading(V::LANES) {
                OWN => each_vector::<T, V, _, POSITIONS, 1, OWN>(&mut self),
                PERMUTED => self.grouped::<V, PERMUTED>(),
                _ => self.grouped::<V, SPREAD>(),
            }
        }
    }
}

impl<'a, T: Element> Row<'a, T> for Gradient<'a, T> {
    const PAST_END: bool = false;

    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc> {
        &mut self.row
    }

    #[inline(always)]
    unsafe fn vectors<
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const P: usize,
        const N: usize,
        const WHOLE: bool,
        const TAIL: bool,
        const READING: u8,
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
            let mut dy = [V::zero(); P];
            let first = self.dy.as_ptr().add(block.first * self.step + lane);
            unrolled!(J < P => {
                if WHOLE || J < block.count {
                    let from = first.add(J * self.step);
                    dy[J] = match TAIL {
                        true => V::load_first(lanes, from),
                        false => V::load_from(from),
                    };
                }
            });
            each_run!(RUN => self.taps::<V, P, WHOLE, TAIL, READING>(1, lane, block, &dy, sums));
        }
    }
}

impl<T: Element> Gradient<'_, T> {
    /// All taps, for groups of several channels: sums of several source channels stay in registers while
    /// the row is read.
    ///
    /// # Safety
    /// As [`Row::vectors`].
    #[inline(always)]
    unsafe fn grouped<V: Vector<Scalar = T::Acc> + Stored<T>, const READING: u8>(&mut self) {
        let (channels, sources) = (self.row.channels, self.row.group.sources);
        let pitch = self.row.pitch(V::LANES);
        self.row.block(0, POSITIONS);
        // sums that fit the registers, of which there are 32 where tiles have many rows, else 16
        let most = if V::ROWS > 8 { 24 } else { 12 };
        let vectors = channels.div_ceil(V::LANES);
        self.row.cut(vectors);
        for vector in 0..vectors {
            let lane = vector * V::LANES;
            self.row.ask();
            let sums = self.sums.as_mut_ptr().wrapping_add(vector * pitch);
            for run in self.row.runs.iter() {
                let mut nth = 0;
                while nth < sources {
                    let left = sources - nth;
                    // SAFETY: by this function's contract.
                    unsafe {
                        macro_rules! taps {
                            ($k:literal: $($g:literal)*) => {
                                $(if left >= $g && $g * $k <= most {
                                    self.group_taps::<V, $k, $g, READING>(run, (nth, lane), sums);
                                    nth += $g;
                                } else)* {
                                    self.group_taps::<V, $k, 1, READING>(run, (nth, lane), sums);
                                    nth += 1;
                                }
                            };
                        }
                        match run.count {
                            1 => taps!(1: 8 4 2),
                            2 => taps!(2: 8 4 2),
                            3 => taps!(3: 8 4 2),
                            4 => taps!(4: 4 2),
                            5 => taps!(5: 4 2),
                            6 => taps!(6: 4 2),
                            _ => taps!(7: 2),
                        }
                    }
                }
            }
        }
    }

    /// `K` taps of `G` source channels from the `nth` on, for all positions of the row.
    ///
    /// # Safety
    /// As [`Row::vectors`].
    #[inline(always)]
    unsafe fn group_taps<
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const K: usize,
        const G: usize,
        const READING: u8,
    >(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        target: *mut T::Acc,
    ) {
        let row = &self.row;
        let lanes = V::LANES.min(row.channels - lane);
        let place = |g: usize, q: usize| ((nth + g) * row.taps + run.place + q) * V::LANES;
        let reads = row.reads::<READING>(run, (nth, lane), V::LANES);
        let mask = reads.mask(0, V::LANES);
        let all = row.width + K - 1;
        let (lo, hi) = super::super::inside_range(run.column, row.pace, all, row.size);
        // SAFETY: by this function's contract; reads outside of the source are not made, nor are those
        // of positions that are not there.
        unsafe {
            let mut sums = [[V::zero(); K]; G];
            for g in 0..G {
                for q in 0..K {
                    sums[g][q] = V::load(target.add(place(g, q)));
                }
            }
            let load = |j: usize| {
                let from = self.dy.as_ptr().add(j * self.step + lane);
                let dy = match READING {
                    SPREAD => V::load_from(from),
                    _ => V::load_first(lanes, from),
                };
                dy.keep(run.keep)
            };
            for i in lo..hi {
                let from = reads.at(i).wrapping_add(reads.lane);
                let all = match READING {
                    SPREAD => V::zero(),
                    _ => V::zero().load_masked(mask, from),
                };
                let x = |g: usize| match READING {
                    SPREAD => V::splat(*from.wrapping_add(g)),
                    _ => all.permute(reads.index.add(g * V::LANES)),
                };
                let mut dy = [V::zero(); K];
                if i + 1 >= K && i < row.width {
                    for q in 0..K {
                        dy[q] = load(i - q);
                    }
                    for g in 0..G {
                        let x = x(g);
                        for q in 0..K {
                            sums[g][q] = dy[q].multiply_add(x, sums[g][q]);
                        }
                    }
                    continue;
                }
                for q in 0..K {
                    // a product with no position must not be taken, lest 0 * NaN reach a sum
                    if i < q || i - q >= row.width {
                        continue;
                    }
                    let dy = load(i - q);
                    for g in 0..G {
                        let x = x(g);
                        sums[g][q] = dy.multiply_add(x, sums[g][q]);
                    }
                }
            }
            for g in 0..G {
                for q in 0..K {
                    sums[g][q].store(target.add(place(g, q)));
                }
            }
        }
    }

    /// `K` taps of the `nth` source channel for the positions of a block.
    ///
    /// # Safety
    /// As [`Row::vectors`].
    #[inline(always)]
    unsafe fn taps<
        const K: usize,
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const P: usize,
        const WHOLE: bool,
        const TAIL: bool,
        const READING: u8,
    >(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        block: &Positions,
        dy: &[V; P],
        target: *mut T::Acc,
    ) {
        // SAFETY: by this function's contract.
        unsafe {
            let mut dy = *dy;
            for j in 0..P {
                dy[j] = dy[j].keep(run.keep);
            }
            let mut sums = [V::zero(); K];
            for q in 0..K {
                sums[q] = V::load(target.add((nth * self.row.taps + run.place + q) * V::LANES));
            }
            let reads = self.row.reads::<READING>(run, (nth, lane), V::LANES);
            unrolled!(I < P + K - 1 => {
                if WHOLE || (run.inside.0..run.inside.1).contains(&I) {
                    let x = reads.vector::<V, TAIL, READING>(reads.at(I), 0);
                    unrolled!(Q < K => {
                        if const { meets(I, Q, P) } {
                            let j = I.wrapping_sub(Q);
                            // a product with no position must not be taken, lest 0 * NaN reach a sum
                            if WHOLE || j < block.count {
                                sums[Q] = dy[j].multiply_add(x, sums[Q]);
                            }
                        }
                    });
                    if V::ROWS < POSITIONS {
                        // as in the filter
                        compiler_fence(Ordering::SeqCst);
                    }
                }
            });
            for q in 0..K {
                sums[q].store(target.add((nth * self.row.taps + run.place + q) * V::LANES));
            }
        }
    }
}
