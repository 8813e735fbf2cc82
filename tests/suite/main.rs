//! The crate's test suite, one module a rung of the pyramid.

mod golden;
mod remap;
mod shape_table;
