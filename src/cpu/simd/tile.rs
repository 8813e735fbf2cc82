//! The register tile: `c += a * b` over one block of the reduction.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::ops::Range;
use std::ptr::with_exposed_provenance;
use std::sync::atomic::{Ordering, compiler_fence};

use super::{Level, MicroKernel, Op, STEPS, Vector};

/// Longest block of the reduction that is packed and multiplied at a time.
pub(crate) const DEPTH: usize = 256;

/// From one packed row of `a` to the next: not a power of two, so that rows do not share cache sets.
pub(crate) const ROW: usize = DEPTH + 16;

/// Memory that rows lie in: the address of its first element, the size of one and their number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Memory {
    address: usize,
    size: usize,
    len: usize,
}

impl Memory {
    fn of<A>(elements: &[A]) -> Self {
        Memory {
            address: elements.as_ptr().expose_provenance(),
            size: size_of::<A>(),
            len: elements.len(),
        }
    }

    /// The number of the element of this type at an address, if it is one of these.
    fn number<A>(&self, address: usize) -> Option<usize> {
        let number = address.checked_sub(self.address)? / size_of::<A>();
        Some(number).filter(|&number| number < self.len)
    }
}

/// The rows of `a` for one block of the reduction: they need not be next to each other, nor whole.
#[derive(Default)]
pub(crate) struct Places {
    /// Steps in runs, in each of which a row is unbroken.
    runs: Vec<usize>,
    /// The address where each row begins, for each run: what looks them up has no time for more.
    starts: Vec<usize>,
    rows: usize,
    depth: usize,
    /// `a`, and the memory beside it.
    memory: [Memory; 2],
}

impl Places {
    /// Steps of all runs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Forgets everything; every run has so many rows, in `a` or in the memory beside it, which begins with [`DEPTH`]
    /// zeros if there are rows of zeros.
    pub fn reset<A>(&mut self, rows: usize, a: &[A], beside: &[A]) {
        self.runs.clear();
        self.starts.clear();
        (self.rows, self.depth) = (rows, 0);
        self.memory = [Memory::of(a), Memory::of(beside)];
    }

    /// The next steps, at most [`DEPTH`] with those before; where all rows begin follows.
    pub fn run(&mut self, steps: usize) {
        assert_eq!(self.starts.len(), self.runs.len() * self.rows);
        self.runs.push(steps);
        self.depth += steps;
        assert!(self.depth <= DEPTH);
    }

    /// The next rows begin `step` after each other in `a`.
    pub fn inside(&mut self, first: usize, step: usize, rows: usize) {
        self.place(self.memory[0], first, step, rows);
    }

    /// The next rows are all zeros.
    pub fn outside(&mut self, rows: usize) {
        self.place(self.memory[1], 0, 0, rows);
    }

    /// The next rows begin `step` after each other in the memory beside `a`.
    pub fn beside(&mut self, first: usize, step: usize, rows: usize) {
        self.place(self.memory[1], first, step, rows);
    }

    /// The next rows begin where so many of the last run do, from number `first` on, which has as many steps or more.
    pub fn again(&mut self, first: usize, rows: usize) {
        let runs = self.runs.len();
        assert!(runs > 1 && self.runs[runs - 1] <= self.runs[runs - 2]);
        assert!(rows <= self.rows && first <= self.rows - rows);
        let first = first + (runs - 2) * self.rows;
        self.starts.extend_from_within(first..first + rows);
    }

    #[inline(always)]
    fn place(&mut self, memory: Memory, first: usize, step: usize, rows: usize) {
        let Some(last) = rows.checked_sub(1) else {
            return;
        };
        let steps = self.runs.last().copied().unwrap_or(0);
        let room = memory.len.checked_sub(steps);
        // what the products of these rows rely on
        let reach = first.saturating_add(last.saturating_mul(step));
        assert!(room.is_some_and(|room| reach <= room));
        // products of 64 bits are slow in vectors, sums are not
        let mut next = memory.address + first * memory.size;
        let step = step * memory.size;
        self.starts.extend((0..rows).map(|_| {
            let start = next;
            next += step;
            start
        }));
    }

    /// So many elements from a start on, in `a` or beside it.
    fn row<'a, A>(&self, (a, beside): (&'a [A], &'a [A]), start: usize, steps: usize) -> &'a [A] {
        match self.memory[0].number::<A>(start) {
            Some(first) => &a[first..][..steps],
            None => {
                let first = self.memory[1].number::<A>(start).unwrap_or(0);
                &beside[first..][..steps]
            }
        }
    }

    /// Asks for some rows to come to the caches, if they have one run: those of several overlap with
    /// rows that were read.
    pub fn prefetch<A>(&self, a: &[A], rows: Range<usize>) {
        if let [steps] = self.runs[..] {
            let starts = self.starts[rows].iter();
            for first in starts.filter_map(|&start| self.memory[0].number::<A>(start)) {
                super::prefetch(&a[first..first + steps]);
            }
        }
    }

    /// Rows that were packed one after the other, [`ROW`] apart.
    pub fn packed<A>(&mut self, a: &[A], rows: usize, depth: usize) {
        self.reset(rows, a, &[]);
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
                let from = places.row(operands, start, steps);
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

/// The operands of register tiles.
pub(crate) struct Factors<'a, A> {
    /// Row `i` of block `n` of as many as a tile has is number `first + n * block + i * row`, of these and of `c`.
    pub places: &'a Places,
    pub first: usize,
    pub row: usize,
    pub blocks: usize,
    pub block: usize,
    pub a: &'a [A],
    /// Memory beside `a`, which begins with [`DEPTH`] zeros.
    pub beside: &'a [A],
    /// Whether the rows of a block are asked for while the one before is computed.
    pub far: bool,
    /// Step `k` is `b[k * width..][..width]`, with `width = vectors * lanes`; so are those of as many
    /// panels, each `panel` behind the last.
    pub b: &'a [A],
    pub panel: usize,
    pub panels: usize,
    /// Row `i` is `c[i * pitch..][..panels * width]`.
    pub c: &'a mut [A],
    pub pitch: usize,
    /// Whether `c` is read before it is written.
    pub add: bool,
    /// Whether `c` is written past the caches, if it is aligned to vectors.
    pub stream: bool,
}

/// `c (rows, width) += a (rows, depth) * b (depth, width)` in tiles of 1 or 2 vectors a row and at
/// most as many rows as the level's geometry says.
///
/// Every element is one chain of multiply-adds in the order of the reduction, whatever the tile's
/// shape; so the bits of a result do not depend on how it was cut into tiles. Where all rows of a tile are
/// zeros in a run, its products are left out: they would add zeros, or NaNs that the definition does not
/// have.
pub(crate) fn multiply<A: MicroKernel>(
    level: Level,
    rows: usize,
    vectors: usize,
    factors: Factors<A>,
) {
    register_tiles!(A, level, Tiles, (rows, vectors), factors);
}

/// Steps of the reduction from one branch to the next: with a branch a step, the end of a run of 32 or 64
/// of them is not foreseen, and what follows waits for it.
pub(super) const UNROLLED: usize = 4;

/// Rows of the largest register tile of so many vectors a row.
#[inline(always)]
pub(super) const fn most_rows<V: Vector>(vectors: usize) -> usize {
    if vectors == 1 { V::TALL } else { V::ROWS }
}

/// Between the products of two rows of a register tile: in the tallest ones, factors all at once would fill up the
/// registers, and sums become memory.
#[inline(always)]
pub(super) fn after_row<V: Vector, const R: usize, const N: usize>() {
    if N == 1 && R > V::ROWS {
        compiler_fence(Ordering::SeqCst);
    }
}

struct Tiles<'a, A, const R: usize, const N: usize>(Factors<'a, A>);

impl<A: Copy, const R: usize, const N: usize> Op<A> for Tiles<'_, A, R, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        assert!(R <= most_rows::<V>(N)); // known when compiled: no code for tiles that do not fit
        let Factors {
            places,
            first,
            row,
            blocks,
            block,
            a,
            beside,
            far,
            b,
            panel,
            panels,
            c,
            pitch,
            add,
            stream,
        } = self.0;
        let width = N * V::LANES;
        let all = places.rows;
        assert!(blocks > 0 && panels > 0);
        let last = first + (blocks - 1) * block + (R - 1) * row;
        assert!(last < all);
        assert_eq!(places.starts.len(), places.runs.len() * all);
        assert_eq!(places.memory, [Memory::of(a), Memory::of(beside)]);
        let zeros = places.memory[1].address;
        assert!(b.len() >= (panels - 1) * panel + places.depth * width);
        assert!(pitch >= panels * width);
        assert!(c.len() >= last * pitch + panels * width);
        let (b, c) = (b.as_ptr(), c.as_mut_ptr());
        let step_of_c = row * pitch;
        let stream = stream && pitch.is_multiple_of(V::LANES) && c.cast::<V>().is_aligned();
        for n in 0..blocks {
            let from = first + n * block;
            if far && from + R < all {
                places.prefetch(a, from + R..all.min(from + 2 * R));
            }
            for p in 0..panels {
                // SAFETY: the level is the caller's promise. Offsets into `b` stay below
                // (panels - 1) * panel + depth * width, into `c` below last * pitch + panels * width;
                // numbers of rows are at most last, and rows lie in the memory that places
                // were made for, which is `a` and what is beside it: all that was just checked.
                unsafe {
                    let mut b = b.add(p * panel);
                    let c = c.add(from * pitch + p * width);
                    let mut sums = [[V::zero(); N]; R];
                    if add {
                        for i in 0..R {
                            for j in 0..N {
                                sums[i][j] = V::load(c.add(i * step_of_c + j * V::LANES));
                            }
                        }
                    }
                    let starts = places.starts.chunks_exact(all);
                    for (&steps, starts) in places.runs.iter().zip(starts) {
                        let mut begins = [0; R];
                        for i in 0..R {
                            begins[i] = *starts.get_unchecked(from + i * row);
                        }
                        // as in the padding above and below an image
                        if begins[0] == zeros && begins.iter().all(|&start| start == zeros) {
                            b = b.add(steps * width);
                            continue;
                        }
                        let mut rows = [a.as_ptr(); R];
                        for i in 0..R {
                            rows[i] = with_exposed_provenance(begins[i]);
                        }
                        let mut k = 0;
                        while k + UNROLLED <= steps {
                            for _ in 0..UNROLLED {
                                step(&rows, k, b, &mut sums);
                                b = b.add(width);
                                k += 1;
                            }
                        }
                        while k < steps {
                            step(&rows, k, b, &mut sums);
                            b = b.add(width);
                            k += 1;
                        }
                    }
                    for i in 0..R {
                        for j in 0..N {
                            let to = c.add(i * step_of_c + j * V::LANES);
                            match stream {
                                true => sums[i][j].stream(to),
                                false => sums[i][j].store(to),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One step of the reduction.
///
/// # Safety
/// The level of `V` must be available, row `i` have an element `k`, and `b` have `N` vectors.
#[inline(always)]
unsafe fn step<V: Vector, const R: usize, const N: usize>(
    rows: &[*const V::Scalar; R],
    k: usize,
    b: *const V::Scalar,
    sums: &mut [[V; N]; R],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut lanes = [V::zero(); N];
        for j in 0..N {
            lanes[j] = V::load(b.add(j * V::LANES));
        }
        for i in 0..R {
            let factor = V::splat(*rows[i].add(k));
            for j in 0..N {
                sums[i][j] = factor.multiply_add(lanes[j], sums[i][j]);
            }
            after_row::<V, R, N>();
        }
    }
}
