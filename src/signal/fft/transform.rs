//! The transforms behind a plan, and the cache that keeps them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::cpu::simd::FourierPlan;
use crate::signal::scalar::{Real, Scalar};

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
    /// Of many rows at once, for the lengths that have one.
    pub(crate) lanes: Cache<R, Option<FourierPlan<R>>>,
}

impl<R: Real> Plans<R> {
    pub(crate) const fn new() -> Self {
        Plans {
            real: Cache(Mutex::new(None)),
            complex: Cache(Mutex::new(None)),
            lanes: Cache(Mutex::new(None)),
        }
    }
}
