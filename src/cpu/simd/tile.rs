//! The register tile: `c += a * b` over one block of the reduction.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::{Level, MicroKernel, Op, Vector};

/// Longest block of the reduction that is packed and multiplied at a time.
pub(crate) const DEPTH: usize = 256;

/// From one packed row of `a` to the next. A constant, so that a row costs the kernel an address
/// offset and no register; not a power of two, so that rows do not share cache sets.
pub(crate) const ROW: usize = DEPTH + 16;

/// The operands of one register tile.
pub(crate) struct Factors<'a, A> {
    /// Row `i` is `a[i * ROW..][..depth]`.
    pub a: &'a [A],
    /// Step `k` is `b[k * width..][..width]`, with `width = vectors * lanes`.
    pub b: &'a [A],
    /// Row `i` is `c[i * pitch..][..width]`.
    pub c: &'a mut [A],
    pub pitch: usize,
    pub depth: usize,
    /// Whether `c` is read before it is written.
    pub add: bool,
}

/// `c (rows, width) += a (rows, depth) * b (depth, width)` with 1 or 2 vectors a row and at most
/// as many rows as the level's geometry says.
///
/// Every element is one chain of multiply-adds in the order of the reduction, whatever the tile's
/// shape; so the bits of a result do not depend on how it was cut into tiles.
pub(crate) fn multiply<A: MicroKernel>(
    level: Level,
    rows: usize,
    vectors: usize,
    factors: Factors<A>,
) {
    macro_rules! by_rows {
        ($vectors:literal: $($rows:literal)*) => {
            match rows {
                $($rows => A::dispatch(level, Tile::<A, $rows, $vectors>(factors)),)*
                _ => unreachable!("{rows} rows"),
            }
        };
    }
    match vectors {
        1 => by_rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        2 => by_rows!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => unreachable!("{vectors} vectors"),
    }
}

struct Tile<'a, A, const R: usize, const N: usize>(Factors<'a, A>);

impl<A: Copy, const R: usize, const N: usize> Op<A> for Tile<'_, A, R, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        assert!(R <= V::ROWS); // known when compiled: no code for tiles that do not fit
        let Factors {
            a,
            b,
            c,
            pitch,
            depth,
            add,
        } = self.0;
        let width = N * V::LANES;
        assert!(a.len() >= (R - 1) * ROW + depth);
        assert!(b.len() >= depth * width);
        assert!(pitch >= width && c.len() >= (R - 1) * pitch + width);
        let (mut a, mut b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        // SAFETY: the level is the caller's promise. Offsets into `a` stay below
        // (R - 1) * ROW + depth, into `b` below depth * width, into `c` below
        // (R - 1) * pitch + width, which were all just checked.
        unsafe {
            let mut sums = [[V::zero(); N]; R];
            if add {
                for i in 0..R {
                    for j in 0..N {
                        sums[i][j] = V::load(c.add(i * pitch + j * V::LANES));
                    }
                }
            }
            for _ in 0..depth {
                let mut lanes = [V::zero(); N];
                for j in 0..N {
                    lanes[j] = V::load(b.add(j * V::LANES));
                }
                for i in 0..R {
                    let factor = V::splat(*a.add(i * ROW));
                    for j in 0..N {
                        sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
                    }
                }
                a = a.add(1);
                b = b.add(width);
            }
            for i in 0..R {
                for j in 0..N {
                    sums[i][j].store(c.add(i * pitch + j * V::LANES));
                }
            }
        }
    }
}
