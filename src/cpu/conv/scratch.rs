//! Tile-sized memory, one set a thread, kept between calls: fresh pages cost more than the work.

use super::pixels::Lines;
use crate::cpu::simd::{Place, Places, Plan, Segments, Step};
use crate::error::{Error, Result};
use crate::host::LINE;

/// The buffers of one thread.
#[derive(Default)]
pub struct Scratch<A> {
    pub(super) a: Buffer<A>,
    pub(super) b: Buffer<A>,
    pub(super) c: Buffer<A>,
    /// Of a tile of wgrad.
    pub(super) sums: Buffer<A>,
    pub(super) plan: Plan,
    pub(super) places: Vec<Place>,
    /// The rows of a product.
    pub(super) rows: Places,
    /// The positions that these are.
    pub(super) lines: Lines,
    /// Operands of a product of tiles.
    pub(super) tiles: Buffer<A>,
    /// Rows of a product that are not where the others are; it begins with zeros.
    pub(super) beside: Buffer<A>,
    pub(super) segments: Segments,
    pub(super) offsets: Vec<usize>,
    pub(super) steps: Vec<Step>,
}

/// Memory aligned to cache lines, which only grows.
#[derive(Default)]
pub(super) struct Buffer<A>(Vec<A>);

impl<A: Copy + Default> Buffer<A> {
    /// `len` elements of any value.
    pub fn take(&mut self, len: usize) -> Result<&mut [A]> {
        take(&mut self.0, len)
    }

    /// So many zeros, and `len` elements of any value behind them.
    pub fn take_behind(&mut self, zeros: usize, len: usize) -> Result<&mut [A]> {
        let all = self.take(zeros.saturating_add(len))?;
        all[..zeros].fill(A::default());
        Ok(all)
    }
}

/// `len` elements of any value at the start of a cache line.
pub(super) fn take<A: Copy + Default>(buffer: &mut Vec<A>, len: usize) -> Result<&mut [A]> {
    let padded = len.saturating_add(LINE);
    if buffer.len() < padded {
        let more = padded - buffer.len();
        buffer
            .try_reserve_exact(more)
            .map_err(|_| out_of_memory::<A>(padded))?;
        buffer.resize(padded, A::default());
    }
    let skip = buffer.as_ptr().align_offset(LINE).min(LINE);
    Ok(&mut buffer[skip..skip + len])
}

fn out_of_memory<A>(elements: usize) -> Error {
    Error::OutOfMemory {
        what: "a convolution's workspace".into(),
        requested: elements.saturating_mul(size_of::<A>()),
    }
}

/// A product of sizes; what does not fit cannot be allocated either.
pub(super) fn product(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |p, &s| p.saturating_mul(s))
}
