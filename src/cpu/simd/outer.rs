//! Sums of outer products straight from both operands: `c[i][lane] += a[step][i] * b[step][lane]`.
//!
//! With the channels next to each other in memory, a position of one operand is a row of factors
//! and a position of the other a row of lanes, so that neither is packed.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::tile::{UNROLLED, after_row, most_rows};
use super::{Level, MicroKernel, Op, Vector};

/// Steps at even distances in both operands, with the same lanes.
#[derive(Clone, Copy)]
struct Segment {
    a: usize,
    b: isize,
    count: usize,
    /// The lanes of each vector that are read; the others are zeros.
    masks: [u32; 2],
}

/// The steps of a sum.
#[derive(Default)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    a_step: usize,
    b_step: usize,
    lanes: usize,
    /// One past the last index of `a` that a step begins at, and the range that is read of `b`.
    a_end: usize,
    b_range: (isize, isize),
}

impl Segments {
    /// Forgets everything; the steps that follow are so far apart in `a` and `b`.
    pub fn reset(&mut self, (a_step, b_step): (usize, usize), lanes: usize) {
        self.list.clear();
        (self.a_step, self.b_step, self.lanes) = (a_step, b_step, lanes);
        self.a_end = 0;
        self.b_range = (isize::MAX, isize::MIN);
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `count` steps whose rows begin at `a` and `b`, with the lanes of `mask` inside.
    pub fn push(&mut self, a: usize, b: isize, count: usize, mask: u32) {
        if count == 0 || mask == 0 {
            return;
        }
        self.a_end = self.a_end.max(a + (count - 1) * self.a_step + 1);
        let first = b + mask.trailing_zeros() as isize;
        let last = b + ((count - 1) * self.b_step + mask.ilog2() as usize) as isize;
        self.b_range = (self.b_range.0.min(first), self.b_range.1.max(last + 1));
        let one = u32::MAX >> (32 - self.lanes);
        let masks = [mask & one, mask.checked_shr(self.lanes as u32).unwrap_or(0)];
        if let Some(before) = self.list.last_mut()
            && before.masks == masks
            && before.a + before.count * self.a_step == a
            && before.b + (before.count * self.b_step) as isize == b
        {
            before.count += count;
            return;
        }
        self.list.push(Segment { a, b, count, masks });
    }
}

/// The operands of one register tile.
pub(crate) struct OuterProduct<'a, A> {
    pub segments: &'a Segments,
    pub a: &'a [A],
    pub b: &'a [A],
    /// What is added to where the segments begin in `b`.
    pub shift: usize,
    /// Row `i` is `c[i * pitch..]`.
    pub c: &'a mut [A],
    pub pitch: usize,
}

/// `c (rows, vectors) += sum over steps of a (rows) * b (vectors)`, 1 or 2 vectors and at most as many
/// rows as the level's geometry says.
///
/// Every element is one chain of multiply-adds in the order of the steps.
pub(crate) fn outer_product<A: MicroKernel>(
    level: Level,
    rows: usize,
    vectors: usize,
    product: OuterProduct<A>,
) {
    register_tiles!(A, level, Outer, (rows, vectors), product);
}

struct Outer<'a, A, const R: usize, const N: usize>(OuterProduct<'a, A>);

impl<A: Copy, const R: usize, const N: usize> Op<A> for Outer<'_, A, R, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        assert!(R <= most_rows::<V>(N)); // known when compiled: no code for tiles that do not fit
        let OuterProduct {
            segments,
            a,
            b,
            shift,
            c,
            pitch,
        } = self.0;
        assert!(!segments.is_empty());
        let (low, high) = segments.b_range;
        let shift = shift as isize;
        assert!(segments.lanes == V::LANES && a.len() + 1 >= segments.a_end + R);
        assert!(low + shift >= 0 && high + shift <= b.len() as isize);
        assert!(c.len() >= (R - 1) * pitch + N * V::LANES);
        let all = u32::MAX >> (32 - V::LANES);
        let (a_step, b_step) = (segments.a_step, segments.b_step);
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        // SAFETY: the level is the caller's promise. `Segments::push` kept the furthest that steps
        // reach in `a` and, where their masks have a lane, in `b`; those and the last row of `c`
        // were just checked.
        unsafe {
            let mut sums = [[V::zero(); N]; R];
            for i in 0..R {
                for j in 0..N {
                    sums[i][j] = V::load(c.add(i * pitch + j * V::LANES));
                }
            }
            for segment in &segments.list {
                let a = a.add(segment.a);
                let b = b.wrapping_offset(segment.b + shift);
                let (a, b) = ((a, a_step), (b, b_step));
                sums = match segment.masks[..N].iter().all(|&mask| mask == all) {
                    true => steps::<V, R, N, false>(segment, a, b, sums),
                    false => steps::<V, R, N, true>(segment, a, b, sums),
                };
            }
            for i in 0..R {
                for j in 0..N {
                    sums[i][j].store(c.add(i * pitch + j * V::LANES));
                }
            }
        }
    }
}

/// One segment, from where it begins.
///
/// # Safety
/// The level of `V` must be available, and memory valid where the segment reaches: `R` elements a
/// step of `a`, and the lanes of the masks of `b`.
#[inline(always)]
unsafe fn steps<V: Vector, const R: usize, const N: usize, const MASKED: bool>(
    segment: &Segment,
    (mut a, a_step): (*const V::Scalar, usize),
    (mut b, b_step): (*const V::Scalar, usize),
    mut sums: [[V; N]; R],
) -> [[V; N]; R] {
    let mut left = segment.count;
    // SAFETY: by this function's contract.
    unsafe {
        while !MASKED && left >= UNROLLED {
            for _ in 0..UNROLLED {
                step::<V, R, N, MASKED>(a, b, segment.masks, &mut sums);
                (a, b) = (a.wrapping_add(a_step), b.wrapping_add(b_step));
            }
            left -= UNROLLED;
        }
        for _ in 0..left {
            step::<V, R, N, MASKED>(a, b, segment.masks, &mut sums);
            (a, b) = (a.wrapping_add(a_step), b.wrapping_add(b_step));
        }
    }
    sums
}

/// One step of a segment.
///
/// # Safety
/// As [`steps`].
#[inline(always)]
unsafe fn step<V: Vector, const R: usize, const N: usize, const MASKED: bool>(
    a: *const V::Scalar,
    b: *const V::Scalar,
    masks: [u32; 2],
    sums: &mut [[V; N]; R],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut lanes = [V::zero(); N];
        for j in 0..N {
            let from = b.wrapping_add(j * V::LANES);
            lanes[j] = match MASKED {
                true => V::zero().load_masked(masks[j], from),
                false => V::load(from),
            };
        }
        for i in 0..R {
            let factor = V::splat(*a.wrapping_add(i));
            for j in 0..N {
                sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
            }
            after_row::<V, R, N>();
        }
    }
}
