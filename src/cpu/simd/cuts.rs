//! Rows dealt out to panels, and widened on the way.

use super::{Dispatch, Level, Op, Stored, Vector};
use crate::element::Element;

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
