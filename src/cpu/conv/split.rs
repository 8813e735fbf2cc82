//! Sums over many images and positions, shared out and added in a fixed order.

use super::scratch::{Scratch, take};
use crate::cpu::crew::{each, try_each};
use crate::cpu::output::Output;
use crate::cpu::simd::{Level, MicroKernel, add_parts};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;

/// Work is cut up until there are this many tasks, so that threads have some at batch 1 as well.
pub(super) const TASKS: usize = 16;

/// Tiles can be tiny; they are handed out in so many pieces.
pub(super) const PIECES: usize = 64;

/// `part` of `0..total` cut into `parts` of nearly equal size.
pub(super) fn share(total: usize, parts: usize, part: usize) -> (usize, usize) {
    // total * part / parts, without a product that could overflow
    let at = |part| total / parts * part + total % parts * part / parts;
    (at(part), at(part + 1))
}

/// A result whose tiles are sums over chunks.
pub(super) trait Sums<T: Element>: Sync {
    /// Elements of a tile's sums.
    fn size(&self, tile: usize) -> usize;

    /// Adds some chunks to the sums of a tile.
    fn add(
        &self,
        tile: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()>;

    /// Stores the sums of a tile, which are not needed any more.
    fn store(
        &self,
        tile: usize,
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
        target: &Output<T>,
        write: Write,
    ) -> Result<()>;
}

/// Computes all `tiles`, over `chunks` each, into `dw`. Where the tiles alone are too few tasks, the
/// chunks are shared out as well, and what the shares sum up to is added in order; the shares
/// depend on the problem alone.
pub(super) fn run<T: Element>(
    level: Level,
    sums: &impl Sums<T>,
    (tiles, chunks): (usize, usize),
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let target = Output::new(dw);
    let splits = TASKS.div_ceil(tiles).min(chunks).max(1);
    if splits == 1 {
        let pieces = tiles.min(PIECES);
        return try_each(0..pieces, |piece| {
            let (from, to) = share(tiles, pieces, piece);
            T::Acc::scratch().with_borrow_mut(|scratch| {
                // out of the scratch memory, for the rest of it to be lent out as well
                let mut kept = std::mem::take(&mut scratch.sums);
                let done = (from..to).try_for_each(|tile| {
                    let here = kept.take(sums.size(tile))?;
                    here.fill(T::Acc::default());
                    sums.add(tile, (0, chunks), here, scratch)?;
                    sums.store(tile, here, scratch, &target, write)
                });
                scratch.sums = kept;
                done
            })
        });
    }
    let mut ends = Vec::with_capacity(tiles);
    let mut all = 0usize;
    for tile in 0..tiles {
        all = all.saturating_add(sums.size(tile).saturating_mul(splits));
        ends.push(all);
    }
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    // per tile (splits, sums)
    let parts = Output::new(take(&mut kept, all)?);
    let done = try_each(0..tiles * splits, |task| {
        let (tile, split) = (task / splits, task % splits);
        let size = sums.size(tile);
        // SAFETY: no other task has this split of this tile.
        let here = unsafe { parts.part(ends[tile] - (splits - split) * size, size) };
        here.fill(T::Acc::default());
        let chunks = share(chunks, splits, split);
        T::Acc::scratch().with_borrow_mut(|scratch| sums.add(tile, chunks, here, scratch))
    });
    let done = done.and_then(|()| {
        try_each(0..tiles, |tile| {
            const CHUNK: usize = 1 << 12;
            let size = sums.size(tile);
            // SAFETY: no other task has this tile.
            let here = unsafe { parts.part(ends[tile] - splits * size, splits * size) };
            let (first, rest) = here.split_at_mut(size);
            each(first.chunks_mut(CHUNK).enumerate(), |(i, first)| {
                add_parts(level, first, &rest[i * CHUNK..], (splits - 1, size));
            });
            T::Acc::scratch()
                .with_borrow_mut(|scratch| sums.store(tile, first, scratch, &target, write))
        })
    });
    T::Acc::packed().replace(kept);
    done
}
