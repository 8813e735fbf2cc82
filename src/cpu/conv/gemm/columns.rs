//! One channel: the rows of the source that a line of the target reads side by side, so that all that a position reads
//! is one run of memory.

use super::super::stencil::Stencil;
use super::Job;
use crate::cpu::output::Output;
use crate::element::Element;
use crate::shape::Layout;

impl<T: Element, S: Element<Acc = T::Acc>> Job<'_, T, S> {
    /// The same job with taps column by column, where that is worth it.
    pub(super) fn by_columns(&self) -> Option<Job<'_, T, S>> {
        let roles = &self.roles;
        let one = roles.source_channels == 1 && roles.source.spatial[3] == 1;
        let suits = self.layout == Layout::ChannelsLast && one && !self.level.tiles();
        suits.then_some(())?;
        // copies of few columns that nothing reads
        let by_columns = |s: &Stencil| s.by_columns().filter(|_| s.pace[3] <= s.run());
        let stencils = self.stencils.iter().map(by_columns);
        let stencils = stencils.collect::<Option<Vec<_>>>()?;
        // SAFETY: nobody else has the target, and this job leaves it alone meanwhile.
        let target = unsafe { self.target.part(0, roles.batch * roles.target.outer) };
        Some(Job {
            level: self.level,
            roles: *roles,
            stencils,
            source: self.source,
            weight: self.weight,
            kept: self.kept,
            bias: self.bias,
            target: Output::new(target),
            write: self.write,
            layout: self.layout,
            apart: None,
        })
    }
}
