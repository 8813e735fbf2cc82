//! Pairs of bf16 in the place of an `f32`: the lower half is the first.
//!
//! Nothing computes with such an `f32`; it is moved, and multiplied by the tiles of a
//! [paired](super::Level::paired) level.

use std::any::TypeId;

use half::bf16;

use super::{Dispatch, Level, Op, Vector};
use crate::element::Element;

/// The bits of elements that must be bf16.
fn bits<T: Element>(elements: &[T]) -> &[u16] {
    assert_eq!(TypeId::of::<T>(), TypeId::of::<bf16>());
    // SAFETY: a bf16 is a u16 in memory.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), elements.len()) }
}

/// The bits of accumulators that must be `f32`.
fn words<A: 'static>(accumulators: &[A]) -> &[u32] {
    assert_eq!(TypeId::of::<A>(), TypeId::of::<f32>());
    // SAFETY: an f32 and a u32 are alike in memory, and all bits are values of both.
    unsafe { std::slice::from_raw_parts(accumulators.as_ptr().cast(), accumulators.len()) }
}

/// As [`words`].
fn words_mut<A: 'static>(accumulators: &mut [A]) -> &mut [u32] {
    assert_eq!(TypeId::of::<A>(), TypeId::of::<f32>());
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(accumulators.as_mut_ptr().cast(), accumulators.len()) }
}

/// Elements that are bf16 as pairs of neighbours, if they are aligned like those.
pub(crate) fn as_pairs<T: Element>(elements: &[T]) -> Option<&[T::Acc]> {
    let suits = TypeId::of::<T>() == TypeId::of::<bf16>()
        && TypeId::of::<T::Acc>() == TypeId::of::<f32>()
        && elements.len().is_multiple_of(2)
        && elements.as_ptr().cast::<f32>().is_aligned();
    // SAFETY: two bf16 are as large as an f32, of which all bits are values; aligned and whole.
    suits.then(|| unsafe {
        std::slice::from_raw_parts(elements.as_ptr().cast(), elements.len() / 2)
    })
}

/// Pairs as the elements that they are made of.
pub(crate) fn as_elements<T: Element>(pairs: &[T::Acc]) -> &[T] {
    assert_eq!(TypeId::of::<T>(), TypeId::of::<bf16>());
    let pairs = words(pairs);
    // SAFETY: a pair is two bf16, of which all bits are values, and aligned better than those.
    unsafe { std::slice::from_raw_parts(pairs.as_ptr().cast(), pairs.len() * 2) }
}

/// `to[i] = (first[i], second[i])`, with zeros for what is not there.
pub(crate) fn interleave<T: Element>(
    level: Level,
    first: Option<&[T]>,
    second: Option<&[T]>,
    to: &mut [T::Acc],
) {
    let (first, second) = (first.map(bits), second.map(bits));
    let to = words_mut(to);
    T::Acc::dispatch(level, Interleave { first, second, to });
}

struct Interleave<'a> {
    first: Option<&'a [u16]>,
    second: Option<&'a [u16]>,
    to: &'a mut [u32],
}

impl<A> Op<A> for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Interleave { first, second, to } = self;
        match (first, second) {
            (Some(first), Some(second)) => {
                for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
                    *to = u32::from(a) | u32::from(b) << 16;
                }
            }
            (Some(first), None) => {
                for (to, &a) in to.iter_mut().zip(first) {
                    *to = u32::from(a);
                }
            }
            (None, Some(second)) => {
                for (to, &b) in to.iter_mut().zip(second) {
                    *to = u32::from(b) << 16;
                }
            }
            (None, None) => to.fill(0),
        }
    }
}

/// The pairs of neighbours, the last with a zero if they are odd.
pub(crate) fn join<T: Element>(elements: &[T], to: &mut [T::Acc]) {
    for (to, pair) in words_mut(to).iter_mut().zip(bits(elements).chunks(2)) {
        *to = match *pair {
            [a, b] => u32::from(a) | u32::from(b) << 16,
            [a] => u32::from(a),
            _ => 0,
        };
    }
}

/// Widened bf16 as pairs: `to[i] = (first[i], second[i])`, with zeros if there is no second.
pub(crate) fn join_rows<A: 'static>(first: &[A], second: Option<&[A]>, to: &mut [A]) {
    let (first, to) = (words(first), words_mut(to));
    match second.map(words) {
        Some(second) => {
            for ((to, a), b) in to.iter_mut().zip(first).zip(second) {
                *to = a >> 16 | b & 0xffff_0000;
            }
        }
        None => {
            for (to, a) in to.iter_mut().zip(first) {
                *to = a >> 16;
            }
        }
    }
}

/// Steps of the reduction, in pairs, and rows that tile instructions take at once.
pub(crate) const STEPS: usize = 16;

/// `c (rows, lanes) = a (rows, steps) * b (steps, lanes)`, or added to.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct TileProduct<'a, A> {
    /// Rows up to the next multiple of [`STEPS`], of any values past the last.
    pub a: &'a [A],
    pub a_pitch: usize,
    /// Lanes up to the next multiple of [`STEPS`], of any values past the last.
    pub b: &'a [A],
    pub b_pitch: usize,
    /// A multiple of [`STEPS`].
    pub steps: usize,
    pub c: &'a mut [A],
    pub c_pitch: usize,
    pub rows: usize,
    pub lanes: usize,
    pub add: bool,
}

/// The product on a level that has [tiles](Level::tiles).
pub(crate) fn multiply_tiles<A: 'static>(level: Level, product: TileProduct<A>) {
    assert!(level.tiles());
    #[cfg(target_arch = "x86_64")]
    {
        use super::amx;
        let product = TileProduct {
            a: words(product.a),
            a_pitch: product.a_pitch,
            b: words(product.b),
            b_pitch: product.b_pitch,
            steps: product.steps,
            c: words_mut(product.c),
            c_pitch: product.c_pitch,
            rows: product.rows,
            lanes: product.lanes,
            add: product.add,
        };
        #[cfg(test)]
        if !amx::detected() {
            // SAFETY: the model needs nothing.
            return unsafe { product.run::<amx::Model>() };
        }
        // SAFETY: the level exists only where AMX was detected.
        unsafe { product.run::<amx::Amx>() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = product;
}
