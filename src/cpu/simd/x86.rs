//! AVX2 with FMA, and AVX-512.

use std::arch::x86_64::*;

use super::Vector;

/// The sum of the products of two pairs of bf16, in every lane, and of `sum`.
///
/// # Safety
/// The machine must have AVX512_BF16.
#[inline(always)]
unsafe fn multiply_add_pairs(a: __m512, b: __m512, sum: __m512) -> __m512 {
    // SAFETY: the level by this function's contract; any bits are pairs of bf16.
    unsafe {
        let pairs = |v: __m512| std::mem::transmute::<__m512, __m512bh>(v);
        _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
    }
}

/// # Safety
/// The machine must have AVX-512F.
#[inline(always)]
unsafe fn keep_bits(pairs: __m512, bits: u32) -> __m512 {
    // SAFETY: the level by this function's contract.
    unsafe {
        let bits = _mm512_set1_epi32(bits as i32);
        _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), bits))
    }
}

/// Bit `l` of a mask of 16 to bit `2 * l`.
#[inline(always)]
fn spread(mask: u32) -> u32 {
    let mut bits = mask & 0xffff;
    bits = (bits | bits << 8) & 0x00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333;
    (bits | bits << 1) & 0x5555_5555
}

/// # Safety
/// The machine must have AVX-512F; memory must be valid at every second element of the mask.
#[inline(always)]
unsafe fn pairs_f32(old: __m512, mask: u32, from: *const f32) -> __m512 {
    let every_second = spread(mask);
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let low = _mm512_maskz_loadu_ps(every_second as __mmask16, from);
        let high = _mm512_maskz_loadu_ps((every_second >> 16) as __mmask16, from.wrapping_add(16));
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        _mm512_mask_mov_ps(
            old,
            mask as __mmask16,
            _mm512_permutex2var_ps(low, even, high),
        )
    }
}

/// # Safety
/// As [`pairs_f32`].
#[inline(always)]
unsafe fn pairs_f64(old: __m512d, mask: u32, from: *const f64) -> __m512d {
    let every_second = spread(mask);
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let low = _mm512_maskz_loadu_pd(every_second as __mmask8, from);
        let high = _mm512_maskz_loadu_pd((every_second >> 8) as __mmask8, from.wrapping_add(8));
        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        _mm512_mask_mov_pd(
            old,
            mask as __mmask8,
            _mm512_permutex2var_pd(low, even, high),
        )
    }
}

/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn chosen_f32(mask: u32) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe {
        let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask as i32), bits), bits)
    }
}

/// # Safety
/// As [`chosen_f32`].
#[inline(always)]
unsafe fn chosen_f64(mask: u32) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe {
        let bits = _mm256_setr_epi64x(1, 2, 4, 8);
        let chosen = _mm256_and_si256(_mm256_set1_epi64x(i64::from(mask)), bits);
        _mm256_cmpeq_epi64(chosen, bits)
    }
}

/// # Safety
/// The machine must have AVX2; memory must be valid at the lanes of the mask.
#[inline(always)]
unsafe fn masked_f32(old: __m256, mask: u32, from: *const f32) -> __m256 {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let chosen = chosen_f32(mask);
        let lanes = _mm256_maskload_ps(from, chosen);
        _mm256_blendv_ps(old, lanes, _mm256_castsi256_ps(chosen))
    }
}

/// # Safety
/// As [`masked_f32`].
#[inline(always)]
unsafe fn masked_f64(old: __m256d, mask: u32, from: *const f64) -> __m256d {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let chosen = chosen_f64(mask);
        let lanes = _mm256_maskload_pd(from, chosen);
        _mm256_blendv_pd(old, lanes, _mm256_castsi256_pd(chosen))
    }
}

/// # Safety
/// As [`masked_f32`].
#[inline(always)]
unsafe fn store_masked_f32(to: *mut f32, mask: u32, lanes: __m256) {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe { _mm256_maskstore_ps(to, chosen_f32(mask), lanes) }
}

/// # Safety
/// As [`masked_f32`].
#[inline(always)]
unsafe fn store_masked_f64(to: *mut f64, mask: u32, lanes: __m256d) {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe { _mm256_maskstore_pd(to, chosen_f64(mask), lanes) }
}

/// # Safety
/// The machine must have AVX2; memory must be valid at every second element of the mask.
#[inline(always)]
unsafe fn pairs_narrow_f32(old: __m256, mask: u32, from: *const f32) -> __m256 {
    let every_second = spread(mask);
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let low = _mm256_maskload_ps(from, chosen_f32(every_second));
        let high = _mm256_maskload_ps(from.wrapping_add(8), chosen_f32(every_second >> 8));
        let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(low, high));
        let even = _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(even));
        _mm256_blendv_ps(old, even, _mm256_castsi256_ps(chosen_f32(mask)))
    }
}

/// # Safety
/// As [`pairs_narrow_f32`].
#[inline(always)]
unsafe fn pairs_narrow_f64(old: __m256d, mask: u32, from: *const f64) -> __m256d {
    let every_second = spread(mask);
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe {
        let low = _mm256_maskload_pd(from, chosen_f64(every_second));
        let high = _mm256_maskload_pd(from.wrapping_add(4), chosen_f64(every_second >> 4));
        let even = _mm256_permute4x64_pd::<0xd8>(_mm256_unpacklo_pd(low, high));
        _mm256_blendv_pd(old, even, _mm256_castsi256_pd(chosen_f64(mask)))
    }
}

/// # Safety
/// The machine must have AVX-512F; memory must be valid at the lanes of the mask.
#[inline(always)]
unsafe fn masked_wide_f32(old: __m512, mask: u32, from: *const f32) -> __m512 {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe { _mm512_mask_loadu_ps(old, mask as __mmask16, from) }
}

/// # Safety
/// As [`masked_wide_f32`].
#[inline(always)]
unsafe fn masked_wide_f64(old: __m512d, mask: u32, from: *const f64) -> __m512d {
    // SAFETY: by this function's contract; masked-out lanes are not accessed.
    unsafe { _mm512_mask_loadu_pd(old, mask as __mmask8, from) }
}

/// # Safety
/// The machine must have AVX-512F, and `index` 16 lanes.
#[inline(always)]
unsafe fn permute_wide_f32(from: __m512, index: *const u32) -> __m512 {
    // SAFETY: by this function's contract.
    unsafe { _mm512_permutexvar_ps(_mm512_loadu_si512(index.cast()), from) }
}

/// # Safety
/// The machine must have AVX-512F, and `index` 8 lanes.
#[inline(always)]
unsafe fn permute_wide_f64(from: __m512d, index: *const u32) -> __m512d {
    // SAFETY: by this function's contract.
    unsafe {
        let index = _mm512_cvtepu32_epi64(_mm256_loadu_si256(index.cast()));
        _mm512_permutexvar_pd(index, from)
    }
}

/// # Safety
/// The machine must have AVX2, and `index` 8 lanes.
#[inline(always)]
unsafe fn permute_f32(from: __m256, index: *const u32) -> __m256 {
    // SAFETY: by this function's contract.
    unsafe { _mm256_permutevar8x32_ps(from, _mm256_loadu_si256(index.cast())) }
}

/// Transposes a square of vectors: swaps the off-diagonal squares of every block of 2, 4, 8, ..
macro_rules! transpose_square {
    ($name:ident, $register:ident, $index:ident, $lanes:literal, $permute:ident) => {
        /// # Safety
        /// The machine must have AVX-512F.
        #[inline(always)]
        unsafe fn $name(rows: &mut [$register; $lanes]) {
            let mut s = 1;
            while s < $lanes {
                let (mut low, mut high) = ([0 as $index; $lanes], [0 as $index; $lanes]);
                for l in 0..$lanes {
                    // lanes of the first operand, then of the second
                    let second = l & s != 0;
                    low[l] = (if second { $lanes + l - s } else { l }) as $index;
                    high[l] = (if second { $lanes + l } else { l + s }) as $index;
                }
                // SAFETY: the level by this function's contract; arrays of the register's size.
                unsafe {
                    let low = _mm512_loadu_si512(low.as_ptr().cast());
                    let high = _mm512_loadu_si512(high.as_ptr().cast());
                    for i in 0..$lanes {
                        if i & s == 0 {
                            let (a, b) = (rows[i], rows[i + s]);
                            rows[i] = $permute(a, low, b);
                            rows[i + s] = $permute(a, high, b);
                        }
                    }
                }
                s *= 2;
            }
        }
    };
}

transpose_square!(transpose_f32, __m512, i32, 16, _mm512_permutex2var_ps);
transpose_square!(transpose_f64, __m512d, i64, 8, _mm512_permutex2var_pd);

/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn transpose_narrow_f32(rows: &mut [__m256; 8]) {
    // SAFETY: by this function's contract.
    unsafe {
        // squares of 4 by 4 in each half, then the halves that lie off the diagonal
        for half in rows.chunks_exact_mut(4) {
            let (a, b) = (
                _mm256_unpacklo_ps(half[0], half[1]),
                _mm256_unpackhi_ps(half[0], half[1]),
            );
            let (c, d) = (
                _mm256_unpacklo_ps(half[2], half[3]),
                _mm256_unpackhi_ps(half[2], half[3]),
            );
            half[0] = _mm256_shuffle_ps::<0x44>(a, c);
            half[1] = _mm256_shuffle_ps::<0xee>(a, c);
            half[2] = _mm256_shuffle_ps::<0x44>(b, d);
            half[3] = _mm256_shuffle_ps::<0xee>(b, d);
        }
        for i in 0..4 {
            let (a, b) = (rows[i], rows[i + 4]);
            rows[i] = _mm256_permute2f128_ps::<0x20>(a, b);
            rows[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
    }
}

/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn transpose_narrow_f64(rows: &mut [__m256d; 4]) {
    // SAFETY: by this function's contract.
    unsafe {
        for half in rows.chunks_exact_mut(2) {
            let (a, b) = (half[0], half[1]);
            half[0] = _mm256_unpacklo_pd(a, b);
            half[1] = _mm256_unpackhi_pd(a, b);
        }
        for i in 0..2 {
            let (a, b) = (rows[i], rows[i + 2]);
            rows[i] = _mm256_permute2f128_pd::<0x20>(a, b);
            rows[i + 2] = _mm256_permute2f128_pd::<0x31>(a, b);
        }
    }
}

macro_rules! vector {
    (
        $name:ident($register:ident), $scalar:ident, lanes $lanes:literal, rows $rows:literal,
        $splat:ident, $load:ident, $store:ident, $stream:ident,
        $add:ident, $subtract:ident, $multiply:ident, $fma:ident,
        masked $masked:ident
        $(, pairs $pairs:ident, transpose $transpose:ident, $store_masked:ident)?
        $(, permute $permute:ident)?
        $(, keep $keep:ident)?
    ) => {
        #[derive(Clone, Copy)]
        pub struct $name(pub(super) $register);

        // SAFETY: only instructions of this vector's level; memory as the trait says.
        unsafe impl Vector for $name {
            type Scalar = $scalar;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            // as many sums as tiles of two vectors have, for multiply-adds not to wait for each other
            const TALL: usize = if $rows < 8 { 2 * $rows } else { $rows };

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $splat(0.0) })
            }

            #[inline(always)]
            unsafe fn splat(value: $scalar) -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                // SAFETY: level and memory by the trait's contract.
                $name(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                // SAFETY: level and memory by the trait's contract.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn stream(self, to: *mut $scalar) {
                // SAFETY: level and memory by the trait's contract.
                unsafe { $stream(to, self.0) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn subtract(self, other: Self) -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $subtract(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn multiply(self, factor: Self) -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $multiply(self.0, factor.0) })
            }

            #[inline(always)]
            unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
                // SAFETY: the level is available by the trait's contract.
                $name(unsafe { $fma(self.0, factor.0, sum.0) })
            }

            #[inline(always)]
            unsafe fn load_masked(self, mask: u32, from: *const $scalar) -> Self {
                // SAFETY: the level by the trait's contract; masked-out lanes are not accessed.
                $name(unsafe { $masked(self.0, mask, from) })
            }

            $(
                #[inline(always)]
                unsafe fn permute(self, index: *const u32) -> Self {
                    // SAFETY: level and index by the trait's contract.
                    $name(unsafe { $permute(self.0, index) })
                }
            )?

            $(
                #[inline(always)]
                unsafe fn keep(self, bits: u32) -> Self {
                    // SAFETY: the level is available by the trait's contract.
                    $name(unsafe { $keep(self.0, bits) })
                }
            )?

            $(
                #[inline(always)]
                unsafe fn load_strided(self, mask: u32, from: *const $scalar, step: usize) -> Self {
                    if step == 2 {
                        // SAFETY: as above; only every second element is accessed.
                        return $name(unsafe { $pairs(self.0, mask, from) });
                    }
                    // SAFETY: as above.
                    unsafe { super::load_strided(self, mask, from, step) }
                }

                #[inline(always)]
                unsafe fn transpose(
                    from: *const $scalar,
                    step: usize,
                    to: *mut $scalar,
                    pitch: usize,
                    (height, width): (usize, usize),
                ) {
                    // SAFETY: level and memory by the trait's contract; lanes past the height and
                    // the width are masked out, which no instruction accesses.
                    unsafe {
                        let mut rows = [Self::zero().0; $lanes];
                        if (height, width) == ($lanes, $lanes) {
                            for (i, row) in rows.iter_mut().enumerate() {
                                *row = $load(from.add(i * step));
                            }
                            $transpose(&mut rows);
                            for (i, row) in rows.into_iter().enumerate() {
                                $store(to.add(i * pitch), row);
                            }
                            return;
                        }
                        let wide = u32::MAX >> (32 - width);
                        for (i, row) in rows.iter_mut().enumerate().take(height) {
                            *row = $masked(*row, wide, from.add(i * step));
                        }
                        $transpose(&mut rows);
                        for (i, row) in rows.into_iter().enumerate().take(width) {
                            let to = to.add(i * pitch);
                            // storing with a mask takes much longer on some machines
                            if height == $lanes {
                                $store(to, row);
                            } else {
                                $store_masked(to, (u32::MAX >> (32 - height)) as _, row);
                            }
                        }
                    }
                }
            )?
        }
    };
}

vector! {
    F32x16(__m512), f32, lanes 16, rows 14,
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_stream_ps,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps,
    masked masked_wide_f32, pairs pairs_f32, transpose transpose_f32, _mm512_mask_storeu_ps, permute permute_wide_f32
}

// Of pairs of bf16 but for its sums, which are f32: products are right, and what only moves lanes.
vector! {
    PairsX16(__m512), f32, lanes 16, rows 14,
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_stream_ps,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, multiply_add_pairs,
    masked masked_wide_f32, permute permute_wide_f32, keep keep_bits
}

vector! {
    F64x8(__m512d), f64, lanes 8, rows 14,
    _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_stream_pd,
    _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd,
    masked masked_wide_f64, pairs pairs_f64, transpose transpose_f64, _mm512_mask_storeu_pd, permute permute_wide_f64
}

vector! {
    F32x8(__m256), f32, lanes 8, rows 6,
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_stream_ps,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps,
    masked masked_f32, pairs pairs_narrow_f32, transpose transpose_narrow_f32, store_masked_f32, permute permute_f32
}

vector! {
    F64x4(__m256d), f64, lanes 4, rows 6,
    _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_stream_pd,
    _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, _mm256_fmadd_pd,
    masked masked_f64, pairs pairs_narrow_f64, transpose transpose_narrow_f64, store_masked_f64
}
