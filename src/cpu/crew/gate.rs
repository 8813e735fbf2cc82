//! One region of work that threads come to and leave.

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rayon::Yield;

/// A thread that helped stays awake for so long: calls of layers follow one another, and the next one
/// finds it there. If the caller is of the pool itself, it does so for no longer than it worked: it may
/// be one of those that the pool's own loops wait for.
const LINGER: Duration = Duration::from_micros(500);

/// Looks at those who are inside before the caller sleeps.
const LOOKS: usize = 1 << 12;

/// Set in [`Gate::inside`] when nobody may enter any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Does `work` on this thread, and on at most `others` of the pool while it is not done here.
pub(super) fn region(others: usize, work: &(dyn Fn() + Sync)) {
    // SAFETY: only the lifetime changes. Others read it between `enter` and `leave`; the guard closes
    // the gate, and waits for those inside, before this function returns or unwinds.
    let work: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(work) };
    let gate = Arc::new(Gate {
        work,
        inside: AtomicUsize::new(0),
        waiting: AtomicUsize::new(0),
        panic: Mutex::default(),
        caller: thread::current(),
        pooled: rayon::current_thread_index().is_some(),
    });
    let guard = Guard(&gate);
    call(&gate, others, true);
    work();
    drop(guard);
    let mut panic = gate.panic.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = panic.take() {
        resume_unwind(panic);
    }
}

/// Calls `others` to the gate; each who comes calls half of those who are left.
fn call(gate: &Arc<Gate>, mut others: usize, first: bool) {
    while others > 0 {
        let theirs = (others - 1) / 2;
        if first {
            gate.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let gate = gate.clone();
        rayon::spawn(move || help(&gate, theirs, first));
        others -= theirs + 1;
    }
}

fn help(gate: &Arc<Gate>, others: usize, first: bool) {
    if first {
        gate.waiting.fetch_sub(1, Ordering::Relaxed);
    }
    if !gate.enter() {
        return;
    }
    call(gate, others, false);
    let begin = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(gate.work));
    gate.leave(done.err());
    linger(match gate.pooled {
        true => LINGER.min(begin.elapsed()),
        false => LINGER,
    });
}

struct Gate {
    /// Valid for those inside.
    work: &'static (dyn Fn() + Sync),
    /// How many, and [`CLOSED`].
    inside: AtomicUsize,
    /// Whom the caller called and who did not come yet.
    waiting: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
    /// Whether the caller is a thread of a pool.
    pooled: bool,
}

impl Gate {
    fn enter(&self) -> bool {
        let more = |inside| (inside & CLOSED == 0).then_some(inside + 1);
        let entered = self
            .inside
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, more);
        entered.is_ok()
    }

    fn leave(&self, panic: Option<Box<dyn Any + Send>>) {
        if panic.is_some() {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = panic;
        }
        if self.inside.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.caller.unpark();
        }
    }
}

/// Closes a gate, and waits until nobody is inside.
struct Guard<'a>(&'a Gate);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Gate {
            inside, waiting, ..
        } = self.0;
        inside.fetch_or(CLOSED, Ordering::Relaxed);
        for look in 0.. {
            if inside.load(Ordering::Acquire) == CLOSED {
                break;
            }
            match look {
                0..LOOKS => spin_loop(),
                _ => thread::park(),
            }
        }
        // whom nobody took from this thread's queue finds the gate closed
        while waiting.load(Ordering::Relaxed) > 0 && rayon::yield_local() == Some(Yield::Executed) {
        }
    }
}

thread_local! {
    /// Until when this thread stays awake, and whether it does already, further out on its stack.
    static LINGERS: Cell<(Option<Instant>, bool)> = const { Cell::new((None, false)) };
}

/// Stays awake, and does what other work there is in the pool.
fn linger(time: Duration) {
    let until = Some(Instant::now() + time);
    let (before, already) = LINGERS.get();
    LINGERS.set((until.max(before), true));
    if already {
        return;
    }
    while Some(Instant::now()) < LINGERS.get().0 {
        if rayon::yield_now() != Some(Yield::Executed) {
            thread::yield_now();
        }
    }
    LINGERS.set((None, false));
}
