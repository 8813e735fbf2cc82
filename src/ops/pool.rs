//! Pooling on tensors.

use super::{expect, expect_activation, uninitialised};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::element::Element;
use crate::error::Result;
use crate::pool_problem::PoolProblem;
use crate::tensor::Tensor;

/// The maximum of every window; NaN wins, and a window without input gives minus infinity.
///
/// # Shapes
/// In channels-first order `x` is [`PoolProblem::x_shape`] and the result
/// [`PoolProblem::y_shape`], in the layout of `x`.
///
/// # Errors
/// [`crate::Error::Shape`] for a tensor that is not the problem's, [`crate::Error::OutOfMemory`].
///
/// ```
/// use ndconv::{PoolParams, PoolProblem, Tensor, ops};
/// let p = PoolProblem::<1>::new(&[1, 1, 4], &PoolParams::new([2]))?;
/// let x = Tensor::from_vec(&[1, 1, 4], vec![1.0f32, 2.0, 4.0, 3.0])?;
/// assert_eq!(ops::max_pool(&p, &x)?.to_vec()?, [2.0, 4.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn max_pool<T: Element, const N: usize>(
    p: &PoolProblem<N>,
    x: &Tensor<T>,
) -> Result<Tensor<T>> {
    expect("x", x, &p.x_shape())?;
    let mut y = uninitialised(x, &p.y_shape(), x.layout())?;
    match x.device() {
        Device::Cpu => {
            cpu::pool::max_pool(&p.lift(), x.layout(), x.on_cpu("x")?, y.on_cpu_mut("y")?);
        }
        Device::Cuda(device) => {
            let (layout, x) = (x.layout(), x.on_cuda(&device, "x")?);
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::pool::max_pool::<T>(&device, &p.lift(), layout, x, y)?;
        }
    }
    Ok(y)
}

/// The gradient of [`max_pool`] in `x`: a window's goes to its first maximum.
///
/// # Shapes
/// As [`max_pool`]; `dy` as its result, and the result as `x`.
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_backward<T: Element, const N: usize>(
    p: &PoolProblem<N>,
    x: &Tensor<T>,
    dy: &Tensor<T>,
) -> Result<Tensor<T>> {
    expect("x", x, &p.x_shape())?;
    expect_activation("dy", dy, &p.y_shape(), x.layout())?;
    let mut dx = uninitialised(x, &p.x_shape(), x.layout())?;
    match x.device() {
        Device::Cpu => {
            let (x, dy, layout) = (x.on_cpu("x")?, dy.on_cpu("dy")?, x.layout());
            cpu::pool::max_pool_backward(&p.lift(), layout, x, dy, dx.on_cpu_mut("dx")?);
        }
        Device::Cuda(device) => {
            let (layout, p) = (x.layout(), p.lift());
            let (x, dy) = (x.on_cuda(&device, "x")?, dy.on_cuda(&device, "dy")?);
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::pool::max_pool_backward::<T>(&device, &p, layout, x, dy, dx)?;
        }
    }
    Ok(dx)
}

/// The mean of every window, over as many positions as [`crate::PoolParams::count_include_pad`]
/// says; a window without any gives 0.
///
/// # Shapes
/// As [`max_pool`].
///
/// # Errors
/// As [`max_pool`].
///
/// ```
/// use ndconv::{PoolParams, PoolProblem, Tensor, ops};
/// let p = PoolProblem::<1>::new(&[1, 1, 4], &PoolParams::new([2]))?;
/// let x = Tensor::from_vec(&[1, 1, 4], vec![1.0f32, 2.0, 4.0, 3.0])?;
/// assert_eq!(ops::avg_pool(&p, &x)?.to_vec()?, [1.5, 3.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn avg_pool<T: Element, const N: usize>(
    p: &PoolProblem<N>,
    x: &Tensor<T>,
) -> Result<Tensor<T>> {
    expect("x", x, &p.x_shape())?;
    let mut y = uninitialised(x, &p.y_shape(), x.layout())?;
    match x.device() {
        Device::Cpu => {
            cpu::pool::avg_pool(&p.lift(), x.layout(), x.on_cpu("x")?, y.on_cpu_mut("y")?);
        }
        Device::Cuda(device) => {
            let (layout, x) = (x.layout(), x.on_cuda(&device, "x")?);
            let y = y.on_cuda_mut(&device, "y")?;
            cuda::pool::avg_pool::<T>(&device, &p.lift(), layout, x, y)?;
        }
    }
    Ok(y)
}

/// The gradient of [`avg_pool`] in `x`: an equal share to every input of a window.
///
/// # Shapes
/// `dy` is [`PoolProblem::y_shape`] in its layout, the result [`PoolProblem::x_shape`].
///
/// # Errors
/// As [`max_pool`].
pub fn avg_pool_backward<T: Element, const N: usize>(
    p: &PoolProblem<N>,
    dy: &Tensor<T>,
) -> Result<Tensor<T>> {
    expect("dy", dy, &p.y_shape())?;
    let mut dx = uninitialised(dy, &p.x_shape(), dy.layout())?;
    match dy.device() {
        Device::Cpu => {
            let (layout, dy) = (dy.layout(), dy.on_cpu("dy")?);
            cpu::pool::avg_pool_backward(&p.lift(), layout, dy, dx.on_cpu_mut("dx")?);
        }
        Device::Cuda(device) => {
            let (layout, dy) = (dy.layout(), dy.on_cuda(&device, "dy")?);
            let dx = dx.on_cuda_mut(&device, "dx")?;
            cuda::pool::avg_pool_backward::<T>(&device, &p.lift(), layout, dy, dx)?;
        }
    }
    Ok(dx)
}
