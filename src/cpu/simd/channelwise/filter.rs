//! Sums over the taps and the channels of a group.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::sync::atomic::{Ordering, compiler_fence};

use super::{
    ChannelRow, OWN, PERMUTED, POSITIONS, Positions, READS, RUN, Row, Run, SPREAD, each_run,
    each_vector, meets, unrolled,
};
use crate::cpu::output::Output;
use crate::cpu::simd::{Dispatch, Level, Op, Stored, Vector};
use crate::element::Element;
use crate::host::{LINE, SETS};
use crate::ops::Write;

/// Taps of the longest runs where both vectors of a cache line may be computed at once. With more taps weights would
/// not stay in registers.
const SHORT: usize = 3;

/// Taps of the longest runs whose reads may all be in registers.
const fn most_at_once<V: Vector>() -> usize {
    if V::ROWS < POSITIONS { 0 } else { RUN - 2 }
}

/// What pixels are a multiple of where that is done, in bytes, as they share sets of the L1 cache, which would lose a
/// line between its vectors: less in tests, whose problems are small.
const APART: usize = if cfg!(test) { 1 << 4 } else { SETS };

/// Where a row of sums goes.
pub(crate) struct ChannelTarget<'a, A> {
    pub output: &'a Output<'a, A>,
    /// The first element, and steps from one position to the next.
    pub at: usize,
    pub step: usize,
    /// A number for every channel.
    pub bias: Option<&'a [A]>,
    pub write: Write,
    /// Whether to write past the caches, where [`streams`] said so and lines are aligned.
    pub stream: bool,
}

/// Whether rows whose runs have at most so many taps can be written past the caches, with pixels `step` apart and
/// vectors of so many lanes: in whole lines of the cache. One that is written in parts costs more than one that is
/// read first.
pub(crate) fn streams<T: Element>(lanes: usize, longest: usize, step: usize) -> bool {
    let vector = lanes * size_of::<T>();
    let both = 2 * lanes * size_of::<T::Acc>() == LINE && 2 * vector == LINE && longest <= SHORT;
    vector >= LINE || both && (step * size_of::<T>()).is_multiple_of(LINE)
}

/// Reads of positions at the edges of rows: what lies outside of the source is read from zeros, so that
/// every position has all products.
pub(crate) struct Edges<'a, A> {
    zeros: &'a [A],
    /// Of each run, where its reads are of channel 0.
    reads: Vec<[*const A; READS]>,
}

impl<'a, A> Edges<'a, A> {
    /// With as many zeros as a row of the source has channels.
    pub fn new(zeros: &'a [A]) -> Self {
        Edges {
            zeros,
            reads: Vec::new(),
        }
    }
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
    edges: &mut Edges<T::Acc>,
) {
    let len = (row.width - 1) * target.step + row.channels;
    let filter = Filter {
        to: target.output.start(target.at, len),
        row,
        weights,
        target,
        edges,
    };
    <T::Acc as Dispatch<T>>::products(level, filter);
}

struct Filter<'a, 'b, T: Element> {
    row: ChannelRow<'a, T::Acc>,
    weights: &'a [T::Acc],
    target: &'a ChannelTarget<'a, T>,
    edges: &'a mut Edges<'b, T::Acc>,
    /// The row of the target.
    to: *mut T,
}

impl<T: Element> Op<T::Acc, T> for Filter<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(mut self) {
        let row = &mut self.row;
        let channels = row.channels;
        row.check(V::LANES);
        assert!(self.edges.zeros.len() >= row.group.source(channels));
        assert!(self.weights.len() >= channels.div_ceil(V::LANES) * row.pitch(V::LANES));
        assert!(self.target.bias.is_none_or(|bias| bias.len() >= channels));
        let short = row.runs.iter().all(|run| run.count <= SHORT);
        let step = row.pace * row.pixel * size_of::<T::Acc>();
        let lines = V::LANES * size_of::<T::Acc>() < LINE
            && (step.is_multiple_of(APART) || self.target.stream)
            && short;
        // SAFETY: the level is the caller's promise; reads inside the source's rows, and the
        // weights of every vector, were just checked.
        unsafe {
            match self.row.group.reading(V::LANES) {
                OWN if lines => {
                    each_vector::<T, V, _, { POSITIONS / 2 }, 2, OWN>(&mut self);
                }
                OWN => each_vector::<T, V, _, POSITIONS, 1, OWN>(&mut self),
                PERMUTED => each_vector::<T, V, _, POSITIONS, 1, PERMUTED>(&mut self),
                _ => each_vector::<T, V, _, POSITIONS, 1, SPREAD>(&mut self),
            }
        }
    }
}

impl<'a, T: Element> Row<'a, T> for Filter<'a, '_, T> {
    const PAST_END: bool = true;

    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc> {
        &mut self.row
    }

    fn at_edge(&mut self) {
        let (row, zeros) = (&self.row, self.edges.zeros.as_ptr());
        self.edges.reads.clear();
        self.edges.reads.extend(row.runs.iter().map(|run| {
            let reads = row.reads::<OWN>(run, (0, 0), 1);
            std::array::from_fn(|i| match (run.inside.0..run.inside.1).contains(&i) {
                true => reads.at(i),
                false => zeros,
            })
        }));
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
        let channels = row.channels - lane;
        // SAFETY: by this function's contract; lanes of channels that are not there are not accessed, and
        // zeros in place of what is outside of the source.
        unsafe {
            let weights = self.weights.as_ptr().add(at);
            let mut sums = [[V::zero(); P]; N];
            if let Some(bias) = self.target.bias {
                for n in 0..N {
                    let from = bias.as_ptr().wrapping_add(lane + n * V::LANES);
                    sums[n] = [match TAIL {
                        true => V::load_first(lanes::<V, TAIL>(channels, n), from),
                        false => V::load_from(from),
                    }; P];
                }
            }
            let sources = if READING == OWN { 1 } else { row.group.sources };
            each_run!(if N == 1 { RUN } else { SHORT } =>
                self.taps::<V, P, N, WHOLE, TAIL, READING>(sources, lane, weights, &mut sums)
            );
            let step = self.target.step;
            let ChannelTarget { write, stream, .. } = *self.target;
            let to = self.to.add(block.first * step + lane);
            let (line, pixel) = (N * V::LANES * size_of::<T>(), step * size_of::<T>());
            if stream && !TAIL && line >= LINE && (to.addr() | pixel).is_multiple_of(line) {
                unrolled!(J < P => {
                    if WHOLE && block.count == P || J < block.count {
                        for n in 0..N {
                            sums[n][J].stream_to(to.add(J * step + n * V::LANES));
                        }
                    }
                });
                return;
            }
            for n in 0..N {
                let lanes = lanes::<V, TAIL>(channels, n);
                if TAIL && lanes == 0 {
                    break;
                }
                let (sums, to) = (&sums[n], to.add(n * V::LANES));
                macro_rules! each {
                    ($put:expr) => {
                        if WHOLE && block.count == P {
                            unrolled!(J < P => { $put(sums[J], to.add(J * step)); });
                        } else {
                            unrolled!(J < P => {
                                if J < block.count {
                                    $put(sums[J], to.add(J * step));
                                }
                            });
                        }
                    };
                }
                if lanes == V::LANES && write == Write::Overwrite {
                    each!(|sum: V, to| sum.store_to(to));
                } else {
                    each!(|sum, to| put(sum, std::slice::from_raw_parts_mut(to, lanes), write));
                }
            }
        }
    }
}

/// Lanes of vector `n` of so many channels.
#[inline(always)]
fn lanes<V: Vector, const TAIL: bool>(channels: usize, n: usize) -> usize {
    match TAIL {
        true => channels.saturating_sub(n * V::LANES).min(V::LANES),
        false => V::LANES,
    }
}

impl<T: Element> Filter<'_, '_, T> {
    /// `K` taps of the `nth` source channel for the positions of a block.
    ///
    /// # Safety
    /// As [`Row::vectors`].
    #[inline(always)]
    unsafe fn taps<
        const K: usize,
        V: Vector<Scalar = T::Acc> + Stored<T>,
        const P: usize,
        const N: usize,
        const WHOLE: bool,
        const TAIL: bool,
        const READING: u8,
    >(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        weights: *const T::Acc,
        sums: &mut [[V; P]; N],
    ) {
        let row = &self.row;
        // SAFETY: by this function's contract; a vector that is not there takes the weights of the first.
        unsafe {
            let mut factors = [[V::zero(); K]; N];
            for n in 0..N {
                let there = lanes::<V, TAIL>(row.channels - lane, n) > 0;
                let first = if there { n * row.pitch(V::LANES) } else { 0 };
                for q in 0..K {
                    let place = nth * row.taps + run.place + q;
                    factors[n][q] = V::load(weights.add(first + place * V::LANES));
                }
            }
            let reads = row.reads::<READING>(run, (nth, lane), V::LANES);
            let edges = self.edges.reads.as_ptr().wrapping_add(run.number);
            unrolled!(I < P + K - 1 => {
                let at = if WHOLE { reads.at(I) } else { (*edges)[I] };
                for n in 0..N {
                    let x = reads.vector::<V, TAIL, READING>(at, n);
                    unrolled!(Q < K => {
                        if const { meets(I, Q, P) } {
                            let j = I.wrapping_sub(Q);
                            sums[n][j] = factors[n][Q].multiply_add(x, sums[n][j]);
                        }
                    });
                }
                if READING == SPREAD || READING == OWN && (K > most_at_once::<V>() || N > 1) {
                    // reads all at once would fill up the registers, and sums become memory
                    compiler_fence(Ordering::SeqCst);
                }
            });
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
