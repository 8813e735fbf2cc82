//! wgrad in pairs of positions: an element of either copied operand is that of a position and that
//! of the next one in the row, both bf16, and a step of the sum takes both.
//!
//! The last position of an odd row is a pair with zeros in both operands: what is beside it in `x`
//! is no part of the sum, and may be a NaN.

use std::ops::Range;

use super::super::pairs::turn_pairs;
use super::super::scratch::{Buffer, Scratch};
use super::super::wgrad::Job;
use super::operands::{View, pixels};
use super::plan::Run;
use super::{Products, Tile};
use crate::cpu::simd::{
    self, MicroKernel, STEPS, Segments, TileProduct, as_elements, interleave, multiply_tiles,
};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::shape::Layout;

/// A row of pixels, and the columns of it that make pairs.
struct PixelRow<'a, T> {
    pixels: &'a [T],
    pitch: usize,
    size: usize,
    /// The first column of the first pair, which may lie outside, and from each to the next.
    first: isize,
    stride: usize,
    /// Columns that are paired.
    len: usize,
}

/// Memory for so many pairs of lanes, and for zeros that tiles read behind them.
fn padded<A: Copy + Default>(
    buffer: &mut Buffer<A>,
    pairs: usize,
    lanes: usize,
) -> Result<&mut [A]> {
    let to = buffer.take(pairs.next_multiple_of(STEPS) * lanes + STEPS)?;
    to[pairs * lanes..].fill(A::default());
    Ok(to)
}

impl<T: Element> Job<'_, T> {
    /// Pairs of a block, row by row.
    fn pairs(&self, block: (usize, usize)) -> usize {
        let rows = self.stencil.rows(block.0, block.1);
        rows.map(|(_, len)| len.div_ceil(2)).sum()
    }

    /// Some channels and positions of an operand, channels last.
    fn pixels<'a>(
        &self,
        from: &'a [T],
        strides: &Strides,
        channels: &Range<usize>,
        positions: Range<usize>,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<View<'a, T>> {
        let from = &from[channels.start * strides.channel..];
        if self.layouts.activation == Layout::ChannelsLast {
            return Ok(View {
                elements: from,
                first: 0,
                pitch: strides.spatial[3],
            });
        }
        let pitch = channels.len().div_ceil(2);
        let pairs = buffer.take(positions.len() * pitch)?;
        if !positions.is_empty() {
            let size = (channels.len(), positions.len());
            let from = &from[positions.start..];
            turn_pairs(self.level, from, strides.channel, size, pairs, pitch);
        }
        Ok(View {
            elements: as_elements(pairs),
            first: positions.start,
            pitch: 2 * pitch,
        })
    }

    /// The pairs of `dy` of a block, `(pairs of all rows, channels)`, and what tiles read behind them.
    fn dy_pairs<'a>(
        &self,
        dy: &View<T>,
        block: (usize, usize),
        channels: usize,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<&'a [T::Acc]> {
        let rows = || self.stencil.rows(block.0, block.1).map(|(_, len)| len);
        let to = padded(buffer, self.pairs(block), channels)?;
        let (mut rest, mut position) = (&mut *to, block.0);
        for len in rows() {
            let (to, after) = rest.split_at_mut(len.div_ceil(2) * channels);
            let row = PixelRow {
                pixels: &dy.elements[(position - dy.first) * dy.pitch..],
                pitch: dy.pitch,
                size: len,
                first: 0,
                stride: 1,
                len,
            };
            self.pairs_of(&row, 1, channels, to);
            (rest, position) = (after, position + len);
        }
        Ok(to)
    }

    /// What the taps of a run read for the pairs of a block: `(pairs of all rows, taps, channels)`,
    /// zeros outside `x`, and what tiles read behind them.
    fn x_pairs<'a>(
        &self,
        x: &View<T>,
        run: &Run,
        block: (usize, usize),
        channels: usize,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<&'a [T::Acc]> {
        let size = self.roles.source_size;
        let tap = &self.stencil.taps[run.taps.start];
        let rows = || self.stencil.reads(tap, (size, pixels(size).spatial), block);
        let to = padded(buffer, self.pairs(block), run.lanes)?;
        let mut rest = &mut *to;
        for read in rows() {
            let (to, after) = rest.split_at_mut(read.len.div_ceil(2) * run.lanes);
            rest = after;
            let Some(position) = read.row else {
                to.fill(T::Acc::default());
                continue;
            };
            // a copy has no columns before the first that is read
            let skipped = x.first.saturating_sub(position);
            let row = PixelRow {
                pixels: &x.elements[(position + skipped - x.first) * x.pitch..],
                pitch: x.pitch,
                size: size[3] - skipped,
                first: read.column - skipped as isize,
                stride: self.stencil.pace[3],
                len: read.len,
            };
            self.pairs_of(&row, run.taps.len(), channels, to);
        }
        Ok(to)
    }

    /// `to (pairs, taps, channels)` of a row; taps are neighbours.
    fn pairs_of(&self, row: &PixelRow<T>, taps: usize, channels: usize, to: &mut [T::Acc]) {
        let level = self.level;
        let inside = |column: isize| usize::try_from(column).ok().filter(|&at| at < row.size);
        for (pair, to) in to.chunks_exact_mut(taps * channels).enumerate() {
            let first = row.first + (2 * pair * row.stride) as isize;
            let second = (2 * pair + 1 < row.len).then_some(first + row.stride as isize);
            let end = second.unwrap_or(first) + taps as isize;
            if channels == row.pitch && first >= 0 && end <= row.size as isize {
                let pixels = |column: isize| &row.pixels[column as usize * row.pitch..][..to.len()];
                interleave(level, Some(pixels(first)), second.map(pixels), to);
                continue;
            }
            for (tap, to) in (0..).zip(to.chunks_exact_mut(channels)) {
                let pixel = |column: isize| {
                    Some(&row.pixels[inside(column + tap)? * row.pitch..][..channels])
                };
                interleave(level, pixel(first), second.and_then(pixel), to);
            }
        }
    }

    /// `sums (rows, lanes) += a (pairs, rows) * b (pairs, lanes)`
    fn add_pairs(
        &self,
        pairs: usize,
        (a, rows): (&[T::Acc], usize),
        (b, width): (&[T::Acc], usize),
        (segments, turned): (&mut Segments, &mut Buffer<T::Acc>),
        (sums, pitch): (&mut [T::Acc], usize),
    ) -> Result<()> {
        if self.level.tiles() {
            let steps = pairs.next_multiple_of(STEPS);
            let rows_of_a = turned.take(rows.next_multiple_of(STEPS) * steps)?;
            for row in rows_of_a.chunks_exact_mut(steps.max(1)).take(rows) {
                row[pairs..].fill(T::Acc::default());
            }
            simd::transpose(self.level, a, rows, (pairs, rows), rows_of_a, steps);
            let product = TileProduct {
                a: rows_of_a,
                a_pitch: steps,
                b,
                b_pitch: width,
                steps,
                c: sums,
                c_pitch: pitch,
                rows,
                lanes: width,
                add: true,
            };
            multiply_tiles(self.level, product);
            return Ok(());
        }
        let lanes = T::Acc::geometry(self.level).lanes;
        for first in (0..width).step_by(2 * lanes) {
            let count = (width - first).min(2 * lanes);
            segments.reset((rows, width), lanes);
            segments.push(0, 0, pairs, u32::MAX >> (32 - count));
            let sums = (&mut sums[first..], pitch);
            self.products(segments, (a, rows), (b, first, count), sums);
        }
        Ok(())
    }
}

impl<T: Element> Products<'_, '_, T> {
    /// Adds one chunk to the sums of a tile: a block of an image's `x` and `dy`.
    pub(super) fn add_pairs(
        &self,
        tile: &Tile,
        (x, dy): (&[T], &[T]),
        block: (usize, usize),
        mut sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let Scratch {
            a,
            b,
            c,
            segments,
            tiles,
            ..
        } = scratch;
        let (job, roles, part, pitch) = (self.job, &self.job.roles, tile.part, tile.pitch);
        let channels = tile.target_channels(roles);
        let height = channels.len();
        let dy = job.pixels(dy, &roles.target, &channels, block.0..block.1, c)?;
        let dy = job.dy_pairs(&dy, block, height, a)?;
        let (channels, pairs) = (tile.source_channels(roles), job.pairs(block));
        for span in &part.spans {
            let runs = &part.runs[span.clone()];
            let reach = job.reach(runs, block);
            let x = job.pixels(x, &roles.source, &channels, reach, c)?;
            for run in runs {
                let x = job.x_pairs(&x, run, block, channels.len(), b)?;
                let (dy, x) = ((dy, height), (x, run.lanes));
                if self.plan.turned {
                    let (here, after) = sums.split_at_mut(run.lanes * pitch);
                    job.add_pairs(pairs, x, dy, (segments, tiles), (here, pitch))?;
                    sums = after;
                } else {
                    let here = &mut sums[run.place..];
                    job.add_pairs(pairs, dy, x, (segments, tiles), (here, pitch))?;
                }
            }
        }
        Ok(())
    }
}
