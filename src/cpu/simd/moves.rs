//! Rows moved closer together, or further apart, and widened or rounded on the way; and added up.

use super::{Dispatch, Level, Op, Stored, Vector};
use crate::element::{Accumulator, Element};

/// `to[row * pitch + i] = from[row * step + i]` for `i` below `width`, and zeros up to `pitch`.
pub(crate) fn spread_rows<T: Element>(
    level: Level,
    from: (&[T], usize),
    size: (usize, usize),
    to: (&mut [T::Acc], usize),
) {
    <T::Acc as Dispatch<T>>::dispatch(level, Spread { from, size, to });
}

/// As [`spread_rows`] of sums, which are rounded.
pub(crate) fn finish_rows<T: Element>(
    level: Level,
    from: (&[T::Acc], usize),
    size: (usize, usize),
    to: (&mut [T], usize),
) {
    <T::Acc as Dispatch<T>>::dispatch(level, Finish { from, size, to });
}

struct Spread<'a, T: Element> {
    from: (&'a [T], usize),
    size: (usize, usize),
    to: (&'a mut [T::Acc], usize),
}

struct Finish<'a, T: Element> {
    from: (&'a [T::Acc], usize),
    size: (usize, usize),
    to: (&'a mut [T], usize),
}

/// Moves rows, vectors by `$load` and `$store`.
macro_rules! move_rows {
    ($operands:expr, $vector:ident, $load:expr, $store:expr) => {{
        let Self {
            from: (from, step),
            size: (rows, width),
            to: (to, pitch),
        } = $operands;
        assert!(rows > 0 && width <= pitch && rows * pitch <= to.len());
        assert!((rows - 1) * step + width <= from.len());
        let (from, to, end) = (from.as_ptr(), to.as_mut_ptr(), rows * pitch);
        // the last vectors of rows first: what they write past a row is the next one's
        for first in (0..pitch).step_by($vector::LANES).rev() {
            let lanes = width.saturating_sub(first).min($vector::LANES);
            let whole = end
                .saturating_sub(first + $vector::LANES - 1)
                .div_ceil(pitch)
                .min(rows);
            for row in 0..rows {
                // SAFETY: the level is the caller's promise; the lanes of a row, and what is
                // written up to `end`, were just checked.
                unsafe {
                    let value: $vector = $load(lanes, from.wrapping_add(row * step + first));
                    let to = to.add(row * pitch + first);
                    if row < whole {
                        $store(value, to);
                        continue;
                    }
                    let mut rest = [*to; MOST];
                    $store(value, rest.as_mut_ptr());
                    let count = end - (row * pitch + first);
                    std::ptr::copy_nonoverlapping(rest.as_ptr(), to, count);
                }
            }
        }
    }};
}

/// Lanes of a vector, at most.
const MOST: usize = 16;

impl<T: Element> Op<T::Acc, T> for Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(self) {
        const { assert!(V::LANES <= MOST) };
        move_rows!(self, V, <V as Stored<T>>::load_first, V::store);
    }
}

impl<T: Element> Op<T::Acc, T> for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(self) {
        const { assert!(V::LANES <= MOST) };
        move_rows!(
            self,
            V,
            <V as Stored<T::Acc>>::load_first,
            <V as Stored<T>>::store_to
        );
    }
}

/// `to[i] = from[i * step]`
pub(crate) fn pick<A: Accumulator>(level: Level, from: &[A], step: usize, to: &mut [A]) {
    A::dispatch(level, Pick { from, step, to });
}

struct Pick<'a, A> {
    from: &'a [A],
    step: usize,
    to: &'a mut [A],
}

impl<A: Accumulator> Op<A> for Pick<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Pick { from, step, to } = self;
        assert!(to.is_empty() || (to.len() - 1) * step < from.len());
        let whole = to.len() - to.len() % V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            // SAFETY: the level is the caller's promise; the last element was just checked.
            unsafe {
                let from = from.as_ptr().add(i * step);
                let vector = V::zero().load_strided(u32::MAX >> (32 - V::LANES), from, step);
                vector.store(to.as_mut_ptr().add(i));
            }
        }
        for i in whole..to.len() {
            to[i] = from[i * step];
        }
    }
}

/// `sums[i] += parts[i] + parts[i + pitch] + ..`, in that order, of so many parts.
pub(crate) fn add_parts<A: Accumulator>(
    level: Level,
    sums: &mut [A],
    parts: &[A],
    (count, pitch): (usize, usize),
) {
    let add = AddParts {
        sums,
        parts,
        count,
        pitch,
    };
    A::dispatch(level, add);
}

struct AddParts<'a, A> {
    sums: &'a mut [A],
    parts: &'a [A],
    count: usize,
    pitch: usize,
}

impl<A: Accumulator> Op<A> for AddParts<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let AddParts {
            sums,
            parts,
            count,
            pitch,
        } = self;
        assert!(count == 0 || (count - 1) * pitch + sums.len() <= parts.len());
        let whole = sums.len() - sums.len() % V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            // SAFETY: the level is the caller's promise; a vector from `i` on lies in the sums and in
            // every part, as was just checked.
            unsafe {
                let to = sums.as_mut_ptr().add(i);
                let mut sum = V::load(to);
                for part in 0..count {
                    sum = sum.add(V::load(parts.as_ptr().add(part * pitch + i)));
                }
                sum.store(to);
            }
        }
        for i in whole..sums.len() {
            for part in 0..count {
                sums[i] += parts[part * pitch + i];
            }
        }
    }
}
