//! Filters of few channels a group where channels are next to each other: target channels are the
//! lanes, and the positions of a row share what is read.
mod filter;
mod gradient;

use super::{Ahead, Stored, Vector};
use crate::element::Element;
pub(crate) use filter::{ChannelTarget, Edges, channel_row, streams};
pub(crate) use gradient::channel_gradient;

/// Positions of a row that are computed together.
pub(crate) const POSITIONS: usize = 8;

/// Taps that a [`Run`] has at most; with [`POSITIONS`] sums and a vector of the source they fit the
/// 16 registers of AVX2.
pub(crate) const RUN: usize = 7;

/// Reads of a run, at most.
const READS: usize = POSITIONS + RUN - 1;

/// Taps whose reads are as far apart as those of neighbouring positions, so that a vector of the
/// source serves all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Where position 0 of the source's row begins.
    pub row: usize,
    /// The position in it that target position 0 reads with the first tap.
    pub column: isize,
    pub count: usize,
    /// Place of the first tap among the weights of a vector; the others follow.
    pub place: usize,
    /// As in [`Vector::keep`], of what is read and of what it is multiplied by in a gradient.
    pub keep: u32,
    /// Its number, and how many runs from it on have as many taps.
    number: usize,
    alike: usize,
    /// Of the positions that are computed, where the first one reads, counted from where channel 0 of
    /// the source begins, and the reads inside the source.
    from: isize,
    inside: (usize, usize),
}

impl Run {
    /// A run of one tap.
    pub fn new(column: isize, place: usize) -> Self {
        Run {
            row: 0,
            column,
            count: 1,
            place,
            keep: u32::MAX,
            number: 0,
            alike: 1,
            from: 0,
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
    /// What to ask for meanwhile.
    pub ahead: &'a mut [Ahead],
}

/// Channels of a group.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub sources: usize,
    pub targets: usize,
    /// `(sources, lanes)`: the lane of the source's vector that a target lane reads, where vectors have
    /// several groups.
    pub lanes: &'a [u32],
}

/// How the lanes of a target's vector read the source: each its own channel...
const OWN: u8 = 0;
/// ...channels of the groups that share the vector, which are lanes of one vector of the source...
const PERMUTED: u8 = 1;
/// ...or all the same one, as they are of one group.
const SPREAD: u8 = 2;

impl Group<'_> {
    /// How vectors of so many lanes read.
    fn reading(&self, lanes: usize) -> u8 {
        match (self.sources, self.targets) {
            (1, 1) => OWN,
            (_, targets) if targets.is_multiple_of(lanes) => SPREAD,
            _ => PERMUTED,
        }
    }

    /// The first source channel of a target channel that begins a group.
    fn source(&self, target: usize) -> usize {
        target / self.targets * self.sources
    }
}

/// Positions that are computed together.
struct Positions {
    first: usize,
    count: usize,
    /// Whether every tap lies inside the source, for as many as there may be.
    whole: bool,
}

impl<A: Copy> ChannelRow<'_, A> {
    /// Checks that what the runs read lies in memory, and that the lanes of a vector are there.
    fn check(&mut self, lanes: usize) {
        let Group {
            sources,
            targets,
            lanes: index,
        } = self.group;
        assert!(sources > 0 && targets > 0 && self.channels.is_multiple_of(targets));
        if self.group.reading(lanes) == PERMUTED {
            assert!(lanes.is_multiple_of(targets) && sources <= targets);
            assert!(index.len() >= sources * lanes);
            assert!(index.iter().all(|&lane| (lane as usize) < lanes));
        }
        let last = (self.size - 1) * self.pixel + self.group.source(self.channels);
        for run in self.runs.iter() {
            assert!(run.row <= self.source.len() && last <= self.source.len() - run.row);
            assert!((1..=RUN).contains(&run.count));
            assert!(run.place < self.taps && run.count <= self.taps - run.place);
        }
        let mut last = (0, 0);
        for (number, run) in self.runs.iter_mut().enumerate().rev() {
            let alike = if last.0 == run.count { last.1 } else { 0 };
            run.number = number;
            run.alike = alike + 1;
            last = (run.count, run.alike);
        }
    }

    /// From the weights, or sums, of a vector of so many lanes to those of the next.
    #[inline(always)]
    fn pitch(&self, lanes: usize) -> usize {
        self.group.sources * self.taps * lanes
    }

    /// What is asked for ahead is so in as many parts.
    fn cut(&mut self, parts: usize) {
        for ahead in self.ahead.iter_mut() {
            ahead.cut(parts);
        }
    }

    /// Asks for a part of it.
    #[inline(always)]
    fn ask(&mut self) {
        for ahead in self.ahead.iter_mut() {
            ahead.ask();
        }
    }

    /// The positions from `first` on, at most so many.
    fn block(&mut self, first: usize, most: usize) -> Positions {
        let count = most.min(self.width - first);
        let mut whole = true;
        for run in self.runs.iter_mut() {
            let from = run.column + (first * self.pace) as isize;
            run.from = run.row as isize + from * self.pixel as isize;
            run.inside = (0, most + run.count - 1);
            let last = from + ((most + run.count - 2) * self.pace) as isize;
            if from < 0 || last >= self.size as isize {
                let reads = count + run.count - 1;
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

    /// What the last [`block`](Self::block) reads with a run, for the `nth` source channel of vectors
    /// of so many lanes from `lane` on.
    #[inline(always)]
    fn reads<const READING: u8>(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        vector: usize,
    ) -> Reads<A> {
        let lanes = self.channels - lane;
        let (lane, lanes) = match READING {
            OWN => (lane, lanes),
            PERMUTED => (
                self.group.source(lane),
                self.group.source(lanes.min(vector)),
            ),
            _ => (self.group.source(lane) + nth, 1),
        };
        Reads {
            from: self.source.as_ptr().wrapping_offset(run.from),
            step: self.pace * self.pixel,
            lane,
            lanes,
            index: self.group.lanes.as_ptr().wrapping_add(nth * vector),
            keep: run.keep,
        }
    }
}

/// What positions and taps of a [`Run`] read: number `i` is that of position `i - q` with tap `q`.
struct Reads<A> {
    /// The first one, of channel 0, and from one to the next.
    from: *const A,
    step: usize,
    /// The channel where vectors begin.
    lane: usize,
    /// Channels from there on.
    lanes: usize,
    index: *const u32,
    keep: u32,
}

impl<A: Copy> Reads<A> {
    /// Where number `i` is of channel 0, which may be outside of the source.
    #[inline(always)]
    fn at(&self, i: usize) -> *const A {
        self.from.wrapping_add(i * self.step)
    }

    /// Those of the lanes of vector `n` that are there.
    #[inline(always)]
    fn mask(&self, n: usize, lanes: usize) -> u32 {
        let there = self.lanes.saturating_sub(n * lanes).min(lanes);
        ((1u64 << there) - 1) as u32
    }

    /// Vector `n` of a position whose channel 0 is there.
    ///
    /// # Safety
    /// As [`Row::vectors`].
    #[inline(always)]
    unsafe fn vector<V, const TAIL: bool, const READING: u8>(&self, at: *const A, n: usize) -> V
    where
        V: Vector<Scalar = A>,
    {
        let from = at.wrapping_add(self.lane + n * V::LANES);
        // SAFETY: by this function's contract.
        unsafe {
            let x = match (READING, TAIL) {
                (SPREAD, _) => V::splat(*from),
                (PERMUTED, _) | (_, true) => V::zero().load_masked(self.mask(n, V::LANES), from),
                (_, false) => V::load(from),
            };
            let x = x.keep(self.keep);
            match READING {
                PERMUTED => x.permute(self.index),
                _ => x,
            }
        }
    }
}

/// Whether tap `q` reads number `i` of [`Reads`] for one of so many positions.
const fn meets(i: usize, q: usize, positions: usize) -> bool {
    i >= q && i - q < positions
}

/// `$body` for every `$i` below `$count`, at most [`READS`]. Written out: loops with much in them are not always
/// unrolled, and what should be in registers would be memory.
macro_rules! unrolled {
    ($i:ident < $count:expr => $body:block) => {
        unrolled!(@ $i $count => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $i:ident $count:expr => $body:block; $($n:literal)*) => {
        $(if const { $n < $count } {
            const $i: usize = $n;
            $body
        })*
    };
}
use unrolled;

/// Calls `$of.taps::<number of taps, ..>` for every run and as many source channels of a group. What goes
/// with them stays in registers while the number of taps is the same, which is at most `$most`.
macro_rules! each_run {
    ($most:expr => $of:ident.taps::<$($generic:ident),+>($sources:expr, $lane:expr $(, $more:expr)*)) => {{
        let (row, sources) = (&$of.row, $sources);
        let mut first = 0;
        while first < row.runs.len() {
            let alike = row.runs[first].alike;
            let runs = &row.runs[first..first + alike];
            first += alike;
            macro_rules! taps {
                ($count:literal) => {
                    if const { $count <= $most } {
                        for run in runs {
                            for nth in 0..sources {
                                $of.taps::<$count, $($generic),+>(
                                    run, (nth, $lane) $(, $more)*
                                );
                            }
                        }
                    } else {
                        unreachable!("runs of at most {} taps", $most)
                    }
                };
            }
            match runs[0].count {
                1 => taps!(1),
                2 => taps!(2),
                3 => taps!(3),
                4 => taps!(4),
                5 => taps!(5),
                6 => taps!(6),
                _ => taps!(7),
            }
        }
    }};
}
use each_run;

/// What is done with a row, vector by vector of its target channels.
trait Row<'a, T: Element> {
    /// Whether positions past the end of the row may be computed, as they are not stored.
    const PAST_END: bool;

    fn row(&mut self) -> &mut ChannelRow<'a, T::Acc>;

    /// Before vectors of positions that are not `WHOLE`.
    fn at_edge(&mut self) {}

    /// `N` vectors of at most `P` positions: the channels from `lane` on, whose weights or sums begin at `at`;
    /// `WHOLE` as in [`Positions`], `TAIL` where they may not fill the vectors.
    ///
    /// # Safety
    /// The level of `V` must be available, and the row and what goes with it checked.
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
    );
}

/// Every vector, `N` at once, of every block of at most `P` positions.
///
/// # Safety
/// As [`Row::vectors`].
#[inline(always)]
unsafe fn each_vector<'a, T, V, R, const P: usize, const N: usize, const READING: u8>(of: &mut R)
where
    T: Element,
    V: Vector<Scalar = T::Acc> + Stored<T>,
    R: Row<'a, T>,
{
    let (width, channels) = (of.row().width, of.row().channels);
    let (together, pitch) = (N * V::LANES, of.row().pitch(V::LANES));
    let whole = channels - channels % together;
    let blocks = width.div_ceil(P);
    of.row().cut(blocks * channels.div_ceil(together));
    for first in (0..width).step_by(P) {
        let block = of.row().block(first, P);
        let whole_block = block.whole && (R::PAST_END || block.count == P);
        if !whole_block || whole < channels {
            of.at_edge();
        }
        // SAFETY: by this function's contract.
        unsafe {
            for lane in (0..whole).step_by(together) {
                let at = lane / V::LANES * pitch;
                of.row().ask();
                match whole_block {
                    true => of.vectors::<V, P, N, true, false, READING>(&block, lane, at),
                    false => of.vectors::<V, P, N, false, false, READING>(&block, lane, at),
                }
            }
            if whole < channels && READING != SPREAD {
                let at = whole / V::LANES * pitch;
                of.vectors::<V, P, N, false, true, READING>(&block, whole, at);
            }
        }
    }
}
