//! wgrad of one tap: with no others to share what is read, both operands are packed, as those of a matrix
//! product are, a chunk of positions at a time.
//!
//! Positions whose tap lies outside `x` are left out of both.

use std::ops::Range;

use super::super::scratch::{Buffer, Scratch, product};
use super::super::split::share;
use super::{Products, Tile};
use crate::cpu::simd::{Ahead, Cuts, Geometry, Level, MicroKernel, cut_rows, inside_range};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;

/// Positions of an image that follow one another in `dy`, and with the stride between them in `x`.
struct Line {
    image: usize,
    x: usize,
    dy: usize,
    len: usize,
}

/// Channels of an operand cut into panels `(positions, pitch)`.
struct Panels {
    cuts: Cuts,
    count: usize,
    pitch: usize,
    /// From one panel to the next.
    size: usize,
}

impl Panels {
    /// Of that many positions and as wide as register tiles have rows.
    fn rows(channels: usize, positions: usize, Geometry { lanes, rows, .. }: Geometry) -> Self {
        let count = channels.div_ceil(rows);
        let starts = (0..count).map(|panel| share(channels, count, panel).0);
        Panels::new(starts, channels, channels.div_ceil(count), positions, lanes)
    }

    /// As wide as two vectors.
    fn lanes(channels: usize, positions: usize, Geometry { lanes, .. }: Geometry) -> Self {
        let starts = (0..channels).step_by(2 * lanes);
        Panels::new(starts, channels, 2 * lanes, positions, lanes)
    }

    fn new(
        starts: impl Iterator<Item = usize>,
        channels: usize,
        pitch: usize,
        positions: usize,
        lanes: usize,
    ) -> Self {
        let starts: Vec<usize> = starts.chain([channels]).collect();
        // vectors begin inside of a panel
        let size = positions * pitch + lanes;
        Panels {
            cuts: Cuts::new(lanes, &starts, pitch, size),
            count: starts.len() - 1,
            pitch,
            size,
        }
    }
}

/// Some channels of `x` or of `dy`.
struct Operand<'a, T> {
    elements: &'a [T],
    strides: &'a Strides,
    channels: Range<usize>,
    /// Where a line begins, and elements from each of its positions to the next.
    begin: fn(&Line) -> usize,
    step: usize,
    panels: Panels,
}

impl<T: Element> Operand<'_, T> {
    fn from(&self, line: &Line) -> &[T] {
        let first = self.channels.start + (self.begin)(line) * self.strides.spatial[3];
        &self.elements[line.image * self.strides.outer + first..]
    }

    fn ahead(&self, line: &Line) -> Ahead {
        let from = self.from(line).as_ptr();
        Ahead::new(from, self.step, line.len, self.channels.len())
    }

    fn pack<'b>(
        &self,
        level: Level,
        lines: &[Line],
        buffer: &'b mut Buffer<T::Acc>,
    ) -> Result<&'b [T::Acc]> {
        let Panels {
            cuts,
            count,
            pitch,
            size,
        } = &self.panels;
        let to = buffer.take(product(&[*count, *size]))?;
        let mut at = 0;
        for line in lines {
            let from = (self.from(line), self.step);
            cut_rows(level, from, line.len, cuts, &mut to[at * pitch..]);
            at += line.len;
        }
        Ok(to)
    }
}

impl<T: Element> Products<'_, '_, T> {
    /// Adds some chunks to the sums of a tile.
    pub(super) fn add_points(
        &self,
        tile: &Tile,
        chunks: Range<usize>,
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, roles, plan) = (self.job, &self.job.roles, &self.plan);
        let geometry = T::Acc::geometry(job.level);
        let positions = plan.images * job.stencil.positions().div_ceil(plan.blocks.max(1));
        let (x, dy) = (tile.source_channels(roles), tile.target_channels(roles));
        let panels = |rows: bool, channels: usize| match rows {
            true => Panels::rows(channels, positions, geometry),
            false => Panels::lanes(channels, positions, geometry),
        };
        let x = Operand {
            elements: job.x,
            strides: &roles.source,
            begin: |line| line.x,
            step: job.stencil.pace[3] * roles.source.spatial[3],
            panels: panels(plan.turned, x.len()),
            channels: x,
        };
        let dy = Operand {
            elements: job.dy,
            strides: &roles.target,
            begin: |line| line.dy,
            step: roles.target.spatial[3],
            panels: panels(!plan.turned, dy.len()),
            channels: dy,
        };
        let (rows, lanes) = if plan.turned { (x, dy) } else { (dy, x) };
        let (height, width) = (rows.channels.len(), lanes.channels.len());
        let wide = lanes.panels.pitch;
        let Scratch { a, b, segments, .. } = scratch;
        let (mut ahead, products) = (Vec::new(), self.products(tile));
        let mut chunks = chunks.map(|chunk| self.lines(tile, chunk)).peekable();
        while let Some(lines) = chunks.next() {
            let next = chunks.peek().into_iter().flatten();
            ahead.clear();
            ahead.extend(next.flat_map(|line| [rows.ahead(line), lanes.ahead(line)]));
            ahead.iter_mut().for_each(|ahead| ahead.cut(products));
            let positions = lines.iter().map(|line| line.len).sum();
            let a = rows.pack(job.level, &lines, a)?;
            let b = lanes.pack(job.level, &lines, b)?;
            for (panel, first) in (0..width).step_by(wide).enumerate() {
                let count = (width - first).min(wide);
                segments.reset((rows.panels.pitch, wide), geometry.lanes);
                segments.push(0, 0, positions, u32::MAX >> (32 - count));
                let a = (a, height, Some(rows.panels.size));
                let b = (&b[panel * lanes.panels.size..], 0, count);
                let sums = (&mut sums[first..], tile.pitch);
                job.products((segments, &mut ahead), a, b, sums);
            }
        }
        Ok(())
    }

    /// The positions of a chunk whose tap lies inside `x`.
    fn lines(&self, tile: &Tile, chunk: usize) -> Vec<Line> {
        let (job, (images, block)) = (self.job, self.chunk(chunk));
        let (size, pace) = (job.roles.source_size[3], job.stencil.pace[3]);
        let mut lines: Vec<Line> = Vec::new();
        for image in images {
            for row in job.rows(&tile.part.runs[0], block) {
                let (lo, hi) = inside_range(row.column, pace, row.len, size);
                if lo >= hi {
                    continue;
                }
                let x = row.plane + (row.column + (lo * pace) as isize) as usize;
                let (dy, len) = (block.0 + row.position + lo, hi - lo);
                if let Some(line) = lines.last_mut()
                    && pace == 1
                    && (line.image, line.x + line.len, line.dy + line.len) == (image, x, dy)
                {
                    line.len += len;
                    continue;
                }
                lines.push(Line { image, x, dy, len });
            }
        }
        lines
    }
}
