//! fprop and dgrad of few channels a group with short rows, channels first: filters over [`Flat`]
//! planes.

use super::direct::{Blocks, costs, pack_weights, packed_len};
use super::flat::{Flat, Planes};
use super::gemm::Job;
use super::scratch::{Scratch, product, take};
use super::split::{PIECES, share};
use super::stencil::Stencil;
use crate::cpu::crew::try_each;
use crate::cpu::output::add_scalar;
use crate::cpu::simd::{
    Geometry, MicroKernel, PlaneFilters, Step, direct_tallest, direct_vectors, finish_rows,
    plane_filters,
};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Packed elements of a box: they should stay in the L2 cache.
const LARGEST: usize = 1 << 16;

/// What moving a vector takes, in instructions: most are not aligned to lines of the cache.
pub(super) const MOVING: f64 = 6.0;
/// Packed elements that stay in the L1 cache; moving more takes twice as long.
const NEAR: usize = 1 << 13;
/// What a step takes beside its multiply-adds.
const STEP: f64 = 0.4;
/// Channels of source or target up to which the estimates hold.
const FEW: usize = 32;

/// How fprop or dgrad is cut up.
pub(super) struct Plan {
    blocks: Blocks,
    flats: Vec<Flat>,
}

/// Whether this is the way to compute a job: by what it takes for one vector of positions and one
/// step of the reduction, as in [`costs`].
pub(super) fn plan<T: Element>(job: &Job<T>) -> Option<Plan> {
    let roles = &job.roles;
    let geometry = T::Acc::geometry(job.level);
    (job.layout == Layout::ChannelsFirst && !job.pairs_pay()).then_some(())?;
    let blocks = Blocks::new(roles.target_channels, direct_tallest(geometry.rows));
    let tasks = product(&[roles.batch, roles.groups, job.stencils.len()]);
    let (source, target) = (roles.source_channels as f64, roles.target_channels as f64);
    (roles.source_channels.min(roles.target_channels) <= FEW).then_some(())?;
    let mut flats = Vec::with_capacity(job.stencils.len());
    for stencil in &job.stencils {
        let size = (roles.source_channels, LARGEST);
        let flat = Flat::new(roles, stencil, geometry.lanes, size, tasks)?;
        let (rows, packed) = costs(job, stencil, blocks);
        let rows = rows.max(loads(stencil, blocks, geometry));
        let taps = stencil.taps.len() as f64;
        let products = blocks.count as f64 * (blocks.height as f64 + STEP) * flat.waste();
        let size = roles.source_channels * flat.planes() * flat.plane;
        let moving = if size <= NEAR { MOVING } else { 2.0 * MOVING };
        let packing = moving * flat.moved() * flat.halo() / taps;
        let storing = (flat.moved() - 1.0) * moving * target / (source * taps);
        (products + packing + storing < rows.min(packed)).then_some(())?;
        flats.push(flat);
    }
    Some(Plan { blocks, flats })
}

/// What rows apart take if loads are what they wait for: of a step the weights and, in two lines of
/// the cache and with a mask, the vectors.
fn loads(stencil: &Stencil, blocks: Blocks, geometry: Geometry) -> f64 {
    let Geometry { lanes, rows, .. } = geometry;
    let all = stencil.count[3].div_ceil(lanes);
    let vectors = all.min(direct_vectors(blocks.height, rows)) as f64;
    let step = blocks.height as f64 + 2.0 * vectors + 1.0;
    let padded = (all * lanes) as f64 / stencil.count[3] as f64;
    blocks.count as f64 * step / vectors * padded
}

pub(super) fn run<T: Element>(job: &Job<T>, plan: &Plan) -> Result<()> {
    let roles = &job.roles;
    let outer = roles.batch * roles.groups;
    let (mut firsts, mut weights, mut tasks, mut length) = (vec![], vec![], 0, 0usize);
    for (stencil, flat) in job.stencils.iter().zip(&plan.flats) {
        firsts.push(tasks);
        weights.push(length);
        tasks += outer * product(&flat.boxes);
        let each = packed_len(roles, stencil, plan.blocks);
        length = length.saturating_add(each.saturating_mul(roles.groups * plan.blocks.count));
    }
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    let packed = take(&mut kept, length)?;
    pack_weights(job, plan.blocks, packed);
    let packed = &*packed;
    let pieces = tasks.min(PIECES);
    let done = try_each(0..pieces, |piece| {
        let (from, to) = share(tasks, pieces, piece);
        T::Acc::scratch().with_borrow_mut(|scratch| {
            (from..to).try_for_each(|task| {
                let s = firsts.partition_point(|&first| first <= task) - 1;
                let (stencil, flat) = (&job.stencils[s], &plan.flats[s]);
                let boxes = product(&flat.boxes);
                let (outer, index) = ((task - firsts[s]) / boxes, (task - firsts[s]) % boxes);
                let (image, group) = (outer / roles.groups, outer % roles.groups);
                let each = packed_len(roles, stencil, plan.blocks) * plan.blocks.count;
                let part = Part {
                    job,
                    stencil,
                    flat,
                    blocks: plan.blocks,
                    image,
                    group,
                    planes: flat.at(index, stencil),
                    weights: &packed[weights[s] + group * each..][..each],
                };
                part.compute(scratch)
            })
        })
    });
    T::Acc::packed().replace(kept);
    done
}

/// One task.
struct Part<'a, 'b, T: Element> {
    job: &'a Job<'b, T>,
    stencil: &'a Stencil,
    flat: &'a Flat,
    blocks: Blocks,
    image: usize,
    group: usize,
    planes: Planes,
    /// Of the group.
    weights: &'a [T::Acc],
}

impl<T: Element> Part<'_, '_, T> {
    fn compute(&self, scratch: &mut Scratch<T::Acc>) -> Result<()> {
        let (roles, flat, planes) = (&self.job.roles, self.flat, self.planes);
        let lanes = T::Acc::geometry(self.job.level).lanes;
        let channels = roles.source_channels;
        let first = self.image * roles.source.outer + self.group * channels * roles.source.channel;
        let source = &self.job.source[first..];
        let each = flat.planes() * flat.plane;
        let packed = scratch.a.take(channels * each)?;
        for (channel, to) in packed.chunks_exact_mut(each).enumerate() {
            let from = &source[channel * roles.source.channel..][..roles.source.channel];
            flat.pack(self.job.level, roles, planes, from, to);
        }
        let vectors = flat.span(planes.size[2]).div_ceil(lanes);
        let pitch = vectors * lanes;
        let height = self.blocks.height;
        let sums = scratch.c.take(pitch * height)?;
        let size = packed_len(roles, self.stencil, self.blocks).max(1);
        for at in planes.outer() {
            scratch.steps.clear();
            for (tap, (_, offset)) in flat.taps.iter().enumerate() {
                let plane = flat.reads(roles, planes, at, tap);
                scratch.steps.extend(plane.map(|plane| Step {
                    source: plane + offset,
                    weight: tap,
                }));
            }
            for (block, weights) in self.weights.chunks_exact(size).enumerate() {
                let operands = PlaneFilters {
                    steps: &scratch.steps,
                    source: packed,
                    plane: each,
                    weights,
                    taps: flat.taps.len(),
                    target: sums,
                    pitch,
                    vectors,
                };
                plane_filters(self.job.level, height, operands);
                let channels = block * height..roles.target_channels.min((block + 1) * height);
                for (m, sums) in channels.zip(sums.chunks_exact_mut(pitch)) {
                    self.store(at, m, sums);
                }
            }
        }
        Ok(())
    }

    /// Stores the sums of a plane of one target channel.
    fn store(&self, at: [usize; 2], m: usize, sums: &mut [T::Acc]) {
        let (job, roles) = (self.job, &self.job.roles);
        let channel = self.group * roles.target_channels + m;
        if let Some(bias) = job.bias {
            add_scalar(sums, bias[channel].to_acc());
        }
        let first = self.image * roles.target.outer + channel * roles.target.channel;
        let (stencil, flat, rows) = (self.stencil, self.flat, self.planes.size[2]);
        let to = |row| first + roles.target.at(stencil.target(self.planes.row(at, row)));
        let (width, whole) = (stencil.count[3], roles.target_size[3]);
        let dense = stencil.step == [1; 4] && width == whole && job.write == Write::Overwrite;
        let pitch = flat.row(1).start;
        if dense && job.streams() {
            for row in 1..rows {
                sums.copy_within(flat.row(row), row * width);
            }
            // SAFETY: boxes do not overlap, and no other task has this one.
            let target = unsafe { job.target.part(to(0), rows * width) };
            return job.store(&mut sums[..rows * width], target);
        }
        if dense {
            // SAFETY: boxes do not overlap, and no other task has this one.
            let target = unsafe { job.target.part(to(0), rows * width) };
            let from = (&*sums, pitch);
            finish_rows(job.level, from, (rows, width), (target, width));
            return;
        }
        for row in 0..rows {
            let (to, sums) = (to(row), &mut sums[flat.row(row)]);
            // SAFETY: as above.
            unsafe { job.store_row(sums, to, stencil.step[3]) };
        }
    }
}
