//! Filters over planes whose rows follow one another in the source: what the ring kernels take.

use std::ops::Range;

use super::stencil::{Roles, Stencil};
use crate::cpu::simd::{Plane, RING_ROWS};
use crate::cpu::strides::unravel;

/// A stencil of one source channel whose taps form one plane with rows next to each other.
pub(super) struct Ring {
    /// Rows of taps.
    pub taps: usize,
    /// Least offset along the last axis but one.
    first: isize,
    /// Places of the taps `(columns, rows)` in the stencil, columns ascending, rows descending.
    order: Vec<usize>,
}

impl Ring {
    pub fn new(roles: &Roles, stencil: &Stencil) -> Option<Self> {
        let distinct = |a: usize| {
            let mut offsets: Vec<isize> = stencil.taps.iter().map(|tap| tap.offset[a]).collect();
            offsets.sort_unstable();
            offsets.dedup();
            offsets
        };
        let [planes, slices, rows, columns] = [0, 1, 2, 3].map(distinct);
        let unbroken = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let suits = roles.source_channels == 1
            && [planes, slices].iter().all(|offsets| offsets.len() == 1)
            && stencil.pace[2..] == [1, 1]
            && unbroken
            && RING_ROWS.contains(&rows.len());
        suits.then_some(())?;
        let mut order: Vec<usize> = (0..stencil.taps.len()).collect();
        order.sort_by_key(|&tap| {
            let offset = stencil.taps[tap].offset;
            (offset[3], std::cmp::Reverse(offset[2]))
        });
        (order.len() == rows.len() * columns.len()).then_some(Ring {
            taps: rows.len(),
            first: rows[0],
            order,
        })
    }

    /// The weights `(taps)` in the order of the kernel.
    pub fn order<'a, A: Copy>(&self, weights: &[A], to: &'a mut [A]) -> &'a [A] {
        for (to, &tap) in to.iter_mut().zip(&self.order) {
            *to = weights[tap];
        }
        to
    }

    /// The tap at a place of the kernel's order.
    pub fn tap(&self, place: usize) -> usize {
        self.order[place]
    }

    /// The target rows `rows`, counted over all planes, of plane `plane` of `height` target rows;
    /// `None` of them where the source has no such plane.
    pub fn plane<'a, A>(
        &self,
        roles: &Roles,
        stencil: &Stencil,
        plane: usize,
        rows: Range<usize>,
        height: usize,
        source: &'a [A],
    ) -> Plane<'a, A> {
        let j = match plane {
            0 => [0; 4], // dividing takes as long as a small plane
            _ => unravel(plane * height * stencil.count[3], stencil.count),
        };
        let tap = &stencil.taps[0];
        let at = [0, 1].map(|a| stencil.source(a, j[a], tap));
        let inside = (0..2).all(|a| (0..roles.source_size[a] as isize).contains(&at[a]));
        let first = rows.start - plane * height;
        let start: isize = (0..2)
            .map(|a| at[a] * roles.source.spatial[a] as isize)
            .sum();
        Plane {
            source: if inside {
                &source[start as usize..]
            } else {
                &[]
            },
            height: if inside { roles.source_size[2] } else { 0 },
            row: roles.source.spatial[2],
            first: self.first,
            rows: first..first + rows.len(),
            taps: self.taps,
        }
    }
}

/// Rows counted over all planes of `height` rows, plane by plane.
pub(super) fn segments(
    rows: Range<usize>,
    height: usize,
) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut next = rows.start;
    std::iter::from_fn(move || {
        (next < rows.end).then(|| {
            let (begin, plane) = (next, next / height);
            next = rows.end.min((plane + 1) * height);
            (begin..next, plane)
        })
    })
}
