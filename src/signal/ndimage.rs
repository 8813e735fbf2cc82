//! Filters of images and volumes as `scipy.ndimage` has them: as many results as elements, a
//! boundary, an origin.
//!
//! ```text
//! correlate  y[i] = sum over j of w[j] * x[i + j - k / 2 - origin]       floor division
//! convolve   y[i] = sum over j of w[j] * x[i - j + k / 2 + origin]
//! ```

use ndarray::{Array, ArrayBase, ArrayD, Data, Dimension, IxDyn};

use super::align::{Align, Mode};
use super::boundary::Boundary;
use super::convolution::Convolution;
use super::cost::Method;
use super::scalar::Scalar;
use crate::error::{Error, Result};

/// The [`Convolution`] that these functions are: `Same`, aligned as ndimage, by the fastest method.
///
/// Its gradients, its other methods and its batch axes are there for the asking.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Boundary, ndimage};
/// let filter = ndimage::filter(Boundary::Wrap, &[0]);
/// let g = filter.correlate_vjp(&arr1(&[1.0, 2.0]), &arr1(&[1.0, 1.0]), &arr1(&[1.0, 0.0]))?;
/// assert_eq!(g.a, arr1(&[1.0, 1.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn filter(boundary: Boundary, origin: &[isize]) -> Convolution {
    Convolution::new(Mode::Same)
        .align(Align::Ndimage)
        .boundary(boundary)
        .origin(origin)
}

/// `scipy.ndimage.correlate`: the weights as they stand, conjugated if complex.
///
/// # Shapes
/// `w` has as many axes as `x`, the result is as `x`; `origin` is one number, one per axis, or
/// empty for 0.
///
/// # Errors
/// Those of [`Convolution`]; [`Error::Argument`] for an origin outside `-(k / 2)..=(k - 1) / 2`.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Boundary, ndimage};
/// let x = arr1(&[1.0, 2.0, 3.0]);
/// let y = ndimage::correlate(&x, &arr1(&[1.0, 0.0, 10.0]), Boundary::Reflect, &[])?;
/// assert_eq!(y, arr1(&[21.0, 31.0, 32.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn correlate<S, A, B, D>(
    x: &ArrayBase<A, D>,
    w: &ArrayBase<B, D>,
    boundary: Boundary,
    origin: &[isize],
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
{
    filter(boundary, origin).correlate(x, w)
}

/// `scipy.ndimage.convolve`: the weights reversed along every axis.
///
/// # Shapes
/// As [`correlate`].
///
/// # Errors
/// As [`correlate`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Boundary, ndimage};
/// let x = arr1(&[1.0, 2.0, 3.0]);
/// let y = ndimage::convolve(&x, &arr1(&[1.0, 0.0, 10.0]), Boundary::Constant(7.0), &[])?;
/// assert_eq!(y, arr1(&[72.0, 13.0, 27.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn convolve<S, A, B, D>(
    x: &ArrayBase<A, D>,
    w: &ArrayBase<B, D>,
    boundary: Boundary,
    origin: &[isize],
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
{
    filter(boundary, origin).convolve(x, w)
}

/// [`correlate`] of every lane along one axis.
///
/// # Errors
/// As [`correlate`], and [`Error::Argument`] for an axis that is not there.
///
/// ```
/// use ndarray::arr2;
/// use ndconv::signal::{Boundary, ndimage};
/// let x = arr2(&[[1.0, 5.0], [2.0, 6.0]]);
/// let y = ndimage::correlate1d(&x, &[-1.0, 0.0, 1.0], 0, Boundary::Nearest, 0)?;
/// assert_eq!(y, arr2(&[[1.0, 1.0], [1.0, 1.0]]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn correlate1d<S, A, D>(
    x: &ArrayBase<A, D>,
    w: &[S],
    axis: usize,
    boundary: Boundary,
    origin: isize,
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    along(axis, boundary, origin).correlate(x, &lane(w, axis, x.ndim())?)
}

/// [`convolve`] of every lane along one axis.
///
/// # Errors
/// As [`correlate1d`].
pub fn convolve1d<S, A, D>(
    x: &ArrayBase<A, D>,
    w: &[S],
    axis: usize,
    boundary: Boundary,
    origin: isize,
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    along(axis, boundary, origin).convolve(x, &lane(w, axis, x.ndim())?)
}

/// A separable filter: [`correlate1d`] with its own weights along every axis, last axis first.
///
/// # Errors
/// As [`correlate1d`], and [`Error::Shape`] unless there is one set of weights per axis.
///
/// ```
/// use ndarray::Array2;
/// use ndconv::signal::{Boundary, kernel, ndimage};
/// let blur = kernel::gaussian(1.5)?;
/// let y = ndimage::separable(&Array2::from_elem((9, 9), 2.0), &[&blur, &blur], Boundary::Reflect)?;
/// assert!(y.iter().all(|v: &f64| (v - 2.0).abs() < 1e-14));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn separable<S, A, D>(
    x: &ArrayBase<A, D>,
    weights: &[&[S]],
    boundary: Boundary,
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    if weights.len() != x.ndim() {
        let expected = format!("one set for each of {} axes", x.ndim());
        return Err(Error::shape("weights", expected, weights.len()));
    }
    let mut y = x.to_owned();
    for (axis, w) in weights.iter().enumerate().rev() {
        y = correlate1d(&y, w, axis, boundary, 0)?;
    }
    Ok(y)
}

fn along(axis: usize, boundary: Boundary, origin: isize) -> Convolution {
    filter(boundary, &[origin])
        .axes(&[axis])
        .method(Method::Auto)
}

/// The weights as an array of `rank` axes, all but one of size 1.
fn lane<S: Scalar>(w: &[S], axis: usize, rank: usize) -> Result<ArrayD<S>> {
    if axis >= rank {
        let expected = format!("less than the number of axes, {rank}");
        return Err(Error::argument("axis", expected, axis));
    }
    let mut shape = vec![1; rank];
    shape[axis] = w.len();
    ArrayD::from_shape_vec(IxDyn(&shape), w.to_vec())
        .map_err(|e| Error::shape("weights", "a number of taps", e.to_string()))
}
