//! wgrad in pairs of positions: an element of either copied operand is that of a position and that
//! of the next one in the row, both bf16, and a step of the sum takes both.
//!
//! The last position of an odd row is a pair with zeros in both operands: what is beside it in `x`
//! is no part of the sum, and may be a NaN.

use std::ops::Range;

use super::super::pairs::turn_pairs;
use super::super::scratch::{Buffer, Scratch};
use super::super::wgrad::Job;
use super::operands::pixels;
use super::plan::Run;
use super::{Products, Tile};
use crate::cpu::simd::{
    self, MicroKernel, STEPS, Segments, TileProduct, as_elements, interleave, multiply_tiles,
    prefetch,
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

/// Some channels and positions of some images, channels last:
/// element `image * outer + (position - first) * pitch + channel`.
struct Pixels<'a, T> {
    elements: &'a [T],
    outer: usize,
    first: usize,
    pitch: usize,
}

/// Bytes of both operands up to which they may be in a cache (tests have none).
const CACHED: usize = if cfg!(test) { 0 } else { 1 << 22 };
/// Elements that are asked for ahead of those that are read.
const AHEAD: usize = 1 << 11;

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

    /// Some channels and positions of all images of an operand, channels last.
    fn pixels<'a>(
        &self,
        from: &'a [T],
        strides: &Strides,
        channels: &Range<usize>,
        positions: Range<usize>,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<Pixels<'a, T>> {
        let first = channels.start * strides.channel;
        if self.layouts.activation == Layout::ChannelsLast {
            return Ok(Pixels {
                elements: &from[first..],
                outer: strides.outer,
                first: 0,
                pitch: strides.spatial[3],
            });
        }
        let pitch = channels.len().div_ceil(2);
        let outer = positions.len() * pitch;
        let image = strides.outer.max(1);
        let pairs = buffer.take(from.len() / image * outer)?;
        if outer > 0 {
            let images = from.chunks_exact(image);
            for (image, to) in images.zip(pairs.chunks_exact_mut(outer)) {
                let size = (channels.len(), positions.len());
                let from = &image[first + positions.start..];
                turn_pairs(self.level, from, strides.channel, size, to, pitch);
            }
        }
        Ok(Pixels {
            elements: as_elements(pairs),
            outer: 2 * outer,
            first: positions.start,
            pitch: 2 * pitch,
        })
    }

    /// The pairs of `dy` of a block, `(pairs of all images and rows, channels)`, and what tiles read
    /// behind them.
    fn dy_pairs<'a>(
        &self,
        dy: &Pixels<T>,
        images: usize,
        block: (usize, usize),
        channels: usize,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<&'a [T::Acc]> {
        let to = padded(buffer, images * self.pairs(block), channels)?;
        let mut rest = &mut *to;
        for image in 0..images {
            let mut position = block.0;
            for (_, len) in self.stencil.rows(block.0, block.1) {
                let (to, after) = rest.split_at_mut(len.div_ceil(2) * channels);
                let first = image * dy.outer + (position - dy.first) * dy.pitch;
                let row = PixelRow {
                    pixels: &dy.elements[first..],
                    pitch: dy.pitch,
                    size: len,
                    first: 0,
                    stride: 1,
                    len,
                };
                self.pairs_of(&row, 1, channels, to);
                (rest, position) = (after, position + len);
            }
        }
        Ok(to)
    }

    /// What the taps of a run read for the pairs of a block, `(pairs of all images and rows, taps,
    /// channels)`, zeros outside `x`, and what tiles read behind them.
    fn x_pairs<'a>(
        &self,
        x: &Pixels<T>,
        images: usize,
        (run, channels): (&Run, usize),
        block: (usize, usize),
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<&'a [T::Acc]> {
        let size = self.roles.source_size;
        let tap = &self.stencil.taps[run.taps.start];
        let to = padded(buffer, images * self.pairs(block), run.lanes)?;
        let mut rest = &mut *to;
        for image in 0..images {
            for read in self.stencil.reads(tap, (size, pixels(size).spatial), block) {
                let (to, after) = rest.split_at_mut(read.len.div_ceil(2) * run.lanes);
                rest = after;
                let Some(position) = read.row else {
                    to.fill(T::Acc::default());
                    continue;
                };
                // a copy has no columns before the first that is read
                let skipped = x.first.saturating_sub(position);
                let first = image * x.outer + (position + skipped - x.first) * x.pitch;
                let row = PixelRow {
                    pixels: &x.elements[first..],
                    pitch: x.pitch,
                    size: size[3] - skipped,
                    first: read.column - skipped as isize,
                    stride: self.stencil.pace[3],
                    len: read.len,
                };
                self.pairs_of(&row, run.taps.len(), channels, to);
            }
        }
        Ok(to)
    }

    /// `to (pairs, taps, channels)` of a row; taps are neighbours.
    fn pairs_of(&self, row: &PixelRow<T>, taps: usize, channels: usize, to: &mut [T::Acc]) {
        let level = self.level;
        let inside = |column: isize| usize::try_from(column).ok().filter(|&at| at < row.size);
        // several taps find most of what they read where others left it
        let far =
            self.stencil.taps.len() == 1 && size_of_val(self.x) + size_of_val(self.dy) > CACHED;
        for (pair, to) in to.chunks_exact_mut(taps * channels).enumerate() {
            let first = row.first + (2 * pair * row.stride) as isize;
            let second = (2 * pair + 1 < row.len).then_some(first + row.stride as isize);
            let end = second.unwrap_or(first) + taps as isize;
            if far && first >= 0 {
                let ahead = row.pixels.len().min(first as usize * row.pitch + AHEAD);
                let end = row.pixels.len().min(ahead + 2 * row.stride * row.pitch);
                prefetch(&row.pixels[ahead..end]);
            }
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
            self.products(
                (segments, &mut []),
                (a, rows, None),
                (b, first, count),
                sums,
            );
        }
        Ok(())
    }
}

impl<T: Element> Products<'_, '_, T> {
    /// Adds one chunk to the sums of a tile: a block of some images' `x` and `dy`.
    pub(super) fn add_pairs(
        &self,
        tile: &Tile,
        images: Range<usize>,
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
        let of = |strides: &Strides| images.start * strides.outer..images.end * strides.outer;
        let (x, dy) = (&job.x[of(&roles.source)], &job.dy[of(&roles.target)]);
        let images = images.len();
        let dy = job.pixels(dy, &roles.target, &channels, block.0..block.1, c)?;
        let dy = job.dy_pairs(&dy, images, block, height, a)?;
        let (channels, pairs) = (tile.source_channels(roles), images * job.pairs(block));
        for span in &part.spans {
            let runs = &part.runs[span.clone()];
            let reach = job.reach(runs, block);
            let x = job.pixels(x, &roles.source, &channels, reach, c)?;
            for run in runs {
                let x = job.x_pairs(&x, images, (run, channels.len()), block, b)?;
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
