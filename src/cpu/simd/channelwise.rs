//! Filters of few channels a group where channels are next to each other: target channels are the
//! lanes, and the positions of a row share what is read.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

mod gradient;

use super::{Dispatch, Level, Op, Stored, Vector};
use crate::cpu::output::Output;
use crate::element::Element;
use crate::ops::Write;
pub(crate) use gradient::channel_gradient;

/// Positions of a row that are computed together.
const POSITIONS: usize = 8;

/// Taps that a [`Run`] has at most; with [`POSITIONS`] sums and a vector of the source they fit the
/// 16 registers of AVX2.
pub(crate) const RUN: usize = 7;

/// Taps whose reads are as far apart as those of neighbouring positions, so that a vector of the
/// source serves all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Where position 0 of the source's row begins.
    pub row: usize,
    /// The position in it that target position 0 reads with the first tap.
    pub column: isize,
    pub count: usize,
    /// Places of the taps among the weights of a vector.
    pub taps: [usize; RUN],
    /// The reads inside the source, for the positions that are computed.
    inside: (usize, usize),
}

impl Run {
    /// A run of one tap.
    pub fn new(column: isize, tap: usize) -> Self {
        Run {
            row: 0,
            column,
            count: 1,
            taps: [tap; RUN],
            inside: (0, 0),
        }
    }
}

/// A row of positions.
pub(crate) struct ChannelRow<'a, A> {
    /// The taps that this row has.
    pub runs: &'a mut [Run],
    pub source: &'a [A],
    /// Steps in memory from one position of the source to the next, and positions of its row.
    pub pixel: usize,
    pub size: usize,
    /// Source positions from one target position to the next.
    pub pace: usize,
    /// Target positions.
    pub width: usize,
    /// Target channels.
    pub channels: usize,
    /// Taps of a pair of channels, in this row or not.
    pub taps: usize,
    pub group: Group<'a>,
}

/// Channels of a group: all those of a target's vector read one vector of the source.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub sources: usize,
    pub targets: usize,
    /// `(sources, lanes)`: the lane of the source's vector that a target lane reads; empty where
    /// each reads its own.
    pub lanes: &'a [u32],
}

impl Group<'_> {
    /// The first source channel of a target channel that begins a group.
    fn source(&self, target: usize) -> usize {
        target / self.targets * self.sources
    }
}

/// Positions that are computed together.
struct Positions {
    first: usize,
    count: usize,
    /// Whether they are [`POSITIONS`] and every tap lies inside the source for all of them.
    whole: bool,
}

impl<A: Copy> ChannelRow<'_, A> {
    /// Checks that what the runs read lies in memory, and that the lanes of a vector are there.
    fn check(&self, lanes: usize) {
        let Group {
            sources,
            targets,
            lanes: index,
        } = self.group;
        if index.is_empty() {
            assert!((sources, targets) == (1, 1));
        } else {
            assert!(lanes.is_multiple_of(targets) && self.channels.is_multiple_of(targets));
            assert!((1..=targets).contains(&sources) && index.len() >= sources * lanes);
            assert!(index.iter().all(|&lane| (lane as usize) < lanes));
        }
        let last = (self.size - 1) * self.pixel + self.group.source(self.channels);
        for run in self.runs.iter() {
            assert!(run.row <= self.source.len() && last <= self.source.len() - run.row);
            assert!((1..=RUN).contains(&run.count));
            assert!(run.taps[..run.count].iter().all(|&tap| tap < self.taps));
        }
    }

    /// The positions from `first` on, as many as are computed together.
    fn block(&mut self, first: usize) -> Positions {
        let count = POSITIONS.min(self.width - first);
        let mut whole = count == POSITIONS;
        for run in self.runs.iter_mut() {
            let from = run.column + (first * self.pace) as isize;
            let reads = count + run.count - 1;
            run.inside = (0, reads);
            if from < 0 || from + ((reads - 1) * self.pace) as isize >= self.size as isize {
                run.inside = super::inside_range(from, self.pace, reads, self.size);
                whole = false;
            }
        }
        Positions {
            first,
            count,
            whole,
        }
    }

    /// What position `first` reads with the first tap of a run, from lane `lane` on.
    #[inline(always)]
    fn read<const GROUPED: bool>(&self, run: &Run, first: usize, lane: usize) -> *const A {
        let column = run.column + (first * self.pace) as isize;
        let lane = match GROUPED {
            true => self.group.source(lane),
            false => lane,
        };
        let start = self.source.as_ptr().wrapping_add(run.row + lane);
        start.wrapping_offset(column * self.pixel as isize)
    }
}

/// What is done with a row, vector by vector of its target channels.
trait Row<'a, T: Element> {
    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc>;

    /// The channels from `lane` on, whose weights or sums begin at `at`; `WHOLE` as in
    /// [`Positions`], `TAIL` where they may not fill a vector, `GROUPED` where lanes do not read
    /// their own.
    ///
    /// # Safety
    /// The level of `V` must be available, and the row and what goes with it checked.
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
    );
}

/// Every vector of every block of positions; `pitch` is between the weights, or sums, of two.
///
/// # Safety
/// As [`Row::vector`].
#[inline(always)]
unsafe fn each_vector<'a, T, V, R>(of: &mut R, pitch: usize)
where
    T: Element,
    V: Vector<Scalar = T::Acc> + Stored<T>,
    R: Row<'a, T>,
{
    let (width, channels) = (of.row().width, of.row().channels);
    let grouped = !of.row().group.lanes.is_empty();
    let whole = channels - channels % V::LANES;
    for first in (0..width).step_by(POSITIONS) {
        let block = of.row().block(first);
        // SAFETY: by this function's contract.
        unsafe {
            for lane in (0..whole).step_by(V::LANES) {
                let at = lane / V::LANES * pitch;
                match (block.whole, grouped) {
                    (true, false) => of.vector::<V, true, false, false>(&block, lane, at),
                    (false, false) => of.vector::<V, false, false, false>(&block, lane, at),
                    (true, true) => of.vector::<V, true, true, true>(&block, lane, at),
                    (false, true) => of.vector::<V, false, true, true>(&block, lane, at),
                }
            }
            if whole < channels {
                let at = whole / V::LANES * pitch;
                match grouped {
                    true => of.vector::<V, false, true, true>(&block, whole, at),
                    false => of.vector::<V, false, true, false>(&block, whole, at),
                }
            }
        }
    }
}

/// Where a row of sums goes.
pub(crate) struct ChannelTarget<'a, A> {
    pub output: &'a Output<'a, A>,
    /// The first element, and steps from one position to the next.
    pub at: usize,
    pub step: usize,
    /// A number for every channel.
    pub bias: Option<&'a [A]>,
    pub write: Write,
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
    let filter = Filter {
        row,
        weights,
        target,
    };
    <T::Acc as Dispatch<T>>::dispatch(level, filter);
}

struct Filter<'a, T: Element> {
    row: ChannelRow<'a, T::Acc>,
    weights: &'a [T::Acc],
    target: &'a ChannelTarget<'a, T>,
}

impl<T: Element> Op<T::Acc, T> for Filter<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(mut self) {
        let row = &self.row;
        let channels = row.channels;
        let pitch = row.group.sources * row.taps * V::LANES;
        row.check(V::LANES);
        assert!(self.weights.len() >= channels.div_ceil(V::LANES) * pitch);
        assert!(self.target.bias.is_none_or(|bias| bias.len() >= channels));
        // SAFETY: the level is the caller's promise; reads inside the source's rows, and the
        // weights of every vector, were just checked.
        unsafe { each_vector::<T, V, _>(&mut self, pitch) }
    }
}

impl<'a, T: Element> Row<'a, T> for Filter<'a, T> {
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
            let weights = self.weights.as_ptr().add(at);
            let bias = match self.target.bias {
                Some(bias) if TAIL => V::load_first(lanes, bias.as_ptr().add(lane)),
                Some(bias) => V::load_from(bias.as_ptr().add(lane)),
                None => V::zero(),
            };
            let mut sums = [bias; POSITIONS];
            let nths = if GROUPED { row.group.sources } else { 1 };
            macro_rules! taps {
                ($runs:expr, $count:literal) => {
                    for run in $runs {
                        for nth in 0..nths {
                            self.taps::<V, $count, WHOLE, TAIL, GROUPED>(
                                run, block, nth, lane, weights, &mut sums,
                            );
                        }
                    }
                };
            }
            // sums stay in registers while the number of taps is the same
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
            let ChannelTarget { at, step, .. } = *self.target;
            // written out: a loop with so much in it is not unrolled, and the sums would be memory
            macro_rules! put {
                ($($j:literal)*) => {$(
                    if WHOLE || $j < block.count {
                        let at = at + (block.first + $j) * step + lane;
                        let to = self.target.output.part(at, lanes);
                        put(sums[$j], to, self.target.write);
                    }
                )*};
            }
            put!(0 1 2 3 4 5 6 7);
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
        const GROUPED: bool,
    >(
        &self,
        run: &Run,
        block: &Positions,
        nth: usize,
        lane: usize,
        weights: *const T::Acc,
        sums: &mut [V; POSITIONS],
    ) {
        let lanes = V::LANES.min(self.row.channels - lane);
        let mask = u32::MAX >> (32 - self.row.group.source(lanes));
        let index = self.row.group.lanes.as_ptr().wrapping_add(nth * V::LANES);
        let from = self.row.read::<GROUPED>(run, block.first, lane);
        let (lo, hi) = run.inside;
        let step = self.row.pace * self.row.pixel;
        // SAFETY: by this function's contract.
        unsafe {
            let mut factors = [V::zero(); K];
            for q in 0..K {
                factors[q] = V::load(weights.add((nth * self.row.taps + run.taps[q]) * V::LANES));
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
                    if i >= q && i - q < POSITIONS {
                        sums[i - q] = factors[q].multiply_add(x, sums[i - q]);
                    }
                }
            }
        }
    }
}

/// Finishes a vector of sums, or as many lanes of it as `to` is long.
///
/// # Safety
/// The level of `V` must be available, and `to` at most a vector.
#[inline(always)]
unsafe fn put<T: Element, V: Vector<Scalar = T::Acc> + Stored<T>>(
    sums: V,
    to: &mut [T],
    write: Write,
) {
    // SAFETY: by this function's contract; a vector has that many lanes.
    unsafe {
        if to.len() == V::LANES && write == Write::Overwrite {
            return sums.store_to(to.as_mut_ptr());
        }
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
