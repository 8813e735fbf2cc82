//! Rows of a target whose channels come first: computed as if those came last, and transposed.

use super::super::gemm::Job;
use super::super::scratch::Buffer;
use crate::cpu::output::Output;
use crate::cpu::simd::{transpose, transpose_to};
use crate::element::{Accumulator, Element};
use crate::error::Result;
use crate::ops::Write;

/// Positions that are transposed at once, unless a row has more.
const ROOM: usize = if cfg!(test) { 16 } else { 128 };

/// Elements of a row of the target at most, where it is computed whole.
pub(super) const LARGEST: usize = 1 << 19;

/// Some channels of positions of the target that follow one another.
pub(super) struct TargetRows<'a, A> {
    /// `(positions, channels)`, and the same transposed.
    sums: &'a mut [A],
    turned: &'a mut [A],
    channels: usize,
    bias: Option<Vec<A>>,
    room: usize,
    /// Where the first position is in the target, of its channel 0; and how many there are.
    at: usize,
    count: usize,
    /// Where the sums of the last row begin.
    last: usize,
}

impl<'a, A: Accumulator> TargetRows<'a, A> {
    /// For so many channels from the first one on, and rows of at most `width` positions.
    pub fn new<T: Element<Acc = A>, S: Element<Acc = A>>(
        job: &Job<T, S>,
        (first, channels): (usize, usize),
        width: usize,
        memory: &'a mut Buffer<A>,
    ) -> Result<Self> {
        let room = ROOM.max(width);
        let each = room.saturating_mul(channels);
        let (sums, turned) = memory.take(each.saturating_mul(2))?.split_at_mut(each);
        let bias = job.bias.map(|bias| &bias[first..][..channels]);
        Ok(TargetRows {
            bias: bias.map(|bias| bias.iter().map(|b| b.to_acc()).collect()),
            sums,
            turned,
            channels,
            room,
            at: 0,
            count: 0,
            last: 0,
        })
    }

    /// A row of the target begins that is at `at` and `width` positions long. Those that are here are stored
    /// if it does not follow, or has no room.
    ///
    /// # Safety
    /// The target must be the caller's where they are, as [`Output::part`] demands.
    pub unsafe fn begin<T: Element<Acc = A>, S: Element<Acc = A>>(
        &mut self,
        job: &Job<T, S>,
        (at, width): (usize, usize),
    ) {
        if at != self.at + self.count || self.count + width > self.room {
            // SAFETY: by this function's contract.
            unsafe { self.store(job) };
            self.at = at;
        }
        self.last = self.count * self.channels;
        self.count += width;
    }

    /// Where sums go, `(positions, channels)`, where those of the last row begin, and what they begin with.
    pub fn last(&mut self) -> (Output<'_, A>, usize, Option<&[A]>) {
        (Output::new(self.sums), self.last, self.bias.as_deref())
    }

    /// Stores the rows that are here.
    ///
    /// # Safety
    /// As [`TargetRows::begin`].
    pub unsafe fn store<T: Element<Acc = A>, S: Element<Acc = A>>(&mut self, job: &Job<T, S>) {
        let size = (self.count, self.channels);
        let positions = std::mem::take(&mut self.count);
        if positions == 0 {
            return;
        }
        let (sums, turned) = (&*self.sums, &mut *self.turned);
        let (pitch, level) = (job.roles.target.channel, job.level);
        let once = job.write == Write::Overwrite && !job.streams();
        if let Some(target) = job.target.as_acc().filter(|_| once) {
            let len = (self.channels - 1) * pitch + positions;
            let to = (target.start(self.at, len), pitch);
            // SAFETY: inside of the target, just checked; exclusive by this function's contract.
            unsafe { transpose_to(level, (sums, self.channels), size, to) };
            return;
        }
        transpose(level, sums, self.channels, size, turned, positions);
        let rows = turned.chunks_exact_mut(positions).take(self.channels);
        for (i, row) in rows.enumerate() {
            let at = self.at + i * pitch;
            // SAFETY: by this function's contract.
            job.store(row, unsafe { job.target.part(at, positions) });
        }
    }
}
