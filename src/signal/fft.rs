//! Discrete Fourier transforms of signals: real data by real transforms, plans kept in a cache,
//! rows in parallel.
//!
//! `X[k] = sum over n of x[n] * exp(-2 pi i k n / N)` forward, unscaled; the inverse carries the
//! `1 / N`, as in NumPy. A real signal of length `N` has the `N / 2 + 1` bins of `rfft`, a complex
//! one all `N`. A length is never guessed: the inverse is told `N`, so odd lengths come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayBase, ArrayD, Axis, Data, Dimension, IxDyn};
use num_traits::Zero;
use rayon::prelude::*;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::scalar::{Real, Scalar};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// Elements below which a batch is transformed on the caller's thread.
const PARALLEL: usize = 1 << 14;

/// Twiddle factors that the plan cache of one element type may hold before it starts again.
const CACHED: usize = 1 << 24;

/// The transforms of one length between a signal of `S` and its spectrum.
#[doc(hidden)]
pub trait Transform<S: Scalar>: Send + Sync + 'static {
    /// Elements of the spectrum.
    fn bins(&self) -> usize;
    /// Elements of scratch for either direction.
    fn scratch(&self) -> usize;
    /// Destroys `x`.
    fn forward(
        &self,
        x: &mut [S],
        spectrum: &mut [Complex<S::Real>],
        scratch: &mut [Complex<S::Real>],
    );
    /// Without the `1 / n`; destroys `spectrum`.
    fn inverse(
        &self,
        spectrum: &mut [Complex<S::Real>],
        x: &mut [S],
        scratch: &mut [Complex<S::Real>],
    );
}

/// The transforms of a real signal.
#[doc(hidden)]
pub struct RealTransform<R: Real> {
    forward: Arc<dyn RealToComplex<R>>,
    inverse: Arc<dyn ComplexToReal<R>>,
}

impl<R: Real> RealTransform<R> {
    pub(crate) fn plan(planner: &mut Planner<R>, n: usize) -> Self {
        RealTransform {
            forward: planner.real.plan_fft_forward(n),
            inverse: planner.real.plan_fft_inverse(n),
        }
    }
}

impl<R: Real> Transform<R> for RealTransform<R> {
    fn bins(&self) -> usize {
        self.forward.complex_len()
    }
    fn scratch(&self) -> usize {
        self.forward
            .get_scratch_len()
            .max(self.inverse.get_scratch_len())
    }
    fn forward(&self, x: &mut [R], spectrum: &mut [Complex<R>], scratch: &mut [Complex<R>]) {
        let scratch = &mut scratch[..self.forward.get_scratch_len()];
        let done = self.forward.process_with_scratch(x, spectrum, scratch);
        debug_assert!(done.is_ok());
    }
    fn inverse(&self, spectrum: &mut [Complex<R>], x: &mut [R], scratch: &mut [Complex<R>]) {
        // The bins of frequency 0 and 1/2 of a real signal are real: what rounding left goes.
        spectrum[0].im = R::zero();
        if x.len().is_multiple_of(2) {
            spectrum[x.len() / 2].im = R::zero();
        }
        let scratch = &mut scratch[..self.inverse.get_scratch_len()];
        let done = self.inverse.process_with_scratch(spectrum, x, scratch);
        debug_assert!(done.is_ok());
    }
}

/// The transforms of a complex signal.
#[doc(hidden)]
pub struct ComplexTransform<R: Real> {
    forward: Arc<dyn Fft<R>>,
    inverse: Arc<dyn Fft<R>>,
}

impl<R: Real> ComplexTransform<R> {
    pub(crate) fn plan(planner: &mut Planner<R>, n: usize) -> Self {
        ComplexTransform {
            forward: planner.complex.plan_fft_forward(n),
            inverse: planner.complex.plan_fft_inverse(n),
        }
    }
}

impl<R: Real> ComplexTransform<R> {
    pub(crate) fn inplace_scratch(&self) -> usize {
        let forward = self.forward.get_inplace_scratch_len();
        forward.max(self.inverse.get_inplace_scratch_len())
    }
    pub(crate) fn forward_inplace(&self, x: &mut [Complex<R>], scratch: &mut [Complex<R>]) {
        self.forward.process_with_scratch(x, scratch);
    }
    /// Without the `1 / n`.
    pub(crate) fn inverse_inplace(&self, x: &mut [Complex<R>], scratch: &mut [Complex<R>]) {
        self.inverse.process_with_scratch(x, scratch);
    }
}

impl<R: Real> Transform<Complex<R>> for ComplexTransform<R> {
    fn bins(&self) -> usize {
        self.forward.len()
    }
    fn scratch(&self) -> usize {
        let forward = self.forward.get_outofplace_scratch_len();
        forward.max(self.inverse.get_outofplace_scratch_len())
    }
    fn forward(
        &self,
        x: &mut [Complex<R>],
        spectrum: &mut [Complex<R>],
        scratch: &mut [Complex<R>],
    ) {
        self.forward
            .process_outofplace_with_scratch(x, spectrum, scratch);
    }
    fn inverse(
        &self,
        spectrum: &mut [Complex<R>],
        x: &mut [Complex<R>],
        scratch: &mut [Complex<R>],
    ) {
        self.inverse
            .process_outofplace_with_scratch(spectrum, x, scratch);
    }
}

/// What makes new plans; it shares twiddle factors between them.
pub(crate) struct Planner<R: Real> {
    real: RealFftPlanner<R>,
    complex: FftPlanner<R>,
}

struct Cached<R: Real, T> {
    planner: Planner<R>,
    plans: HashMap<usize, Arc<T>>,
    elements: usize,
}

/// The plans of one kind that were made so far.
pub(crate) struct Cache<R: Real, T>(Mutex<Option<Cached<R, T>>>);

impl<R: Real, T> Cache<R, T> {
    pub(crate) fn get(&self, n: usize, make: impl FnOnce(&mut Planner<R>, usize) -> T) -> Arc<T> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = cache.as_ref().and_then(|c| c.plans.get(&n)) {
            return plan.clone();
        }
        if cache
            .as_ref()
            .is_some_and(|c| c.elements.saturating_add(n) > CACHED)
        {
            *cache = None;
        }
        let cached = cache.get_or_insert_with(|| Cached {
            planner: Planner {
                real: RealFftPlanner::new(),
                complex: FftPlanner::new(),
            },
            plans: HashMap::new(),
            elements: 0,
        });
        let plan = Arc::new(make(&mut cached.planner, n));
        cached.plans.insert(n, plan.clone());
        cached.elements = cached.elements.saturating_add(n);
        plan
    }
}

/// The plans of one precision.
#[doc(hidden)]
pub struct Plans<R: Real> {
    pub(crate) real: Cache<R, RealTransform<R>>,
    pub(crate) complex: Cache<R, ComplexTransform<R>>,
}

impl<R: Real> Plans<R> {
    pub(crate) const fn new() -> Self {
        Plans {
            real: Cache(Mutex::new(None)),
            complex: Cache(Mutex::new(None)),
        }
    }
}

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
