//! Transforms along several axes at once, laid out so that every pass reads rows.
//!
//! After the last axis is transformed the array is transposed and the next axis is the last one:
//! the spectrum of `(n0, n1, n2)` is stored as `(N1, bins, N0)`. Products of spectra do not care,
//! and the inverse walks back, leaving out what nobody asked for.

use num_traits::Zero;
use rayon::prelude::*;
use rustfft::num_complex::Complex;

use super::align::Region;
use super::fft::{Plan, Work};
use super::kept;
use super::scalar::Scalar;
use crate::element::Element;
use crate::error::Result;
use crate::shape::check_elements;

/// Elements from which one pass is worth several threads.
const PARALLEL: usize = 1 << 15;
/// Rows moved together by a transposition: a cache line or two of each.
const ROWS: usize = 8;

/// The transforms of an array of fixed sizes.
pub(crate) struct Grid<S: Scalar> {
    lens: Vec<usize>,
    /// Of all axes but the last.
    outer: Vec<Plan<Complex<S::Real>>>,
    last: Plan<S>,
}

/// Memory that the transforms of one grid reuse.
pub(crate) struct Space<S: Scalar> {
    pub spectrum: Vec<Complex<S::Real>>,
    other: Vec<Complex<S::Real>>,
    work: Option<Work<S>>,
}

/// The memory of a [`Space`] between two calls.
type Memory<S> = ([Vec<Complex<<S as Scalar>::Real>>; 2], Option<Work<S>>);

/// Bytes of a [`Space`] up to which its thread keeps them.
const KEPT: usize = 4 << 20;

impl<S: Scalar> Space<S> {
    pub fn new() -> Self {
        let ([spectrum, other], work) = kept::take::<Memory<S>>();
        Space {
            spectrum,
            other,
            work,
        }
    }
}

impl<S: Scalar> Drop for Space<S> {
    fn drop(&mut self) {
        let arrays = [&mut self.spectrum, &mut self.other].map(std::mem::take);
        let elements: usize = arrays.iter().map(Vec::capacity).sum();
        let bytes = elements * size_of::<Complex<S::Real>>();
        if bytes <= KEPT {
            kept::keep::<Memory<S>>((arrays, self.work.take()));
        }
    }
}

impl<S: Scalar> Grid<S> {
    pub fn new(lens: &[usize]) -> Result<Self> {
        check_elements("the spectrum", &[lens, &[2, 2]].concat())?;
        let (last, outer) = lens.split_last().unwrap_or((&1, &[]));
        Ok(Grid {
            lens: lens.to_vec(),
            outer: outer.iter().map(|&n| Plan::new(n)).collect::<Result<_>>()?,
            last: Plan::new(*last)?,
        })
    }

    /// The spectrum of an array of `dims`, extended with zeros, into `space.spectrum`.
    pub fn forward(&self, x: &[S], dims: &[usize], space: &mut Space<S>) {
        let (&n, outer) = dims.split_last().unwrap_or((&1, &[]));
        let rows: usize = outer.iter().product();
        let bins = self.last.bins();
        space.spectrum.resize(rows * bins, Complex::zero());
        self.last.fit(&mut space.work);
        each_chunk_with(
            &mut space.spectrum,
            bins,
            &mut space.work,
            || self.last.work(),
            |work, row, spectrum| {
                work.signal[..n].copy_from_slice(&x[row * n..(row + 1) * n]);
                work.signal[n..].fill(S::zero());
                self.last.forward_into(work, spectrum);
            },
        );
        let (mut rows, mut columns) = (rows, bins);
        for axis in (0..outer.len()).rev() {
            let (plan, d) = (&self.outer[axis], dims[axis]);
            let (len, inner) = (plan.signal_len(), rows / d);
            // (inner, d, columns) -> (columns, inner, len)
            space.other.resize(columns * inner * len, Complex::zero());
            let source = &space.spectrum;
            each_chunk(
                &mut space.other,
                ROWS * inner * len,
                || plan.scratch(),
                |scratch, chunk, target| {
                    let first = chunk * ROWS;
                    let count = target.len() / (inner * len);
                    for i in 0..inner {
                        for t in 0..d {
                            let from = (i * d + t) * columns + first;
                            for (c, &v) in source[from..from + count].iter().enumerate() {
                                target[(c * inner + i) * len + t] = v;
                            }
                        }
                    }
                    for row in target.chunks_mut(len) {
                        row[d..].fill(Complex::zero());
                        plan.forward_inplace(row, scratch);
                    }
                },
            );
            std::mem::swap(&mut space.spectrum, &mut space.other);
            (rows, columns) = (columns * inner, len);
        }
    }

    /// The part `region` of the array whose spectrum is in `space`, which is destroyed.
    pub fn inverse(&self, space: &mut Space<S>, region: &[Region], out: &mut [S]) {
        let bins = self.last.bins();
        for (axis, plan) in self.outer.iter().enumerate() {
            let len = plan.signal_len();
            let columns = match self.lens.get(axis + 1) {
                Some(&next) if axis + 1 < self.outer.len() => next,
                _ => bins,
            };
            let inner = space.spectrum.len() / len / columns;
            let (start, kept) = (region[axis].start as usize, region[axis].len);
            each_chunk(
                &mut space.spectrum,
                len,
                || plan.scratch(),
                |scratch, _, row| plan.inverse_inplace(row, scratch),
            );
            // (columns, inner, len) -> (inner, kept, columns)
            space.other.resize(inner * kept * columns, Complex::zero());
            let source = &space.spectrum;
            each_chunk(
                &mut space.other,
                ROWS * columns,
                || (),
                |(), chunk, target| {
                    let count = target.len() / columns;
                    let mut from = [0; ROWS];
                    for (r, from) in from[..count].iter_mut().enumerate() {
                        let row = chunk * ROWS + r;
                        *from = row / kept * len + start + row % kept;
                    }
                    for column in 0..columns {
                        for (r, from) in from[..count].iter().enumerate() {
                            target[r * columns + column] = source[column * inner * len + from];
                        }
                    }
                },
            );
            std::mem::swap(&mut space.spectrum, &mut space.other);
        }
        let Some(Region { start, len }) = region.last().copied() else {
            return;
        };
        let total: f64 = self.lens.iter().map(|&n| n as f64).product();
        let scale = <S::Real as Element>::from_f64(1.0 / total);
        let finish = |work: &mut Work<S>, (out, row): (&mut [S], &mut [Complex<S::Real>])| {
            self.last.inverse_into(row, work);
            let kept = &work.signal[start as usize..];
            out.iter_mut()
                .zip(kept)
                .for_each(|(o, v)| *o = v.scale(scale));
        };
        let len = len.max(1);
        if out.len() < PARALLEL || out.len() <= len {
            self.last.fit(&mut space.work);
            let work = space.work.get_or_insert_with(|| self.last.work());
            let rows = out.chunks_mut(len).zip(space.spectrum.chunks_mut(bins));
            rows.for_each(|row| finish(work, row));
        } else {
            let rows = out
                .par_chunks_mut(len)
                .zip(space.spectrum.par_chunks_mut(bins));
            rows.for_each_init(|| self.last.work(), finish);
        }
    }
}

/// Runs `work(memory, index, chunk)` on chunks of `len`, on several threads if there is enough.
pub(crate) fn each_chunk<T: Send, W>(
    data: &mut [T],
    len: usize,
    memory: impl Fn() -> W + Sync + Send,
    work: impl Fn(&mut W, usize, &mut [T]) + Sync + Send,
) {
    each_chunk_with(data, len, &mut None, memory, work);
}

/// [`each_chunk`] with memory that the calling thread keeps.
fn each_chunk_with<T: Send, W>(
    data: &mut [T],
    len: usize,
    kept: &mut Option<W>,
    memory: impl Fn() -> W + Sync + Send,
    work: impl Fn(&mut W, usize, &mut [T]) + Sync + Send,
) {
    let len = len.max(1);
    if data.len() < PARALLEL || data.len() <= len {
        let memory = kept.get_or_insert_with(memory);
        for (index, chunk) in data.chunks_mut(len).enumerate() {
            work(memory, index, chunk);
        }
    } else {
        data.par_chunks_mut(len)
            .enumerate()
            .for_each_init(memory, |memory, (index, chunk)| work(memory, index, chunk));
    }
}

impl<R: super::scalar::Real> Plan<Complex<R>> {
    /// Memory for the transforms in place.
    fn scratch(&self) -> Vec<Complex<R>> {
        vec![Complex::zero(); self.transform().inplace_scratch()]
    }
    fn forward_inplace(&self, row: &mut [Complex<R>], scratch: &mut [Complex<R>]) {
        self.transform().forward_inplace(row, scratch);
    }
    /// Without the `1 / n`.
    fn inverse_inplace(&self, row: &mut [Complex<R>], scratch: &mut [Complex<R>]) {
        self.transform().inverse_inplace(row, scratch);
    }
}
