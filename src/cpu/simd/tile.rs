//! The register tile: `c += a * b` over one block of the reduction.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::ops::Range;

use super::{Level, MicroKernel, Op, STEPS, Vector};

/// Longest block of the reduction that is packed and multiplied at a time.
pub(crate) const DEPTH: usize = 256;

/// From one packed row of `a` to the next: not a power of two, so that rows do not share cache sets.
pub(crate) const ROW: usize = DEPTH + 16;

/// The rows of `a` for one block of the reduction: they need not be next to each other, nor whole.
#[derive(Default)]
pub(crate) struct Places {
    /// Steps in runs, in each of which a row is unbroken.
    runs: Vec<usize>,
    /// Where each row begins in `a`, or [`BESIDE`] it, for each run.
    starts: Vec<usize>,
    rows: usize,
    depth: usize,
}

/// Of a start in the memory beside `a`, whose first [`DEPTH`] elements are zeros.
const BESIDE: usize = 1 << (usize::BITS - 1);

/// The `steps` from a start on, in `a` or beside it.
#[inline(always)]
fn row<'a, A>((a, beside): (&'a [A], &'a [A]), start: usize, steps: usize) -> &'a [A] {
    match start & BESIDE {
        0 => &a[start..][..steps],
        _ => &beside[start & !BESIDE..][..steps],
    }
}

impl Places {
    /// Steps of all runs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Forgets everything; every run has so many rows.
    pub fn reset(&mut self, rows: usize) {
        self.runs.clear();
        self.starts.clear();
        (self.rows, self.depth) = (rows, 0);
    }

    /// The next steps, at most [`DEPTH`] with those before; where all rows begin follows.
    pub fn run(&mut self, steps: usize) {
        assert_eq!(self.starts.len(), self.runs.len() * self.rows);
        self.runs.push(steps);
        self.depth += steps;
        assert!(self.depth <= DEPTH);
    }

    /// The next rows begin `step` after each other.
    pub fn inside(&mut self, first: usize, step: usize, rows: usize) {
        // products of 64 bits are slow in vectors, sums are not
        let mut next = first;
        self.starts.extend((0..rows).map(|_| {
            let start = next;
            next += step;
            start
        }));
    }

    /// The next rows are all zeros.
    pub fn outside(&mut self, rows: usize) {
        self.starts.extend(std::iter::repeat_n(BESIDE, rows));
    }

    /// The next row begins there in the memory beside `a`.
    pub fn beside(&mut self, start: usize) {
        self.starts.push(BESIDE | start);
    }

    /// Asks for some rows to come to the caches, if they have one run: those of several overlap with
    /// rows that were read.
    pub fn prefetch<A>(&self, a: &[A], rows: Range<usize>) {
        if let [steps] = self.runs[..] {
            let starts = self.starts[rows].iter();
            for &start in starts.filter(|&start| start & BESIDE == 0) {
                super::prefetch(&a[start..start + steps]);
            }
        }
    }

    /// Rows that were packed one after the other, [`ROW`] apart.
    pub fn packed(&mut self, rows: usize, depth: usize) {
        self.reset(rows);
        self.run(depth);
        self.inside(0, ROW, rows);
    }
}

/// Copies rows one after the other, [`ROW`] apart, with zeros up to the next multiple of [`STEPS`].
pub(crate) fn copy_rows<A: MicroKernel>(
    level: Level,
    places: &Places,
    operands: (&[A], &[A]),
    to: &mut [A],
) {
    let copied = Copied {
        places,
        operands,
        to,
    };
    A::dispatch(level, copied);
}

struct Copied<'a, A> {
    places: &'a Places,
    /// `a` and what is beside it.
    operands: (&'a [A], &'a [A]),
    to: &'a mut [A],
}

impl<A: Copy> Op<A> for Copied<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        const { assert!(V::LANES <= ROW - DEPTH && STEPS <= ROW - DEPTH) };
        let Copied {
            places,
            operands,
            to,
        } = self;
        for (i, to) in to.chunks_exact_mut(ROW).enumerate().take(places.rows) {
            let starts = places.starts.iter().skip(i).step_by(places.rows);
            let mut k = 0;
            for (&steps, &start) in places.runs.iter().zip(starts) {
                let from = row(operands, start, steps);
                for at in (0..steps).step_by(V::LANES) {
                    let lanes = u32::MAX >> (32 - V::LANES.min(steps - at));
                    // SAFETY: the level is the caller's promise. The mask ends with the row of `a`;
                    // `to` has room for a vector behind the last step, at most DEPTH.
                    unsafe {
                        let vector = V::zero().load_masked(lanes, from.as_ptr().add(at));
                        vector.store(to[k + at..][..V::LANES].as_mut_ptr());
                    }
                }
                k += steps;
            }
            for at in (0..STEPS).step_by(V::LANES) {
                // SAFETY: as above.
                unsafe { V::zero().store(to[k + at..][..V::LANES].as_mut_ptr()) };
            }
        }
    }
}

/// The operands of one register tile.
pub(crate) struct Factors<'a, A> {
    /// `rows` of these rows from `first` on.
    pub places: &'a Places,
    pub first: usize,
    pub a: &'a [A],
    /// Memory beside `a`, which begins with [`DEPTH`] zeros.
    pub beside: &'a [A],
    /// Step `k` is `b[k * width..][..width]`, with `width = vectors * lanes`.
    pub b: &'a [A],
    /// Row `i` is `c[i * pitch..][..width]`.
    pub c: &'a mut [A],
    pub pitch: usize,
    /// Whether `c` is read before it is written.
    pub add: bool,
    /// Whether `c` is written past the caches, if it is aligned to vectors.
    pub stream: bool,
}

/// `c (rows, width) += a (rows, depth) * b (depth, width)` with 1 or 2 vectors a row and at most
/// as many rows as the level's geometry says.
///
/// Every element is one chain of multiply-adds in the order of the reduction, whatever the tile's
/// shape; so the bits of a result do not depend on how it was cut into tiles.
pub(crate) fn multiply<A: MicroKernel>(
    level: Level,
    rows: usize,
    vectors: usize,
    factors: Factors<A>,
) {
    register_tiles!(A, level, Tile, (rows, vectors), factors);
}

struct Tile<'a, A, const R: usize, const N: usize>(Factors<'a, A>);

impl<A: Copy, const R: usize, const N: usize> Op<A> for Tile<'_, A, R, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        assert!(R <= V::ROWS); // known when compiled: no code for tiles that do not fit
        let Factors {
            places,
            first,
            a,
            beside,
            b,
            c,
            pitch,
            add,
            stream,
        } = self.0;
        let width = N * V::LANES;
        assert!(first + R <= places.rows);
        assert_eq!(places.starts.len(), places.runs.len() * places.rows);
        assert!(b.len() >= places.depth * width);
        assert!(pitch >= width && c.len() >= (R - 1) * pitch + width);
        let (mut b, c) = (b.as_ptr(), c.as_mut_ptr());
        let stream = stream && pitch.is_multiple_of(V::LANES) && c.cast::<V>().is_aligned();
        // SAFETY: the level is the caller's promise. Offsets into `b` stay below depth * width,
        // into `c` below (R - 1) * pitch + width, which were just checked; rows are checked as
        // they begin.
        unsafe {
            let mut sums = [[V::zero(); N]; R];
            if add {
                for i in 0..R {
                    for j in 0..N {
                        sums[i][j] = V::load(c.add(i * pitch + j * V::LANES));
                    }
                }
            }
            let starts = places.starts.chunks_exact(places.rows);
            for (&steps, starts) in places.runs.iter().zip(starts) {
                let starts = &starts[first..first + R];
                let mut rows = [a.as_ptr(); R];
                for i in 0..R {
                    rows[i] = row((a, beside), starts[i], steps).as_ptr();
                }
                for k in 0..steps {
                    let mut lanes = [V::zero(); N];
                    for j in 0..N {
                        lanes[j] = V::load(b.add(j * V::LANES));
                    }
                    for i in 0..R {
                        let factor = V::splat(*rows[i].add(k));
                        for j in 0..N {
                            sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
                        }
                    }
                    b = b.add(width);
                }
            }
            for i in 0..R {
                for j in 0..N {
                    let to = c.add(i * pitch + j * V::LANES);
                    match stream {
                        true => sums[i][j].stream(to),
                        false => sums[i][j].store(to),
                    }
                }
            }
        }
    }
}
