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
//! fill up vectors; at the edges of `x` a mask leaves out those that are outside. Both operands of a
//! single tap are packed ([`points`]).

mod chunks;
mod operands;
mod pairs;
mod plan;
mod points;
mod weights;

use std::ops::Range;

use super::pack::transpose;
use super::scratch::Scratch;
use super::split::{self, Sums, share};
use super::stencil::Roles;
use super::wgrad::Job;
use crate::cpu::output::Output;
use crate::cpu::simd::{Ahead, MicroKernel, OuterProduct, Segments, outer_product};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::ops::Write;
use chunks::Reads;
use operands::{Row, View};
use plan::{Part, Plan, Run};

pub(super) fn run<T: Element>(job: &Job<T>, dw: &mut [T], write: Write) -> Result<()> {
    let paired = job.level.paired().filter(|_| T::DTYPE == DType::BF16);
    let job = &Job {
        level: paired.unwrap_or(job.level),
        stencil: job.stencil.clone(),
        ..*job
    };
    let plan = Plan::new(job);
    let tiles = job.roles.groups * plan.tiles * plan.parts.len();
    let chunks = job.roles.batch.div_ceil(plan.images) * plan.blocks;
    split::run(
        job.level,
        &Products { job, plan },
        (tiles, chunks),
        dw,
        write,
    )
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

impl Tile<'_> {
    /// Its channels among those of all groups.
    fn source_channels(&self, roles: &Roles) -> Range<usize> {
        let first = self.group * roles.source_channels;
        first + self.part.channels.start..first + self.part.channels.end
    }

    fn target_channels(&self, roles: &Roles) -> Range<usize> {
        let first = self.group * roles.target_channels;
        first + self.channels.start..first + self.channels.end
    }
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
        let x_channels = tile.source_channels(roles);
        let x_channels = (x_channels.start, x_channels.len());
        let dy_channels = (tile.target_channels(roles).start, height);
        if job.level.pairs() {
            return (chunks.0..chunks.1)
                .map(|chunk| self.chunk(chunk))
                .try_for_each(|(images, block)| {
                    self.add_pairs(&tile, images, block, sums, scratch)
                });
        }
        if plan.points {
            return self.add_points(&tile, chunks.0..chunks.1, sums, scratch);
        }
        let Scratch {
            a, b, c, segments, ..
        } = scratch;
        let products = self.products(&tile);
        let mut chunks = (chunks.0..chunks.1)
            .map(|chunk| self.reads(&tile, chunk))
            .peekable();
        let mut ahead = Vec::new();
        // copies are made in the order of memory, which products do not have
        if let Some(first) = chunks.peek().filter(|_| job.in_place()) {
            self.ahead(&tile, first, 0, 1, &mut ahead);
            ahead.iter_mut().for_each(Ahead::ask);
        }
        while let Some(Reads {
            images,
            block,
            x: all,
        }) = chunks.next()
        {
            ahead.clear();
            if let Some(next) = chunks.peek() {
                // of the same images the rest was read just now
                let read = if next.block.0 > 0 { all.end } else { 0 };
                self.ahead(&tile, next, read, products, &mut ahead);
            }
            let (x, dy) = ((job.x, &images), (job.dy, &images));
            let dy = job.view(dy, &roles.target, dy_channels, block.0..block.1, a)?;
            let mut rest = &mut *sums;
            for span in &part.spans {
                let runs = &part.runs[span.clone()];
                let reach = match part.spans.len() {
                    1 => all.clone(),
                    _ => job.reach(runs, block),
                };
                let x = job.view(x, &roles.source, x_channels, reach, b)?;
                for run in runs {
                    if plan.turned {
                        let (sums, after) = rest.split_at_mut(run.lanes * pitch);
                        rest = after;
                        let x = job.rows_of(run, block, &x, x_channels.1, c)?;
                        let (sums, steps) = ((sums, pitch), (&mut *segments, &mut ahead[..]));
                        job.turned(run, block, (&dy, height), &x, steps, sums);
                    } else {
                        let (x, sums) = ((&x, x_channels.1), (&mut rest[run.place..], pitch));
                        let steps = (&mut *segments, &mut ahead[..]);
                        job.straight(run, block, (&dy, height), x, steps, sums);
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
    /// Adds a run's products over a block whose lanes are those of the run.
    fn straight(
        &self,
        run: &Run,
        block: (usize, usize),
        (dy, height): (&View<T::Acc>, usize),
        (x, channels): (&View<T::Acc>, usize),
        (segments, ahead): (&mut Segments, &mut [Ahead]),
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
            self.products((segments, ahead), (dy.elements, height, None), lanes, sums);
        }
    }

    /// Adds a run's products over a block whose lanes are the target channels.
    fn turned(
        &self,
        run: &Run,
        block: (usize, usize),
        (dy, height): (&View<T::Acc>, usize),
        x: &View<T::Acc>,
        (segments, ahead): (&mut Segments, &mut [Ahead]),
        (sums, pitch): (&mut [T::Acc], usize),
    ) {
        let lanes = T::Acc::geometry(self.level).lanes;
        let pace = self.stencil.pace[3];
        for first in (0..height).step_by(2 * lanes) {
            let count = (height - first).min(2 * lanes);
            let mask = u32::MAX >> (32 - count);
            segments.reset((pace * x.pitch, dy.pitch), lanes);
            let mut at = 0;
            let rows = |image| {
                self.rows(run, block)
                    .map(move |row| (image * dy.outer, row))
            };
            for (begin, row) in (0..dy.images).flat_map(rows) {
                let b = begin + (block.0 + row.position - dy.first) * dy.pitch + first;
                segments.push(at * x.pitch, b as isize, row.len, mask);
                at += (row.len - 1) * pace + run.taps.len();
            }
            let lanes = (dy.elements, 0, count);
            let sums = (&mut sums[first..], pitch);
            self.products(
                (segments, ahead),
                (x.elements, run.lanes, None),
                lanes,
                sums,
            );
        }
    }

    /// Adds the products of some rows, those of a register tile next to each other or in a panel, and of at
    /// most two vectors of lanes, those from `shift` on, to `sums`, whose rows are `pitch` apart; before
    /// each register tile a part of what is ahead is asked for.
    fn products(
        &self,
        (segments, ahead): (&Segments, &mut [Ahead]),
        (a, height, panel): (&[T::Acc], usize, Option<usize>),
        (b, shift, lanes): (&[T::Acc], usize, usize),
        (sums, pitch): (&mut [T::Acc], usize),
    ) {
        if segments.is_empty() {
            return; // all that the run reads lies outside
        }
        let geometry = T::Acc::geometry(self.level);
        let most = match panel {
            Some(_) => geometry.rows,
            None => geometry.most(lanes),
        };
        let blocks = height.div_ceil(most);
        for block in 0..blocks {
            let (r0, r1) = share(height, blocks, block);
            let product = OuterProduct {
                segments,
                a: &a[panel.map_or(r0, |size| block * size)..],
                b,
                shift,
                c: &mut sums[r0 * pitch..],
                pitch,
            };
            ahead.iter_mut().for_each(Ahead::ask);
            outer_product(self.level, r1 - r0, lanes.div_ceil(geometry.lanes), product);
        }
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
        let rows = |image| self.rows(run, block).map(move |row| (image, row));
        for (image, row) in (0..dy.images).flat_map(rows) {
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
                let b = (image * x.outer + lanes.start) as isize + first * x.pitch as isize;
                let a = image * dy.outer + (block.0 + position + i - dy.first) * dy.pitch;
                to.push(a, b, next - i, mask);
                i = next;
            }
        }
    }
}
