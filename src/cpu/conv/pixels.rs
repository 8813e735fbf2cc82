//! Which positions of the source the taps of a stencil read for some positions of the target.

use std::ops::Range;

use super::scratch::{Buffer, product};
use super::stencil::{Read, Roles, Stencil, Tap};
use crate::cpu::simd::{DEPTH, Places, Plan, inside_range};
use crate::element::{Accumulator, Element};
use crate::error::Result;

/// Channels-first: which positions of a channel's plane every tap reads.
pub(super) fn plan(
    plan: &mut Plan,
    roles: &Roles,
    stencil: &Stencil,
    (from, to): (usize, usize),
    lanes: usize,
) {
    plan.reset(lanes, to - from, stencil.pace[3]);
    let size = roles.source_size;
    let source = (size, roles.source.spatial);
    for tap in &stencil.taps {
        plan.begin_tap();
        let mut lane = 0;
        for read in stencil.reads(tap, source, (from, to)) {
            let (lo, hi) = inside_range(read.column, stencil.pace[3], read.len, size[3]);
            if let Some(row) = read.row
                && lo < hi
            {
                let column = (read.column + (lo * stencil.pace[3]) as isize) as usize;
                plan.run(lane + lo, lane + hi, row + column);
            }
            lane += read.len;
        }
        plan.end_tap();
    }
}

/// Positions at which some neighbouring taps all lie inside a row of the source, from what the first of
/// them reads at the first position.
fn whole(column: isize, pace: usize, len: usize, size: usize, taps: usize) -> (usize, usize) {
    inside_range(column, pace, len, size.saturating_sub(taps - 1))
}

/// Whether all neighbours of the first tap lie inside the source at most positions of a row.
pub(super) fn mostly_inside(roles: &Roles, stencil: &Stencil) -> bool {
    let Some(tap) = stencil.taps.first() else {
        return true;
    };
    let (len, size) = (stencil.count[3], roles.source_size[3]);
    let column = tap.offset[3];
    let (lo, hi) = whole(column, stencil.pace[3], len, size, stencil.neighbours(0));
    2 * hi.saturating_sub(lo) >= len
}

/// Channels-last: where the rows `(image, position, k)` of the block `(k0, depth)` are in the source of
/// so many images, with `k = (tap, channel)`, or in the memory beside it that is returned: zeros, and if
/// neighbouring taps are `joined`, for which pixels must be next to each other, those of which some lie
/// outside.
pub(super) fn places<'a, A: Accumulator>(
    roles: &Roles,
    stencil: &Stencil,
    (source, joined): (&[A], bool),
    (images, positions): (usize, (usize, usize)),
    block: (usize, usize),
    rows: &mut Places,
    beside: &'a mut Buffer<A>,
) -> Result<&'a [A]> {
    let (size, strides, pace) = (roles.source_size[3], roles.source.spatial, stencil.pace[3]);
    let channels = roles.source_channels;
    // rows of the target, at each of which so many elements of a part may not be inside
    let lines = images * stencil.rows(positions.0, positions.1).count();
    let partly = |part: Part| {
        let (column, len) = (part.tap.offset[3], stencil.count[3]);
        let (lo, hi) = whole(column, pace, len, size, part.taps);
        (len - hi.saturating_sub(lo)) * part.taps * channels
    };
    let length = match joined {
        true => parts(roles, stencil, block, joined).map(partly).sum(),
        false => 0,
    };
    let beside = beside.take_behind(DEPTH, product(&[lines, length]))?;
    let mut behind = DEPTH;
    rows.reset(images * (positions.1 - positions.0));
    for part in parts(roles, stencil, block, joined) {
        rows.run(part.elements.len());
        for (image, read) in reads(roles, stencil, part.tap, (images, positions)) {
            let Some(row) = read.row.map(|row| image + row) else {
                rows.outside(read.len);
                continue;
            };
            let (lo, hi) = whole(read.column, pace, read.len, size, part.taps);
            let (lo, hi) = if lo < hi {
                (lo, hi)
            } else {
                (read.len, read.len)
            };
            let column = |i: usize| read.column + (i * pace) as isize;
            let mut edge = |i: usize, rows: &mut Places| {
                let (from, to) = inside_range(column(i), 1, part.taps, size);
                if from >= to {
                    return rows.outside(1);
                }
                let copy = &mut beside[behind..][..part.taps * channels];
                copy.fill(A::zero());
                let first = row + (column(i) + from as isize) as usize * strides[3];
                let inside = &mut copy[from * channels..to * channels];
                inside.copy_from_slice(&source[first..][..inside.len()]);
                rows.beside(behind + part.elements.start);
                behind += copy.len();
            };
            (0..lo).for_each(|i| edge(i, rows));
            if lo < hi {
                let first = row + column(lo) as usize * strides[3] + part.elements.start;
                rows.inside(first, pace * strides[3], hi - lo);
            }
            (hi..read.len).for_each(|i| edge(i, rows));
        }
    }
    Ok(beside)
}

/// As [`places`], in a copy of the pixels beside which are zeros. Neighbouring taps share a copy, with zeros before and
/// after the pixels of a row, if `joined`, for which pixels must be next to each other.
pub(super) fn pixels<'a, T: Element>(
    roles: &Roles,
    stencil: &Stencil,
    (source, joined): (&[T], bool),
    (images, positions): (usize, (usize, usize)),
    block: (usize, usize),
    rows: &mut Places,
    copy: &'a mut Buffer<T::Acc>,
) -> Result<&'a [T::Acc]> {
    let (size, strides, channels) = (
        roles.source_size,
        roles.source.spatial,
        roles.source_channels,
    );
    // pixels of a row from the first that it reads to the last, or those that it reads, of which
    // the part's channels are enough
    let columns = |part: &Part, len: usize| match joined {
        true => (len - 1) * stencil.pace[3] + part.taps,
        false => len,
    };
    let step = match joined {
        true => 1,
        false => stencil.pace[3],
    };
    let width = |part: &Part| match joined {
        true => channels,
        false => part.elements.len(),
    };
    let lengths = || stencil.rows(positions.0, positions.1).map(|(_, len)| len);
    let all = parts(roles, stencil, block, joined).map(|part| {
        lengths().map(|len| columns(&part, len)).sum::<usize>() * width(&part) * images
    });
    let copy = copy.take(all.sum())?;
    rows.reset(images * (positions.1 - positions.0));
    let mut at = 0;
    for part in parts(roles, stencil, block, joined) {
        rows.run(part.elements.len());
        let width = width(&part);
        let (skip, from) = match joined {
            true => (part.elements.start, 0),
            false => (0, part.elements.start),
        };
        for (image, read) in reads(roles, stencil, part.tap, (images, positions)) {
            let Some(row) = read.row else {
                rows.outside(read.len);
                continue;
            };
            let count = columns(&part, read.len);
            let (lo, hi) = inside_range(read.column, step, count, size[3]);
            if lo >= hi {
                rows.outside(read.len);
                continue;
            }
            let to = if joined {
                rows.inside(at + skip, stencil.pace[3] * width, read.len);
                let to = &mut copy[at..at + count * width];
                to[..lo * width].fill(T::Acc::default());
                to[hi * width..].fill(T::Acc::default());
                at += to.len();
                &mut to[lo * width..hi * width]
            } else {
                rows.outside(lo);
                rows.inside(at, width, hi - lo);
                rows.outside(count - hi);
                let to = &mut copy[at..at + (hi - lo) * width];
                at += to.len();
                to
            };
            let column = (read.column + (lo * step) as isize) as usize;
            let source = &source[image + row + column * strides[3] + from..];
            widen_rows(source, step * strides[3], width, to);
        }
    }
    Ok(copy)
}

/// What a tap reads for some positions of several images, and where the image begins.
fn reads<'a>(
    roles: &Roles,
    stencil: &'a Stencil,
    tap: &'a Tap,
    (images, positions): (usize, (usize, usize)),
) -> impl Iterator<Item = (usize, Read)> + 'a {
    let Roles {
        source,
        source_size,
        ..
    } = *roles;
    (0..images).flat_map(move |image| {
        let reads = stencil.reads(tap, (source_size, source.spatial), positions);
        reads.map(move |read| (image * source.outer, read))
    })
}

/// Neighbouring taps, and the part of their elements `(tap, channel)` that a block has.
struct Part<'a> {
    tap: &'a Tap,
    taps: usize,
    elements: Range<usize>,
}

/// The steps `(k0, depth)` of the reduction in parts of one tap, or of neighbours if `joined`.
fn parts<'a>(
    roles: &Roles,
    stencil: &'a Stencil,
    (k0, depth): (usize, usize),
    joined: bool,
) -> impl Iterator<Item = Part<'a>> {
    let channels = roles.source_channels;
    let mut k = k0;
    std::iter::from_fn(move || {
        let (tap, first) = (k / channels, k % channels);
        let left = (k0 + depth).checked_sub(k).filter(|&left| left > 0)?;
        let most = match joined {
            true => stencil.neighbours(tap),
            false => 1,
        };
        let end = (most * channels).min(first + left);
        k += end - first;
        Some(Part {
            tap: &stencil.taps[tap],
            taps: end.div_ceil(channels),
            elements: first..end,
        })
    })
}

/// Widens the first `width` elements of rows that are `pitch` apart.
pub(super) fn widen_rows<T: Element>(from: &[T], pitch: usize, width: usize, to: &mut [T::Acc]) {
    if width == pitch {
        return T::widen(&from[..to.len()], to);
    }
    for (from, to) in from.chunks(pitch).zip(to.chunks_exact_mut(width)) {
        T::widen(&from[..width], to);
    }
}
