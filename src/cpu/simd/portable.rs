//! Plain arrays that the compiler turns into whatever vectors the target always has.

use super::Vector;

macro_rules! array {
    ($name:ident, $scalar:ident, $lanes:literal) => {
        #[derive(Clone, Copy)]
        pub struct $name([$scalar; $lanes]);

        // SAFETY: no instruction outside the target's base set; memory as the trait says.
        unsafe impl Vector for $name {
            type Scalar = $scalar;
            const LANES: usize = $lanes;
            const ROWS: usize = 4;

            #[inline(always)]
            unsafe fn zero() -> Self {
                $name([0.0; $lanes])
            }

            #[inline(always)]
            unsafe fn splat(value: $scalar) -> Self {
                $name([value; $lanes])
            }

            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                // SAFETY: valid for the lanes by the trait's contract; unaligned read.
                $name(unsafe { from.cast::<[$scalar; $lanes]>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                // SAFETY: valid for the lanes by the trait's contract; unaligned write.
                unsafe { to.cast::<[$scalar; $lanes]>().write_unaligned(self.0) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                $name(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
            }

            #[inline(always)]
            unsafe fn subtract(self, other: Self) -> Self {
                $name(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
            }

            #[inline(always)]
            unsafe fn multiply(self, factor: Self) -> Self {
                $name(std::array::from_fn(|lane| self.0[lane] * factor.0[lane]))
            }

            #[inline(always)]
            unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
                let mut out = sum;
                for lane in 0..$lanes {
                    out.0[lane] += self.0[lane] * factor.0[lane];
                }
                out
            }

            #[inline(always)]
            unsafe fn load_masked(self, mask: u32, from: *const $scalar) -> Self {
                let mut out = self;
                for lane in 0..$lanes {
                    if mask >> lane & 1 == 1 {
                        // SAFETY: valid at the lanes of the mask by the trait's contract.
                        out.0[lane] = unsafe { *from.wrapping_add(lane) };
                    }
                }
                out
            }
        }
    };
}

array!(F32x4, f32, 4);
array!(F64x2, f64, 2);
