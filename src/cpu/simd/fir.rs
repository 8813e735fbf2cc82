//! Sums over taps without a reduction over channels: the depthwise kernels.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::{Level, MicroKernel, Op, Vector};

/// `target[i] = sum over taps of weight * source[i + offset]`, whole vectors only.
///
/// The weights are one number a tap, the same for all lanes.
pub(crate) fn fir_positions<A: MicroKernel>(
    level: Level,
    offsets: &[usize],
    weights: &[A],
    source: &[A],
    target: &mut [A],
) {
    A::dispatch(
        level,
        Fir::<A, false> {
            offsets,
            weights,
            source,
            target,
        },
    );
}

/// [`fir_positions`] with weights of one vector a tap: every lane has its own.
pub(crate) fn fir_lanes<A: MicroKernel>(
    level: Level,
    offsets: &[usize],
    weights: &[A],
    source: &[A],
    target: &mut [A],
) {
    A::dispatch(
        level,
        Fir::<A, true> {
            offsets,
            weights,
            source,
            target,
        },
    );
}

struct Fir<'a, A, const LANES: bool> {
    offsets: &'a [usize],
    weights: &'a [A],
    source: &'a [A],
    target: &'a mut [A],
}

impl<A: Copy, const LANES: bool> Op<A> for Fir<'_, A, LANES> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let per_tap = if LANES { V::LANES } else { 1 };
        let reach = self.offsets.iter().max().copied().unwrap_or(0);
        assert!(self.target.len().is_multiple_of(V::LANES));
        assert!(self.weights.len() >= self.offsets.len() * per_tap);
        assert!(reach + self.target.len() <= self.source.len());
        let (end, target, mut at) = (self.target.len(), self.target.as_mut_ptr(), 0);
        while at < end {
            let vectors = (end - at) / V::LANES;
            // SAFETY: the level is the caller's promise; the block ends at or before `end`, and
            // the bounds of all operands up to there were just checked.
            unsafe {
                at += match vectors {
                    8.. => self.block::<V, 8>(at, target),
                    4.. => self.block::<V, 4>(at, target),
                    2.. => self.block::<V, 2>(at, target),
                    _ => self.block::<V, 1>(at, target),
                };
            }
        }
    }
}

impl<A: Copy, const LANES: bool> Fir<'_, A, LANES> {
    /// `N` vectors from position `at`; returns their elements.
    ///
    /// # Safety
    /// The level of `V` must be available, the weights as many as the taps, and
    /// `at + N * V::LANES` at most the target's length and, plus any offset, the source's;
    /// `target` may be written to.
    #[inline(always)]
    unsafe fn block<V: Vector<Scalar = A>, const N: usize>(
        &self,
        at: usize,
        target: *mut A,
    ) -> usize {
        let source = self.source.as_ptr();
        let mut weight = self.weights.as_ptr();
        // SAFETY: this function's own contract.
        unsafe {
            let mut sums = [V::zero(); N];
            for &offset in self.offsets {
                let factor = if LANES {
                    V::load(weight)
                } else {
                    V::splat(*weight)
                };
                weight = weight.add(if LANES { V::LANES } else { 1 });
                for j in 0..N {
                    let value = V::load(source.add(at + offset + j * V::LANES));
                    sums[j] = factor.multiply_add(value, sums[j]);
                }
            }
            for j in 0..N {
                sums[j].store(target.add(at + j * V::LANES));
            }
        }
        N * V::LANES
    }
}

/// `sums[t * lanes + i % lanes] += dy[i] * x[i + offset of tap t]` over all `i`.
///
/// Nothing of `x` past the length of `dy` takes part, so that what stands there cannot reach a sum.
pub(crate) fn correlate<A: MicroKernel>(
    level: Level,
    offsets: &[usize],
    dy: &[A],
    x: &[A],
    sums: &mut [A],
) {
    let lanes = A::geometry(level).lanes;
    // More taps at a time than this need more registers than AVX2 has.
    const TAPS: usize = 12;
    let chunks = offsets.len().div_ceil(TAPS).max(1);
    let each = offsets.len().div_ceil(chunks).max(1);
    for (offsets, sums) in offsets.chunks(each).zip(sums.chunks_mut(each * lanes)) {
        macro_rules! by_taps {
            ($($taps:literal)*) => {
                match offsets.len() {
                    $($taps => {
                        A::dispatch(level, Correlate::<A, $taps> { offsets, dy, x, sums });
                    })*
                    taps => unreachable!("{taps} taps"),
                }
            };
        }
        by_taps!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

struct Correlate<'a, A, const T: usize> {
    offsets: &'a [usize],
    dy: &'a [A],
    x: &'a [A],
    sums: &'a mut [A],
}

impl<A: Copy, const T: usize> Op<A> for Correlate<'_, A, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let reach = self.offsets.iter().max().copied().unwrap_or(0);
        let length = self.dy.len();
        assert!(self.offsets.len() == T && reach + length <= self.x.len());
        assert!(self.sums.len() >= T * V::LANES);
        let whole = length - length % V::LANES;
        let (dy, target) = (self.dy.as_ptr(), self.sums.as_mut_ptr());
        // SAFETY: the level is the caller's promise. Whole vectors end at `whole`, the masked one
        // at `length`; `dy` and, from every offset, `x` hold that many, `sums` T vectors.
        unsafe {
            let mut x = [self.x.as_ptr(); T];
            let mut sums = [V::zero(); T];
            for t in 0..T {
                x[t] = x[t].add(self.offsets[t]);
                sums[t] = V::load(target.add(t * V::LANES));
            }
            let mut at = 0;
            while at < whole {
                let factor = V::load(dy.add(at));
                for t in 0..T {
                    sums[t] = factor.multiply_add(V::load(x[t].add(at)), sums[t]);
                }
                at += V::LANES;
            }
            if at < length {
                let mask = (1 << (length - at)) - 1;
                let factor = V::zero().load_masked(mask, dy.add(at));
                for t in 0..T {
                    let value = V::zero().load_masked(mask, x[t].add(at));
                    sums[t] = factor.multiply_add(value, sums[t]);
                }
            }
            for t in 0..T {
                sums[t].store(target.add(t * V::LANES));
            }
        }
    }
}
