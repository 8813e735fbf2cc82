//! wgrad of few channels a group, channels first: products of rows straight from both operands.
//!
//! Positions of a row are the lanes of both `x` and `dy`, so neither is packed or transposed; the
//! lanes are added up once, at the end.

use super::direct::read_cost;
use super::lines::lines;
use super::ring::{Ring, segments};
use super::scratch::Scratch;
use super::split::{self, Sums, share};
use super::wgrad::Job;
use crate::cpu::output::Output;
use crate::cpu::simd::{self, DirectGradient, Geometry, Lines, MicroKernel, as_acc};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Positions of a chunk of rows: what a tile reads of one chunk stays in the L2 cache.
const POSITIONS: usize = 1 << 13;

/// How the result is cut up.
pub(super) struct Plan {
    lines: Lines,
    /// For one filter over planes; a tile is a whole filter then.
    ring: Option<Ring>,
    /// Target channels and pairs of a tile, and numbers of tiles.
    height: usize,
    row_tiles: usize,
    pair_tiles: usize,
    /// Chunks of the rows of one image.
    chunks: usize,
}

/// What a job takes here, and by outer products: instructions for one vector of positions and all of
/// a group's result, with so many target channels and pairs a tile.
pub(super) fn costs<T: Element>(job: &Job<T>, (height, most): (usize, usize)) -> (f64, f64) {
    let roles = &job.roles;
    let Geometry { lanes, .. } = T::Acc::geometry(job.level);
    let all = roles.source_channels * job.stencil.taps.len();
    let width = job.stencil.count[3];
    let padded = width.next_multiple_of(lanes) as f64 / width as f64;
    let load = read_cost(job.stencil.pace[3]);
    let tiles = roles.target_channels.div_ceil(height) * all.div_ceil(most);
    let (h, p) = (height as f64, most as f64);
    let here = tiles as f64 * (h * p + h + p * load) * padded;
    let (channels, all) = (roles.target_channels as f64, all as f64);
    let wide = (roles.target_channels).next_multiple_of(lanes) as f64;
    let packed = all * (wide + PACKING + load) + channels * PACKING;
    (here, packed)
}

/// Whether this is the way to compute a job.
pub(super) fn plan<T: Element>(job: &Job<T>) -> Option<Plan> {
    let roles = &job.roles;
    let Geometry { lanes, rows, .. } = T::Acc::geometry(job.level);
    as_acc(job.x).filter(|_| job.layouts.activation == Layout::ChannelsFirst)?;
    let (height, most) = simd::gradient_tile(roles.target_channels, rows);
    let all = roles.source_channels * job.stencil.taps.len();
    let ring = Ring::new(roles, &job.stencil).filter(|_| roles.target_channels == 1);
    // one filter that is no ring: whole planes are packed instead, so that rows have no edges
    ((roles.source_channels, roles.target_channels) != (1, 1) || ring.is_some()).then_some(())?;
    let most = if ring.is_some() { all } else { most };
    let pair_tiles = all.div_ceil(most);
    let row_tiles = roles.target_channels.div_ceil(height);
    let (here, packed) = costs(job, (height, most));
    (here <= packed).then_some(())?;
    let lines = lines(roles, &job.stencil, lanes, 1)?;
    let chunks = (lines.rows.len() * lines.width).div_ceil(POSITIONS);
    Some(Plan {
        height,
        row_tiles,
        pair_tiles,
        chunks: chunks.min(lines.rows.len()),
        lines,
        ring,
    })
}

/// What packing a vector for a matrix product costs beside reading it.
const PACKING: f64 = 4.0;

pub(super) fn run<T: Element>(job: &Job<T>, plan: Plan, dw: &mut [T], write: Write) -> Result<()> {
    let tiles = job.roles.groups * plan.row_tiles * plan.pair_tiles;
    let chunks = job.roles.batch * plan.chunks;
    split::run(job.level, &Rows { job, plan }, (tiles, chunks), dw, write)
}

struct Rows<'a, 'b, T> {
    job: &'a Job<'b, T>,
    plan: Plan,
}

/// Half-open ranges of one group's target channels, and of its pairs of a source channel and a tap.
struct Tile {
    group: usize,
    channels: (usize, usize),
    pairs: (usize, usize),
}

impl<T: Element> Rows<'_, '_, T> {
    fn tile(&self, index: usize) -> Tile {
        let (plan, roles) = (&self.plan, &self.job.roles);
        let all = roles.source_channels * self.job.stencil.taps.len();
        let (rest, k) = (index / plan.pair_tiles, index % plan.pair_tiles);
        let (group, m) = (rest / plan.row_tiles, rest % plan.row_tiles);
        Tile {
            group,
            channels: share(roles.target_channels, plan.row_tiles, m),
            pairs: share(all, plan.pair_tiles, k),
        }
    }

    /// Vectors of sums of one target channel.
    fn places(&self, tile: &Tile) -> usize {
        let pairs = tile.pairs.1 - tile.pairs.0;
        match self.plan.ring {
            Some(_) => pairs,
            None => simd::gradient_places(pairs),
        }
    }

    /// Source channels and taps.
    fn pairs(&self, tile: &Tile) -> Vec<(usize, usize)> {
        let taps = self.job.stencil.taps.len();
        let pair = |p: usize| match &self.plan.ring {
            Some(ring) => (0, ring.tap(p)),
            None => (p / taps, p % taps),
        };
        (tile.pairs.0..tile.pairs.1).map(pair).collect()
    }
}

impl<T: Element> Sums<T> for Rows<'_, '_, T> {
    fn size(&self, tile: usize) -> usize {
        let lanes = T::Acc::geometry(self.job.level).lanes;
        self.plan.height * self.places(&self.tile(tile)) * lanes
    }

    fn add(
        &self,
        tile: usize,
        chunks: (usize, usize),
        sums: &mut [T::Acc],
        _: &mut Scratch<T::Acc>,
    ) -> Result<()> {
        let (job, plan, roles) = (self.job, &self.plan, &self.job.roles);
        let geometry = T::Acc::geometry(job.level);
        let lanes = geometry.lanes;
        let tile = self.tile(tile);
        let (group, (m0, m1)) = (tile.group, tile.channels);
        let pairs = self.pairs(&tile);
        for chunk in chunks.0..chunks.1 {
            let (image, chunk) = (chunk / plan.chunks, chunk % plan.chunks);
            let (r0, r1) = share(plan.lines.rows.len(), plan.chunks, chunk);
            let first = group * roles.source_channels * roles.source.channel;
            let x = &job.x[image * roles.source.outer..][..roles.source.outer][first..];
            let dy = |m: usize| {
                let channel = group * roles.target_channels + m;
                let first = image * roles.target.outer + channel * roles.target.channel;
                as_acc(&job.dy[first..][..roles.target.channel])
            };
            // channels past the tile's last repeat it, and are not stored
            let dy = [0, 1, 2, 3].map(|i| dy((m0 + i).min(m1 - 1)).unwrap_or(&[]));
            let Some(x) = as_acc(x) else {
                return Ok(()); // `plan` has looked
            };
            if let Some(ring) = &plan.ring {
                let height = job.stencil.count[2];
                for (rows, plane) in segments(r0..r1, height) {
                    let dy = &dy[0][plane * height * plan.lines.width..];
                    let plane = ring.plane(roles, &job.stencil, plane, rows, height, x);
                    let each = simd::ring_columns(ring.taps, geometry.rows);
                    for (i, sums) in sums.chunks_mut(each * ring.taps * lanes).enumerate() {
                        let columns = i * each..plan.lines.columns.len().min((i + 1) * each);
                        let plane = plane.clone();
                        simd::ring_gradient(job.level, &plan.lines, plane, dy, columns, sums);
                    }
                }
                continue;
            }
            simd::direct_gradient(
                job.level,
                plan.height,
                DirectGradient {
                    lines: &plan.lines,
                    rows: r0..r1,
                    x,
                    plane: roles.source.channel,
                    dy,
                    pairs: &pairs,
                    sums,
                },
            );
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
        let pairs = self.pairs(&tile);
        let rows = sums.chunks_exact(self.places(&tile) * lanes);
        for (m, sums) in (tile.channels.0..tile.channels.1).zip(rows) {
            for (&(channel, tap), lanes) in pairs.iter().zip(sums.chunks_exact(lanes)) {
                let weight = (tile.group, m, channel, tap);
                // SAFETY: no other task has this tile.
                unsafe { job.store_lanes(weight, lanes, target, write) };
            }
        }
        Ok(())
    }
}
