//! wgrad as sums of outer products of channels, position by position.
//!
//! Per group, with `lane = (tap, source channel)`:
//!
//! ```text
//! dw[target channel, lane] = sum over positions of dy[position, target channel] * x[position + tap, lane]
//! ```
//!
//! With the channels next to each other in memory, both factors are read where they lie; operands
//! of another type or with the channels first are copied into that form, a block of positions at a
//! time. Taps that are neighbours in `x` are lanes next to each other if the channels alone do not
//! fill up vectors; at the edges of `x` a mask leaves out those that are outside.

use std::ops::Range;

use super::pack::{transpose, widen_rows};
use super::scratch::{Buffer, Scratch};
use super::split::{self, Sums, share};
use super::wgrad::Job;
use crate::cpu::output::{Output, store};
use crate::cpu::simd::{
    MicroKernel, OuterProduct, Segments, as_acc, inside_range, outer_product, prefetch,
};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Most target channels of a tile.
const HEIGHT: usize = 128;
/// Sums of a tile, and elements of both operands' blocks: together they stay in the L2 cache.
const SUMS: usize = 1 << 16;
const BLOCK: usize = 1 << 16;
/// Most and fewest positions of a block, where there are as many.
const POSITIONS: Range<usize> = 64..512;
/// Elements of a copy of `x` beside the block's own, up to which taps share it.
const HALO: usize = 1 << 16;
/// Blocks are made smaller until there are this many tasks.
const TASKS: usize = 16;

/// How the result and its sums are cut up.
struct Plan {
    /// Tiles of the target channels.
    tiles: usize,
    parts: Vec<Part>,
    /// Whether the lanes are the target channels, and the rows those of the parts.
    turned: bool,
    /// Blocks of the positions of one image.
    blocks: usize,
}

/// Source channels and taps of a tile.
struct Part {
    channels: Range<usize>,
    runs: Vec<Run>,
    /// Runs that share a copy of `x`.
    spans: Vec<Range<usize>>,
    /// Lanes of all runs.
    width: usize,
}

/// Taps whose lanes are next to each other, in `x` as in the sums.
#[derive(Clone)]
struct Run {
    taps: Range<usize>,
    lanes: usize,
    /// Where its lanes begin in a row of sums.
    place: usize,
}

/// An operand with the channels last: element `(position - first) * pitch + channel`.
struct View<'a, A> {
    elements: &'a [A],
    first: usize,
    pitch: usize,
}

impl<A> View<'_, A> {
    fn prefetch(&self, positions: Range<usize>, channels: usize) {
        for position in positions {
            let first = (position - self.first) * self.pitch;
            prefetch(&self.elements[first..first + channels]);
        }
    }
}

impl Plan {
    fn new<T: Element>(job: &Job<T>) -> Self {
        let Job { roles, stencil, .. } = job;
        let lanes = T::Acc::geometry(job.level).lanes;
        let wide = 2 * lanes;
        let (channels, taps) = (roles.source_channels, stencil.taps.len());
        let target_tiles = roles.target_channels.div_ceil(HEIGHT);
        let height = roles.target_channels.div_ceil(target_tiles);
        let width = SUMS / height;
        let most = (width / taps / wide * wide).max(wide);
        let tiles = channels.div_ceil(most);
        let each = match tiles {
            1 => channels,
            _ => channels.div_ceil(tiles).next_multiple_of(wide),
        };
        let parts: Vec<Part> = (0..channels)
            .step_by(each)
            .map(|first| first..channels.min(first + each))
            .flat_map(|channels| job.parts(channels, width, lanes))
            .collect();
        let read: usize = stencil
            .pace
            .iter()
            .fold(1, |n, &p| n.saturating_mul(p.min(4)));
        // vectors of multiply-adds a position, and the elements of `x` that are copied for a run
        let runs = || parts.iter().flat_map(|part| &part.runs);
        let straight: usize = runs().map(|run| run.lanes.div_ceil(lanes) * height).sum();
        let copied = each * stencil.pace[3].min(4);
        let turned: usize = runs()
            .map(|run| run.lanes * height.div_ceil(lanes) + copied)
            .sum();
        let tiles = roles.batch * roles.groups * target_tiles * parts.len();
        let length = BLOCK / (height + each * read);
        let length = length.clamp(POSITIONS.start, POSITIONS.end);
        let positions = stencil.positions();
        let blocks = positions.div_ceil(length).max(TASKS.div_ceil(tiles.max(1)));
        Plan {
            tiles: target_tiles,
            parts,
            turned: turned < straight,
            blocks: blocks.min(positions.div_ceil(POSITIONS.start)),
        }
    }
}

pub(super) fn run<T: Element>(job: &Job<T>, dw: &mut [T], write: Write) -> Result<()> {
    let plan = Plan::new(job);
    let tiles = job.roles.groups * plan.tiles * plan.parts.len();
    let chunks = job.roles.batch * plan.blocks;
    split::run(&Products { job, plan }, (tiles, chunks), dw, write)
}

struct Products<'a, 'b, T> {
    job: &'a Job<'b, T>,
    plan: Plan,
}

/// A group's target channels, and a part.
struct Tile<'a> {
    group: usize,
    channels: Range<usize>,
    part: &'a Part,
    /// From one row of sums to the next, and how many.
    pitch: usize,
    rows: usize,
}

impl<T: Element> Products<'_, '_, T> {
    fn tile(&self, index: usize) -> Tile<'_> {
        let (parts, tiles) = (&self.plan.parts, self.plan.tiles);
        let (rest, part) = (index / parts.len(), &parts[index % parts.len()]);
        let (m0, m1) = share(self.job.roles.target_channels, tiles, rest % tiles);
        let lanes = T::Acc::geometry(self.job.level).lanes;
        let (pitch, rows) = match self.plan.turned {
            true => ((m1 - m0).next_multiple_of(lanes), part.lanes()),
            false => (part.width, m1 - m0),
        };
        Tile {
            group: rest / tiles,
            channels: m0..m1,
            part,
            pitch,
            rows,
        }
    }
}

impl<T: Element> Sums<T> for Products<'_, '_, T> {
    fn size(&self, tile: usize) -> usize {
        let tile = self.tile(tile);
        tile.rows * tile.pitch
    }

    fn add(
        &self,
        tile: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, roles, plan) = (self.job, &self.job.roles, &self.plan);
        let tile = self.tile(tile);
        let (part, pitch, height) = (tile.part, tile.pitch, tile.channels.len());
        let x_channels = tile.group * roles.source_channels + part.channels.start;
        let x_channels = (x_channels, part.channels.len());
        let dy_channels = tile.group * roles.target_channels + tile.channels.start;
        let dy_channels = (dy_channels, height);
        let Scratch {
            a, b, c, segments, ..
        } = scratch;
        for chunk in chunks.0..chunks.1 {
            let (image, block) = (chunk / plan.blocks, chunk % plan.blocks);
            let block = share(job.stencil.positions(), plan.blocks, block);
            let dy = &job.dy[image * roles.target.outer..][..roles.target.outer];
            let dy = job.view(dy, &roles.target, dy_channels, block.0..block.1, a)?;
            let x = &job.x[image * roles.source.outer..][..roles.source.outer];
            let mut rest = &mut *sums;
            for span in &part.spans {
                let runs = &part.runs[span.clone()];
                let reach = job.reach(runs, block);
                let x = job.view(x, &roles.source, x_channels, reach.clone(), b)?;
                if job.in_place() {
                    // in the order of memory, which the products do not have
                    x.prefetch(reach, x_channels.1);
                    dy.prefetch(block.0..block.1, height);
                }
                for run in runs {
                    if plan.turned {
                        let (sums, after) = rest.split_at_mut(run.lanes * pitch);
                        rest = after;
                        let x = job.rows_of(run, block, &x, x_channels.1, c)?;
                        job.turned(run, block, (&dy, height), &x, segments, (sums, pitch));
                    } else {
                        let (x, sums) = ((&x, x_channels.1), (&mut rest[run.place..], pitch));
                        job.straight(run, block, (&dy, height), x, segments, sums);
                    }
                }
            }
        }
        Ok(())
    }

    fn store(
        &self,
        tile: usize,
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
        target: &Output<T>,
        write: Write,
    ) -> Result<()> {
        let (job, roles) = (self.job, &self.job.roles);
        let tile = self.tile(tile);
        let (part, pitch) = (tile.part, tile.pitch);
        let length = part.lanes();
        let first = tile.group * roles.weight_group;
        let at = |m: usize| first + m * roles.source_channels * job.stencil.taps.len();
        let Scratch { a, b, .. } = scratch;
        if self.plan.turned {
            let height = tile.channels.len();
            let rows = a.take(height * length)?;
            transpose(job.level, sums, pitch, (length, height), rows, length);
            for (m, row) in tile.channels.zip(rows.chunks_exact_mut(length)) {
                job.store(part, row, b, target, at(m), write)?;
            }
            return Ok(());
        }
        for (m, sums) in tile.channels.zip(sums.chunks_exact_mut(pitch)) {
            // together, if there are lanes between them that fill up vectors
            let mut end = 0;
            for run in &part.runs {
                if end < run.place {
                    sums.copy_within(run.place..run.place + run.lanes, end);
                }
                end += run.lanes;
            }
            job.store(part, &mut sums[..length], b, target, at(m), write)?;
        }
        Ok(())
    }
}

impl<T: Element> Job<'_, T> {
    /// Whether both operands are read where they lie.
    fn in_place(&self) -> bool {
        self.layouts.activation == Layout::ChannelsLast && as_acc(self.x).is_some()
    }

    /// All taps of some channels, in parts of at most `width` lanes where a run has no more.
    fn parts(&self, channels: Range<usize>, width: usize, lanes: usize) -> Vec<Part> {
        let (roles, taps) = (&self.roles, self.stencil.taps.len());
        let count = channels.len();
        let alone = roles.groups == 1 && count == roles.source_channels;
        let full = count.is_multiple_of(2 * lanes);
        let joined = !full && (alone || !self.in_place());
        let mut parts: Vec<Part> = Vec::new();
        let mut tap = 0;
        while tap < taps {
            let next = match joined {
                true => self.stencil.neighbours(tap).min((width / count).max(1)),
                false => 1,
            };
            let padded = (next * count).next_multiple_of(lanes);
            let mut part = match parts.pop() {
                Some(part) if part.width + padded <= width => part,
                full => {
                    parts.extend(full);
                    Part {
                        channels: channels.clone(),
                        runs: Vec::new(),
                        spans: Vec::new(),
                        width: 0,
                    }
                }
            };
            part.runs.push(Run {
                taps: tap..tap + next,
                lanes: next * count,
                place: part.width,
            });
            part.width += padded;
            parts.push(part);
            tap += next;
        }
        for part in &mut parts {
            part.spans = self.spans(&part.runs, count);
        }
        parts
    }

    /// Runs that read from nearby, together.
    fn spans(&self, runs: &[Run], channels: usize) -> Vec<Range<usize>> {
        if self.in_place() {
            return std::iter::once(0..runs.len()).collect();
        }
        let pixels = pixels(self.roles.source_size);
        let offset = |tap: usize| -> isize {
            let offset = self.stencil.taps[tap].offset;
            (0..4).map(|a| offset[a] * pixels.spatial[a] as isize).sum()
        };
        let (mut spans, mut begin) = (Vec::new(), 0);
        for (i, run) in runs.iter().enumerate() {
            let reach = offset(run.taps.end - 1) - offset(runs[begin].taps.start);
            if reach.unsigned_abs().saturating_mul(channels) > HALO && i > begin {
                spans.push(begin..i);
                begin = i;
            }
        }
        spans.push(begin..runs.len());
        spans
    }

    /// Adds a run's products over a block whose lanes are those of the run.
    fn straight(
        &self,
        run: &Run,
        block: (usize, usize),
        (dy, height): (&View<T::Acc>, usize),
        (x, channels): (&View<T::Acc>, usize),
        segments: &mut Segments,
        (sums, pitch): (&mut [T::Acc], usize),
    ) {
        let wide = 2 * T::Acc::geometry(self.level).lanes;
        let mut built = 0;
        for first in (0..run.lanes).step_by(wide) {
            let count = (run.lanes - first).min(wide);
            // the lanes of one tap are read alike, but for the last ones
            if first == 0 || run.taps.len() > 1 || count < wide {
                self.segments(
                    run,
                    first..first + count,
                    channels,
                    block,
                    (dy, x),
                    segments,
                );
                built = first;
            }
            let lanes = (x.elements, first - built, count);
            let sums = (&mut sums[first..], pitch);
            self.products(segments, (dy.elements, height), lanes, sums);
        }
    }

    /// Adds a run's products over a block whose lanes are the target channels.
    fn turned(
        &self,
        run: &Run,
        block: (usize, usize),
        (dy, height): (&View<T::Acc>, usize),
        x: &View<T::Acc>,
        segments: &mut Segments,
        (sums, pitch): (&mut [T::Acc], usize),
    ) {
        let lanes = T::Acc::geometry(self.level).lanes;
        let pace = self.stencil.pace[3];
        for first in (0..height).step_by(2 * lanes) {
            let count = (height - first).min(2 * lanes);
            let mask = u32::MAX >> (32 - count);
            segments.reset((pace * x.pitch, dy.pitch), lanes);
            let mut at = 0;
            for row in self.rows(run, block) {
                let b = (block.0 + row.position - dy.first) * dy.pitch + first;
                segments.push(at * x.pitch, b as isize, row.len, mask);
                at += (row.len - 1) * pace + run.taps.len();
            }
            let lanes = (dy.elements, 0, count);
            let sums = (&mut sums[first..], pitch);
            self.products(segments, (x.elements, run.lanes), lanes, sums);
        }
    }

    /// Adds the products of some rows and of at most two vectors of lanes, those from `shift` on, to
    /// `sums`, whose rows are `pitch` apart.
    fn products(
        &self,
        segments: &Segments,
        (a, height): (&[T::Acc], usize),
        (b, shift, lanes): (&[T::Acc], usize, usize),
        (sums, pitch): (&mut [T::Acc], usize),
    ) {
        let geometry = T::Acc::geometry(self.level);
        let blocks = height.div_ceil(geometry.rows);
        for block in 0..blocks {
            let (r0, r1) = share(height, blocks, block);
            let product = OuterProduct {
                segments,
                a: a.get(r0..).unwrap_or_default(),
                b,
                shift,
                c: &mut sums[r0 * pitch..],
                pitch,
            };
            outer_product(self.level, r1 - r0, lanes.div_ceil(geometry.lanes), product);
        }
    }

    /// What a run reads for a block, of the rows that lie inside `x` along the outer axes: from the
    /// first to the last column, with zeros outside.
    fn rows_of<'a>(
        &self,
        run: &Run,
        block: (usize, usize),
        x: &View<T::Acc>,
        channels: usize,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<View<'a, T::Acc>> {
        let columns = |row: &Row| (row.len - 1) * self.stencil.pace[3] + run.taps.len();
        let all: usize = self.rows(run, block).map(|row| columns(&row)).sum();
        let elements = buffer.take(all * channels)?;
        let mut rest = &mut *elements;
        for row in self.rows(run, block) {
            let (to, after) = rest.split_at_mut(columns(&row) * channels);
            rest = after;
            let (lo, hi) = inside_range(row.column, 1, columns(&row), self.roles.source_size[3]);
            to[..lo * channels].fill(T::Acc::default());
            to[hi * channels..].fill(T::Acc::default());
            if lo < hi {
                let first = row.plane + (row.column + lo as isize) as usize - x.first;
                let from = &x.elements[first * x.pitch..];
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
            first: 0,
            pitch: channels,
        })
    }

    /// Some channels and positions of an operand; positions past those may be there, too.
    fn view<'a>(
        &self,
        from: &'a [T],
        strides: &Strides,
        (first, channels): (usize, usize),
        positions: Range<usize>,
        buffer: &'a mut Buffer<T::Acc>,
    ) -> Result<View<'a, T::Acc>> {
        let from = &from[first * strides.channel..];
        let pixel = strides.spatial[3];
        if let Some(elements) = as_acc(from).filter(|_| self.in_place()) {
            return Ok(View {
                elements,
                first: 0,
                pitch: pixel,
            });
        }
        let to = buffer.take(positions.len() * channels)?;
        if !positions.is_empty() {
            self.copy(&from[positions.start * pixel..], strides, channels, to);
        }
        Ok(View {
            elements: to,
            first: positions.start,
            pitch: channels,
        })
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
    fn rows(&self, run: &Run, block: (usize, usize)) -> impl Iterator<Item = Row> {
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
    fn reach(&self, runs: &[Run], block: (usize, usize)) -> Range<usize> {
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

    /// The steps of some lanes of a run over a block.
    fn segments(
        &self,
        run: &Run,
        lanes: Range<usize>,
        channels: usize,
        block: (usize, usize),
        (dy, x): (&View<T::Acc>, &View<T::Acc>),
        to: &mut Segments,
    ) {
        let (size, pace) = (self.roles.source_size[3] as isize, self.stencil.pace[3]);
        let vector = T::Acc::geometry(self.level).lanes;
        to.reset((dy.pitch, pace * x.pitch), vector);
        let taps = lanes.start / channels..lanes.end.div_ceil(channels);
        for row in self.rows(run, block) {
            let Row {
                position,
                len,
                plane,
                column,
            } = row;
            let mut i = 0;
            while i < len {
                let mut next = len;
                let mut mask = 0;
                for tap in taps.clone() {
                    let at = column + (tap + i * pace) as isize;
                    // the position at which the tap comes to the next edge
                    let edge = if at < 0 { 0 } else { size };
                    if at < edge {
                        next = next.min(i + ((edge - at) as usize).div_ceil(pace));
                    }
                    if (0..size).contains(&at) {
                        let from = (tap * channels).max(lanes.start) - lanes.start;
                        let end = ((tap + 1) * channels).min(lanes.end) - lanes.start;
                        mask |= (u32::MAX >> (32 - (end - from))) << from;
                    }
                }
                let first = plane as isize + column + (i * pace) as isize - x.first as isize;
                let b = first * x.pitch as isize + lanes.start as isize;
                let a = (block.0 + position + i - dy.first) * dy.pitch;
                to.push(a, b, next - i, mask);
                i = next;
            }
        }
    }

    /// Stores sums `(taps, channels)` of one target channel, whose weights begin at `at`.
    fn store(
        &self,
        part: &Part,
        sums: &mut [T::Acc],
        buffer: &mut Buffer<T::Acc>,
        target: &Output<T>,
        at: usize,
        write: Write,
    ) -> Result<()> {
        let (all, first) = (self.roles.source_channels, part.channels.start);
        let (channels, taps) = (part.channels.len(), self.stencil.taps.len());
        let (from, count) = (part.runs[0].taps.start, part.lanes() / channels);
        let to = |at: usize, len: usize| {
            // SAFETY: no other task has this tile.
            unsafe { target.part(at, len) }
        };
        match self.layouts.weight {
            Layout::ChannelsLast if channels == all => {
                store(sums, to(at + from * all, sums.len()), write);
            }
            Layout::ChannelsLast => {
                for (tap, sums) in (from..).zip(sums.chunks_exact_mut(channels)) {
                    store(sums, to(at + tap * all + first, channels), write);
                }
            }
            Layout::ChannelsFirst if taps == 1 => store(sums, to(at + first, channels), write),
            Layout::ChannelsFirst => {
                let columns = buffer.take(sums.len())?;
                transpose(
                    self.level,
                    sums,
                    channels,
                    (count, channels),
                    columns,
                    count,
                );
                if count == taps {
                    store(columns, to(at + first * taps, columns.len()), write);
                    return Ok(());
                }
                for (channel, sums) in (first..).zip(columns.chunks_exact_mut(count)) {
                    store(sums, to(at + channel * taps + from, count), write);
                }
            }
        }
        Ok(())
    }
}

/// Some positions of a row of a block, and what the first tap of a run reads for them.
struct Row {
    /// Number of the first in the block, and how many.
    position: usize,
    len: usize,
    /// Of the first: the position in a plane of `x` without the column, which may lie outside.
    plane: usize,
    column: isize,
}

impl Part {
    /// Without those that fill up vectors.
    fn lanes(&self) -> usize {
        self.runs.iter().map(|run| run.lanes).sum()
    }
}

/// Steps from one position of a plane to the next.
fn pixels(size: [usize; 4]) -> Strides {
    Strides::new(Layout::ChannelsFirst, 1, size)
}
