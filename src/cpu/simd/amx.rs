//! Tiles of Intel AMX: products of 16 rows, 16 pairs of bf16 a row, and 16 lanes.
//!
//! The instructions are a trait, so that the same loops run on a model of them in tests.

use std::arch::asm;

use super::level::cpuid;
use super::{STEPS, TileProduct};

/// Rows of a tile, and the words of a row.
const SIDE: usize = 16;
const _: () = assert!(STEPS == SIDE);

/// Tile registers 0 to 3 for sums, 4 and 5 for rows of `a`, 6 and 7 for lanes of `b`.
///
/// # Safety
/// Implementations must do as Intel's manual says of `tilezero`, `tileloadd`, `tilestored` and
/// `tdpbf16ps`, with tiles of 16 rows of 64 bytes.
pub(super) unsafe trait Tiles {
    /// Before any other method, on the same thread.
    unsafe fn begin() -> Self;
    unsafe fn zero<const T: usize>(&mut self);
    /// Rows that are `pitch` words apart.
    unsafe fn load<const T: usize>(&mut self, from: *const u32, pitch: usize);
    unsafe fn store<const T: usize>(&mut self, to: *mut u32, pitch: usize);
    /// `sums[row][lane] += a[row] * b[lane]`, where a word of `a` is a pair and one of `b` as well.
    unsafe fn multiply<const SUMS: usize, const A: usize, const B: usize>(&mut self);
}

impl TileProduct<'_, u32> {
    /// # Safety
    /// The machine must have what `T` needs.
    pub(super) unsafe fn run<T: Tiles>(self) {
        let TileProduct {
            a,
            a_pitch,
            b,
            b_pitch,
            steps,
            c,
            c_pitch,
            rows,
            lanes,
            add,
        } = self;
        if rows == 0 || lanes == 0 {
            return;
        }
        let [tall, wide] = [rows, lanes].map(|n| n.next_multiple_of(SIDE));
        assert!(steps.is_multiple_of(SIDE) && steps <= a_pitch && a.len() >= tall * a_pitch);
        assert!(steps == 0 || wide <= b.len() && (steps - 1) * b_pitch <= b.len() - wide);
        assert!(lanes <= c_pitch && lanes <= c.len() && (rows - 1) * c_pitch <= c.len() - lanes);
        // SAFETY: by this function's contract.
        let mut tiles = unsafe { T::begin() };
        for lane in (0..lanes).step_by(2 * SIDE) {
            for row in (0..rows).step_by(2 * SIDE) {
                let count = ((rows - row).min(2 * SIDE), (lanes - lane).min(2 * SIDE));
                let (a, b) = (&a[row * a_pitch..], &b[lane.min(b.len())..]);
                let c = &mut c[row * c_pitch + lane..];
                // sums of whole tiles where they are, of others in a copy
                let mut copy = [0; 4 * SIDE * SIDE];
                let whole = count.0.is_multiple_of(SIDE) && count.1.is_multiple_of(SIDE);
                let (sums, pitch) = match whole {
                    true => (c.as_mut_ptr(), c_pitch),
                    false => (copy.as_mut_ptr(), 2 * SIDE),
                };
                if !whole && add {
                    for i in 0..count.0 {
                        let row = &c[i * c_pitch..][..count.1];
                        copy[i * pitch..][..count.1].copy_from_slice(row);
                    }
                }
                let block = Block {
                    a: (a.as_ptr(), a_pitch),
                    b: (b.as_ptr(), b_pitch),
                    c: (sums, pitch),
                    steps,
                    add,
                };
                // SAFETY: rows of `a` up to `tall`, lanes of `b` up to `wide` and the sums, in `c` or
                // in the copy, were just checked; the rest by this function's contract.
                unsafe {
                    match (count.0 > SIDE, count.1 > SIDE) {
                        (false, false) => block.run::<T, 1, 1>(&mut tiles),
                        (false, true) => block.run::<T, 1, 2>(&mut tiles),
                        (true, false) => block.run::<T, 2, 1>(&mut tiles),
                        (true, true) => block.run::<T, 2, 2>(&mut tiles),
                    }
                }
                if !whole {
                    for i in 0..count.0 {
                        let row = &copy[i * pitch..][..count.1];
                        c[i * c_pitch..][..count.1].copy_from_slice(row);
                    }
                }
            }
        }
    }
}

/// At most two by two tiles of sums; operands begin here, and have rows so far apart.
struct Block {
    a: (*const u32, usize),
    b: (*const u32, usize),
    c: (*mut u32, usize),
    steps: usize,
    add: bool,
}

impl Block {
    /// # Safety
    /// As [`TileProduct::run`]; memory must be valid for `R` by `N` tiles.
    unsafe fn run<T: Tiles, const R: usize, const N: usize>(self, tiles: &mut T) {
        let Block {
            a: (a, a_pitch),
            b: (b, b_pitch),
            c: (c, c_pitch),
            steps,
            add,
        } = self;
        let (right, below) = (c.wrapping_add(SIDE), c.wrapping_add(SIDE * c_pitch));
        let corner = below.wrapping_add(SIDE);
        // SAFETY: by this function's contract.
        unsafe {
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
            if add {
                tiles.load::<0>(c, c_pitch);
                if N > 1 {
                    tiles.load::<1>(right, c_pitch);
                }
                if R > 1 {
                    tiles.load::<2>(below, c_pitch);
                }
                if R > 1 && N > 1 {
                    tiles.load::<3>(corner, c_pitch);
                }
            }
            for step in (0..steps).step_by(SIDE) {
                let (a, b) = (a.add(step), b.add(step * b_pitch));
                tiles.load::<4>(a, a_pitch);
                tiles.load::<6>(b, b_pitch);
                tiles.multiply::<0, 4, 6>();
                if N > 1 {
                    tiles.load::<7>(b.add(SIDE), b_pitch);
                    tiles.multiply::<1, 4, 7>();
                }
                if R > 1 {
                    tiles.load::<5>(a.add(SIDE * a_pitch), a_pitch);
                    tiles.multiply::<2, 5, 6>();
                }
                if R > 1 && N > 1 {
                    tiles.multiply::<3, 5, 7>();
                }
            }
            tiles.store::<0>(c, c_pitch);
            if N > 1 {
                tiles.store::<1>(right, c_pitch);
            }
            if R > 1 {
                tiles.store::<2>(below, c_pitch);
            }
            if R > 1 && N > 1 {
                tiles.store::<3>(corner, c_pitch);
            }
        }
    }
}

/// The machine's own.
pub(super) struct Amx(());

/// What `ldtilecfg` reads: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const CONFIGURATION: Configuration = {
    let mut configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    let mut tile = 0;
    while tile < 8 {
        configuration.row_bytes[tile] = 4 * SIDE as u16;
        configuration.rows[tile] = SIDE as u8;
        tile += 1;
    }
    configuration
};

// SAFETY: one instruction each. The compiler has no other use for tile registers.
unsafe impl Tiles for Amx {
    #[inline(always)]
    unsafe fn begin() -> Self {
        let configuration = &CONFIGURATION;
        // SAFETY: reads 64 bytes; the machine has AMX by the caller's promise.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, preserves_flags, readonly));
        }
        Amx(())
    }

    #[inline(always)]
    unsafe fn zero<const T: usize>(&mut self) {
        // SAFETY: as above.
        unsafe { asm!("tilezero tmm{}", const T, options(nostack, preserves_flags, nomem)) }
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u32, pitch: usize) {
        // SAFETY: memory is valid by the caller's promise.
        unsafe {
            asm!("tileloadd tmm{}, [{} + {}*1]", const T, in(reg) from, in(reg) pitch * 4,
                options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&mut self, to: *mut u32, pitch: usize) {
        // SAFETY: as above.
        unsafe {
            asm!("tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) pitch * 4, const T,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn multiply<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: as above.
        unsafe {
            asm!("tdpbf16ps tmm{}, tmm{}, tmm{}", const SUMS, const A, const B,
                options(nostack, preserves_flags, nomem));
        }
    }
}

impl Drop for Amx {
    /// Tiles without values cost nothing when threads take turns.
    fn drop(&mut self) {
        // SAFETY: there is a value where the machine has AMX.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

/// Whether the machine has AMX for bf16, and the system lets this process use it, which it is asked
/// for here.
pub(super) fn detected() -> bool {
    #[cfg(target_os = "linux")]
    {
        const OSXSAVE: u32 = 1 << 27;
        const AMX_BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
        const TILE_STATE: u32 = 3 << 17;
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XTILEDATA: libc::c_long = 18;
        if cpuid(0).eax < 7
            || cpuid(1).ecx & OSXSAVE == 0
            || cpuid(7).edx & AMX_BF16_AND_TILE != AMX_BF16_AND_TILE
        {
            return false;
        }
        let enabled: u32;
        // SAFETY: OSXSAVE says that the instruction is there; it reads register 0.
        unsafe {
            asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _,
                options(nostack, preserves_flags, nomem));
        }
        // SAFETY: the call has no memory operands.
        enabled & TILE_STATE == TILE_STATE
            && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) } == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// A model of the instructions.
#[cfg(test)]
pub(super) struct Model([[[u32; SIDE]; SIDE]; 8]);

#[cfg(test)]
// SAFETY: memory as the trait says.
unsafe impl Tiles for Model {
    unsafe fn begin() -> Self {
        // what an instruction reads must have been written
        Model([[[f32::NAN.to_bits(); SIDE]; SIDE]; 8])
    }

    unsafe fn zero<const T: usize>(&mut self) {
        self.0[T] = Default::default();
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u32, pitch: usize) {
        for (i, row) in self.0[T].iter_mut().enumerate() {
            // SAFETY: valid by the caller's promise.
            *row = unsafe { from.add(i * pitch).cast::<[u32; SIDE]>().read_unaligned() };
        }
    }

    unsafe fn store<const T: usize>(&mut self, to: *mut u32, pitch: usize) {
        for (i, row) in self.0[T].iter().enumerate() {
            // SAFETY: valid by the caller's promise.
            unsafe {
                to.add(i * pitch)
                    .cast::<[u32; SIDE]>()
                    .write_unaligned(*row)
            };
        }
    }

    unsafe fn multiply<const SUMS: usize, const A: usize, const B: usize>(&mut self) {
        let halves = |word: u32| [word << 16, word & 0xffff_0000].map(f32::from_bits);
        for row in 0..SIDE {
            for lane in 0..SIDE {
                let mut sum = f32::from_bits(self.0[SUMS][row][lane]);
                for step in 0..SIDE {
                    let [a, b] = [self.0[A][row][step], self.0[B][step][lane]].map(halves);
                    sum += a[0] * b[0];
                    sum += a[1] * b[1];
                }
                self.0[SUMS][row][lane] = sum.to_bits();
            }
        }
    }
}
