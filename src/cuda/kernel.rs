//! The kernels by name, and the fat binaries that `build.rs` embedded.

use super::launch::{Arguments, Grid, Launch};
use super::plan::Tile;
use crate::element::{DType, Element};
use crate::error::{Error, Result};

/// A fat binary of one file of `kernels/`.
pub struct Module {
    /// The file's name without extension.
    pub name: &'static str,
    /// Machine code for every architecture of the build, and PTX.
    pub image: &'static [u8],
    /// What ptxas made of each kernel on each architecture.
    pub kernels: &'static [Compiled],
}

/// One kernel on one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    /// The symbol.
    pub name: &'static str,
    /// Such as `90` or `90a`.
    pub arch: &'static str,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of stack and of spilled registers per thread.
    pub local_bytes: u32,
}

mod built {
    #[allow(unused_imports, reason = "an empty table names no kernel")]
    use super::{Compiled, Module};

    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// A hash of the sources of all kernels and of every fat binary of this build.
pub(super) fn hash() -> &'static str {
    built::HASH
}

/// Every module of this build; empty when there was no nvcc.
pub fn modules() -> &'static [Module] {
    built::MODULES
}

/// Fails, with the reason, when this build holds no kernels.
#[cfg(feature = "cuda")]
pub(super) fn check_built() -> Result<()> {
    if built::MODULES.is_empty() {
        let why = built::WHY_NOT.into();
        return Err(Error::KernelsNotBuilt { why });
    }
    Ok(())
}

/// The fat binary of a file of `kernels/`.
#[cfg(feature = "cuda")]
pub(super) fn image(module: &str) -> Result<&'static [u8]> {
    let found = built::MODULES.iter().find(|m| m.name == module);
    found
        .map(|m| m.image)
        .ok_or_else(|| Error::KernelsNotBuilt {
            why: format!("there is no kernels/{module}.cu in it"),
        })
}

/// A kernel of a file: `module_name_instance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    pub module: &'static str,
    pub name: &'static str,
    instance: Instance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Instance {
    One,
    Element(DType),
    Width(usize),
    Cast(DType, DType),
    Tile(Tile, DType),
}

impl Kernel {
    const fn new(module: &'static str, name: &'static str, instance: Instance) -> Self {
        Kernel {
            module,
            name,
            instance,
        }
    }

    pub fn one(module: &'static str, name: &'static str) -> Self {
        Self::new(module, name, Instance::One)
    }

    /// The instance for an element type.
    pub fn element<T: Element>(module: &'static str, name: &'static str) -> Self {
        Self::new(module, name, Instance::Element(T::DTYPE))
    }

    /// The instance for everything as wide as an element type: it only moves.
    pub fn width<T: Element>(module: &'static str, name: &'static str) -> Self {
        Self::new(module, name, Instance::Width(size_of::<T>()))
    }

    pub fn cast<T: Element, U: Element>() -> Self {
        Self::new("pointwise", "cast", Instance::Cast(T::DTYPE, U::DTYPE))
    }

    /// The instance whose blocks own such a tile.
    pub fn tile<T: Element>(module: &'static str, name: &'static str, tile: Tile) -> Self {
        Self::new(module, name, Instance::Tile(tile, T::DTYPE))
    }

    /// Runs it; `launch` holds the buffers whose addresses are in `args`.
    pub fn run<A: Arguments>(&self, launch: Launch, grid: Grid, args: &A) -> Result<()> {
        launch.run(*self, grid, args)
    }

    /// The one place where symbols are spelled.
    pub fn symbol(&self) -> String {
        let mut parts = vec![self.module.to_owned(), self.name.to_owned()];
        match self.instance {
            Instance::One => {}
            Instance::Element(dtype) => parts.push(dtype.to_string()),
            Instance::Width(bytes) => parts.push(format!("b{bytes}")),
            Instance::Cast(from, to) => parts.push(format!("{from}_{to}")),
            Instance::Tile(tile, dtype) => parts.push(format!("{tile}_{dtype}")),
        }
        parts.retain(|part| !part.is_empty());
        parts.join("_")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What instances of a kernel there are, and how their symbols end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Instances {
        /// One, without a suffix.
        One,
        /// One per element type: `_f32`.
        Elements,
        /// One per element width in bytes: `_b4`.
        Widths,
        /// One per pair of different element types: `_f32_f16`.
        Casts,
        /// Small tiles for every element type, and all others for f32: `_128x32_f32`.
        Tiles,
        /// All tiles for what tensor cores take, f64 in small ones alone: `_64_f16`.
        TensorTiles,
        /// Square tiles for elements of 16 bits.
        SquareHalfTiles,
        /// All tiles for elements of 16 bits.
        HalfTiles,
    }

    /// Every kernel: file, name in it, instances. A new kernel goes into this table.
    const KERNELS: &[(&str, &str, Instances)] = &[
        ("circular", "direct", Instances::Elements),
        ("circular", "fft", Instances::Elements),
        ("conv_direct", "rows", Instances::Elements),
        ("conv_direct", "wgrad", Instances::Elements),
        ("conv_mma_rows", "", Instances::TensorTiles),
        ("conv_mma_rows", "pack", Instances::Widths),
        ("conv_mma_rows", "pixels", Instances::SquareHalfTiles),
        ("conv_mma_wgrad", "", Instances::TensorTiles),
        ("conv_mma_wgrad", "channels", Instances::HalfTiles),
        ("conv_rows", "", Instances::Tiles),
        ("conv_wgrad", "", Instances::Tiles),
        ("layout", "transpose", Instances::Widths),
        ("loss", "classes", Instances::Elements),
        ("loss", "pairs", Instances::Elements),
        ("loss", "total", Instances::One),
        ("pad", "adjoint", Instances::Elements),
        ("pad", "forward", Instances::Widths),
        ("pointwise", "activate", Instances::Elements),
        ("pointwise", "activate_backward", Instances::Elements),
        ("pointwise", "cast", Instances::Casts),
        ("pointwise", "dropout", Instances::Elements),
        ("pointwise", "fill", Instances::Widths),
        ("pool", "avg", Instances::Elements),
        ("pool", "avg_backward", Instances::Elements),
        ("pool", "max", Instances::Elements),
        ("pool", "max_backward", Instances::Elements),
        ("reduce", "channels", Instances::Elements),
        ("reduce", "splits", Instances::Elements),
        ("softmax", "backward", Instances::Elements),
        ("softmax", "forward", Instances::Elements),
        ("step", "adam", Instances::Elements),
        ("step", "sgd", Instances::Elements),
    ];

    const ALL_TILES: [Tile; 3] = [Tile::SMALL, Tile::LARGE, Tile::NARROW];

    fn tiles(tiles: &[Tile], types: &[DType]) -> impl Iterator<Item = Instance> {
        let pairs = tiles
            .iter()
            .flat_map(|&t| types.iter().map(move |&d| (t, d)));
        pairs.map(|(t, d)| Instance::Tile(t, d))
    }

    /// Every kernel that there should be.
    fn all_kernels() -> Vec<Kernel> {
        let pairs = DType::ALL
            .into_iter()
            .flat_map(|a| DType::ALL.map(|b| (a, b)));
        let mut all = Vec::new();
        for &(module, name, instances) in KERNELS {
            let each: Vec<Instance> = match instances {
                Instances::One => vec![Instance::One],
                Instances::Elements => DType::ALL.map(Instance::Element).to_vec(),
                Instances::Widths => [2, 4, 8].map(Instance::Width).to_vec(),
                Instances::Casts => pairs
                    .clone()
                    .filter(|(a, b)| a != b)
                    .map(|(a, b)| Instance::Cast(a, b))
                    .collect(),
                Instances::Tiles => tiles(&ALL_TILES, &[DType::F32])
                    .chain(tiles(
                        &[Tile::SMALL],
                        &[DType::F16, DType::BF16, DType::F64],
                    ))
                    .collect(),
                Instances::TensorTiles => tiles(&ALL_TILES, &[DType::F16, DType::BF16, DType::F32])
                    .chain([Instance::Tile(Tile::SMALL, DType::F64)])
                    .collect(),
                Instances::SquareHalfTiles => {
                    tiles(&[Tile::SMALL, Tile::LARGE], &[DType::F16, DType::BF16]).collect()
                }
                Instances::HalfTiles => tiles(&ALL_TILES, &[DType::F16, DType::BF16]).collect(),
            };
            all.extend(each.into_iter().map(|i| Kernel::new(module, name, i)));
        }
        all
    }
    fn expected() -> BTreeSet<String> {
        all_kernels().iter().map(Kernel::symbol).collect()
    }

    #[cfg(feature = "emulator")]
    #[test]
    fn the_emulator_holds_every_kernel_and_no_other() {
        let held: BTreeSet<String> = super::super::launch::symbols()
            .into_iter()
            .filter(|s| !s.starts_with("planted_"))
            .collect();
        assert_eq!(held, expected());
    }

    #[test]
    fn every_architecture_of_the_build_holds_every_kernel() {
        let archs: BTreeSet<&str> = modules()
            .iter()
            .flat_map(|m| m.kernels)
            .map(|k| k.arch)
            .collect();
        for arch in &archs {
            let built = modules().iter().flat_map(|m| m.kernels);
            let held: BTreeSet<String> = built
                .filter(|k| k.arch == *arch)
                .map(|k| k.name.to_owned())
                .collect();
            assert_eq!(held, expected(), "sm_{arch}");
        }
        for module in modules() {
            assert!(module.image.len() > 64, "{} is empty", module.name);
            assert!(
                module
                    .kernels
                    .iter()
                    .all(|k| k.name.starts_with(module.name))
            );
        }
        assert_eq!(modules().is_empty(), archs.is_empty());
    }

    #[test]
    fn no_kernel_spills_registers() {
        let kernels = modules().iter().flat_map(|m| m.kernels);
        let spilling: Vec<_> = kernels.filter(|k| k.local_bytes > 0).collect();
        assert!(spilling.is_empty(), "{spilling:?}");
    }

    #[test]
    fn the_fat_binaries_together_stay_small() {
        let bytes: usize = modules().iter().map(|m| m.image.len()).sum();
        assert!(bytes < 12 << 20, "{bytes} bytes");
    }
}
