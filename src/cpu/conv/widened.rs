//! 16-bit operands of the kernels for few channels ([`direct`], [`depthwise`]), which are written for
//! `f32`: some images at a time are widened, computed as `f32` and rounded.

use std::any::TypeId;
use std::ops::Range;

use super::gemm;
use super::scratch::{product, take};
use super::split::PIECES;
use super::stencil::Roles;
use super::{depthwise, direct, direct_wgrad, planes, planes_wgrad, wgrad};
use crate::cpu::crew::{PART, each};
use crate::cpu::output::{Output, store};
use crate::cpu::simd::{self, Level, MicroKernel};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;

/// Elements of the widened images of one operand, of which there are as many as fit.
const WIDENED: usize = 1 << 20;

/// Lots of images of so many elements.
fn lots(batch: usize, image: usize) -> Option<impl Iterator<Item = Range<usize>>> {
    let images = WIDENED / image.max(1);
    let lots = (0..batch).step_by(images.max(1));
    (images > 0).then(|| lots.map(move |first| first..batch.min(first + images)))
}

/// Memory for a weight and for the images of a lot: of the source, of the target.
fn parts<'a, A: Copy + Default>(
    memory: &'a mut Vec<A>,
    weight: usize,
    roles: &Roles,
) -> Result<[&'a mut [A]; 3]> {
    let image = roles.source.outer.max(roles.target.outer);
    let images = lots(roles.batch, image).and_then(|mut lots| lots.next());
    let images = images.map_or(0, |lot| lot.len());
    let [source, target] = [roles.source, roles.target].map(|s| product(&[images, s.outer]));
    let all = take(memory, weight.saturating_add(source).saturating_add(target))?;
    let (weight, images) = all.split_at_mut(weight);
    let (source, target) = images.split_at_mut(source);
    Ok([weight, source, target])
}

fn widen<T: Element>(level: Level, from: &[T], to: &mut [T::Acc]) {
    let size = to.len().div_ceil(PIECES).max(PART);
    let parts = from.chunks(size).zip(to.chunks_mut(size));
    each(parts, |(from, to)| simd::widen(level, from, to));
}

fn narrow<T: Element>(level: Level, sums: &mut [T::Acc], to: &mut [T], write: Write) {
    let size = sums.len().div_ceil(PIECES).max(PART);
    let parts = sums.chunks_mut(size).zip(to.chunks_mut(size));
    each(parts, |(sums, to)| store(level, sums, to, write));
}

/// Computes fprop or dgrad if this is the way to do it.
pub(super) fn forward<T: Element>(job: &gemm::Job<T>) -> Option<Result<()>> {
    if TypeId::of::<T>() == TypeId::of::<T::Acc>() {
        return None;
    }
    if job.pairs_pay() || planes::plan(job).is_some() {
        return None;
    }
    let Roles {
        batch,
        source,
        target,
        ..
    } = job.roles;
    if direct::plan(&reading(job, job.roles, &[], &mut [])).is_some() {
        let lots = lots(batch, source.outer)?;
        return Some(run_direct(job, lots));
    }
    let planned = of(job, job.roles, &[], &[], None, &mut []);
    let suits = depthwise::windows(&planned).is_some();
    let lots = lots(batch, source.outer.max(target.outer)).filter(|_| suits)?;
    Some(run_forward(job, lots))
}

/// Sums are rounded as they are stored, so that only the source is widened.
fn run_direct<T: Element>(
    job: &gemm::Job<T>,
    lots: impl Iterator<Item = Range<usize>>,
) -> Result<()> {
    let (source, target) = (job.roles.source.outer, job.roles.target.outer);
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut lent = T::Acc::turned().take();
    for lot in lots {
        let x = take(&mut lent, product(&[lot.len(), source]))?;
        widen(job.level, &job.source[lot.start * source..][..x.len()], x);
        let roles = Roles {
            batch: lot.len(),
            ..job.roles
        };
        // SAFETY: nobody else has these images of the target.
        let y = unsafe { job.target.part(lot.start * target, lot.len() * target) };
        let job = reading(job, roles, x, y);
        // the way does not depend on the number of images, but the tasks do
        match direct::plan(&job) {
            Some((blocks, grids)) => direct::run(&job, blocks, &grids)?,
            None => job.multiply()?,
        }
    }
    T::Acc::turned().replace(lent);
    Ok(())
}

/// The same job of a widened source.
fn reading<'a, T: Element>(
    job: &gemm::Job<'a, T>,
    roles: Roles,
    source: &'a [T::Acc],
    target: &'a mut [T],
) -> gemm::Job<'a, T, T::Acc> {
    gemm::Job {
        level: job.level,
        roles,
        stencils: job.stencils.clone(),
        source,
        weight: job.weight,
        kept: None,
        bias: job.bias,
        target: Output::new(target),
        write: job.write,
        layout: job.layout,
        apart: None,
    }
}

fn run_forward<T: Element>(
    job: &gemm::Job<T>,
    lots: impl Iterator<Item = Range<usize>>,
) -> Result<()> {
    let (source, target) = (job.roles.source.outer, job.roles.target.outer);
    let bias = job
        .bias
        .map(|bias| bias.iter().map(|b| b.to_acc()).collect::<Vec<_>>());
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut lent = T::Acc::turned().take();
    let [weight, x, y] = parts(&mut lent, job.weight.len(), &job.roles)?;
    widen(job.level, job.weight, weight);
    for lot in lots {
        let (x, y) = (&mut x[..lot.len() * source], &mut y[..lot.len() * target]);
        widen(job.level, &job.source[lot.start * source..][..x.len()], x);
        let roles = Roles {
            batch: lot.len(),
            ..job.roles
        };
        of(job, roles, x, weight, bias.as_deref(), y).run()?;
        // SAFETY: nobody else has these images of the target.
        let to = unsafe { job.target.part(lot.start * target, y.len()) };
        narrow(job.level, y, to, job.write);
    }
    T::Acc::turned().replace(lent);
    Ok(())
}

/// The same job of other operands.
fn of<'a, T: Element>(
    job: &gemm::Job<T>,
    roles: Roles,
    source: &'a [T::Acc],
    weight: &'a [T::Acc],
    bias: Option<&'a [T::Acc]>,
    target: &'a mut [T::Acc],
) -> gemm::Job<'a, T::Acc> {
    gemm::Job {
        level: job.level,
        roles,
        stencils: job.stencils.clone(),
        source,
        weight,
        kept: None,
        bias,
        target: Output::new(target),
        write: Write::Overwrite,
        layout: job.layout,
        apart: None,
    }
}

/// Computes wgrad if this is the way to do it.
pub(super) fn backward<T: Element>(
    job: &wgrad::Job<T>,
    dw: &mut [T],
    write: Write,
) -> Option<Result<()>> {
    if TypeId::of::<T>() == TypeId::of::<T::Acc>() {
        return None;
    }
    let planned = gradient_of(job, job.roles, &[], &[]);
    if planes_wgrad::plan(job).is_some() {
        return None;
    }
    let suits =
        direct_wgrad::plan(&planned).is_some() || depthwise::wgrad_window(&planned).is_some();
    let image = job.roles.source.outer.max(job.roles.target.outer);
    let lots = lots(job.roles.batch, image).filter(|_| suits)?;
    Some(run_backward(job, lots, dw, write))
}

fn run_backward<T: Element>(
    job: &wgrad::Job<T>,
    lots: impl Iterator<Item = Range<usize>>,
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let (source, target) = (job.roles.source.outer, job.roles.target.outer);
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut lent = T::Acc::turned().take();
    let [sums, x, dy] = parts(&mut lent, dw.len(), &job.roles)?;
    sums.fill(T::Acc::default());
    for lot in lots {
        let (x, dy) = (&mut x[..lot.len() * source], &mut dy[..lot.len() * target]);
        widen(job.level, &job.x[lot.start * source..][..x.len()], x);
        widen(job.level, &job.dy[lot.start * target..][..dy.len()], dy);
        let roles = Roles {
            batch: lot.len(),
            ..job.roles
        };
        gradient_of(job, roles, x, dy).run(sums, Write::Accumulate)?;
    }
    narrow(job.level, sums, dw, write);
    T::Acc::turned().replace(lent);
    Ok(())
}

/// The same job of other operands.
fn gradient_of<'a, T: Element>(
    job: &wgrad::Job<T>,
    roles: Roles,
    x: &'a [T::Acc],
    dy: &'a [T::Acc],
) -> wgrad::Job<'a, T::Acc> {
    wgrad::Job {
        level: job.level,
        roles,
        stencil: job.stencil.clone(),
        layouts: job.layouts,
        x,
        dy,
    }
}
