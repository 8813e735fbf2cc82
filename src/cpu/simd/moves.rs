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

/// How the elements of a row are dealt out to panels, vector by vector.
pub(crate) struct Cuts {
    /// Where each vector is in a row, and where it goes.
    vectors: Vec<(usize, usize)>,
    lanes: usize,
    /// One past the last element of a row, and past the last that is written for it.
    end: usize,
    reach: usize,
    /// From one row of a panel to the next.
    pitch: usize,
}

impl Cuts {
    /// Elements `starts[p]..starts[p + 1]`, at most `pitch`, begin at `p * panel` for the first row.
    pub fn new(lanes: usize, starts: &[usize], pitch: usize, panel: usize) -> Self {
        let mut cuts = Cuts {
            vectors: Vec::new(),
            lanes,
            end: 0,
            reach: 0,
            pitch,
        };
        for (p, piece) in starts.windows(2).enumerate() {
            for from in (piece[0]..piece[1]).step_by(lanes) {
                let to = p * panel + (from - piece[0]);
                cuts.vectors.push((from, to));
                cuts.reach = cuts.reach.max(to + lanes);
            }
            cuts.end = piece[1];
        }
        cuts
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.end
    }
}

/// Deals out rows that are `step` apart. Behind the last row of every panel less than a vector gets any
/// value, and so does what is behind a piece until the next row is written.
pub(crate) fn cut_rows<T: Element>(
    level: Level,
    from: (&[T], usize),
    rows: usize,
    cuts: &Cuts,
    to: &mut [T::Acc],
) {
    assert!(rows == 0 || (rows - 1) * cuts.pitch + cuts.reach <= to.len());
    // SAFETY: all that is written lies in `to`, as was just checked.
    unsafe { cut_rows_to(level, from, rows, cuts, to.as_mut_ptr()) };
}

/// As [`cut_rows`], to memory that others may share.
///
/// # Safety
/// Memory must be valid for writes where the vectors of all rows go, and no other thread may use it.
pub(crate) unsafe fn cut_rows_to<T: Element>(
    level: Level,
    from: (&[T], usize),
    rows: usize,
    cuts: &Cuts,
    to: *mut T::Acc,
) {
    let cut = Cut {
        from,
        rows,
        cuts,
        to,
    };
    <T::Acc as Dispatch<T>>::dispatch(level, cut);
}

struct Cut<'a, T: Element> {
    from: (&'a [T], usize),
    rows: usize,
    cuts: &'a Cuts,
    to: *mut T::Acc,
}

impl<T: Element> Op<T::Acc, T> for Cut<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(self) {
        let Cut {
            from: (from, step),
            rows,
            cuts,
            to,
        } = self;
        if rows == 0 || cuts.end == 0 {
            return;
        }
        assert!(cuts.lanes == V::LANES);
        assert!((rows - 1) * step + cuts.end <= from.len());
        for row in 0..rows {
            let left = from.len() - row * step;
            // SAFETY: the level, and memory at `to`, are the callers' promise. The vectors of a row begin
            // before its end, which lies in `from`, as was just checked for the last row; the part of
            // a vector that is left there is all that is read.
            unsafe {
                let from = from.as_ptr().add(row * step);
                let to = to.add(row * cuts.pitch);
                if cuts.end + V::LANES <= left {
                    for &(first, place) in &cuts.vectors {
                        V::load_from(from.add(first)).store(to.add(place));
                    }
                    continue;
                }
                for &(first, place) in &cuts.vectors {
                    let lanes = V::LANES.min(left - first);
                    V::load_first(lanes, from.add(first)).store(to.add(place));
                }
            }
        }
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
