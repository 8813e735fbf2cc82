//! wgrad: the tiles are blocks of channels, the chunks images and rows.

use super::super::scratch::Scratch;
use super::super::split::{self, Sums, share};
use super::super::wgrad;
use super::{
    Channels, Reach, Segments, SourceRows, channel_row_of, far, prefetch_pixels, prefetch_source,
    reaches, rows, runs,
};
use crate::cpu::output::{Output, store_strided};
use crate::cpu::simd::channel_gradient;
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;

/// How wgrad is cut up.
pub(in super::super) struct GradientPlan {
    channels: Channels,
    reaches: Vec<Reach>,
    segments: Segments,
    /// Chunks of the rows of one image.
    chunks: usize,
}

/// Positions of a chunk, as many as make it worth handing out.
const POSITIONS: usize = 1 << 9;

/// Whether this is the way to compute a wgrad.
pub(in super::super) fn wgrad_plan<T: Element>(job: &wgrad::Job<T>) -> Option<GradientPlan> {
    let (layout, taps) = (job.layouts.activation, job.stencil.taps.len());
    let channels = Channels::new::<T>(job.level, &job.roles, layout, taps)?;
    let rows = rows(&job.stencil);
    let reaches = reaches(&job.stencil);
    let sources = channels.source(channels.block);
    let segments = Segments::new::<T>(&job.roles, &job.stencil, &reaches, sources)?;
    let least = POSITIONS.div_ceil(job.stencil.count[3].max(1));
    Some(GradientPlan {
        chunks: rows.div_ceil(least.max(segments.least_rows())),
        segments,
        channels,
        reaches,
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
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, plan) = (self.job, &self.plan);
        let (roles, stencil) = (&job.roles, &job.stencil);
        let (first, count) = plan.channels.of_block(block);
        let sources = plan.channels.source(count);
        let mut row_runs = Vec::with_capacity(plan.reaches.len());
        let far = far::<T>(roles);
        let mut begin = chunks.0;
        while begin < chunks.1 {
            // the chunks of one image
            let (image, first_chunk) = (begin / plan.chunks, begin % plan.chunks);
            let end = chunks.1.min(begin - first_chunk + plan.chunks);
            let row = |chunk: usize| share(rows(stencil), plan.chunks, chunk);
            let (r0, r1) = (row(first_chunk).0, row(first_chunk + end - begin - 1).1);
            begin = end;
            let x = &job.x[image * roles.source.outer..][..roles.source.outer];
            let x = &x[plan.channels.source(first)..];
            let dy = &job.dy[image * roles.target.outer..][..roles.target.outer][first..];
            let pixel = roles.target.spatial[3];
            let segments = &plan.segments;
            let mut reading =
                SourceRows::new(job.level, x, (roles, segments), sources, &mut scratch.a)?;
            for segment in segments.iter() {
                reading.begin(&segment);
                for row in r0..r1 {
                    if far && row + 1 < rows(stencil) {
                        let j = unravel((row + 1) * stencil.count[3], stencil.count);
                        let reaches = (roles, stencil, &plan.reaches[..]);
                        prefetch_source(reaches, j, (x, sources), &mut row_runs);
                        prefetch_pixels(&dy[roles.target.at(j)..], pixel, stencil.count[3], count);
                    }
                    let j = unravel(row * stencil.count[3], stencil.count);
                    runs(roles, stencil, &plan.reaches, j, &mut row_runs);
                    let read = reading.read(&segment, stencil.pace[3], &mut row_runs);
                    let read = (&segment, read);
                    let row = channel_row_of(stencil, &plan.channels, count, read, &mut row_runs);
                    let dy = &dy[roles.target.at(j) + segment.first * pixel..];
                    channel_gradient(job.level, row, (dy, pixel), sums);
                }
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
