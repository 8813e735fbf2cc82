//! The crate's test suite, one module a rung of the pyramid.

mod arrays;
mod circular;
mod circular_properties;
mod golden;
mod sampled;
mod shape_table;
