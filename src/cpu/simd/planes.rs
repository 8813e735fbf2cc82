//! Filters over planes whose rows lie one after the other with zeros between them: every tap is one
//! constant offset, so that the positions of a whole plane fill up vectors whatever the rows.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use super::direct::{PLACES, gradient_places};
use super::{Level, MicroKernel, Op, Vector};

/// One tap of a reduction over channels.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// What position 0 reads of a channel.
    pub source: usize,
    /// Number of its weights.
    pub weight: usize,
}

/// The operands of [`plane_filters`].
pub(crate) struct PlaneFilters<'a, A> {
    pub steps: &'a [Step],
    /// Channels of so many elements.
    pub source: &'a [A],
    pub plane: usize,
    /// `(channels, taps, height)`
    pub weights: &'a [A],
    pub taps: usize,
    /// Rows of whole vectors.
    pub target: &'a mut [A],
    pub pitch: usize,
    pub vectors: usize,
}

/// `target[m][i] = sum over channels and steps of weights[weight][m] * source[source + i]` for
/// `height` rows, one of [`super::HEIGHTS`].
///
/// Every element is one chain of multiply-adds in the order of the channels and steps.
pub(crate) fn plane_filters<A: MicroKernel>(
    level: Level,
    height: usize,
    operands: PlaneFilters<A>,
) {
    macro_rules! by_height {
        ($($height:literal)*) => {
            match height {
                $($height => A::dispatch(level, Filters::<A, $height>(operands)),)*
                _ => unreachable!("{height} target channels"),
            }
        };
    }
    by_height!(1 2 3 4 6 8);
}

struct Filters<'a, A, const M: usize>(PlaneFilters<'a, A>);

impl<A: Copy, const M: usize> Op<A> for Filters<'_, A, M> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let PlaneFilters {
            steps,
            source,
            plane,
            weights,
            taps,
            target,
            pitch,
            vectors,
        } = self.0;
        let length = vectors * V::LANES;
        let channels = weights.len() / (taps * M);
        assert!(channels * plane <= source.len());
        for step in steps {
            assert!(step.source + length <= plane && step.weight < taps);
        }
        assert!(length <= pitch && M * pitch <= target.len());
        let of = Channels {
            count: channels,
            plane,
            weights: taps * M,
        };
        let (source, weights) = (source.as_ptr(), weights.as_ptr());
        let blocks = vectors.div_ceil(vectors_of::<V>(M));
        let mut at = 0;
        for block in 0..blocks {
            // of nearly equal size
            let count = (vectors - at).div_ceil(blocks - block);
            // SAFETY: the level is the caller's promise; what the steps read for all vectors, and
            // the rows of the target, were just checked.
            unsafe {
                let source = source.add(at * V::LANES);
                let target = (target.as_mut_ptr().add(at * V::LANES), pitch);
                match count {
                    4 => filter::<V, M, 4>(&of, steps, source, weights, target),
                    3 => filter::<V, M, 3>(&of, steps, source, weights, target),
                    2 => filter::<V, M, 2>(&of, steps, source, weights, target),
                    _ => filter::<V, M, 1>(&of, steps, source, weights, target),
                }
            }
            at += count;
        }
    }
}

/// Vectors that are computed together for so many rows.
const fn vectors_of<V: Vector>(height: usize) -> usize {
    match 2 * V::ROWS / height {
        0 => 1,
        n if n > 4 => 4,
        n => n,
    }
}

/// Channels, and what one has of source and weights.
struct Channels {
    count: usize,
    plane: usize,
    weights: usize,
}

/// # Safety
/// The level of `V` must be available, and `N` vectors valid where the steps read in every channel,
/// in `M` rows of the target; the weights must be there.
#[inline(always)]
unsafe fn filter<V: Vector, const M: usize, const N: usize>(
    channels: &Channels,
    steps: &[Step],
    mut source: *const V::Scalar,
    mut weights: *const V::Scalar,
    (target, pitch): (*mut V::Scalar, usize),
) {
    if N > vectors_of::<V>(M) {
        unreachable!("blocks are cut to fit"); // known when compiled
    }
    // SAFETY: by this function's contract.
    unsafe {
        let mut sums = [[V::zero(); N]; M];
        for _ in 0..channels.count {
            for step in steps {
                let source = source.add(step.source);
                let weights = weights.add(step.weight * M);
                let mut lanes = [V::zero(); N];
                for j in 0..N {
                    lanes[j] = V::load(source.add(j * V::LANES));
                }
                for i in 0..M {
                    let factor = V::splat(*weights.add(i));
                    for j in 0..N {
                        sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
                    }
                }
            }
            source = source.add(channels.plane);
            weights = weights.add(channels.weights);
        }
        for i in 0..M {
            for j in 0..N {
                sums[i][j].store(target.add(i * pitch + j * V::LANES));
            }
        }
    }
}

/// The operands of [`plane_gradient`].
pub(crate) struct PlaneGradient<'a, A> {
    /// Where planes begin in `dy`, and what their position 0 reads of `x` with an offset of 0.
    pub planes: &'a [(usize, usize)],
    /// Per vector of a plane, the positions that it has.
    pub masks: &'a [u32],
    /// Target channels `pitch` apart.
    pub dy: &'a [A],
    pub pitch: usize,
    pub x: &'a [A],
    /// Of the taps.
    pub offsets: &'a [usize],
    /// `(height, places)`, one vector each, where `places` are the [`gradient_places`] of the taps;
    /// added to.
    pub sums: &'a mut [A],
}

/// Most target channels, one of [`super::HEIGHTS`], that [`plane_gradient`] takes at a time.
pub(crate) fn plane_height(rows: usize) -> usize {
    if rows < 8 { 4 } else { 8 }
}

/// How many runs of nearly equal length to cut taps into for [`plane_gradient`], so that there are few
/// places that repeat others.
pub(crate) fn plane_runs(taps: usize, height: usize, rows: usize) -> usize {
    let most = if rows < 8 { 8 } else { 24 };
    let fit = PLACES.into_iter().rfind(|n| n * height <= most);
    let least = taps.div_ceil(fit.unwrap_or(1));
    // multiply-adds, and the loads of a run
    let cost = |runs: &usize| runs * (gradient_places(taps.div_ceil(*runs)) * height + height);
    (least..least + 3).min_by_key(cost).unwrap_or(least)
}

/// `sums[m][tap][lane] += sum of dy[m] * x` over the positions of the planes, lanes of a vector apart.
pub(crate) fn plane_gradient<A: MicroKernel>(
    level: Level,
    height: usize,
    operands: PlaneGradient<A>,
) {
    macro_rules! kernels {
        ($($height:literal: $($places:literal)*;)*) => {
            match (height, gradient_places(operands.offsets.len())) {
                $($(($height, $places) => {
                    A::dispatch(level, Gradient::<A, $height, $places>(operands));
                })*)*
                (height, places) => unreachable!("{height} target channels, {places} taps"),
            }
        };
    }
    kernels!(
        1: 1 2 3 4 6 9; 2: 1 2 3 4 6 9; 3: 1 2 3 4 6; 4: 1 2 3 4 6; 6: 1 2 3 4; 8: 1 2 3;
    );
}

struct Gradient<'a, A, const M: usize, const K: usize>(PlaneGradient<'a, A>);

impl<A: Copy, const M: usize, const K: usize> Op<A> for Gradient<'_, A, M, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let PlaneGradient {
            planes,
            masks,
            dy,
            pitch,
            x,
            offsets,
            sums: target,
        } = self.0;
        assert!((1..=K).contains(&offsets.len()) && target.len() >= M * K * V::LANES);
        // places past the last tap repeat it
        let offset: [usize; K] = std::array::from_fn(|k| offsets[k.min(offsets.len() - 1)]);
        let length = masks.len() * V::LANES;
        for (at, from) in planes {
            assert!((M - 1) * pitch + at + length <= dy.len());
            assert!(
                offset
                    .iter()
                    .all(|offset| from + offset + length <= x.len())
            );
        }
        // SAFETY: the level is the caller's promise; `dy` and `x` were just checked to hold all
        // vectors of the planes, and `target` all sums.
        unsafe {
            let mut sums = [[V::zero(); K]; M];
            for i in 0..M {
                for k in 0..K {
                    sums[i][k] = V::load(target.as_ptr().add((i * K + k) * V::LANES));
                }
            }
            for (at, from) in planes {
                let (mut dy, x) = (dy.as_ptr().add(*at), x.as_ptr().add(*from));
                let mut x: [*const A; K] = std::array::from_fn(|k| x.add(offset[k]));
                for &mask in masks {
                    let mut values = [V::zero(); K];
                    for k in 0..K {
                        // lest 0 * NaN reach a sum
                        values[k] = V::zero().load_masked(mask, x[k]);
                        x[k] = x[k].add(V::LANES);
                    }
                    for i in 0..M {
                        let factor = V::load(dy.add(i * pitch));
                        for k in 0..K {
                            sums[i][k] = factor.multiply_add(values[k], sums[i][k]);
                        }
                    }
                    dy = dy.add(V::LANES);
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
