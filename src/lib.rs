//! Convolution layers of every rank (1-D to 4-D), forward and backward, plain and transposed.
//!
//! One value, [`ConvProblem`], describes a convolution and is the only place with an extent
//! formula. Three contractions read it, and everything else is made of them:
//!
//! | contraction | gives | is also |
//! | --- | --- | --- |
//! | [`ops::fprop`] | `y` from `x`, `w` | the input gradient of a transposed convolution |
//! | [`ops::dgrad`] | `dx` from `dy`, `w` | the forward pass of a transposed convolution |
//! | [`ops::wgrad`] | `dw` from `x`, `dy` | the same with `x` and `dy` in each other's place |
//! | [`ops::bgrad`] | `dbias` from `dy` | |
//!
//! [`layer`] wraps them: [`layer::Conv`], [`layer::ConvTranspose`], [`layer::Dense`], pooling,
//! activations, [`layer::Sequential`]; [`loss`], [`optim`] and [`init`] train them, [`io`] keeps
//! them, [`case`] and [`gradcheck()`] check them.
//!
//! # What runs where
//!
//! | operations | CPU | CUDA, emulator |
//! | --- | --- | --- |
//! | fprop, dgrad, wgrad, bgrad: ranks 1 to 4, groups, stride, dilation, every padding | f64, f32, f16, bf16 | the same |
//! | padding modes, changes of layout and of element type | f64, f32, f16, bf16 | the same |
//! | max and average pooling, activations, softmax, dropout, losses, optimiser steps | f64, f32, f16, bf16 | the same |
//! | circular convolution and correlation of tensors | f64, f32, f16, bf16 | not there |
//! | [`signal`]: convolution of arrays | f64, f32, complex | not there |
//!
//! Both layouts everywhere. Sums are kept in `f32` for f16, bf16 and f32, in `f64` for f64, and a
//! result is rounded once. The same call gives the same bits, for any number of threads.
//!
//! ```
//! use ndconv::{Padding, Tensor, init::Rng, layer::{Conv2d, Layer}};
//!
//! let conv = Conv2d::<f32>::builder(3, 8, [3, 3]).padding(Padding::Same).build(&mut Rng::new(0))?;
//! let image = Tensor::from_vec(&[1, 3, 4, 4], (0..48).map(|v| v as f32).collect())?;
//! let y = conv.forward(&image)?;
//! assert_eq!(y.shape(), [1, 8, 4, 4]);
//! let gradients = conv.backward(&image, &y)?;
//! assert_eq!(gradients.weight().unwrap().shape(), [8, 3, 3, 3]);
//! # Ok::<(), ndconv::Error>(())
//! ```

mod axis;
pub mod case;
mod cpu;
mod cuda;
mod device;
mod element;
mod error;
mod gradcheck;
mod host;
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
pub use cuda::{
    Algorithm, Autotune, CompiledKernel, ConvPlan, CopyTiming, CudaDevice, KernelModule, MathMode,
    kernel_modules,
};
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

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
