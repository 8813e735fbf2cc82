//! NEON.

use std::arch::aarch64::*;

use super::Vector;

macro_rules! vector {
    (
        $name:ident($register:ident), $scalar:ident, lanes $lanes:literal,
        $splat:ident, $load:ident, $store:ident,
        $add:ident, $subtract:ident, $multiply:ident, $fma:ident,
        transpose $transpose:ident
    ) => {
        #[derive(Clone, Copy)]
        pub struct $name($register);

        // SAFETY: only instructions of this vector's level; memory as the trait says.
        unsafe impl Vector for $name {
            type Scalar = $scalar;
            const LANES: usize = $lanes;
            const ROWS: usize = 12;

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
                $name(unsafe { $fma(sum.0, self.0, factor.0) })
            }

            #[inline(always)]
            unsafe fn load_masked(self, mask: u32, from: *const $scalar) -> Self {
                let mut lanes = [0.0; $lanes];
                // SAFETY: an array of the register's size.
                unsafe { $store(lanes.as_mut_ptr(), self.0) };
                for lane in 0..$lanes {
                    if mask >> lane & 1 == 1 {
                        // SAFETY: valid at the lanes of the mask by the trait's contract.
                        lanes[lane] = unsafe { *from.wrapping_add(lane) };
                    }
                }
                // SAFETY: an array of the register's size.
                $name(unsafe { $load(lanes.as_ptr()) })
            }

            #[inline(always)]
            unsafe fn transpose(
                from: *const $scalar,
                step: usize,
                to: *mut $scalar,
                pitch: usize,
                size: (usize, usize),
            ) {
                // SAFETY: level and memory by the trait's contract.
                unsafe {
                    if size != ($lanes, $lanes) {
                        return super::transpose_each(from, step, to, pitch, size);
                    }
                    let mut rows = [$splat(0.0); $lanes];
                    for (i, row) in rows.iter_mut().enumerate() {
                        *row = $load(from.add(i * step));
                    }
                    $transpose(&mut rows);
                    for (i, row) in rows.into_iter().enumerate() {
                        $store(to.add(i * pitch), row);
                    }
                }
            }
        }
    };
}

/// # Safety
/// The machine must have NEON.
#[inline(always)]
unsafe fn transpose_f32(rows: &mut [float32x4_t; 4]) {
    // SAFETY: by this function's contract.
    unsafe {
        let [a, b] = [vtrn1q_f32(rows[0], rows[1]), vtrn2q_f32(rows[0], rows[1])];
        let [c, d] = [vtrn1q_f32(rows[2], rows[3]), vtrn2q_f32(rows[2], rows[3])];
        rows[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
        rows[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
        rows[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
        rows[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
    }
}

/// # Safety
/// The machine must have NEON.
#[inline(always)]
unsafe fn transpose_f64(rows: &mut [float64x2_t; 2]) {
    // SAFETY: by this function's contract.
    *rows = unsafe { [vtrn1q_f64(rows[0], rows[1]), vtrn2q_f64(rows[0], rows[1])] };
}

vector! {
    F32x4(float32x4_t), f32, lanes 4,
    vdupq_n_f32, vld1q_f32, vst1q_f32, vaddq_f32, vsubq_f32, vmulq_f32, vfmaq_f32,
    transpose transpose_f32
}
vector! {
    F64x2(float64x2_t), f64, lanes 2,
    vdupq_n_f64, vld1q_f64, vst1q_f64, vaddq_f64, vsubq_f64, vmulq_f64, vfmaq_f64,
    transpose transpose_f64
}
