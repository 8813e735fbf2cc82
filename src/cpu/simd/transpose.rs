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
    A::dispatch(
        level,
        Transpose {
            from,
            step,
            rows,
            columns,
            to,
            pitch,
        },
    );
}

struct Transpose<'a, A> {
    from: &'a [A],
    step: usize,
    rows: usize,
    columns: usize,
    to: &'a mut [A],
    pitch: usize,
}

impl<A: Copy> Op<A> for Transpose<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Transpose {
            from,
            step,
            rows,
            columns,
            to,
            pitch,
        } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        assert!(from.len() > (rows - 1) * step && from.len() - (rows - 1) * step >= columns);
        assert!(to.len() > (columns - 1) * pitch && to.len() - (columns - 1) * pitch >= rows);
        let whole = |n: usize| n - n % V::LANES;
        for column in (0..whole(columns)).step_by(V::LANES) {
            for row in (0..whole(rows)).step_by(V::LANES) {
                let from = &from[row * step + column..];
                let to = &mut to[column * pitch + row..];
                // SAFETY: the level is the caller's promise; the square lies inside the rows and
                // columns, and both slices were checked to hold all of those.
                unsafe { V::transpose(from.as_ptr(), step, to.as_mut_ptr(), pitch) };
            }
        }
        for column in 0..columns {
            let first = if column < whole(columns) {
                whole(rows)
            } else {
                0
            };
            for row in first..rows {
                to[column * pitch + row] = from[row * step + column];
            }
        }
    }
}
