//! A box of the source laid out so that every tap of a stencil is one constant offset.
//!
//! Along each axis the source positions `j * pace + offset` fall into residues modulo the pace.
//! With every residue in a block of its own, one step in `j` is one step in memory, for any stride
//! and dilation, and positions outside the source are zeros like any others. So a convolution of
//! one channel is a single filter over one flat array:
//!
//! ```text
//! out[i] = sum over taps of weight * packed[i + offset]       i = j0 * pitch0 + .. + j3
//! ```
//!
//! The `i` between the rows of the target are computed as well and thrown away.

use super::split::TASKS;
use super::stencil::{Roles, Stencil};
use crate::cpu::simd::{Level, as_acc, inside_range, pick};
use crate::cpu::strides::unravel;
use crate::element::Element;

/// A box is made smaller until it has no more elements than this, and until there are enough tasks
/// while it has more than that.
const LARGEST: usize = 1 << 16;
const SMALLEST: usize = 1 << 12;

/// The boxes of one stencil; the positions `j` of the target are cut into them.
pub(super) struct Window {
    /// Largest extent in `j`, and number of boxes, per axis.
    pub size: [usize; 4],
    pub boxes: [usize; 4],
    /// Extent of a block per axis: `size`, and as far as the taps reach.
    extent: [usize; 4],
    /// Least tap offset per axis.
    first: [isize; 4],
    /// The residues that taps have, per axis.
    residues: [Vec<usize>; 4],
    /// Steps in memory, in positions.
    pub pitch: [usize; 4],
    /// Per tap its offset, in positions.
    pub offsets: Vec<usize>,
}

impl Window {
    /// `copies` of a box (channels, lanes) are packed at a time, by `tasks` tasks or more.
    ///
    /// `None` where even the window of one position is too large to copy.
    pub fn new(stencil: &Stencil, copies: usize, tasks: usize) -> Option<Self> {
        let mut size = stencil.count;
        loop {
            let window = Window::of_size(stencil, size);
            let boxes: usize = window.boxes.iter().product();
            let length = window.length().saturating_mul(copies);
            let few = boxes.saturating_mul(tasks) < TASKS && length > SMALLEST;
            if length <= LARGEST && !few {
                return Some(window);
            }
            // the outermost of the longest axes: rows stay long, and less of the rim is shared
            let axis = (0..4).rev().max_by_key(|&a| size[a])?;
            if size[axis] == 1 {
                return (length <= LARGEST).then_some(window);
            }
            size[axis] = size[axis].div_ceil(2);
        }
    }

    fn of_size(stencil: &Stencil, size: [usize; 4]) -> Self {
        let axis_offsets = |a: usize| stencil.taps.iter().map(move |t| t.offset[a]);
        let first = [0, 1, 2, 3].map(|a| axis_offsets(a).min().unwrap_or(0));
        let relative = |a: usize, offset: isize| (offset - first[a]) as usize;
        let residues = [0, 1, 2, 3].map(|a| {
            let mut residues: Vec<usize> = axis_offsets(a)
                .map(|offset| relative(a, offset) % stencil.pace[a])
                .collect();
            residues.sort_unstable();
            residues.dedup();
            residues
        });
        let extent = [0, 1, 2, 3].map(|a| {
            let reach = axis_offsets(a).map(|offset| relative(a, offset) / stencil.pace[a]);
            size[a] + reach.max().unwrap_or(0)
        });
        let mut pitch = [1; 4];
        for a in (0..3).rev() {
            pitch[a] = pitch[a + 1] * extent[a + 1];
        }
        let block = pitch[0] * extent[0];
        let offsets = stencil
            .taps
            .iter()
            .map(|tap| {
                let (mut combination, mut offset) = (0, 0);
                for a in 0..4 {
                    let relative = relative(a, tap.offset[a]);
                    let (steps, residue) = (relative / stencil.pace[a], relative % stencil.pace[a]);
                    let index = residues[a].binary_search(&residue).unwrap_or(0);
                    combination = combination * residues[a].len() + index;
                    offset += steps * pitch[a];
                }
                combination * block + offset
            })
            .collect();
        Window {
            size,
            boxes: [0, 1, 2, 3].map(|a| stencil.count[a].div_ceil(size[a])),
            extent,
            first,
            residues,
            pitch,
            offsets,
        }
    }

    /// Positions of a packed box.
    pub fn length(&self) -> usize {
        let blocks: usize = self.residues.iter().map(Vec::len).product();
        self.extent.iter().fold(blocks, |n, &e| n.saturating_mul(e))
    }

    /// Positions from the first to the last that is kept.
    pub fn span(&self, size: [usize; 4]) -> usize {
        1 + (0..4).map(|a| (size[a] - 1) * self.pitch[a]).sum::<usize>()
    }

    /// First position and extent of a box.
    pub fn at(&self, index: usize, stencil: &Stencil) -> ([usize; 4], [usize; 4]) {
        let tile = unravel(index, self.boxes);
        let begin = [0, 1, 2, 3].map(|a| tile[a] * self.size[a]);
        let size = [0, 1, 2, 3].map(|a| self.size[a].min(stencil.count[a] - begin[a]));
        (begin, size)
    }

    /// The rows of a box: position of the target row's first element, and where it is packed.
    pub fn rows(
        &self,
        begin: [usize; 4],
        size: [usize; 4],
    ) -> impl Iterator<Item = ([usize; 4], usize)> + '_ {
        let outer = move |i: [usize; 3]| {
            let j = [begin[0] + i[0], begin[1] + i[1], begin[2] + i[2], begin[3]];
            (j, (0..3).map(|a| i[a] * self.pitch[a]).sum())
        };
        (0..size[0]).flat_map(move |a| {
            (0..size[1]).flat_map(move |b| (0..size[2]).map(move |c| outer([a, b, c])))
        })
    }

    /// Packs the box at `begin`: `copy(source offset, step, to)` for every unbroken run,
    /// zeros elsewhere, with `lanes` elements a position.
    pub fn pack<A: Copy + Default>(
        &self,
        roles: &Roles,
        stencil: &Stencil,
        begin: [usize; 4],
        lanes: usize,
        to: &mut [A],
        mut copy: impl FnMut(usize, usize, &mut [A]),
    ) {
        let size = roles.source_size;
        let blocks = self.residues.each_ref().map(Vec::len);
        let mut rows = to.chunks_exact_mut(self.extent[3] * lanes);
        let step = stencil.pace[3] * roles.source.spatial[3];
        for block in 0..blocks.iter().product() {
            let block = unravel(block, blocks);
            let residue = [0, 1, 2, 3].map(|a| self.residues[a][block[a]]);
            let coordinate = |a: usize, i: usize| {
                ((begin[a] + i) * stencil.pace[a] + residue[a]) as isize + self.first[a]
            };
            // the offset of an index along an outer axis, if it is inside the source
            let offset = |a: usize, i: usize| {
                let inside = usize::try_from(coordinate(a, i)).ok();
                Some(inside.filter(|&c| c < size[a])? * roles.source.spatial[a])
            };
            let first = coordinate(3, 0);
            let (lo, hi) = inside_range(first, stencil.pace[3], self.extent[3], size[3]);
            let column = (first + (lo * stencil.pace[3]) as isize) as usize;
            for i in 0..self.extent[0] {
                let at0 = offset(0, i);
                for i in 0..self.extent[1] {
                    let at1 = at0.zip(offset(1, i)).map(|(a, b)| a + b);
                    for i in 0..self.extent[2] {
                        let at2 = at1.zip(offset(2, i)).map(|(a, b)| a + b);
                        let Some(to) = rows.next() else { return };
                        let Some(at) = at2.filter(|_| lo < hi) else {
                            to.fill(A::default());
                            continue;
                        };
                        to[..lo * lanes].fill(A::default());
                        to[hi * lanes..].fill(A::default());
                        let start = at + column * roles.source.spatial[3];
                        copy(start, step, &mut to[lo * lanes..hi * lanes]);
                    }
                }
            }
        }
    }
}

/// Widens elements `step` apart.
pub(super) fn widen_strided<T: Element>(level: Level, from: &[T], step: usize, to: &mut [T::Acc]) {
    match as_acc(from) {
        _ if step == 1 => T::widen(&from[..to.len()], to),
        Some(from) => pick(level, from, step, to),
        None => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                *to = from.to_acc();
            }
        }
    }
}
