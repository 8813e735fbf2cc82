//! Small images, of whose products padding is a good part: with the images as one more axis of positions that
//! comes last, the rows of a register tile are a position of several images, or few positions, and taps that
//! are outside there are left out.

use super::super::scratch::product;
use super::super::stencil::{Roles, append};
use super::super::tiling::{Rows, SHORT, parts_of_line};
use super::Job;
use crate::cpu::output::Output;
use crate::cpu::simd::MicroKernel;
use crate::cpu::strides::Strides;
use crate::element::Element;
use crate::shape::Layout;

/// What part of all products must be left out more than with the images one after the other...
const WORTH: f64 = 0.06;
/// ...beside what it costs to find the images of a position, in products of vectors.
const LINE: f64 = 80.0;

impl<T: Element, S: Element<Acc = T::Acc>> Job<'_, T, S> {
    /// The same job as one of one image, where that is worth it.
    pub(super) fn images_last(&self) -> Option<Job<'_, T, S>> {
        let roles = &self.roles;
        let geometry = T::Acc::geometry(self.level);
        let (lanes, most) = (geometry.lanes, geometry.most(roles.target_channels));
        let three = roles.source_size[0] == 1 && roles.target_size[0] == 1;
        let suits = self.layout == Layout::ChannelsLast
            && roles.batch > 1
            && three
            && roles.source_channels > SHORT
            && !self.level.tiles();
        (suits && parts_of_line(roles.batch, most).is_some()).then_some(())?;
        let (mut taps, mut more) = (0.0, 0.0);
        for stencil in &self.stencils {
            let all = (stencil.positions() * stencil.taps.len()) as f64;
            let (_, now) = Rows::new(roles, stencil, most);
            taps += all;
            more += all * (stencil.outside(&roles.source_size, 0..4) - now);
        }
        let vectors = roles.target_channels.div_ceil(lanes);
        let line = product(&[roles.batch, roles.source_channels, vectors]);
        (more > (WORTH + LINE / line as f64) * taps).then_some(())?;
        let images = |strides: Strides| Strides {
            outer: roles.batch * strides.outer,
            spatial: append(strides.spatial, strides.outer),
            ..strides
        };
        // SAFETY: nobody else has the target, and this job leaves it alone meanwhile.
        let target = unsafe { self.target.part(0, roles.batch * roles.target.outer) };
        Some(Job {
            level: self.level,
            roles: Roles {
                batch: 1,
                source: images(roles.source),
                target: images(roles.target),
                source_size: append(roles.source_size, roles.batch),
                target_size: append(roles.target_size, roles.batch),
                ..*roles
            },
            stencils: self
                .stencils
                .iter()
                .map(|s| s.beside(roles.batch))
                .collect(),
            source: self.source,
            weight: self.weight,
            kept: self.kept,
            bias: self.bias,
            target: Output::new(target),
            write: self.write,
            layout: self.layout,
            apart: Some(self),
        })
    }
}
