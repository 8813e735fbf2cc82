//! One tile of a product: its operands, the sums, and where they go.

use std::ops::Range;

use super::super::pack::{Panels, row_blocks, transpose};
use super::super::pixels::{column_places, columns, mostly_inside, pixels, places, plan};
use super::super::scratch::Scratch;
use super::super::stencil::Stencil;
use super::super::tiling::{Grid, Product, Rows, SHORT};
use super::Job;
use crate::cpu::output::add_scalar;
use crate::cpu::simd::{self, DEPTH, MicroKernel, Place, ROW, as_acc, gather};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Bytes from one set of lines of the L1 cache to the same one.
const SETS: usize = 4096;

/// Channels up to which neighbouring taps are joined in place.
const JOINED: usize = 64;

/// Vectors of a tile's pixels, up to which it is not worth copying what shares sets.
const FEW: usize = 4;

/// One tile: half-open ranges of positions and of the group's channels, of one image; if of more, all
/// of their positions.
pub(super) struct Tile {
    /// The number of its stencil.
    stencil: usize,
    images: Range<usize>,
    pub group: usize,
    channels: (usize, usize),
    positions: (usize, usize),
}

impl Tile {
    /// Rows of its product, channels last.
    fn rows(&self) -> usize {
        self.images.len() * (self.positions.1 - self.positions.0)
    }
}

impl<T: Element, S: Element<Acc = T::Acc>> Job<'_, T, S> {
    pub(super) fn tile(&self, stencil: usize, grid: &Grid, index: usize) -> Tile {
        let positions = self.stencils[stencil].positions();
        let (rest, p) = (index / grid.position_tiles, index % grid.position_tiles);
        let (rest, c) = (rest / grid.channel_tiles, rest % grid.channel_tiles);
        let first = rest / self.roles.groups * grid.images;
        let range =
            |tile: usize, size: usize, total: usize| (tile * size, total.min((tile + 1) * size));
        Tile {
            stencil,
            images: first..self.roles.batch.min(first + grid.images),
            group: rest % self.roles.groups,
            channels: range(c, grid.channels, self.roles.target_channels),
            positions: range(p, grid.positions, positions),
        }
    }

    /// The source of a tile's images and group.
    fn source(&self, tile: &Tile) -> &[S] {
        let roles = &self.roles;
        let first = tile.group * roles.source_channels * roles.source.channel;
        let images = tile.images.len() * roles.source.outer;
        &self.source[tile.images.start * roles.source.outer..][..images][first..]
    }

    /// Where the tile's channel 0 and position 0 are in the target.
    fn target(&self, tile: &Tile) -> usize {
        let first = tile.group * self.roles.target_channels + tile.channels.0;
        tile.images.start * self.roles.target.outer + first * self.roles.target.channel
    }

    pub(super) fn tile_first(
        &self,
        grid: &Grid,
        packed: &[T::Acc],
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let stencil = &self.stencils[tile.stencil];
        let lanes = T::Acc::geometry(self.level).lanes;
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
            let positions = tile.positions;
            plan(&mut scratch.plan, &self.roles, stencil, positions, lanes);
        }
        for block in 0..reduction.blocks {
            let (k0, depth) = reduction.range(block);
            scratch.places.clear();
            scratch.places.extend((0..vectors).map(|v| Place {
                offset: v / 2 * 2 * lanes * depth + v % 2 * lanes,
                pitch: lanes * (vectors - v / 2 * 2).min(2),
            }));
            let k = simd::Rows {
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
                row_blocks(self, stencil, reduction, (tile.group, block), m0, a);
                &*a
            } else {
                &packed[(block * self.roles.target_channels + m0) * ROW..]
            };
            scratch.rows.packed(a, height, depth);
            let product = Product {
                level: self.level,
                places: &scratch.rows,
                a,
                beside: &[],
                rows: grid.rows,
                far: false,
                b,
                panel: 2 * lanes * depth,
                add: block > 0,
                stream: false,
            };
            product.run(c, height, vectors, &mut scratch.tiles)?;
        }
        self.store_planes(tile, c, width);
        Ok(())
    }

    /// Stores sums `(channels, pitch)` of a tile of planes.
    fn store_planes(&self, tile: &Tile, c: &mut [T::Acc], pitch: usize) {
        let stencil = &self.stencils[tile.stencil];
        let (p0, p1) = tile.positions;
        let step = stencil.step[3] * self.roles.target.spatial[3];
        let dense = step == 1 && stencil.step == [1; 4] && stencil.count == self.roles.target_size;
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
                self.store(sums, to);
                continue;
            }
            for (j, len) in stencil.rows(p0, p1) {
                let (row, rest) = sums.split_at_mut(len);
                sums = rest;
                let at = at + self.roles.target.at(stencil.target(j));
                // SAFETY: as above.
                unsafe { self.store_row(row, at, step) };
            }
        }
    }

    pub(super) fn tile_last(
        &self,
        grid: &Grid,
        packed: &[T::Acc],
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let stencil = &self.stencils[tile.stencil];
        let lanes = T::Acc::geometry(self.level).lanes;
        let (m0, m1) = tile.channels;
        let (p0, p1) = tile.positions;
        let (length, height) = (m1 - m0, tile.rows());
        let width = length.next_multiple_of(lanes);
        if let Some(target) = self.whole_pixels(stencil, tile, lanes) {
            let add = self.write == Write::Accumulate;
            let target = (target, add, self.streams());
            return self.products_last((stencil, grid), packed, tile, target, scratch);
        }
        // out of the scratch memory, for the rest of it to be lent out as well
        let mut kept = std::mem::take(&mut scratch.c);
        let c = kept.take(height * width)?;
        self.products_last(
            (stencil, grid),
            packed,
            tile,
            (&mut *c, false, false),
            scratch,
        )?;
        if self.roles.target.channel > 1 {
            let planes = scratch.b.take(length * height)?;
            let line = stencil.count[3];
            match self.apart {
                Some(apart) if p0.is_multiple_of(line) && p1.is_multiple_of(line) => {
                    let positions = height / line;
                    let planes = &mut planes[..length * positions];
                    for image in 0..line {
                        let (from, step) = (&c[image * width..], line * width);
                        transpose(
                            self.level,
                            from,
                            step,
                            (positions, length),
                            planes,
                            positions,
                        );
                        let tile = Tile {
                            images: image..image + 1,
                            positions: (p0 / line, p1 / line),
                            ..*tile
                        };
                        apart.store_planes(&tile, planes, positions);
                    }
                }
                _ => {
                    transpose(self.level, c, width, (height, length), planes, height);
                    self.store_planes(tile, planes, height);
                }
            }
            scratch.c = kept;
            return Ok(());
        }
        let mut sums = &mut *c;
        let rows = |image| stencil.rows(p0, p1).map(move |row| (image, row));
        for (image, (j, len)) in (0..tile.images.len()).flat_map(rows) {
            let first = self.target(tile) + image * self.roles.target.outer;
            let at = first + self.roles.target.at(stencil.target(j));
            let step = stencil.step[3] * self.roles.target.spatial[3];
            let (here, after) = sums.split_at_mut(len * width);
            sums = after;
            if let Some(bias) = self.bias {
                let first = tile.group * self.roles.target_channels + m0;
                for pixel in here.chunks_exact_mut(width) {
                    for (sum, bias) in pixel.iter_mut().zip(&bias[first..][..length]) {
                        *sum += bias.to_acc();
                    }
                }
            }
            // SAFETY: tiles do not overlap, and no other task has this one.
            unsafe { self.store_pixels(here, width, length, (at, step)) };
        }
        scratch.c = kept;
        Ok(())
    }

    /// The target itself as memory for a tile's sums, which are written once: whole pixels that follow
    /// one another and fill up vectors, of the sums' own type.
    #[expect(clippy::mut_from_ref, reason = "tiles do not overlap")]
    fn whole_pixels(&self, stencil: &Stencil, tile: &Tile, lanes: usize) -> Option<&mut [T::Acc]> {
        let pixel = self.roles.target.spatial[3];
        let (p0, _) = tile.positions;
        let suits = self.layout == Layout::ChannelsLast
            && self.roles.target.channel == 1
            && tile.channels == (0, pixel)
            && pixel.is_multiple_of(lanes)
            && stencil.step == [1; 4]
            && stencil.count == self.roles.target_size
            && (self.reduction(stencil).blocks == 1 || !self.streams())
            && self.bias.is_none();
        let target = self.target.as_acc().filter(|_| suits)?;
        // SAFETY: tiles do not overlap, and no other task has this one.
        Some(unsafe { target.part(self.target(tile) + p0 * pixel, tile.rows() * pixel) })
    }

    /// `c (positions, channels) = products`, or added to.
    fn products_last(
        &self,
        (stencil, grid): (&Stencil, &Grid),
        packed: &[T::Acc],
        tile: &Tile,
        (c, add, stream): (&mut [T::Acc], bool, bool),
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let (m0, m1) = tile.channels;
        let positions = (tile.images.len(), tile.positions);
        let height = tile.rows();
        let vectors = (m1 - m0).div_ceil(lanes);
        let reduction = self.reduction(stencil);
        let source = self.source(tile);
        // Rows of pixels are used where they lie, those of neighbouring taps together if they are
        // short, unless they would be broken often or, where they are read often, share sets of the L1 cache.
        let step = stencil.pace[3] * self.roles.source.spatial[3] * size_of::<T::Acc>();
        let channels = self.roles.source_channels;
        let short = channels <= SHORT - usize::from(self.level.pairs());
        let whole = self.roles.groups == 1 && mostly_inside(&self.roles, stencil);
        let joined = match short {
            true => self.roles.groups == 1,
            // the ends of lines leave out taps one by one
            false => channels <= JOINED && whole && !matches!(grid.rows, Rows::Ends { .. }),
        };
        let shares = vectors > FEW && step.is_multiple_of(SETS);
        let by_columns = stencil.rows_beside > 1;
        let in_place = as_acc(source).filter(|_| (!short || whole) && !shares && !by_columns);
        // several taps find most of what they read where others left it
        let far = in_place.is_some() && stencil.taps.len() == 1;
        let Scratch {
            a,
            b,
            rows,
            tiles,
            beside,
            lines,
            ..
        } = scratch;
        lines.begin((&self.roles, stencil), joined, positions);
        let room = match in_place.is_some() || by_columns {
            true => lines.room(&self.roles, stencil, reduction.block),
            false => 0,
        };
        let beside = beside.take_behind(DEPTH, room)?;
        if by_columns {
            columns(&self.roles, stencil, source, lines, beside);
        }
        if reduction.total == 0 && !add {
            c.fill(T::Acc::default());
        }
        let panels = Panels::new(self, stencil, reduction);
        let (panel, first) = (panels.size(), m0 / (2 * lanes));
        for block in 0..reduction.blocks {
            let k = reduction.range(block);
            let a = match in_place {
                _ if by_columns => {
                    column_places(stencil, lines, k, rows, beside);
                    &[]
                }
                Some(source) => {
                    places(&self.roles, stencil, source, lines, k, rows, beside);
                    source
                }
                None => pixels(&self.roles, stencil, (source, lines), k, rows, beside, a)?,
            };
            let b = if packed.is_empty() {
                let b = b.take(vectors.div_ceil(2) * panel)?;
                let range = first..first + vectors.div_ceil(2);
                panels.blocks((tile.group, block), range, b);
                &*b
            } else {
                &packed[panels.begin(block, first)..]
            };
            let product = Product {
                level: self.level,
                places: rows,
                a,
                beside: &*beside,
                rows: grid.rows,
                far,
                b,
                panel,
                add: add || block > 0,
                stream,
            };
            product.run(c, height, vectors, tiles)?;
        }
        Ok(())
    }
}
