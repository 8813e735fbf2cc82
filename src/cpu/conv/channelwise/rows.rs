//! The rows of a source that rows of a target read: where they lie, or widened.
//!
//! Several rows of the target read a row of the source, so elements of 16 bits are widened once into
//! memory that stays in the L2 cache, and what reads them there is the same code that reads `f32`.

use super::super::scratch::{Buffer, product};
use super::super::stencil::{Roles, Stencil};
use super::Reach;
use crate::cpu::simd::{Level, Run, as_acc, widen};
use crate::element::Element;
use crate::error::Result;

/// Elements of widened rows: they should stay in the L2 cache (tests have rows of several segments)...
const WIDENED: usize = if cfg!(test) { 1 << 9 } else { 1 << 16 };
/// ...and may not be more.
const LARGEST: usize = 1 << 20;
/// Widened rows for each of those that a row of the target reads: with dilation its neighbours read
/// others.
const SPARE: usize = 4;

/// Columns of the target that are computed together, and those of the source that they read.
pub(super) struct Segment {
    pub first: usize,
    pub width: usize,
    begin: usize,
    end: usize,
}

/// How the rows of a stencil are cut into segments.
pub(super) struct Segments {
    count: usize,
    /// Columns of a segment of the target, and from one to the next in the source.
    width: usize,
    pace: usize,
    /// What the first column reads first, and last.
    reach: (isize, isize),
    size: usize,
    /// Rows of the source that a row of the target reads.
    depth: usize,
    copies: bool,
}

impl Segments {
    /// For `channels` of the source at a time.
    ///
    /// `None` where widened rows would take too much memory.
    pub fn new<T: Element>(
        roles: &Roles,
        stencil: &Stencil,
        reaches: &[Reach],
        channels: usize,
    ) -> Option<Self> {
        let (count, pace) = (stencil.count[3], stencil.pace[3]);
        let first = reaches.iter().map(|reach| reach.offset[3]).min();
        let last = |reach: &Reach| reach.offset[3] + ((reach.run.count - 1) * pace) as isize;
        let reach = (
            first.unwrap_or(0),
            reaches.iter().map(last).max().unwrap_or(0),
        );
        let outer = |reach: &Reach| [0, 1, 2].map(|a| reach.offset[a]);
        let depth = reaches.chunk_by(|a, b| outer(a) == outer(b)).count();
        let mut segments = Segments {
            count,
            width: count,
            pace,
            reach,
            size: roles.source_size[3],
            depth,
            copies: as_acc::<T>(&[]).is_none(),
        };
        if !segments.copies {
            return Some(segments);
        }
        let span = (reach.1 - reach.0) as usize + 1;
        let columns = WIDENED / product(&[depth, channels]).max(1);
        // what neighbouring segments both read should not be most of what they read
        let width = (columns.saturating_sub(span)).max(span) / pace;
        segments.width = width.clamp(1, count);
        (product(&[depth, channels, segments.columns()]) <= LARGEST).then_some(segments)
    }

    /// Rows of the target that a task should have, so that most of what it widens is read often.
    pub fn least_rows(&self) -> usize {
        match self.copies {
            true => 2 * self.depth.max(1),
            false => 1,
        }
    }

    /// Columns of the source that a segment reads, at most.
    fn columns(&self) -> usize {
        let span = (self.reach.1 - self.reach.0) as usize + 1;
        ((self.width - 1) * self.pace + span).min(self.size)
    }

    pub fn iter(&self) -> impl Iterator<Item = Segment> {
        (0..self.count).step_by(self.width).map(|first| {
            let width = self.width.min(self.count - first);
            let (from, to) = (
                (first * self.pace) as isize + self.reach.0,
                ((first + width - 1) * self.pace) as isize + self.reach.1 + 1,
            );
            // at least one column, though none may be read
            let begin = (from.max(0) as usize).min(self.size - 1);
            let end = (to.max(0) as usize).clamp(begin + 1, self.size);
            Segment {
                first,
                width,
                begin,
                end,
            }
        })
    }
}

/// A row of the source, and the row of the target that last wanted it.
#[derive(Clone, Copy)]
struct Slot {
    row: usize,
    wanted: usize,
}

/// Some channels of the rows of an image.
pub(super) struct SourceRows<'a, T: Element> {
    level: Level,
    source: &'a [T],
    /// Elements from one pixel to the next, and those of them that are wanted.
    pixel: usize,
    channels: usize,
    wide: &'a mut [T::Acc],
    slots: Vec<Slot>,
    most: usize,
    turn: usize,
    columns: (usize, usize),
}

/// What the runs of a row of the target read.
pub(super) struct Read<'a, A> {
    pub source: &'a [A],
    pub pixel: usize,
    pub size: usize,
}

impl<'a, T: Element> SourceRows<'a, T> {
    pub fn new(
        level: Level,
        source: &'a [T],
        (roles, segments): (&Roles, &Segments),
        channels: usize,
        memory: &'a mut Buffer<T::Acc>,
    ) -> Result<Self> {
        let row = segments.columns() * channels;
        let most = match as_acc(source) {
            Some(_) => 0,
            None => (WIDENED / row.max(1)).clamp(segments.depth, SPARE * segments.depth),
        };
        Ok(SourceRows {
            level,
            source,
            pixel: roles.source.spatial[3],
            channels,
            wide: memory.take(most * row)?,
            slots: Vec::with_capacity(most),
            most,
            turn: 0,
            columns: (0, segments.size),
        })
    }

    /// Begins another segment.
    pub fn begin(&mut self, segment: &Segment) {
        if self.most > 0 {
            self.columns = (segment.begin, segment.end);
            self.slots.clear();
        }
    }

    /// What a row of a segment reads: the runs, which are those of a whole row of the source, find it
    /// there.
    pub fn read(&mut self, segment: &Segment, pace: usize, runs: &mut [Run]) -> Read<'_, T::Acc> {
        let (begin, end) = self.columns;
        for run in runs.iter_mut() {
            run.column += (segment.first * pace) as isize - begin as isize;
        }
        let size = end - begin;
        if let Some(source) = as_acc(self.source) {
            return Read {
                source,
                pixel: self.pixel,
                size,
            };
        }
        self.turn += 1;
        for slot in &mut self.slots {
            if runs.iter().any(|run| run.row == slot.row) {
                slot.wanted = self.turn;
            }
        }
        let length = size * self.channels;
        for run in runs.iter_mut() {
            let found = self.slots.iter().position(|slot| slot.row == run.row);
            let slot = found.unwrap_or_else(|| self.widen(run.row, length));
            run.row = slot * length;
        }
        Read {
            source: self.wide,
            pixel: self.channels,
            size,
        }
    }

    /// Widens a row into a slot that this row of the target does not want.
    fn widen(&mut self, row: usize, length: usize) -> usize {
        let slot = Slot {
            row,
            wanted: self.turn,
        };
        let oldest = self.slots.iter().enumerate().min_by_key(|(_, s)| s.wanted);
        let at = match oldest {
            Some((at, _)) if self.slots.len() == self.most => {
                self.slots[at] = slot;
                at
            }
            _ => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        let from = &self.source[row + self.columns.0 * self.pixel..];
        let to = &mut self.wide[at * length..][..length];
        if self.channels == self.pixel {
            widen(self.level, &from[..length], to);
        } else {
            let rows = from.chunks(self.pixel);
            for (from, to) in rows.zip(to.chunks_exact_mut(self.channels)) {
                widen(self.level, &from[..self.channels], to);
            }
        }
        at
    }
}
