//! Work shared out to threads.

mod gate;

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::cpu::simd::Drain;
use crate::error::{Error, Result};

/// Does `work` for every item, on the threads of the rayon pool that the caller is in, or else of the
/// global one; items are begun in order.
///
/// The caller is one of the threads even outside of a pool, and begins at once; it does not wait for
/// those that come when nothing is left. To wake a thread takes as long as a tenth of a small layer,
/// and much longer on a busy machine.
pub(crate) fn each<I>(items: I, work: impl Fn(I::Item) + Sync)
where
    I: ExactSizeIterator + Send,
{
    each_with(items, || (), |(), item| work(item));
}

/// Elements that are moved or converted at a time, at least.
pub(crate) const PART: usize = 1 << 12;

/// `work(number, chunk)` for chunks of `size` elements, as many at a time as have [`PART`] together.
pub(crate) fn each_chunk<T: Send>(
    all: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let size = size.max(1);
    let count = PART.div_ceil(size).max(1);
    each(all.chunks_mut(count * size).enumerate(), |(i, part)| {
        for (number, chunk) in (i * count..).zip(part.chunks_mut(size)) {
            work(number, chunk);
        }
    });
}

/// As [`each`], with something that a thread makes once, for all of its items.
pub(crate) fn each_with<I, W>(
    items: I,
    make: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, I::Item) + Sync,
) where
    I: ExactSizeIterator + Send,
{
    let others = rayon::current_num_threads().min(items.len()).max(1) - 1;
    let items = Mutex::new(items.fuse());
    let next = || {
        let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
        items.next()
    };
    let member = || {
        let Some(mut item) = next() else { return };
        let _written = Drain;
        let mut own = make();
        loop {
            work(&mut own, item);
            let Some(after) = next() else { return };
            item = after;
        }
    };
    match others {
        0 => member(),
        _ => gate::region(others, &member),
    }
}

/// As [`each`], for work that can fail: one of the errors, after which no more items are begun.
pub(crate) fn try_each<I>(items: I, work: impl Fn(I::Item) -> Result<()> + Sync) -> Result<()>
where
    I: ExactSizeIterator + Send,
{
    try_each_with(items, || (), |(), item| work(item))
}

/// [`try_each`] and [`each_with`] at once.
pub(crate) fn try_each_with<I, W>(
    items: I,
    make: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, I::Item) -> Result<()> + Sync,
) -> Result<()>
where
    I: ExactSizeIterator + Send,
{
    let failed = OnceLock::<Error>::new();
    each_with(items, make, |own, item| {
        if failed.get().is_none()
            && let Err(error) = work(own, item)
        {
            let _ = failed.set(error);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    use rayon::ThreadPoolBuilder;

    use super::{PART, each, each_chunk, try_each, try_each_with};
    use crate::error::Error;

    fn in_pools(test: impl Fn() + Sync) {
        test();
        for threads in [1, 2, 3, 8] {
            let pool = ThreadPoolBuilder::new().num_threads(threads);
            pool.build().expect("threads").install(&test);
        }
    }

    #[test]
    fn every_item_is_done_once() {
        in_pools(|| {
            for count in [0, 1, 2, 7, 1000] {
                let done: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                each(0..count, |i| {
                    each(0..3, |_| {
                        done[i].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 3));
            }
        });
    }

    #[test]
    fn every_thread_of_the_pool_has_items() {
        for threads in [1, 2, 5, 8] {
            let pool = ThreadPoolBuilder::new().num_threads(threads);
            let together = Barrier::new(threads);
            // returns only if as many threads are here at once
            pool.build().expect("threads").install(|| {
                each(0..threads, |_| {
                    together.wait();
                });
            });
        }
    }

    #[test]
    fn the_caller_has_items_outside_of_a_pool() {
        let who = Mutex::new(vec![]);
        each(0..1, |_| who.lock().unwrap().push(thread::current().id()));
        // while the first item waits nobody else can do the second, so one of the two is the
        // caller's: there are as many threads as items
        let threads = rayon::current_num_threads();
        let together = Barrier::new(threads);
        each(0..threads, |_| {
            who.lock().unwrap().push(thread::current().id());
            together.wait();
        });
        let who = who.into_inner().unwrap();
        assert_eq!(who[0], thread::current().id());
        assert!(who[1..].contains(&thread::current().id()));
    }

    #[test]
    fn chunks_are_numbered() {
        in_pools(|| {
            for (len, size) in [(0, 0), (0, 5), (10, 3), (3 * PART + 1, 7), (PART, 2 * PART)] {
                let mut all = vec![usize::MAX; len];
                each_chunk(&mut all, size, |number, chunk| chunk.fill(number));
                assert!((0..len).all(|i| all[i] == i / size), "{len} {size}");
            }
        });
    }

    #[test]
    fn an_error_ends_it() {
        in_pools(|| {
            let error = || Error::TooLarge {
                what: "x".into(),
                size: "1".into(),
            };
            let begun = AtomicUsize::new(0);
            let done = try_each(0..1 << 20, |i| {
                begun.fetch_add(1, Ordering::Relaxed);
                if i == 10 { Err(error()) } else { Ok(()) }
            });
            assert_eq!(done.unwrap_err().to_string(), error().to_string());
            assert!(begun.into_inner() < 1 << 20);
            assert!(try_each(0..100, |_| Ok(())).is_ok());
        });
    }

    #[test]
    fn a_thread_makes_its_own_once() {
        in_pools(|| {
            let made = AtomicUsize::new(0);
            let make = || made.fetch_add(1, Ordering::Relaxed);
            try_each_with(0..100, make, |_, _| Ok(())).unwrap();
            assert!((1..=rayon::current_num_threads()).contains(&made.into_inner()));
        });
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_caller() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build();
        let caught = pool.expect("threads").install(|| {
            let (caller, together) = (thread::current().id(), Barrier::new(2));
            std::panic::catch_unwind(|| {
                each(0..2, |_| {
                    together.wait();
                    assert_eq!(thread::current().id(), caller, "a helper");
                });
            })
        });
        let message = caught.unwrap_err();
        let message = message.downcast_ref::<String>().expect("of assert_eq");
        assert!(message.contains("a helper"), "{message}");
    }

    #[test]
    fn nobody_waits_for_a_thread_that_does_not_come() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build();
        let pool = pool.expect("threads");
        let (done, until) = mpsc::channel();
        let busy = Arc::new(AtomicBool::new(true));
        let flag = busy.clone();
        pool.spawn(move || {
            let _ = until.recv_timeout(Duration::from_secs(60));
            flag.store(false, Ordering::Relaxed);
        });
        pool.install(|| each(0..100, |_| {}));
        assert!(busy.load(Ordering::Relaxed));
        done.send(()).expect("still busy");
    }

    #[test]
    #[should_panic(expected = "of an item")]
    fn a_panic_reaches_the_caller() {
        each(0..100, |i| assert!(i != 50, "of an item"));
    }
}
