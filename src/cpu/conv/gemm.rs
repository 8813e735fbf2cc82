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

mod tile;

use std::sync::Arc;

use rayon::prelude::*;

use super::channelwise;
use super::depthwise;
use super::direct;
use super::pack::{pack_weight, transpose};
use super::planes;
use super::scratch::{product, take};
use super::spectral;
use super::stencil::{Roles, Stencil};
use super::tiling::{Grid, Reduction};
use crate::cpu::output::Output;
use crate::cpu::simd::{Level, MicroKernel};
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

/// Elements of transposed images, of which there are as many at a time as fit.
const TURNED: usize = 1 << 20;

/// Positions that are transposed at once.
const STRIP: usize = 64;

impl<T: Element> Job<'_, T> {
    pub fn run(self) -> Result<()> {
        if let Some(plans) = spectral::plan(&self)? {
            return spectral::run(&self, &plans);
        }
        if let Some(plan) = planes::plan(&self) {
            return planes::run(&self, &plan);
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
        let few = source < 32 || target < 32;
        if self.layout == Layout::ChannelsLast || few || roles.source.outer > TURNED {
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

    /// Some images at a time. Where those are several times the weights are packed again for the
    /// second, and kept for the others.
    fn multiply_turned(self) -> Result<()> {
        let roles = &self.roles;
        let channels = roles.groups * roles.source_channels;
        let (pixels, image) = (roles.source.channel, roles.source.outer);
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
                .par_chunks(image.max(1))
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

    /// The order of `k`: the one in which the weights are in memory, so that packing them is
    /// copying; with the channels in lanes of the source, those must be next to each other.
    pub fn channel_major(&self) -> bool {
        self.layout == Layout::ChannelsFirst && self.roles.taps_contiguous
    }
}
