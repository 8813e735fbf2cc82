//! Inverses of circular operations, exact and regularised.

use ndarray::{ArrayBase, ArrayD, Data, Dimension};
use num_traits::{Float, Zero};
use rayon::prelude::*;
use rustfft::num_complex::Complex;

use super::geometry::{Geometry, Operand};
use super::spectrum::BoxTransform;
use super::{Circular, CircularOperation};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::signal::Scalar;

impl Circular {
    /// The exact inverse `v` of `y`: `apply(operation, y, v)` is 1 at the origin and 0 elsewhere.
    ///
    /// Its spectrum is `1 / F y` for convolution and `1 / conj(F y)` for correlation.
    ///
    /// # Shapes
    /// As `y`; axes that are not circular are batch.
    ///
    /// # Errors
    /// [`Error::Singular`] where an entry of the spectrum is 0 within rounding, or not a number;
    /// [`Error::Shape`] for an empty circular axis, [`Error::Argument`] for one that is not there.
    pub fn inverse<S, A, D>(
        &self,
        operation: CircularOperation,
        y: &ArrayBase<A, D>,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        D: Dimension,
    {
        self.through_spectrum(y, |spectrum| {
            let greatest = spectrum.iter().fold(0.0, |most, f| magnitude(*f).max(most));
            // errors of the transform grow with its number of stages
            let stages = 4.0 + (spectrum.len() as f64).log2();
            let epsilon = <S::Real as Float>::epsilon().to_f64();
            let threshold = 4.0 * epsilon * stages * greatest;
            for (bin, f) in spectrum.iter_mut().enumerate() {
                let size = magnitude(*f);
                if !(size > threshold && size.is_finite()) {
                    return Err((bin, size));
                }
                *f = match operation {
                    CircularOperation::Convolve => f.finv(),
                    CircularOperation::Correlate => f.conj().finv(),
                };
            }
            Ok(())
        })
    }

    /// The inverse that noise does not blow up (Wiener, 1949): spectrum
    /// `conj(F y) / (|F y|^2 + noise)` for convolution, its conjugate for correlation.
    ///
    /// `noise` is the power of the noise over that of the signal, in the units of `|F y|^2`.
    /// Every `y` has one; for `noise` towards 0 it becomes [`Circular::inverse`].
    ///
    /// # Shapes
    /// As `y`; axes that are not circular are batch.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `noise` is a positive number; [`Error::Shape`] for an empty
    /// circular axis.
    pub fn wiener_inverse<S, A, D>(
        &self,
        operation: CircularOperation,
        y: &ArrayBase<A, D>,
        noise: f64,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        D: Dimension,
    {
        let noise_in_s = <S::Real as Element>::from_f64(noise);
        if !(noise_in_s > S::Real::zero() && noise_in_s.is_finite()) {
            let expected = "a positive number in the precision of the data";
            return Err(Error::argument("noise", expected, noise));
        }
        self.through_spectrum(y, |spectrum| {
            for f in spectrum {
                let power = f.norm_sqr() + noise_in_s;
                let numerator = match operation {
                    CircularOperation::Convolve => f.conj(),
                    CircularOperation::Correlate => *f,
                };
                *f = numerator.unscale(power);
            }
            Ok(())
        })
    }

    /// Every box of `y` with its spectrum changed by `change`, which may find a bin unfit.
    fn through_spectrum<S, A, D>(
        &self,
        y: &ArrayBase<A, D>,
        change: impl Fn(&mut [Complex<S::Real>]) -> Result<(), (usize, f64)> + Sync,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        D: Dimension,
    {
        let geometry = Geometry::new(y.shape(), y.shape(), &self.axes)?;
        let transform = BoxTransform::<S>::new(geometry.dims());
        let boxes = geometry.boxes(y);
        let mut changed = vec![S::zero(); boxes.len()];
        let len = transform.len();
        let room = || {
            let spectrum = vec![Complex::zero(); transform.bins()];
            (transform.scratch(), spectrum)
        };
        // all of them, so that the first singular row is named whatever the number of threads
        let unfit: Vec<_> = boxes
            .par_chunks(len)
            .zip(changed.par_chunks_mut(len))
            .map_init(room, |(scratch, spectrum), (y, out)| {
                transform.forward(y, spectrum, scratch);
                let changed = change(spectrum);
                transform.inverse(spectrum, out, scratch);
                changed
            })
            .collect();
        for (row, unfit) in unfit.into_iter().enumerate() {
            if let Err((bin, magnitude)) = unfit {
                return Err(Error::Singular {
                    row,
                    bin: transform.frequency(bin),
                    magnitude,
                });
            }
        }
        geometry.array(Operand::X, y.shape(), changed)
    }
}

fn magnitude<R: crate::signal::Real>(f: Complex<R>) -> f64 {
    f.re.to_f64().hypot(f.im.to_f64())
}

/// The `v` with `circular_convolve(y, v)` = 1, 0, 0, .. along the last axis: `ifft(1 / F y)`.
///
/// # Shapes
/// As `y`; the axes before the last are batch.
///
/// # Errors
/// [`Error::Singular`], naming the row and the bin, where `F y` is 0 within rounding.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::{Error, signal::circular_convolve_inverse};
/// let u = circular_convolve_inverse(&arr1(&[7.0f64, 11.0, 13.0]))?;
/// assert!((u[0] * 868.0 + 94.0).abs() < 1e-12);
/// let mean_free = circular_convolve_inverse(&arr1(&[1.0, -1.0]));
/// assert!(matches!(mean_free, Err(Error::Singular { bin, .. }) if bin == [0]));
/// # Ok::<(), Error>(())
/// ```
pub fn circular_convolve_inverse<S, A, D>(y: &ArrayBase<A, D>) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    Circular::default().inverse(CircularOperation::Convolve, y)
}

/// The `v` with `circular_correlate(y, v)` = 1, 0, 0, .. along the last axis:
/// `ifft(1 / conj(F y))`, the inverse under convolution read backwards and conjugated.
///
/// # Shapes
/// As `y`; the axes before the last are batch.
///
/// # Errors
/// [`Error::Singular`], naming the row and the bin, where `F y` is 0 within rounding.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::circular_correlate_inverse;
/// let v = circular_correlate_inverse(&arr1(&[7.0f64, 11.0, 13.0]))?;
/// for (v, exact) in v.iter().zip([-94.0, 30.0, 92.0]) {
///     assert!((v * 868.0 - exact).abs() < 1e-12);
/// }
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_correlate_inverse<S, A, D>(y: &ArrayBase<A, D>) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    Circular::default().inverse(CircularOperation::Correlate, y)
}

/// [`Circular::wiener_inverse`] along the last axis.
///
/// # Shapes
/// As `y`; the axes before the last are batch.
///
/// # Errors
/// [`Error::Argument`] unless `noise` is a positive number.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{CircularOperation, circular_wiener_inverse};
/// let y = arr1(&[1.0, -1.0]); // no exact inverse: its mean is 0
/// let v = circular_wiener_inverse(CircularOperation::Convolve, &y, 1e-9)?;
/// assert!((v[0] - 0.25f64).abs() < 1e-9 && (v[1] + 0.25).abs() < 1e-9);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_wiener_inverse<S, A, D>(
    operation: CircularOperation,
    y: &ArrayBase<A, D>,
    noise: f64,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    Circular::default().wiener_inverse(operation, y, noise)
}
