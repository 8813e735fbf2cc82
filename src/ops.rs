//! Operations on tensors: each checks shapes, then makes one choice by device.
//!
//! Every operation overwrites its result and gives the same bits on every call and for every
//! number of threads. The `_into` forms write into a tensor that the caller keeps, and can add to
//! what it holds ([`Write::Accumulate`]).

mod circular;
mod conv;
pub mod loss;
mod pointwise;
mod pool;
mod step;

pub(crate) use circular::{circular, circular_gradient_in_x, circular_gradient_in_y};
pub use circular::{
    circular_convolve, circular_convolve_backward, circular_correlate, circular_correlate_backward,
};
pub use conv::{
    dgrad, dgrad_activated, dgrad_into, fprop, fprop_activated, fprop_into, wgrad, wgrad_into,
};
pub use pointwise::{Activation, activate, activate_backward, dropout, softmax, softmax_backward};
pub(crate) use pointwise::{Lanes, cast, expect_like};
pub use pool::{avg_pool, avg_pool_backward, max_pool, max_pool_backward};
pub(crate) use step::{AdamStep, SgdStep, adam_step, sgd_step};

use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::problem::ConvProblem;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Whether an operation replaces what its result tensor holds or adds to it.
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Device, Tensor, Write, ops};
/// let p = ConvProblem::<1>::new(&[1, 1, 3], &[1, 1, 2], &ConvParams::default())?;
/// let x = Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 2.0, 3.0])?;
/// let w = Tensor::from_vec(&[1, 1, 2], vec![10.0, 1.0])?;
/// let mut y = Tensor::full(&[1, 1, 2], 100.0, &Device::Cpu)?;
/// ops::fprop_into(&p, &x, &w, None, &mut y, Write::Accumulate)?;
/// assert_eq!(y.to_vec()?, [112.0, 123.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Write {
    /// Replaces it; what was there, NaN included, does not matter.
    #[default]
    Overwrite,
    /// Adds to it, rounding once.
    Accumulate,
}

/// The memory orders of a convolution's operands: `x`, `y` and their gradients share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layouts {
    pub activation: Layout,
    pub weight: Layout,
}

/// The gradient in the bias: the **sum** of `dy` over batch and positions, per channel.
///
/// # Shapes
/// `dy` is `(batch, channels, *spatial)` in its layout, the result `(channels)`.
///
/// # Errors
/// [`Error::Shape`] for fewer than two axes, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let dy = Tensor::from_vec(&[1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?;
/// assert_eq!(ops::bgrad(&dy)?.to_vec()?, [3.0, 7.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn bgrad<T: Element>(dy: &Tensor<T>) -> Result<Tensor<T>> {
    let shape = dy.channels_first_shape();
    let [_, channels, ..] = shape[..] else {
        return Err(Error::shape(
            "dy",
            "(batch, channels, *spatial)",
            dy.shape(),
        ));
    };
    let mut dbias = Tensor::uninitialised(&[channels], &dy.device())?;
    match dy.device() {
        Device::Cpu => {
            let sums = dbias.on_cpu_mut("dbias")?;
            cpu::reduce::channel_sums(&shape, dy.layout(), dy.on_cpu("dy")?, sums);
        }
        Device::Cuda(device) => {
            let (layout, dy) = (dy.layout(), dy.on_cuda(&device, "dy")?);
            let sums = dbias.on_cuda_mut(&device, "dbias")?;
            cuda::reduce::channel_sums::<T>(&device, &shape, layout, dy, sums)?;
        }
    }
    Ok(dbias)
}

/// The elements of `source` in the layout of `target`, which has the same channels-first shape.
pub(crate) fn change_layout<T: Element>(source: &Tensor<T>, target: &mut Tensor<T>) -> Result<()> {
    let shape = source.channels_first_shape();
    match source.device() {
        Device::Cpu => {
            let to = target.layout();
            cpu::pad::change_layout(&shape, to, source.on_cpu("x")?, target.on_cpu_mut("y")?);
        }
        Device::Cuda(device) => {
            let (to, x) = (target.layout(), source.on_cuda(&device, "x")?);
            let y = target.on_cuda_mut(&device, "y")?;
            cuda::pad::change_layout::<T>(&device, &shape, to, x, y)?;
        }
    }
    Ok(())
}

/// The input with its padding made up as the problem's padding mode says.
fn pad<T: Element, const N: usize>(p: &ConvProblem<N>, x: &Tensor<T>) -> Result<Tensor<T>> {
    let mut padded = uninitialised(x, &p.folded().x_shape(), x.layout())?;
    match x.device() {
        Device::Cpu => {
            let target = padded.on_cpu_mut("padded x")?;
            cpu::pad::pad(&p.lift(), x.layout(), x.on_cpu("x")?, target);
        }
        Device::Cuda(device) => {
            let target = padded.on_cuda_mut(&device, "padded x")?;
            let (layout, x) = (x.layout(), x.on_cuda(&device, "x")?);
            cuda::pad::pad::<T>(&device, &p.lift(), layout, x, target)?;
        }
    }
    Ok(padded)
}

/// The adjoint of [`pad`]: every padded position's gradient goes to the input it was copied from.
fn pad_adjoint<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    padded: &Tensor<T::Acc>,
    dx: &mut Tensor<T>,
    write: Write,
) -> Result<()> {
    let layout = dx.layout();
    match padded.device() {
        Device::Cpu => {
            let source = padded.on_cpu("padded dx")?;
            cpu::pad::pad_adjoint(&p.lift(), layout, source, dx.on_cpu_mut("dx")?, write);
        }
        Device::Cuda(device) => {
            let source = padded.on_cuda(&device, "padded dx")?;
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::pad::pad_adjoint::<T>(&device, &p.lift(), layout, source, dx, write)?;
        }
    }
    Ok(())
}

/// A result tensor of a channels-first shape on the device of `like`; its content does not matter.
fn uninitialised<T: Element>(
    like: &Tensor<T>,
    channels_first: &[usize],
    layout: Layout,
) -> Result<Tensor<T>> {
    let shape = layout.from_channels_first(channels_first);
    Ok(Tensor::uninitialised(&shape, &like.device())?.with_layout(layout))
}

fn layouts<T: Element>(activation: &Tensor<T>, weight: &Tensor<T>) -> Layouts {
    Layouts {
        activation: activation.layout(),
        weight: weight.layout(),
    }
}

fn bias_on_cpu<T: Element>(bias: Option<&Tensor<T>>) -> Result<Option<&[T]>> {
    bias.map(|b| b.on_cpu("bias")).transpose()
}

fn expect<T: Element>(what: &str, tensor: &Tensor<T>, channels_first: &[usize]) -> Result<()> {
    let expected = tensor.layout().from_channels_first(channels_first);
    if tensor.shape() != expected {
        let expected = format!("{expected:?} in {} order", tensor.layout());
        return Err(Error::shape(what, expected, tensor.shape()));
    }
    Ok(())
}

fn expect_activation<T: Element>(
    what: &str,
    tensor: &Tensor<T>,
    channels_first: &[usize],
    layout: Layout,
) -> Result<()> {
    if tensor.layout() != layout {
        let expected = format!("the other activation's layout, {layout}");
        return Err(Error::shape(what, expected, tensor.layout()));
    }
    expect(what, tensor, channels_first)
}

fn expect_bias<T: Element>(bias: Option<&Tensor<T>>, channels: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.shape() != [channels] => {
            Err(Error::shape("bias", format!("[{channels}]"), bias.shape()))
        }
        _ => Ok(()),
    }
}
