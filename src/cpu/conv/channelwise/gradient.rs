//! wgrad: the tiles are blocks of channels, the chunks images and rows.

use std::slice::from_ref;

use super::super::pack::transpose;
use super::super::pairs::paired;
use super::super::scratch::Scratch;
use super::super::split::{self, Sums, share};
use super::super::wgrad;
use super::rows::copy_rows;
use super::{
    Channels, Extent, Reaches, Reading, Runs, Segments, SourceRows, ahead_of, ask_source,
    channel_row_of, far, rows, turns,
};
use crate::cpu::output::{Output, store_strided};
use crate::cpu::simd::{Level, channel_gradient};
use crate::cpu::strides::unravel;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// How wgrad is cut up.
pub(in super::super) struct GradientPlan {
    /// Of products of pairs of rows, if they are.
    pairs: Option<Level>,
    channels: Channels,
    reaches: Reaches,
    segments: Segments,
    /// Chunks of the rows of one image.
    chunks: usize,
}

/// Positions of a chunk, as many as make it worth handing out.
const CHUNK: usize = 1 << 9;

/// Whether this is the way to compute a wgrad.
pub(in super::super) fn wgrad_plan<T: Element>(job: &wgrad::Job<T>) -> Option<GradientPlan> {
    let turned = job.layouts.activation == Layout::ChannelsFirst;
    let channels = Channels::new::<T>(job.level, &job.roles, job.layouts.activation)?;
    (!turned || turns(&channels, from_ref(&job.stencil))).then_some(())?;
    // several vectors of a group share what they read, which outer products make use of
    (channels.targets <= channels.lanes).then_some(())?;
    let channels = channels.in_blocks(job.stencil.taps.len());
    let rows = rows(&job.stencil);
    let reaches = Reaches::new(&job.stencil);
    let sources = channels.source(channels.block);
    let reading = match turned {
        // a NaN of dy must not reach products with zeros
        true => Reading::Turned,
        false => Reading::InPlace,
    };
    let all = Extent::new(from_ref(&job.stencil), from_ref(&reaches));
    let segments = Segments::new::<T>(&job.roles, &job.stencil, &all, sources, reading)?;
    let least = CHUNK.div_ceil(job.stencil.count[3].max(1));
    let pairs = paired::<T>(job.level).filter(|level| !level.tiles() && !turned);
    Some(GradientPlan {
        pairs: pairs.filter(|_| job.stencil.count[2] > 1),
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
    split::run(
        job.level,
        &Gradient { job, plan },
        (tiles, chunks),
        dw,
        write,
    )
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
        let (mut chosen, mut ahead) = (Runs::default(), Vec::new());
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
            let x = &x[plan.channels.source(first) * roles.source.channel..];
            let dy = &job.dy[image * roles.target.outer..][..roles.target.outer];
            let dy = &dy[first * roles.target.channel..];
            let (pixel, plane) = (roles.target.spatial[3], roles.target.channel);
            let turned = job.layouts.activation == Layout::ChannelsFirst;
            let segments = &plan.segments;
            let reading = (job.level, plan.pairs.is_some());
            let reading = SourceRows::new(reading, x, (roles, segments), sources, &mut scratch.a);
            let mut reading = reading?;
            let copied = plan.pairs.is_some() || turned;
            let both = scratch
                .b
                .take(if copied { segments.width * count } else { 0 })?;
            let (pace, places) = (stencil.pace[3], stencil.taps.len());
            for segment in segments.iter() {
                reading.begin(&segment);
                let (mut row, mut asked) = (r0, None);
                while row < r1 {
                    let j = unravel(row * stencil.count[3], stencil.count);
                    // the next row, of which pairs are made
                    let next =
                        (plan.pairs.is_some() && row + 1 < r1 && j[2] + 1 < stencil.count[2])
                            .then_some([j[0], j[1], j[2] + 1, 0]);
                    row += 1 + usize::from(next.is_some());
                    ahead.clear();
                    if far && row < rows(stencil) {
                        let j = unravel(row * stencil.count[3], stencil.count);
                        plan.reaches.choose((roles, stencil), j, None, &mut chosen);
                        ask_source(roles, (x, sources), &chosen, &mut asked, &mut ahead);
                        let dy = &dy[roles.target.at(j)..];
                        let columns = (stencil.count[3], pixel);
                        ahead.push(ahead_of(dy.as_ptr(), columns, (count, plane)));
                    }
                    plan.reaches.choose((roles, stencil), j, next, &mut chosen);
                    let read = (&segment, reading.read(&segment, pace, &mut chosen));
                    let of = (&plan.channels, count);
                    let row =
                        channel_row_of((pace, places), of, read, &mut chosen.runs, &mut ahead);
                    let at = |j| roles.target.at(j) + segment.first * pixel;
                    let both = &mut both[..if copied { segment.width * count } else { 0 }];
                    let level = plan.pairs.unwrap_or(job.level);
                    if turned {
                        let size = (count, segment.width);
                        transpose(level, &dy[at(j)..], plane, size, both, count);
                    } else if plan.pairs.is_some() {
                        let rows = [Some(at(j)), next.map(at)];
                        copy_rows((level, true), (dy, pixel), rows, count, both);
                    } else {
                        channel_gradient(level, row, (&dy[at(j)..], pixel), sums);
                        continue;
                    }
                    channel_gradient(level, row, (&*both, count), sums);
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
        for (nth, sums) in sums.chunks_exact_mut(lanes).enumerate() {
            let (rest, tap) = (nth / taps, nth % taps);
            let (lane, channel) = (rest / sources * lanes, rest % sources);
            // groups follow one another as the target channels of a group do
            let at = (first + lane) * roles.weight_target
                + channel * roles.weight_source
                + stencil.taps[self.plan.reaches.places[tap].0].weight;
            let sums = &mut sums[..lanes.min(count - lane)];
            // SAFETY: no other task has these channels.
            unsafe {
                store_strided(
                    self.job.level,
                    sums,
                    target,
                    (at, roles.weight_target),
                    write,
                )
            };
        }
        Ok(())
    }
}
