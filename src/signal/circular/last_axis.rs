//! The circular operations by name, over the last axis.

use ndarray::{ArrayBase, ArrayD, Data, Dimension};

use super::{Circular, CircularOperation};
use crate::error::Result;
use crate::signal::Scalar;

/// Circular convolution over the last axis: `z[n] = sum over k of x[k] y[(n - k) mod N]`.
///
/// # Shapes
/// Both last axes have `N` elements; the others are batch and broadcast.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for lengths that differ or are 0, or batches that do not broadcast.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::circular_convolve;
/// let z = circular_convolve(&arr1(&[1.0, 2.0, 3.0]), &arr1(&[0.0, 1.0, 0.0]))?;
/// assert_eq!(z.as_slice().unwrap(), [3.0, 1.0, 2.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[doc(alias = "cconv")]
pub fn circular_convolve<S, A, B, D, E>(
    x: &ArrayBase<A, D>,
    y: &ArrayBase<B, E>,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
{
    Circular::default().convolve(x, y)
}

/// Circular correlation over the last axis, the **first** argument conjugated:
/// `z[n] = sum over k of conj(x[k]) y[(k + n) mod N]`, the `ccorr(x, y)` of Plate (1995).
///
/// # Shapes
/// As [`circular_convolve`].
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndarray::{arr1, arr2};
/// use ndconv::signal::circular_correlate;
/// let batch = arr2(&[[2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]);
/// let z = circular_correlate(&batch, &arr1(&[7.0, 11.0, 13.0]))?;
/// assert_eq!(z, arr2(&[[112.0, 96.0, 102.0], [161.0, 151.0, 153.0]]).into_dyn());
/// # Ok::<(), ndconv::Error>(())
/// ```
#[doc(alias = "ccorr")]
pub fn circular_correlate<S, A, B, D, E>(
    x: &ArrayBase<A, D>,
    y: &ArrayBase<B, E>,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
{
    Circular::default().correlate(x, y)
}

/// Circular correlation over the last axis, the **second** argument conjugated:
/// `z[n] = sum over k of x[(k + n) mod N] conj(y[k])`, which is `circular_correlate(y, x)`.
///
/// # Shapes
/// As [`circular_convolve`].
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{circular_correlate, circular_correlate_conj_second};
/// let (a, b) = (arr1(&[1.0, 2.0, 3.0]), arr1(&[0.0, 1.0, 0.0]));
/// assert_eq!(circular_correlate(&a, &b)?.as_slice().unwrap(), [2.0, 1.0, 3.0]);
/// assert_eq!(circular_correlate_conj_second(&a, &b)?.as_slice().unwrap(), [2.0, 3.0, 1.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_correlate_conj_second<S, A, B, D, E>(
    x: &ArrayBase<A, D>,
    y: &ArrayBase<B, E>,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
{
    Circular::default().correlate(y, x)
}

/// The gradients of [`circular_convolve`] in `x` and `y`: `correlate(y, dz)` and
/// `correlate(x, dz)`, summed over what was broadcast.
///
/// # Shapes
/// `dz` has the result's shape, the gradients those of `x` and `y`.
///
/// # Errors
/// As [`circular_convolve`].
pub fn circular_convolve_vjp<S, A, B, C, D, E, F>(
    x: &ArrayBase<A, D>,
    y: &ArrayBase<B, E>,
    dz: &ArrayBase<C, F>,
) -> Result<(ArrayD<S>, ArrayD<S>)>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    C: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
    F: Dimension,
{
    Circular::default().apply_vjp(CircularOperation::Convolve, x, y, dz)
}

/// The gradients of [`circular_correlate`] in `x` and `y`: `correlate(dz, y)` and
/// `convolve(dz, x)`, summed over what was broadcast.
///
/// # Shapes
/// As [`circular_convolve_vjp`].
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndarray::{arr1, arr2};
/// use ndconv::signal::{circular_correlate, circular_correlate_vjp};
/// let (x, y) = (arr2(&[[2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]), arr1(&[7.0, 11.0, 13.0]));
/// // of sum(z^2)
/// let dz = circular_correlate(&x, &y)?.mapv(|z| 2.0 * z);
/// let (dx, dy) = circular_correlate_vjp(&x, &y, &dz)?;
/// assert_eq!(dx, arr2(&[[6332.0, 6388.0, 6500.0], [9554.0, 9610.0, 9666.0]]).into_dyn());
/// assert_eq!(dy, arr1(&[6650.0, 6730.0, 6770.0]).into_dyn());
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_correlate_vjp<S, A, B, C, D, E, F>(
    x: &ArrayBase<A, D>,
    y: &ArrayBase<B, E>,
    dz: &ArrayBase<C, F>,
) -> Result<(ArrayD<S>, ArrayD<S>)>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    C: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
    F: Dimension,
{
    Circular::default().apply_vjp(CircularOperation::Correlate, x, y, dz)
}
