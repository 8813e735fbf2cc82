//! Discrete Fourier transforms of signals: real data by real transforms, plans kept in a cache,
//! rows in parallel.
//!
//! `X[k] = sum over n of x[n] * exp(-2 pi i k n / N)` forward, unscaled; the inverse carries the
//! `1 / N`, as in NumPy. A real signal of length `N` has the `N / 2 + 1` bins of `rfft`, a complex
//! one all `N`. A length is never guessed: the inverse is told `N`, so odd lengths come back.

mod transform;

use std::sync::Arc;

use ndarray::{ArrayBase, ArrayD, Axis, Data, Dimension, IxDyn};
use num_traits::Zero;
use rayon::prelude::*;
use rustfft::num_complex::Complex;

use super::scalar::Scalar;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::shape::check_elements;
pub(crate) use transform::{ComplexTransform, Plans, RealTransform, Transform};

/// Elements below which a batch is transformed on the caller's thread.
const PARALLEL: usize = 1 << 14;

/// The forward and inverse transform of one length, cheap to clone and to ask for again.
///
/// ```
/// use ndconv::signal::{Complex, fft::Plan};
/// let plan = Plan::<f64>::new(3)?;
/// let spectra = plan.forward_rows(&[1.0, 2.0, 3.0, 1.0, 0.0, 0.0], 3)?; // two rows
/// assert_eq!(plan.bins(), 2);
/// assert_eq!((spectra[0], spectra[2]), (Complex::new(6.0, 0.0), Complex::new(1.0, 0.0)));
/// let back = plan.inverse_rows(spectra)?;
/// assert!((back[1] - 2.0f64).abs() < 1e-15);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub struct Plan<S: Scalar> {
    n: usize,
    transform: Arc<S::Transform>,
}

impl<S: Scalar> Clone for Plan<S> {
    fn clone(&self) -> Self {
        Plan {
            n: self.n,
            transform: self.transform.clone(),
        }
    }
}

/// Working memory of one thread for one plan.
pub(crate) struct Work<S: Scalar> {
    pub signal: Vec<S>,
    scratch: Vec<Complex<S::Real>>,
}

impl<S: Scalar> Plan<S> {
    /// The transforms of length `n`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a length of 0, [`Error::TooLarge`] for one that memory cannot hold.
    pub fn new(n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::argument("the transform length", "at least 1", n));
        }
        check_elements("the transform", &[n, 2])?;
        let transform = S::transform(n);
        Ok(Plan { n, transform })
    }

    /// The length of the signal.
    pub fn signal_len(&self) -> usize {
        self.n
    }

    pub(crate) fn transform(&self) -> &S::Transform {
        &self.transform
    }

    /// The length of the spectrum: `n / 2 + 1` for a real signal, `n` for a complex one.
    pub fn bins(&self) -> usize {
        self.transform.bins()
    }

    /// Memory for one thread.
    pub(crate) fn work(&self) -> Work<S> {
        Work {
            signal: vec![S::zero(); self.n],
            scratch: vec![Complex::zero(); self.transform.scratch()],
        }
    }

    /// Makes the memory of another plan that of this one.
    pub(crate) fn fit(&self, work: &mut Option<Work<S>>) {
        if let Some(work) = work {
            work.signal.resize(self.n, S::zero());
            work.scratch
                .resize(self.transform.scratch(), Complex::zero());
        }
    }

    /// `work.signal` to `spectrum`; the signal is destroyed.
    pub(crate) fn forward_into(&self, work: &mut Work<S>, spectrum: &mut [Complex<S::Real>]) {
        self.transform
            .forward(&mut work.signal, spectrum, &mut work.scratch);
    }

    /// `spectrum` to `work.signal`, without the `1 / n`; the spectrum is destroyed.
    pub(crate) fn inverse_into(&self, spectrum: &mut [Complex<S::Real>], work: &mut Work<S>) {
        self.transform
            .inverse(spectrum, &mut work.signal, &mut work.scratch);
    }

    /// `1 / n`.
    pub(crate) fn scale(&self) -> S::Real {
        <S::Real as Element>::from_f64(1.0 / self.n as f64)
    }

    /// The spectra of rows of `len <= n` elements, each extended with zeros to `n`.
    ///
    /// # Shapes
    /// `x` is `(rows, len)` and the result `(rows, bins)`, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when `len` is 0 or above `n`, or does not divide the number of elements.
    pub fn forward_rows(&self, x: &[S], len: usize) -> Result<Vec<Complex<S::Real>>> {
        if len == 0 || len > self.n || !x.len().is_multiple_of(len) {
            let expected = format!("rows of 1 to {} elements", self.n);
            return Err(Error::shape(
                "rows",
                expected,
                format!("{} in rows of {len}", x.len()),
            ));
        }
        let mut spectra = vec![Complex::zero(); x.len() / len * self.bins()];
        let one = |work: &mut Work<S>, (row, spectrum): (&[S], &mut [Complex<S::Real>])| {
            work.signal[..len].copy_from_slice(row);
            work.signal[len..].fill(S::zero());
            self.forward_into(work, spectrum);
        };
        if spectra.len() < PARALLEL {
            let mut work = self.work();
            let rows = x.chunks(len).zip(spectra.chunks_mut(self.bins()));
            rows.for_each(|row| one(&mut work, row));
        } else {
            let rows = x.par_chunks(len).zip(spectra.par_chunks_mut(self.bins()));
            rows.for_each_init(|| self.work(), one);
        }
        Ok(spectra)
    }

    /// The rows of `n` elements that have these spectra, with the `1 / n`.
    ///
    /// # Shapes
    /// `spectra` is `(rows, bins)` and the result `(rows, n)`, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when `bins` does not divide the number of elements.
    pub fn inverse_rows(&self, mut spectra: Vec<Complex<S::Real>>) -> Result<Vec<S>> {
        let bins = self.bins();
        if !spectra.len().is_multiple_of(bins) {
            let expected = format!("rows of {bins} bins");
            return Err(Error::shape("spectra", expected, spectra.len()));
        }
        let mut x = vec![S::zero(); spectra.len() / bins * self.n];
        let scale = self.scale();
        let one = |scratch: &mut Vec<_>, (spectrum, row): (&mut [Complex<_>], &mut [S])| {
            self.transform.inverse(spectrum, row, scratch);
            row.iter_mut().for_each(|v| *v = v.scale(scale));
        };
        let scratch = || vec![Complex::zero(); self.transform.scratch()];
        if spectra.len() < PARALLEL {
            let mut scratch = scratch();
            let rows = spectra.chunks_mut(bins).zip(x.chunks_mut(self.n));
            rows.for_each(|row| one(&mut scratch, row));
        } else {
            let rows = spectra.par_chunks_mut(bins).zip(x.par_chunks_mut(self.n));
            rows.for_each_init(scratch, one);
        }
        Ok(x)
    }
}

/// The spectrum of every lane along `axis`, extended with zeros to `n`.
///
/// # Shapes
/// As `x`, with `n / 2 + 1` (real) or `n` (complex) bins along `axis`.
///
/// # Errors
/// [`Error::Argument`] for an axis that is not there, [`Error::Shape`] for a lane that is empty or
/// longer than `n`.
///
/// ```
/// use ndarray::arr2;
/// use ndconv::signal::fft;
/// let x = arr2(&[[1.0, 2.0], [3.0, 5.0]]);
/// let spectrum = fft::forward(&x, 0, 2)?;
/// assert_eq!(spectrum[[1, 1]].re, -3.0);
/// assert_eq!(fft::inverse::<f64, _, _>(&spectrum, 0, 2)?, x.into_dyn());
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn forward<S, A, D>(
    x: &ArrayBase<A, D>,
    axis: usize,
    n: usize,
) -> Result<ArrayD<Complex<S::Real>>>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    let plan = Plan::<S>::new(n)?;
    along(x, axis, plan.bins(), |rows, len| {
        plan.forward_rows(&rows, len)
    })
}

/// The signal of length `n` of every spectrum along `axis`: [`forward`] undone.
///
/// # Shapes
/// As `spectrum`, with `n` elements along `axis`.
///
/// # Errors
/// [`Error::Argument`] for an axis that is not there, [`Error::Shape`] for another number of bins.
pub fn inverse<S, A, D>(spectrum: &ArrayBase<A, D>, axis: usize, n: usize) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = Complex<S::Real>>,
    D: Dimension,
{
    let plan = Plan::<S>::new(n)?;
    along(spectrum, axis, n, |rows, len| {
        if len != plan.bins() {
            let expected = format!("{} bins along axis {axis}", plan.bins());
            return Err(Error::shape("spectrum", expected, len));
        }
        plan.inverse_rows(rows)
    })
}

/// Applies `rows(elements, length)` to the lanes along `axis`, which become `len` long.
fn along<A, B, S, D>(
    x: &ArrayBase<S, D>,
    axis: usize,
    len: usize,
    rows: impl FnOnce(Vec<A>, usize) -> Result<Vec<B>>,
) -> Result<ArrayD<B>>
where
    A: Copy,
    B: Copy,
    S: Data<Elem = A>,
    D: Dimension,
{
    if axis >= x.ndim() {
        let expected = format!("less than the number of axes, {}", x.ndim());
        return Err(Error::argument("axis", expected, axis));
    }
    let mut order: Vec<usize> = (0..x.ndim()).filter(|&a| a != axis).collect();
    order.push(axis);
    let lanes = x.view().into_dyn().permuted_axes(order.clone());
    let mut shape = lanes.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = len;
    check_elements("the transformed array", &shape)?;
    let moved = if lanes.is_empty() {
        return Err(Error::shape("x", "no empty axis", x.shape()));
    } else {
        rows(lanes.iter().copied().collect(), x.shape()[axis])?
    };
    let moved = ArrayD::from_shape_vec(IxDyn(&shape), moved)
        .map_err(|e| Error::shape("spectrum", "a whole number of rows", e.to_string()))?;
    let mut back = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    let natural = moved.permuted_axes(back);
    debug_assert_eq!(natural.len_of(Axis(axis)), len);
    Ok(natural.as_standard_layout().into_owned())
}

/// The least length at or above `n` that transforms fast: a product of 2, 3 and 5, even above 1,
/// so that a real signal packs into half as many complex numbers.
///
/// ```
/// use ndconv::signal::fft::next_fast_len;
/// assert_eq!([1, 7, 1023, 1201].map(next_fast_len), [1, 8, 1024, 1250]);
/// ```
pub fn next_fast_len(n: usize) -> usize {
    if n <= 1 {
        return 1;
    }
    let mut best = n.checked_next_power_of_two().unwrap_or(n);
    let mut fives = 1usize;
    while fives < best {
        let mut odd = fives;
        while odd < best {
            let halves = n.div_ceil(odd).max(2);
            if let Some(len) = halves
                .checked_next_power_of_two()
                .and_then(|p| p.checked_mul(odd))
            {
                best = best.min(len);
            }
            let Some(next) = odd.checked_mul(3) else {
                break;
            };
            odd = next;
        }
        let Some(next) = fives.checked_mul(5) else {
            break;
        };
        fives = next;
    }
    best
}
