//! Rows of a plane moved closer together, or further apart.

use super::{Level, MicroKernel, Op, Vector};

/// `to[row * pitch + i] = from[row * step + i]` for `i` below `width`, and zeros up to `pitch`.
pub(crate) fn spread_rows<A: MicroKernel>(
    level: Level,
    (from, step): (&[A], usize),
    (rows, width): (usize, usize),
    (to, pitch): (&mut [A], usize),
) {
    A::dispatch(
        level,
        Spread {
            from,
            step,
            rows,
            width,
            to,
            pitch,
        },
    );
}

struct Spread<'a, A> {
    from: &'a [A],
    step: usize,
    rows: usize,
    width: usize,
    to: &'a mut [A],
    pitch: usize,
}

impl<A: Copy> Op<A> for Spread<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Spread {
            from,
            step,
            rows,
            width,
            to,
            pitch,
        } = self;
        assert!(rows > 0 && width <= pitch && rows * pitch <= to.len());
        assert!((rows - 1) * step + width <= from.len());
        let (from_start, to_start) = (from.as_ptr(), to.as_mut_ptr());
        let end = rows * pitch;
        // the last vectors of rows first: what they write past a row is the next one's
        for first in (0..pitch).step_by(V::LANES).rev() {
            let mask = super::lines::mask(&(0..width), first, V::LANES);
            let whole = end
                .saturating_sub(first + V::LANES - 1)
                .div_ceil(pitch)
                .min(rows);
            for row in 0..rows {
                let (from, to) = (row * step + first, row * pitch + first);
                // SAFETY: the level is the caller's promise; the lanes of the mask, and what is
                // written up to `end`, were just checked.
                unsafe {
                    let value = V::zero().load_masked(mask, from_start.wrapping_add(from));
                    if row < whole {
                        value.store(to_start.wrapping_add(to));
                        continue;
                    }
                    let lanes = [value];
                    let lanes = lanes.as_ptr().cast::<A>();
                    std::ptr::copy_nonoverlapping(lanes, to_start.add(to), end - to);
                }
            }
        }
    }
}
