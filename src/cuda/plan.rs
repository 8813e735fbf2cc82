//! Which kernel runs a pass and in which grid: arithmetic on the problem alone, without a device.

use std::fmt;

use super::args::index;
use super::launch::Grid;
use crate::error::Result;

/// Threads of a block in every kernel.
pub(super) const THREADS: u32 = 256;

/// Blocks that keep the largest GPUs busy; fixed, so that sums are split the same everywhere.
const MANY_BLOCKS: usize = 512;

/// A grid over so many elements, each block taking several when there are very many.
pub(super) fn elementwise(elements: usize) -> Grid {
    let blocks = elements.div_ceil(THREADS as usize).clamp(1, 1 << 16);
    Grid::new(blocks as u32, THREADS)
}

/// A grid over `batch` images of so many elements.
pub(super) fn images(batch: usize, elements: usize) -> Grid {
    let along = elements.div_ceil(THREADS as usize).clamp(1, 1 << 16);
    Grid {
        blocks: [along as u32, batch.clamp(1, 65535) as u32],
        threads: THREADS,
        shared_bytes: 0,
    }
}

/// How a sum over many steps is cut: fixed stretches, whose sums are added in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub splits: u32,
    pub length: u32,
}

impl Split {
    /// Of what is no sum over steps.
    pub const NONE: Split = Split {
        splits: 1,
        length: 0,
    };

    /// So that `blocks` blocks per split make enough blocks, and no split is shorter than `least`.
    pub fn new(steps: usize, blocks: usize, least: usize) -> Result<Self> {
        let wanted = MANY_BLOCKS.div_ceil(blocks.max(1));
        Self::of(steps, wanted.min(steps.div_ceil(least)))
    }

    /// Into so many stretches, or a few less that cover every step.
    pub fn of(steps: usize, splits: usize) -> Result<Self> {
        let steps = index("batch * positions", steps)? as usize;
        let splits = splits.clamp(1, 65535);
        Ok(Self::cut(steps, steps.div_ceil(splits).max(1)))
    }

    /// The same in stretches of a multiple of `unit` steps.
    pub fn in_units(self, steps: usize, unit: usize) -> Self {
        Self::cut(steps, (self.length as usize).next_multiple_of(unit))
    }

    fn cut(steps: usize, length: usize) -> Self {
        Split {
            splits: steps.div_ceil(length).max(1) as u32,
            length: length as u32,
        }
    }
}

/// The part of a matrix product that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub rows: u32,
    pub columns: u32,
}

impl Tile {
    /// For few rows or few blocks.
    pub const SMALL: Tile = Tile::square(64);
    pub const LARGE: Tile = Tile::square(128);
    /// For few columns: small groups, first layers' input gradients, last layers.
    pub const NARROW: Tile = Tile {
        rows: 128,
        columns: 32,
    };

    const fn square(side: u32) -> Self {
        Tile {
            rows: side,
            columns: side,
        }
    }
}

/// As kernels are named.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows == self.columns {
            true => write!(f, "{}", self.rows),
            false => write!(f, "{}x{}", self.rows, self.columns),
        }
    }
}

/// Shape of one pass as a matrix product: `rows` x `columns` results in every one of `copies`
/// (groups, phases).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub rows: usize,
    pub columns: usize,
    pub copies: usize,
}

impl Product {
    /// Whether tiles of 128 fit and abound, when every tile can be cut into so many splits.
    pub fn is_large(&self, splits: usize) -> bool {
        let blocks = self.blocks(Tile::LARGE).saturating_mul(splits);
        self.rows >= 128 && self.columns >= 96 && blocks >= MANY_BLOCKS / 4
    }

    /// Tiles of all copies.
    pub fn blocks(&self, tile: Tile) -> usize {
        let rows = self.rows.div_ceil(tile.rows as usize);
        let columns = self.columns.div_ceil(tile.columns as usize);
        rows.saturating_mul(columns).saturating_mul(self.copies)
    }

    /// A grid of a block per tile and split.
    pub fn grid(&self, tile: Tile, splits: u32, shared_bytes: usize) -> Result<Grid> {
        let blocks = self.blocks(tile).saturating_mul(splits as usize);
        Ok(Grid {
            blocks: [index("blocks", blocks)? as u32, 1],
            threads: THREADS,
            shared_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cover_every_step_once() {
        for steps in [1, 7, 1024, 1025, 100_000, 1 << 29] {
            for blocks in [1, 3, 100, 10_000] {
                let split = Split::new(steps, blocks, 256).unwrap();
                let (splits, length) = (split.splits as usize, split.length as usize);
                assert!(
                    splits * length >= steps && (splits - 1) * length < steps,
                    "{split:?}"
                );
                let split = split.in_units(steps, 32);
                let (splits, length) = (split.splits as usize, split.length as usize);
                assert!(length.is_multiple_of(32));
                assert!(splits * length >= steps && (splits - 1) * length < steps);
            }
        }
    }

    #[test]
    fn too_many_steps_are_a_typed_error() {
        assert!(Split::new(1 << 31, 1, 256).is_err());
        let product = Product {
            rows: 1 << 40,
            columns: 1 << 20,
            copies: 1,
        };
        assert!(product.grid(Tile::SMALL, 1, 0).is_err());
    }
}
