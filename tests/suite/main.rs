//! The crate's test suite, one module a rung of the pyramid.

mod circular;
mod golden;
mod sampled;
mod shape_table;
