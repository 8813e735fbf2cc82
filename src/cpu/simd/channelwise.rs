//! Filters of few channels a group where channels are next to each other: target channels are the
//! lanes, and the positions of a row share what is read.
mod filter;
mod gradient;

use super::{Ahead, Stored, Vector};
use crate::element::Element;
pub(crate) use filter::{ChannelTarget, channel_row};
pub(crate) use gradient::channel_gradient;

/// Positions of a row that are computed together.
pub(crate) const POSITIONS: usize = 8;

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
    /// Place of the first tap among the weights of a vector; the others follow.
    pub place: usize,
    /// As in [`Vector::keep`], of what is read and of what it is multiplied by in a gradient.
    pub keep: u32,
    /// How many runs from this one on have as many taps.
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
    /// Whether every tap lies inside the source for [`POSITIONS`] of them, though there may be fewer.
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
        for run in self.runs.iter_mut().rev() {
            let alike = if last.0 == run.count { last.1 } else { 0 };
            run.alike = alike + 1;
            last = (run.count, run.alike);
        }
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

    /// The positions from `first` on, as many as are computed together.
    fn block(&mut self, first: usize) -> Positions {
        let count = POSITIONS.min(self.width - first);
        let mut whole = true;
        for run in self.runs.iter_mut() {
            let from = run.column + (first * self.pace) as isize;
            run.from = run.row as isize + from * self.pixel as isize;
            run.inside = (0, POSITIONS + run.count - 1);
            let last = from + ((POSITIONS + run.count - 2) * self.pace) as isize;
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

    /// What the last [`block`](Self::block) reads with a run, for the `nth` source channel of a vector
    /// of so many lanes from `lane` on.
    #[inline(always)]
    fn reads<const READING: u8>(
        &self,
        run: &Run,
        (nth, lane): (usize, usize),
        vector: usize,
    ) -> Reads<A> {
        let lanes = vector.min(self.channels - lane);
        let (lane, lanes) = match READING {
            OWN => (lane, lanes),
            PERMUTED => (self.group.source(lane), self.group.source(lanes)),
            _ => (self.group.source(lane) + nth, 1),
        };
        let start = self.source.as_ptr().wrapping_add(lane);
        Reads {
            from: start.wrapping_offset(run.from),
            step: self.pace * self.pixel,
            inside: run.inside,
            mask: u32::MAX >> (32 - lanes),
            index: self.group.lanes.as_ptr().wrapping_add(nth * vector),
            keep: run.keep,
        }
    }
}

/// What positions and taps of a [`Run`] read: number `i` is that of position `i - q` with tap `q`.
struct Reads<A> {
    from: *const A,
    step: usize,
    inside: (usize, usize),
    mask: u32,
    index: *const u32,
    keep: u32,
}

impl<A: Copy> Reads<A> {
    /// A vector, if it lies inside the source.
    ///
    /// # Safety
    /// As [`Row::vector`].
    #[inline(always)]
    unsafe fn vector<V, const WHOLE: bool, const TAIL: bool, const READING: u8>(
        &self,
        i: usize,
    ) -> Option<V>
    where
        V: Vector<Scalar = A>,
    {
        if !WHOLE && !(self.inside.0..self.inside.1).contains(&i) {
            return None;
        }
        let from = self.from.wrapping_add(i * self.step);
        // SAFETY: by this function's contract.
        unsafe {
            let x = match (READING, TAIL) {
                (SPREAD, _) => V::splat(*from),
                (PERMUTED, _) | (_, true) => V::zero().load_masked(self.mask, from),
                (_, false) => V::load(from),
            };
            let x = x.keep(self.keep);
            Some(match READING {
                PERMUTED => x.permute(self.index),
                _ => x,
            })
        }
    }
}

/// Calls `$of.taps::<.., number of taps, ..>` for every run and source channel of a group. What goes
/// with them stays in registers while the number of taps is the same.
macro_rules! each_run {
    ($of:ident.taps::<$vector:ident, $whole:ident, $tail:ident, $reading:ident>($lane:expr $(, $more:expr)*)) => {{
        let row = &$of.row;
        let nths = if $reading == OWN { 1 } else { row.group.sources };
        let mut first = 0;
        while first < row.runs.len() {
            let alike = row.runs[first].alike;
            let runs = &row.runs[first..first + alike];
            first += alike;
            macro_rules! taps {
                ($count:literal) => {
                    for run in runs {
                        for nth in 0..nths {
                            $of.taps::<$vector, $count, $whole, $tail, $reading>(
                                run, (nth, $lane) $(, $more)*
                            );
                        }
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

    /// The channels from `lane` on, whose weights or sums begin at `at`; `WHOLE` as in
    /// [`Positions`], `TAIL` where they may not fill a vector.
    ///
    /// # Safety
    /// The level of `V` must be available, and the row and what goes with it checked.
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
    );
}

/// Every vector of every block of positions; `pitch` is between the weights, or sums, of two.
///
/// # Safety
/// As [`Row::vector`].
#[inline(always)]
unsafe fn each_vector<'a, T, V, R, const READING: u8>(of: &mut R, pitch: usize)
where
    T: Element,
    V: Vector<Scalar = T::Acc> + Stored<T>,
    R: Row<'a, T>,
{
    let (width, channels) = (of.row().width, of.row().channels);
    let whole = channels - channels % V::LANES;
    let blocks = width.div_ceil(POSITIONS);
    of.row().cut(blocks * channels.div_ceil(V::LANES));
    for first in (0..width).step_by(POSITIONS) {
        let block = of.row().block(first);
        let whole_block = block.whole && (R::PAST_END || block.count == POSITIONS);
        // SAFETY: by this function's contract.
        unsafe {
            for lane in (0..whole).step_by(V::LANES) {
                let at = lane / V::LANES * pitch;
                of.row().ask();
                match whole_block {
                    true => of.vector::<V, true, false, READING>(&block, lane, at),
                    false => of.vector::<V, false, false, READING>(&block, lane, at),
                }
            }
            if whole < channels && READING != SPREAD {
                let at = whole / V::LANES * pitch;
                of.vector::<V, false, true, READING>(&block, whole, at);
            }
        }
    }
}
