//! Holographic reduced representations (Plate, 1995): structures as vectors of one length.
//!
//! `bind(role, filler)` is a circular convolution, which looks like neither operand; `superpose`
//! adds bound pairs up into one trace of the same length; `unbind(trace, role)` gives the filler
//! back with noise, and `similarity` finds which one it is. Vectors have independent elements of
//! variance `1 / length` ([`random`]), or spectra of magnitude 1 ([`random_unitary`]), for which
//! unbinding a single pair is exact.

use ndarray::{Array2, ArrayBase, ArrayD, Axis, Data, Dimension, IxDyn};
use num_traits::{Float, Zero};
use rustfft::num_complex::Complex;

use super::fft::Plan;
use super::{Real, circular_convolve, circular_correlate};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::init::Rng;
use crate::shape::check_elements;

/// Binds two vectors: `circular_convolve(a, b)`.
///
/// # Shapes
/// Vectors lie along the last axis; the others are batch and broadcast.
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndconv::{init::Rng, signal::hrr};
/// let vectors = hrr::random_unitary::<f64>(2, 64, &mut Rng::new(0))?;
/// let (role, filler) = (vectors.row(0), vectors.row(1));
/// let back = hrr::unbind(&hrr::bind(&role, &filler)?, &role)?;
/// assert!((hrr::similarity(&back, &filler)?.sum() - 1.0).abs() < 1e-12);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn bind<R, A, B, D, E>(a: &ArrayBase<A, D>, b: &ArrayBase<B, E>) -> Result<ArrayD<R>>
where
    R: Real,
    A: Data<Elem = R>,
    B: Data<Elem = R>,
    D: Dimension,
    E: Dimension,
{
    circular_convolve(a, b)
}

/// What was bound to `role` in `trace`, with noise: `circular_correlate(role, trace)`, which is
/// binding to the role's [involution](super::involution).
///
/// # Shapes
/// As [`bind`].
///
/// # Errors
/// As [`circular_convolve`].
pub fn unbind<R, A, B, D, E>(trace: &ArrayBase<A, D>, role: &ArrayBase<B, E>) -> Result<ArrayD<R>>
where
    R: Real,
    A: Data<Elem = R>,
    B: Data<Elem = R>,
    D: Dimension,
    E: Dimension,
{
    circular_correlate(role, trace)
}

/// The sum of vectors: one trace that holds them all.
///
/// # Shapes
/// `(.., vectors, length)` to `(.., length)`.
///
/// # Errors
/// [`Error::Shape`] for fewer than two axes.
pub fn superpose<R, A, D>(vectors: &ArrayBase<A, D>) -> Result<ArrayD<R>>
where
    R: Real,
    A: Data<Elem = R>,
    D: Dimension,
{
    let vectors = vectors.view().into_dyn();
    match vectors.ndim().checked_sub(2) {
        Some(axis) => Ok(vectors.sum_axis(Axis(axis))),
        None => Err(Error::shape(
            "vectors",
            "(.., vectors, length)",
            vectors.shape(),
        )),
    }
}

/// The cosine of the angle between vectors; 0 where one of them is 0.
///
/// # Shapes
/// Vectors lie along the last axis, the others broadcast; the result has those others.
///
/// # Errors
/// [`Error::Shape`] for lengths that differ or batches that do not broadcast.
pub fn similarity<R, A, B, D, E>(a: &ArrayBase<A, D>, b: &ArrayBase<B, E>) -> Result<ArrayD<R>>
where
    R: Real,
    A: Data<Elem = R>,
    B: Data<Elem = R>,
    D: Dimension,
    E: Dimension,
{
    let differ = || {
        let expected = "vectors of one length on the last axes, and batches that broadcast";
        let got = format!("{:?} and {:?}", a.shape(), b.shape());
        Error::shape("similarity", expected, got)
    };
    if a.ndim() == 0 || b.ndim() == 0 || a.shape().last() != b.shape().last() {
        return Err(differ());
    }
    let (a, b) = (a.view().into_dyn(), b.view().into_dyn());
    let rank = a.ndim().max(b.ndim());
    let size = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => 1,
    };
    let shape: Vec<usize> = (0..rank)
        .map(
            |axis| match [size(a.shape(), axis), size(b.shape(), axis)] {
                [1, n] | [n, _] => n,
            },
        )
        .collect();
    let wide_a = a.broadcast(IxDyn(&shape)).ok_or_else(differ)?;
    let wide_b = b.broadcast(IxDyn(&shape)).ok_or_else(differ)?;
    let last = Axis(rank - 1);
    let mut cosines = ArrayD::zeros(IxDyn(&shape[..rank - 1]));
    let rows = wide_a.lanes(last).into_iter().zip(wide_b.lanes(last));
    for (cosine, (a, b)) in cosines.iter_mut().zip(rows) {
        let mut sums = [R::zero(); 3];
        for (&a, &b) in a.iter().zip(b) {
            sums[0] += a * b;
            sums[1] += a * a;
            sums[2] += b * b;
        }
        let norms = Float::sqrt(sums[1]) * Float::sqrt(sums[2]);
        if norms > R::zero() || norms.is_nan() {
            *cosine = sums[0] / norms;
        }
    }
    Ok(cosines)
}

/// Vectors of independent normal elements of variance `1 / length`: about 1 long.
///
/// # Shapes
/// `(vectors, length)`.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Argument`] for a length of 0.
pub fn random<R: Real>(vectors: usize, length: usize, rng: &mut Rng) -> Result<Array2<R>> {
    if length == 0 {
        return Err(Error::argument("length", "at least 1", length));
    }
    check_elements("the vectors", &[vectors, length])?;
    let deviation = (1.0 / length as f64).sqrt();
    Ok(Array2::from_shape_simple_fn((vectors, length), || {
        <R as Element>::from_f64(rng.normal() * deviation)
    }))
}

/// Random vectors whose spectra have magnitude 1: the involution is then the exact inverse.
///
/// # Shapes
/// `(vectors, length)`.
///
/// # Errors
/// As [`random`].
pub fn random_unitary<R: Real>(vectors: usize, length: usize, rng: &mut Rng) -> Result<Array2<R>> {
    let noise = random::<R>(vectors, length, rng)?;
    let plan = Plan::<R>::new(length)?;
    let mut spectra = plan.forward_rows(&noise.into_iter().collect::<Vec<R>>(), length)?;
    for bin in &mut spectra {
        let size = bin.norm();
        *bin = if size > R::zero() {
            bin.unscale(size)
        } else {
            Complex::new(R::one(), Zero::zero())
        };
    }
    Array2::from_shape_vec((vectors, length), plan.inverse_rows(spectra)?)
        .map_err(|e| Error::shape("vectors", "a shape that ndarray can hold", e))
}
