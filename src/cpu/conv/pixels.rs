//! Which positions of the source the taps of a stencil read for some positions of the target.

mod columns;
mod edges;

use std::ops::Range;

use super::scratch::{Buffer, product};
use super::stencil::{Roles, Stencil, Tap};
use crate::cpu::simd::{DEPTH, Places, Plan, inside_range};
use crate::element::{Accumulator, Element};
use crate::error::Result;
pub(super) use columns::{column_places, columns};
use edges::Edges;

/// Channels-first: which positions of a channel's plane every tap reads.
pub(super) fn plan(
    plan: &mut Plan,
    roles: &Roles,
    stencil: &Stencil,
    (from, to): (usize, usize),
    lanes: usize,
) {
    plan.reset(lanes, to - from, stencil.pace[3]);
    let size = roles.source_size;
    let source = (size, roles.source.spatial);
    for tap in &stencil.taps {
        plan.begin_tap();
        let mut lane = 0;
        for read in stencil.reads(tap, source, (from, to)) {
            let (lo, hi) = inside_range(read.column, stencil.pace[3], read.len, size[3]);
            if let Some(row) = read.row
                && lo < hi
            {
                let column = (read.column + (lo * stencil.pace[3]) as isize) as usize;
                plan.run(lane + lo, lane + hi, row + column);
            }
            lane += read.len;
        }
        plan.end_tap();
    }
}

/// Whether all taps of a run lie inside the source at most positions of a row.
pub(super) fn mostly_inside(roles: &Roles, stencil: &Stencil) -> bool {
    stencil.taps.first().is_none_or(|tap| {
        let edges = Edges::new(roles, stencil, tap, stencil.run());
        2 * edges.len() >= edges.count
    })
}

/// A row of positions of a tile, of one image.
struct Line {
    /// Where the image begins in the source.
    image: usize,
    /// What a tap without an offset reads along the outer axes.
    outer: [isize; 3],
    /// The first position along the last axis, and how many.
    first: usize,
    len: usize,
    /// The number of that position in the tile.
    at: usize,
    /// How many lines behind it [follow](Self::follows) each other.
    followers: usize,
}

impl Line {
    /// Whether it has the same columns as another one, and is a step of the source further along the axis before the last.
    fn follows(&self, other: &Line) -> bool {
        let [a, b, c] = other.outer;
        self.outer == [a, b, c + 1]
            && (self.image, self.first, self.len) == (other.image, other.first, other.len)
    }

    /// Where the row of the source begins that a tap reads, if there is one.
    #[inline(always)]
    fn row(&self, tap: &Tap, roles: &Roles) -> Option<usize> {
        let mut row = self.image;
        for a in 0..3 {
            let at = usize::try_from(self.outer[a] + tap.offset[a]).ok();
            row += at.filter(|&at| at < roles.source_size[a])? * roles.source.spatial[a];
        }
        Some(row)
    }
}

/// Rows of the source whose edges are remembered, a power of two.
const REMEMBERED: usize = if cfg!(test) { 1 << 2 } else { 1 << 8 };

/// What a tile reads, channels last: its positions line by line, and how taps are joined.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    positions: usize,
    /// Neighbouring taps that are one run of the reduction.
    run: usize,
    /// Rows of the source, and where their [`Edges`] are beside it, which is used up to `behind`.
    edges: Vec<(usize, usize)>,
    behind: usize,
}

impl Lines {
    /// Begins a tile: some positions of so many images. Neighbouring taps may be `joined` where their pixels are
    /// next to each other.
    pub fn begin(
        &mut self,
        (roles, stencil): (&Roles, &Stencil),
        joined: bool,
        (images, (from, to)): (usize, (usize, usize)),
    ) {
        self.lines.clear();
        self.positions = 0;
        for image in 0..images {
            for (j, len) in stencil.rows(from, to) {
                self.lines.push(Line {
                    image: image * roles.source.outer,
                    outer: [0, 1, 2].map(|a| (j[a] * stencil.pace[a]) as isize),
                    first: j[3],
                    len,
                    at: self.positions,
                    followers: 0,
                });
                self.positions += len;
            }
        }
        for n in (1..self.lines.len()).rev() {
            if self.lines[n].follows(&self.lines[n - 1]) {
                self.lines[n - 1].followers = self.lines[n].followers + 1;
            }
        }
        self.run = if joined { stencil.run() } else { 1 };
        self.forget();
    }

    /// Elements behind the zeros beside the source that a block of so many steps of the reduction takes at most, twice:
    /// for the next ones to find what they read again.
    pub fn room(&self, roles: &Roles, stencil: &Stencil, block: usize) -> usize {
        if stencil.rows_beside > 1 {
            let columns = self.lines.iter().map(|line| line.columns(stencil)).sum();
            return product(&[columns, stencil.rows_beside]);
        }
        match stencil.taps.first() {
            Some(tap) if self.run > 1 => {
                let edges = self.edges_of(roles, stencil, tap);
                let parts = block.div_ceil(self.run * edges.channels) + 1;
                self.needed(parts, &edges).saturating_mul(2)
            }
            _ => 0,
        }
    }

    /// The edges of the run that begins with a tap.
    fn edges_of(&self, roles: &Roles, stencil: &Stencil, tap: &Tap) -> Edges {
        let edges = Edges::new(roles, stencil, tap, self.run);
        match self.run {
            1 => edges,
            _ => edges.of_whole_rows(),
        }
    }

    /// What so many parts of a block need of that, if none of it is there.
    fn needed(&self, parts: usize, edges: &Edges) -> usize {
        product(&[self.lines.len(), parts, edges.elements()])
    }

    /// Forgets what is beside the source.
    fn forget(&mut self) {
        self.edges.clear();
        self.edges.resize(REMEMBERED, (usize::MAX, 0));
        self.behind = DEPTH;
    }

    /// Where the edges of a row of the source are beside it.
    fn edges<A: Accumulator>(
        &mut self,
        edges: &Edges,
        (source, row): (&[A], usize),
        beside: &mut [A],
    ) -> usize {
        // any one that spreads rows well
        let place = row.wrapping_mul(0x9e37_79b9) >> 16 & (REMEMBERED - 1);
        if self.edges[place].0 != row {
            self.edges[place] = (row, self.behind);
            let len = edges.elements();
            edges.copy(&source[row..], &mut beside[self.behind..][..len]);
            self.behind += len;
        }
        self.edges[place].1
    }
}

/// Channels-last: where the rows `(image, position, k)` of the block `(k0, depth)` of a tile are in the source,
/// with `k = (tap, channel)`, or beside it: there are [`DEPTH`] zeros and [room](Lines::room) for pixels of which
/// some lie outside.
pub(super) fn places<A: Accumulator>(
    roles: &Roles,
    stencil: &Stencil,
    source: &[A],
    lines: &mut Lines,
    block: (usize, usize),
    rows: &mut Places,
    beside: &mut [A],
) {
    let pixel = roles.source.spatial[3];
    rows.reset(lines.positions, source, beside);
    if let Some(tap) = stencil.taps.first().filter(|_| lines.run > 1) {
        let parts = parts(roles, stencil, block, lines.run).count();
        let needed = lines.needed(parts, &lines.edges_of(roles, stencil, tap));
        if needed > beside.len() - lines.behind {
            lines.forget();
        }
    }
    let mut before: Option<Part> = None;
    for part in parts(roles, stencil, block, lines.run) {
        rows.run(part.elements.len());
        let start = part.elements.start;
        let again = before.is_some_and(|before| part.follows(&before));
        let edges = lines.edges_of(roles, stencil, part.tap);
        let step = edges.pace * pixel;
        // where the strip behind the positions that are inside begins
        let strip = edges.strips()[0].1 * pixel;
        let mut n = 0;
        while n < lines.lines.len() {
            let line = &lines.lines[n];
            if again && line.followers > 0 {
                // what the lines behind it read with the taps before
                rows.again(line.at + line.len, line.followers * line.len);
                n += line.followers;
                continue;
            }
            n += 1;
            let Some(row) = line.row(part.tap, roles) else {
                rows.outside(line.len);
                continue;
            };
            let (from, to) = (line.first, line.first + line.len);
            let (lo, hi) = edges.inside;
            let (lo, hi) = (lo.clamp(from, to), hi.clamp(from, to));
            let (before, after) = (lo - from, to - hi);
            let inside = match lo < hi {
                true => row + edges.column(lo) as usize * pixel + start,
                false => row,
            };
            if part.taps == 1 || before + after == 0 {
                rows.outside(before);
                rows.inside(inside, step, hi - lo);
                rows.outside(after);
                continue;
            }
            let first = lines.edges(&edges, (source, row), beside) + start;
            rows.beside(first + from * step, step, before);
            rows.inside(inside, step, hi - lo);
            let behind = hi.saturating_sub(edges.inside.1);
            rows.beside(first + strip + behind * step, step, after);
        }
        before = Some(part);
    }
}

/// As [`places`], in a copy of the pixels beside which are zeros. Taps of a run share a copy, with zeros before and
/// after the pixels of a row.
pub(super) fn pixels<'a, T: Element>(
    roles: &Roles,
    stencil: &Stencil,
    (source, lines): (&[T], &Lines),
    block: (usize, usize),
    rows: &mut Places,
    beside: &[T::Acc],
    copy: &'a mut Buffer<T::Acc>,
) -> Result<&'a [T::Acc]> {
    let (size, pixel, channels) = (
        roles.source_size[3],
        roles.source.spatial[3],
        roles.source_channels,
    );
    let pace = stencil.pace[3];
    let joined = lines.run > 1;
    // pixels of a row from the first that it reads to the last, or those that it reads, of which
    // the part's channels are enough
    let columns = |part: &Part, len: usize| match joined {
        true => (len - 1) * pace + part.taps,
        false => len,
    };
    let step = match joined {
        true => 1,
        false => pace,
    };
    let width = |part: &Part| match joined {
        true => channels,
        false => part.elements.len(),
    };
    let lengths = || lines.lines.iter().map(|line| line.len);
    let all = parts(roles, stencil, block, lines.run)
        .map(|part| lengths().map(|len| columns(&part, len)).sum::<usize>() * width(&part));
    let copy = copy.take(all.sum())?;
    rows.reset(lines.positions, copy, beside);
    let mut at = 0;
    for part in parts(roles, stencil, block, lines.run) {
        rows.run(part.elements.len());
        let width = width(&part);
        let (skip, from) = match joined {
            true => (part.elements.start, 0),
            false => (0, part.elements.start),
        };
        for line in &lines.lines {
            let Some(row) = line.row(part.tap, roles) else {
                rows.outside(line.len);
                continue;
            };
            let column = (line.first * pace) as isize + part.tap.offset[3];
            let count = columns(&part, line.len);
            let (lo, hi) = inside_range(column, step, count, size);
            if lo >= hi {
                rows.outside(line.len);
                continue;
            }
            let to = if joined {
                rows.inside(at + skip, pace * width, line.len);
                let to = &mut copy[at..at + count * width];
                to[..lo * width].fill(T::Acc::default());
                to[hi * width..].fill(T::Acc::default());
                at += to.len();
                &mut to[lo * width..hi * width]
            } else {
                rows.outside(lo);
                rows.inside(at, width, hi - lo);
                rows.outside(count - hi);
                let to = &mut copy[at..at + (hi - lo) * width];
                at += to.len();
                to
            };
            let column = (column + (lo * step) as isize) as usize;
            let source = &source[row + column * pixel + from..];
            widen_rows(source, step * pixel, width, to);
        }
    }
    Ok(copy)
}

/// A run of taps, and the part of its elements `(tap, channel)` that a block has.
struct Part<'a> {
    /// The first one.
    tap: &'a Tap,
    taps: usize,
    elements: Range<usize>,
}

impl Part<'_> {
    /// Whether it reads, for a line, what this other one reads for the next along the axis before the last.
    fn follows(&self, other: &Part) -> bool {
        let [a, b, c, d] = other.tap.offset;
        self.tap.offset == [a, b, c + 1, d]
            && self.taps == other.taps
            && self.elements.start == other.elements.start
            && self.elements.end <= other.elements.end
    }
}

/// The steps `(k0, depth)` of the reduction in parts of runs of so many taps.
fn parts<'a>(
    roles: &Roles,
    stencil: &'a Stencil,
    (k0, depth): (usize, usize),
    taps: usize,
) -> impl Iterator<Item = Part<'a>> {
    let each = taps * roles.source_channels;
    let mut k = k0;
    std::iter::from_fn(move || {
        let (run, first) = (k / each, k % each);
        let left = (k0 + depth).checked_sub(k).filter(|&left| left > 0)?;
        let end = each.min(first + left);
        k += end - first;
        Some(Part {
            tap: &stencil.taps[run * taps],
            taps,
            elements: first..end,
        })
    })
}

/// Widens the first `width` elements of rows that are `pitch` apart.
pub(super) fn widen_rows<T: Element>(from: &[T], pitch: usize, width: usize, to: &mut [T::Acc]) {
    if width == pitch {
        return T::widen(&from[..to.len()], to);
    }
    for (from, to) in from.chunks(pitch).zip(to.chunks_exact_mut(width)) {
        T::widen(&from[..width], to);
    }
}
