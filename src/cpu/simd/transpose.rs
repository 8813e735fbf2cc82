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
        const MOST: usize = 16;
        const { assert!(V::LANES <= MOST) };
        let (mut before, mut after) = ([from[0]; MOST * MOST], [from[0]; MOST * MOST]);
        for column in (0..columns).step_by(V::LANES) {
            for row in (0..rows).step_by(V::LANES) {
                let (height, width) = (V::LANES.min(rows - row), V::LANES.min(columns - column));
                let from = &from[row * step + column..];
                let to = &mut to[column * pitch + row..];
                let partial = height < V::LANES || width < V::LANES;
                let (mut source, mut source_step) = (from.as_ptr(), step);
                let (mut target, mut target_step) = (to.as_mut_ptr(), pitch);
                if partial {
                    for i in 0..height {
                        before[i * V::LANES..][..width].copy_from_slice(&from[i * step..][..width]);
                    }
                    (source, source_step) = (before.as_ptr(), V::LANES);
                    (target, target_step) = (after.as_mut_ptr(), V::LANES);
                }
                // SAFETY: the level is the caller's promise. A whole square lies inside the rows
                // and columns, and both slices were checked to hold all of those; else both arrays
                // hold one square.
                unsafe { V::transpose(source, source_step, target, target_step) };
                if partial {
                    for j in 0..width {
                        to[j * pitch..][..height].copy_from_slice(&after[j * V::LANES..][..height]);
                    }
                }
            }
        }
    }
}
