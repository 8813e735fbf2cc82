//! Operations on tensors: each checks shapes, then makes one choice by device.
//!
//! Every operation overwrites its result and gives the same bits on every call and for every
//! number of threads. The `_into` forms write into a tensor that the caller keeps, and can add to
//! what it holds ([`Write::Accumulate`]).

mod circular;
mod fused;
pub mod loss;
mod pointwise;
mod pool;
mod step;

pub(crate) use circular::{circular, circular_gradient_in_x, circular_gradient_in_y};
pub use circular::{
    circular_convolve, circular_convolve_backward, circular_correlate, circular_correlate_backward,
};
pub use fused::{dgrad_activated, fprop_activated};
pub use pointwise::{Activation, activate, activate_backward, dropout, softmax, softmax_backward};
pub(crate) use pointwise::{Lanes, cast, expect_like};
pub use pool::{avg_pool, avg_pool_backward, max_pool, max_pool_backward};
pub(crate) use step::{AdamStep, SgdStep, adam_step, sgd_step};

use crate::axis::PaddingMode;
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::problem::{ConvProblem, Pass};
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

/// `y` from `x` and `w`, with the bias added: the forward pass of a convolution.
///
/// # Shapes
/// In channels-first order `x` is [`ConvProblem::x_shape`], `w` [`ConvProblem::w_shape`], `bias`
/// `(out_channels)` and the result [`ConvProblem::y_shape`]; `y` has the layout of `x`, and `w`
/// its own.
///
/// # Errors
/// [`Error::Shape`] for tensors that are not the problem's, [`Error::DeviceMismatch`],
/// [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Tensor, ops};
/// let p = ConvProblem::<1>::new(&[1, 1, 3], &[1, 1, 2], &ConvParams::default())?;
/// let x = Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 2.0, 3.0])?;
/// let w = Tensor::from_vec(&[1, 1, 2], vec![10.0, 1.0])?;
/// assert_eq!(ops::fprop(&p, &x, &w, None)?.to_vec()?, [12.0, 23.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn fprop<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    let mut y = uninitialised(x, &p.y_shape(), x.layout())?;
    fprop_into(p, x, w, bias, &mut y, Write::Overwrite)?;
    Ok(y)
}

/// [`fprop`] into a tensor that the caller keeps.
///
/// # Errors
/// As [`fprop`].
pub fn fprop_into<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    y: &mut Tensor<T>,
    write: Write,
) -> Result<()> {
    fprop_to(p, x, w, bias, y, write, false)
}

/// [`fprop_into`], on a GPU with a ReLU of the result if `rectify`; the CPU engine has none.
fn fprop_to<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    y: &mut Tensor<T>,
    write: Write,
    rectify: bool,
) -> Result<()> {
    expect("x", x, &p.x_shape())?;
    expect("w", w, &p.w_shape())?;
    expect_activation("y", y, &p.y_shape(), x.layout())?;
    expect_bias(bias, p.out_channels())?;
    if p.padding_mode() != PaddingMode::Zeros {
        return fprop_to(&p.folded(), &pad(p, x)?, w, bias, y, write, rectify);
    }
    let layouts = layouts(x, w);
    match x.device() {
        Device::Cpu => {
            let (x, w, bias) = (x.on_cpu("x")?, w.on_cpu("w")?, bias_on_cpu(bias)?);
            (T::passes().fprop)(&p.lift(), layouts, x, w, bias, y.on_cpu_mut("y")?, write)
        }
        Device::Cuda(device) => {
            let inputs = cuda::conv::Inputs {
                activation: x.on_cuda(&device, "x")?,
                other: w.on_cuda(&device, "w")?,
                bias: bias.map(|b| b.on_cuda(&device, "bias")).transpose()?,
                rectify,
            };
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::conv::run::<T>(&device, &p.lift(), Pass::Fprop, layouts, inputs, y, write)
        }
    }
}

/// `dx` from `dy` and `w`: the gradient of [`fprop`] in `x`, and the forward pass of a transposed
/// convolution, whose bias of `(in_channels)` it can add.
///
/// # Shapes
/// In channels-first order `dy` is [`ConvProblem::y_shape`], `w` [`ConvProblem::w_shape`] and the
/// result [`ConvProblem::x_shape`]; `dx` has the layout of `dy`.
///
/// # Errors
/// As [`fprop`].
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Tensor, ops};
/// let p = ConvProblem::<1>::new(&[1, 1, 3], &[1, 1, 2], &ConvParams::default())?;
/// let dy = Tensor::from_vec(&[1, 1, 2], vec![1.0f32, 2.0])?;
/// let w = Tensor::from_vec(&[1, 1, 2], vec![10.0, 1.0])?;
/// assert_eq!(ops::dgrad(&p, &dy, &w, None)?.to_vec()?, [10.0, 21.0, 2.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dgrad<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    let mut dx = uninitialised(dy, &p.x_shape(), dy.layout())?;
    dgrad_into(p, dy, w, bias, &mut dx, Write::Overwrite)?;
    Ok(dx)
}

/// [`dgrad`] into a tensor that the caller keeps.
///
/// # Errors
/// As [`fprop`].
pub fn dgrad_into<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    dx: &mut Tensor<T>,
    write: Write,
) -> Result<()> {
    dgrad_to(p, dy, w, bias, dx, write, false)
}

/// [`dgrad_into`], on a GPU with a ReLU of the result if `rectify`; the CPU engine has none.
fn dgrad_to<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    dx: &mut Tensor<T>,
    write: Write,
    rectify: bool,
) -> Result<()> {
    expect("dy", dy, &p.y_shape())?;
    expect("w", w, &p.w_shape())?;
    expect_activation("dx", dx, &p.x_shape(), dy.layout())?;
    expect_bias(bias, p.in_channels())?;
    if p.padding_mode() != PaddingMode::Zeros {
        if bias.is_some() {
            let what = "a bias on the gradient of a padding mode: add it afterwards".into();
            return Err(Error::Unsupported { what });
        }
        // in the accumulator's type, so that the sum over the folds is rounded once
        let (dy, w) = (dy.cast::<T::Acc>()?, w.cast::<T::Acc>()?);
        return pad_adjoint(p, &dgrad(&p.folded(), &dy, &w, None)?, dx, write);
    }
    let layouts = layouts(dy, w);
    match dy.device() {
        Device::Cpu => {
            let (dy, w, bias) = (dy.on_cpu("dy")?, w.on_cpu("w")?, bias_on_cpu(bias)?);
            (T::passes().dgrad)(&p.lift(), layouts, dy, w, bias, dx.on_cpu_mut("dx")?, write)
        }
        Device::Cuda(device) => {
            let inputs = cuda::conv::Inputs {
                activation: dy.on_cuda(&device, "dy")?,
                other: w.on_cuda(&device, "w")?,
                bias: bias.map(|b| b.on_cuda(&device, "bias")).transpose()?,
                rectify,
            };
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::conv::run::<T>(&device, &p.lift(), Pass::Dgrad, layouts, inputs, dx, write)
        }
    }
}

/// `dw` from `x` and `dy`, in the given weight layout: the gradient of [`fprop`] in `w`.
///
/// # Shapes
/// In channels-first order `x` is [`ConvProblem::x_shape`], `dy` [`ConvProblem::y_shape`] and the
/// result [`ConvProblem::w_shape`]; `x` and `dy` have one layout.
///
/// # Errors
/// As [`fprop`].
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Layout, Tensor, ops};
/// let p = ConvProblem::<1>::new(&[1, 1, 3], &[1, 1, 2], &ConvParams::default())?;
/// let x = Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 2.0, 3.0])?;
/// let dy = Tensor::from_vec(&[1, 1, 2], vec![10.0, 1.0])?;
/// let dw = ops::wgrad(&p, &x, &dy, Layout::ChannelsFirst)?;
/// assert_eq!(dw.to_vec()?, [12.0, 23.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn wgrad<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    dy: &Tensor<T>,
    layout: Layout,
) -> Result<Tensor<T>> {
    let mut dw = uninitialised(x, &p.w_shape(), layout)?;
    wgrad_into(p, x, dy, &mut dw, Write::Overwrite)?;
    Ok(dw)
}

/// [`wgrad`] into a tensor that the caller keeps.
///
/// # Errors
/// As [`fprop`].
pub fn wgrad_into<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    dy: &Tensor<T>,
    dw: &mut Tensor<T>,
    write: Write,
) -> Result<()> {
    expect("x", x, &p.x_shape())?;
    expect_activation("dy", dy, &p.y_shape(), x.layout())?;
    expect("dw", dw, &p.w_shape())?;
    if p.padding_mode() != PaddingMode::Zeros {
        return wgrad_into(&p.folded(), &pad(p, x)?, dy, dw, write);
    }
    let layouts = layouts(x, dw);
    match x.device() {
        Device::Cpu => {
            let (x, dy) = (x.on_cpu("x")?, dy.on_cpu("dy")?);
            (T::passes().wgrad)(&p.lift(), layouts, x, dy, dw.on_cpu_mut("dw")?, write)
        }
        Device::Cuda(device) => {
            let inputs = cuda::conv::Inputs {
                activation: x.on_cuda(&device, "x")?,
                other: dy.on_cuda(&device, "dy")?,
                bias: None,
                rectify: false,
            };
            let dw = dw.on_cuda_mut(&device, "dw")?;
            cuda::conv::run::<T>(&device, &p.lift(), Pass::Wgrad, layouts, inputs, dw, write)
        }
    }
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
