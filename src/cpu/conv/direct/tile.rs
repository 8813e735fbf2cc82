//! One tile of rows: its sums, and where they go.

use std::ops::Range;

use super::super::gemm::Job;
use super::super::ring::segments;
use super::super::scratch::Scratch;
use super::super::stencil::Stencil;
use super::{Blocks, Grid, Tile, chunk};
use crate::cpu::output::{Output, add_scalar};
use crate::cpu::simd::{self, Direct, HEIGHTS, Lines, as_acc};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;

pub(super) fn compute<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    grid: &Grid,
    blocks: Blocks,
    tile: Tile,
    weights: &[T::Acc],
    scratch: &mut Scratch<T::Acc>,
) -> Result<()> {
    let roles = &job.roles;
    let lines = &grid.lines;
    let width = tile.columns.len();
    let pitch = tile.rows.len() * width + lines.lanes;
    let sums = scratch.c.take(pitch * blocks.height)?;
    let first = tile.group * roles.source_channels * roles.source.channel;
    let source = &job.source[tile.image * roles.source.outer..][..roles.source.outer][first..];
    let Some(source) = as_acc(source) else {
        return Ok(()); // `plan` has looked
    };
    if let Some(ring) = &grid.ring {
        let weights = ring.order(weights, scratch.b.take(weights.len())?);
        for (rows, plane) in segments(tile.rows.clone(), stencil.count[2]) {
            let at = (rows.start - tile.rows.start) * width;
            let plane = ring.plane(roles, stencil, plane, rows, stencil.count[2], source);
            let blocks = lines.blocks_in(&tile.columns);
            simd::ring(
                job.level,
                lines,
                blocks,
                plane,
                weights,
                (&mut sums[at..], width),
            );
        }
    }
    let first = tile.block * blocks.height;
    let channels = first..roles.target_channels.min(first + blocks.height);
    let dense =
        stencil.step == [1; 4] && stencil.count == roles.target_size && width == lines.width;
    let mut rows = tile.rows.clone();
    let first = tile.group * roles.target_channels + first;
    if grid.ring.is_none() {
        let mut begin = [T::Acc::default(); HEIGHTS[HEIGHTS.len() - 1]];
        for (begin, bias) in begin
            .iter_mut()
            .zip(job.bias.iter().flat_map(|b| &b[first..]))
        {
            *begin = bias.to_acc();
        }
        let part = Part {
            job,
            stencil,
            lines,
            height: blocks.height,
            columns: tile.columns.clone(),
            source,
            weights,
            begin: &begin,
        };
        if let Some(target) = job.target.as_acc().filter(|_| grid.once && dense) {
            // what is written past a row is the next one's
            let here = match width.is_multiple_of(lines.lanes) {
                true => rows.clone(),
                false => rows.start..rows.end - 1,
            };
            rows.start = here.end;
            let at = tile.image * roles.target.outer + first * roles.target.channel;
            let at = (at + here.start * width, roles.target.channel);
            let stream = job.streams();
            // SAFETY: tiles do not overlap, and no other task has this one.
            unsafe { part.compute(here, target, at, stream) };
        }
        // SAFETY: the sums are this function's.
        unsafe { part.compute(rows.clone(), &Output::new(&mut *sums), (0, pitch), false) };
    }
    for (m, sums) in (0..channels.len()).zip(sums.chunks_exact_mut(pitch)) {
        let channel = first + m;
        let target = tile.image * roles.target.outer + channel * roles.target.channel;
        let mut sums = &mut sums[..rows.len() * width];
        if let Some(bias) = job.bias.filter(|_| grid.ring.is_some()) {
            add_scalar(sums, bias[channel].to_acc());
        }
        if dense {
            let at = target + rows.start * width;
            // SAFETY: tiles do not overlap, and no other task has this one.
            job.store(sums, unsafe { job.target.part(at, sums.len()) });
            continue;
        }
        for row in rows.clone() {
            let (here, rest) = sums.split_at_mut(width);
            sums = rest;
            let outer = unravel(row * lines.width, stencil.count);
            let j = [outer[0], outer[1], outer[2], tile.columns.start];
            let at = target + roles.target.at(stencil.target(j));
            // SAFETY: as above.
            unsafe { job.store_row(here, at, stencil.step[3]) };
        }
    }
    Ok(())
}

/// Some columns of a block of target channels.
struct Part<'a, 'b, T: Element, S> {
    job: &'a Job<'b, T, S>,
    stencil: &'a Stencil,
    lines: &'a Lines,
    height: usize,
    columns: Range<usize>,
    source: &'a [T::Acc],
    weights: &'a [T::Acc],
    /// What sums begin with.
    begin: &'a [T::Acc],
}

impl<T: Element, S: Element<Acc = T::Acc>> Part<'_, '_, T, S> {
    /// Computes some rows, the first to `at`, the target channels `pitch` apart.
    ///
    /// # Safety
    /// As [`simd::direct`].
    unsafe fn compute(
        &self,
        rows: Range<usize>,
        target: &Output<T::Acc>,
        (at, pitch): (usize, usize),
        stream: bool,
    ) {
        if rows.is_empty() {
            return;
        }
        let (roles, taps) = (&self.job.roles, self.stencil.taps.len());
        let chunk = chunk(self.stencil);
        for first in (0..roles.source_channels).step_by(chunk) {
            let operands = Direct {
                lines: self.lines,
                rows: &self.lines.rows[rows.clone()],
                blocks: self.lines.blocks_in(&self.columns),
                source: &self.source[first * roles.source.channel..],
                plane: roles.source.channel,
                channels: chunk.min(roles.source_channels - first),
                weights: &self.weights[first * taps * self.height..],
                begin: (first == 0).then_some(self.begin),
                target,
                at,
                pitch,
                width: self.columns.len(),
                stream,
            };
            // SAFETY: by this function's contract.
            unsafe { simd::direct(self.job.level, self.height, operands) };
        }
    }
}
