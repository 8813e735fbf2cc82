//! The CPU engine: what every operation does on slices in memory.
//!
//! Everything here is written once for rank 4; lower ranks come with unit axes in front.
//! Shapes were checked by `ops`.

pub(crate) mod circular;
pub(crate) mod conv;
pub(crate) mod crew;
pub(crate) mod loss;
pub(crate) mod output;
pub(crate) mod pad;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod simd;
pub(crate) mod step;
mod strides;

pub(crate) use strides::Strides;

pub use conv::{Dispatch, MicroKernel, Passes, Weight};
