//! Vectors from elements of 16 bits, and into them.

use half::{bf16, f16};

use super::Vector;
use crate::element::Element;

/// A vector that comes from elements `E`, exactly, and is rounded into them.
///
/// # Safety
/// As [`Vector`], with memory of elements.
pub unsafe trait Stored<E>: Vector {
    unsafe fn load_from(from: *const E) -> Self;
    /// The first `lanes` lanes, at most all of them, and zeros in the others.
    unsafe fn load_first(lanes: usize, from: *const E) -> Self;
    unsafe fn store_to(self, to: *mut E);
    /// As [`Vector::stream`], to an address that is a multiple of a vector's elements' size.
    #[inline(always)]
    unsafe fn stream_to(self, to: *mut E) {
        // SAFETY: as this method.
        unsafe { self.store_to(to) }
    }
}

// SAFETY: the methods of the vector itself.
unsafe impl<V: Vector> Stored<V::Scalar> for V {
    #[inline(always)]
    unsafe fn load_from(from: *const V::Scalar) -> Self {
        // SAFETY: as this method.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn load_first(lanes: usize, from: *const V::Scalar) -> Self {
        // SAFETY: as this method.
        unsafe { V::zero().load_masked(((1u64 << lanes) - 1) as u32, from) }
    }

    #[inline(always)]
    unsafe fn store_to(self, to: *mut V::Scalar) {
        // SAFETY: as this method.
        unsafe { self.store(to) }
    }

    #[inline(always)]
    unsafe fn stream_to(self, to: *mut V::Scalar) {
        // SAFETY: as this method.
        unsafe { self.stream(to) }
    }
}

/// Lane by lane.
macro_rules! by_element {
    ($vector:ty: $($element:ident)*) => {
        // SAFETY: memory as the trait says, and no instructions but the vector's.
        $(unsafe impl Stored<$element> for $vector {
            #[inline(always)]
            unsafe fn load_from(from: *const $element) -> Self {
                // SAFETY: as this method.
                unsafe { <Self as Stored<$element>>::load_first(Self::LANES, from) }
            }

            #[inline(always)]
            unsafe fn load_first(lanes: usize, from: *const $element) -> Self {
                let mut wide = [0.0; Self::LANES];
                for (lane, to) in wide.iter_mut().enumerate().take(lanes) {
                    // SAFETY: valid there by the trait's contract.
                    *to = unsafe { from.add(lane).read() }.to_acc();
                }
                // SAFETY: as many lanes as a vector has.
                unsafe { Self::load(wide.as_ptr()) }
            }

            #[inline(always)]
            unsafe fn store_to(self, to: *mut $element) {
                let mut wide = [0.0; Self::LANES];
                // SAFETY: as many lanes as a vector has; memory by the trait's contract.
                unsafe {
                    self.store(wide.as_mut_ptr());
                    for (lane, sum) in wide.into_iter().enumerate() {
                        to.add(lane).write($element::from_acc(sum));
                    }
                }
            }
        })*
    };
}

by_element!(super::portable::F32x4: bf16 f16);
#[cfg(target_arch = "aarch64")]
by_element!(super::neon::F32x4: bf16 f16);

/// By instructions that take a whole vector: `$widen` from half a register, `$narrow` to it.
#[cfg(target_arch = "x86_64")]
macro_rules! whole {
    ($vector:ty: $element:ident, $load:ident, $store:ident, $stream:ident, $widen:path, $narrow:path) => {
        // SAFETY: instructions of the vector's level; memory as the trait says.
        unsafe impl Stored<$element> for $vector {
            #[inline(always)]
            unsafe fn load_from(from: *const $element) -> Self {
                // SAFETY: level and memory by the trait's contract.
                unsafe { $widen($load(from.cast())) }
            }

            #[inline(always)]
            unsafe fn load_first(lanes: usize, from: *const $element) -> Self {
                // SAFETY: level and memory by the trait's contract; an array of a vector's lanes.
                unsafe {
                    if lanes == Self::LANES {
                        return <Self as Stored<$element>>::load_from(from);
                    }
                    let mut all = [$element::ZERO; Self::LANES];
                    std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), lanes);
                    <Self as Stored<$element>>::load_from(all.as_ptr())
                }
            }

            #[inline(always)]
            unsafe fn store_to(self, to: *mut $element) {
                // SAFETY: level and memory by the trait's contract.
                unsafe { $store(to.cast(), $narrow(self)) }
            }

            #[inline(always)]
            unsafe fn stream_to(self, to: *mut $element) {
                // SAFETY: as above, at a multiple of the instruction's size.
                unsafe { $stream(to.cast(), $narrow(self)) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod whole {
    use std::arch::x86_64::*;

    use super::super::x86::{F32x8, F32x16, PairsX16};
    use super::{Stored, Vector, bf16, f16};

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn widen_bf16x16(from: __m256i) -> F32x16 {
        // SAFETY: the level by this function's contract.
        F32x16(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(from))) })
    }

    /// As [`crate::Element::narrow`] of bf16.
    ///
    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn narrow_bf16x16(sums: F32x16) -> __m256i {
        // SAFETY: the level by this function's contract.
        unsafe {
            let bits = _mm512_castps_si512(sums.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sums.0, sums.0);
            let rounded = _mm512_add_epi32(bits, half);
            let quiet = _mm512_set1_epi32(1 << 22);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
        }
    }

    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn widen_sums(from: __m256i) -> PairsX16 {
        // SAFETY: the level by this function's contract.
        PairsX16(unsafe { widen_bf16x16(from) }.0)
    }

    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn narrow_sums(sums: PairsX16) -> __m256i {
        // SAFETY: the level by this function's contract.
        unsafe { narrow_bf16x16(F32x16(sums.0)) }
    }

    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn widen_f16x16(from: __m256i) -> F32x16 {
        // SAFETY: the level by this function's contract.
        F32x16(unsafe { _mm512_cvtph_ps(from) })
    }

    /// # Safety
    /// The machine must have AVX-512F.
    #[inline(always)]
    unsafe fn narrow_f16x16(sums: F32x16) -> __m256i {
        // SAFETY: the level by this function's contract.
        unsafe { _mm512_cvtps_ph::<NEAREST>(sums.0) }
    }

    /// # Safety
    /// The machine must have AVX2.
    #[inline(always)]
    unsafe fn widen_bf16x8(from: __m128i) -> F32x8 {
        // SAFETY: the level by this function's contract.
        F32x8(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(from))) })
    }

    /// As [`crate::Element::narrow`] of bf16.
    ///
    /// # Safety
    /// The machine must have AVX2.
    #[inline(always)]
    unsafe fn narrow_bf16x8(sums: F32x8) -> __m128i {
        // SAFETY: the level by this function's contract.
        unsafe {
            let bits = _mm256_castps_si256(sums.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(sums.0, sums.0));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(1 << 22));
            let rounded = _mm256_blendv_epi8(_mm256_add_epi32(bits, half), quiet, nan);
            let high = _mm256_srli_epi32::<16>(rounded);
            // the halves of a register are packed apart
            let packed = _mm256_packus_epi32(high, high);
            _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed))
        }
    }

    /// # Safety
    /// The machine must have F16C.
    #[inline(always)]
    unsafe fn widen_f16x8(from: __m128i) -> F32x8 {
        // SAFETY: the level by this function's contract.
        F32x8(unsafe { _mm256_cvtph_ps(from) })
    }

    /// # Safety
    /// The machine must have F16C.
    #[inline(always)]
    unsafe fn narrow_f16x8(sums: F32x8) -> __m128i {
        // SAFETY: the level by this function's contract.
        unsafe { _mm256_cvtps_ph::<NEAREST>(sums.0) }
    }

    whole!(F32x16: bf16, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256, widen_bf16x16, narrow_bf16x16);
    whole!(F32x16: f16, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256, widen_f16x16, narrow_f16x16);
    // the sums of pairs, not their factors
    whole!(PairsX16: bf16, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256, widen_sums, narrow_sums);
    whole!(F32x8: bf16, _mm_loadu_si128, _mm_storeu_si128, _mm_stream_si128, widen_bf16x8, narrow_bf16x8);
    whole!(F32x8: f16, _mm_loadu_si128, _mm_storeu_si128, _mm_stream_si128, widen_f16x8, narrow_f16x8);
}
