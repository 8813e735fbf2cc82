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
        for row in (0..rows).step_by(V::LANES) {
            for column in (0..columns).step_by(V::LANES) {
                let size = (V::LANES.min(rows - row), V::LANES.min(columns - column));
                let from = from[row * step + column..].as_ptr();
                let to = to[column * pitch + row..].as_mut_ptr();
                // SAFETY: the level is the caller's promise. The square lies inside the rows and
                // columns, and both slices were checked to hold all of those.
                unsafe { V::transpose(from, step, to, pitch, size) };
            }
        }
    }
}
