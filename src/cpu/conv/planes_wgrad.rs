//! wgrad of few channels a group, channels first: products of [`Flat`] planes of both operands.
//!
//! Positions of whole planes are the lanes of both `x` and `dy`; they are added up once, at the end.

use std::ops::Range;

use super::direct::Blocks;
use super::direct_wgrad::costs;
use super::flat::{Flat, Planes};
use super::planes::MOVING;
use super::scratch::Scratch;
use super::split::{self, Sums, TASKS, share};
use super::wgrad::Job;
use crate::cpu::output::Output;
use crate::cpu::simd::{
    Geometry, MicroKernel, PlaneGradient, gradient_places, gradient_tile, plane_gradient,
    plane_height, plane_runs, spread_rows,
};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Packed elements of `x` for a box: with those of `dy` they stay in the L2 cache.
const LARGEST: usize = 1 << 15;
/// Pairs of a source channel and a tap that make it worth packing `dy` for a tile.
const PAIRS: usize = 128;

/// How the result is cut up.
pub(super) struct Plan {
    flat: Flat,
    /// Taps of the same planes, in runs that the kernel takes at a time.
    planes: Vec<Vec<Range<usize>>>,
    blocks: Blocks,
    /// Of a box that has all rows, as [`Flat`] makes them.
    masks: Vec<u32>,
    /// Tiles of source channels.
    channel_tiles: usize,
    /// Chunks of the images, which are packed together where those are small.
    image_chunks: usize,
}

/// What a vector of the result takes for every chunk, and once, to be added up and stored.
const SUM: f64 = 3.0;
const RESULT: f64 = 16.0;

/// Whether this is the way to compute a job: by what it takes for one vector of positions and all of
/// a group's result, as in [`costs`].
pub(super) fn plan<T: Element>(job: &Job<T>) -> Option<Plan> {
    let roles = &job.roles;
    (roles.target_channels > 1).then_some(())?;
    let Geometry { lanes, rows, .. } = T::Acc::geometry(job.level);
    (job.layouts.activation == Layout::ChannelsFirst).then_some(())?;
    let blocks = Blocks::new(roles.target_channels, plane_height(rows));
    let taps = &job.stencil.taps;
    let together = PAIRS.div_ceil(taps.len().max(1)).min(roles.source_channels);
    let channel_tiles = roles.source_channels.div_ceil(together);
    let tasks = roles.batch * roles.groups * blocks.count * channel_tiles;
    let size = (together, LARGEST);
    let flat = Flat::new(roles, &job.stencil, lanes, size, tasks)?;
    let mut planes: Vec<Vec<Range<usize>>> = Vec::new();
    let mut from = 0;
    let mut places = 0;
    for same in taps.chunk_by(|a, b| a.offset[..2] == b.offset[..2]) {
        let runs = plane_runs(same.len(), blocks.height, rows);
        let run = |i| share(same.len(), runs, i);
        planes.push(
            (0..runs)
                .map(|i| from + run(i).0..from + run(i).1)
                .collect(),
        );
        places += runs * gradient_places(same.len().div_ceil(runs));
        from += same.len();
    }
    let boxes: usize = flat.boxes.iter().product();
    let image = flat.planes() * flat.plane * together;
    let images = (LARGEST / image.max(1)).clamp(1, roles.batch.max(1));
    let enough = TASKS.div_ceil(tasks / roles.batch.max(1) * boxes);
    let image_chunks = roles.batch.div_ceil(images).max(enough).min(roles.batch);
    let (source, target) = (roles.source_channels as f64, roles.target_channels as f64);
    let all = (blocks.count * blocks.height * places) as f64 * source;
    let packed = source * flat.halo() * blocks.count as f64 + target * channel_tiles as f64;
    let vectors = (roles.batch * job.stencil.positions()) as f64 / lanes as f64;
    let chunks = SUM * (image_chunks * boxes) as f64;
    let loads = (blocks.count * places) as f64 * source;
    let here = (all + loads) * flat.waste() + packed * MOVING * flat.moved();
    let result = all * (RESULT + chunks) / vectors;
    let (rows, products) = costs(job, gradient_tile(roles.target_channels, rows));
    (here + result < rows.min(products)).then_some(())?;
    Some(Plan {
        image_chunks,
        masks: flat.masks(flat.rows()),
        flat,
        planes,
        blocks,
        channel_tiles,
    })
}

pub(super) fn run<T: Element>(job: &Job<T>, plan: Plan, dw: &mut [T], write: Write) -> Result<()> {
    let tiles = job.roles.groups * plan.blocks.count * plan.channel_tiles;
    let chunks = plan.image_chunks * plan.flat.boxes.iter().product::<usize>();
    split::run(
        job.level,
        &Products { job, plan },
        (tiles, chunks),
        dw,
        write,
    )
}

struct Products<'a, 'b, T> {
    job: &'a Job<'b, T>,
    plan: Plan,
}

/// Channels of a group.
struct Tile {
    group: usize,
    targets: Range<usize>,
    sources: Range<usize>,
}

impl<T: Element> Products<'_, '_, T> {
    fn tile(&self, index: usize) -> Tile {
        let (plan, roles) = (&self.plan, &self.job.roles);
        let (rest, c) = (index / plan.channel_tiles, index % plan.channel_tiles);
        let (group, block) = (rest / plan.blocks.count, rest % plan.blocks.count);
        let sources = share(roles.source_channels, plan.channel_tiles, c);
        let targets = share(roles.target_channels, plan.blocks.count, block);
        Tile {
            group,
            targets: targets.0..targets.1,
            sources: sources.0..sources.1,
        }
    }

    /// Elements of the sums of a run of taps and one source channel.
    fn sums(&self, run: &Range<usize>) -> usize {
        let lanes = T::Acc::geometry(self.job.level).lanes;
        self.plan.blocks.height * gradient_places(run.len()) * lanes
    }

    /// Copies a target channel's planes of a box, to `size` elements each.
    fn pack(&self, first: usize, planes: Planes, size: usize, to: &mut [T::Acc]) {
        let (job, target, flat) = (self.job, &self.job.roles.target, &self.plan.flat);
        let rows = planes.size[2];
        let (pitch, width) = (flat.row(1).start, job.stencil.count[3]);
        for (at, to) in planes.outer().zip(to.chunks_exact_mut(size)) {
            let first = first + target.at(planes.row(at, 0));
            let (to, rest) = to.split_at_mut(rows * pitch);
            rest.fill(T::Acc::default());
            let from = (&job.dy[first..], target.spatial[2]);
            spread_rows(job.level, from, (rows, width), (to, pitch));
        }
    }
}

impl<T: Element> Sums<T> for Products<'_, '_, T> {
    fn size(&self, tile: usize) -> usize {
        let runs = self.plan.planes.iter().flatten();
        self.tile(tile).sources.len() * runs.map(|run| self.sums(run)).sum::<usize>()
    }

    fn add(
        &self,
        tile: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, plan, roles) = (self.job, &self.plan, &self.job.roles);
        let flat = &plan.flat;
        let lanes = T::Acc::geometry(job.level).lanes;
        let tile = self.tile(tile);
        let boxes: usize = flat.boxes.iter().product();
        let each = flat.planes() * flat.plane;
        let offsets: Vec<usize> = flat.taps.iter().map(|tap| tap.1).collect();
        let mut places = Vec::new();
        for chunk in chunks.0..chunks.1 {
            let (chunk, index) = (chunk / boxes, chunk % boxes);
            let images = share(roles.batch, plan.image_chunks, chunk);
            let images = images.0..images.1;
            let planes = flat.at(index, &job.stencil);
            let x_pitch = images.len() * each;
            let x = scratch.a.take(tile.sources.len() * x_pitch)?;
            for (channel, to) in tile.sources.clone().zip(x.chunks_exact_mut(x_pitch)) {
                let channel = tile.group * roles.source_channels + channel;
                for (image, to) in images.clone().zip(to.chunks_exact_mut(each)) {
                    let first = image * roles.source.outer + channel * roles.source.channel;
                    let from = &job.x[first..][..roles.source.channel];
                    flat.pack(job.level, roles, planes, from, to);
                }
            }
            let fewer;
            let masks = match planes.size[2] == flat.rows() {
                true => &plan.masks,
                false => {
                    fewer = flat.masks(planes.size[2]);
                    &fewer
                }
            };
            let size = (planes.size[2] * flat.row(1).start).max(masks.len() * lanes);
            let image_planes = planes.outer().count();
            let dy_image = image_planes * size;
            let pitch = images.len() * dy_image;
            let dy = scratch.b.take(plan.blocks.height * pitch)?;
            for (m, to) in tile.targets.clone().zip(dy.chunks_exact_mut(pitch)) {
                let channel = tile.group * roles.target_channels + m;
                for (image, to) in images.clone().zip(to.chunks_exact_mut(dy_image)) {
                    let first = image * roles.target.outer + channel * roles.target.channel;
                    self.pack(first, planes, size, to);
                }
            }
            let mut rest = &mut *sums;
            for runs in &plan.planes {
                places.clear();
                for (n, at) in planes.outer().enumerate() {
                    let Some(from) = flat.reads(roles, planes, at, runs[0].start) else {
                        continue;
                    };
                    let place = |image| (image * dy_image + n * size, image * each + from);
                    places.extend((0..images.len()).map(place));
                }
                for x in x.chunks_exact(x_pitch) {
                    for run in runs {
                        let (here, after) = rest.split_at_mut(self.sums(run));
                        rest = after;
                        let operands = PlaneGradient {
                            planes: &places,
                            masks,
                            dy,
                            pitch,
                            x,
                            offsets: &offsets[run.clone()],
                            sums: here,
                        };
                        plane_gradient(job.level, plan.blocks.height, operands);
                    }
                }
            }
        }
        Ok(())
    }

    fn store(
        &self,
        tile: usize,
        sums: &mut [T::Acc],
        _: &mut Scratch<T::Acc>,
        target: &Output<T>,
        write: Write,
    ) -> Result<()> {
        let job = self.job;
        let lanes = T::Acc::geometry(job.level).lanes;
        let tile = self.tile(tile);
        let mut rest = &*sums;
        for runs in &self.plan.planes {
            for channel in tile.sources.clone() {
                for run in runs {
                    let (here, after) = rest.split_at(self.sums(run));
                    rest = after;
                    let rows = here.chunks_exact(gradient_places(run.len()) * lanes);
                    for (m, sums) in tile.targets.clone().zip(rows) {
                        for (tap, lanes) in run.clone().zip(sums.chunks_exact(lanes)) {
                            let weight = (tile.group, m, channel, tap);
                            // SAFETY: no other task has this tile.
                            unsafe { job.store_lanes(weight, lanes, target, write) };
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
