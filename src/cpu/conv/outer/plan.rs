//! How the result of wgrad, and the positions that it is a sum over, are cut up.

use std::ops::Range;

use super::super::split::TASKS;
use super::super::wgrad::Job;
use super::operands::pixels;
use crate::cpu::simd::{Geometry, MicroKernel};
use crate::element::Element;
use crate::shape::Layout;

/// Most target channels of a tile; of one tap, whose pixels are best read whole.
const HEIGHT: usize = 128;
const WHOLE: usize = 256;
/// Sums of a tile, and elements of both operands' blocks: together they stay in the L2 cache.
const SUMS: usize = 1 << 16;
const BLOCK: usize = 1 << 16;
/// Fewest and most positions of a block, where there are as many.
const POSITIONS: Range<usize> = 64..512;
/// Most, about, where there is one tap, which shares nothing with others: what a register tile reads of
/// them stays in the L1 cache.
const POINTS: usize = 192;
/// Multiply-adds for every element of both operands, from which on it is worth packing them (tests have few).
const WORTH: usize = if cfg!(test) { 8 } else { 24 };
/// Multiply-adds that the processor has under way: a register tile of fewer waits for them.
const CHAINS: usize = 8;
/// Elements of a copy of `x` beside the block's own, up to which taps share it.
const HALO: usize = 1 << 16;

/// How the result and its sums are cut up.
pub(super) struct Plan {
    /// Tiles of the target channels.
    pub tiles: usize,
    pub parts: Vec<Part>,
    /// Whether the lanes are the target channels, and the rows those of the parts.
    pub turned: bool,
    /// Whether there is one tap, and both operands are packed.
    pub points: bool,
    /// Blocks of the positions of one image.
    pub blocks: usize,
    /// Images whose positions are one block.
    pub images: usize,
}

/// Source channels and taps of a tile.
pub(super) struct Part {
    pub channels: Range<usize>,
    pub runs: Vec<Run>,
    /// Runs that share a copy of `x`.
    pub spans: Vec<Range<usize>>,
    /// Lanes of all runs.
    pub width: usize,
}

/// Taps whose lanes are next to each other, in `x` as in the sums.
pub(super) struct Run {
    pub taps: Range<usize>,
    pub lanes: usize,
    /// Where its lanes begin in a row of sums.
    pub place: usize,
}

impl Plan {
    pub fn new<T: Element>(job: &Job<T>) -> Self {
        let Job { roles, stencil, .. } = job;
        let geometry = T::Acc::geometry(job.level);
        let lanes = geometry.lanes;
        let wide = 2 * lanes;
        let (channels, taps) = (roles.source_channels, stencil.taps.len());
        let last = job.layouts.activation == Layout::ChannelsLast;
        let worth = channels * roles.target_channels / (channels + roles.target_channels) >= WORTH;
        let points = taps == 1 && last && worth && !job.level.pairs();
        let most = if points { WHOLE } else { HEIGHT };
        let target_tiles = roles.target_channels.div_ceil(most);
        let height = roles.target_channels.div_ceil(target_tiles);
        let width = SUMS / height;
        let most = (width / taps / wide * wide).max(wide);
        let tiles = channels.div_ceil(most);
        let each = match tiles {
            1 => channels,
            _ => channels.div_ceil(tiles).next_multiple_of(wide),
        };
        let parts: Vec<Part> = (0..channels)
            .step_by(each)
            .map(|first| first..channels.min(first + each))
            .flat_map(|channels| job.parts(channels, width, lanes))
            .collect();
        // elements of `x` for a position, and those that are copied once more for a run
        let pace = stencil.pace.map(|pace| pace.min(4));
        let (read, copied) = match points {
            true => (1, 0),
            false => (pace.iter().product(), each * pace[3]),
        };
        let runs = || parts.iter().flat_map(|part| &part.runs);
        let straight: usize = runs().map(|run| cost(geometry, height, run.lanes)).sum();
        let turned: usize = runs()
            .map(|run| cost(geometry, run.lanes, height) + copied)
            .sum();
        let tiles = roles.batch * roles.groups * target_tiles * parts.len();
        let length = BLOCK / (height + each * read);
        let most = if taps == 1 { POINTS } else { POSITIONS.end };
        let length = length.clamp(POSITIONS.start, most);
        let positions = stencil.positions();
        // as near to that length as can be
        let blocks = (positions + length / 2) / length;
        let blocks = blocks.max(TASKS.div_ceil(tiles.max(1)));
        let blocks = blocks.min(positions.div_ceil(POSITIONS.start));
        // small ones together, while there are tasks enough
        let images = match blocks {
            1 => (length / positions.max(1)).clamp(1, (tiles / TASKS).clamp(1, roles.batch.max(1))),
            _ => 1,
        };
        Plan {
            tiles: target_tiles,
            parts,
            turned: turned < straight,
            points,
            blocks,
            images,
        }
    }
}

/// Vectors of multiply-adds a position, or what else could be done in their time.
fn cost(geometry: Geometry, rows: usize, lanes: usize) -> usize {
    let vectors = lanes.div_ceil(geometry.lanes);
    let panel = |vectors: usize| {
        let blocks = rows.div_ceil(geometry.most(vectors * geometry.lanes));
        blocks * (rows.div_ceil(blocks) * vectors).max(CHAINS)
    };
    vectors / 2 * panel(2) + vectors % 2 * panel(1)
}

impl Part {
    /// Without those that fill up vectors.
    pub fn lanes(&self) -> usize {
        self.runs.iter().map(|run| run.lanes).sum()
    }
}

impl<T: Element> Job<'_, T> {
    /// All taps of some channels, in parts of at most `width` lanes where a run has no more.
    fn parts(&self, channels: Range<usize>, width: usize, lanes: usize) -> Vec<Part> {
        let (roles, taps) = (&self.roles, self.stencil.taps.len());
        let count = channels.len();
        let alone = roles.groups == 1 && count == roles.source_channels;
        let full = count.is_multiple_of(2 * lanes);
        let joined = self.level.pairs() || !full && (alone || !self.in_place());
        let mut parts: Vec<Part> = Vec::new();
        let mut tap = 0;
        while tap < taps {
            let next = match joined {
                true => self.stencil.neighbours(tap).min((width / count).max(1)),
                false => 1,
            };
            let padded = (next * count).next_multiple_of(lanes);
            let mut part = match parts.pop() {
                Some(part) if part.width + padded <= width => part,
                full => {
                    parts.extend(full);
                    Part {
                        channels: channels.clone(),
                        runs: Vec::new(),
                        spans: Vec::new(),
                        width: 0,
                    }
                }
            };
            part.runs.push(Run {
                taps: tap..tap + next,
                lanes: next * count,
                place: part.width,
            });
            part.width += padded;
            parts.push(part);
            tap += next;
        }
        for part in &mut parts {
            part.spans = self.spans(&part.runs, count);
        }
        parts
    }

    /// Runs that read from nearby, together.
    fn spans(&self, runs: &[Run], channels: usize) -> Vec<Range<usize>> {
        if self.in_place() {
            return std::iter::once(0..runs.len()).collect();
        }
        let pixels = pixels(self.roles.source_size);
        let offset = |tap: usize| -> isize {
            let offset = self.stencil.taps[tap].offset;
            (0..4).map(|a| offset[a] * pixels.spatial[a] as isize).sum()
        };
        let (mut spans, mut begin) = (Vec::new(), 0);
        for (i, run) in runs.iter().enumerate() {
            let reach = offset(run.taps.end - 1) - offset(runs[begin].taps.start);
            if reach.unsigned_abs().saturating_mul(channels) > HALO && i > begin {
                spans.push(begin..i);
                begin = i;
            }
        }
        spans.push(begin..runs.len());
        spans
    }
}
