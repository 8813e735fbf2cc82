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
//! operands are therefore computed the other way ([`turned`]). Of small images padding is a good part, which
//! [`images`] leaves out.
//!
//! Where the machine multiplies pairs of bf16, `k` counts pairs of channels.

mod columns;
mod images;
mod tile;
mod turned;

use std::sync::Arc;

use super::channelwise;
use super::depthwise;
use super::direct;
use super::pack::pack_weight;
use super::planes;
use super::scratch::{product, take};
use super::spectral;
use super::stencil::{Roles, Stencil};
use super::tiling::{Grid, Reduction};
use super::widened;
use crate::cpu::crew::try_each;
use crate::cpu::output::{Output, store, store_strided};
use crate::cpu::simd::{Level, MicroKernel, Pixels, narrow_past, narrow_pixels};
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
    /// If images are the last axis of positions, the job in which they are not.
    pub apart: Option<&'a Job<'a, T, S>>,
}

impl<T: Element> Job<'_, T> {
    pub fn run(&self) -> Result<()> {
        if let Some(plans) = spectral::plan(self)? {
            return spectral::run(self, &plans);
        }
        if let Some(done) = channelwise::forward(self) {
            return done;
        }
        if let Some(done) = widened::forward(self) {
            return done;
        }
        if let Some(plan) = planes::plan(self) {
            return planes::run(self, &plan);
        }
        let turns = turned::few_registers::<T>(self.level) && self.turns(self.level);
        if let Some((blocks, grids)) = direct::plan(self).filter(|_| !turns) {
            return direct::run(self, blocks, &grids);
        }
        match depthwise::windows(self) {
            Some(windows) => depthwise::run(self, &windows),
            None => match self.paired() {
                Some(level) => self.multiply_pairs(level),
                None if self.turns(self.level) => self.multiply_turned(self.level),
                None => self.multiply(),
            },
        }
    }
}

/// Bytes of a result that will hardly stay in the caches.
const STREAM: usize = if cfg!(test) { 1 << 14 } else { 8 << 20 };

impl<T: Element, S: Element<Acc = T::Acc>> Job<'_, T, S> {
    /// Whether the result is written past the caches: its lines are not read before, then, only to be
    /// overwritten.
    pub fn streams(&self) -> bool {
        let len = product(&[self.roles.batch, self.roles.target.outer]);
        self.write == Write::Overwrite && len >= STREAM / size_of::<T>()
    }

    /// Rounds finished sums into a part of the target, or adds them to it and rounds once; they are
    /// used up.
    pub fn store(&self, sums: &mut [T::Acc], to: &mut [T]) {
        match self.streams() {
            true => narrow_past(self.level, sums, to),
            false => store(self.level, sums, to, self.write),
        }
    }

    /// As [`Job::store`] of a row of the target, from `at` on with `step` elements from one to the next.
    ///
    /// # Safety
    /// As [`Output::part`], for each of those elements.
    pub unsafe fn store_row(&self, sums: &mut [T::Acc], at: usize, step: usize) {
        match step {
            // SAFETY: by this function's contract.
            1 => self.store(sums, unsafe { self.target.part(at, sums.len()) }),
            // SAFETY: as above.
            _ => unsafe { store_strided(self.level, sums, &self.target, (at, step), self.write) },
        }
    }

    /// As [`Job::store`] of pixels of `length` channels, `width` apart in the sums and `step` in the
    /// target, from `at` on.
    ///
    /// # Safety
    /// As [`Output::part`], for each of the pixels.
    pub unsafe fn store_pixels(
        &self,
        sums: &mut [T::Acc],
        width: usize,
        length: usize,
        (at, step): (usize, usize),
    ) {
        let Some(count) = sums.len().checked_div(width).filter(|&count| count > 0) else {
            return;
        };
        if self.write == Write::Accumulate {
            for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                // SAFETY: by this function's contract.
                let to = unsafe { self.target.part(at + i * step, length) };
                store(self.level, &mut sums[..length], to, self.write);
            }
            return;
        }
        let to = self.target.start(at, (count - 1) * step + length);
        let pixels = Pixels {
            from: (sums, width),
            to: (to, step),
            length,
            stream: self.streams(),
        };
        // SAFETY: inside of the target, just checked; exclusive by this function's contract.
        unsafe { narrow_pixels(self.level, pixels) };
    }

    pub fn multiply(&self) -> Result<()> {
        match self.images_last().or_else(|| self.by_columns()) {
            Some(job) => job.multiply_tiles(),
            None => self.multiply_tiles(),
        }
    }

    fn multiply_tiles(&self) -> Result<()> {
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
            tasks += grid.tiles(roles);
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
        let done = try_each(0..tasks, |task| {
            let s = grids.partition_point(|grid| grid.first <= task) - 1;
            let grid = &grids[s];
            let tile = self.tile(s, grid, task - grid.first);
            let each = grid.packed_len / roles.groups;
            let packed = &packed[grid.packed + tile.group * each..][..each];
            T::Acc::scratch().with_borrow_mut(|scratch| match self.layout {
                Layout::ChannelsFirst => self.tile_first(grid, packed, &tile, scratch),
                Layout::ChannelsLast => self.tile_last(grid, packed, &tile, scratch),
            })
        });
        T::Acc::packed().replace(lent);
        done
    }

    /// Packs the weights of all stencils.
    fn pack(&self, grids: &[Grid], packed: &mut [T::Acc]) {
        for (stencil, grid) in self.stencils.iter().zip(grids) {
            let to = &mut packed[grid.packed..][..grid.packed_len];
            pack_weight(self, stencil, self.reduction(stencil), to);
        }
    }

    /// Everything that the packed form of the weights depends on, beside themselves.
    fn packing(&self) -> Vec<usize> {
        let roles = &self.roles;
        let mut key = vec![
            T::Acc::geometry(self.level).lanes,
            usize::from(self.layout == Layout::ChannelsLast),
            usize::from(self.level.pairs()),
            roles.groups,
            roles.source_channels,
            roles.target_channels,
            roles.weight_channels,
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
