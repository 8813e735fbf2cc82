//! Rearranging the bytes of an array whose element type does not matter.

use std::ops::Range;

use rayon::prelude::*;

use super::Rearrangement;
use crate::error::{Error, Result};
use crate::shape::check_elements;

impl Rearrangement {
    /// Elements `range` of the result, in row-major order, of an array in memory whose elements
    /// have `width` bytes; appended to `target`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `source` is not as long as the source shape says, or `range` is not
    /// inside the result.
    pub fn gather(
        &self,
        source: &[u8],
        width: usize,
        range: Range<usize>,
        target: &mut Vec<u8>,
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
        let begin = target.len();
        target.resize(begin + range.len() * width, 0);
        let target = &mut target[begin..];
        // pieces of whole rows, so that each is copied in tiles
        const PIECE: usize = 1 << 18;
        let row = self.coalesced().last().map_or(1, |row| row.size.max(1));
        let piece = row * (PIECE / row).max(1);
        let pieces = target.par_chunks_mut((piece * width).max(1)).enumerate();
        pieces.for_each(|(i, target)| {
            let begin = range.start + i * piece;
            let part = begin..range.end.min(begin + piece);
            self.gather_piece(source, width, part, target);
        });
        Ok(())
    }

    fn gather_piece(&self, source: &[u8], width: usize, range: Range<usize>, target: &mut [u8]) {
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
    }

    fn gather_words<const W: usize>(&self, source: &[u8], range: Range<usize>, target: &mut [u8]) {
        let (source, _) = source.as_chunks::<W>();
        let (mut target, _) = target.as_chunks_mut::<W>();
        let moves = self.coalesced();
        // A transposed copy walks down columns: a tile of rows at a time keeps both sides in cache.
        if let [.., rows, row] = moves.as_slice()
            && row.stride.unsigned_abs() > 1
            && rows.stride.unsigned_abs() < row.stride.unsigned_abs()
            && range.start.is_multiple_of(row.size)
            && range.len().is_multiple_of(row.size)
        {
            const TILE: usize = 16;
            let mut row_number = range.start / row.size;
            let end = range.end / row.size;
            while row_number < end {
                // rows of one tile share all outer positions
                let inner = row_number % rows.size;
                let count = TILE.min(rows.size - inner).min(end - row_number);
                let start = self.start(&moves, row_number * row.size);
                let (tile, rest) = target.split_at_mut(count * row.size);
                for column in 0..row.size {
                    let from = start.wrapping_add_signed(column as isize * row.stride);
                    for r in 0..count {
                        let from = from.wrapping_add_signed(r as isize * rows.stride);
                        tile[r * row.size + column] = source[from];
                    }
                }
                target = rest;
                row_number += count;
            }
            return;
        }
        let mut done = 0;
        self.runs(range, &mut |start, step, count| {
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
    }
}
