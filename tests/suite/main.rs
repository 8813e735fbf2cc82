//! The crate's test suite, one module a rung of the pyramid.

mod files;
mod golden;
mod hostile_files;
mod remap;
mod shape_table;
