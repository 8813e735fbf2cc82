//! How matrix products are cut up: the reduction into blocks, the result into tiles, tiles into
//! register tiles. All of it depends on the problem and the level alone, never on the threads.

mod rows;

use super::pack::packed_len;
use super::scratch::{Buffer, product};
use super::split::TASKS;
use super::stencil::{Roles, Stencil};
use crate::cpu::simd::{
    DEPTH, Factors, Geometry, Level, Places, ROW, STEPS, TileProduct, copy_rows, multiply,
    multiply_tiles,
};
use crate::element::Accumulator;
use crate::error::Result;
use crate::shape::Layout;
use rows::{LINES, least_positions};
pub(super) use rows::{Rows, SHORT, parts_of_line};

/// The reduction over `k`, in blocks of nearly equal length.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub total: usize,
    pub block: usize,
    pub blocks: usize,
}

impl Reduction {
    pub fn new(total: usize) -> Self {
        let blocks = total.div_ceil(DEPTH).max(1);
        // all but the last one fill tiles
        let block = total.div_ceil(blocks).next_multiple_of(STEPS);
        Reduction {
            total,
            block,
            blocks: total.div_ceil(block.max(1)),
        }
    }

    /// First step and length of a block.
    pub fn range(&self, block: usize) -> (usize, usize) {
        let first = block * self.block;
        (first, self.block.min(self.total - first))
    }
}

/// Sums of a tile that has more positions than others, channels last: they leave most of the L2 cache to
/// the operands.
const SUMS: usize = 1 << 14;

/// Vectors of products up to which such a tile is soon done.
const PRODUCTS: usize = 3 << 16;

/// Tiles that read a weight, up to which it is not packed beforehand.
const FEW_USES: usize = 2;

/// Positions of all images up to which they may be one tile; half as many of pairs, of which there are
/// half as many weights to pack.
const TOGETHER: usize = 512;

/// Whether images are so small that one tile has all positions of some channels, in panels of `wide`: it
/// packs their weights in the cache, once.
fn together(roles: &Roles, stencil: &Stencil, wide: usize) -> bool {
    let most = TOGETHER * roles.source_channels / roles.weight_channels.max(1);
    let panels = roles.groups * roles.target_channels.div_ceil(wide);
    roles.target.channel == 1
        && roles.batch.saturating_mul(stencil.positions()) <= most
        && 2 * panels >= TASKS
}

/// How the target of one stencil is cut into tiles; depends on the problem alone.
pub(super) struct Grid {
    /// Sizes of a tile and numbers of tiles; more than one image if a tile has whole ones.
    pub images: usize,
    pub positions: usize,
    pub channels: usize,
    pub position_tiles: usize,
    pub channel_tiles: usize,
    pub rows: Rows,
    /// Where the stencil's packed weights begin, and how many they are: none if so few tiles use
    /// them that each had better pack its own, in cache.
    pub packed: usize,
    pub packed_len: usize,
    /// Number of its first task.
    pub first: usize,
}

impl Grid {
    /// Tiles of all images and groups.
    pub fn tiles(&self, roles: &Roles) -> usize {
        let outer = roles.batch.div_ceil(self.images) * roles.groups;
        outer * self.channel_tiles * self.position_tiles
    }

    /// `again` says that the weights are to be packed for later calls, too.
    pub fn new(
        roles: &Roles,
        stencil: &Stencil,
        layout: Layout,
        geometry: Geometry,
        again: bool,
    ) -> Self {
        let of = |rows| Grid::of(roles, stencil, layout, geometry, again, rows);
        if layout == Layout::ChannelsFirst {
            return of(Rows::Following);
        }
        let most = geometry.most(roles.target_channels);
        let (rows, _) = Rows::new(roles, stencil, most);
        let grid = of(rows);
        match rows {
            Rows::Ends { .. } if 2 * grid.tiles(roles) < TASKS => {
                of(Rows::parts(roles, stencil, most).0)
            }
            _ => grid,
        }
    }

    fn of(
        roles: &Roles,
        stencil: &Stencil,
        layout: Layout,
        geometry: Geometry,
        again: bool,
        rows: Rows,
    ) -> Self {
        let wide = 2 * geometry.lanes;
        // the unit, the largest and the smallest tile along positions and channels
        let reduction = Reduction::new(roles.source_channels * stencil.taps.len());
        let depth = reduction.block;
        let height = roles.target_channels.min(512);
        // as many positions as the packed block and the sums have room for in the L2 cache
        let most = (49152 / depth.max(1)).min(65536 / height).min(2048) / wide * wide;
        let (p, c) = match layout {
            Layout::ChannelsFirst => ((wide, most.max(4 * wide), 2 * wide), (1, 512, 48)),
            Layout::ChannelsLast => {
                // more positions if those are soon done: every tile has to be begun
                let least = least_positions(geometry.rows);
                let products = product(&[least, reduction.total, height.div_ceil(geometry.lanes)]);
                let more = (DEPTH / depth.max(1)).max(PRODUCTS / products.max(1));
                let more = more.min(SUMS / (least * height).max(1));
                let line = stencil.count[3];
                let (unit, smallest) = match rows {
                    Rows::Following => (1, 24),
                    Rows::Parts(rows) => (if line > least { rows } else { line }, 24),
                    Rows::Ends { line, .. } => (line, LINES * line),
                };
                let least = least / unit * unit;
                (
                    (unit, least * more.clamp(1, 4), smallest),
                    (wide, 512, 2 * wide),
                )
            }
        };
        let together = layout == Layout::ChannelsLast && together(roles, stencil, wide);
        let (images, most) = match together {
            true => (roles.batch, (stencil.positions().max(1), 2 * wide)),
            false => (1, (p.1, c.1)),
        };
        let outer = roles.batch.div_ceil(images) * roles.groups;
        let (mut position_tiles, mut channel_tiles) = (
            stencil.positions().div_ceil(most.0),
            roles.target_channels.div_ceil(most.1),
        );
        let cut = |total: usize, tiles: usize, unit: usize| {
            total.div_ceil(tiles).next_multiple_of(unit).max(1)
        };
        // weights that one tile alone reads are cut up first: each half would read all of them; and where the ends of
        // lines are computed apart, for tiles to have many of them
        let uses = roles.batch.div_ceil(images);
        let once = layout == Layout::ChannelsLast && uses == 1 && position_tiles == 1;
        let lines = matches!(rows, Rows::Ends { .. });
        while outer.saturating_mul(position_tiles * channel_tiles) < TASKS {
            let channels = |tiles| cut(roles.target_channels, tiles, c.0);
            let half = channels(channel_tiles * 2);
            let first = once && half < channels(channel_tiles) || lines && half >= c.2;
            if first {
                channel_tiles *= 2;
            } else if !together && cut(stencil.positions(), position_tiles * 2, p.0) >= p.2 {
                position_tiles *= 2;
            } else if half >= c.2 {
                channel_tiles *= 2;
            } else {
                break;
            }
        }
        // the taps of a weight are spread out best all at once
        let spread =
            layout == Layout::ChannelsLast && roles.weight_source.min(roles.weight_target) > 1;
        let few = uses.saturating_mul(position_tiles) <= FEW_USES && !spread;
        let packed_len = if few && !again {
            0
        } else {
            packed_len(roles, reduction, layout, geometry)
        };
        let positions = cut(stencil.positions(), position_tiles, p.0);
        let channels = cut(roles.target_channels, channel_tiles, c.0);
        Grid {
            images,
            positions,
            channels,
            position_tiles: stencil.positions().div_ceil(positions),
            channel_tiles: roles.target_channels.div_ceil(channels),
            rows,
            packed: 0,
            packed_len,
            first: 0,
        }
    }
}

/// A block of a product: `c (height, vectors) += a (height, depth) * b (depth, vectors)`.
pub(super) struct Product<'a, A> {
    pub level: Level,
    /// The rows of `a`.
    pub places: &'a Places,
    pub a: &'a [A],
    /// As in [`Factors`].
    pub beside: &'a [A],
    pub rows: Rows,
    /// Whether rows are asked for before they are used, as is worth it where they come from memory.
    pub far: bool,
    /// Panels of two vectors (the last of one, if they are odd) that begin `panel` apart.
    pub b: &'a [A],
    pub panel: usize,
    pub add: bool,
    /// As in [`Factors`].
    pub stream: bool,
}

impl<A: Accumulator> Product<'_, A> {
    /// `c` has rows of `vectors` vectors; `copy` is for tiles.
    pub fn run(
        &self,
        c: &mut [A],
        height: usize,
        vectors: usize,
        copy: &mut Buffer<A>,
    ) -> Result<()> {
        let Geometry {
            lanes,
            rows: most,
            tall,
        } = A::geometry(self.level);
        if self.level.tiles() {
            let a = copy.take(height.next_multiple_of(STEPS) * ROW)?;
            copy_rows(self.level, self.places, (self.a, self.beside), a);
            for first in (0..vectors).step_by(2) {
                let lanes = lanes * (vectors - first).min(2);
                let product = TileProduct {
                    a: &*a,
                    a_pitch: ROW,
                    b: &self.b[first / 2 * self.panel..],
                    b_pitch: lanes,
                    steps: self.places.depth().next_multiple_of(STEPS),
                    c: &mut c[first * A::geometry(self.level).lanes..],
                    c_pitch: vectors * A::geometry(self.level).lanes,
                    rows: height,
                    lanes,
                    add: self.add,
                };
                multiply_tiles(self.level, product);
            }
            return Ok(());
        }
        let most = if vectors == 1 { tall } else { most };
        let run = |blocks: Blocks, c: &mut [A]| {
            self.blocks(Width::Two, &blocks, c, vectors);
            self.blocks(Width::One, &blocks, c, vectors);
        };
        match self.rows {
            Rows::Following => {
                for (width, most) in [(Width::Two, most), (Width::One, tall)] {
                    each_block(height, most, (0, 1), |blocks| {
                        self.blocks(width, &blocks, c, vectors);
                    });
                }
            }
            Rows::Parts(rows) => each_block(height, rows, (0, 1), |blocks| run(blocks, c)),
            Rows::Ends {
                line,
                before,
                after,
            } => {
                let lines = height / line;
                each_block(line - before - after, most, (before, 1), |parts| {
                    // of all lines, and not one after the other
                    for part in 0..parts.blocks {
                        let first = parts.first + part * parts.block;
                        let lines = Blocks {
                            first,
                            blocks: lines,
                            block: line,
                            ..parts
                        };
                        run(lines, c);
                    }
                });
                for column in (0..before).chain(line - after..line) {
                    each_block(lines, most, (column, line), |blocks| run(blocks, c));
                }
            }
        }
        Ok(())
    }

    /// `c += a * b` of blocks of rows that are as large, for panels of two vectors or the one that is left.
    fn blocks(&self, width: Width, rows: &Blocks, c: &mut [A], vectors: usize) {
        let lanes = A::geometry(self.level).lanes;
        let (width, v, panels) = match width {
            Width::Two => (2, 0, vectors / 2),
            Width::One => (1, vectors / 2 * 2, vectors % 2),
        };
        if panels == 0 {
            return;
        }
        let factors = Factors {
            places: self.places,
            first: rows.first,
            row: rows.row,
            blocks: rows.blocks,
            block: rows.block,
            a: self.a,
            beside: self.beside,
            far: self.far && v == 0,
            b: &self.b[v / 2 * self.panel..],
            panel: self.panel,
            panels,
            c: &mut c[v * lanes..],
            pitch: vectors * lanes,
            add: self.add,
            stream: self.stream,
        };
        multiply(self.level, rows.rows, width, factors);
    }
}

/// Vectors of a panel.
#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
}

/// Some of the rows of a product, as in [`Factors`].
#[derive(Clone, Copy)]
struct Blocks {
    first: usize,
    rows: usize,
    row: usize,
    blocks: usize,
    block: usize,
}

/// Cuts `count` rows that begin at `first` and are `row` apart into blocks of at most so many, of nearly equal size: a
/// block of one row is as slow as one of four.
fn each_block(
    count: usize,
    most: usize,
    (first, row): (usize, usize),
    mut run: impl FnMut(Blocks),
) {
    let blocks = count.div_ceil(most).max(1);
    let (least, larger) = (count / blocks, count % blocks);
    let sizes = [
        (least + 1, 0, larger),
        (least, larger * (least + 1), blocks - larger),
    ];
    for (rows, begin, blocks) in sizes {
        if rows * blocks > 0 {
            run(Blocks {
                first: first + begin * row,
                rows,
                row,
                blocks,
                block: rows * row,
            });
        }
    }
}
