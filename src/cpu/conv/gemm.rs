//! fprop and dgrad as implicit matrix products.
//!
//! Per image, group and stencil, with `k = (channel, tap)`:
//!
//! ```text
//! channels first   (target channels, positions) = (target channels, k) * (k, positions)
//! channels last    (positions, target channels) = (positions, k) * (k, target channels)
//! ```
//!
//! The matrix with positions is never stored: every task packs the part that its tile needs, one
//! block of the reduction at a time. The weights are packed once a call, or by every tile if
//! those are few.

use rayon::prelude::*;

use super::channelwise;
use super::depthwise;
use super::direct;
use super::pack::{pack_weight, panel_block, row_block};
use super::scratch::{Scratch, take};
use super::spectral;
use super::stencil::{Roles, Stencil};
use super::tiling::{Grid, Product, Reduction};
use crate::cpu::output::{Output, add_scalar, store, store_strided};
use crate::cpu::simd::{Geometry, Level, MicroKernel, Place, ROW, Rows, gather};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// One call of fprop or dgrad.
pub(super) struct Job<'a, T> {
    pub level: Level,
    pub roles: Roles,
    pub stencils: Vec<Stencil>,
    pub source: &'a [T],
    pub weight: &'a [T],
    pub bias: Option<&'a [T]>,
    pub target: Output<'a, T>,
    pub write: Write,
    pub layout: Layout,
}

/// One tile: half-open ranges of positions and of the group's channels.
struct Tile {
    image: usize,
    group: usize,
    channels: (usize, usize),
    positions: (usize, usize),
}

impl<T: Element> Job<'_, T> {
    pub fn run(self) -> Result<()> {
        if let Some(plans) = spectral::plan(&self)? {
            return spectral::run(&self, &plans);
        }
        if let Some((blocks, grids)) = direct::plan(&self) {
            return direct::run(&self, blocks, &grids);
        }
        if let Some(plan) = channelwise::plan(&self) {
            return channelwise::run(&self, &plan);
        }
        match depthwise::windows(&self) {
            Some(windows) => depthwise::run(&self, &windows),
            None => self.multiply(),
        }
    }

    fn multiply(self) -> Result<()> {
        let geometry = T::Acc::geometry(self.level);
        let roles = &self.roles;
        let (mut tasks, mut length) = (0, 0usize);
        let mut grids = Vec::with_capacity(self.stencils.len());
        for stencil in &self.stencils {
            let mut grid = Grid::new(roles, stencil, self.layout, geometry);
            (grid.packed, grid.first) = (length, tasks);
            tasks += roles.batch * roles.groups * grid.channel_tiles * grid.position_tiles;
            length = length.saturating_add(grid.packed_len);
            grids.push(grid);
        }
        // Taken out of its cell for the call: a thread that waits may start another call.
        let mut kept = T::Acc::packed().take();
        let packed = take(&mut kept, length)?;
        for (stencil, grid) in self.stencils.iter().zip(&grids) {
            let reduction = self.reduction(stencil);
            let to = &mut packed[grid.packed..][..grid.packed_len];
            pack_weight(&self, stencil, reduction, geometry, to);
        }
        let packed = &*packed;
        let done = (0..tasks)
            .into_par_iter()
            .with_max_len(1)
            .try_for_each(|task| {
                let s = grids.partition_point(|grid| grid.first <= task) - 1;
                let (stencil, grid) = (&self.stencils[s], &grids[s]);
                let tile = self.tile(stencil, grid, task - grid.first);
                let each = grid.packed_len / roles.groups;
                let packed = &packed[grid.packed + tile.group * each..][..each];
                T::Acc::scratch().with_borrow_mut(|scratch| match self.layout {
                    Layout::ChannelsFirst => self.tile_first(stencil, packed, &tile, scratch),
                    Layout::ChannelsLast => self.tile_last(stencil, packed, &tile, scratch),
                })
            });
        T::Acc::packed().replace(kept);
        done
    }

    fn reduction(&self, stencil: &Stencil) -> Reduction {
        Reduction::new(self.roles.source_channels * stencil.taps.len())
    }

    fn tile(&self, stencil: &Stencil, grid: &Grid, index: usize) -> Tile {
        let (rest, p) = (index / grid.position_tiles, index % grid.position_tiles);
        let (rest, c) = (rest / grid.channel_tiles, rest % grid.channel_tiles);
        let range =
            |tile: usize, size: usize, total: usize| (tile * size, total.min((tile + 1) * size));
        Tile {
            image: rest / self.roles.groups,
            group: rest % self.roles.groups,
            channels: range(c, grid.channels, self.roles.target_channels),
            positions: range(p, grid.positions, stencil.positions()),
        }
    }

    /// The source of one image and group.
    fn source(&self, tile: &Tile) -> &[T] {
        let roles = &self.roles;
        let first = tile.group * roles.source_channels * roles.source.channel;
        &self.source[tile.image * roles.source.outer..][..roles.source.outer][first..]
    }

    /// Where the tile's channel 0 and position 0 are in the target.
    fn target(&self, tile: &Tile) -> usize {
        let first = tile.group * self.roles.target_channels + tile.channels.0;
        tile.image * self.roles.target.outer + first * self.roles.target.channel
    }

    fn tile_first(
        &self,
        stencil: &Stencil,
        packed: &[T::Acc],
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let Geometry { lanes, rows } = T::Acc::geometry(self.level);
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let (height, length) = (m1 - m0, p1 - p0);
        let vectors = length.div_ceil(lanes);
        let width = vectors * lanes;
        let reduction = self.reduction(stencil);
        let c = scratch.c.take(height * width)?;
        let b = scratch.b.take(reduction.block * width)?;
        if reduction.total == 0 {
            c.fill(T::Acc::default());
        } else {
            super::pack::plan(
                &mut scratch.plan,
                &self.roles,
                stencil,
                tile.positions,
                lanes,
            );
        }
        for block in 0..reduction.blocks {
            let (k0, depth) = reduction.range(block);
            scratch.places.clear();
            scratch.places.extend((0..vectors).map(|v| Place {
                offset: v / 2 * 2 * lanes * depth + v % 2 * lanes,
                pitch: lanes * (vectors - v / 2 * 2).min(2),
            }));
            let k = Rows {
                first: k0,
                count: depth,
                channels: self.roles.source_channels,
                taps: stencil.taps.len(),
                channel_major: self.channel_major(),
            };
            let (source, plane) = (self.source(tile), self.roles.source.channel);
            gather(
                self.level,
                &scratch.plan,
                k,
                source,
                plane,
                &scratch.places,
                b,
            );
            let a = if packed.is_empty() {
                let a = scratch.a.take(height * ROW)?;
                for (m, to) in (m0..m1).zip(a.chunks_exact_mut(ROW)) {
                    row_block(self, stencil, reduction, (tile.group, block), m, to);
                }
                &*a
            } else {
                &packed[(block * self.roles.target_channels + m0) * ROW..]
            };
            let product = Product {
                level: self.level,
                depth,
                add: block > 0,
                rows,
                lanes,
            };
            product.run(a, b, 2 * lanes * depth, c, height, vectors);
        }
        let dense = stencil.step == [1; 4] && stencil.count == self.roles.target_size;
        let target = self.target(tile);
        for (m, sums) in c.chunks_exact_mut(width).enumerate() {
            let mut sums = &mut sums[..length];
            if let Some(bias) = self.bias {
                let channel = tile.group * self.roles.target_channels + m0 + m;
                add_scalar(sums, bias[channel].to_acc());
            }
            let at = target + m * self.roles.target.channel;
            if dense {
                // SAFETY: tiles do not overlap, and no other task has this one.
                store(
                    sums,
                    unsafe { self.target.part(at + p0, length) },
                    self.write,
                );
                continue;
            }
            for (j, len) in stencil.rows(p0, p1) {
                let (row, rest) = sums.split_at_mut(len);
                sums = rest;
                let at = at + self.roles.target.at(stencil.target(j));
                if stencil.step[3] == 1 {
                    // SAFETY: as above.
                    store(row, unsafe { self.target.part(at, len) }, self.write);
                } else {
                    // SAFETY: as above.
                    unsafe { store_strided(row, &self.target, at, stencil.step[3], self.write) };
                }
            }
        }
        Ok(())
    }

    fn tile_last(
        &self,
        stencil: &Stencil,
        packed: &[T::Acc],
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let Geometry { lanes, rows } = T::Acc::geometry(self.level);
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let (length, height) = (m1 - m0, p1 - p0);
        let vectors = length.div_ceil(lanes);
        let width = vectors * lanes;
        let reduction = self.reduction(stencil);
        let a = scratch.a.take(height * ROW)?;
        let c = scratch.c.take(height * width)?;
        if reduction.total == 0 {
            c.fill(T::Acc::default());
        }
        let panel = 2 * lanes * reduction.block;
        let panels = self.roles.target_channels.div_ceil(2 * lanes);
        for block in 0..reduction.blocks {
            let (k0, depth) = reduction.range(block);
            super::pack::pixels(
                &self.roles,
                stencil,
                self.source(tile),
                (p0, p1),
                (k0, depth),
                a,
            );
            let first = m0 / (2 * lanes);
            let b = if packed.is_empty() {
                let b = scratch.b.take(vectors.div_ceil(2) * panel)?;
                for (i, to) in (first..).zip(b.chunks_exact_mut(panel)) {
                    panel_block(self, stencil, reduction, (tile.group, block), i, to);
                }
                &*b
            } else {
                &packed[(block * panels + first) * panel..]
            };
            let product = Product {
                level: self.level,
                depth,
                add: block > 0,
                rows,
                lanes,
            };
            product.run(a, b, panel, c, height, vectors);
        }
        let mut sums = c.chunks_exact_mut(width);
        for (j, len) in stencil.rows(p0, p1) {
            let at = self.target(tile) + self.roles.target.at(stencil.target(j));
            let step = stencil.step[3] * self.roles.target.spatial[3];
            for (i, sums) in sums.by_ref().take(len).enumerate() {
                let sums = &mut sums[..length];
                if let Some(bias) = self.bias {
                    let first = tile.group * self.roles.target_channels + m0;
                    for (sum, bias) in sums.iter_mut().zip(&bias[first..]) {
                        *sum += bias.to_acc();
                    }
                }
                // SAFETY: tiles do not overlap, and no other task has this one.
                store(
                    sums,
                    unsafe { self.target.part(at + i * step, length) },
                    self.write,
                );
            }
        }
        Ok(())
    }

    /// The order of `k`: the one in which the weights are in memory, so that packing them is
    /// copying; with the channels in lanes of the source, those must be next to each other.
    pub fn channel_major(&self) -> bool {
        self.layout == Layout::ChannelsFirst && self.roles.taps_contiguous
    }
}
