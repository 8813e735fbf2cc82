//! One result that many threads write to, each its own part.

use std::any::TypeId;
use std::marker::PhantomData;

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
}

impl<'a, T: Element> Output<'a, T> {
    /// The output itself where elements and their accumulators are one type.
    pub fn as_acc(&self) -> Option<&Output<'a, T::Acc>> {
        let same = TypeId::of::<T>() == TypeId::of::<T::Acc>();
        // SAFETY: the types are the same, so this is the reference that came in.
        same.then(|| unsafe { &*std::ptr::from_ref(self).cast() })
    }
}

/// Rounds finished sums into `target`, or adds them to it and rounds once; `sums` is used up.
pub(crate) fn store<T: Element>(sums: &mut [T::Acc], target: &mut [T], write: Write) {
    if write == Write::Accumulate {
        for (sum, old) in sums.iter_mut().zip(target.iter()) {
            *sum += old.to_acc();
        }
    }
    T::narrow(sums, target);
}

/// As [`store`], with elements of the target `step` apart.
///
/// # Safety
/// As [`Output::part`], for each of those elements.
pub(crate) unsafe fn store_strided<T: Element>(
    sums: &[T::Acc],
    target: &Output<T>,
    at: usize,
    step: usize,
    write: Write,
) {
    for (i, &sum) in sums.iter().enumerate() {
        // SAFETY: by this function's contract.
        let slot = &mut unsafe { target.part(at + i * step, 1) }[0];
        *slot = T::from_acc(match write {
            Write::Overwrite => sum,
            Write::Accumulate => sum + slot.to_acc(),
        });
    }
}

/// `sums[i] += bias`
pub(crate) fn add_scalar<A: Accumulator>(sums: &mut [A], bias: A) {
    for sum in sums {
        *sum += bias;
    }
}
