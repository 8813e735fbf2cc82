//! One filter over a plane, row after row: every vector of the source is read once for all target
//! rows that it reaches, whose sums (or gradients) are kept in a ring of registers.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::ops::Range;

use super::lines::{Block, Lines};
use super::{Level, MicroKernel, Op, Vector};

/// Rows of a filter that a kernel is there for.
pub(crate) const RING_ROWS: [usize; 5] = [2, 3, 4, 5, 7];

/// A plane of the source and the target rows that are wanted.
#[derive(Clone)]
pub(crate) struct Plane<'a, A> {
    /// From the plane's first element on.
    pub source: &'a [A],
    /// Rows of the source, and steps in memory from one to the next.
    pub height: usize,
    pub row: usize,
    /// Row of the source that target row 0 reads first.
    pub first: isize,
    /// Target rows.
    pub rows: Range<usize>,
    /// Rows of the filter.
    pub taps: usize,
}

impl<A> Plane<'_, A> {
    /// Checks that every source row lies in memory as far as the lines read it.
    fn assert_inside(&self, lines: &Lines) {
        if self.height == 0 {
            return; // nothing is read
        }
        assert!(lines.size <= self.source.len());
        assert!((self.height - 1) * self.row <= self.source.len() - lines.size);
    }

    /// The source rows that are read, inside the source or not.
    fn reads(&self) -> Range<isize> {
        let first = self.rows.start as isize + self.first;
        first..first + (self.rows.len() + self.taps - 1) as isize
    }
}

/// `target[t][j] = sum over rows i and columns q of weights[q][taps - 1 - i] * source`, for whole
/// vectors; row `t` of the target begins at `(t - rows.start) * width`.
pub(crate) fn ring<A: MicroKernel>(
    level: Level,
    lines: &Lines,
    blocks: &[Block],
    plane: Plane<A>,
    weights: &[A],
    (target, width): (&mut [A], usize),
) {
    macro_rules! by_taps {
        ($($taps:literal)*) => {
            match plane.taps {
                $($taps => A::dispatch(
                    level,
                    Ring::<A, $taps> { lines, blocks, plane, weights, target, width },
                ),)*
                taps => unreachable!("{taps} rows of taps"),
            }
        };
    }
    by_taps!(2 3 4 5 7);
}

struct Ring<'a, A, const K: usize> {
    lines: &'a Lines,
    blocks: &'a [Block],
    plane: Plane<'a, A>,
    weights: &'a [A],
    target: &'a mut [A],
    width: usize,
}

impl<A: Copy, const K: usize> Op<A> for Ring<'_, A, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(mut self) {
        let Some(end) = self.blocks.last().map(|b| b.first + b.vectors * V::LANES) else {
            return;
        };
        let begin = self.blocks[0].first;
        assert!(self.plane.taps == K && self.lines.lanes == V::LANES && self.lines.step == 1);
        assert!(self.weights.len() >= self.lines.columns.len() * K);
        assert!(!self.plane.rows.is_empty());
        let last = (self.plane.rows.len() - 1) * self.width;
        assert!(self.target.len() >= last + end - begin);
        self.plane.assert_inside(self.lines);
        // what the last block writes past a row is the next row's, whose first block comes later
        for block in self.blocks.iter().rev() {
            // SAFETY: the level is the caller's promise; what is read and written was just checked.
            unsafe {
                match (block.vectors, block.masks.is_none()) {
                    (4, true) => self.block::<V, 4, true>(block, begin),
                    (4, false) => self.block::<V, 4, false>(block, begin),
                    (2, true) => self.block::<V, 2, true>(block, begin),
                    (2, false) => self.block::<V, 2, false>(block, begin),
                    (_, true) => self.block::<V, 1, true>(block, begin),
                    (_, false) => self.block::<V, 1, false>(block, begin),
                }
            }
        }
    }
}

impl<A: Copy, const K: usize> Ring<'_, A, K> {
    /// # Safety
    /// The level of `V` must be available, and the checks of `run` must hold.
    #[inline(always)]
    unsafe fn block<V: Vector<Scalar = A>, const N: usize, const FULL: bool>(
        &mut self,
        block: &Block,
        begin: usize,
    ) {
        if N > 1 && K * N > 2 * V::ROWS {
            unreachable!("blocks are cut to the ring's size"); // known when compiled
        }
        let Plane {
            source,
            height,
            row,
            ..
        } = self.plane;
        let masks = block
            .masks
            .map_or(&[][..], |first| &self.lines.masks[first..]);
        let mut target = self.target.as_mut_ptr().wrapping_add(block.first - begin);
        // SAFETY: by this function's contract; lanes outside the masks are not accessed.
        unsafe {
            let mut sums = [[V::zero(); N]; K];
            for (i, y) in self.plane.reads().enumerate() {
                if (0..height as isize).contains(&y) {
                    let from = source.as_ptr().wrapping_add(y as usize * row + block.first);
                    let mut weights = self.weights.as_ptr();
                    for (q, &column) in self.lines.columns.iter().enumerate() {
                        let from = from.wrapping_offset(column);
                        let mut lanes = [V::zero(); N];
                        for j in 0..N {
                            let from = from.wrapping_add(j * V::LANES);
                            lanes[j] = match FULL {
                                true => V::load(from),
                                false => V::zero().load_masked(masks[q * N + j], from),
                            };
                        }
                        for t in 0..K {
                            let factor = V::splat(*weights.add(t));
                            for j in 0..N {
                                sums[t][j] = factor.multiply_add(lanes[j], sums[t][j]);
                            }
                        }
                        weights = weights.add(K);
                    }
                }
                if i + 1 >= K {
                    for j in 0..N {
                        sums[0][j].store(target.wrapping_add(j * V::LANES));
                    }
                    target = target.wrapping_add(self.width);
                }
                for t in 1..K {
                    sums[t - 1] = sums[t];
                }
                sums[K - 1] = [V::zero(); N];
            }
        }
    }
}

/// Columns that [`ring_gradient`] takes at a time.
pub(crate) fn ring_columns(taps: usize, rows: usize) -> usize {
    if rows < 8 { (8 / taps).max(1) } else { 3 }
}

/// `sums[q][taps - 1 - i][lane] += sum of dy * source`, the lanes of a vector apart; `dy` begins
/// at target row 0 and its rows follow one another.
pub(crate) fn ring_gradient<A: MicroKernel>(
    level: Level,
    lines: &Lines,
    plane: Plane<A>,
    dy: &[A],
    columns: Range<usize>,
    sums: &mut [A],
) {
    macro_rules! kernels {
        ($(($taps:literal, $columns:literal))*) => {
            match (plane.taps, columns.len()) {
                $(($taps, $columns) => A::dispatch(
                    level,
                    RingGradient::<A, $taps, $columns> { lines, plane, dy, columns, sums },
                ),)*
                (taps, columns) => unreachable!("{taps} rows, {columns} columns of taps"),
            }
        };
    }
    kernels!(
        (2, 1)(3, 1)(4, 1)(5, 1)(7, 1)(2, 2)(3, 2)(4, 2)(5, 2)(7, 2)(2, 3)(3, 3)(4, 3)(5, 3)(7, 3)(
            2, 4
        )
    );
}

struct RingGradient<'a, A, const K: usize, const Q: usize> {
    lines: &'a Lines,
    plane: Plane<'a, A>,
    dy: &'a [A],
    columns: Range<usize>,
    sums: &'a mut [A],
}

impl<A: Copy, const K: usize, const Q: usize> Op<A> for RingGradient<'_, A, K, Q> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let lines = self.lines;
        let (width, rows) = (lines.width, self.plane.rows.clone());
        assert!(self.plane.taps == K && lines.lanes == V::LANES && lines.step == 1);
        assert!(self.columns.len() == Q && self.columns.end <= lines.columns.len());
        assert!(self.sums.len() >= K * Q * V::LANES && self.dy.len() >= rows.end * width);
        assert!(lines.blocks.iter().all(|block| block.vectors == 1));
        self.plane.assert_inside(lines);
        let all = u32::MAX >> (32 - V::LANES);
        let height = self.plane.height as isize;
        let target = self.sums.as_mut_ptr();
        // SAFETY: the level is the caller's promise. Source rows inside the plane and `dy` rows of
        // `rows` were just checked to lie in memory, and lanes outside the masks are not accessed.
        unsafe {
            let mut sums = [[V::zero(); Q]; K];
            for q in 0..Q {
                for t in 0..K {
                    sums[t][q] = V::load(target.add((q * K + t) * V::LANES));
                }
            }
            for block in &lines.blocks {
                let tail = u32::MAX >> (32 - (width - block.first).min(V::LANES));
                let mut masks = [all; Q];
                for q in 0..Q {
                    masks[q] = block
                        .masks
                        .map_or(all, |first| lines.masks[first + self.columns.start + q]);
                }
                let mut columns = [0; Q];
                for q in 0..Q {
                    columns[q] = lines.columns[self.columns.start + q] + block.first as isize;
                }
                // slot t holds the gradient of the target row that reads this one with its row
                // of taps K - 1 - t
                let mut ring = [V::zero(); K];
                for (i, y) in self.plane.reads().enumerate() {
                    for t in 1..K {
                        ring[t - 1] = ring[t];
                    }
                    if i < rows.len() {
                        let at = (rows.start + i) * width + block.first;
                        ring[K - 1] = V::zero().load_masked(tail, self.dy.as_ptr().add(at));
                    }
                    if !(0..height).contains(&y) {
                        continue;
                    }
                    let from = self.plane.source.as_ptr();
                    let from = from.wrapping_add(y as usize * self.plane.row);
                    let mut x = [V::zero(); Q];
                    for q in 0..Q {
                        x[q] = V::zero().load_masked(masks[q], from.wrapping_offset(columns[q]));
                    }
                    // a product with no row must not be taken, lest 0 * NaN reach a sum
                    if i + 1 >= K && i < rows.len() {
                        for t in 0..K {
                            for q in 0..Q {
                                sums[t][q] = ring[t].multiply_add(x[q], sums[t][q]);
                            }
                        }
                        continue;
                    }
                    for t in 0..K {
                        let there = i + t + 1 >= K && i + t + 1 < K + rows.len();
                        for q in 0..Q {
                            if there {
                                sums[t][q] = ring[t].multiply_add(x[q], sums[t][q]);
                            }
                        }
                    }
                }
            }
            for q in 0..Q {
                for t in 0..K {
                    sums[t][q].store(target.add((q * K + t) * V::LANES));
                }
            }
        }
    }
}
