//! One channel: rows of the source side by side, column by column.

use super::super::stencil::{Roles, Stencil};
use super::{Line, Lines};
use crate::cpu::simd::{DEPTH, Places, inside_range};
use crate::element::{Accumulator, Element};

impl Line {
    /// Columns of the source that taps [by columns](Stencil::by_columns) read.
    pub(super) fn columns(&self, stencil: &Stencil) -> usize {
        (self.len - 1) * stencil.pace[3] + stencil.taps.len() / stencil.rows_beside
    }
}

/// One channel, with taps [by columns](Stencil::by_columns): copies the rows of the source that lines read side by
/// side and with zeros around them, which makes one run of what a position reads. There is [room](Lines::room) for it behind
/// [`DEPTH`] zeros.
pub(in super::super) fn columns<T: Element>(
    roles: &Roles,
    stencil: &Stencil,
    source: &[T],
    lines: &Lines,
    beside: &mut [T::Acc],
) {
    let Some(first) = stencil.taps.first() else {
        return;
    };
    let (rows, size) = (stencil.rows_beside, roles.source_size[3]);
    let mut rest = &mut beside[DEPTH..];
    for line in &lines.lines {
        let count = line.columns(stencil);
        let (to, after) = rest.split_at_mut(count * rows);
        rest = after;
        let column = (line.first * stencil.pace[3]) as isize + first.offset[3];
        let (lo, hi) = inside_range(column, 1, count, size);
        if lo >= hi {
            to.fill(T::Acc::default());
            continue;
        }
        to[..lo * rows].fill(T::Acc::default());
        to[hi * rows..].fill(T::Acc::default());
        let to = &mut to[lo * rows..hi * rows];
        for (i, tap) in stencil.taps[..rows].iter().enumerate() {
            let to = to.iter_mut().skip(i).step_by(rows);
            match line.row(tap, roles) {
                Some(row) => {
                    let from = &source[row..][(column + lo as isize) as usize..];
                    to.zip(from).for_each(|(to, from)| *to = from.to_acc());
                }
                None => to.for_each(|to| *to = T::Acc::default()),
            }
        }
    }
}

/// Where what positions read of a block of the reduction begins in [`columns`].
pub(in super::super) fn column_places<A: Accumulator>(
    stencil: &Stencil,
    lines: &Lines,
    (k0, depth): (usize, usize),
    rows: &mut Places,
    beside: &[A],
) {
    rows.reset(lines.positions, &[], beside);
    rows.run(depth);
    let mut first = DEPTH + k0;
    for line in &lines.lines {
        rows.beside(first, stencil.pace[3] * stencil.rows_beside, line.len);
        first += line.columns(stencil) * stencil.rows_beside;
    }
}
