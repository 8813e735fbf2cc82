//! Activations, softmax, dropout, losses and optimiser steps on tensors.

use crate::cpu;
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
    let mut y = x.like(T::default())?;
    match x.device() {
        Device::Cpu => {
            cpu::pointwise::activate(activation, x.on_cpu("x")?, y.on_cpu_mut("y")?);
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
    let mut dx = x.like(T::default())?;
    match x.device() {
        Device::Cpu => {
            let (x, dy) = (x.on_cpu("x")?, dy.on_cpu("dy")?);
            cpu::pointwise::activate_backward(activation, x, dy, dx.on_cpu_mut("dx")?);
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
    let mut y = x.like(T::default())?;
    match x.device() {
        Device::Cpu => cpu::pointwise::softmax(lanes, x.on_cpu("x")?, y.on_cpu_mut("y")?),
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
    let mut dx = x.like(T::default())?;
    match x.device() {
        Device::Cpu => {
            let (x, dy) = (x.on_cpu("x")?, dy.on_cpu("dy")?);
            cpu::pointwise::softmax_backward(lanes, x, dy, dx.on_cpu_mut("dx")?);
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
    let mut y = x.like(T::default())?;
    match x.device() {
        Device::Cpu => cpu::pointwise::dropout(p, seed, x.on_cpu("x")?, y.on_cpu_mut("y")?),
    }
    Ok(y)
}

/// Mean cross-entropy of softmaxed `logits` against class numbers, and its gradient.
///
/// # Shapes
/// `logits` is `(batch, classes)` with one target per row; the gradient has the shape of `logits`.
///
/// # Errors
/// [`Error::Shape`] for another rank or number of targets, [`Error::Argument`] for a class that
/// does not exist, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let logits = Tensor::from_vec(&[1, 2], vec![0.0f64, 0.0])?;
/// let (loss, gradient) = ops::softmax_cross_entropy(&logits, &[1])?;
/// assert_eq!(loss, 2f64.ln());
/// assert_eq!(gradient.to_vec()?, [0.5, -0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn softmax_cross_entropy<T: Element>(
    logits: &Tensor<T>,
    targets: &[usize],
) -> Result<(f64, Tensor<T>)> {
    let &[batch, classes] = logits.shape() else {
        return Err(Error::shape("logits", "(batch, classes)", logits.shape()));
    };
    if targets.len() != batch || batch == 0 {
        let expected = format!("one per row of the {batch} x {classes} logits, at least one");
        return Err(Error::shape("targets", expected, targets.len()));
    }
    if let Some(target) = targets.iter().find(|&&t| t >= classes) {
        return Err(Error::argument(
            "target",
            format!("a class below {classes}"),
            target,
        ));
    }
    let mut gradient = logits.like(T::default())?;
    let loss = match logits.device() {
        Device::Cpu => {
            let (x, dx) = (logits.on_cpu("logits")?, gradient.on_cpu_mut("gradient")?);
            cpu::pointwise::softmax_cross_entropy(classes, x, targets, dx)
        }
    };
    Ok((loss, gradient))
}

/// Mean binary cross-entropy of `sigmoid(logits)` against targets in [0, 1], and its gradient.
///
/// # Shapes
/// `logits` and `targets` have one shape, and so has the gradient.
///
/// # Errors
/// [`Error::Shape`] when they differ or are empty, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let logits = Tensor::from_vec(&[1], vec![0.0f64])?;
/// let (loss, gradient) = ops::binary_cross_entropy(&logits, &Tensor::from_vec(&[1], vec![1.0])?)?;
/// assert_eq!(loss, 2f64.ln());
/// assert_eq!(gradient.to_vec()?, [-0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn binary_cross_entropy<T: Element>(
    logits: &Tensor<T>,
    targets: &Tensor<T>,
) -> Result<(f64, Tensor<T>)> {
    loss_like(logits, targets, cpu::pointwise::binary_cross_entropy)
}

/// The mean of `(prediction - target)^2`, and its gradient.
///
/// # Shapes
/// `prediction` and `target` have one shape, and so has the gradient.
///
/// # Errors
/// [`Error::Shape`] when they differ or are empty, [`Error::OutOfMemory`].
///
/// ```
/// use ndconv::{Tensor, ops};
/// let prediction = Tensor::from_vec(&[2], vec![1.0f64, 5.0])?;
/// let target = Tensor::from_vec(&[2], vec![1.0, 2.0])?;
/// let (loss, gradient) = ops::mean_squared_error(&prediction, &target)?;
/// assert_eq!((loss, gradient.to_vec()?), (4.5, vec![0.0, 3.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn mean_squared_error<T: Element>(
    prediction: &Tensor<T>,
    target: &Tensor<T>,
) -> Result<(f64, Tensor<T>)> {
    loss_like(prediction, target, cpu::pointwise::mean_squared_error)
}

fn loss_like<T: Element>(
    prediction: &Tensor<T>,
    target: &Tensor<T>,
    on_cpu: fn(&[T], &[T], &mut [T]) -> f64,
) -> Result<(f64, Tensor<T>)> {
    expect_like("target", target, prediction)?;
    if prediction.is_empty() {
        let got = prediction.shape();
        return Err(Error::shape("prediction", "at least one element", got));
    }
    let mut gradient = prediction.like(T::default())?;
    let loss = match prediction.device() {
        Device::Cpu => {
            let (x, t) = (prediction.on_cpu("prediction")?, target.on_cpu("target")?);
            on_cpu(x, t, gradient.on_cpu_mut("gradient")?)
        }
    };
    Ok((loss, gradient))
}

/// The numbers of one stochastic-gradient step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdStep {
    pub learning_rate: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

/// `v = momentum * v + g`, `w -= learning_rate * v` on the master copy, rounded into `weight`.
pub(crate) fn sgd_step<T: Element>(
    step: SgdStep,
    gradient: &Tensor<T>,
    velocity: &mut Tensor<T::Acc>,
    master: &mut Tensor<T::Acc>,
    weight: &mut Tensor<T>,
) -> Result<()> {
    match weight.device() {
        Device::Cpu => cpu::pointwise::sgd_step(
            step,
            gradient.on_cpu("gradient")?,
            velocity.on_cpu_mut("velocity")?,
            master.on_cpu_mut("master weight")?,
            weight.on_cpu_mut("weight")?,
        ),
    }
    Ok(())
}

/// The numbers of one Adam step; `correction` holds `1 - beta^t` for both betas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    pub learning_rate: f64,
    pub betas: [f64; 2],
    pub correction: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Whether weight decay acts on the weight itself (AdamW) or is part of the gradient (Adam).
    pub decoupled: bool,
}

/// One Adam step on the master copy, rounded into `weight`; `moments` are updated.
pub(crate) fn adam_step<T: Element>(
    step: AdamStep,
    gradient: &Tensor<T>,
    moments: &mut [Tensor<T::Acc>; 2],
    master: &mut Tensor<T::Acc>,
    weight: &mut Tensor<T>,
) -> Result<()> {
    let [first, second] = moments;
    match weight.device() {
        Device::Cpu => cpu::pointwise::adam_step(
            step,
            gradient.on_cpu("gradient")?,
            first.on_cpu_mut("first moment")?,
            second.on_cpu_mut("second moment")?,
            master.on_cpu_mut("master weight")?,
            weight.on_cpu_mut("weight")?,
        ),
    }
    Ok(())
}

/// Every element of `source` rounded to the type of `target`, which has the same shape.
pub(crate) fn cast<T: Element, U: Element>(
    source: &Tensor<T>,
    target: &mut Tensor<U>,
) -> Result<()> {
    match source.device() {
        Device::Cpu => cpu::pointwise::cast(source.on_cpu("x")?, target.on_cpu_mut("y")?),
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

fn expect_like<T: Element>(what: &str, tensor: &Tensor<T>, like: &Tensor<T>) -> Result<()> {
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
