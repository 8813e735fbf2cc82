//! One result that many threads write to, each its own part.

use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::simd::{Level, narrow};
use crate::element::{Accumulator, Element};
use crate::ops::Write;

/// A slice that is handed out in parts which do not overlap, in any pattern.
///
/// Tiles of a convolution's result interleave in memory, down to single elements in the gradient
/// of a strided one, so `par_chunks_mut` cannot cut them.
pub(crate) struct Output<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: threads reach disjoint elements by the contract of `part`, and `T` may move between them.
unsafe impl<T: Send> Sync for Output<'_, T> {}
// SAFETY: as a `&mut [T]`.
unsafe impl<T: Send> Send for Output<'_, T> {}

impl<'a, T> Output<'a, T> {
    pub fn new(target: &'a mut [T]) -> Self {
        Output {
            start: target.as_mut_ptr(),
            len: target.len(),
            owner: PhantomData,
        }
    }

    /// The elements `at..at + len`.
    ///
    /// # Safety
    /// No other part that holds one of these elements may be alive, on any thread.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by contract")]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: in bounds, just checked; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where the element `at` is, with `len` from there on; those that are accessed must be in parts
    /// that the caller could have.
    pub fn start(&self, at: usize, len: usize) -> *mut T {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: in bounds, just checked.
        unsafe { self.start.add(at) }
    }
}

impl<'a, T: Element> Output<'a, T> {
    /// The output itself where elements and their accumulators are one type.
    pub fn as_acc(&self) -> Option<&Output<'a, T::Acc>> {
        let same = TypeId::of::<T>() == TypeId::of::<T::Acc>();
        // SAFETY: the types are the same, so this is the reference that came in.
        same.then(|| unsafe { &*std::ptr::from_ref(self).cast() })
    }
}

/// Vectors of `len` elements whose parts of `size` elements `write(work, number, parts)` makes from
/// zeros, in parallel unless there are fewer than `least` of them to a thread.
///
/// A thread has zeroed a part just before it writes there: one thread that zeroes all of a result
/// takes as long as a short transform of it.
pub(crate) fn by_parts<T, W, const N: usize>(
    len: usize,
    size: usize,
    least: usize,
    work: impl Fn() -> W + Sync + Send,
    write: impl Fn(&mut W, usize, [&mut [T]; N]) + Sync + Send,
) -> [Vec<T>; N]
where
    T: Copy + Default + Send,
{
    let mut all = [(); N].map(|()| Vec::with_capacity(len));
    for vector in &mut all {
        prefer_huge_pages(&mut vector.spare_capacity_mut()[..len]);
    }
    let outputs = all
        .each_mut()
        .map(|vector: &mut Vec<T>| Output::new(&mut vector.spare_capacity_mut()[..len]));
    let numbers = (0..len.div_ceil(size)).into_par_iter();
    numbers
        .with_min_len(least)
        .for_each_init(work, |work, number| {
            let at = number * size;
            let parts = outputs.each_ref().map(|output| {
                // SAFETY: numbers are different, so their parts do not overlap.
                let part = unsafe { output.part(at, size.min(len - at)) };
                part.fill(MaybeUninit::new(T::default()));
                // SAFETY: every element was just written.
                unsafe { &mut *(std::ptr::from_mut(part) as *mut [T]) }
            });
            write(work, number, parts);
        });
    for vector in &mut all {
        // SAFETY: the parts cover `len` elements, and each was zeroed.
        unsafe { vector.set_len(len) };
    }
    all
}

/// Asks the system for large pages behind memory that was not touched yet, of 4 MiB and more: with
/// small ones the first touch takes longer than the arithmetic of a short transform.
fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let bytes = size_of_val(memory);
        let start = memory.as_mut_ptr().cast::<u8>();
        let ahead = start.align_offset(HUGE);
        if bytes >= 2 * HUGE && ahead < bytes {
            let whole = (bytes - ahead) / HUGE * HUGE;
            // SAFETY: advice about pages inside of memory that is borrowed here; their contents
            // stay as they are. A system that refuses changes nothing.
            unsafe {
                let start = start.add(ahead);
                libc::madvise(start.cast(), whole, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Rounds finished sums into `target`, or adds them to it and rounds once; `sums` is used up.
pub(crate) fn store<T: Element>(level: Level, sums: &mut [T::Acc], target: &mut [T], write: Write) {
    if write == Write::Accumulate {
        for (sum, old) in sums.iter_mut().zip(target.iter()) {
            *sum += old.to_acc();
        }
    }
    narrow(level, sums, target);
}

/// As [`store`], with elements of the target `step` apart.
///
/// # Safety
/// As [`Output::part`], for each of those elements.
pub(crate) unsafe fn store_strided<T: Element>(
    level: Level,
    sums: &mut [T::Acc],
    target: &Output<T>,
    (at, step): (usize, usize),
    write: Write,
) {
    // SAFETY: by this function's contract.
    let slot = |i: usize| &mut unsafe { target.part(at + i * step, 1) }[0];
    // many are rounded at once, which an instruction does
    let mut rounded = [T::default(); 64];
    for (first, sums) in (0..)
        .step_by(rounded.len())
        .zip(sums.chunks_mut(rounded.len()))
    {
        if write == Write::Accumulate {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += slot(first + i).to_acc();
            }
        }
        narrow(level, sums, &mut rounded[..sums.len()]);
        for (i, &value) in rounded[..sums.len()].iter().enumerate() {
            *slot(first + i) = value;
        }
    }
}

/// `sums[i] += bias`
pub(crate) fn add_scalar<A: Accumulator>(sums: &mut [A], bias: A) {
    for sum in sums {
        *sum += bias;
    }
}
