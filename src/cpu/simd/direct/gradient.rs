//! The gradient of [`super::Direct`]: sums over positions of products of both operands.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::super::lines::{Lines, Read};
use super::super::{Level, MicroKernel, Op, Vector};

/// The operands of [`direct_gradient`].
pub(crate) struct DirectGradient<'a, A> {
    pub lines: &'a Lines,
    /// Range of the lines' rows.
    pub rows: std::ops::Range<usize>,
    /// Channels of `plane` elements each.
    pub x: &'a [A],
    pub plane: usize,
    /// Target channels, of as many positions as the lines have, `dy_plane` apart.
    pub dy: [&'a [A]; 4],
    /// Source channel and tap.
    pub pairs: &'a [(usize, usize)],
    /// `(height, places)`, one vector each, where `places` are the [`gradient_places`] of the pairs;
    /// added to.
    pub sums: &'a mut [A],
}

/// Target channels and pairs of a source channel and a tap that [`direct_gradient`] takes at a
/// time: 1, 2 or 4 channels, and the second number or fewer pairs.
pub(crate) fn gradient_tile(channels: usize, rows: usize) -> (usize, usize) {
    match channels {
        _ if rows < 8 => (channels.min(2), 4),
        1 => (1, 9),
        2 => (2, 9),
        _ => (4, 6),
    }
}

/// Numbers of pairs that a kernel is there for.
pub(in super::super) const PLACES: [usize; 6] = [1, 2, 3, 4, 6, 9];

/// The places of the kernel for so many pairs, which may be a few more.
pub(crate) fn gradient_places(pairs: usize) -> usize {
    PLACES.into_iter().find(|&n| n >= pairs).unwrap_or(9)
}

/// `sums[m][pair][lane] += sum of dy[m] * x` over the rows, lanes of a vector apart.
pub(crate) fn direct_gradient<A: MicroKernel>(
    level: Level,
    height: usize,
    operands: DirectGradient<A>,
) {
    macro_rules! kernels {
        ($(($height:literal, $pairs:literal))*) => {
            match (height, gradient_places(operands.pairs.len())) {
                $(($height, $pairs) if operands.lines.step == 1 => {
                    A::dispatch(level, Gradient::<A, $height, $pairs, false>(operands));
                }
                ($height, $pairs) => {
                    A::dispatch(level, Gradient::<A, $height, $pairs, true>(operands));
                })*
                (height, pairs) => unreachable!("{height} target channels, {pairs} pairs"),
            }
        };
    }
    kernels!(
        (1, 1)(1, 2)(1, 3)(1, 4)(1, 6)(1, 9)(2, 1)(2, 2)(2, 3)(2, 4)(2, 6)(2, 9)(4, 1)(4, 2)(4, 3)(
            4, 4
        )(4, 6)
    );
}

/// A kernel of its own for `STRIDED` reads, whose length would keep the loops from being unrolled.
struct Gradient<'a, A, const M: usize, const K: usize, const STRIDED: bool>(DirectGradient<'a, A>);

impl<A: Copy, const M: usize, const K: usize, const STRIDED: bool> Op<A>
    for Gradient<'_, A, M, K, STRIDED>
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let DirectGradient {
            lines,
            rows,
            x,
            plane,
            dy,
            pairs,
            sums: target,
        } = self.0;
        let (width, step) = (lines.width, lines.step);
        let channels = pairs.iter().map(|p| p.0).max().unwrap_or(0);
        assert!(!pairs.is_empty() && pairs.len() <= K && lines.lanes == V::LANES);
        assert!(pairs.iter().all(|p| p.1 < lines.taps.len()));
        let range = &lines.rows[rows.clone()];
        lines.assert_inside(range, channels * plane, x.len());
        for m in 0..M {
            assert!(dy[m].len() >= rows.end * width);
        }
        assert!(target.len() >= M * K * V::LANES);
        assert!(lines.blocks.iter().all(|block| block.vectors == 1));
        // places past the last pair repeat it
        let pair = |k: usize| pairs[k.min(pairs.len() - 1)];
        let tap: [Read; K] = std::array::from_fn(|k| lines.taps[pair(k).1]);
        let all = u32::MAX >> (32 - V::LANES);
        // SAFETY: the level is the caller's promise. Rows were just checked to read inside `x` in
        // every channel of the pairs, where the masks of `Lines` allow it and their class has the
        // tap; `dy` holds all positions of the rows, and `target` all vectors.
        unsafe {
            let offset: [isize; K] =
                std::array::from_fn(|k| (pair(k).0 * plane) as isize + tap[k].offset);
            let dy: [*const A; M] = std::array::from_fn(|i| dy[i].as_ptr());
            let mut sums = [[V::zero(); K]; M];
            for i in 0..M {
                for k in 0..K {
                    sums[i][k] = V::load(target.as_ptr().add((i * K + k) * V::LANES));
                }
            }
            for block in &lines.blocks {
                let tail = u32::MAX >> (32 - (width - block.first).min(V::LANES));
                let mut inside = [all; K];
                if let Some(first) = block.masks {
                    for k in 0..K {
                        inside[k] = lines.masks[first + tap[k].column];
                    }
                }
                for (r, row) in rows.clone().zip(range) {
                    let class = &lines.classes[row.class];
                    let start = row.start + (block.first * step) as isize;
                    let x = x.as_ptr().wrapping_offset(start);
                    let x: [*const A; K] = std::array::from_fn(|k| x.wrapping_offset(offset[k]));
                    let at = r * width + block.first;
                    let dy: [*const A; M] = std::array::from_fn(|i| dy[i].wrapping_add(at));
                    if class.whole && block.masks.is_none() {
                        products::<V, M, K, false, STRIDED>(dy, all, x, step, inside, &mut sums);
                        continue;
                    }
                    let mut masks = inside;
                    if !class.whole {
                        for k in 0..K {
                            if !class.active[tap[k].tap] {
                                masks[k] = 0;
                            }
                        }
                    }
                    products::<V, M, K, true, STRIDED>(dy, tail, x, step, masks, &mut sums);
                }
            }
            for i in 0..M {
                for k in 0..K {
                    sums[i][k].store(target.as_mut_ptr().add((i * K + k) * V::LANES));
                }
            }
        }
    }
}

/// `sums[i][k] += dy[i] * x[k]` for one vector of positions, those of the masks.
///
/// # Safety
/// The level of `V` must be available, and memory valid at the lanes of the masks.
#[inline(always)]
unsafe fn products<
    V: Vector,
    const M: usize,
    const K: usize,
    const MASKED: bool,
    const STRIDED: bool,
>(
    dy: [*const V::Scalar; M],
    tail: u32,
    x: [*const V::Scalar; K],
    step: usize,
    masks: [u32; K],
    sums: &mut [[V; K]; M],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut factors = [V::zero(); M];
        for i in 0..M {
            factors[i] = match MASKED {
                true => V::zero().load_masked(tail, dy[i]),
                false => V::load(dy[i]),
            };
        }
        let mut values = [V::zero(); K];
        for k in 0..K {
            values[k] = match (STRIDED, MASKED) {
                (true, _) => V::zero().load_strided(masks[k], x[k], step),
                (false, true) => V::zero().load_masked(masks[k], x[k]),
                (false, false) => V::load(x[k]),
            };
        }
        for k in 0..K {
            for i in 0..M {
                sums[i][k] = factors[i].multiply_add(values[k], sums[i][k]);
            }
        }
    }
}
