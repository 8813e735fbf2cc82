//! Planes laid out so that a tap is one constant offset for all positions of a plane.
//!
//! The rows of a source plane are copied one after the other, with as many zeros between them as
//! taps reach past either end: what lies past the end of a row lies before the begin of the next.
//! Target planes have the same pitch; the positions between their rows are computed as well, and
//! thrown away. Compared to a vector of positions for every row apart this fills up vectors where
//! rows are short, and needs no masks at the edges.

use super::split::TASKS;
use super::stencil::{Roles, Stencil};
use crate::cpu::simd::{Level, inside_range, spread_rows};
use crate::cpu::strides::unravel;
use crate::element::Element;

/// The planes of one stencil, and boxes of them.
pub(super) struct Flat {
    /// Largest extent of a box along all axes but the last, and numbers of boxes.
    size: [usize; 3],
    pub boxes: [usize; 3],
    /// Least offset of the taps along those, and source positions of a box.
    first: [isize; 3],
    extent: [usize; 3],
    pace: [usize; 2],
    /// Zeros before the first row, and from one row to the next.
    left: usize,
    pitch: usize,
    /// Elements of a packed plane.
    pub plane: usize,
    /// Positions of a row.
    width: usize,
    lanes: usize,
    /// Per tap the packed planes that it reads from the first target plane on, along the outer axes,
    /// and where in those for position 0.
    pub taps: Vec<([usize; 2], usize)>,
}

/// Some target planes, and rows of each.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    begin: [usize; 3],
    pub size: [usize; 3],
}

impl Planes {
    /// Outer positions, counted from the box' first.
    pub fn outer(self) -> impl Iterator<Item = [usize; 2]> {
        (0..self.size[0]).flat_map(move |a| (0..self.size[1]).map(move |b| [a, b]))
    }

    /// The target position at which a row begins.
    pub fn row(self, [a, b]: [usize; 2], row: usize) -> [usize; 4] {
        let begin = self.begin;
        [begin[0] + a, begin[1] + b, begin[2] + row, 0]
    }
}

impl Flat {
    /// Boxes of at most `largest` packed elements for `channels` of them, and as many as make
    /// enough tasks with the `tasks` that there are for each; `None` where rows of the source
    /// are too far apart, or too long.
    pub fn new(
        roles: &Roles,
        stencil: &Stencil,
        lanes: usize,
        (channels, largest): (usize, usize),
        tasks: usize,
    ) -> Option<Self> {
        let suits = stencil.pace[2..] == [1, 1] && !stencil.taps.is_empty();
        (suits && roles.source.spatial[3] == 1).then_some(())?;
        let [count @ .., width] = stencil.count;
        let mut size = count;
        loop {
            let flat = Flat::of_size(roles, stencil, size, lanes);
            let all = flat.planes().saturating_mul(flat.plane);
            let boxes: usize = flat.boxes.iter().product();
            let fits = all.saturating_mul(channels) <= largest;
            let few = boxes.saturating_mul(tasks) < TASKS && size[2] * width > SMALLEST;
            let outer = boxes.saturating_mul(tasks) < TASKS && size[0] * size[1] > 1;
            if fits && !few && !outer {
                return Some(flat);
            }
            // whole planes as long as there are several
            let axis = size.iter().position(|&n| n > 1)?;
            size[axis] = size[axis].div_ceil(2);
        }
    }

    fn of_size(roles: &Roles, stencil: &Stencil, size: [usize; 3], lanes: usize) -> Self {
        let axis = |a: usize| {
            let offsets = stencil.taps.iter().map(move |tap| tap.offset[a]);
            (
                offsets.clone().min().unwrap_or(0),
                offsets.max().unwrap_or(0),
            )
        };
        let bounds = [axis(0), axis(1), axis(2)];
        let first = bounds.map(|b| b.0);
        let reach = bounds.map(|b| (b.1 - b.0) as usize);
        let (before, after) = axis(3);
        let (width, source) = (stencil.count[3], roles.source_size[3]);
        let left = (-before).max(0) as usize;
        let right = (width as isize + after - source as isize).max(0) as usize;
        // rows of neither side overlap
        let pitch = width.max(source + left.max(right));
        let extent = [0, 1, 2].map(|a| (size[a] - 1) * stencil.pace[a] + reach[a] + 1);
        let span = ((size[2] - 1) * pitch + width).next_multiple_of(lanes);
        let taps: Vec<_> = stencil
            .taps
            .iter()
            .map(|tap| {
                let [a, b, c] = [0, 1, 2].map(|a| (tap.offset[a] - first[a]) as usize);
                ([a, b], c * pitch + (left as isize + tap.offset[3]) as usize)
            })
            .collect();
        let read = taps
            .iter()
            .map(|(_, offset)| offset + span)
            .max()
            .unwrap_or(0);
        Flat {
            size,
            boxes: [0, 1, 2].map(|a| stencil.count[a].div_ceil(size[a])),
            first,
            extent,
            pace: [stencil.pace[0], stencil.pace[1]],
            left,
            pitch,
            plane: read.max(left + extent[2] * pitch).next_multiple_of(lanes),
            width,
            lanes,
            taps,
        }
    }

    /// Rows of a box' planes, but for the last boxes.
    pub fn rows(&self) -> usize {
        self.size[2]
    }

    /// Packed planes of a channel.
    pub fn planes(&self) -> usize {
        self.extent[0].saturating_mul(self.extent[1])
    }

    /// Positions that are computed for one that is kept.
    pub fn waste(&self) -> f64 {
        let (rows, lanes) = (self.size[2], self.lanes);
        self.span(rows).next_multiple_of(lanes) as f64 / (rows * self.width) as f64
    }

    /// Lanes that moving a row takes, for one position.
    pub fn moved(&self) -> f64 {
        self.pitch.next_multiple_of(self.lanes) as f64 / self.width as f64
    }

    /// Rows that are packed for one of the target.
    pub fn halo(&self) -> f64 {
        let [all, kept] = [self.extent, self.size].map(|n| n.iter().product::<usize>() as f64);
        all / kept
    }

    /// Positions of so many rows of a plane, from the first to the last.
    pub fn span(&self, rows: usize) -> usize {
        (rows - 1) * self.pitch + self.width
    }

    pub fn at(&self, index: usize, stencil: &Stencil) -> Planes {
        let [a, b, c, _] = unravel(index, [self.boxes[0], self.boxes[1], self.boxes[2], 1]);
        let tile = [a, b, c];
        let begin = [0, 1, 2].map(|a| tile[a] * self.size[a]);
        let size = [0, 1, 2].map(|a| self.size[a].min(stencil.count[a] - begin[a]));
        Planes { begin, size }
    }

    /// Positions of a plane's row in the flat order.
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        row * self.pitch..row * self.pitch + self.width
    }

    /// Per vector of a plane of so many rows, the positions that lie in one.
    pub fn masks(&self, rows: usize) -> Vec<u32> {
        let mut masks = vec![0; self.span(rows).div_ceil(self.lanes)];
        for row in 0..rows {
            for at in self.row(row) {
                masks[at / self.lanes] |= 1 << (at % self.lanes);
            }
        }
        masks
    }

    /// Where the packed plane begins that a tap reads for a target plane of a box, if there is one
    /// in the source.
    pub fn reads(
        &self,
        roles: &Roles,
        planes: Planes,
        at: [usize; 2],
        tap: usize,
    ) -> Option<usize> {
        let outer = self.taps[tap].0;
        let plane = [0, 1].map(|a| at[a] * self.pace[a] + outer[a]);
        let inside = (0..2).all(|a| self.source(roles, planes, a, plane[a]).is_some());
        inside.then_some((plane[0] * self.extent[1] + plane[1]) * self.plane)
    }

    /// The source position of a packed one along an axis.
    fn source(&self, roles: &Roles, planes: Planes, axis: usize, at: usize) -> Option<usize> {
        let pace = self.pace.get(axis).copied().unwrap_or(1);
        let position = (planes.begin[axis] * pace + at) as isize + self.first[axis];
        usize::try_from(position)
            .ok()
            .filter(|&p| p < roles.source_size[axis])
    }

    /// Packs a channel's planes of a box; those outside the source are left as they are.
    pub fn pack<T: Element>(
        &self,
        level: Level,
        roles: &Roles,
        planes: Planes,
        channel: &[T],
        to: &mut [T::Acc],
    ) {
        let step = roles.source.spatial;
        let first = planes.begin[2] as isize + self.first[2];
        let (lo, hi) = inside_range(first, 1, self.extent[2], roles.source_size[2]);
        let outer = (0..self.extent[0]).flat_map(|a| (0..self.extent[1]).map(move |b| [a, b]));
        for ([a, b], to) in outer.zip(to.chunks_exact_mut(self.plane)) {
            let source = |axis, at| Some(self.source(roles, planes, axis, at)? * step[axis]);
            let Some(plane) = source(0, a).zip(source(1, b)).map(|(a, b)| a + b) else {
                continue;
            };
            let (before, rest) = to.split_at_mut(self.left + lo * self.pitch);
            let (rows, after) = rest.split_at_mut((hi - lo) * self.pitch);
            before.fill(T::Acc::default());
            after.fill(T::Acc::default());
            if lo < hi {
                let from = plane + (first + lo as isize) as usize * step[2];
                let size = (hi - lo, roles.source_size[3]);
                spread_rows(level, (&channel[from..], step[2]), size, (rows, self.pitch));
            }
        }
    }
}

/// Positions of a part of a plane at least.
const SMALLEST: usize = 1 << 9;
