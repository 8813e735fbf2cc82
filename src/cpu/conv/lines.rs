//! The [`Lines`] of a stencil: its rows, and which taps each of them has.

use std::collections::HashMap;

use super::stencil::{Roles, Stencil};
use crate::cpu::simd::{LastAxis, LineTap, Lines, Row};

/// Taps of all classes together, and rows, up to which lines are made.
const MOST: usize = 1 << 16;

/// The lines of a stencil with blocks of at most `most` vectors of `lanes`; `None` where they
/// would need more memory than they are worth.
pub(super) fn lines(roles: &Roles, stencil: &Stencil, lanes: usize, most: usize) -> Option<Lines> {
    let outer = [stencil.count[0], stencil.count[1], stencil.count[2]];
    let count = outer.iter().try_fold(1usize, |n, &c| n.checked_mul(c))?;
    if count > MOST || stencil.taps.is_empty() || stencil.count[3].div_ceil(lanes) > MOST {
        return None;
    }
    let step = roles.source.spatial;
    // per outer axis, for every position the number of its set of offsets inside the source
    let sets: [Vec<Vec<isize>>; 3] = [0, 1, 2].map(|a| {
        let mut offsets: Vec<isize> = stencil.taps.iter().map(|tap| tap.offset[a]).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let inside = |j: usize| {
            let at = (j * stencil.pace[a]) as isize;
            let size = roles.source_size[a] as isize;
            let inside = offsets.iter().filter(|&&o| (0..size).contains(&(at + o)));
            inside.copied().collect()
        };
        (0..stencil.count[a]).map(inside).collect()
    });
    let numbers: [Vec<usize>; 3] = [0, 1, 2].map(|a| {
        let mut known: HashMap<&Vec<isize>, usize> = HashMap::new();
        let number = |set| {
            let next = known.len();
            *known.entry(set).or_insert(next)
        };
        sets[a].iter().map(number).collect()
    });
    let mut classes: HashMap<[usize; 3], usize> = HashMap::new();
    let mut active = Vec::new();
    let mut rows = Vec::with_capacity(count);
    for j in (0..outer[0])
        .flat_map(|a| (0..outer[1]).flat_map(move |b| (0..outer[2]).map(move |c| [a, b, c])))
    {
        let key = [0, 1, 2].map(|a| numbers[a][j[a]]);
        let class = *classes.entry(key).or_insert_with(|| {
            let inside = |tap: &super::stencil::Tap| {
                (0..3).all(|a| sets[a][j[a]].binary_search(&tap.offset[a]).is_ok())
            };
            active.push(stencil.taps.iter().map(inside).collect::<Vec<bool>>());
            active.len() - 1
        });
        if active.len() * stencil.taps.len() > MOST {
            return None;
        }
        let start: usize = (0..3).map(|a| j[a] * stencil.pace[a] * step[a]).sum();
        rows.push(Row {
            start: start as isize,
            class,
        });
    }
    let taps: Vec<LineTap> = stencil
        .taps
        .iter()
        .map(|tap| LineTap {
            offset: (0..4).map(|a| tap.offset[a] * step[a] as isize).sum(),
            column: tap.offset[3],
        })
        .collect();
    let axis = LastAxis {
        width: stencil.count[3],
        pace: stencil.pace[3],
        pixel: step[3],
        size: roles.source_size[3],
    };
    Some(Lines::new(rows, active, &taps, axis, (lanes, most)))
}
