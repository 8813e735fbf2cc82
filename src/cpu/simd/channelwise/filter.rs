//! Sums over the taps and the channels of a group.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::sync::atomic::{Ordering, compiler_fence};

use super::{
    ChannelRow, OWN, PERMUTED, POSITIONS, Positions, RUN, Row, Run, SPREAD, each_run, each_vector,
};
use crate::cpu::output::Output;
use crate::cpu::simd::{Dispatch, Level, Op, Stored, Vector};
use crate::element::Element;
use crate::ops::Write;

/// Where a row of sums goes.
pub(crate) struct ChannelTarget<'a, A> {
    pub output: &'a Output<'a, A>,
    /// The first element, and steps from one position to the next.
    pub at: usize,
    pub step: usize,
    /// A number for every channel.
    pub bias: Option<&'a [A]>,
    pub write: Write,
    /// Whether to write past the caches, where vectors are aligned.
    pub stream: bool,
}

/// `target[j][c] = bias[c] + sum over channels k of c's group and taps of
/// weights[c / lanes][k][tap][c % lanes] * source[..][k]`
///
/// # Safety
/// The elements of the target are the caller's, as [`Output::part`] demands.
pub(crate) unsafe fn channel_row<T: Element>(
    level: Level,
    row: ChannelRow<T::Acc>,
    weights: &[T::Acc],
    target: &ChannelTarget<T>,
) {
    let len = (row.width - 1) * target.step + row.channels;
    let filter = Filter {
        to: target.output.start(target.at, len),
        row,
        weights,
        target,
    };
    <T::Acc as Dispatch<T>>::products(level, filter);
}

struct Filter<'a, T: Element> {
    row: ChannelRow<'a, T::Acc>,
    weights: &'a [T::Acc],
    target: &'a ChannelTarget<'a, T>,
    /// The row of the target.
    to: *mut T,
}

impl<T: Element> Op<T::Acc, T> for Filter<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(mut self) {
        let row = &mut self.row;
        let channels = row.channels;
        let pitch = row.group.sources * row.taps * V::LANES;
        row.check(V::LANES);
        assert!(self.weights.len() >= channels.div_ceil(V::LANES) * pitch);
        assert!(self.target.bias.is_none_or(|bias| bias.len() >= channels));
        // SAFETY: the level is the caller's promise; reads inside the source's rows, and the
        // weights of every vector, were just checked.
        unsafe {
            match self.row.group.reading(V::LANES) {
                OWN => each_vector::<T, V, _, OWN>(&mut self, pitch),
                PERMUTED => each_vector::<T, V, _, PERMUTED>(&mut self, pitch),
                _ => each_vector::<T, V, _, SPREAD>(&mut self, pitch),
            }
        }
    }
}

impl<'a, T: Element> Row<'a, T> for Filter<'a, T> {
    const PAST_END: bool = true;

    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc> {
        &mut self.row
    }

    #[inline(always)]
    unsafe fn vector<
        V: Vector<Scalar = T::Acc> + Stored<T>,
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
            let weights = self.weights.as_ptr().add(at);
            let bias = match self.target.bias {
                Some(bias) if TAIL => V::load_first(lanes, bias.as_ptr().add(lane)),
                Some(bias) => V::load_from(bias.as_ptr().add(lane)),
                None => V::zero(),
            };
            let mut sums = [bias; POSITIONS];
            each_run!(self.taps::<V, WHOLE, TAIL, READING>(lane, weights, &mut sums));
            let step = self.target.step;
            let to = self.to.add(block.first * step + lane);
            // written out: a loop with so much in it is not unrolled, and the sums would be memory
            macro_rules! each {
                ($put:expr) => {
                    each!($put, 0 1 2 3 4 5 6 7)
                };
                ($put:expr, $($j:literal)*) => {
                    if WHOLE && block.count == POSITIONS {
                        $($put(sums[$j], to.add($j * step));)*
                    } else {
                        $(if $j < block.count {
                            $put(sums[$j], to.add($j * step));
                        })*
                    }
                };
            }
            let ChannelTarget { write, stream, .. } = *self.target;
            let misaligned = (to.addr() | (step * size_of::<T>())) % (V::LANES * size_of::<T>());
            if lanes == V::LANES && stream && misaligned == 0 {
                each!(|sum: V, to| sum.stream_to(to));
            } else if lanes == V::LANES && write == Write::Overwrite {
                each!(|sum: V, to| sum.store_to(to));
            } else {
                each!(|sum, to| put(sum, std::slice::from_raw_parts_mut(to, lanes), write));
            }
        }
    }
}

impl<T: Element> Filter<'_, T> {
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
        const READING: u8,
    >(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        weights: *const T::Acc,
        sums: &mut [V; POSITIONS],
    ) {
        // SAFETY: by this function's contract.
        unsafe {
            let mut factors = [V::zero(); K];
            for q in 0..K {
                let place = nth * self.row.taps + run.place + q;
                factors[q] = V::load(weights.add(place * V::LANES));
            }
            let reads = self.row.reads::<READING>(run, (nth, lane), V::LANES);
            for i in 0..POSITIONS + K - 1 {
                let Some(x) = reads.vector::<V, WHOLE, TAIL, READING>(i) else {
                    continue;
                };
                for q in 0..K {
                    if i >= q && i - q < POSITIONS {
                        sums[i - q] = factors[q].multiply_add(x, sums[i - q]);
                    }
                }
                if WHOLE && (READING == SPREAD || READING == OWN && K > RUN - 2) {
                    // reads all at once would fill up the registers, and sums become memory
                    compiler_fence(Ordering::SeqCst);
                }
            }
        }
    }
}

/// Finishes as many lanes of a vector of sums as `to` is long.
///
/// # Safety
/// The level of `V` must be available, and `to` at most a vector.
#[inline(always)]
unsafe fn put<T: Element, V: Vector<Scalar = T::Acc>>(sums: V, to: &mut [T], write: Write) {
    // SAFETY: by this function's contract; a vector has that many lanes.
    unsafe {
        let mut lanes = [V::zero()];
        sums.store(lanes.as_mut_ptr().cast());
        put_lanes(
            std::slice::from_raw_parts(lanes.as_ptr().cast(), to.len()),
            to,
            write,
        );
    }
}

/// Not inlined: a loop over registers with much in it is not unrolled, and they would be memory.
#[inline(never)]
fn put_lanes<T: Element>(sums: &[T::Acc], to: &mut [T], write: Write) {
    for (to, &sum) in to.iter_mut().zip(sums) {
        *to = T::from_acc(match write {
            Write::Overwrite => sum,
            Write::Accumulate => sum + to.to_acc(),
        });
    }
}
