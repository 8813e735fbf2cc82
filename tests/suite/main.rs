//! The crate's test suite, one module a rung of the pyramid.

mod arrays;
mod cases;
mod circular;
mod circular_properties;
#[cfg(feature = "cli")]
mod cli;
mod golden;
mod sampled;
mod shape_table;
mod signal;
