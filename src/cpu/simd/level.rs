//! Instruction sets, and which of them a process uses: the fastest, or the one that `NDCONV_CPU_LEVEL`
//! names (`portable`, `avx2`, `avx512`, `avx512_bf16`, `amx`, `neon`).

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::amx;

/// An instruction set that this machine was found to have.
///
/// Values come from [`Level::best`] and [`Level::available`] alone, so that holding one proves
/// that its instructions may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub(super) set: Set,
    /// Whether register tiles multiply pairs of bf16 that stand in the place of an `f32`.
    pub(super) pairs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
pub(super) enum Set {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// With products of pairs of bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// AVX-512, and AMX for bf16.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Set::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "amx",
        }
    }
}

/// What the processor says of itself, of a leaf and its first part.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // newer versions of Rust have the function as a safe one
pub(super) fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every x86-64 has the instruction.
    unsafe { std::arch::x86_64::__cpuid_count(leaf, 0) }
}

#[cfg(target_arch = "x86_64")]
fn made_by_amd() -> bool {
    let vendor = cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx]
        .map(u32::to_le_bytes)
        .concat()
        == b"AuthenticAMD"
}

impl Level {
    /// Every level of this machine, slowest first.
    pub(crate) fn available() -> Vec<Level> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            allow(unused_mut)
        )]
        let mut sets = vec![Set::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                sets.push(Set::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    sets.push(Set::Avx512);
                    if is_x86_feature_detected!("avx512bf16") {
                        // Zen 4 does twice the work in pairs that it does in f32, Sapphire Rapids
                        // half of it (83 against 153 GFLOP/s a core)
                        let place = sets.len() - usize::from(!made_by_amd());
                        sets.insert(place, Set::Avx512Bf16);
                    }
                    if amx::detected() {
                        sets.push(Set::Amx);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            sets.push(Set::Neon);
        }
        let level = |set| Level { set, pairs: false };
        sets.into_iter().map(level).collect()
    }

    /// This level with register tiles that multiply pairs of bf16, if it has such.
    pub(crate) fn paired(self) -> Option<Level> {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.set, Set::Avx512Bf16 | Set::Amx) {
            return Some(Level {
                pairs: true,
                ..self
            });
        }
        None
    }

    pub(crate) fn pairs(self) -> bool {
        self.pairs
    }

    /// Whether products of pairs are those of [`super::multiply_tiles`].
    pub(crate) fn tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.pairs && self.set == Set::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The level of AMX where there is AVX-512; without AMX a model of it takes its place.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(crate) fn amx() -> Option<Level> {
        is_x86_feature_detected!("avx512f").then_some(Level {
            set: Set::Amx,
            pairs: false,
        })
    }

    /// The fastest level, or the one that `NDCONV_CPU_LEVEL` names if this machine has it;
    /// decided once per process.
    pub(crate) fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let levels = Level::available();
            let fastest = levels[levels.len() - 1];
            let Ok(wanted) = std::env::var("NDCONV_CPU_LEVEL") else {
                return fastest;
            };
            let found = levels.iter().find(|level| level.set.name() == wanted);
            *found.unwrap_or_else(|| {
                let names: Vec<_> = levels.iter().map(|level| level.set.name()).collect();
                let (names, fastest) = (names.join(", "), fastest.set.name());
                eprintln!(
                    "ndconv: NDCONV_CPU_LEVEL={wanted} is none of this machine's levels \
                     ({names}); using {fastest}"
                );
                &levels[levels.len() - 1]
            })
        })
    }
}
