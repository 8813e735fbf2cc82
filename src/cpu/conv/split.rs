//! Sums over many images and positions, shared out and added in a fixed order.

use rayon::prelude::*;

use super::scratch::{product, zeros};
use crate::cpu::output::{Output, store};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;

/// The reduction is split until there are this many tasks.
const TASKS: usize = 16;

/// Tiles can be tiny; they are handed out in so many pieces.
const PIECES: usize = 64;

/// `part` of `0..total` cut into `parts` of nearly equal size.
pub(super) fn share(total: usize, parts: usize, part: usize) -> (usize, usize) {
    // total * part / parts, without a product that could overflow
    let at = |part| total / parts * part + total % parts * part / parts;
    (at(part), at(part + 1))
}

/// A result of `tiles` parts, each a sum over `chunks`.
pub(super) struct Split {
    pub tiles: usize,
    pub chunks: usize,
}

impl Split {
    /// Calls `whole(tile, chunks, target)` where the tiles alone are enough tasks; else
    /// `part(tile, chunks, target, first)` for shares of the chunks, whose results are added in
    /// order. The shares depend on the problem alone.
    pub fn run<T: Element>(
        &self,
        dw: &mut [T],
        write: Write,
        whole: impl Fn(usize, (usize, usize), &Output<T>) -> Result<()> + Sync,
        part: impl Fn(usize, (usize, usize), &Output<T::Acc>, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let splits = TASKS.div_ceil(self.tiles).min(self.chunks).max(1);
        if splits == 1 {
            let target = Output::new(dw);
            let pieces = self.tiles.min(PIECES);
            let pieces = (0..pieces)
                .into_par_iter()
                .with_max_len(1)
                .map(|piece| share(self.tiles, pieces, piece));
            return pieces.try_for_each(|(from, to)| {
                (from..to).try_for_each(|tile| whole(tile, (0, self.chunks), &target))
            });
        }
        let tasks = (0..self.tiles * splits).into_par_iter().with_max_len(1);
        let length = dw.len();
        // (splits, elements of dw)
        let mut parts = zeros::<T::Acc>(product(&[splits, length]))?;
        let target = Output::new(&mut parts);
        tasks.try_for_each(|task| {
            let (tile, split) = (task / splits, task % splits);
            part(
                tile,
                share(self.chunks, splits, split),
                &target,
                split * length,
            )
        })?;
        const CHUNK: usize = 1024;
        let (first, rest) = parts.split_at_mut(length);
        dw.par_chunks_mut(CHUNK)
            .zip(first.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each(|(i, (dw, sums))| {
                for part in rest.chunks_exact(length) {
                    for (sum, &v) in sums.iter_mut().zip(&part[i * CHUNK..]) {
                        *sum += v;
                    }
                }
                store(sums, dw, write);
            });
        Ok(())
    }
}
