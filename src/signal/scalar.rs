//! The element types of the signal functions: real and complex, single and double precision.

use std::borrow::Cow;
use std::fmt;
use std::ops::Neg;
use std::sync::Arc;

use num_traits::{NumAssign, Zero};
use rustfft::FftNum;
use rustfft::num_complex::Complex;

use super::fft::{ComplexTransform, Plans, RealTransform, Transform};
use crate::element::{Accumulator, Element};

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// `f32` or `f64`, as the signal functions need it.
///
/// ```
/// fn mean<R: ndconv::signal::Real>(x: &[R]) -> R {
///     x.iter().copied().sum::<R>() / R::of(x.len() as f64)
/// }
/// assert_eq!(mean(&[1.0f32, 3.0]), 2.0);
/// ```
pub trait Real: Scalar<Real = Self> + Accumulator + FftNum {
    /// The transforms of this precision made so far.
    #[doc(hidden)]
    fn plans() -> &'static Plans<Self>;
}

/// An element of a signal: `f32`, `f64`, `Complex<f32>` or `Complex<f64>`.
///
/// ```
/// use ndconv::signal::{Complex, Scalar};
/// fn energy<S: Scalar>(x: &[S]) -> S::Real { x.iter().map(|v| v.norm_sqr()).sum() }
/// assert_eq!(energy(&[3.0, 4.0]), 25.0);
/// assert_eq!(energy(&[Complex::new(3.0, 4.0)]), 25.0);
/// ```
pub trait Scalar:
    sealed::Sealed
    + Copy
    + Default
    + NumAssign
    + Neg<Output = Self>
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The type of the real and imaginary parts.
    type Real: Real;
    /// The transform pair between a signal of this type and its spectrum.
    #[doc(hidden)]
    type Transform: Transform<Self>;
    /// Whether the elements have an imaginary part.
    const COMPLEX: bool;

    /// The transform of length `n >= 1`, from the cache.
    #[doc(hidden)]
    fn transform(n: usize) -> Arc<Self::Transform>;
    /// The number with these parts; a real type drops `im`.
    fn from_parts(re: Self::Real, im: Self::Real) -> Self;
    /// The real numbers of items of `size` elements: all real parts of an item, then all
    /// imaginary ones.
    #[doc(hidden)]
    fn planes(x: &[Self], size: usize) -> Cow<'_, [Self::Real]>;
    /// The items that have these planes.
    #[doc(hidden)]
    fn from_planes(planes: Vec<Self::Real>, size: usize) -> Vec<Self>;
    /// The real part.
    fn re(self) -> Self::Real;
    /// The imaginary part; 0 for a real type.
    fn im(self) -> Self::Real;

    /// The complex conjugate; a real number itself.
    fn conj(self) -> Self {
        Self::from_parts(self.re(), -self.im())
    }
    /// The number times a real factor.
    fn scale(self, factor: Self::Real) -> Self {
        Self::from_parts(self.re() * factor, self.im() * factor)
    }
    /// `|x|^2`.
    fn norm_sqr(self) -> Self::Real {
        self.re() * self.re() + self.im() * self.im()
    }
    /// The same number as a complex one.
    fn to_complex(self) -> Complex<Self::Real> {
        Complex::new(self.re(), self.im())
    }
    /// `value` rounded to this type.
    fn of(value: f64) -> Self {
        Self::from_parts(<Self::Real as Element>::from_f64(value), Zero::zero())
    }
}

macro_rules! real {
    ($real:ident) => {
        impl sealed::Sealed for $real {}

        impl Real for $real {
            fn plans() -> &'static Plans<$real> {
                static PLANS: Plans<$real> = Plans::new();
                &PLANS
            }
        }

        impl Scalar for $real {
            type Real = $real;
            type Transform = RealTransform<$real>;
            const COMPLEX: bool = false;
            fn transform(n: usize) -> Arc<Self::Transform> {
                Self::plans().real.get(n, RealTransform::plan)
            }
            fn from_parts(re: $real, _im: $real) -> Self {
                re
            }
            fn planes(x: &[$real], _size: usize) -> Cow<'_, [$real]> {
                Cow::Borrowed(x)
            }
            fn from_planes(planes: Vec<$real>, _size: usize) -> Vec<$real> {
                planes
            }
            fn re(self) -> $real {
                self
            }
            fn im(self) -> $real {
                0.0
            }
            fn conj(self) -> Self {
                self
            }
        }
    };
}

real!(f32);
real!(f64);

impl<R: Real> sealed::Sealed for Complex<R> {}

impl<R: Real> Scalar for Complex<R> {
    type Real = R;
    type Transform = ComplexTransform<R>;
    const COMPLEX: bool = true;
    fn transform(n: usize) -> Arc<Self::Transform> {
        R::plans().complex.get(n, ComplexTransform::plan)
    }
    fn from_parts(re: R, im: R) -> Self {
        Complex::new(re, im)
    }
    fn planes(x: &[Self], size: usize) -> Cow<'_, [R]> {
        let planes = x.chunks(size.max(1)).flat_map(|item| {
            let (re, im) = (item.iter().map(|v| v.re), item.iter().map(|v| v.im));
            re.chain(im)
        });
        Cow::Owned(planes.collect())
    }
    fn from_planes(planes: Vec<R>, size: usize) -> Vec<Self> {
        let items = planes.chunks(2 * size.max(1)).flat_map(|item| {
            let (re, im) = item.split_at(item.len() / 2);
            std::iter::zip(re, im).map(|(&re, &im)| Complex::new(re, im))
        });
        items.collect()
    }
    fn re(self) -> R {
        self.re
    }
    fn im(self) -> R {
        self.im
    }
}
