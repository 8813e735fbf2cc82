//! Activations, softmax, dropout and casts on tensors.

use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A function applied to every element.
///
/// ```
/// use ndconv::{Tensor, ops::{self, Activation}};
/// let x = Tensor::from_vec(&[2], vec![-2.0f32, 3.0])?;
/// let y = ops::activate(Activation::LeakyRelu { slope: 0.1 }, &x)?;
/// assert_eq!(y.to_vec()?, [-0.2, 3.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`; NaN stays NaN, and the gradient at 0 is 0.
    Relu,
    /// `x` for positive `x`, else `slope * x`.
    LeakyRelu {
        /// The factor of negative values.
        slope: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
}

/// Applies an activation.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn activate<T: Element>(activation: Activation, x: &Tensor<T>) -> Result<Tensor<T>> {
    let mut y = x.uninitialised_like()?;
    match x.device() {
        Device::Cpu => {
            cpu::pointwise::activate(activation, x.on_cpu("x")?, y.on_cpu_mut("y")?);
        }
        Device::Cuda(device) => {
            let (len, x) = (x.len(), x.on_cuda(&device, "x")?);
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::pointwise::activate::<T>(&device, activation, len, x, y)?;
        }
    }
    Ok(y)
}

/// The gradient of [`activate`] in `x`.
///
/// # Shapes
/// `x` and `dy` have one shape.
///
/// # Errors
/// [`Error::Shape`] when they differ, [`Error::OutOfMemory`].
pub fn activate_backward<T: Element>(
    activation: Activation,
    x: &Tensor<T>,
    dy: &Tensor<T>,
) -> Result<Tensor<T>> {
    expect_like("dy", dy, x)?;
    let mut dx = x.uninitialised_like()?;
    match x.device() {
        Device::Cpu => {
            let (x, dy) = (x.on_cpu("x")?, dy.on_cpu("dy")?);
            cpu::pointwise::activate_backward(activation, x, dy, dx.on_cpu_mut("dx")?);
        }
        Device::Cuda(device) => {
            let len = x.len();
            let (x, dy) = (x.on_cuda(&device, "x")?, dy.on_cuda(&device, "dy")?);
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::pointwise::activate_backward::<T>(&device, activation, len, x, dy, dx)?;
        }
    }
    Ok(dx)
}

/// `exp(x) / sum(exp(x))` over the channel axis.
///
/// # Errors
/// [`Error::Shape`] for fewer than two axes, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let x = Tensor::from_vec(&[1, 2], vec![1000.0f32, 1000.0])?;
/// assert_eq!(ops::softmax(&x)?.to_vec()?, [0.5, 0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn softmax<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    let lanes = channel_lanes(x)?;
    let mut y = x.uninitialised_like()?;
    match x.device() {
        Device::Cpu => cpu::pointwise::softmax(lanes, x.on_cpu("x")?, y.on_cpu_mut("y")?),
        Device::Cuda(device) => {
            let (len, x) = (x.len(), x.on_cuda(&device, "x")?);
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::pointwise::softmax::<T>(&device, lanes, len, x, y)?;
        }
    }
    Ok(y)
}

/// The gradient of [`softmax`] in `x`.
///
/// # Errors
/// [`Error::Shape`] when `x` and `dy` differ in shape, [`Error::OutOfMemory`].
pub fn softmax_backward<T: Element>(x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
    expect_like("dy", dy, x)?;
    let lanes = channel_lanes(x)?;
    let mut dx = x.uninitialised_like()?;
    match x.device() {
        Device::Cpu => {
            let (x, dy) = (x.on_cpu("x")?, dy.on_cpu("dy")?);
            cpu::pointwise::softmax_backward(lanes, x, dy, dx.on_cpu_mut("dx")?);
        }
        Device::Cuda(device) => {
            let len = x.len();
            let (x, dy) = (x.on_cuda(&device, "x")?, dy.on_cuda(&device, "dy")?);
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::pointwise::softmax_backward::<T>(&device, lanes, len, x, dy, dx)?;
        }
    }
    Ok(dx)
}

/// Zeroes each element with probability `p` and scales the others by `1 / (1 - p)`.
///
/// The choice depends on `seed` and the element's index alone, so the same call on the gradient is
/// the backward pass.
///
/// # Errors
/// [`Error::Argument`] unless `0 <= p < 1`, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Device, Tensor, ops};
/// let x = Tensor::full(&[1000], 1.0f32, &Device::Cpu)?;
/// let y = ops::dropout(&x, 0.5, 7)?.to_vec()?;
/// assert!(y.iter().all(|&v| v == 0.0 || v == 2.0));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dropout<T: Element>(x: &Tensor<T>, p: f64, seed: u64) -> Result<Tensor<T>> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::argument("dropout probability", "0 <= p < 1", p));
    }
    let mut y = x.uninitialised_like()?;
    match x.device() {
        Device::Cpu => cpu::pointwise::dropout(p, seed, x.on_cpu("x")?, y.on_cpu_mut("y")?),
        Device::Cuda(device) => {
            let (len, x) = (x.len(), x.on_cuda(&device, "x")?);
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::pointwise::dropout::<T>(&device, p, seed, len, x, y)?;
        }
    }
    Ok(y)
}

/// Every element of `source` rounded to the type of `target`, which has the same shape.
pub(crate) fn cast<T: Element, U: Element>(
    source: &Tensor<T>,
    target: &mut Tensor<U>,
) -> Result<()> {
    match source.device() {
        Device::Cpu => cpu::pointwise::cast(source.on_cpu("x")?, target.on_cpu_mut("y")?),
        Device::Cuda(device) => {
            let (len, x) = (source.len(), source.on_cuda(&device, "x")?);
            let y = target.on_cuda_mut(&device, "y")?;
            cuda::pointwise::cast::<T, U>(&device, len, x, y)?;
        }
    }
    Ok(())
}

/// How the channel axis lies in memory: `len` elements `step` apart, `step` of them side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub len: usize,
    pub step: usize,
}

fn channel_lanes<T: Element>(x: &Tensor<T>) -> Result<Lanes> {
    if x.shape().len() < 2 {
        return Err(Error::shape("x", "(batch, channels, *spatial)", x.shape()));
    }
    let axis = x.layout().channel_axis(x.shape().len());
    Ok(Lanes {
        len: x.shape()[axis],
        step: x.shape()[axis + 1..].iter().product(),
    })
}

pub(crate) fn expect_like<T: Element>(
    what: &str,
    tensor: &Tensor<T>,
    like: &Tensor<T>,
) -> Result<()> {
    if tensor.shape() != like.shape() {
        return Err(Error::shape(
            what,
            format!("{:?}", like.shape()),
            tensor.shape(),
        ));
    }
    if tensor.layout() != like.layout() && like.shape().len() > 2 {
        return Err(Error::shape(what, like.layout().name(), tensor.layout()));
    }
    Ok(())
}
