//! Discrete Fourier transforms of boxes of any rank.

use std::sync::Arc;

use num_traits::Zero;
use rayon::prelude::*;
use rustfft::num_complex::Complex;

use crate::element::Element;
use crate::signal::Scalar;
use crate::signal::fft::{ComplexTransform, Transform};

/// The transform of a row-major box over all its axes: real boxes give half of the last axis' bins.
pub(crate) struct BoxTransform<S: Scalar> {
    dims: Vec<usize>,
    row: Arc<S::Transform>,
    /// Those of the axes before the last.
    across: Vec<Across<S>>,
    bins: usize,
}

struct Across<S: Scalar> {
    size: usize,
    /// Bins from one position of this axis to the next.
    step: usize,
    transform: Arc<ComplexTransform<S::Real>>,
}

/// Working memory of one thread.
#[derive(Clone)]
pub(crate) struct Scratch<S: Scalar> {
    signal: Vec<S>,
    transform: Vec<Complex<S::Real>>,
    lane: [Vec<Complex<S::Real>>; 2],
}

impl<S: Scalar> BoxTransform<S> {
    /// For sizes that are not 0.
    pub fn new(dims: &[usize]) -> Self {
        let row = S::transform(dims.last().copied().unwrap_or(1).max(1));
        let mut step = row.bins();
        let mut across = Vec::new();
        for &size in dims.iter().rev().skip(1) {
            if size > 1 {
                across.push(Across {
                    size,
                    step,
                    transform: <Complex<S::Real> as Scalar>::transform(size),
                });
            }
            step *= size;
        }
        BoxTransform {
            dims: dims.to_vec(),
            row,
            across,
            bins: step,
        }
    }

    /// Elements of a box.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Elements of its spectrum.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The bin with this number, as its frequency along every axis.
    pub fn frequency(&self, mut bin: usize) -> Vec<usize> {
        let mut frequency = Vec::with_capacity(self.dims.len());
        for (i, &size) in self.dims.iter().rev().enumerate() {
            let size = if i == 0 { self.row.bins() } else { size };
            frequency.push(bin % size);
            bin /= size;
        }
        frequency.reverse();
        frequency
    }

    pub fn scratch(&self) -> Scratch<S> {
        let longest = self.across.iter().map(|a| a.size).max().unwrap_or(0);
        let across = self.across.iter().map(|a| a.transform.scratch()).max();
        let scratch = self.row.scratch().max(across.unwrap_or(0));
        Scratch {
            signal: vec![S::zero(); self.dims.last().copied().unwrap_or(1)],
            transform: vec![Complex::zero(); scratch],
            lane: [(); 2].map(|()| vec![Complex::zero(); longest]),
        }
    }

    /// The spectrum of `x`.
    pub fn forward(&self, x: &[S], spectrum: &mut [Complex<S::Real>], scratch: &mut Scratch<S>) {
        let rows = x.chunks(scratch.signal.len());
        for (x, bins) in rows.zip(spectrum.chunks_mut(self.row.bins())) {
            scratch.signal.copy_from_slice(x);
            self.row
                .forward(&mut scratch.signal, bins, &mut scratch.transform);
        }
        for axis in &self.across {
            let transform = &mut scratch.transform;
            along(
                axis.size,
                axis.step,
                spectrum,
                &mut scratch.lane,
                |from, to| {
                    axis.transform.forward(from, to, transform);
                },
            );
        }
    }

    /// The box with this spectrum, which is destroyed.
    pub fn inverse(
        &self,
        spectrum: &mut [Complex<S::Real>],
        x: &mut [S],
        scratch: &mut Scratch<S>,
    ) {
        for axis in self.across.iter().rev() {
            let transform = &mut scratch.transform;
            along(
                axis.size,
                axis.step,
                spectrum,
                &mut scratch.lane,
                |from, to| {
                    axis.transform.inverse(from, to, transform);
                },
            );
        }
        let scale = <S::Real as Element>::from_f64(1.0 / self.len() as f64);
        let rows = x.chunks_mut(scratch.signal.len());
        for (x, bins) in rows.zip(spectrum.chunks_mut(self.row.bins())) {
            self.row.inverse(bins, x, &mut scratch.transform);
            x.iter_mut().for_each(|v| *v = v.scale(scale));
        }
    }

    /// The spectra of boxes that follow each other.
    pub fn forward_all(&self, boxes: &[S]) -> Vec<Complex<S::Real>> {
        let len = self.len();
        let mut spectra = vec![Complex::zero(); boxes.len() / len * self.bins];
        let one = |scratch: &mut Scratch<S>, (x, spectrum): (&[S], &mut [Complex<S::Real>])| {
            self.forward(x, spectrum, scratch);
        };
        if boxes.len() == len {
            one(&mut self.scratch(), (boxes, &mut spectra));
        } else {
            boxes
                .par_chunks(len)
                .zip(spectra.par_chunks_mut(self.bins))
                .for_each_init(|| self.scratch(), one);
        }
        spectra
    }
}

/// Replaces every lane of `size` bins `step` apart by what `transform(from, to)` makes of it.
fn along<C: Copy>(
    size: usize,
    step: usize,
    spectrum: &mut [C],
    [from, to]: &mut [Vec<C>; 2],
    mut transform: impl FnMut(&mut [C], &mut [C]),
) {
    let (from, to) = (&mut from[..size], &mut to[..size]);
    for block in spectrum.chunks_mut(size * step) {
        for offset in 0..step {
            let lane = || block[offset..].iter().step_by(step);
            from.iter_mut().zip(lane()).for_each(|(f, b)| *f = *b);
            transform(from, to);
            let lane = block[offset..].iter_mut().step_by(step);
            lane.zip(&*to).for_each(|(b, t)| *b = *t);
        }
    }
}
