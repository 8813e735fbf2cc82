//! Long filters along the last axis through Fourier transforms, by overlap-save.
//!
//! A block of `n` source positions and a filter of span `s` give `n + 1 - s` target positions; the
//! gradient of the filter adds up the products of the blocks' spectra and is transformed back
//! once. Transforms are in `f64` for sums in `f32`, so that rounding is what it is elsewhere, or
//! less; results are then rounded to a grid that is coarser than the error of the transforms, so
//! that sums which are exact elsewhere (zeros, small integers) are exact here. A transform spreads a NaN over its block: operands that are not finite go the other way.

use std::sync::atomic::{AtomicBool, Ordering};

use rustfft::num_complex::Complex;

use super::gemm;
use super::scratch::product;
use super::split::share;
use super::stencil::{Roles, Stencil};
use super::wgrad;
use crate::cpu::crew::{each, each_with, try_each_with};
use crate::cpu::output::{Output, add_scalar, store, store_strided};
use crate::cpu::strides::unravel;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::ops::Write;
use crate::signal::fft::Plan;

/// Longest transform: its buffers should stay in the L2 cache.
const LONGEST: usize = 1 << 16;
/// Shares of the blocks of wgrad.
const SHARES: usize = 8;
/// Spectra of pairs of channels that wgrad adds up side by side.
const PAIRS: usize = 16;

/// Multiply-adds of the other algorithms, and butterflies of a transform, in a nanosecond: the
/// ratio of the two is what counts.
const PRODUCTS: f64 = 25.0;
const BUTTERFLIES: f64 = 1.0;

/// The filter of a stencil whose taps lie along the last axis.
struct Filter {
    /// Least offset, and number of offsets from there to the greatest.
    first: isize,
    span: usize,
}

impl Filter {
    fn new(stencil: &Stencil) -> Option<Self> {
        let tap = stencil.taps.first()?;
        let line = stencil
            .taps
            .iter()
            .all(|t| t.offset[..3] == tap.offset[..3]);
        (line && stencil.pace[3] == 1).then_some(())?;
        let offsets = || stencil.taps.iter().map(|tap| tap.offset[3]);
        let (first, last) = (offsets().min()?, offsets().max()?);
        Some(Filter {
            first,
            span: (last - first) as usize + 1,
        })
    }

    /// The length of the transforms that cost least, and what all rows of one group and image cost
    /// with them, in nanoseconds: `transforms` a block, and `pairs` products of spectra.
    fn best(&self, stencil: &Stencil, transforms: usize, pairs: usize) -> Option<(usize, f64)> {
        let rows = stencil.positions() / stencil.count[3];
        let cost = |n: usize| {
            let blocks = (rows * stencil.count[3].div_ceil(n + 1 - self.span)) as f64;
            let each = n as f64 / 2.0 * (n as f64).log2() / BUTTERFLIES;
            blocks * (transforms as f64 * each + 4.0 * pairs as f64 * n as f64 / BUTTERFLIES / 2.0)
        };
        let shortest = (2 * self.span).next_power_of_two();
        let lengths = (0..4).map(|i| shortest << i).filter(|&n| n <= LONGEST);
        let costs = lengths.map(|n| (n, cost(n)));
        costs.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn blocks(&self, stencil: &Stencil, n: usize) -> usize {
        stencil.count[3].div_ceil(n + 1 - self.span)
    }
}

fn finite<T: Element>(values: &[T]) -> bool {
    let all = AtomicBool::new(true);
    each(values.chunks(1 << 14), |chunk| {
        if !chunk.iter().all(|v| v.to_f64().is_finite()) {
            all.store(false, Ordering::Relaxed);
        }
    });
    all.into_inner()
}

/// What takes a value to a multiple of a power of two, [`BITS`] bits below `bound`, when it is
/// added and subtracted again.
fn grid(bound: f64) -> f64 {
    match bound > 0.0 {
        true => 1.5 * (bound.log2().ceil() + f64::from(52 - BITS)).exp2(),
        false => 0.0,
    }
}

/// The error of a transform is below `bound * 2^-BITS`, where no term of its sums can pass `bound`.
const BITS: i32 = 46;

/// The greatest absolute value, and the sum of all.
fn size<T: Element>(values: &[T]) -> (f64, f64) {
    values
        .iter()
        .fold((0.0, 0.0), |(most, sum): (f64, f64), v| {
            let v = v.to_f64().abs();
            (most.max(v), sum + v)
        })
}

/// The source of all blocks.
struct Source<'a, T> {
    roles: &'a Roles,
    values: &'a [T],
}

impl<T: Element> Source<'_, T> {
    /// Positions of channel `channel` of an image and group from where the block at `j` reads.
    fn fill(
        &self,
        stencil: &Stencil,
        filter: &Filter,
        (image, group, channel): (usize, usize, usize),
        j: [usize; 4],
        signal: &mut [f64],
    ) {
        signal.fill(0.0);
        let roles = self.roles;
        let tap = &stencil.taps[0];
        let at = [0, 1, 2].map(|a| stencil.source(a, j[a], tap));
        if !(0..3).all(|a| (0..roles.source_size[a] as isize).contains(&at[a])) {
            return;
        }
        let outer: usize = (0..3)
            .map(|a| at[a] as usize * roles.source.spatial[a])
            .sum();
        let channel = group * roles.source_channels + channel;
        let first = image * roles.source.outer + channel * roles.source.channel + outer;
        let begin = j[3] as isize + filter.first;
        let skip = (-begin).max(0) as usize;
        let from = begin.max(0) as usize;
        let step = roles.source.spatial[3];
        let count = roles.source_size[3].saturating_sub(from);
        for (i, to) in signal.iter_mut().skip(skip).take(count).enumerate() {
            *to = self.values[first + (from + i) * step].to_f64();
        }
    }
}

/// fprop or dgrad, cut up: for every stencil its filter and transforms.
pub(super) struct Job(Vec<(Filter, Plan<f64>)>);

/// Whether transforms are the way to compute a job; if so, which.
pub(super) fn plan<T: Element>(job: &gemm::Job<T>) -> Result<Option<Job>> {
    let roles = &job.roles;
    let (c, m) = (roles.source_channels, roles.target_channels);
    let mut lengths = Vec::with_capacity(job.stencils.len());
    for stencil in &job.stencils {
        let Some(filter) = Filter::new(stencil).filter(|_| T::Acc::DTYPE == DType::F32) else {
            return Ok(None);
        };
        let products = (stencil.positions() * stencil.taps.len()) as f64 * (c * m) as f64;
        // the spectra of the weights count as one block more
        match filter.best(stencil, c + m, c * m) {
            Some((n, cost)) if cost < products / PRODUCTS => lengths.push((filter, n)),
            _ => return Ok(None),
        }
    }
    let few = lengths
        .iter()
        .all(|(_, n)| product(&[roles.groups, c, m, *n]) <= 1 << 20);
    if lengths.is_empty() || !few || !finite(job.source) || !finite(job.weight) {
        return Ok(None);
    }
    let plans = lengths
        .into_iter()
        .map(|(filter, n)| Ok((filter, Plan::new(n)?)));
    Ok(Some(Job(plans.collect::<Result<_>>()?)))
}

pub(super) fn run<T: Element>(job: &gemm::Job<T>, plans: &Job) -> Result<()> {
    for (stencil, (filter, plan)) in job.stencils.iter().zip(&plans.0) {
        stencil_blocks(job, stencil, filter, plan)?;
    }
    Ok(())
}

fn stencil_blocks<T: Element>(
    job: &gemm::Job<T>,
    stencil: &Stencil,
    filter: &Filter,
    plan: &Plan<f64>,
) -> Result<()> {
    let roles = &job.roles;
    let (c, m, bins) = (roles.source_channels, roles.target_channels, plan.bins());
    // (groups, target channels, source channels, bins), conjugated: a correlation
    let mut filters = zeros(product(&[roles.groups, c, m, bins]))?;
    each_with(
        filters.chunks_mut(bins).enumerate(),
        || plan.work(),
        |work, (index, to)| {
            let (rest, channel) = (index / c, index % c);
            let (group, target) = (rest / m, rest % m);
            let first = group * roles.weight_group
                + target * roles.weight_target
                + channel * roles.weight_source;
            work.signal.fill(0.0);
            for tap in &stencil.taps {
                let at = (tap.offset[3] - filter.first) as usize;
                work.signal[at] += job.weight[first + tap.weight].to_f64() * plan.scale();
            }
            plan.forward_into(work, to);
            to.iter_mut().for_each(|v| *v = v.conj());
        },
    );
    let blocks = filter.blocks(stencil, plan.signal_len());
    let length = plan.signal_len() + 1 - filter.span;
    let rows = stencil.positions() / stencil.count[3];
    let source = Source {
        roles,
        values: job.source,
    };
    // no filter of one target channel weighs more
    let heaviest = size(job.weight).1;
    let tasks = product(&[roles.batch, roles.groups, rows, blocks]);
    try_each_with(
        0..tasks,
        || (plan.work(), Vec::new(), Vec::new(), Vec::new()),
        |(work, spectra, sum, row), task| {
            let (rest, block) = (task / blocks, task % blocks);
            let (rest, line) = (rest / rows, rest % rows);
            let (image, group) = (rest / roles.groups, rest % roles.groups);
            let mut j = unravel(line * stencil.count[3], stencil.count);
            j[3] = block * length;
            spectra.resize(c * bins, Complex::default());
            let mut most = 0f64;
            for (channel, to) in spectra.chunks_exact_mut(bins).enumerate() {
                let place = (image, group, channel);
                source.fill(stencil, filter, place, j, &mut work.signal);
                most = most.max(size(&work.signal).0);
                plan.forward_into(work, to);
            }
            for target in 0..m {
                sum.clear();
                sum.resize(bins, Complex::default());
                let filters = &filters[(group * m + target) * c * bins..];
                for (x, w) in spectra.chunks_exact(bins).zip(filters.chunks_exact(bins)) {
                    for ((sum, x), w) in sum.iter_mut().zip(x).zip(w) {
                        *sum += x * w;
                    }
                }
                plan.inverse_into(sum, work);
                let grid = grid(most * heaviest);
                let count = length.min(stencil.count[3] - j[3]);
                row.clear();
                row.extend(
                    work.signal[..count]
                        .iter()
                        .map(|&v| T::Acc::from_f64((v + grid) - grid)),
                );
                let channel = group * m + target;
                if let Some(bias) = job.bias {
                    add_scalar(row, bias[channel].to_acc());
                }
                let at = image * roles.target.outer
                    + channel * roles.target.channel
                    + roles.target.at(stencil.target(j));
                let step = stencil.step[3] * roles.target.spatial[3];
                if step == 1 {
                    // SAFETY: blocks do not overlap, and no other task has this one.
                    store(
                        job.level,
                        row,
                        unsafe { job.target.part(at, count) },
                        job.write,
                    );
                } else {
                    // SAFETY: as above.
                    unsafe { store_strided(job.level, row, &job.target, (at, step), job.write) };
                }
            }
            Ok(())
        },
    )
}

/// Whether transforms are the way to compute a wgrad, and which.
pub(super) fn wgrad_plan<T: Element>(job: &wgrad::Job<T>) -> Result<Option<WeightGradient>> {
    let roles = &job.roles;
    let stencil = &job.stencil;
    let (c, m) = (roles.source_channels, roles.target_channels);
    let suits = T::Acc::DTYPE == DType::F32 && c.saturating_mul(m) <= PAIRS;
    let Some(filter) = Filter::new(stencil).filter(|_| suits) else {
        return Ok(None);
    };
    let products = (stencil.positions() * stencil.taps.len()) as f64 * (c * m) as f64;
    match filter.best(stencil, c + m, c * m) {
        Some((n, cost)) if cost < products / PRODUCTS && finite(job.x) && finite(job.dy) => {
            Ok(Some(WeightGradient(filter, Plan::new(n)?)))
        }
        _ => Ok(None),
    }
}

pub(super) struct WeightGradient(Filter, Plan<f64>);

pub(super) fn run_wgrad<T: Element>(
    job: &wgrad::Job<T>,
    WeightGradient(filter, plan): &WeightGradient,
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let (roles, stencil) = (&job.roles, &job.stencil);
    let (c, m, bins) = (roles.source_channels, roles.target_channels, plan.bins());
    let blocks = filter.blocks(stencil, plan.signal_len());
    let length = plan.signal_len() + 1 - filter.span;
    let rows = stencil.positions() / stencil.count[3];
    let chunks = product(&[roles.batch, rows, blocks]);
    let shares = chunks.min(SHARES);
    let source = Source {
        roles,
        values: job.x,
    };
    let target = Output::new(dw);
    let grid = grid(size(job.x).0 * size(job.dy).1);
    for group in 0..roles.groups {
        // (shares, out channels, in channels, bins)
        let size = c * m * bins;
        let mut sums = zeros(product(&[shares, size]))?;
        each(sums.chunks_mut(size).enumerate(), |(i, sums)| {
            let mut work = plan.work();
            let mut x = vec![Complex::default(); c * bins];
            let mut dy = vec![Complex::default(); bins];
            let (from, to) = share(chunks, shares, i);
            for chunk in from..to {
                let (rest, block) = (chunk / blocks, chunk % blocks);
                let (image, line) = (rest / rows, rest % rows);
                let mut j = unravel(line * stencil.count[3], stencil.count);
                j[3] = block * length;
                for (channel, to) in x.chunks_exact_mut(bins).enumerate() {
                    let place = (image, group, channel);
                    source.fill(stencil, filter, place, j, &mut work.signal);
                    plan.forward_into(&mut work, to);
                }
                let count = length.min(stencil.count[3] - j[3]);
                for (out, sums) in sums.chunks_exact_mut(c * bins).enumerate() {
                    let channel = group * m + out;
                    let at = image * roles.target.outer
                        + channel * roles.target.channel
                        + roles.target.at(j);
                    work.signal.fill(0.0);
                    let from = job.dy[at..].iter().step_by(roles.target.spatial[3]);
                    for (to, from) in work.signal.iter_mut().zip(from.take(count)) {
                        *to = from.to_f64();
                    }
                    plan.forward_into(&mut work, &mut dy);
                    let pairs = sums.chunks_exact_mut(bins).zip(x.chunks_exact(bins));
                    for (sums, x) in pairs {
                        for ((sum, x), dy) in sums.iter_mut().zip(x).zip(&dy) {
                            *sum += x * dy.conj();
                        }
                    }
                }
            }
        });
        let (sums, rest) = sums.split_at_mut(size);
        for part in rest.chunks_exact(size) {
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum += part;
            }
        }
        let mut work = plan.work();
        for (pair, sums) in sums.chunks_exact_mut(bins).enumerate() {
            plan.inverse_into(sums, &mut work);
            let (out, channel) = (pair / c, pair % c);
            let first = group * roles.weight_group
                + out * roles.weight_target
                + channel * roles.weight_source;
            for tap in &stencil.taps {
                let value = work.signal[(tap.offset[3] - filter.first) as usize] * plan.scale();
                let mut sum = [T::Acc::from_f64((value + grid) - grid)];
                // SAFETY: one thread has all of the result.
                let part = unsafe { target.part(first + tap.weight, 1) };
                store(job.level, &mut sum, part, write);
            }
        }
    }
    Ok(())
}

fn zeros(len: usize) -> Result<Vec<Complex<f64>>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        what: "a convolution's spectra".into(),
        requested: len.saturating_mul(size_of::<Complex<f64>>()),
    })?;
    all.resize(len, Complex::default());
    Ok(all)
}
