//! Convolutions and an activation of their result, in one pass where the device can.

use super::{Activation, Write, activate, dgrad_to, fprop_to, uninitialised};
use crate::axis::PaddingMode;
use crate::device::Device;
use crate::element::Element;
use crate::error::Result;
use crate::problem::ConvProblem;
use crate::tensor::Tensor;

/// [`fprop`](super::fprop) and an activation of its result. On a GPU a ReLU costs nothing: it is
/// part of the same kernel.
///
/// # Errors
/// As [`fprop`](super::fprop).
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

/// [`dgrad`](super::dgrad), as the forward pass of a transposed convolution, and an activation of
/// its result, as [`fprop_activated`].
///
/// # Errors
/// As [`dgrad`](super::dgrad).
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
