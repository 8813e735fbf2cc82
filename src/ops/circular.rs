//! Circular convolution and correlation of tensors over the last axis in memory.

use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::signal::CircularOperation;
use crate::signal::circular::{Geometry, Operand};
use crate::tensor::Tensor;

/// `z[n] = sum over k of x[k] y[(n - k) mod N]` over the last axis.
///
/// # Shapes
/// The last axes of `x` and `y`, in memory order, have the same size, at least 1; the others are
/// batch and broadcast as in NumPy. `z` has the broadcast shape.
///
/// # Errors
/// [`Error::Shape`] otherwise, [`Error::DeviceMismatch`], [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let x = Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0])?;
/// let y = Tensor::from_vec(&[2, 3], vec![0.0, 1.0, 0.0, 0.0, 0.0, 1.0])?;
/// assert_eq!(ops::circular_convolve(&x, &y)?.to_vec()?, [3.0, 1.0, 2.0, 2.0, 3.0, 1.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_convolve<T: Element>(x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    circular(CircularOperation::Convolve, x, y)
}

/// `z[n] = sum over k of x[k] y[(k + n) mod N]` over the last axis: the `ccorr(x, y)` of HolE and
/// CompGCN.
///
/// # Shapes
/// As [`circular_convolve`].
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let x = Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0])?;
/// let y = Tensor::from_vec(&[3], vec![0.0, 1.0, 0.0])?;
/// assert_eq!(ops::circular_correlate(&x, &y)?.to_vec()?, [2.0, 1.0, 3.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_correlate<T: Element>(x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    circular(CircularOperation::Correlate, x, y)
}

/// The gradients of [`circular_convolve`] in `x` and `y`.
///
/// # Shapes
/// `dz` has the result's shape, the gradients those of `x` and `y`: what was broadcast is summed.
///
/// # Errors
/// As [`circular_convolve`].
pub fn circular_convolve_backward<T: Element>(
    x: &Tensor<T>,
    y: &Tensor<T>,
    dz: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let operation = CircularOperation::Convolve;
    Ok((
        circular_gradient_in_x(operation, x, y, dz)?,
        circular_gradient_in_y(operation, x, y, dz)?,
    ))
}

/// The gradients of [`circular_correlate`] in `x` and `y`.
///
/// # Shapes
/// As [`circular_convolve_backward`].
///
/// # Errors
/// As [`circular_convolve`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let x = Tensor::from_vec(&[2, 3], vec![2.0f64, 3.0, 5.0, 4.0, 5.0, 6.0])?;
/// let y = Tensor::from_vec(&[3], vec![7.0, 11.0, 13.0])?;
/// let z = ops::circular_correlate(&x, &y)?; // the gradient of sum(z^2) / 2
/// let (_, dy) = ops::circular_correlate_backward(&x, &y, &z)?;
/// assert_eq!(dy.to_vec()?, [3325.0, 3365.0, 3385.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn circular_correlate_backward<T: Element>(
    x: &Tensor<T>,
    y: &Tensor<T>,
    dz: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let operation = CircularOperation::Correlate;
    Ok((
        circular_gradient_in_x(operation, x, y, dz)?,
        circular_gradient_in_y(operation, x, y, dz)?,
    ))
}

/// The operation that is named by a value.
pub(crate) fn circular<T: Element>(
    operation: CircularOperation,
    x: &Tensor<T>,
    y: &Tensor<T>,
) -> Result<Tensor<T>> {
    let geometry = Geometry::new(x.shape(), y.shape(), &[-1])?;
    let shape = geometry.shape(Operand::Z);
    let like = if x.shape().len() < shape.len() { y } else { x };
    let z = Tensor::zeros(&shape, &x.device())?.with_layout(like.layout());
    run(
        operation,
        &geometry,
        [Operand::X, Operand::Y],
        [x, y],
        Operand::Z,
        z,
    )
}

/// The gradient of [`circular`] in `x`.
pub(crate) fn circular_gradient_in_x<T: Element>(
    operation: CircularOperation,
    x: &Tensor<T>,
    y: &Tensor<T>,
    dz: &Tensor<T>,
) -> Result<Tensor<T>> {
    let geometry = expect_result(x, y, dz)?;
    let (operation, a, b) = operation.gradient_in_x();
    let operands = [a, b].map(|operand| if operand == Operand::Y { y } else { dz });
    let dx = x.uninitialised_like()?;
    run(operation, &geometry, [a, b], operands, Operand::X, dx)
}

/// The gradient of [`circular`] in `y`.
pub(crate) fn circular_gradient_in_y<T: Element>(
    operation: CircularOperation,
    x: &Tensor<T>,
    y: &Tensor<T>,
    dz: &Tensor<T>,
) -> Result<Tensor<T>> {
    let geometry = expect_result(x, y, dz)?;
    let (operation, a, b) = operation.gradient_in_y();
    let operands = [a, b].map(|operand| if operand == Operand::X { x } else { dz });
    let dy = y.uninitialised_like()?;
    run(operation, &geometry, [a, b], operands, Operand::Y, dy)
}

/// `out = a op b`, with sums over what was broadcast.
fn run<T: Element>(
    operation: CircularOperation,
    geometry: &Geometry,
    names: [Operand; 2],
    operands: [&Tensor<T>; 2],
    output: Operand,
    mut out: Tensor<T>,
) -> Result<Tensor<T>> {
    let pairing = geometry.pairing(output, names[0], names[1]);
    match out.device() {
        Device::Cpu => {
            let operands = [operands[0].on_cpu("x")?, operands[1].on_cpu("y")?];
            let out = out.on_cpu_mut("z")?;
            cpu::circular::circular(operation, geometry.dims(), operands, &pairing, out);
        }
        Device::Cuda(device) => {
            let [a, b] = operands;
            let operands = [a.on_cuda(&device, "x")?, b.on_cuda(&device, "y")?];
            let length = geometry.dims().iter().product();
            let out = out.on_cuda_mut(&device, "z")?;
            cuda::circular::circular::<T>(&device, operation, length, &pairing, operands, out)?;
        }
    }
    Ok(out)
}

fn expect_result<T: Element>(x: &Tensor<T>, y: &Tensor<T>, dz: &Tensor<T>) -> Result<Geometry> {
    let geometry = Geometry::new(x.shape(), y.shape(), &[-1])?;
    let expected = geometry.shape(Operand::Z);
    if dz.shape() != expected {
        return Err(Error::shape("dz", format!("{expected:?}"), dz.shape()));
    }
    Ok(geometry)
}
