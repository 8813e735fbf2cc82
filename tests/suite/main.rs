//! The crate's test suite, one module a rung of the pyramid.

mod golden;
mod shape_table;
mod signal;
