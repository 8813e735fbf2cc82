//! Instruction sets: which one runs, and the vector operations that the kernels are written in.
//!
//! A kernel is an [`Op`]: one generic body over [`Vector`]. [`MicroKernel::dispatch`] runs it
//! compiled for the level that was found at run time. `NDCONV_CPU_LEVEL` lowers the level of a
//! whole process.

use std::cell::RefCell;
use std::thread::LocalKey;

use half::{bf16, f16};

use super::conv::Scratch;

/// Runs `$kernel::<scalar, rows, vectors>` for a register tile of at most 14 rows of 1 or 2 vectors.
macro_rules! register_tiles {
    ($scalar:ident, $level:expr, $kernel:ident, ($rows:expr, $vectors:expr), $operands:expr) => {
        register_tiles!(@sizes $scalar, $level, $kernel, ($rows, $vectors), $operands;
            1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@sizes $scalar:ident, $level:expr, $kernel:ident, ($rows:expr, $vectors:expr), $operands:expr;
        $($count:literal)*) => {
        match ($vectors, $rows) {
            $((1, $count) => <$scalar as super::Dispatch<$scalar>>::products($level, $kernel::<$scalar, $count, 1>($operands)),)*
            $((2, $count) => <$scalar as super::Dispatch<$scalar>>::products($level, $kernel::<$scalar, $count, 2>($operands)),)*
            (vectors, rows) => unreachable!("{rows} rows of {vectors} vectors"),
        }
    };
}

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod channelwise;
mod cuts;
mod direct;
mod fir;
mod fourier;
mod gather;
mod level;
mod lines;
mod moves;
#[cfg(target_arch = "aarch64")]
mod neon;
mod outer;
mod pairs;
mod planes;
mod portable;
mod ring;
mod rounding;
mod stored;
mod tile;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::host::LINE;
use level::Set;
use stored::Stored;

pub use level::Level;

pub(crate) use ahead::Ahead;
pub(crate) use channelwise::{
    ChannelRow, ChannelTarget, Edges, Group, POSITIONS, RUN, Run, channel_gradient, channel_row,
    streams as channels_stream,
};
pub(crate) use cuts::{Cuts, cut_rows, cut_rows_to};
pub(crate) use direct::{
    Direct, DirectGradient, HEIGHTS, direct, direct_gradient, gradient_places, gradient_tile,
    tallest as direct_tallest, vectors as direct_vectors,
};
pub(crate) use fir::{correlate, fir_lanes, fir_positions};
pub(crate) use fourier::{Factor, FourierPlan};
pub(crate) use gather::{Place, Plan, Rows, as_acc, gather};
pub(crate) use lines::{LastAxis, LineTap, Lines, Row, inside_range};
pub(crate) use moves::{add_parts, finish_rows, pick, spread_rows};
pub(crate) use outer::{OuterProduct, Segments, outer_product};
pub(crate) use pairs::{
    STEPS, TileProduct, as_elements, as_pairs, interleave, join, join_rows, multiply_tiles,
};
pub(crate) use planes::{
    PlaneFilters, PlaneGradient, Step, plane_filters, plane_gradient, plane_height, plane_runs,
};
pub(crate) use ring::{Plane, RING_ROWS, ring, ring_columns, ring_gradient};
pub(crate) use rounding::{Pixels, narrow, narrow_past, narrow_pixels, widen};
pub(crate) use tile::{DEPTH, Factors, Places, ROW, copy_rows, multiply};
pub(crate) use transpose::{transpose, transpose_to};

/// Asks for memory to come to the caches, where there is an instruction for that.
pub(crate) fn prefetch<A>(memory: &[A]) {
    for line in memory.chunks(LINE / size_of::<A>()) {
        prefetch_line(line.as_ptr().cast());
    }
}

/// As [`prefetch`], of the line that has this byte, wherever that is.
#[inline(always)]
fn prefetch_line(byte: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which accesses nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(byte.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = byte;
}

/// When it goes, what its thread wrote with [`Vector::stream`] is there for others.
pub(crate) struct Drain;

impl Drop for Drain {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 has the instruction.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

/// A register of numbers.
///
/// # Safety
/// The methods execute instructions of the implementor's level; the caller must hold its
/// [`Level`]. Pointers must be valid for [`Vector::LANES`] elements, for the masked loads at the
/// lanes of the mask only, which may be none; they need no alignment.
pub unsafe trait Vector: Copy {
    type Scalar: Copy;
    const LANES: usize;
    /// Rows of the largest register tile of two vectors a row.
    const ROWS: usize;
    /// Of the largest one of one vector a row.
    const TALL: usize = Self::ROWS;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: Self::Scalar) -> Self;
    unsafe fn load(from: *const Self::Scalar) -> Self;
    unsafe fn store(self, to: *mut Self::Scalar);
    /// As [`Vector::store`] past the caches, to an address that is a multiple of the vector's size; a
    /// [`Drain`] must go before another thread may look, as one does at the end of every
    /// [region](crate::cpu::crew).
    #[inline(always)]
    unsafe fn stream(self, to: *mut Self::Scalar) {
        // SAFETY: as this method.
        unsafe { self.store(to) }
    }
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    unsafe fn multiply(self, factor: Self) -> Self;
    /// `self * factor + sum`
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// The lanes of `mask` from memory, the others from `self`.
    unsafe fn load_masked(self, mask: u32, from: *const Self::Scalar) -> Self;
    /// Lane `l` of `mask` from `from + l * step`, the others from `self`.
    #[inline(always)]
    unsafe fn load_strided(self, mask: u32, from: *const Self::Scalar, step: usize) -> Self {
        // SAFETY: as this method.
        unsafe { load_strided(self, mask, from, step) }
    }
    /// Of numbers that are pairs, those bits of each; others are as they are.
    #[inline(always)]
    unsafe fn keep(self, _bits: u32) -> Self {
        self
    }
    /// Lane `l` from lane `index[l]`, which must be one; for [`Vector::LANES`] of them.
    #[inline(always)]
    unsafe fn permute(self, index: *const u32) -> Self {
        let lanes = [self];
        let lanes: *const Self::Scalar = lanes.as_ptr().cast();
        let mut to = [self];
        let start: *mut Self::Scalar = to.as_mut_ptr().cast();
        for l in 0..Self::LANES {
            // SAFETY: a vector is that many numbers, and the index by this method's contract.
            unsafe { *start.add(l) = *lanes.add(*index.add(l) as usize) };
        }
        to[0]
    }
    /// `to[column * pitch + row] = from[row * step + column]` for so many rows and columns, at least
    /// one and at most [`Vector::LANES`]; memory must be valid there.
    #[inline(always)]
    unsafe fn transpose(
        from: *const Self::Scalar,
        step: usize,
        to: *mut Self::Scalar,
        pitch: usize,
        size: (usize, usize),
    ) {
        // SAFETY: as this method.
        unsafe { transpose_each(from, step, to, pitch, size) }
    }
}

/// [`Vector::transpose`] one element at a time.
///
/// # Safety
/// As the method.
#[inline(always)]
unsafe fn transpose_each<A: Copy>(
    from: *const A,
    step: usize,
    to: *mut A,
    pitch: usize,
    (rows, columns): (usize, usize),
) {
    for column in 0..columns {
        for row in 0..rows {
            // SAFETY: valid by this function's contract.
            unsafe { *to.add(column * pitch + row) = *from.add(row * step + column) };
        }
    }
}

/// [`Vector::load_strided`] one lane at a time.
///
/// # Safety
/// As the method.
#[inline(always)]
unsafe fn load_strided<V: Vector>(old: V, mask: u32, from: *const V::Scalar, step: usize) -> V {
    const MOST: usize = 16;
    const { assert!(V::LANES <= MOST) };
    if mask == 0 {
        return old;
    }
    // SAFETY: memory at the lanes of the mask, and the level, by the trait's contract; `lanes` is
    // at least one vector.
    unsafe {
        let mut lanes = [*from.wrapping_add(mask.trailing_zeros() as usize * step); MOST];
        old.store(lanes.as_mut_ptr());
        for (lane, to) in lanes.iter_mut().enumerate().take(V::LANES) {
            if mask >> lane & 1 == 1 {
                *to = *from.wrapping_add(lane * step);
            }
        }
        V::load(lanes.as_ptr())
    }
}

/// A kernel body, generic over the vector it is compiled for, which reads and writes elements `E`.
pub trait Op<A, E = A> {
    type Output;
    /// # Safety
    /// The level of `V` must be available. Implementations must be `#[inline(always)]`, or they
    /// are not compiled for that level.
    unsafe fn run<V: Vector<Scalar = A> + Stored<E>>(self) -> Self::Output;
}

macro_rules! compiled {
    ($($(#[$attribute:meta])* $name:ident;)*) => {
        /// An [`Op`] compiled for an instruction set. These are methods of the body because the compiler deals
        /// functions out to its threads by the module of what they are methods of: as functions by themselves,
        /// all kernels would be compiled by one thread.
        trait Compiled<A, E>: Op<A, E> + Sized {
            $(
                /// # Safety
                /// The machine must have the instructions, and `V` be of no others.
                $(#[$attribute])*
                unsafe fn $name<V: Vector<Scalar = A> + Stored<E>>(self) -> Self::Output {
                    // SAFETY: the instructions are there by this method's own contract.
                    unsafe { self.run::<V>() }
                }
            )*
        }
    };
}

compiled! {
    #[inline(never)]
    portable;
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    neon;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    avx2;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    avx512;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
    avx512_bf16;
}

impl<A, E, O: Op<A, E>> Compiled<A, E> for O {}

/// Runs kernel bodies that read and write elements `E`.
#[doc(hidden)]
pub trait Dispatch<E>: Sized {
    /// Runs a kernel body compiled for `level`.
    fn dispatch<O: Op<Self, E>>(level: Level, op: O) -> O::Output;
    /// The same with the products of the level: maybe of pairs.
    fn products<O: Op<Self, E>>(level: Level, op: O) -> O::Output {
        Self::dispatch(level, op)
    }
}

/// The register-blocked inner product that the engine is built on: the part of an
/// [`Accumulator`](crate::Accumulator) that depends on the machine.
#[doc(hidden)]
pub trait MicroKernel: Copy + Dispatch<Self> {
    /// Numbers in one vector, and rows of the largest register tile.
    fn geometry(level: Level) -> Geometry;
    /// This thread's tile-sized buffers.
    fn scratch() -> &'static LocalKey<RefCell<Scratch<Self>>>;
    /// This thread's buffer for packed weights, kept between calls.
    fn packed() -> &'static LocalKey<RefCell<Vec<Self>>>;
    /// This thread's buffer for a transposed source, kept between calls.
    fn turned() -> &'static LocalKey<RefCell<Vec<Self>>>;
}

/// The register tile of a level.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub lanes: usize,
    pub rows: usize,
    /// Rows of the largest one of one vector a row.
    pub tall: usize,
}

impl Geometry {
    fn of<V: Vector>() -> Self {
        Geometry {
            lanes: V::LANES,
            rows: V::ROWS,
            tall: V::TALL,
        }
    }

    /// Rows of the largest register tile of so many channels.
    pub fn most(&self, channels: usize) -> usize {
        match channels <= self.lanes {
            true => self.tall,
            false => self.rows,
        }
    }
}

macro_rules! micro_kernel {
    ($scalar:ident, $portable:ident, $neon:ident, $avx2:ident, $avx512:ident) => {
        impl MicroKernel for $scalar {
            fn geometry(level: Level) -> Geometry {
                match level.set {
                    Set::Portable => Geometry::of::<portable::$portable>(),
                    #[cfg(target_arch = "aarch64")]
                    Set::Neon => Geometry::of::<neon::$neon>(),
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx2 => Geometry::of::<x86::$avx2>(),
                    #[cfg(target_arch = "x86_64")]
                    Set::Amx if level.pairs => Geometry {
                        rows: STEPS,
                        tall: STEPS,
                        ..Geometry::of::<x86::$avx512>()
                    },
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx512 | Set::Avx512Bf16 | Set::Amx => Geometry::of::<x86::$avx512>(),
                }
            }

            fn scratch() -> &'static LocalKey<RefCell<Scratch<$scalar>>> {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$scalar>> = RefCell::default();
                }
                &SCRATCH
            }

            fn packed() -> &'static LocalKey<RefCell<Vec<$scalar>>> {
                thread_local! {
                    static PACKED: RefCell<Vec<$scalar>> = RefCell::default();
                }
                &PACKED
            }

            fn turned() -> &'static LocalKey<RefCell<Vec<$scalar>>> {
                thread_local! {
                    static TURNED: RefCell<Vec<$scalar>> = RefCell::default();
                }
                &TURNED
            }
        }
    };
}

micro_kernel!(f32, F32x4, F32x4, F32x8, F32x16);
micro_kernel!(f64, F64x2, F64x2, F64x4, F64x8);

macro_rules! dispatch {
    (
        $scalar:ident from $element:ident,
        $portable:ident, $neon:ident, $avx2:ident, $avx512:ident $(, $pairs:ident)?
    ) => {
        impl Dispatch<$element> for $scalar {
            fn dispatch<O: Op<$scalar, $element>>(level: Level, op: O) -> O::Output {
                match level.set {
                    // SAFETY: every machine can run it.
                    Set::Portable => unsafe { op.portable::<portable::$portable>() },
                    #[cfg(target_arch = "aarch64")]
                    // SAFETY: a `Level` exists only where its instructions were detected.
                    Set::Neon => unsafe { op.neon::<neon::$neon>() },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Set::Avx2 => unsafe { op.avx2::<x86::$avx2>() },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Set::Avx512 | Set::Avx512Bf16 | Set::Amx => unsafe { op.avx512::<x86::$avx512>() },
                }
            }

            $(
                #[cfg(target_arch = "x86_64")]
                fn products<O: Op<$scalar, $element>>(level: Level, op: O) -> O::Output {
                    match level.pairs {
                        // SAFETY: only a level that has the instructions is of pairs, and with AMX
                        // these are no register tiles.
                        true if !level.tiles() => unsafe {
                            op.avx512_bf16::<x86::$pairs>()
                        },
                        _ => Self::dispatch(level, op),
                    }
                }
            )?
        }
    };
}

dispatch!(f32 from f32, F32x4, F32x4, F32x8, F32x16, PairsX16);
dispatch!(f32 from bf16, F32x4, F32x4, F32x8, F32x16, PairsX16);
dispatch!(f32 from f16, F32x4, F32x4, F32x8, F32x16);
dispatch!(f64 from f64, F64x2, F64x2, F64x4, F64x8);
