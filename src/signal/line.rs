//! Direct convolution along one axis, read where the signal lies: the engine, which has many axes
//! and channels to think of, would copy it first, and that takes longer than few taps do.

use rayon::prelude::*;

use super::linear::{Linear, Shared, reversed};
use super::scalar::Real;
use crate::cpu::simd::{Level, fir_positions};

/// Results that stay in the nearest cache until they are put in their place.
const BLOCK: usize = 1 << 11;
/// Products from which another thread is worth waking, and results that it then gets at a time.
const PARALLEL: usize = 1 << 22;
const TASK: usize = 1 << 15;

/// One kernel along one axis of real rows.
pub(crate) struct Line<R> {
    n: usize,
    start: usize,
    len: usize,
    /// The kernel from its end to its beginning, as a window meets the signal.
    taps: Vec<R>,
    offsets: Vec<usize>,
    level: Level,
}

impl<R: Real> Line<R> {
    /// `None` for what has more axes, or a kernel for each row, or one longer than the signal.
    /// The region lies inside of the full result.
    pub fn new(p: &Linear, b: &[R]) -> Option<Self> {
        let ([n], [k], [region]) = (&p.n[..], &p.k[..], &p.region[..]) else {
            return None;
        };
        let fits = p.shared == Shared::Kernel && k <= n;
        fits.then(|| Line {
            n: *n,
            start: region.start as usize,
            len: region.len,
            taps: reversed(b, *k),
            offsets: (0..*k).collect(),
            level: Level::best(),
        })
    }

    /// `(batch, len)` of the signals `(batch, n)`.
    pub fn convolve(&self, a: &[R]) -> Vec<R> {
        let elements = a.len() / self.n * self.len;
        if elements.saturating_mul(self.taps.len()) < PARALLEL {
            // without a first pass that writes zeros
            let mut z = Vec::with_capacity(elements);
            let mut block = [R::zero(); BLOCK];
            for row in a.chunks(self.n) {
                for first in (0..self.len).step_by(BLOCK) {
                    let block = &mut block[..BLOCK.min(self.len - first)];
                    self.fill(row, first, block);
                    z.extend_from_slice(block);
                }
            }
            return z;
        }
        let mut z = vec![R::zero(); elements];
        let rows = a.par_chunks(self.n).zip(z.par_chunks_mut(self.len));
        rows.for_each(|(row, z)| {
            let parts = z.par_chunks_mut(TASK).enumerate();
            parts.for_each(|(i, part)| self.fill(row, i * TASK, part));
        });
        z
    }

    /// The results from `first` on of one row.
    fn fill(&self, row: &[R], first: usize, z: &mut [R]) {
        let (k, begin) = (self.taps.len(), self.start + first);
        // full[m] meets row[m + 1 - k..=m]
        let inside = |m: usize| m.clamp(begin, begin + z.len()) - begin;
        let (from, to) = (inside(k - 1), inside(self.n));
        let lanes = R::geometry(self.level).lanes;
        let whole = (to - from) / lanes * lanes;
        if whole > 0 {
            let source = &row[begin + from + 1 - k..];
            let target = &mut z[from..from + whole];
            fir_positions(self.level, &self.offsets, &self.taps, source, target);
        }
        for i in (0..from).chain(from + whole..z.len()) {
            let m = begin + i;
            let window = (m + 1).saturating_sub(k)..(m + 1).min(self.n);
            let taps = &self.taps[window.start + k - 1 - m..];
            z[i] = row[window].iter().zip(taps).map(|(&x, &w)| x * w).sum();
        }
    }
}
