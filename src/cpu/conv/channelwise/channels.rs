//! Target channels as lanes, in vectors and in blocks of those.

use super::super::scratch::product;
use super::super::stencil::Roles;
use crate::cpu::simd::{Group, Level, MicroKernel};
use crate::element::Element;
use crate::shape::Layout;

/// Weights of a block of channels: every few positions read them once, one after the other, as fast from the L2 cache.
/// Fewer channels at a time cost more than that saves (measured with AVX2).
const WEIGHTS: usize = 8192;
/// Those of channels in groups are not used as often; they should stay in the L2 cache.
const GROUPS: usize = 1 << 15;
/// Vectors of a block of channels at least: lines of a position that are read together.
const VECTORS: usize = 4;

/// Lanes of vectors that are worth permuting; narrower ones have no instruction for it.
const WIDE: usize = 8;
/// Channels of a group up to which every vector of the target reads them one by one; a matrix product is
/// faster with more.
const FEW: usize = 16;

/// Elements of a row of the source, of the channels of a block, where channels come first: with the others
/// that a row of the target reads, and that row, they should stay in the L1 cache.
const TURNED: usize = if cfg!(test) { 1 << 8 } else { 1 << 11 };
/// Vectors of a block of such channels at most.
const FIRST: usize = 16;

/// Target channels in vectors, and blocks of them.
pub(super) struct Channels {
    pub total: usize,
    pub lanes: usize,
    /// Channels of a block, whole vectors.
    pub block: usize,
    pub blocks: usize,
    /// Channels of a group.
    pub sources: usize,
    pub targets: usize,
    /// Vectors of a block at most.
    most: usize,
    /// As [`Group`] has it.
    index: Vec<u32>,
}

impl Channels {
    /// `None` where lanes of channels are not the way.
    pub fn new<T: Element>(level: Level, roles: &Roles, layout: Layout) -> Option<Self> {
        let lanes = T::Acc::geometry(level).lanes;
        let (sources, targets) = (roles.source_channels, roles.target_channels);
        let total = roles.groups * targets;
        let depthwise = (sources, targets) == (1, 1);
        let permuted = lanes >= WIDE && lanes.is_multiple_of(targets) && sources <= targets;
        let spread = targets.is_multiple_of(lanes) && sources.max(targets) <= FEW;
        let grouped = roles.groups > 1 && (permuted || spread);
        let turned = layout == Layout::ChannelsFirst;
        let suits = total * 2 >= lanes && (depthwise || grouped && !turned);
        suits.then(|| {
            let source = |nth, lane| (lane / targets * sources + nth) as u32;
            let index = (0..sources).flat_map(|nth| (0..lanes).map(move |lane| source(nth, lane)));
            Channels {
                total,
                lanes,
                block: total.next_multiple_of(lanes),
                blocks: 1,
                sources,
                targets,
                most: match turned {
                    true => (TURNED / (lanes * roles.source_size[3])).clamp(1, FIRST),
                    false => usize::MAX,
                },
                index: match grouped && !spread {
                    true => index.collect(),
                    false => Vec::new(),
                },
            }
        })
    }

    /// In blocks, with so many weights, or sums of such, of a pair of channels.
    pub fn in_blocks(mut self, weights: usize) -> Self {
        let vectors = self.vectors();
        let most = if self.sources > 1 { GROUPS } else { WEIGHTS };
        let most = most / product(&[weights, self.sources, self.lanes]).max(1);
        let most = most.max(VECTORS).min(self.most);
        let each = vectors.div_ceil(vectors.div_ceil(most));
        // of whole groups
        let each = each.next_multiple_of(self.targets.div_ceil(self.lanes));
        self.block = each * self.lanes;
        self.blocks = vectors.div_ceil(each);
        self
    }

    pub fn group(&self) -> Group<'_> {
        Group {
            sources: self.sources,
            targets: self.targets,
            lanes: &self.index,
        }
    }

    /// The first source channel of a block that begins at a target channel.
    pub fn source(&self, first: usize) -> usize {
        first / self.targets * self.sources
    }

    /// First channel of a block, and how many.
    pub fn of_block(&self, block: usize) -> (usize, usize) {
        let first = block * self.block;
        (first, self.block.min(self.total - first))
    }

    /// Whether channels are three quarters of the lanes of their vectors.
    pub fn full(&self) -> bool {
        4 * self.total >= 3 * self.vectors() * self.lanes
    }

    pub fn vectors(&self) -> usize {
        self.total.div_ceil(self.lanes)
    }
}
