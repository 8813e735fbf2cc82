//! Rearrangements modulo a length: reversal, circulant matrices, periodic sums.

use ndarray::{Array2, ArrayBase, ArrayD, Axis, Data, Dimension, Ix1, IxDyn, Zip};

use super::circular_convolve;
use crate::error::{Error, Result};
use crate::shape::check_elements;
use crate::signal::Scalar;

/// `y[-n]` modulo the length of the last axis: the first element stays, the others are reversed.
///
/// The approximate inverse of holographic reduced representations (Plate, 1995); for real data
/// `circular_correlate(x, y)` is `circular_convolve(involution(x), y)`.
///
/// # Shapes
/// As `y`, with at least one axis.
///
/// # Errors
/// [`Error::Shape`] without an axis or for an empty last one.
///
/// ```
/// use ndconv::signal::involution;
/// let reversed = involution(&ndarray::arr1(&[1.0, 2.0, 3.0]))?;
/// assert_eq!(reversed.as_slice().unwrap(), [1.0, 3.0, 2.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn involution<S, A, D>(y: &ArrayBase<A, D>) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    let n = last_axis("y", y.shape())?;
    let rows = y.iter().copied().collect::<Vec<S>>();
    let reversed = rows
        .chunks(n)
        .flat_map(|row| row[..1].iter().chain(row[1..].iter().rev()).copied());
    array(y.shape(), reversed.collect())
}

/// The matrix of circular convolution with `v`: `C[i][j] = v[(i - j) mod N]`, so that
/// `C x = circular_convolve(v, x)`.
///
/// # Shapes
/// `v` has `N` elements, the result is `(N, N)`.
///
/// # Errors
/// [`Error::Shape`] for an empty `v`, [`Error::TooLarge`] when `N^2` elements do not fit.
///
/// ```
/// use ndconv::signal::circulant;
/// let c = circulant(&ndarray::arr1(&[1.0, 2.0, 3.0]))?;
/// assert_eq!(c, ndarray::arr2(&[[1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0]]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circulant<S, A>(v: &ArrayBase<A, Ix1>) -> Result<Array2<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
{
    let n = last_axis("v", v.shape())?;
    check_elements("the circulant matrix", &[n, n])?;
    Ok(Array2::from_shape_fn((n, n), |(i, j)| v[(i + n - j) % n]))
}

/// The sum of all shifts by multiples of `n` along the last axis: `z[k] = x[k] + x[k + n] + ..`.
///
/// A signal that is shorter than `n` is extended with zeros.
///
/// # Shapes
/// As `x`, with `n` elements on the last axis.
///
/// # Errors
/// [`Error::Argument`] for a period of 0, [`Error::Shape`] without an axis or for an empty last
/// one.
///
/// ```
/// use ndconv::signal::periodic_sum;
/// let x = ndarray::arr1(&[1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!(periodic_sum(&x, 2)?.as_slice().unwrap(), [9.0, 6.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn periodic_sum<S, A, D>(x: &ArrayBase<A, D>, n: usize) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    if n == 0 {
        return Err(Error::argument("the period", "at least 1", n));
    }
    last_axis("x", x.shape())?;
    let axis = Axis(x.ndim() - 1);
    let mut shape = x.shape().to_vec();
    shape[axis.0] = n;
    check_elements("the periodic sum", &shape)?;
    let mut sum = ArrayD::from_elem(IxDyn(&shape), S::zero());
    for period in x.view().into_dyn().axis_chunks_iter(axis, n) {
        let mut head = sum.view_mut();
        head.slice_axis_inplace(axis, (0..period.len_of(axis)).into());
        Zip::from(&mut head).and(&period).for_each(|s, &v| *s += v);
    }
    Ok(sum)
}

/// The circular convolution of period `n` of two signals of any lengths: MATLAB's
/// `cconv(a, b, n)`. With `n` at least `len(a) + len(b) - 1` it is the linear convolution.
///
/// # Shapes
/// The axes before the last broadcast; the result has `n` elements on the last.
///
/// # Errors
/// As [`periodic_sum`] and [`circular_convolve`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::circular_convolve_to;
/// let (a, b) = (arr1(&[2.0, 1.0, 2.0, 1.0]), arr1(&[1.0, 2.0, 3.0, 4.0]));
/// let period_4 = circular_convolve_to(&a, &b, 4)?;
/// assert_eq!(period_4.as_slice().unwrap(), [14.0, 16.0, 14.0, 16.0]);
/// let linear = circular_convolve_to(&a, &b, 7)?;
/// assert_eq!(linear.as_slice().unwrap(), [2.0, 5.0, 10.0, 16.0, 12.0, 11.0, 4.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[doc(alias = "cconv")]
pub fn circular_convolve_to<S, A, B, D, E>(
    a: &ArrayBase<A, D>,
    b: &ArrayBase<B, E>,
    n: usize,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
{
    circular_convolve(&periodic_sum(a, n)?, &periodic_sum(b, n)?)
}

fn last_axis(what: &str, shape: &[usize]) -> Result<usize> {
    match shape.last() {
        Some(&n) if n > 0 => Ok(n),
        _ => Err(Error::shape(
            what,
            "at least one element on the last axis",
            shape,
        )),
    }
}

fn array<S>(shape: &[usize], elements: Vec<S>) -> Result<ArrayD<S>> {
    ArrayD::from_shape_vec(IxDyn(shape), elements)
        .map_err(|e| Error::shape("array", "a shape that ndarray can hold", e))
}
