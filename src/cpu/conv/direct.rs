//! fprop and dgrad of few channels a group, channels first: sums straight from the source.
//!
//! A matrix product reads its packed operand once for every block of target channels; with one or
//! two such blocks, packing costs more than it saves. Here positions of a row are the lanes, a
//! vector of the source is read where it lies, and used for all target channels of a block.

mod tile;

use std::ops::Range;

use super::gemm::Job;
use super::lines::lines;
use super::ring::Ring;
use super::scratch::{product, take};
use super::split::{PIECES, TASKS, share};
use super::stencil::{Roles, Stencil};
use crate::cpu::crew::{each_chunk, try_each};
use crate::cpu::simd::{self, Geometry, HEIGHTS, Lines, MicroKernel, as_acc};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Elements of a tile's sums: they should stay in the L1 cache.
const TILE: usize = 4096;
/// The same where they go to the result at once: more of every page that is written.
const WRITTEN: usize = 8 * TILE;
/// Longest part of a row.
const LONGEST: usize = 1024;
/// Steps of the reduction between loads and stores of the sums.
const CHUNK: usize = 32;

/// One stencil, cut up.
pub(super) struct Grid {
    lines: Lines,
    /// For one filter over planes.
    ring: Option<Ring>,
    /// Rows, and the columns of each part of a row.
    rows: usize,
    row_tiles: usize,
    columns: Vec<Range<usize>>,
    /// Whether sums go to the result at once, with none kept.
    once: bool,
    first_task: usize,
    first_weight: usize,
}

/// How target channels of a group are cut into blocks.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub count: usize,
    pub height: usize,
}

impl Blocks {
    /// Blocks of at most `most` channels, one of [`HEIGHTS`].
    pub fn new(channels: usize, most: usize) -> Self {
        let each = channels.div_ceil(channels.div_ceil(most));
        let height = HEIGHTS.into_iter().find(|&h| h >= each).unwrap_or(most);
        Blocks {
            count: channels.div_ceil(height),
            height,
        }
    }
}

/// What a stencil takes here, and as a matrix product: vector instructions for one vector of positions
/// and one step of the reduction, multiply-adds and what reading the source takes.
pub(super) fn costs<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    blocks: Blocks,
) -> (f64, f64) {
    let Geometry { lanes, rows, .. } = T::Acc::geometry(job.level);
    let (channels, width) = (job.roles.target_channels, stencil.count[3]);
    let load = read_cost(stencil.pace[3]);
    let padded = width.next_multiple_of(lanes) as f64 / width as f64;
    let here = blocks.count as f64 * (blocks.height as f64 + load) * padded;
    let packed = (channels.div_ceil(rows) * 2 + channels) as f64 + PACKING + load;
    (here, packed)
}

/// Whether this is the way to compute a job; if so its stencils cut up, and the blocks.
pub(super) fn plan<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
) -> Option<(Blocks, Vec<Grid>)> {
    let roles = &job.roles;
    let Geometry { lanes, rows, .. } = T::Acc::geometry(job.level);
    as_acc(job.source).filter(|_| job.layout == Layout::ChannelsFirst)?;
    let channels = roles.target_channels;
    let blocks = Blocks::new(channels, simd::direct_tallest(rows));
    // one filter that is no ring: whole planes are packed instead, so that rows have no edges
    let rings = || job.stencils.iter().all(|s| Ring::new(roles, s).is_some());
    ((roles.source_channels, channels) != (1, 1) || rings()).then_some(())?;
    for stencil in &job.stencils {
        let (here, packed) = costs(job, stencil, blocks);
        if here > packed {
            return None;
        }
    }
    let most = simd::direct_vectors(blocks.height, rows);
    let mut grids = Vec::with_capacity(job.stencils.len());
    let (mut tasks, mut weights) = (0, 0usize);
    let outer = product(&[roles.batch, roles.groups, blocks.count]);
    for stencil in &job.stencils {
        let ring = Ring::new(roles, stencil).filter(|_| blocks.height == 1);
        let most = match &ring {
            Some(ring) => simd::direct_vectors(ring.taps, rows),
            None => most,
        };
        let lines = lines(roles, stencil, lanes, most)?;
        let outer = outer.saturating_mul(job.stencils.len());
        let once = once(job, stencil, blocks) && ring.is_none() && stencil.count[3] <= LONGEST;
        let sums = if once { WRITTEN } else { TILE };
        let mut grid = Grid::new(lines, ring, once, sums / blocks.height, outer);
        (grid.first_task, grid.first_weight) = (tasks, weights);
        tasks += grid.tiles() * roles.batch * roles.groups * blocks.count;
        weights += product(&[roles.source_channels, stencil.taps.len(), blocks.height])
            .saturating_mul(roles.groups * blocks.count);
        grids.push(grid);
    }
    Some((blocks, grids))
}

/// Source channels at a time: few, as planes of a power of two lie in the same cache sets.
fn chunk(stencil: &Stencil) -> usize {
    (CHUNK / stencil.taps.len()).clamp(1, 8)
}

/// Whether sums can go to the result as they are: they are not rounded, nothing is added to them, and whatever is written
/// past the end of a row is the next one's.
fn once<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    blocks: Blocks,
) -> bool {
    let roles = &job.roles;
    job.write == Write::Overwrite
        && job.target.as_acc().is_some()
        && stencil.step == [1; 4]
        && stencil.count == roles.target_size
        && stencil.count[3] >= T::Acc::geometry(job.level).lanes
        && roles.source_channels <= chunk(stencil)
        && roles.target_channels.is_multiple_of(blocks.height)
}

/// What packing a vector of the source for a matrix product costs beside reading it.
const PACKING: f64 = 4.0;

/// What reading a vector of positions so many apart takes, in instructions.
pub(super) fn read_cost(pace: usize) -> f64 {
    match pace {
        1 => 1.0,
        2 => 4.0,
        _ => 24.0,
    }
}

impl Grid {
    fn new(lines: Lines, ring: Option<Ring>, once: bool, size: usize, outer: usize) -> Self {
        let width = lines.width;
        let longest = LONGEST.min(size.max(1));
        let count = lines.rows.len();
        let mut rows = (size / width.min(longest)).clamp(1, count);
        let parts = |longest: usize| width.div_ceil(longest).max(1);
        let mut longest = longest;
        while product(&[outer, count.div_ceil(rows), parts(longest)]) < TASKS {
            if rows > 1 {
                rows = rows.div_ceil(2);
            } else if longest > 8 * lines.lanes {
                longest /= 2;
            } else {
                break;
            }
        }
        let mut columns: Vec<Range<usize>> = Vec::new();
        for block in &lines.blocks {
            let end = width.min(block.first + block.vectors * lines.lanes);
            match columns.last_mut() {
                Some(last) if end - last.start <= longest => last.end = end,
                _ => columns.push(block.first..end),
            }
        }
        Grid {
            row_tiles: count.div_ceil(rows),
            lines,
            ring,
            rows,
            columns,
            once,
            first_task: 0,
            first_weight: 0,
        }
    }

    fn tiles(&self) -> usize {
        self.row_tiles * self.columns.len()
    }

    fn tile(&self, roles: &Roles, blocks: Blocks, index: usize) -> Tile {
        let (rest, tile) = (index / self.tiles(), index % self.tiles());
        let (rest, block) = (rest / blocks.count, rest % blocks.count);
        let (row, part) = (tile / self.columns.len(), tile % self.columns.len());
        Tile {
            image: rest / roles.groups,
            group: rest % roles.groups,
            block,
            rows: row * self.rows..self.lines.rows.len().min((row + 1) * self.rows),
            columns: self.columns[part].clone(),
        }
    }
}

/// One task.
struct Tile {
    image: usize,
    group: usize,
    block: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

pub(super) fn run<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    blocks: Blocks,
    grids: &[Grid],
) -> Result<()> {
    let roles = &job.roles;
    let each = roles.groups * blocks.count;
    let tasks = roles.batch * each * grids.iter().map(Grid::tiles).sum::<usize>();
    let sizes = job
        .stencils
        .iter()
        .map(|stencil| packed_len(roles, stencil, blocks) * each);
    // Taken out of its cell for the call: a thread that waits may start another call.
    let mut kept = T::Acc::packed().take();
    let packed = take(&mut kept, sizes.sum())?;
    pack_weights(job, blocks, packed);
    let packed = &*packed;
    let pieces = tasks.min(PIECES);
    let done = try_each(0..pieces, |piece| {
        let (from, to) = share(tasks, pieces, piece);
        T::Acc::scratch().with_borrow_mut(|scratch| {
            (from..to).try_for_each(|task| {
                let s = grids.partition_point(|grid| grid.first_task <= task) - 1;
                let (grid, stencil) = (&grids[s], &job.stencils[s]);
                let tile = grid.tile(roles, blocks, task - grid.first_task);
                let size = packed_len(roles, stencil, blocks);
                let first = grid.first_weight + (tile.group * blocks.count + tile.block) * size;
                let packed = &packed[first..][..size];
                tile::compute(job, stencil, grid, blocks, tile, packed, scratch)
            })
        })
    });
    T::Acc::packed().replace(kept);
    done
}

/// Packs the weights `(stencils, groups, blocks)`.
pub(super) fn pack_weights<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    blocks: Blocks,
    packed: &mut [T::Acc],
) {
    let mut rest = packed;
    for stencil in &job.stencils {
        let size = packed_len(&job.roles, stencil, blocks);
        let (here, after) = rest.split_at_mut(size * job.roles.groups * blocks.count);
        rest = after;
        each_chunk(here, size, |i, to| {
            let (group, block) = (i / blocks.count, i % blocks.count);
            pack(job, stencil, blocks, (group, block), to);
        });
    }
}

/// Packed weights of one block of one group.
pub(super) fn packed_len(roles: &Roles, stencil: &Stencil, blocks: Blocks) -> usize {
    product(&[roles.source_channels, stencil.taps.len(), blocks.height])
}

/// `to (source channels, taps, height)`, zeros past the last target channel.
fn pack<T: Element, S: Element<Acc = T::Acc>>(
    job: &Job<T, S>,
    stencil: &Stencil,
    blocks: Blocks,
    (group, block): (usize, usize),
    to: &mut [T::Acc],
) {
    let roles = &job.roles;
    let first = block * blocks.height;
    let count = blocks.height.min(roles.target_channels - first);
    let from = &job.weight[group * roles.weight_group + first * roles.weight_target..];
    let taps = stencil.taps.len();
    for (step, to) in to.chunks_exact_mut(blocks.height).enumerate() {
        let at = step / taps * roles.weight_source + stencil.taps[step % taps].weight;
        for (m, to) in to.iter_mut().enumerate() {
            *to = match m < count {
                true => from[at + m * roles.weight_target].to_acc(),
                false => T::Acc::default(),
            };
        }
    }
}
