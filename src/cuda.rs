//! The GPU engine: one layer over two back ends, the CUDA driver and the emulator.
//!
//! The way of an operation: `ops` checks shapes and calls a function of this module, which fills an
//! argument struct (`args`), picks a kernel (`plan`, `kernel`) and hands both to `launch`. The
//! kernels are in `kernels/*.cu`, under the same names. Everything is written once for rank 4;
//! lower ranks come with unit axes in front.

#![cfg_attr(
    not(all(feature = "cuda", feature = "emulator")),
    allow(
        dead_code,
        unreachable_code,
        unused_imports,
        unused_variables,
        clippy::unnecessary_filter_map,
        reason = "one layer serves both back ends: with fewer, parts of it rest"
    )
)]

mod args;
mod buffer;
pub(crate) mod circular;
pub(crate) mod conv;
mod conv_mma;
mod conv_plan;
mod conv_query;
mod conv_task;
mod device;
mod kernel;
mod launch;
pub(crate) mod loss;
pub(crate) mod pad;
mod plan;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod step;
mod tune;
mod workspace;

pub(crate) use buffer::DeviceBuffer;
pub use conv_plan::{Algorithm, MathMode};
pub use conv_query::ConvPlan;
pub use device::{CopyTiming, CudaDevice};
pub use kernel::{Compiled as CompiledKernel, Module as KernelModule, modules as kernel_modules};
pub use tune::Autotune;
