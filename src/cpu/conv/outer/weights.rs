//! Where the sums of wgrad go.

use super::super::pack::transpose;
use super::super::scratch::Buffer;
use super::super::wgrad::Job;
use super::plan::Part;
use crate::cpu::output::{Output, store};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

impl<T: Element> Job<'_, T> {
    /// Stores sums `(taps, channels)` of one target channel, whose weights begin at `at`.
    pub(super) fn store(
        &self,
        part: &Part,
        sums: &mut [T::Acc],
        buffer: &mut Buffer<T::Acc>,
        target: &Output<T>,
        at: usize,
        write: Write,
    ) -> Result<()> {
        let (all, first) = (self.roles.source_channels, part.channels.start);
        let (channels, taps) = (part.channels.len(), self.stencil.taps.len());
        let (from, count) = (part.runs[0].taps.start, part.lanes() / channels);
        let put = |sums: &mut [T::Acc], at: usize| {
            // SAFETY: no other task has this tile.
            let to = unsafe { target.part(at, sums.len()) };
            store(self.level, sums, to, write);
        };
        match self.layouts.weight {
            Layout::ChannelsLast if channels == all => put(sums, at + from * all),
            Layout::ChannelsLast => {
                for (tap, sums) in (from..).zip(sums.chunks_exact_mut(channels)) {
                    put(sums, at + tap * all + first);
                }
            }
            Layout::ChannelsFirst if taps == 1 => put(sums, at + first),
            Layout::ChannelsFirst => {
                let columns = buffer.take(sums.len())?;
                let size = (count, channels);
                transpose(self.level, sums, channels, size, columns, count);
                if count == taps {
                    put(columns, at + first * taps);
                    return Ok(());
                }
                for (channel, sums) in (first..).zip(columns.chunks_exact_mut(count)) {
                    put(sums, at + channel * taps + from);
                }
            }
        }
        Ok(())
    }
}
