//! fprop and dgrad as implicit matrix products.
//!
//! Per image, group and stencil, with `k = (channel, tap)`:
//!
//! ```text
//! channels first   (target channels, positions) = (target channels, k) * (k, positions)
//! channels last    (positions, target channels) = (positions, k) * (k, target channels)
//! ```
//!
//! The matrix with positions is never stored. Channels last, its rows are pixels where they lie;
//! channels first, every task packs the part that its tile needs, one block of the reduction at a
//! time. The weights are packed once a call, or by every tile if those are few, or kept from one
//! call to the next while they are not written.
//!
//! Pixels need no copies, and channels fill vectors better than the positions of a small image.
//! Where the product is much work for every element that it reads and writes, channels-first
//! operands are therefore computed the other way: the source is transposed first, some images at a
//! time, the result tile by tile.

use std::sync::Arc;

use rayon::prelude::*;

use super::channelwise;
use super::depthwise;
use super::direct;
use super::pack::{pack_weight, panel_block, pixels, places, row_block, transpose};
use super::scratch::{Scratch, product, take};
use super::spectral;
use super::stencil::{Roles, Stencil};
use super::tiling::{Grid, Product, Reduction};
use crate::cpu::output::{Output, add_scalar, store, store_strided};
use crate::cpu::simd::{DEPTH, Level, MicroKernel, Place, ROW, Rows, as_acc, gather};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::host::{Found, HostBuffer, Kept};
use crate::ops::Write;
use crate::shape::Layout;

/// One call of fprop or dgrad; `S` is the source's type if it was copied.
pub(super) struct Job<'a, T, S = T> {
    pub level: Level,
    pub roles: Roles,
    pub stencils: Vec<Stencil>,
    pub source: &'a [S],
    pub weight: &'a [T],
    pub kept: Option<&'a Kept>,
    pub bias: Option<&'a [T]>,
    pub target: Output<'a, T>,
    pub write: Write,
    /// Of the source, and of the product.
    pub layout: Layout,
}

/// Steps of the reduction that are next to each other in the source, for which it is worth
/// beginning new rows.
const SHORT: usize = 16;

/// Bytes from one set of lines of the L1 cache to the same one.
const SETS: usize = 4096;

/// Elements of transposed images, of which there are as many at a time as fit.
const TURNED: usize = 1 << 20;

/// Positions that are transposed at once.
const STRIP: usize = 64;

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
            None if self.turns() => self.multiply_turned(),
            None => self.multiply(),
        }
    }

    /// Whether to compute channels-first operands as if the channels came last: by how many
    /// products each way takes, with what fills up vectors, and what is moved.
    fn turns(&self) -> bool {
        let roles = &self.roles;
        let (source, target) = (roles.source_channels, roles.target_channels);
        let image = product(&[roles.groups, source, product(&roles.source_size)]);
        let few = source < 32 || target < 32;
        if self.layout == Layout::ChannelsLast || few || image > TURNED {
            return false;
        }
        let lanes = T::Acc::geometry(self.level).lanes;
        let products = |positions: &dyn Fn(usize) -> usize, channels: usize| {
            let each = |s: &Stencil| (positions(s.positions()) * s.taps.len()) as f64;
            self.stencils.iter().map(each).sum::<f64>() * (source * channels) as f64
        };
        let first = products(&|p| p.next_multiple_of(lanes), target);
        let last = products(&|p| p, target.next_multiple_of(lanes));
        let pixels = |size: [usize; 4]| product(&size) as f64;
        let moved =
            pixels(roles.source_size) * source as f64 + pixels(roles.target_size) * target as f64;
        let taps: usize = self.stencils.iter().map(|s| s.taps.len()).sum();
        let weights = (taps * source * target) as f64 / roles.batch.max(1) as f64;
        // Estimates: products of pixels take 0.8 of the time of others (nearly what both forms of
        // 3x3 layers take), moving an element or packing a weight the other way that of 40.
        0.8 * last + 40.0 * (moved + weights) < first
    }

    fn multiply_turned(self) -> Result<()> {
        let roles = &self.roles;
        let channels = roles.groups * roles.source_channels;
        let pixels = product(&roles.source_size);
        let image = product(&[pixels, channels]);
        let images = (TURNED / image.max(1)).clamp(1, roles.batch.max(1));
        // Taken out of its cell for the call: a thread that waits may start another call.
        let mut lent = T::Acc::turned().take();
        let turned = take(&mut lent, product(&[images, image]))?;
        let done = (0..roles.batch).step_by(images).try_for_each(|first| {
            let batch = images.min(roles.batch - first);
            let source = &self.source[first * roles.source.outer..];
            let turned = &mut turned[..batch * image];
            let to = turned.par_chunks_mut(image.max(1));
            source
                .par_chunks(roles.source.outer.max(1))
                .zip(to)
                .for_each(|(image, to)| {
                    let strips = to.par_chunks_mut((STRIP * channels).max(1));
                    let strips = strips.with_min_len((1 << 13) / channels.max(1) / STRIP + 1);
                    strips.enumerate().for_each(|(strip, to)| {
                        let (from, count) = (&image[strip * STRIP..], to.len() / channels);
                        transpose(self.level, from, pixels, (channels, count), to, channels);
                    });
                });
            let target = (first * roles.target.outer, batch * roles.target.outer);
            Job {
                level: self.level,
                roles: Roles {
                    batch,
                    source: Strides::new(Layout::ChannelsLast, channels, roles.source_size),
                    ..*roles
                },
                stencils: self.stencils.clone(),
                source: &*turned,
                weight: self.weight,
                kept: self.kept,
                bias: self.bias,
                // SAFETY: nobody else has these images of the target.
                target: Output::new(unsafe { self.target.part(target.0, target.1) }),
                write: self.write,
                layout: Layout::ChannelsLast,
            }
            .multiply()
        });
        T::Acc::turned().replace(lent);
        done
    }
}

impl<T: Element, S: Element<Acc = T::Acc>> Job<'_, T, S> {
    fn multiply(self) -> Result<()> {
        let geometry = T::Acc::geometry(self.level);
        let roles = &self.roles;
        let key = self.kept.map(|kept| (kept, self.packing()));
        let found = match &key {
            Some((kept, key)) => kept.look::<HostBuffer<T::Acc>>(key),
            None => Found::New,
        };
        let again = !matches!(found, Found::New);
        let (mut tasks, mut length) = (0, 0usize);
        let mut grids = Vec::with_capacity(self.stencils.len());
        for stencil in &self.stencils {
            let mut grid = Grid::new(roles, stencil, self.layout, geometry, again);
            (grid.packed, grid.first) = (length, tasks);
            tasks += roles.batch * roles.groups * grid.channel_tiles * grid.position_tiles;
            length = length.saturating_add(grid.packed_len);
            grids.push(grid);
        }
        // Taken out of its cell for the call: a thread that waits may start another call.
        let mut lent = T::Acc::packed().take();
        let held;
        let packed: &[T::Acc] = match (found, &key) {
            (Found::Value(value), _) => {
                held = value;
                &held
            }
            (Found::Wanted, Some((kept, key))) => {
                let mut packed = HostBuffer::of_any_value(length)?;
                self.pack(&grids, &mut packed);
                held = Arc::new(packed);
                kept.keep(key, held.clone());
                &held
            }
            _ => {
                let packed = take(&mut lent, length)?;
                self.pack(&grids, packed);
                packed
            }
        };
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
        T::Acc::packed().replace(lent);
        done
    }

    /// Packs the weights of all stencils.
    fn pack(&self, grids: &[Grid], packed: &mut [T::Acc]) {
        let geometry = T::Acc::geometry(self.level);
        for (stencil, grid) in self.stencils.iter().zip(grids) {
            let to = &mut packed[grid.packed..][..grid.packed_len];
            pack_weight(self, stencil, self.reduction(stencil), geometry, to);
        }
    }

    /// Everything that the packed form of the weights depends on, beside themselves.
    fn packing(&self) -> Vec<usize> {
        let roles = &self.roles;
        let mut key = vec![
            T::Acc::geometry(self.level).lanes,
            usize::from(self.layout == Layout::ChannelsLast),
            roles.groups,
            roles.source_channels,
            roles.target_channels,
            roles.weight_group,
            roles.weight_target,
            roles.weight_source,
            usize::from(roles.taps_contiguous),
        ];
        for stencil in &self.stencils {
            key.push(stencil.taps.len());
            key.extend(stencil.taps.iter().map(|tap| tap.weight));
        }
        key
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
    fn source(&self, tile: &Tile) -> &[S] {
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
        let lanes = T::Acc::geometry(self.level).lanes;
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let (height, length) = (m1 - m0, p1 - p0);
        let vectors = length.div_ceil(lanes);
        let width = vectors * lanes;
        let reduction = self.reduction(stencil);
        let c = scratch.c.take(height * width)?;
        let b = scratch.b.take(reduction.block * width)?;
        let zeros = scratch.zeros.take(DEPTH)?;
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
            scratch.rows.packed(height, depth);
            let product = Product {
                level: self.level,
                places: &scratch.rows,
                a,
                zeros,
                b,
                panel: 2 * lanes * depth,
                add: block > 0,
            };
            product.run(c, height, vectors);
        }
        self.store_planes(stencil, tile, c, width);
        Ok(())
    }

    /// Stores sums `(channels, pitch)` of a tile of planes.
    fn store_planes(&self, stencil: &Stencil, tile: &Tile, c: &mut [T::Acc], pitch: usize) {
        let (p0, p1) = tile.positions;
        let dense = stencil.step == [1; 4] && stencil.count == self.roles.target_size;
        let target = self.target(tile);
        let first = tile.group * self.roles.target_channels + tile.channels.0;
        for (m, sums) in c.chunks_exact_mut(pitch).enumerate() {
            let mut sums = &mut sums[..p1 - p0];
            if let Some(bias) = self.bias {
                add_scalar(sums, bias[first + m].to_acc());
            }
            let at = target + m * self.roles.target.channel;
            if dense {
                // SAFETY: tiles do not overlap, and no other task has this one.
                let to = unsafe { self.target.part(at + p0, p1 - p0) };
                store(sums, to, self.write);
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
    }

    fn tile_last(
        &self,
        stencil: &Stencil,
        packed: &[T::Acc],
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let (length, height) = (m1 - m0, p1 - p0);
        let width = length.next_multiple_of(lanes);
        if let Some(target) = self.whole_pixels(stencil, tile, lanes) {
            let add = self.write == Write::Accumulate;
            return self.products_last(stencil, packed, tile, (target, add), scratch);
        }
        // out of the scratch memory, for the rest of it to be lent out as well
        let mut kept = std::mem::take(&mut scratch.c);
        let c = kept.take(height * width)?;
        self.products_last(stencil, packed, tile, (&mut *c, false), scratch)?;
        if self.roles.target.channel > 1 {
            let planes = scratch.b.take(length * height)?;
            transpose(self.level, c, width, (height, length), planes, height);
            self.store_planes(stencil, tile, planes, height);
            scratch.c = kept;
            return Ok(());
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
        scratch.c = kept;
        Ok(())
    }

    /// The target itself as memory for a tile's sums, which are written once: whole pixels that follow
    /// one another and fill up vectors, of the sums' own type.
    #[expect(clippy::mut_from_ref, reason = "tiles do not overlap")]
    fn whole_pixels(&self, stencil: &Stencil, tile: &Tile, lanes: usize) -> Option<&mut [T::Acc]> {
        let pixel = self.roles.target.spatial[3];
        let (p0, p1) = tile.positions;
        let suits = self.layout == Layout::ChannelsLast
            && self.roles.target.channel == 1
            && tile.channels == (0, pixel)
            && pixel.is_multiple_of(lanes)
            && stencil.step == [1; 4]
            && stencil.count == self.roles.target_size
            && self.reduction(stencil).blocks == 1
            && self.bias.is_none();
        let target = self.target.as_acc().filter(|_| suits)?;
        // SAFETY: tiles do not overlap, and no other task has this one.
        Some(unsafe { target.part(self.target(tile) + p0 * pixel, (p1 - p0) * pixel) })
    }

    /// `c (positions, channels) = products`, or added to.
    fn products_last(
        &self,
        stencil: &Stencil,
        packed: &[T::Acc],
        tile: &Tile,
        (c, add): (&mut [T::Acc], bool),
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let height = p1 - p0;
        let vectors = (m1 - m0).div_ceil(lanes);
        let reduction = self.reduction(stencil);
        let source = self.source(tile);
        // Rows of pixels are used where they lie, unless they would be broken often or share sets
        // of the L1 cache.
        let step = stencil.pace[3] * self.roles.source.spatial[3] * size_of::<T::Acc>();
        let short = self.roles.source_channels < SHORT;
        let in_place = as_acc(source).filter(|_| !short && !step.is_multiple_of(SETS));
        let joined = short && self.roles.groups == 1;
        let Scratch {
            a, b, rows, zeros, ..
        } = scratch;
        let zeros = zeros.take(DEPTH)?;
        zeros.fill(T::Acc::default());
        if reduction.total == 0 && !add {
            c.fill(T::Acc::default());
        }
        let panel = 2 * lanes * reduction.block;
        let panels = self.roles.target_channels.div_ceil(2 * lanes);
        for block in 0..reduction.blocks {
            let k = reduction.range(block);
            let a = match in_place {
                Some(source) => {
                    places(&self.roles, stencil, (p0, p1), k, rows);
                    source
                }
                None => {
                    let source = (source, joined);
                    pixels(&self.roles, stencil, source, (p0, p1), k, rows, a)?
                }
            };
            let first = m0 / (2 * lanes);
            let b = if packed.is_empty() {
                let b = b.take(vectors.div_ceil(2) * panel)?;
                for (i, to) in (first..).zip(b.chunks_exact_mut(panel)) {
                    panel_block(self, stencil, reduction, (tile.group, block), i, to);
                }
                &*b
            } else {
                &packed[(block * panels + first) * panel..]
            };
            let product = Product {
                level: self.level,
                places: rows,
                a,
                zeros,
                b,
                panel,
                add: add || block > 0,
            };
            product.run(c, height, vectors);
        }
        Ok(())
    }

    /// The order of `k`: the one in which the weights are in memory, so that packing them is
    /// copying; with the channels in lanes of the source, those must be next to each other.
    pub fn channel_major(&self) -> bool {
        self.layout == Layout::ChannelsFirst && self.roles.taps_contiguous
    }
}
