//! The operands of wgrad with the channels last: where they lie, or a copy of some positions.

use std::ops::Range;

use super::super::pack::transpose;
use super::super::pixels::widen_rows;
use super::super::scratch::Buffer;
use super::super::wgrad::Job;
use super::plan::Run;
use crate::cpu::simd::{Ahead, as_acc, inside_range};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::host::SETS;
use crate::shape::Layout;

/// An operand of some images with the channels last: element
/// `image * outer + (position - first) * pitch + channel`.
pub(super) struct View<'a, A> {
    pub elements: &'a [A],
    pub images: usize,
    pub outer: usize,
    pub first: usize,
    pub pitch: usize,
}

/// Some positions of a row of a block, and what the first tap of a run reads for them.
pub(super) struct Row {
    /// Number of the first in the block, and how many.
    pub position: usize,
    pub len: usize,
    /// Of the first: the position in a plane of `x` without the column, which may lie outside.
    pub plane: usize,
    pub column: isize,
}

impl<T: Element> Job<'_, T> {
    /// Whether both operands are read where they lie.
    pub(super) fn in_place(&self) -> bool {
        let apart = |strides: &Strides| {
            let pitch = strides.spatial[3] * size_of::<T>();
            !pitch.is_multiple_of(SETS)
        };
        self.layouts.activation == Layout::ChannelsLast
            && as_acc(self.x).is_some()
            && apart(&self.roles.source)
            && apart(&self.roles.target)
    }

    /// What a run reads for a block, of the rows that lie inside `x` along the outer axes: from the
    /// first to the last column, with zeros outside.
    pub(super) fn rows_of<'a>(
        &self,
        run: &Run,
        block: (usize, usize),
        x: &View<T::Acc>,
        channels: usize,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<View<'a, T::Acc>> {
        let columns = |row: &Row| (row.len - 1) * self.stencil.pace[3] + run.taps.len();
        let all: usize = self.rows(run, block).map(|row| columns(&row)).sum();
        let outer = all * channels;
        let elements = buffer.take(x.images * outer)?;
        let mut rest = &mut *elements;
        let rows = |image| self.rows(run, block).map(move |row| (image, row));
        for (image, row) in (0..x.images).flat_map(rows) {
            let (to, after) = rest.split_at_mut(columns(&row) * channels);
            rest = after;
            let (lo, hi) = inside_range(row.column, 1, columns(&row), self.roles.source_size[3]);
            to[..lo * channels].fill(T::Acc::default());
            to[hi * channels..].fill(T::Acc::default());
            if lo < hi {
                let first = row.plane + (row.column + lo as isize) as usize - x.first;
                let from = &x.elements[image * x.outer + first * x.pitch..];
                widen_rows(
                    from,
                    x.pitch,
                    channels,
                    &mut to[lo * channels..hi * channels],
                );
            }
        }
        Ok(View {
            elements,
            images: x.images,
            outer,
            first: 0,
            pitch: channels,
        })
    }

    /// Some channels and positions of some images of an operand; positions past those may be there, too.
    pub(super) fn view<'a>(
        &self,
        (from, images): (&'a [T], &Range<usize>),
        strides: &Strides,
        (first, channels): (usize, usize),
        positions: Range<usize>,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<View<'a, T::Acc>> {
        let from = &from[images.start * strides.outer..images.end * strides.outer];
        let from = &from[first * strides.channel..];
        let (pixel, images) = (strides.spatial[3], images.len());
        if let Some(elements) = as_acc(from).filter(|_| self.in_place()) {
            return Ok(View {
                elements,
                images,
                outer: strides.outer,
                first: 0,
                pitch: pixel,
            });
        }
        let outer = positions.len() * channels;
        let to = buffer.take(images * outer)?;
        for (image, to) in to.chunks_exact_mut(outer.max(1)).enumerate() {
            let from = &from[image * strides.outer + positions.start * pixel..];
            self.copy(from, strides, channels, to);
        }
        Ok(View {
            elements: to,
            images,
            outer,
            first: positions.start,
            pitch: channels,
        })
    }

    /// Some channels and positions of an image of an operand, to be asked for.
    pub(super) fn ahead(
        &self,
        from: &[T],
        strides: &Strides,
        image: usize,
        channels: &Range<usize>,
        positions: &Range<usize>,
    ) -> Ahead {
        let (channel, pixel) = (strides.channel, strides.spatial[3]);
        let first = image * strides.outer + channels.start * channel + positions.start * pixel;
        let (channels, positions) = (channels.len(), positions.len());
        // nothing may be left from there on
        let from = from[first.min(from.len())..].as_ptr();
        match self.layouts.activation {
            Layout::ChannelsFirst => Ahead::new(from, channel, channels, positions),
            Layout::ChannelsLast => Ahead::new(from, pixel, positions, channels),
        }
    }

    /// Copies the channels of positions that follow one another, channels last.
    fn copy(&self, from: &[T], strides: &Strides, channels: usize, to: &mut [T::Acc]) {
        let count = to.len() / channels;
        match self.layouts.activation {
            Layout::ChannelsFirst if channels == 1 => T::widen(&from[..count], to),
            Layout::ChannelsFirst => {
                let size = (channels, count);
                transpose(self.level, from, strides.channel, size, to, channels);
            }
            Layout::ChannelsLast => widen_rows(from, strides.spatial[3], channels, to),
        }
    }

    /// The rows of a block that a run's taps find inside `x` along the outer axes.
    pub(super) fn rows(&self, run: &Run, block: (usize, usize)) -> impl Iterator<Item = Row> {
        let size = self.roles.source_size;
        let tap = &self.stencil.taps[run.taps.start];
        let reads = self.stencil.reads(tap, (size, pixels(size).spatial), block);
        let mut end = 0;
        reads.filter_map(move |read| {
            let position = end;
            end += read.len;
            Some(Row {
                position,
                len: read.len,
                plane: read.row?,
                column: read.column,
            })
        })
    }

    /// The positions of a plane of `x` that runs read for a block.
    pub(super) fn reach(&self, runs: &[Run], block: (usize, usize)) -> Range<usize> {
        let (size, pace) = (self.roles.source_size[3], self.stencil.pace[3]);
        let mut all: Option<Range<usize>> = None;
        for run in runs {
            for row in self.rows(run, block) {
                let inside = |column: isize| row.plane + column.clamp(0, size as isize) as usize;
                let end = row.column + ((row.len - 1) * pace + run.taps.len()) as isize;
                let (from, to) = (inside(row.column), inside(end));
                all = Some(match all {
                    Some(all) => all.start.min(from)..all.end.max(to),
                    None => from..to,
                });
            }
        }
        all.unwrap_or(0..0)
    }
}

/// Steps from one position of a plane to the next.
pub(super) fn pixels(size: [usize; 4]) -> Strides {
    Strides::new(Layout::ChannelsFirst, 1, size)
}
