//! The crate's test suite, one module a rung of the pyramid.

mod cases;
#[cfg(feature = "cli")]
mod cli;
mod golden;
mod shape_table;
mod signal;
