//! Which positions of the source the taps of a stencil read for some positions of the target.

use std::ops::Range;

use super::scratch::Buffer;
use super::stencil::{Read, Roles, Stencil, Tap};
use crate::cpu::simd::{Places, Plan, inside_range};
use crate::element::Element;
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

/// Channels-last: where the rows `(image, position, k)` of the block `(k0, depth)` are in the source of
/// so many images, with `k = (tap, channel)`.
pub(super) fn places(
    roles: &Roles,
    stencil: &Stencil,
    (images, positions): (usize, (usize, usize)),
    block: (usize, usize),
    rows: &mut Places,
) {
    let (size, strides, pace) = (roles.source_size, roles.source.spatial, stencil.pace[3]);
    rows.reset(images * (positions.1 - positions.0));
    for part in parts(roles, stencil, block, false) {
        rows.run(part.elements.len());
        for (image, read) in reads(roles, stencil, part.tap, (images, positions)) {
            let (lo, hi) = inside_range(read.column, pace, read.len, size[3]);
            match read.row {
                Some(row) if lo < hi => {
                    let column = (read.column + (lo * pace) as isize) as usize;
                    let first = image + row + column * strides[3] + part.elements.start;
                    rows.outside(lo);
                    rows.inside(first, pace * strides[3], hi - lo);
                    rows.outside(read.len - hi);
                }
                _ => rows.outside(read.len),
            }
        }
    }
}

/// As [`places`], in a copy of the pixels with zeros around them. Neighbouring taps share a copy if
/// `joined`, for which pixels must be next to each other.
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
            let count = columns(&part, read.len);
            rows.inside(at + skip, stencil.pace[3] / step * width, read.len);
            let to = &mut copy[at..at + count * width];
            at += to.len();
            let (lo, hi) = match read.row {
                Some(_) => inside_range(read.column, step, count, size[3]),
                None => (0, 0),
            };
            to[..lo * width].fill(T::Acc::default());
            to[hi * width..].fill(T::Acc::default());
            let Some(row) = read.row.filter(|_| lo < hi) else {
                continue;
            };
            let to = &mut to[lo * width..hi * width];
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
