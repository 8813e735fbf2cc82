//! What rows of a product read at the ends of lines, where taps are one run of memory: zeros outside of the source, and
//! pixels inside.

use super::super::stencil::{Roles, Stencil, Tap};
use crate::cpu::simd::inside_range;
use crate::element::Accumulator;

/// How many columns of a whole row are copied for two of its edges at most, so that all positions read the copy.
const WHOLE: usize = 5;

/// The positions of a line of a stencil at which not all taps of a run are inside of the source.
pub(super) struct Edges {
    /// The others, from the first to behind the last; and all of them.
    pub inside: (usize, usize),
    pub count: usize,
    /// What the first tap reads at position 0, and from one position to the next.
    column: isize,
    pub pace: usize,
    taps: usize,
    pub channels: usize,
    size: usize,
}

impl Edges {
    pub fn new(roles: &Roles, stencil: &Stencil, tap: &Tap, taps: usize) -> Self {
        let (count, pace, column) = (stencil.count[3], stencil.pace[3], tap.offset[3]);
        let size = roles.source_size[3];
        let (lo, hi) = inside_range(column, pace, count, size.saturating_sub(taps - 1));
        Edges {
            inside: if lo < hi { (lo, hi) } else { (count, count) },
            count,
            column,
            pace,
            taps,
            channels: roles.source_channels,
            size,
        }
    }

    /// The same, but with no position inside of a row of which a copy takes little more than one of its edges.
    pub fn of_whole_rows(mut self) -> Self {
        let row = (self.count - 1) * self.pace + self.taps;
        if 2 * row * self.channels <= WHOLE * self.elements() {
            self.inside = (self.count, self.count);
        }
        self
    }

    /// Positions that are inside.
    pub fn len(&self) -> usize {
        self.inside.1 - self.inside.0
    }

    /// The column that a position reads first.
    pub fn column(&self, position: usize) -> isize {
        self.column + (position * self.pace) as isize
    }

    /// The columns that are read at the positions before those that are inside, and behind them: the first, and how many.
    pub fn strips(&self) -> [(isize, usize); 2] {
        let columns = |positions: usize| match positions {
            0 => 0,
            _ => (positions - 1) * self.pace + self.taps,
        };
        let (lo, hi) = self.inside;
        [
            (self.column, columns(lo)),
            (self.column(hi), columns(self.count - hi)),
        ]
    }

    /// Elements of both.
    pub fn elements(&self) -> usize {
        let [before, after] = self.strips();
        (before.1 + after.1) * self.channels
    }

    /// Copies both, with zeros outside of the source, from one of its rows.
    pub fn copy<A: Accumulator>(&self, row: &[A], to: &mut [A]) {
        to.fill(A::zero());
        let mut strip = 0;
        for (column, columns) in self.strips() {
            let (from, end) = inside_range(column, 1, columns, self.size);
            if from < end {
                let to = &mut to[(strip + from) * self.channels..(strip + end) * self.channels];
                let first = (column + from as isize) as usize * self.channels;
                to.copy_from_slice(&row[first..][..to.len()]);
            }
            strip += columns;
        }
    }
}
