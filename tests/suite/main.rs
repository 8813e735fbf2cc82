//! The crate's test suite, one module a rung of the pyramid.

mod files;
mod golden;
mod hostile_files;
mod remap;
#[cfg(feature = "cli")]
mod remap_cli;
mod rewritings;
mod shape_table;
