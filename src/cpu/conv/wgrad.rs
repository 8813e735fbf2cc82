//! wgrad: a matrix product whose reduction runs over images and positions.
//!
//! Per group, with `k = (channel, tap)`:
//!
//! ```text
//! channels first   (k, out channels) = (k, positions) * (positions, out channels)
//! channels last    (out channels, k) = (out channels, positions) * (positions, k)
//! ```
//!
//! In either layout `dy` is what is transposed while packing, as the smaller operand, and the
//! positions of `x` are gathered in unbroken runs. Where the result has too few tiles to share
//! out, the reduction is split as well, and the parts are added in order.

use super::channelwise;
use super::depthwise;
use super::direct_wgrad;
use super::pack::{plan, transpose};
use super::scratch::{Scratch, product};
use super::spectral;
use super::split::{Split, share};
use super::stencil::{Roles, Stencil};
use super::tiling::{Product, Reduction};
use super::window::Window;
use crate::cpu::output::{Output, store, store_strided};
use crate::cpu::simd::{
    DEPTH, Geometry, Level, MicroKernel, Place, ROW, Rows, gather, inside_range,
};
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Layouts, Write};
use crate::shape::Layout;

/// Largest tile of the result.
const TILE_ROWS: usize = 288;
const TILE_LANES: usize = 256;
/// One call of wgrad; [`Roles`] and [`Stencil`] are those of fprop, with every tap.
pub(super) struct Job<'a, T> {
    pub level: Level,
    pub roles: Roles,
    pub stencil: Stencil,
    pub layouts: Layouts,
    pub x: &'a [T],
    pub dy: &'a [T],
}

/// Half-open ranges of one group's result and of the (image, block of positions) pairs.
struct Tile {
    group: usize,
    rows: (usize, usize),
    lanes: (usize, usize),
    chunks: (usize, usize),
}

impl<T: Element> Job<'_, T> {
    pub fn run(&self, dw: &mut [T], write: Write) -> Result<()> {
        if let Some(plan) = spectral::wgrad_plan(self)? {
            return spectral::run_wgrad(self, &plan, dw, write);
        }
        if let Some(plan) = direct_wgrad::plan(self) {
            return direct_wgrad::run(self, &plan, dw, write);
        }
        if let Some(plan) = channelwise::wgrad_plan(self) {
            return channelwise::run_wgrad(self, &plan, dw, write);
        }
        match depthwise::wgrad_window(self) {
            Some(window) => self.filter(&window, dw, write),
            None => self.multiply(dw, write),
        }
    }

    fn multiply(&self, dw: &mut [T], write: Write) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let k = self.roles.source_channels * self.stencil.taps.len();
        let (rows, columns) = match self.layouts.activation {
            Layout::ChannelsFirst => (k, self.roles.target_channels),
            Layout::ChannelsLast => (self.roles.target_channels, k),
        };
        let row_tiles = rows.div_ceil(TILE_ROWS);
        let width = columns
            .div_ceil(columns.div_ceil(TILE_LANES))
            .next_multiple_of(2 * lanes);
        let lane_tiles = columns.div_ceil(width);
        let tiles = self.roles.groups * row_tiles * lane_tiles;
        let chunks = self.roles.batch * self.positions().blocks;
        let run = Split { tiles, chunks };
        let tile = |index: usize, chunks| {
            let (rest, lane) = (index / lane_tiles, index % lane_tiles);
            Tile {
                group: rest / row_tiles,
                rows: share(rows, row_tiles, rest % row_tiles),
                lanes: (lane * width, columns.min((lane + 1) * width)),
                chunks,
            }
        };
        run.run(
            dw,
            write,
            |i, chunks, target| with_scratch(|s| self.tile(&tile(i, chunks), s, target, 0, write)),
            |i, chunks, target, first| {
                let write = Write::Overwrite;
                with_scratch(|s| self.tile(&tile(i, chunks), s, target, first, write))
            },
        )
    }

    fn filter(&self, window: &Window, dw: &mut [T], write: Write) -> Result<()> {
        let run = Split {
            tiles: depthwise::wgrad_blocks(self),
            chunks: self.roles.batch * product(&window.boxes),
        };
        run.run(
            dw,
            write,
            |i, chunks, target| {
                with_scratch(|s| {
                    depthwise::wgrad_part(self, window, i, chunks, s, (target, 0), write)
                })
            },
            |i, chunks, target, first| {
                let (target, write) = ((target, first), Write::Overwrite);
                with_scratch(|s| depthwise::wgrad_part(self, window, i, chunks, s, target, write))
            },
        )
    }

    /// One image's share of the reduction.
    fn positions(&self) -> Reduction {
        Reduction::new(self.stencil.positions())
    }

    /// Computes a tile and stores it from element `first` of the target on.
    fn tile<S: Element<Acc = T::Acc>>(
        &self,
        tile: &Tile,
        scratch: &mut Scratch<T::Acc>,
        target: &Output<S>,
        first: usize,
        write: Write,
    ) -> Result<()> {
        let Geometry { lanes, rows } = T::Acc::geometry(self.level);
        let height = tile.rows.1 - tile.rows.0;
        let length = tile.lanes.1 - tile.lanes.0;
        let vectors = length.div_ceil(lanes);
        let width = vectors * lanes;
        // sizes bounded by the tile's
        scratch.a.take(height * ROW)?;
        scratch.b.take(width * DEPTH)?;
        scratch.c.take(height * width)?.fill(T::Acc::default());
        let reduction = self.positions();
        for chunk in tile.chunks.0..tile.chunks.1 {
            let (image, block) = (chunk / reduction.blocks, chunk % reduction.blocks);
            let (p0, depth) = reduction.range(block);
            match self.layouts.activation {
                Layout::ChannelsFirst => self.pack_first(tile, image, (p0, depth), scratch)?,
                Layout::ChannelsLast => self.pack_last(tile, image, (p0, depth), scratch)?,
            }
            let product = Product {
                level: self.level,
                depth,
                add: chunk > tile.chunks.0,
                rows,
                lanes,
            };
            let (a, b) = (
                scratch.a.take(height * ROW)?,
                scratch.b.take(width * DEPTH)?,
            );
            let c = scratch.c.take(height * width)?;
            product.run(a, b, 2 * lanes * depth, c, height, vectors);
        }
        let c = scratch.c.take(height * width)?;
        let (channels, taps) = (self.roles.source_channels, self.stencil.taps.len());
        let out = |m: usize| first + tile.group * self.roles.weight_group + m * channels * taps;
        match (self.layouts.activation, self.layouts.weight) {
            // The rows are in the order of the weights of one output channel.
            (Layout::ChannelsFirst, _) => {
                let columns = scratch.a.take(height * length)?;
                transpose(self.level, c, width, (height, length), columns, height);
                for (m, sums) in (tile.lanes.0..).zip(columns.chunks_exact_mut(height)) {
                    let at = out(m) + tile.rows.0;
                    // SAFETY: no other task has this tile, and splits have parts of their own.
                    store(sums, unsafe { target.part(at, height) }, write);
                }
            }
            // The lanes are.
            (Layout::ChannelsLast, Layout::ChannelsLast) => {
                for (m, sums) in (tile.rows.0..).zip(c.chunks_exact_mut(width)) {
                    let at = out(m) + tile.lanes.0;
                    // SAFETY: as above.
                    store(
                        &mut sums[..length],
                        unsafe { target.part(at, length) },
                        write,
                    );
                }
            }
            // Lane (tap, channel) goes to (channel, tap).
            (Layout::ChannelsLast, Layout::ChannelsFirst) => {
                for (m, sums) in (tile.rows.0..).zip(c.chunks_exact(width)) {
                    self.runs(tile.lanes, |tap, channel, lane, len| {
                        let at = out(m) + channel * taps + tap;
                        // SAFETY: as above.
                        unsafe { store_strided(&sums[lane..lane + len], target, at, taps, write) };
                    });
                }
            }
        }
        Ok(())
    }

    /// Channels-last lanes `(tap, channel)` in runs of one tap: tap, first channel, first lane
    /// counted from the range's, length.
    fn runs(&self, (from, to): (usize, usize), mut f: impl FnMut(usize, usize, usize, usize)) {
        let channels = self.roles.source_channels;
        let mut lane = from;
        while lane < to {
            let (tap, channel) = (lane / channels, lane % channels);
            let len = (channels - channel).min(to - lane);
            f(tap, channel, lane - from, len);
            lane += len;
        }
    }

    /// `dy` of one image and group.
    fn dy(&self, tile: &Tile, image: usize) -> &[T] {
        let to = &self.roles.target;
        let first = tile.group * self.roles.target_channels * to.channel;
        &self.dy[image * to.outer..][..to.outer][first..]
    }

    /// `x` of one image and group.
    fn x(&self, tile: &Tile, image: usize) -> &[T] {
        let from = &self.roles.source;
        let first = tile.group * self.roles.source_channels * from.channel;
        &self.x[image * from.outer..][..from.outer][first..]
    }

    /// `a[k][position]` from `x`, `b[position][out channel]` from `dy`.
    fn pack_first(
        &self,
        tile: &Tile,
        image: usize,
        (p0, depth): (usize, usize),
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let height = tile.rows.1 - tile.rows.0;
        let rows = Rows {
            first: tile.rows.0,
            count: height,
            channels: self.roles.source_channels,
            taps: self.stencil.taps.len(),
            channel_major: self.roles.taps_contiguous,
        };
        plan(
            &mut scratch.plan,
            &self.roles,
            &self.stencil,
            (p0, p0 + depth),
            lanes,
        );
        scratch.places.clear();
        scratch
            .places
            .extend((0..depth.div_ceil(lanes)).map(|v| Place {
                offset: v * lanes,
                pitch: ROW,
            }));
        let x = self.x(tile, image);
        let a = scratch.a.take(height * ROW)?;
        let plane = self.roles.source.channel;
        gather(
            self.level,
            &scratch.plan,
            rows,
            x,
            plane,
            &scratch.places,
            a,
        );

        let length = tile.lanes.1 - tile.lanes.0;
        let width = length.next_multiple_of(lanes);
        let b = scratch.b.take(width * DEPTH)?;
        let dy = self.dy(tile, image);
        let plane = self.roles.target.channel;
        for first in (0..width).step_by(2 * lanes) {
            let panel = (width - first).min(2 * lanes);
            let channels = (length - first).min(panel);
            let from = &dy[(tile.lanes.0 + first) * plane + p0..];
            let to = &mut b[first * depth..][..panel * depth];
            if channels < panel {
                to.fill(T::Acc::default());
            }
            transpose(self.level, from, plane, (channels, depth), to, panel);
        }
        Ok(())
    }

    /// `a[out channel][position]` from `dy`, `b[position][k]` from `x`.
    fn pack_last(
        &self,
        tile: &Tile,
        image: usize,
        (p0, depth): (usize, usize),
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let lanes = T::Acc::geometry(self.level).lanes;
        let height = tile.rows.1 - tile.rows.0;
        let a = scratch.a.take(height * ROW)?;
        let pixel = self.roles.target.spatial[3]; // positions are next to each other in memory
        let dy = &self.dy(tile, image)[p0 * pixel + tile.rows.0..];
        transpose(self.level, dy, pixel, (depth, height), a, ROW);

        let length = tile.lanes.1 - tile.lanes.0;
        let width = length.next_multiple_of(lanes);
        let b = scratch.b.take(width * DEPTH)?;
        let x = self.x(tile, image);
        let (stencil, from, size) = (&self.stencil, &self.roles.source, self.roles.source_size);
        let wide = 2 * lanes;
        // the part of a packed step that begins at a lane: its place, and where its panel ends
        let place = |lane: usize, k: usize| {
            let first = lane / wide * wide;
            let panel = (width - first).min(wide);
            (first * depth + k * panel + lane - first, first + panel)
        };
        self.runs(tile.lanes, |tap, channel, lane, len| {
            let tap = &stencil.taps[tap];
            let mut k = 0;
            for (j, count) in stencil.rows(p0, p0 + depth) {
                let at = [0, 1, 2].map(|a| stencil.source(a, j[a], tap));
                let inside = (0..3).all(|a| (0..size[a] as isize).contains(&at[a]));
                let first = stencil.source(3, j[3], tap);
                let (lo, hi) = match inside {
                    true => inside_range(first, stencil.pace[3], count, size[3]),
                    false => (0, 0),
                };
                let plane: isize = (0..3).map(|a| at[a] * from.spatial[a] as isize).sum();
                for i in 0..count {
                    let column = first + (i * stencil.pace[3]) as isize;
                    let start = plane + column * from.spatial[3] as isize;
                    let mut done = 0;
                    while done < len {
                        let (at, end) = place(lane + done, k);
                        let run = (end - lane - done).min(len - done);
                        let to = &mut b[at..at + run];
                        if (lo..hi).contains(&i) {
                            let start = start as usize + channel + done;
                            T::widen(&x[start..start + run], to);
                        } else {
                            to.fill(T::Acc::default());
                        }
                        done += run;
                    }
                    k += 1;
                }
            }
        });
        if length < width {
            for k in 0..depth {
                let (at, _) = place(length, k);
                b[at..at + width - length].fill(T::Acc::default());
            }
        }
        Ok(())
    }
}

pub(super) fn with_scratch<A: MicroKernel + 'static, R>(f: impl FnOnce(&mut Scratch<A>) -> R) -> R {
    A::scratch().with_borrow_mut(f)
}
