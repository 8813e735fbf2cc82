//! Reads the source of an implicit GEMM: for every tap, runs of positions with zeros where a
//! window leaves the source.

use std::any::TypeId;

use super::{Dispatch, Level, MicroKernel, Op, Vector};
use crate::element::Element;

/// Up to one vector of positions: lane `l` of the mask is at `base + l * step` of a channel's
/// plane; `base` itself may lie outside.
#[derive(Clone, Copy)]
struct Load {
    base: isize,
    mask: u32,
}

/// For every tap and every vector of target positions, where the positions come from.
///
/// A vector is zero where none of its loads has a lane.
#[derive(Default)]
pub(crate) struct Plan {
    loads: Vec<Load>,
    /// Per tap and vector, the end of its loads.
    ends: Vec<usize>,
    /// Per tap, one past the last index that its loads read.
    reach: Vec<usize>,
    lanes: usize,
    vectors: usize,
    step: usize,
}

impl Plan {
    /// Forgets everything; `positions` of the target follow, `step` apart in the source.
    pub fn reset(&mut self, lanes: usize, positions: usize, step: usize) {
        self.loads.clear();
        self.ends.clear();
        self.reach.clear();
        (self.lanes, self.step) = (lanes, step);
        self.vectors = positions.div_ceil(lanes);
    }

    /// The next tap reads its first positions at once, in ascending order, with [`Plan::run`].
    pub fn begin_tap(&mut self) {
        self.reach.push(0);
    }

    /// Target positions `from..to` come from `start`, `start + step`, ...
    pub fn run(&mut self, from: usize, to: usize, start: usize) {
        if from >= to {
            return;
        }
        let last = start + (to - from - 1) * self.step;
        if let Some(reach) = self.reach.last_mut() {
            *reach = (*reach).max(last + 1);
        }
        for vector in from / self.lanes..to.div_ceil(self.lanes) {
            self.pad_ends(vector);
            let first = vector * self.lanes;
            let (lo, hi) = (from.max(first) - first, to.min(first + self.lanes) - first);
            let base = start as isize + (first as isize - from as isize) * self.step as isize;
            let mask = (u32::MAX >> (32 - (hi - lo))) << lo;
            let begin = self.ends.last().copied().unwrap_or(0);
            match self.loads[begin..].last_mut() {
                Some(load) if load.base == base => load.mask |= mask,
                _ => self.loads.push(Load { base, mask }),
            }
        }
    }

    /// No more positions of this tap.
    pub fn end_tap(&mut self) {
        self.pad_ends(self.vectors);
    }

    /// Closes the vectors of this tap before `vector`.
    fn pad_ends(&mut self, vector: usize) {
        let end = (self.reach.len() - 1) * self.vectors + vector;
        self.ends.resize(end, self.loads.len());
    }

    fn loads(&self, tap: usize, vector: usize) -> &[Load] {
        let i = tap * self.vectors + vector;
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.loads[begin..self.ends[i]]
    }
}

/// Where one vector of positions is put: at `offset + row * pitch`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub offset: usize,
    pub pitch: usize,
}

/// Rows of an implicit matrix `(channels * taps, positions)`.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub first: usize,
    pub count: usize,
    pub channels: usize,
    pub taps: usize,
    /// Row `channel * taps + tap`, else `tap * channels + channel`.
    pub channel_major: bool,
}

impl Rows {
    /// The channel and tap of a row, counted from the matrix' first.
    #[inline(always)]
    pub fn channel_and_tap(&self, row: usize) -> (usize, usize) {
        if self.channel_major {
            (row / self.taps, row % self.taps)
        } else {
            (row % self.channels, row / self.channels)
        }
    }
}

/// Writes the rows, one vector of positions to each place.
///
/// `source` holds the planes of the channels, `plane` elements apart.
pub(crate) fn gather<T: Element>(
    level: Level,
    plan: &Plan,
    rows: Rows,
    source: &[T],
    plane: usize,
    places: &[Place],
    target: &mut [T::Acc],
) {
    assert_eq!(places.len(), plan.vectors);
    if let Some(source) = as_acc(source) {
        let op = Masked {
            plan,
            rows,
            source,
            plane,
            places,
            target,
        };
        return T::Acc::dispatch(level, op);
    }
    for row in 0..rows.count {
        let (channel, tap) = rows.channel_and_tap(rows.first + row);
        let source = &source[channel * plane..];
        for (vector, place) in places.iter().enumerate() {
            let to = &mut target[place.offset + row * place.pitch..][..plan.lanes];
            let loads = plan.loads(tap, vector);
            if !matches!(loads, [load] if load.mask.count_ones() as usize == plan.lanes) {
                to.fill(T::Acc::default());
            }
            for load in loads {
                widen_masked(*load, plan.step, source, to);
            }
        }
    }
}

/// The lanes of a load, in unbroken runs.
#[inline(always)]
fn widen_masked<T: Element>(load: Load, step: usize, source: &[T], to: &mut [T::Acc]) {
    let (mut mask, mut lane) = (load.mask, 0);
    while mask != 0 {
        let skip = mask.trailing_zeros();
        lane += skip as usize;
        mask >>= skip;
        let run = mask.trailing_ones();
        mask = mask.checked_shr(run).unwrap_or(0);
        let run = run as usize;
        let start = (load.base + (lane * step) as isize) as usize;
        let to = &mut to[lane..lane + run];
        if step == 1 {
            T::widen(&source[start..start + run], to);
        } else {
            let from = &source[start..start + (run - 1) * step + 1];
            for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                *to = from.to_acc();
            }
        }
        lane += run;
    }
}

/// The slice itself where elements and their accumulators are one type.
pub(crate) fn as_acc<T: Element>(source: &[T]) -> Option<&[T::Acc]> {
    let same = TypeId::of::<T>() == TypeId::of::<T::Acc>();
    // SAFETY: the types are the same, so this is the slice that came in.
    same.then(|| unsafe { std::slice::from_raw_parts(source.as_ptr().cast(), source.len()) })
}

struct Masked<'a, A> {
    plan: &'a Plan,
    rows: Rows,
    source: &'a [A],
    plane: usize,
    places: &'a [Place],
    target: &'a mut [A],
}

impl<A: MicroKernel> Op<A> for Masked<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let Masked { plan, rows, .. } = self;
        assert_eq!(plan.lanes, V::LANES);
        let full = u32::MAX >> (32 - V::LANES);
        let (mut channel, mut tap) = rows.channel_and_tap(rows.first);
        for row in 0..rows.count {
            let source = &self.source[channel * self.plane..];
            assert!(plan.reach[tap] <= source.len());
            let first = tap * plan.vectors;
            let mut begin = if first == 0 { 0 } else { plan.ends[first - 1] };
            let ends = &plan.ends[first..first + plan.vectors];
            for (place, &end) in self.places.iter().zip(ends) {
                let at = place.offset + row * place.pitch;
                let to = &mut self.target[at..at + V::LANES];
                // SAFETY: the level is the caller's promise. `Plan::run` made the masks so that
                // their lanes lie at 0..reach, which `source` was checked to hold; `to` holds one
                // vector.
                unsafe {
                    let mut value = V::zero();
                    for load in &plan.loads[begin..end] {
                        let from = source.as_ptr().wrapping_offset(load.base);
                        value = if plan.step != 1 {
                            value.load_strided(load.mask, from, plan.step)
                        } else if load.mask == full {
                            V::load(from)
                        } else {
                            value.load_masked(load.mask, from)
                        };
                    }
                    value.store(to.as_mut_ptr());
                }
                begin = end;
            }
            if rows.channel_major {
                tap += 1;
                if tap == rows.taps {
                    (channel, tap) = (channel + 1, 0);
                }
            } else {
                channel += 1;
                if channel == rows.channels {
                    (channel, tap) = (0, tap + 1);
                }
            }
        }
    }
}
