//! Convolution layers of every rank.

mod axis;
mod cpu;
mod cuda;
mod device;
mod element;
mod error;
pub mod init;
pub mod io;
pub mod layer;
pub mod ops;
pub mod optim;
mod pool_problem;
mod problem;
mod rules;
mod shape;
mod tensor;

pub use axis::{Axis, PaddingMode};
pub use cuda::{
    Algorithm, CompiledKernel, CopyTiming, CudaDevice, KernelModule, MathMode, kernel_modules,
};
pub use device::Device;
pub use element::{Accumulator, DType, Element};
pub use error::{Error, GeometryError, Result};
pub use ops::{Write, loss};
pub use pool_problem::{PoolParams, PoolProblem};
pub use problem::{ConvParams, ConvProblem, Padding, Pass};
pub use rules::{Rules, TransposedSize};
pub use shape::Layout;
pub use tensor::Tensor;
