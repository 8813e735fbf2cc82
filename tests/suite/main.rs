//! One binary for the whole pyramid: the oracle first, then what is proved against it.
//!
//! `oracle` knows nothing of the crate; `geometry`, `framework_rules` and `shape_table` prove the
//! shape arithmetic, `parity` and `pooling` the numbers, `properties` the algebra, `golden` and
//! `training` the agreement with other frameworks; `layers` and `requirements` go through what
//! users asked for, `nonsense`, `arbitrary` and `refused` through what must come back as an error.

mod arbitrary;
mod arrays;
#[cfg(feature = "cli")]
mod bench;
mod case;
mod cases;
mod circular;
mod circular_properties;
#[cfg(feature = "cli")]
mod cli;
mod data;
mod device_parity;
mod files;
mod framework_rules;
mod geometry;
mod golden;
mod hostile_files;
mod layers;
mod nonsense;
mod oracle;
mod padding_modes;
mod parameters;
mod parity;
mod pool_oracle;
mod pooling;
mod properties;
mod random_case;
mod rank_four;
mod refused;
mod remap;
#[cfg(feature = "cli")]
mod remap_cli;
mod repeatable;
mod requirements;
mod rewritings;
mod sampled;
mod shape_table;
mod signal;
mod smear_gradient;
mod tensors;
mod training;

use std::path::PathBuf;

/// The folder of the repository, or of a bundle of its tests.
fn root() -> PathBuf {
    ndconv::case::package(env!("CARGO_MANIFEST_DIR"))
}

/// The command line program.
#[cfg(feature = "cli")]
fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_ndconv"));
    match built.is_file() {
        true => built,
        false => root().join("bin/ndconv"),
    }
}
