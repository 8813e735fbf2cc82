//! wgrad: the tiles are blocks of channels, the chunks images and rows.

use super::super::scratch::Scratch;
use super::super::split::{self, Sums, share};
use super::super::wgrad;
use super::{
    Channels, Reach, channel_row_of, far, prefetch_pixels, prefetch_source, reaches, rows, runs,
};
use crate::cpu::output::{Output, store_strided};
use crate::cpu::simd::{as_acc, channel_gradient};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;

/// How wgrad is cut up.
pub(in super::super) struct GradientPlan {
    channels: Channels,
    reaches: Vec<Reach>,
    /// Chunks of the rows of one image.
    chunks: usize,
}

/// Positions of a chunk, as many as make it worth handing out.
const POSITIONS: usize = 1 << 9;

/// Whether this is the way to compute a wgrad.
pub(in super::super) fn wgrad_plan<T: Element>(job: &wgrad::Job<T>) -> Option<GradientPlan> {
    as_acc(job.x)?;
    let (layout, taps) = (job.layouts.activation, job.stencil.taps.len());
    let channels = Channels::new::<T>(job.level, &job.roles, layout, taps)?;
    let rows = rows(&job.stencil);
    Some(GradientPlan {
        channels,
        reaches: reaches(&job.stencil),
        chunks: rows.min((rows * job.stencil.count[3]).div_ceil(POSITIONS)),
    })
}

pub(in super::super) fn run_wgrad<T: Element>(
    job: &wgrad::Job<T>,
    plan: GradientPlan,
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let (tiles, chunks) = (plan.channels.blocks, job.roles.batch * plan.chunks);
    split::run(&Gradient { job, plan }, (tiles, chunks), dw, write)
}

struct Gradient<'a, 'b, T> {
    job: &'a wgrad::Job<'b, T>,
    plan: GradientPlan,
}

impl<T: Element> Sums<T> for Gradient<'_, '_, T> {
    fn size(&self, block: usize) -> usize {
        let channels = &self.plan.channels;
        let count = channels.of_block(block).1.next_multiple_of(channels.lanes);
        count * channels.sources * self.job.stencil.taps.len()
    }

    fn add(
        &self,
        block: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        _: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, plan) = (self.job, &self.plan);
        let (roles, stencil) = (&job.roles, &job.stencil);
        let (first, count) = plan.channels.of_block(block);
        let mut row_runs = Vec::with_capacity(plan.reaches.len());
        let far = far::<T>(roles);
        for chunk in chunks.0..chunks.1 {
            let (image, chunk) = (chunk / plan.chunks, chunk % plan.chunks);
            let x = &job.x[image * roles.source.outer..][..roles.source.outer];
            let x = &x[plan.channels.source(first)..];
            let dy = &job.dy[image * roles.target.outer..][..roles.target.outer][first..];
            let (Some(x), Some(dy)) = (as_acc(x), as_acc(dy)) else {
                return Ok(()); // `wgrad_plan` has looked
            };
            let (r0, r1) = share(rows(stencil), plan.chunks, chunk);
            let pixel = roles.target.spatial[3];
            for row in r0..r1 {
                if far && row + 1 < rows(stencil) {
                    let j = unravel((row + 1) * stencil.count[3], stencil.count);
                    let x = (x, plan.channels.source(count));
                    prefetch_source((roles, stencil, &plan.reaches), j, x, &mut row_runs);
                    prefetch_pixels(&dy[roles.target.at(j)..], pixel, stencil.count[3], count);
                }
                let j = unravel(row * stencil.count[3], stencil.count);
                runs(roles, stencil, &plan.reaches, j, &mut row_runs);
                let row = channel_row_of(roles, stencil, &plan.channels, count, x, &mut row_runs);
                let dy = &dy[roles.target.at(j)..];
                channel_gradient(job.level, row, (dy, pixel), sums);
            }
        }
        Ok(())
    }

    fn store(
        &self,
        block: usize,
        sums: &mut [T::Acc],
        _: &mut Scratch<T::Acc>,
        target: &Output<T>,
        write: Write,
    ) -> Result<()> {
        let (roles, stencil) = (&self.job.roles, &self.job.stencil);
        let channels = &self.plan.channels;
        let (taps, lanes, sources) = (stencil.taps.len(), channels.lanes, channels.sources);
        let (first, count) = channels.of_block(block);
        for (nth, sums) in sums.chunks_exact(lanes).enumerate() {
            let (rest, tap) = (nth / taps, nth % taps);
            let (lane, channel) = (rest / sources * lanes, rest % sources);
            // groups follow one another as the target channels of a group do
            let at = (first + lane) * roles.weight_target
                + channel * roles.weight_source
                + stencil.taps[tap].weight;
            let sums = &sums[..lanes.min(count - lane)];
            // SAFETY: no other task has these channels.
            unsafe { store_strided(sums, target, at, roles.weight_target, write) };
        }
        Ok(())
    }
}
