//! Rearranging the bytes of an array whose element type does not matter.

use std::ops::Range;

use rayon::prelude::*;

use super::{Piece, Rearrangement};
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// Elements that one task moves, more or less.
const TASK: usize = 1 << 16;
/// The most slabs that are filled together: four cache lines of the source in f32.
const SLABS: usize = 64;
/// The block of a slab that is filled at a time, so that what it reads of the source stays in the
/// nearest cache, whose sets have room for 16 lines at least when the strides are powers of two.
const COLUMNS: usize = 16;
const ROWS: usize = 16;

impl Rearrangement {
    /// Elements `range` of the result, in row-major order, of an array in memory whose elements
    /// have `width` bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] when `source` is not as long as the source shape says, `range` is not
    /// inside the result, or `target` is not as long as the range.
    ///
    /// ```
    /// use ndconv::remap::Rearrangement;
    /// let transpose = Rearrangement::new(&[2, 3])?.permute(&[1, 0])?;
    /// let mut target = [0; 4];
    /// transpose.gather(&[0, 1, 2, 3, 4, 5], 1, 2..6, &mut target)?;
    /// assert_eq!(target, [1, 4, 2, 5]);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn gather(
        &self,
        source: &[u8],
        width: usize,
        range: Range<usize>,
        target: &mut [u8],
    ) -> Result<()> {
        let elements = check_elements("array", &self.shape())?;
        if self.reach.checked_mul(width) != Some(source.len()) {
            let expected = format!("{} elements of {width} bytes", self.reach);
            return Err(Error::shape("array", expected, source.len()));
        }
        if range.start > range.end || range.end > elements {
            let expected = format!("a part of {elements} elements");
            return Err(Error::shape("range", expected, range));
        }
        if range.len().checked_mul(width) != Some(target.len()) {
            let expected = format!("{} elements of {width} bytes", range.len());
            return Err(Error::shape("target", expected, target.len()));
        }
        match width {
            1 => self.gather_words::<1>(source, range, target),
            2 => self.gather_words::<2>(source, range, target),
            4 => self.gather_words::<4>(source, range, target),
            8 => self.gather_words::<8>(source, range, target),
            _ => {
                let mut done = 0;
                self.runs(range, &mut |start, step, count| {
                    for i in 0..count {
                        let from = start.wrapping_add_signed(i as isize * step) * width;
                        target[done..done + width].copy_from_slice(&source[from..from + width]);
                        done += width;
                    }
                });
            }
        }
        Ok(())
    }

    /// How many result elements to [`Rearrangement::gather`] at a time, `most` of them if that can
    /// be: parts that begin at a multiple of it read each cache line of the source once or a few
    /// times only.
    pub(crate) fn part(&self, most: usize) -> usize {
        let slab = Slabs::new(&self.coalesced()).size;
        let row = self.coalesced().last().map_or(1, |row| row.size);
        let unit = [slab, row, 1]
            .into_iter()
            .find(|&u| (1..=most).contains(&u));
        unit.map_or(1, |unit| most / unit * unit).max(1)
    }

    fn gather_words<const W: usize>(&self, source: &[u8], range: Range<usize>, target: &mut [u8]) {
        let (source, _) = source.as_chunks::<W>();
        let (target, _) = target.as_chunks_mut::<W>();
        let moves = self.coalesced();
        let slabs = Slabs::new(&moves);
        // whole slabs, and what is left of them at either end
        let whole = match slabs.size {
            0 | 1 => range.end..range.end,
            size => {
                let begin = range.start.next_multiple_of(size).min(range.end);
                begin..(range.end / size * size).max(begin)
            }
        };
        let (before, rest) = target.split_at_mut(whole.start - range.start);
        let (within, after) = rest.split_at_mut(whole.len());
        self.gather_runs(source, range.start, before);
        self.gather_runs(source, whole.end, after);
        if within.is_empty() {
            return;
        }
        let mut groups = Vec::new();
        let (mut left, mut next) = (within, whole.start / slabs.size);
        while !left.is_empty() {
            // slabs of one group are neighbours in the source: all other positions are the same
            let count = (slabs.axis.size - next % slabs.axis.size)
                .min(SLABS)
                .min(left.len() / slabs.size);
            let (group, rest) = std::mem::take(&mut left).split_at_mut(count * slabs.size);
            slabs.tasks(self.start(&moves, next * slabs.size), group, &mut groups);
            (left, next) = (rest, next + count);
        }
        groups
            .into_par_iter()
            .for_each(|group| slabs.fill(group, source));
    }

    /// The result from element `begin` run by run.
    fn gather_runs<E: Copy + Send + Sync>(&self, source: &[E], begin: usize, target: &mut [E]) {
        let parts = target.par_chunks_mut(TASK).enumerate();
        parts.for_each(|(i, target)| {
            let (begin, mut done) = (begin + i * TASK, 0);
            self.runs(begin..begin + target.len(), &mut |start, step, count| {
                let target = &mut target[done..done + count];
                if step == 1 {
                    target.copy_from_slice(&source[start..start + count]);
                } else {
                    for (i, t) in target.iter_mut().enumerate() {
                        *t = source[start.wrapping_add_signed(i as isize * step)];
                    }
                }
                done += count;
            });
        });
    }
}

/// A transposition that is part of a rearrangement: the elements that are neighbours in the source
/// stand a slab apart in the result, and those that are neighbours in the result a stride apart in
/// the source. Walking along either alone would use one element of every cache line.
struct Slabs {
    /// The axis on which the source's neighbours lie.
    axis: Piece,
    /// Result elements between two of them; 1 where they are neighbours in the result as well.
    size: usize,
    /// The axes within a slab, slowest first.
    within: Vec<Piece>,
}

/// The same part of neighbouring slabs.
struct Group<'a, E> {
    /// Where the first element of the first slab's part comes from.
    start: usize,
    /// The part, in rows.
    rows: Range<usize>,
    slabs: Vec<&'a mut [E]>,
}

impl Slabs {
    fn new(moves: &[Piece]) -> Self {
        let finest = |&i: &usize| match moves[i].stride.unsigned_abs() {
            0 => usize::MAX, // the same element again and again
            stride => stride,
        };
        let Some(at) = (0..moves.len()).min_by_key(finest) else {
            return Slabs {
                axis: Piece { size: 1, stride: 1 },
                size: 1,
                within: Vec::new(),
            };
        };
        let within = moves[at + 1..].to_vec();
        Slabs {
            axis: moves[at],
            size: within.iter().map(|p| p.size).product(),
            within,
        }
    }

    fn row(&self) -> Piece {
        self.within.last().copied().unwrap_or(self.axis)
    }

    /// Cuts slabs into parts of the size of a task.
    fn tasks<'a, E>(&self, start: usize, group: &'a mut [E], tasks: &mut Vec<Group<'a, E>>) {
        let row = self.row().size;
        let rows = (TASK / row / (group.len() / self.size))
            .max(ROWS)
            .min(self.size / row);
        let mut slabs: Vec<&mut [E]> = group.chunks_mut(self.size).collect();
        for begin in (0..self.size / row).step_by(rows) {
            let end = (self.size / row).min(begin + rows);
            let parts = slabs.iter_mut().map(|slab| {
                let (part, rest) = std::mem::take(slab).split_at_mut((end - begin) * row);
                *slab = rest;
                part
            });
            tasks.push(Group {
                start,
                rows: begin..end,
                slabs: parts.collect(),
            });
        }
    }

    fn fill<E: Copy>(&self, mut group: Group<'_, E>, source: &[E]) {
        let row = self.row();
        let outer = &self.within[..self.within.len().saturating_sub(1)];
        for first in group.rows.clone().step_by(ROWS) {
            let rows = ROWS.min(group.rows.end - first);
            let mut starts = [0; ROWS];
            for (r, start) in starts[..rows].iter_mut().enumerate() {
                *start = walk(group.start, outer, first + r);
            }
            let place = (first - group.rows.start) * row.size;
            for column in (0..row.size).step_by(COLUMNS) {
                let columns = COLUMNS.min(row.size - column);
                for (r, start) in starts[..rows].iter().enumerate() {
                    let start = start.wrapping_add_signed(column as isize * row.stride);
                    for (s, slab) in group.slabs.iter_mut().enumerate() {
                        let start = start.wrapping_add_signed(s as isize * self.axis.stride);
                        let target = &mut slab[place + r * row.size + column..][..columns];
                        for (c, t) in target.iter_mut().enumerate() {
                            *t = source[start.wrapping_add_signed(c as isize * row.stride)];
                        }
                    }
                }
            }
        }
    }
}

/// Where element `index` of these axes, row-major, lies in the source, from `start` on.
pub(super) fn walk(mut start: usize, axes: &[Piece], mut index: usize) -> usize {
    for piece in axes.iter().rev() {
        start = start.wrapping_add_signed((index % piece.size) as isize * piece.stride);
        index /= piece.size;
    }
    start
}
