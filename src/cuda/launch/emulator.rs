//! The emulator: the same kernels, compiled by the C++ compiler, a fiber for every CUDA thread.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Arguments, Grid, Operand};
use crate::cuda::device::CopyTiming;
use crate::cuda::kernel::Kernel;
use crate::error::{Error, Result};

/// How this emulator schedules, and its memory.
pub(in crate::cuda) struct Emulator {
    seed: u64,
    timing: CopyTiming,
    ledger: Arc<Ledger>,
}

/// Bytes of all memory of an emulator, and how many there may be.
#[derive(Debug)]
struct Ledger {
    used: AtomicUsize,
    most: AtomicUsize,
}

/// Bytes in ordinary memory, NaN in every floating-point type until they are written. As 128-bit
/// words, because kernels may read 16 bytes at a time.
#[derive(Debug)]
pub(in crate::cuda) struct Memory {
    words: Vec<u128>,
    bytes: usize,
    ledger: Arc<Ledger>,
}

/// A buffer as a launch declares it: the twin of `Region` in `kernels/emulator/emulator.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Region<'a> {
    begin: u64,
    end: u64,
    writable: u64,
    buffer: PhantomData<&'a mut [u8]>,
}

/// The twin of `Job` in `kernels/emulator/runtime.cpp`.
#[repr(C)]
struct Job {
    entry: *const Entry,
    arguments: *const c_void,
    regions: *const Region<'static>,
    seed: u64,
    region_count: c_uint,
    threads: c_uint,
    shared_bytes: c_uint,
    late_copies: c_uint,
    grid: [c_uint; 3],
}

// SAFETY: a job is read only, and what it points to outlives the launch that shares it.
unsafe impl Sync for Job {}

/// A kernel, opaque.
#[repr(C)]
struct Entry {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn ndconv_emulator_next(entry: *const Entry) -> *const Entry;
    fn ndconv_emulator_name(entry: *const Entry) -> *const c_char;
    fn ndconv_emulator_argument_bytes(entry: *const Entry) -> usize;
    fn ndconv_emulator_threads(entry: *const Entry) -> c_uint;
    fn ndconv_emulator_run(
        job: *const Job,
        block: u64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

impl Ledger {
    fn book(&self, bytes: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let more = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= most);
        let booked = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        booked.is_ok()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.ledger
            .used
            .fetch_sub(self.capacity(), Ordering::Relaxed);
    }
}

impl Memory {
    /// Bytes that were allocated.
    pub fn capacity(&self) -> usize {
        self.words.len() * size_of::<u128>()
    }

    /// The first `bytes` bytes, at most all, as if they had just been allocated.
    pub fn renew(&mut self, bytes: usize) {
        self.words.fill(u128::MAX);
        self.bytes = bytes.min(self.capacity());
    }

    pub fn bytes(&self, length: usize) -> &[u8] {
        assert!(length <= self.bytes, "{length} of {} bytes", self.bytes);
        // SAFETY: so many bytes are there, and all of them were written at the latest in `new`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), length) }
    }

    pub fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.bytes, "{length} of {} bytes", self.bytes);
        // SAFETY: as `bytes`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), length) }
    }

    pub(super) fn region(&self) -> (u64, Region<'_>) {
        self.declare(self.words.as_ptr() as u64, false)
    }

    pub(super) fn region_mut(&mut self) -> (u64, Region<'_>) {
        let begin = self.words.as_mut_ptr() as u64;
        self.declare(begin, true)
    }

    fn declare<'a>(&self, begin: u64, writable: bool) -> (u64, Region<'a>) {
        let region = Region {
            begin,
            end: begin + self.bytes as u64,
            writable: writable.into(),
            buffer: PhantomData,
        };
        (begin, region)
    }
}

impl Emulator {
    pub fn new(seed: u64, timing: CopyTiming) -> Self {
        let ledger = Ledger {
            used: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
        };
        Emulator {
            seed,
            timing,
            ledger: Arc::new(ledger),
        }
    }

    pub fn set_memory(&self, bytes: Option<usize>) {
        let most = bytes.unwrap_or(usize::MAX);
        self.ledger.most.store(most, Ordering::Relaxed);
    }

    pub fn allocate(&self, bytes: usize) -> Result<Memory> {
        let exhausted = || Error::OutOfMemory {
            what: "a buffer of the emulator".into(),
            requested: bytes,
        };
        let length = bytes.div_ceil(size_of::<u128>());
        let mut words = Vec::new();
        words.try_reserve_exact(length).map_err(|_| exhausted())?;
        if !self.ledger.book(length * size_of::<u128>()) {
            return Err(exhausted());
        }
        words.resize(length, u128::MAX);
        Ok(Memory {
            words,
            bytes,
            ledger: self.ledger.clone(),
        })
    }

    /// Of the oldest GPU that has every instruction of the kernels.
    pub fn compute(&self) -> u32 {
        80
    }

    pub fn identity(&self) -> &str {
        "emulator"
    }

    /// Nothing is ever under way.
    pub fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    pub(super) fn launch<A: Arguments>(
        &self,
        kernel: Kernel,
        grid: Grid,
        args: &A,
        operands: &[Operand],
    ) -> Result<()> {
        let symbol = kernel.symbol();
        let refused = |reason: String| Error::Cuda {
            what: symbol.clone(),
            reason,
        };
        let entry = find(&symbol).ok_or_else(|| refused("no such kernel".into()))?;
        // SAFETY: `entry` came from the list of kernels, which lives as long as the program.
        let (bytes, threads) = unsafe {
            (
                ndconv_emulator_argument_bytes(entry),
                ndconv_emulator_threads(entry),
            )
        };
        if bytes != size_of::<A>() {
            let given = size_of::<A>();
            return Err(refused(format!(
                "takes {bytes} bytes of arguments, got {given}"
            )));
        }
        if threads != grid.threads {
            let given = grid.threads;
            return Err(refused(format!(
                "runs in blocks of {threads} threads, not {given}"
            )));
        }
        let regions: Vec<Region> = operands
            .iter()
            .filter_map(|operand| match operand {
                Operand::Emulator(region) => Some(*region),
                #[cfg(feature = "cuda")]
                Operand::Driver(_) => None,
            })
            .collect();
        let [x, y] = grid.blocks;
        let job = Job {
            entry,
            arguments: std::ptr::from_ref(args).cast(),
            regions: regions.as_ptr().cast(),
            seed: self.seed,
            region_count: regions.len() as c_uint,
            threads,
            shared_bytes: grid.shared_bytes as c_uint,
            late_copies: (self.timing == CopyTiming::Late).into(),
            grid: [x, y, 1],
        };
        let blocks = u64::from(x) * u64::from(y);
        match (0..blocks)
            .into_par_iter()
            .find_map_first(|block| run(&job, block))
        {
            Some(reason) => Err(refused(reason)),
            None => Ok(()),
        }
    }
}

/// Runs one block; what went wrong, if anything did.
fn run(job: &Job, block: u64) -> Option<String> {
    let mut message = [0u8; 640];
    // SAFETY: `job` points to a kernel, to the argument struct that it takes (size checked) and to
    // the regions of buffers borrowed for the launch; the runtime lets the kernel touch nothing
    // else, and blocks of one launch write different elements. `message` has room for `capacity`.
    let failed =
        unsafe { ndconv_emulator_run(job, block, message.as_mut_ptr().cast(), message.len()) };
    let text = CStr::from_bytes_until_nul(&message).unwrap_or_default();
    (failed != 0).then(|| text.to_string_lossy().into_owned())
}

fn find(symbol: &str) -> Option<*const Entry> {
    entries().find(|&entry| name(entry).to_bytes() == symbol.as_bytes())
}

fn entries() -> impl Iterator<Item = *const Entry> {
    // SAFETY: null gives the first kernel, each gives the next one, and the last gives null; the
    // list is complete before `main`.
    let next = |entry| unsafe { ndconv_emulator_next(entry) };
    std::iter::successors(Some(next(std::ptr::null())), move |&e| Some(next(e)))
        .take_while(|entry| !entry.is_null())
}

fn name<'a>(entry: *const Entry) -> &'a CStr {
    // SAFETY: `entry` is in the list of kernels, and names are string literals.
    unsafe { CStr::from_ptr(ndconv_emulator_name(entry)) }
}

/// The names of all kernels that the emulator holds.
#[cfg(test)]
pub(in crate::cuda) fn symbols() -> Vec<String> {
    entries()
        .map(|e| name(e).to_string_lossy().into_owned())
        .collect()
}
