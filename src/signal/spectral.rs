//! Convolution through the spectrum: at once, or in blocks that stay in the cache.

use rayon::prelude::*;
use rustfft::num_complex::Complex;

use super::align::Region;
use super::boundary::{Boundary, Margin, extend_into};
use super::cost::block_len;
use super::fft::next_fast_len;
use super::grid::{Grid, Space, each_chunk};
use super::linear::{Linear, Shared};
use super::scalar::{Real, Scalar};
use crate::error::Result;

/// Elements from which a second thread is worth waking.
const PARALLEL: usize = 1 << 12;

/// The transform length that keeps the region clean: what wraps around lands outside of it.
pub(crate) fn transform_len(n: usize, k: usize, region: Region) -> usize {
    let (start, end) = (region.start as usize, region.start as usize + region.len);
    next_fast_len(n.max(k).max(n + k - 1 - start).max(end))
}

/// `(batch, region)` by one transform of each operand.
pub(crate) fn whole<S: Scalar>(p: &Linear, a: &[S], b: &[S]) -> Result<Vec<S>> {
    let lens: Vec<usize> = (0..p.rank())
        .map(|i| transform_len(p.n[i], p.k[i], p.region[i]))
        .collect();
    let grid = Grid::<S>::new(&lens)?;
    let (n, k, size) = p.sizes();
    let mut out = vec![S::zero(); p.batch * size];
    if p.batch == 1 {
        let (mut x, mut y) = (Space::new(), Space::new());
        if lens.iter().product::<usize>() < PARALLEL {
            grid.forward(a, &p.n, &mut x);
            grid.forward(b, &p.k, &mut y);
        } else {
            rayon::join(
                || grid.forward(a, &p.n, &mut x),
                || grid.forward(b, &p.k, &mut y),
            );
        }
        multiply(&mut x.spectrum, &y.spectrum);
        grid.inverse(&mut x, &p.region, &mut out);
        return Ok(out);
    }
    let mut fixed = Space::new();
    match p.shared {
        Shared::Neither => {}
        Shared::Signal => grid.forward(a, &p.n, &mut fixed),
        Shared::Kernel => grid.forward(b, &p.k, &mut fixed),
    }
    let item = |(x, y): &mut (Space<S>, Space<S>), i: usize, out: &mut [S]| {
        let signal = || &a[i * n..(i + 1) * n];
        let kernel = || &b[i * k..(i + 1) * k];
        match p.shared {
            Shared::Kernel => grid.forward(signal(), &p.n, x),
            Shared::Signal => grid.forward(kernel(), &p.k, x),
            Shared::Neither => {
                grid.forward(signal(), &p.n, x);
                grid.forward(kernel(), &p.k, y);
            }
        }
        let factor = if p.shared == Shared::Neither {
            y
        } else {
            &fixed
        };
        multiply(&mut x.spectrum, &factor.spectrum);
        grid.inverse(x, &p.region, out);
    };
    each_chunk(&mut out, size, || (Space::new(), Space::new()), item);
    Ok(out)
}

/// `(batch, region)` in blocks: the spectrum of the kernel once, of the signal piece by piece.
///
/// Every block is transformed with the `k - 1` elements before it, and keeps what did not wrap, so
/// every output is written once (overlap-save).
pub(crate) fn overlap<S: Scalar>(p: &Linear, a: &[S], b: &[S]) -> Result<Vec<S>> {
    let (n, k, size) = p.sizes();
    if k > n {
        return overlap(&p.swapped(), b, a);
    }
    let lens: Vec<usize> = (0..p.rank())
        .map(|i| block_len(p.k[i], p.region[i].len, p.rank()))
        .collect();
    let steps: Vec<usize> = (0..p.rank())
        .map(|i| (lens[i] + 1 - p.k[i]).min(p.region[i].len))
        .collect();
    let grid = Grid::<S>::new(&lens)?;
    let kernels = if p.shared == Shared::Kernel {
        1
    } else {
        p.batch
    };
    let spectrum = |i: usize| {
        let mut space = Space::new();
        grid.forward(&b[i * k..(i + 1) * k], &p.k, &mut space);
        space
    };
    let spectra: Vec<Space<S>> = match kernels {
        1 => vec![spectrum(0)],
        _ => (0..kernels).into_par_iter().map(spectrum).collect(),
    };
    let blocks = Blocks {
        p,
        grid,
        lens,
        steps,
    };
    let mut out = vec![S::zero(); p.batch * size];
    let slab = blocks.steps[0] * size / p.region[0].len;
    let slabs = size.div_ceil(slab.max(1));
    // one task a slab of one item: the chunks of an item never reach into the next
    let mut tasks: Vec<(usize, usize, &mut [S])> = Vec::with_capacity(p.batch * slabs);
    for (i, item) in out.chunks_mut(size).enumerate() {
        tasks.extend(
            item.chunks_mut(slab)
                .enumerate()
                .map(|(s, out)| (i, s, out)),
        );
    }
    let run = |memory: &mut Memory<S>, (i, s, out): &mut (usize, usize, &mut [S])| {
        let signal = if p.shared == Shared::Signal { 0 } else { *i };
        let signal = &a[signal * n..(signal + 1) * n];
        let kernel = &spectra[if kernels == 1 { 0 } else { *i }].spectrum;
        blocks.slab(signal, kernel, *s, out, memory);
    };
    if size * p.batch < PARALLEL {
        let mut memory = Memory::new();
        tasks.iter_mut().for_each(|task| run(&mut memory, task));
    } else {
        tasks.par_iter_mut().for_each_init(Memory::new, run);
    }
    Ok(out)
}

/// The blocks that the region is cut into.
struct Blocks<'a, S: Scalar> {
    p: &'a Linear,
    grid: Grid<S>,
    lens: Vec<usize>,
    steps: Vec<usize>,
}

struct Memory<S: Scalar> {
    space: Space<S>,
    block: Vec<S>,
    result: Vec<S>,
}

impl<S: Scalar> Memory<S> {
    fn new() -> Self {
        Memory {
            space: Space::new(),
            block: Vec::new(),
            result: Vec::new(),
        }
    }
}

impl<S: Scalar> Blocks<'_, S> {
    /// Slab `index` along the first axis of one item.
    fn slab(
        &self,
        signal: &[S],
        kernel: &[Complex<S::Real>],
        index: usize,
        out: &mut [S],
        memory: &mut Memory<S>,
    ) {
        let rank = self.p.rank();
        let mut dims: Vec<usize> = self.p.region.iter().map(|r| r.len).collect();
        dims[0] = out.len() / dims[1..].iter().product::<usize>();
        let counts: Vec<usize> = (1..rank).map(|i| dims[i].div_ceil(self.steps[i])).collect();
        for flat in 0..counts.iter().product() {
            let mut rest: usize = flat;
            let (mut begin, mut size) = (vec![0; rank], dims.clone());
            for axis in (1..rank).rev() {
                let count = counts[axis - 1];
                begin[axis] = rest % count * self.steps[axis];
                size[axis] = self.steps[axis].min(dims[axis] - begin[axis]);
                rest /= count;
            }
            let mut first = begin.clone();
            first[0] = index * self.steps[0];
            self.block(signal, kernel, &first, &size, memory);
            copy_into(&memory.result, &size, &begin, &dims, out);
        }
    }

    /// The outputs `first..first + size` of the region, into `memory.result`.
    fn block(
        &self,
        signal: &[S],
        kernel: &[Complex<S::Real>],
        first: &[usize],
        size: &[usize],
        memory: &mut Memory<S>,
    ) {
        let p = self.p;
        let axes = 0..p.rank();
        let margins: Vec<Margin> = axes
            .clone()
            .map(|i| {
                let before = p.k[i] as isize - 1 - p.region[i].start - first[i] as isize;
                let after = self.lens[i] as isize - p.n[i] as isize - before;
                Margin { before, after }
            })
            .collect();
        memory.block.resize(self.lens.iter().product(), S::zero());
        extend_into(signal, &p.n, &margins, Boundary::ZERO, &mut memory.block);
        self.grid
            .forward(&memory.block, &self.lens, &mut memory.space);
        multiply(&mut memory.space.spectrum, kernel);
        let kept: Vec<Region> = axes
            .map(|i| Region {
                start: p.k[i] as isize - 1,
                len: size[i],
            })
            .collect();
        memory.result.resize(size.iter().product(), S::zero());
        self.grid
            .inverse(&mut memory.space, &kept, &mut memory.result);
    }
}

/// Copies a box of `size` to `begin` of an array of `dims`.
fn copy_into<S: Copy>(source: &[S], size: &[usize], begin: &[usize], dims: &[usize], to: &mut [S]) {
    let last = dims.len() - 1;
    for (index, row) in source.chunks(size[last].max(1)).enumerate() {
        let (mut rest, mut offset, mut pitch) = (index, begin[last], dims[last]);
        for axis in (0..last).rev() {
            offset += (begin[axis] + rest % size[axis]) * pitch;
            pitch *= dims[axis];
            rest /= size[axis];
        }
        to[offset..offset + row.len()].copy_from_slice(row);
    }
}

fn multiply<R: Real>(x: &mut [Complex<R>], y: &[Complex<R>]) {
    each_chunk(
        x,
        1 << 13,
        || (),
        |(), index, x| {
            let y = &y[index << 13..];
            x.iter_mut().zip(y).for_each(|(x, y)| {
                *x = Complex::new(x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re);
            });
        },
    );
}
