//! The three passes of a convolution on tensors.

use super::{
    Activation, Write, activate, bias_on_cpu, expect, expect_activation, expect_bias, layouts, pad,
    pad_adjoint, uninitialised,
};
use crate::axis::PaddingMode;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;
use crate::tensor::Tensor;

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
            let (x, w, bias) = (x.on_cpu("x")?, w.weight_on_cpu("w")?, bias_on_cpu(bias)?);
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
            let (dy, w, bias) = (dy.on_cpu("dy")?, w.weight_on_cpu("w")?, bias_on_cpu(bias)?);
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

/// [`fprop`] and an activation of its result. On a GPU a ReLU costs nothing: it is
/// part of the same kernel.
///
/// # Errors
/// As [`fprop`].
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Tensor, ops::{self, Activation}};
/// let p = ConvProblem::<1>::new(&[1, 1, 3], &[1, 1, 2], &ConvParams::default())?;
/// let x = Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 2.0, -3.0])?;
/// let w = Tensor::from_vec(&[1, 1, 2], vec![10.0, 9.0])?;
/// let y = ops::fprop_activated(&p, &x, &w, None, Activation::Relu)?;
/// assert_eq!(y.to_vec()?, [28.0, 0.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn fprop_activated<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    x: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    activation: Activation,
) -> Result<Tensor<T>> {
    let mut y = uninitialised(x, &p.y_shape(), x.layout())?;
    let fuses = fuses(x, activation);
    fprop_to(p, x, w, bias, &mut y, Write::Overwrite, fuses)?;
    if fuses {
        Ok(y)
    } else {
        activate(activation, &y)
    }
}

/// [`dgrad`], as the forward pass of a transposed convolution, and an activation of
/// its result, as [`fprop_activated`].
///
/// # Errors
/// As [`dgrad`].
pub fn dgrad_activated<T: Element, const N: usize>(
    p: &ConvProblem<N>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    activation: Activation,
) -> Result<Tensor<T>> {
    let mut dx = uninitialised(dy, &p.x_shape(), dy.layout())?;
    // a padding mode's gradient is summed after the kernel
    let fuses = fuses(dy, activation) && p.padding_mode() == PaddingMode::Zeros;
    dgrad_to(p, dy, w, bias, &mut dx, Write::Overwrite, fuses)?;
    if fuses {
        Ok(dx)
    } else {
        activate(activation, &dx)
    }
}

fn fuses<T: Element>(x: &Tensor<T>, activation: Activation) -> bool {
    matches!(x.device(), Device::Cuda(_)) && activation == Activation::Relu
}
