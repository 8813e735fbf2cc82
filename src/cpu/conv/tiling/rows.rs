//! Which rows of a product share register tiles.

use super::super::stencil::{Roles, Stencil};

/// Steps of the reduction that are next to each other in the source, up to which it is not worth
/// beginning new rows; one less of pairs.
pub(in super::super) const SHORT: usize = 16;

/// What part of all products must be with zeros for register tiles of some rows to be smaller than they may be, and
/// leave out more of them.
const OUTSIDE: f64 = 0.05;
/// What part more of them, for the ends of lines to be computed apart...
const ENDS: f64 = 0.01;
/// ...if register tiles may have more rows than this, and tiles have this many lines, which are the rows of register
/// tiles of the ends.
const FEW_ROWS: usize = 8;
pub(super) const LINES: usize = 4;

/// Which positions of a tile share register tiles. Products of a tap are left out of which all rows of a register tile
/// are zeros, as in the padding above and below an image, or beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Rows {
    /// As many as there are registers for, one after the other.
    Following,
    /// Equal parts of lines, of so many positions.
    Parts(usize),
    /// Lines without their ends, and the same position of several lines where taps are outside there.
    Ends {
        line: usize,
        before: usize,
        after: usize,
    },
}

/// Positions of a tile at least, channels last, unless tiles would be too few, with register tiles of so many rows.
pub(super) fn least_positions(rows: usize) -> usize {
    8 * rows
}

/// Equal parts of a line of so many positions that are at least half as many rows as a register tile may have.
pub(in super::super) fn parts_of_line(line: usize, most: usize) -> Option<usize> {
    let mut parts = line.div_ceil(most).max(1)..=2 * line / most;
    let parts = parts.find(|&parts| line.is_multiple_of(parts))?;
    Some(line / parts)
}

impl Rows {
    /// Those of register tiles of at most so many rows that may be parts of lines, and what part of all products they
    /// leave out.
    pub(super) fn parts(roles: &Roles, stencil: &Stencil, most: usize) -> (Self, f64) {
        let outside = stencil.outside(&roles.source_size, 0..3);
        let line = stencil.count[3];
        if stencil.rows_beside > 1 {
            return (Rows::Following, 0.0);
        }
        match parts_of_line(line, most) {
            Some(rows) if outside >= OUTSIDE => (Rows::Parts(rows), outside),
            _ if line.is_multiple_of(most) => (Rows::Following, outside),
            _ => (Rows::Following, 0.0),
        }
    }

    /// The same of any.
    pub(in super::super) fn new(roles: &Roles, stencil: &Stencil, most: usize) -> (Self, f64) {
        let source = &roles.source_size;
        let outside = stencil.outside(source, 0..3);
        let line = stencil.count[3];
        let (rows, left_out) = Rows::parts(roles, stencil, most);
        let (before, after) = stencil.ends(source[3]);
        let middle = line - before - after;
        let share = middle as f64 / line.max(1) as f64;
        let ends = stencil.outside(source, 3..4) + share * outside;
        // short rows are those of several taps, which are not outside together
        let suits = most > FEW_ROWS
            && roles.source_channels > SHORT
            && middle >= most / 2
            && before + after <= middle
            && LINES * line <= least_positions(most)
            && ends > left_out + ENDS;
        match suits {
            true => (
                Rows::Ends {
                    line,
                    before,
                    after,
                },
                ends,
            ),
            false => (rows, left_out),
        }
    }
}
