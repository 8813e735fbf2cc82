//! The kernels that image processing asks for by name.

use ndarray::{Array2, arr2};

use crate::error::{Error, Result};

/// Standard deviations after which a Gaussian is cut off, as in `scipy.ndimage`.
const TRUNCATE: f64 = 4.0;

/// Taps of a Gaussian of standard deviation `sigma` (in positions), which sum to 1:
/// `exp(-j^2 / (2 sigma^2))` for `|j| <= floor(4 sigma + 1/2)`.
///
/// # Errors
/// [`Error::Argument`] unless `sigma` is positive, finite and at most 1e6.
///
/// ```
/// let taps = ndconv::signal::kernel::gaussian(1.0)?;
/// assert_eq!(taps.len(), 9);
/// assert!((taps.iter().sum::<f64>() - 1.0).abs() < 1e-15);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn gaussian(sigma: f64) -> Result<Vec<f64>> {
    if !(sigma > 0.0 && sigma <= 1e6) {
        return Err(Error::argument(
            "sigma",
            "a positive number up to 1e6",
            sigma,
        ));
    }
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let tap = |j: i64| (-0.5 * (j as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(tap).sum();
    Ok((-radius..=radius).map(|j| tap(j) / sum).collect())
}

/// Sobel's weights for the change along columns (x), as a correlation: brighter to the right is
/// positive.
pub fn sobel_x() -> Array2<f64> {
    arr2(&[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
}

/// Sobel's weights for the change along rows (y), as a correlation: brighter below is positive.
pub fn sobel_y() -> Array2<f64> {
    sobel_x().reversed_axes().as_standard_layout().into_owned()
}

/// The five-point Laplacian.
pub fn laplace() -> Array2<f64> {
    arr2(&[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
}

/// The mean over `size` by `size` pixels.
///
/// # Errors
/// [`Error::Argument`] unless `size` is 1 to 10000.
///
/// ```
/// assert_eq!(ndconv::signal::kernel::mean(2)?, ndarray::arr2(&[[0.25, 0.25], [0.25, 0.25]]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn mean(size: usize) -> Result<Array2<f64>> {
    if !(1..=10_000).contains(&size) {
        return Err(Error::argument("the size of the box", "1 to 10000", size));
    }
    Ok(Array2::from_elem((size, size), 1.0 / (size * size) as f64))
}
