//! What the examples share: data, command line, progress and plots.

pub mod cli;
pub mod data;
pub mod plot;
pub mod progress;
