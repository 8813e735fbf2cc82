//! wgrad: sums over images and positions, by one of several algorithms.

use super::channelwise;
use super::depthwise;
use super::direct_wgrad;
use super::outer;
use super::planes_wgrad;
use super::spectral;
use super::stencil::{Roles, Stencil};
use super::widened;
use crate::cpu::output::{Output, store};
use crate::cpu::simd::Level;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Layouts, Write};

/// One call of wgrad; [`Roles`] and [`Stencil`] are those of fprop, with every tap.
pub(super) struct Job<'a, T> {
    pub level: Level,
    pub roles: Roles,
    pub stencil: Stencil,
    pub layouts: Layouts,
    pub x: &'a [T],
    pub dy: &'a [T],
}

impl<T: Element> Job<'_, T> {
    /// Adds up the lanes of one weight's sum, and stores it: that of a group's target channel, source
    /// channel and tap.
    ///
    /// # Safety
    /// As [`Output::part`], for that weight.
    pub unsafe fn store_lanes(
        &self,
        (group, m, channel, tap): (usize, usize, usize, usize),
        lanes: &[T::Acc],
        target: &Output<T>,
        write: Write,
    ) {
        let roles = &self.roles;
        let at = group * roles.weight_group
            + m * roles.weight_target
            + channel * roles.weight_source
            + self.stencil.taps[tap].weight;
        let mut sum = [lanes.iter().copied().sum()];
        // SAFETY: by this function's contract.
        store(self.level, &mut sum, unsafe { target.part(at, 1) }, write);
    }

    pub fn run(&self, dw: &mut [T], write: Write) -> Result<()> {
        if let Some(plan) = spectral::wgrad_plan(self)? {
            return spectral::run_wgrad(self, &plan, dw, write);
        }
        if let Some(plan) = channelwise::wgrad_plan(self) {
            return channelwise::run_wgrad(self, plan, dw, write);
        }
        if let Some(done) = widened::backward(self, dw, write) {
            return done;
        }
        if let Some(plan) = planes_wgrad::plan(self) {
            return planes_wgrad::run(self, plan, dw, write);
        }
        if let Some(plan) = direct_wgrad::plan(self) {
            return direct_wgrad::run(self, plan, dw, write);
        }
        match depthwise::wgrad_window(self) {
            Some(window) => depthwise::run_wgrad(self, window, dw, write),
            None => outer::run(self, dw, write),
        }
    }
}
