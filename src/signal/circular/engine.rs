//! Circular operations on boxes of elements in memory.

use std::sync::Arc;

use num_traits::Zero;
use rayon::prelude::*;
use rustfft::num_complex::Complex;

use super::geometry::{Operand, Pairing};
use super::spectrum::{BoxTransform, Scratch};
use super::{CircularMethod, CircularOperation, lanes};
use crate::cpu::simd::FourierPlan;
use crate::signal::{Real, Scalar};

/// Pairs that one partial sum runs over.
pub(super) const CHUNK: usize = 64;

/// Elements of work below which threads cost more than they bring.
pub(super) const PARALLEL: usize = 1 << 13;

/// `z[o] = sum over its pairs (i, j) of a[i] op b[j]`, boxes of the sizes `dims`, row-major.
pub(crate) fn sums<S: Scalar>(
    operation: CircularOperation,
    method: CircularMethod,
    dims: &[usize],
    [a, b]: [&[S]; 2],
    pairing: &Pairing,
) -> Vec<S> {
    let len: usize = dims.iter().product();
    let zeros = || vec![S::zero(); pairing.outputs() * len];
    if method.is_direct::<S>(len) {
        let direct = Direct { operation, dims };
        let mut out = zeros();
        fill(
            pairing,
            len,
            &mut out,
            direct.work(),
            |pairs, out, work| {
                let mut partial = Vec::new();
                let sum = match out {
                    Some(out) => out,
                    None => {
                        partial.resize(len, S::zero());
                        &mut partial
                    }
                };
                sum.fill(S::zero());
                for &(i, j) in pairs {
                    direct.add(&a[i * len..][..len], &b[j * len..][..len], sum, work);
                }
                partial
            },
            |sum, out| out.copy_from_slice(sum),
        );
        return out;
    }
    if let Some(plan) = &*rows_plan::<S>(dims) {
        let rows = [a, b].map(|rows| S::planes(rows, len));
        if let Some(out) = lanes::sums(operation, plan, [&rows[0], &rows[1]], pairing) {
            return S::from_planes(out, len);
        }
    }
    let transform = BoxTransform::<S>::new(dims);
    let fft = Spectral {
        operation,
        a: Spectra::new(&transform, a, pairing.len()),
        b: Spectra::new(&transform, b, pairing.len()),
        transform: &transform,
    };
    let mut out = zeros();
    fill(
        pairing,
        len,
        &mut out,
        fft.work(),
        |pairs, out, work| fft.sum(pairs, out, work),
        |sum, out| transform.inverse(sum, out, &mut transform.scratch()),
    );
    out
}

/// Both results of two sums over the same three operands whose boxes pair up one to one, where that
/// is faster than two calls of [`sums`].
pub(crate) fn both_sums<S: Scalar>(
    sums: [(CircularOperation, Operand, Operand); 2],
    method: CircularMethod,
    dims: &[usize],
    operands: [&[S]; 3],
) -> Option<[Vec<S>; 2]> {
    let len: usize = dims.iter().product();
    if method.is_direct::<S>(len) {
        return None;
    }
    let plan = rows_plan::<S>(dims);
    let rows = operands.map(|rows| S::planes(rows, len));
    let both = lanes::both_sums(sums, (*plan).as_ref()?, rows.each_ref().map(|rows| &**rows))?;
    Some(both.map(|out| S::from_planes(out, len)))
}

/// The transforms of many real rows, where boxes are rows (one axis is circular, or all others have
/// one element) and their length has such.
fn rows_plan<S: Scalar>(dims: &[usize]) -> Arc<Option<FourierPlan<S::Real>>> {
    let len = dims.iter().product();
    if S::COMPLEX || !dims.contains(&len) {
        return Arc::new(None);
    }
    let plans = &S::Real::plans().lanes;
    plans.get(len, |_, n| FourierPlan::new(n, S::Real::of))
}

/// Runs `sum` over the pairs of every output: in parallel over the outputs or, where few outputs
/// have many pairs each, over fixed stretches of pairs whose partial sums `finish` turns into the
/// output.
fn fill<S: Scalar, A, W>(
    pairing: &Pairing,
    len: usize,
    out: &mut [S],
    work: W,
    sum: impl Fn(&[(usize, usize)], Option<&mut [S]>, &mut W) -> Vec<A> + Sync,
    finish: impl Fn(&mut [A], &mut [S]),
) where
    A: Copy + Send + std::ops::AddAssign,
    W: Clone + Send + Sync,
{
    let outputs = pairing.outputs();
    if pairing.len() <= outputs.saturating_mul(CHUNK) {
        let one = |work: &mut W, (o, out): (usize, &mut [S])| {
            sum(pairing.of(o), Some(out), work);
        };
        let mut work = work;
        if pairing.len().saturating_mul(len) < PARALLEL {
            let boxes = out.chunks_mut(len).enumerate();
            return boxes.for_each(|item| one(&mut work, item));
        }
        let least = (PARALLEL / len).max(1);
        let boxes = out.par_chunks_mut(len).enumerate().with_min_len(least);
        return boxes.for_each_init(|| work.clone(), one);
    }
    for (o, out) in out.chunks_mut(len).enumerate() {
        let parts: Vec<Vec<A>> = pairing
            .of(o)
            .par_chunks(CHUNK)
            .map_init(|| work.clone(), |work, pairs| sum(pairs, None, work))
            .collect();
        let mut parts = parts.into_iter();
        let Some(mut total) = parts.next() else {
            out.fill(S::zero());
            continue;
        };
        for part in parts {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
        finish(&mut total, out);
    }
}

/// The sums as they are defined.
#[derive(Clone, Copy)]
struct Direct<'a> {
    operation: CircularOperation,
    dims: &'a [usize],
}

impl Direct<'_> {
    /// Room for one row of `b`, twice.
    fn work<S: Scalar>(&self) -> Vec<S> {
        vec![S::zero(); 2 * self.row()]
    }

    fn row(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// `sum += a op b`.
    fn add<S: Scalar>(&self, a: &[S], b: &[S], sum: &mut [S], twice: &mut [S]) {
        let n = self.row();
        let outer = &self.dims[..self.dims.len() - 1];
        for (number, b) in b.chunks(n).enumerate() {
            twice[..n].copy_from_slice(b);
            twice[n..].copy_from_slice(b);
            for (i, a) in a.chunks(n).enumerate() {
                // correlate: z[j - i] += conj(a[i]) b[j]; convolve: z[j + i] += a[i] b[j]
                let to = self.meet(outer, i, number);
                let sum = &mut sum[to * n..][..n];
                for (k, &a) in a.iter().enumerate() {
                    let (a, shift) = match self.operation {
                        CircularOperation::Convolve => (a, n - k),
                        CircularOperation::Correlate => (a.conj(), k),
                    };
                    let shifted = &twice[shift..][..n];
                    sum.iter_mut().zip(shifted).for_each(|(z, &b)| *z += a * b);
                }
            }
        }
    }

    /// The row of the result that row `i` of `a` and row `j` of `b` add to.
    fn meet(&self, outer: &[usize], mut i: usize, mut j: usize) -> usize {
        let (mut to, mut step) = (0, 1);
        for &size in outer.iter().rev() {
            let (p, q) = (i % size, j % size);
            let r = match self.operation {
                CircularOperation::Convolve => (q + p) % size,
                CircularOperation::Correlate => (q + size - p) % size,
            };
            to += r * step;
            step *= size;
            i /= size;
            j /= size;
        }
        to
    }
}

/// The boxes of one operand, and their spectra where each is met more than once.
struct Spectra<'a, S: Scalar> {
    boxes: &'a [S],
    spectra: Option<Vec<Complex<S::Real>>>,
}

impl<'a, S: Scalar> Spectra<'a, S> {
    fn new(transform: &BoxTransform<S>, boxes: &'a [S], meetings: usize) -> Self {
        let met_again = boxes.len() < meetings.saturating_mul(transform.len());
        Spectra {
            boxes,
            spectra: met_again.then(|| transform.forward_all(boxes)),
        }
    }

    /// The spectrum of box `i`, made in `room` where it is not there yet.
    fn get<'s>(
        &'s self,
        i: usize,
        transform: &BoxTransform<S>,
        room: &'s mut [Complex<S::Real>],
        scratch: &mut Scratch<S>,
    ) -> &'s [Complex<S::Real>] {
        let (len, bins) = (transform.len(), transform.bins());
        match &self.spectra {
            Some(spectra) => &spectra[i * bins..][..bins],
            None => {
                transform.forward(&self.boxes[i * len..][..len], room, scratch);
                room
            }
        }
    }
}

/// Products of spectra.
struct Spectral<'a, S: Scalar> {
    operation: CircularOperation,
    transform: &'a BoxTransform<S>,
    a: Spectra<'a, S>,
    b: Spectra<'a, S>,
}

/// Memory of one thread.
#[derive(Clone)]
struct SpectralWork<S: Scalar> {
    scratch: Scratch<S>,
    a: Vec<Complex<S::Real>>,
    b: Vec<Complex<S::Real>>,
    sum: Vec<Complex<S::Real>>,
}

impl<S: Scalar> Spectral<'_, S> {
    fn work(&self) -> SpectralWork<S> {
        let room = vec![Complex::zero(); self.transform.bins()];
        SpectralWork {
            scratch: self.transform.scratch(),
            a: room.clone(),
            b: room.clone(),
            sum: room,
        }
    }

    /// The sum of the pairs' products; with `out`, the boxes that it is the spectrum of.
    fn sum(
        &self,
        pairs: &[(usize, usize)],
        out: Option<&mut [S]>,
        work: &mut SpectralWork<S>,
    ) -> Vec<Complex<S::Real>> {
        if pairs.is_empty() {
            work.sum.fill(Complex::zero());
        }
        for (number, &(i, j)) in pairs.iter().enumerate() {
            let scratch = &mut work.scratch;
            let a = self.a.get(i, self.transform, &mut work.a, scratch);
            let b = self.b.get(j, self.transform, &mut work.b, scratch);
            let factors = a.iter().zip(b);
            let sums = work.sum.iter_mut().zip(factors);
            match (self.operation, number) {
                (CircularOperation::Convolve, 0) => sums.for_each(|(s, (a, b))| *s = a * b),
                (CircularOperation::Convolve, _) => sums.for_each(|(s, (a, b))| *s += a * b),
                (CircularOperation::Correlate, 0) => {
                    sums.for_each(|(s, (a, b))| *s = a.conj() * b);
                }
                (CircularOperation::Correlate, _) => {
                    sums.for_each(|(s, (a, b))| *s += a.conj() * b);
                }
            }
        }
        match out {
            Some(out) => {
                self.transform
                    .inverse(&mut work.sum, out, &mut work.scratch);
                Vec::new()
            }
            None => work.sum.clone(),
        }
    }
}
