//! Transposition, one square of vectors at a time.

use super::{Level, MicroKernel, Op, Vector};

/// `to[column * pitch + row] = from[row * step + column]`
pub(crate) fn transpose<A: MicroKernel>(
    level: Level,
    from: &[A],
    step: usize,
    (rows, columns): (usize, usize),
    to: &mut [A],
    pitch: usize,
) {
    if rows > 0 && columns > 0 {
        assert!(to.len() > (columns - 1) * pitch && to.len() - (columns - 1) * pitch >= rows);
    }
    // SAFETY: exclusive, and just checked.
    unsafe {
        transpose_to(
            level,
            (from, step),
            (rows, columns),
            (to.as_mut_ptr(), pitch),
        )
    }
}

/// As [`transpose`].
///
/// # Safety
/// `rows` elements from every multiple of the pitch on must be the caller's to write, for so many columns.
pub(crate) unsafe fn transpose_to<A: MicroKernel>(
    level: Level,
    from: (&[A], usize),
    size: (usize, usize),
    to: (*mut A, usize),
) {
    A::dispatch(level, Transpose { from, size, to });
}

struct Transpose<'a, A> {
    from: (&'a [A], usize),
    size: (usize, usize),
    to: (*mut A, usize),
}

impl<A: Copy> Op<A> for Transpose<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Transpose {
            from: (from, step),
            size: (rows, columns),
            to: (to, pitch),
        } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        assert!(from.len() > (rows - 1) * step && from.len() - (rows - 1) * step >= columns);
        // the last squares are as large as the others if they can be, and overlap those
        let begin = |first: usize, all: usize| first.min(all.saturating_sub(V::LANES));
        // along what is next to each other where the steps are large, as those lines may be in no cache
        let by_column = step < pitch;
        let (outer, inner) = match by_column {
            true => (columns, rows),
            false => (rows, columns),
        };
        for a in (0..outer).step_by(V::LANES) {
            for b in (0..inner).step_by(V::LANES) {
                let (row, column) = if by_column { (b, a) } else { (a, b) };
                let (row, column) = (begin(row, rows), begin(column, columns));
                let size = (V::LANES.min(rows - row), V::LANES.min(columns - column));
                let from = from[row * step + column..].as_ptr();
                // SAFETY: level and target are the caller's promise. The square lies inside the rows and
                // columns, and the source was checked to hold all of those.
                unsafe { V::transpose(from, step, to.add(column * pitch + row), pitch, size) };
            }
        }
    }
}
