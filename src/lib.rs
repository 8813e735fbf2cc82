//! Convolution layers of every rank.

mod axis;
pub mod case;
mod cpu;
mod device;
mod element;
mod error;
mod gradcheck;
pub mod init;
pub mod io;
pub mod layer;
pub mod ops;
pub mod optim;
mod pool_problem;
mod problem;
pub mod remap;
mod rules;
mod shape;
pub mod signal;
mod tensor;

pub use axis::{Axis, PaddingMode};
pub use device::Device;
pub use element::{Accumulator, DType, Element};
pub use error::{Error, GeometryError, Result};
pub use gradcheck::{GradientCheck, gradcheck};
pub use ops::{Write, loss};
pub use pool_problem::{PoolParams, PoolProblem};
pub use problem::{ConvParams, ConvProblem, Padding, Pass};
pub use rules::{Rules, TransposedSize};
pub use shape::Layout;
pub use tensor::Tensor;
