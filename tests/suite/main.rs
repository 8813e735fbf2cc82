//! The crate's test suite, one module a rung of the pyramid.

mod golden;
mod layers;
mod parameters;
mod refused;
mod shape_table;
mod training;
