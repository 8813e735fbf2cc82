//! Products of copies of the source: channels first as if the channels came last, and pairs of
//! channels. Some images are copied at a time; results are written in the target's layout tile by tile.

use super::super::pack::transpose;
use super::super::pairs::{paired, turn_pairs};
use super::super::scratch::{product, take};
use super::super::stencil::{Roles, Stencil};
use super::Job;
use crate::cpu::crew::{each, each_chunk};
use crate::cpu::output::Output;
use crate::cpu::simd::{Level, MicroKernel, as_pairs, join};
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::shape::Layout;

/// Elements of copied images, of which there are as many at a time as fit.
const TURNED: usize = 1 << 20;

/// Positions that are transposed at once.
const STRIP: usize = 64;

/// Whether tiles of sums are small, as there are 16 registers: dense layers straight from rows of the
/// source take two to three times as long as from pixels then (measured with AVX2).
pub(super) fn few_registers<T: Element>(level: Level) -> bool {
    T::Acc::geometry(level).rows < 8
}

impl<T: Element> Job<'_, T> {
    /// The level whose products are of pairs of channels, if this machine has one for this type and
    /// it is worth its copies.
    pub(super) fn paired(&self) -> Option<Level> {
        let level = paired::<T>(self.level)?;
        let pays = match self.layout {
            Layout::ChannelsFirst => self.turns(level),
            Layout::ChannelsLast => self.pairs_in_place().is_some() || self.fits(level),
        };
        pays.then_some(level)
    }

    /// Whether products of pairs beat kernels for few channels, which take no more products than
    /// there are: by what padding adds to pairs.
    pub(in super::super) fn pairs_pay(&self) -> bool {
        let lanes = T::Acc::geometry(self.level).lanes;
        let (source, target) = (self.roles.source_channels, self.roles.target_channels);
        self.paired().is_some_and(|level| {
            let padded = 2 * self.copied_channels(level) * target.next_multiple_of(lanes);
            2 * padded <= 3 * source * target
        })
    }

    /// The source as pairs of channels where it lies.
    fn pairs_in_place(&self) -> Option<&[T::Acc]> {
        let whole = self.roles.source_channels.is_multiple_of(2);
        as_pairs(self.source).filter(|_| whole && self.layout == Layout::ChannelsLast)
    }

    /// Channels of a group of a copy.
    fn copied_channels(&self, level: Level) -> usize {
        match level.pairs() {
            true => self.roles.source_channels.div_ceil(2),
            false => self.roles.source_channels,
        }
    }

    /// Whether a copied image takes no more memory than such a copy may.
    fn fits(&self, level: Level) -> bool {
        let channels = self.copied_channels(level) * self.roles.groups;
        product(&self.roles.source_size).saturating_mul(channels) <= TURNED
    }

    /// Whether to compute channels-first operands as if the channels came last: by how many
    /// products each way takes, with what fills up vectors, and what is moved.
    pub(super) fn turns(&self, level: Level) -> bool {
        let roles = &self.roles;
        let (source, target) = (roles.source_channels, roles.target_channels);
        let few = !level.pairs() && (source < 32 || target < 32);
        if self.layout == Layout::ChannelsLast || few || !self.fits(level) {
            return false;
        }
        let lanes = T::Acc::geometry(self.level).lanes;
        let products = |positions: &dyn Fn(usize) -> usize, source: usize, target: usize| {
            let each = |s: &Stencil| (positions(s.positions()) * s.taps.len()) as f64;
            self.stencils.iter().map(each).sum::<f64>() * (source * target) as f64
        };
        let first = products(&|p| p.next_multiple_of(lanes), source, target);
        let copied = self.copied_channels(level);
        let last = products(&|p| p, copied, target.next_multiple_of(lanes));
        let pixels = |size: [usize; 4]| product(&size) as f64;
        let moved =
            pixels(roles.source_size) * source as f64 + pixels(roles.target_size) * target as f64;
        let taps: usize = self.stencils.iter().map(|s| s.taps.len()).sum();
        let weights = (taps * source * target) as f64 / roles.batch.max(1) as f64;
        // Estimates: products of pixels take 0.8 of the time of others (nearly what both forms of
        // 3x3 layers take), moving an element or packing a weight the other way that of 40, or of
        // 20 where two of them are moved at a time. With few registers products of pixels take 0.6
        // of the others' time (layers took 0.3 to 0.6 of it), and moving an element that of 20:
        // vectors are half as wide, so products take longer, and moving does not.
        let (each_product, each_moved) = match (few_registers::<T>(self.level), level.pairs()) {
            (true, _) => (0.6, 20.0),
            (false, true) => (0.8, 20.0),
            (false, false) => (0.8, 40.0),
        };
        each_product * last + each_moved * (moved + weights) < first
    }

    /// With products of pairs of channels.
    pub(super) fn multiply_pairs(&self, level: Level) -> Result<()> {
        match self.in_pairs(level) {
            Some(job) => job.multiply(),
            None => self.multiply_turned(level),
        }
    }

    /// The same job of pairs of channels where they lie.
    pub(in super::super) fn in_pairs(&self, level: Level) -> Option<Job<'_, T, T::Acc>> {
        let source = self.pairs_in_place()?;
        let Strides { outer, spatial, .. } = self.roles.source;
        let strides = Strides {
            outer: outer / 2,
            channel: 1,
            spatial: spatial.map(|step| step / 2),
        };
        Some(self.of_copy(level, 0..self.roles.batch, source, strides))
    }

    /// Some images at a time. Where those are several times the weights are packed again for the
    /// second, and kept for the others.
    pub(super) fn multiply_turned(&self, level: Level) -> Result<()> {
        let roles = &self.roles;
        let channels = roles.groups * self.copied_channels(level);
        let image = channels * product(&roles.source_size);
        let images = (TURNED / image.max(1)).clamp(1, roles.batch.max(1));
        // Taken out of its cell for the call: a thread that waits may start another call.
        let mut lent = T::Acc::turned().take();
        let turned = take(&mut lent, product(&[images, image]))?;
        let strides = Strides::new(Layout::ChannelsLast, channels, roles.source_size);
        let done = (0..roles.batch).step_by(images).try_for_each(|first| {
            let batch = first..roles.batch.min(first + images);
            let turned = &mut turned[..batch.len() * image];
            let from = &self.source[first * roles.source.outer..];
            let pairs = from.chunks(roles.source.outer.max(1));
            let pairs = pairs.zip(turned.chunks_mut(image.max(1)));
            each(pairs, |(image, to)| {
                each_chunk(to, STRIP * channels, |strip, to| {
                    self.turn(level, image, strip * STRIP, to);
                });
            });
            self.of_copy(level, batch, turned, strides).multiply()
        });
        T::Acc::turned().replace(lent);
        done
    }

    /// The same of some images, whose source was copied, channels last.
    fn of_copy<'a>(
        &'a self,
        level: Level,
        images: std::ops::Range<usize>,
        source: &'a [T::Acc],
        strides: Strides,
    ) -> Job<'a, T, T::Acc> {
        let image = self.roles.target.outer;
        let (first, count) = (images.start * image, images.len() * image);
        Job {
            level,
            roles: Roles {
                batch: images.len(),
                source: strides,
                source_channels: self.copied_channels(level),
                ..self.roles
            },
            stencils: self.stencils.clone(),
            source,
            weight: self.weight,
            kept: self.kept,
            bias: self.bias,
            // SAFETY: nobody else has these images of the target.
            target: Output::new(unsafe { self.target.part(first, count) }),
            write: self.write,
            layout: Layout::ChannelsLast,
            apart: None,
        }
    }

    /// Copies positions of an image from one on, with the channels last.
    fn turn(&self, level: Level, image: &[T], position: usize, to: &mut [T::Acc]) {
        let roles = &self.roles;
        let (channels, each) = (roles.source_channels, self.copied_channels(level));
        let all = roles.groups * each;
        let count = to.len() / all;
        if !level.pairs() {
            let (from, step) = (&image[position..], roles.source.channel);
            return transpose(level, from, step, (all, count), to, all);
        }
        if self.layout == Layout::ChannelsLast {
            let groups = image[position * roles.groups * channels..].chunks_exact(channels);
            for (from, to) in groups.zip(to.chunks_exact_mut(each)) {
                join(from, to);
            }
            return;
        }
        for group in 0..roles.groups {
            let (step, size) = (roles.source.channel, (channels, count));
            let from = &image[group * channels * step + position..];
            turn_pairs(level, from, step, size, &mut to[group * each..], all);
        }
    }
}
