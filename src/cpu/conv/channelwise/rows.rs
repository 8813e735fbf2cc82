//! The rows of a source that rows of a target read: where they lie, or copied.
//!
//! Several rows of the target read a row of the source, so elements of 16 bits are widened once into
//! memory that stays in the L2 cache, and what reads them there is the same code that reads `f32`. Pairs
//! of two rows are made there in the same way, and rows of a source whose channels come first transposed.

use super::super::pack::transpose;
use super::super::scratch::{Buffer, product};
use super::super::stencil::{Roles, Stencil};
use super::reach::{Reaches, Rows, Runs};
use crate::cpu::simd::{Level, POSITIONS, as_acc, interleave, prefetch, widen};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;

/// Elements of copied rows: they should stay in the L2 cache (tests have rows of several segments)...
const COPIED: usize = if cfg!(test) { 1 << 9 } else { 1 << 16 };
/// ...and may not be more.
const LARGEST: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };
/// Copied rows for each of those that a row of the target reads: with dilation its neighbours read
/// others.
const SPARE: usize = 4;
/// Elements that are copied at once, and how far ahead of them the source is asked for: each row is
/// copied apart, and may lie in memory.
const PIECE: usize = 512;
const AHEAD: usize = 4 * PIECE;

/// Columns of the target that are computed together, and those of the source that they read.
pub(super) struct Segment {
    pub first: usize,
    pub width: usize,
    begin: isize,
    end: isize,
}

/// How rows of the source are read: where they lie unless they have to be widened, transposed as their
/// channels come first, and that with zeros past their ends, so that no position is at an edge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    InPlace,
    Turned,
    Padded,
}

/// What stencils that are computed in turn read and write, which have the same pace.
pub(super) struct Extent {
    stencils: usize,
    /// Columns of the longest row.
    width: usize,
    /// What a first column reads first, and last.
    columns: (isize, isize),
    /// Rows of the source that a row reads, at most.
    depth: usize,
}

impl Extent {
    pub fn new(stencils: &[Stencil], reaches: &[Reaches]) -> Self {
        let columns = || reaches.iter().map(|reaches| reaches.columns);
        let widths = stencils.iter().map(|stencil| stencil.count[3]);
        let depths = reaches.iter().map(|reaches| reaches.depth);
        Extent {
            stencils: stencils.len(),
            width: widths.max().unwrap_or(0),
            columns: (
                columns().map(|columns| columns.0).min().unwrap_or(0),
                columns().map(|columns| columns.1).max().unwrap_or(0),
            ),
            depth: depths.max().unwrap_or(0),
        }
    }
}

/// How the rows of a stencil are cut into segments.
pub(super) struct Segments {
    count: usize,
    /// Columns of a segment of the target, and from one to the next in the source.
    pub width: usize,
    pace: usize,
    /// What the first column reads first, and last.
    reach: (isize, isize),
    size: usize,
    /// Rows of the source that a row of the target reads.
    depth: usize,
    copies: bool,
    /// Whether what is copied has zeros past either end.
    padded: bool,
}

impl Segments {
    /// For so many channels of the source at a time.
    ///
    /// `None` where rows have to be copied and would take too much memory.
    pub fn new<T: Element>(
        roles: &Roles,
        stencil: &Stencil,
        all: &Extent,
        channels: usize,
        reading: Reading,
    ) -> Option<Self> {
        let widened = as_acc::<T>(&[]).is_none();
        let padded = reading == Reading::Padded;
        let (count, pace) = (stencil.count[3], stencil.pace[3]);
        // up to where the longest row ends
        let computed = |count: usize| count.next_multiple_of(POSITIONS) * pace;
        let behind = match padded {
            true => computed(all.width) - computed(count),
            false => 0,
        };
        let mut segments = Segments {
            count,
            width: count,
            pace,
            reach: (all.columns.0, all.columns.1 + behind as isize),
            size: roles.source_size[3],
            depth: all.depth,
            copies: widened || reading != Reading::InPlace,
            padded,
        };
        if !segments.copies {
            return Some(segments);
        }
        let (depth, span) = (segments.depth, segments.span());
        if all.stencils == 1 {
            let columns = COPIED / product(&[depth, channels]).max(1);
            // what neighbouring segments both read should not be most of what they read
            let width = (columns.saturating_sub(span)).max(span) / pace;
            segments.width = width.clamp(1, count);
        }
        let fits = product(&[depth, channels, segments.columns()]) <= LARGEST;
        fits.then_some(segments)
    }

    /// Rows of the target that a task should have, so that most of what it copies is read often.
    pub fn least_rows(&self) -> usize {
        match self.copies {
            true => 2 * self.depth.max(1),
            false => 1,
        }
    }

    /// Columns of the source that a column of the target reads.
    fn span(&self) -> usize {
        (self.reach.1 - self.reach.0) as usize + 1
    }

    /// Columns of the source that a segment reads, at most.
    fn columns(&self) -> usize {
        match self.padded {
            true => (self.width.next_multiple_of(POSITIONS) - 1) * self.pace + self.span(),
            false => ((self.width - 1) * self.pace + self.span()).min(self.size),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Segment> {
        (0..self.count.div_ceil(self.width)).map(|n| self.nth(n))
    }

    pub fn nth(&self, n: usize) -> Segment {
        let first = n * self.width;
        let width = self.width.min(self.count - first);
        let computed = match self.padded {
            true => width.next_multiple_of(POSITIONS),
            false => width,
        };
        let mut begin = (first * self.pace) as isize + self.reach.0;
        let mut end = ((first + computed - 1) * self.pace) as isize + self.reach.1 + 1;
        if !self.padded {
            // at least one column, though none may be read
            let size = self.size as isize;
            begin = begin.clamp(0, size - 1);
            end = end.clamp(begin + 1, size);
        }
        Segment {
            first,
            width,
            begin,
            end,
        }
    }
}

/// A row of the source, or pairs of two, and the row of the target that last wanted it.
#[derive(Clone, Copy)]
struct Slot {
    rows: Rows,
    wanted: usize,
}

/// Some channels of the rows of an image.
pub(super) struct SourceRows<'a, T: Element> {
    level: Level,
    /// Whether rows are joined to pairs.
    pairs: bool,
    source: &'a [T],
    strides: Strides,
    /// Those that are wanted.
    channels: usize,
    copies: &'a mut [T::Acc],
    slots: Vec<Slot>,
    most: usize,
    turn: usize,
    /// Columns of the source in all, and those that rows here have.
    size: usize,
    columns: (isize, isize),
}

/// What the runs of a row of the target read.
pub(super) struct Read<'a, A> {
    pub source: &'a [A],
    pub pixel: usize,
    pub size: usize,
}

impl<'a, T: Element> SourceRows<'a, T> {
    pub fn new(
        (level, pairs): (Level, bool),
        source: &'a [T],
        (roles, segments): (&Roles, &Segments),
        channels: usize,
        memory: &'a mut Buffer<T::Acc>,
    ) -> Result<Self> {
        let row = segments.columns() * channels;
        let most = match segments.copies {
            true => (COPIED / row.max(1)).clamp(segments.depth, SPARE * segments.depth),
            false => 0,
        };
        Ok(SourceRows {
            level,
            pairs,
            source,
            strides: roles.source,
            channels,
            copies: memory.take(most * row)?,
            slots: Vec::with_capacity(most),
            most,
            turn: 0,
            size: segments.size,
            columns: (0, segments.size as isize),
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
    pub fn read(&mut self, segment: &Segment, pace: usize, of: &mut Runs) -> Read<'_, T::Acc> {
        let (begin, end) = self.columns;
        for run in of.runs.iter_mut() {
            run.column += (segment.first * pace) as isize - begin;
        }
        let size = (end - begin) as usize;
        let rows = of.runs.iter_mut().zip(&of.rows);
        if let Some(source) = as_acc(self.source).filter(|_| self.most == 0) {
            for (run, [row, _]) in rows {
                run.row = row.unwrap_or(0);
            }
            return Read {
                source,
                pixel: self.strides.spatial[3],
                size,
            };
        }
        self.turn += 1;
        for slot in &mut self.slots {
            if of.rows.contains(&slot.rows) {
                slot.wanted = self.turn;
            }
        }
        let length = size * self.channels;
        for (run, &rows) in rows {
            let found = self.slots.iter().position(|slot| slot.rows == rows);
            let slot = found.unwrap_or_else(|| self.copy(rows, length));
            run.row = slot * length;
        }
        Read {
            source: self.copies,
            pixel: self.channels,
            size,
        }
    }

    /// Copies a row into a slot that this row of the target does not want.
    fn copy(&mut self, rows: Rows, length: usize) -> usize {
        let slot = Slot {
            rows,
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
        let (begin, end) = self.columns;
        let to = &mut self.copies[at * length..][..length];
        // those of them that the source has
        let columns = end - begin;
        let first = (-begin).clamp(0, columns);
        let last = (self.size as isize - begin).clamp(first, columns);
        let (to, after) = to.split_at_mut(last as usize * self.channels);
        let (before, to) = to.split_at_mut(first as usize * self.channels);
        before.fill(T::Acc::default());
        after.fill(T::Acc::default());
        let pixel = self.strides.spatial[3];
        let starts = rows.map(|row| Some(row? + (begin + first).max(0) as usize * pixel));
        match (starts, self.strides.channel) {
            ([Some(start), None], step) if step > 1 => {
                let size = (self.channels, to.len() / self.channels);
                let from = &self.source[start..];
                transpose(self.level, from, step, size, to, self.channels);
            }
            _ => {
                let how = (self.level, self.pairs);
                copy_rows(how, (self.source, pixel), starts, self.channels, to);
            }
        }
        at
    }
}

/// Widens so many channels of pixels that are `pixel` apart, or joins them to pairs, from the begins of
/// one or two rows on.
pub(super) fn copy_rows<T: Element>(
    (level, pairs): (Level, bool),
    (source, pixel): (&[T], usize),
    rows: Rows,
    channels: usize,
    to: &mut [T::Acc],
) {
    // several pixels at once where nothing lies between their channels
    let (each, pitch) = match channels == pixel {
        true => (PIECE, PIECE),
        false => (channels, pixel),
    };
    for (i, to) in to.chunks_mut(each).enumerate() {
        let at = i * pitch;
        if let Some(row) = rows[1].or(rows[0]) {
            let ahead = source.len().min(row + at + AHEAD);
            prefetch(&source[ahead..source.len().min(ahead + pitch)]);
        }
        let [first, second] = rows.map(|row| Some(&source[row? + at..][..to.len()]));
        match (pairs, first) {
            (true, _) => interleave(level, first, second, to),
            (false, Some(first)) => widen(level, first, to),
            (false, None) => {}
        }
    }
}
