//! wgrad of few channels a group, channels first: products of rows straight from both operands.
//!
//! Positions of a row are the lanes of both `x` and `dy`, so neither is packed or transposed; the
//! lanes are added up once, at the end.

use super::direct::read_cost;
use super::lines::lines;
use super::ring::{Ring, segments};
use super::scratch::Scratch;
use super::split::{Split, share};
use super::wgrad::{Job, with_scratch};
use crate::cpu::output::{Output, store};
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

/// Whether this is the way to compute a job.
pub(super) fn plan<T: Element>(job: &Job<T>) -> Option<Plan> {
    let roles = &job.roles;
    let Geometry { lanes, rows } = T::Acc::geometry(job.level);
    as_acc(job.x).filter(|_| job.layouts.activation == Layout::ChannelsFirst)?;
    let (height, most) = simd::gradient_tile(roles.target_channels, rows);
    let all = roles.source_channels * job.stencil.taps.len();
    let ring = Ring::new(roles, &job.stencil).filter(|_| roles.target_channels == 1);
    // one filter that is no ring: whole planes are packed instead, so that rows have no edges
    ((roles.source_channels, roles.target_channels) != (1, 1) || ring.is_some()).then_some(())?;
    let most = if ring.is_some() { all } else { most };
    let pair_tiles = all.div_ceil(most);
    let width = job.stencil.count[3];
    let padded = width.next_multiple_of(lanes) as f64 / width as f64;
    let load = read_cost(job.stencil.pace[3]);
    let row_tiles = roles.target_channels.div_ceil(height);
    // instructions for one vector of positions and all of a group's result
    let (h, p) = (height as f64, most as f64);
    let here = (row_tiles * pair_tiles) as f64 * (h * p + h + p * load) * padded;
    let (channels, all) = (roles.target_channels as f64, all as f64);
    let wide = (roles.target_channels).next_multiple_of(lanes) as f64;
    let packed = all * (wide + PACKING + load) + channels * PACKING;
    (here <= packed).then_some(())?;
    let lines = lines(roles, &job.stencil, lanes, 1)?;
    let chunks = (lines.rows.len() * width).div_ceil(POSITIONS);
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

pub(super) fn run<T: Element>(job: &Job<T>, plan: &Plan, dw: &mut [T], write: Write) -> Result<()> {
    let run = Split {
        tiles: job.roles.groups * plan.row_tiles * plan.pair_tiles,
        chunks: job.roles.batch * plan.chunks,
    };
    run.run(
        dw,
        write,
        |i, chunks, target| with_scratch(|s| part(job, plan, i, chunks, s, (target, 0), write)),
        |i, chunks, target, first| {
            let write = Write::Overwrite;
            with_scratch(|s| part(job, plan, i, chunks, s, (target, first), write))
        },
    )
}

/// The images and rows `chunks` of one tile, to `target[start..]`.
fn part<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T>,
    plan: &Plan,
    index: usize,
    chunks: (usize, usize),
    scratch: &mut Scratch<T::Acc>,
    (target, start): (&Output<S>, usize),
    write: Write,
) -> Result<()> {
    let roles = &job.roles;
    let geometry = T::Acc::geometry(job.level);
    let lanes = geometry.lanes;
    let taps = job.stencil.taps.len();
    let (rest, k) = (index / plan.pair_tiles, index % plan.pair_tiles);
    let (group, m) = (rest / plan.row_tiles, rest % plan.row_tiles);
    let (p0, p1) = share(roles.source_channels * taps, plan.pair_tiles, k);
    let (m0, m1) = share(roles.target_channels, plan.row_tiles, m);
    let pairs: Vec<(usize, usize)> = match &plan.ring {
        Some(ring) => (p0..p1).map(|p| (0, ring.tap(p))).collect(),
        None => (p0..p1).map(|p| (p / taps, p % taps)).collect(),
    };
    let places = match plan.ring {
        Some(_) => pairs.len(),
        None => simd::gradient_places(pairs.len()),
    };
    let sums = scratch.c.take(plan.height * places * lanes)?;
    sums.fill(T::Acc::default());
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
    for (m, sums) in (m0..m1).zip(sums.chunks_exact(places * lanes)) {
        for (&(channel, tap), lanes) in pairs.iter().zip(sums.chunks_exact(lanes)) {
            let at = start
                + group * roles.weight_group
                + m * roles.weight_target
                + channel * roles.weight_source
                + job.stencil.taps[tap].weight;
            let mut sum = [lanes.iter().copied().sum()];
            // SAFETY: no other task has this tile, and splits have parts of their own.
            store(&mut sum, unsafe { target.part(at, 1) }, write);
        }
    }
    Ok(())
}
