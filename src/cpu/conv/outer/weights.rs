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
        let to = |at: usize, len: usize| {
            // SAFETY: no other task has this tile.
            unsafe { target.part(at, len) }
        };
        match self.layouts.weight {
            Layout::ChannelsLast if channels == all => {
                store(self.level, sums, to(at + from * all, sums.len()), write);
            }
            Layout::ChannelsLast => {
                for (tap, sums) in (from..).zip(sums.chunks_exact_mut(channels)) {
                    store(
                        self.level,
                        sums,
                        to(at + tap * all + first, channels),
                        write,
                    );
                }
            }
            Layout::ChannelsFirst if taps == 1 => {
                store(self.level, sums, to(at + first, channels), write)
            }
            Layout::ChannelsFirst => {
                let columns = buffer.take(sums.len())?;
                transpose(
                    self.level,
                    sums,
                    channels,
                    (count, channels),
                    columns,
                    count,
                );
                if count == taps {
                    store(
                        self.level,
                        columns,
                        to(at + first * taps, columns.len()),
                        write,
                    );
                    return Ok(());
                }
                for (channel, sums) in (first..).zip(columns.chunks_exact_mut(count)) {
                    store(
                        self.level,
                        sums,
                        to(at + channel * taps + from, count),
                        write,
                    );
                }
            }
        }
        Ok(())
    }
}
