//! What a chunk of a wgrad reads, which is asked for while the chunk before is computed.

use std::ops::Range;

use super::super::split::share;
use super::plan::Run;
use super::{Products, Tile};
use crate::cpu::simd::{Ahead, MicroKernel};
use crate::element::Element;

/// What a chunk reads.
pub(super) struct Reads {
    pub images: Range<usize>,
    /// Positions of `dy`, from the first to one past the last.
    pub block: (usize, usize),
    /// Positions of `x`.
    pub x: Range<usize>,
}

impl<T: Element> Products<'_, '_, T> {
    /// Images and positions of a chunk.
    pub(super) fn chunk(&self, chunk: usize) -> (Range<usize>, (usize, usize)) {
        let (job, plan) = (self.job, &self.plan);
        let (image, block) = (chunk / plan.blocks, chunk % plan.blocks);
        let first = image * plan.images;
        let images = first..job.roles.batch.min(first + plan.images);
        let block = share(job.stencil.positions(), plan.blocks, block);
        (images, block)
    }

    pub(super) fn reads(&self, tile: &Tile, chunk: usize) -> Reads {
        let (images, block) = self.chunk(chunk);
        let x = self.job.reach(&tile.part.runs, block);
        Reads { images, block, x }
    }

    /// What a chunk reads, of `x` from a position on, to be asked for in so many parts.
    pub(super) fn ahead(
        &self,
        tile: &Tile,
        reads: &Reads,
        from: usize,
        parts: usize,
        to: &mut Vec<Ahead>,
    ) {
        let (job, roles) = (self.job, &self.job.roles);
        let x = from.clamp(reads.x.start, reads.x.end)..reads.x.end;
        let dy = reads.block.0..reads.block.1;
        let (x_channels, dy_channels) = (tile.source_channels(roles), tile.target_channels(roles));
        for image in reads.images.clone() {
            to.push(job.ahead(job.x, &roles.source, image, &x_channels, &x));
            to.push(job.ahead(job.dy, &roles.target, image, &dy_channels, &dy));
        }
        to.iter_mut().for_each(|ahead| ahead.cut(parts));
    }

    /// Register tiles that the sums over a chunk are computed in.
    pub(super) fn products(&self, tile: &Tile) -> usize {
        let geometry = T::Acc::geometry(self.job.level);
        let height = tile.channels.len();
        let each = |run: &Run| {
            let (lanes, rows) = match self.plan.turned {
                true => (height, run.lanes),
                false => (run.lanes, height),
            };
            lanes.div_ceil(2 * geometry.lanes) * rows.div_ceil(geometry.rows)
        };
        tile.part.runs.iter().map(each).sum()
    }
}
