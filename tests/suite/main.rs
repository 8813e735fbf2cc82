//! The crate's test suite, one module a rung of the pyramid.

#[cfg(feature = "cli")]
mod bench;
mod cases;
#[cfg(feature = "cli")]
mod cli;
mod golden;
mod shape_table;
