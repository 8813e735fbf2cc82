//! Losses from logits or predictions, each with its gradient: means over the batch.

use super::expect_like;
use crate::cpu;
use crate::cuda::{self, loss::Pairs};
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

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
/// use ndconv::{Tensor, loss};
/// let logits = Tensor::from_vec(&[1, 2], vec![0.0f64, 0.0])?;
/// let (loss, gradient) = loss::cross_entropy(&logits, &[1])?;
/// assert_eq!(loss, 2f64.ln());
/// assert_eq!(gradient.to_vec()?, [0.5, -0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn cross_entropy<T: Element>(
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
    let mut gradient = logits.uninitialised_like()?;
    let loss = match logits.device() {
        Device::Cpu => {
            let (x, dx) = (logits.on_cpu("logits")?, gradient.on_cpu_mut("gradient")?);
            cpu::loss::cross_entropy(classes, x, targets, dx)
        }
        Device::Cuda(device) => {
            let x = logits.on_cuda(&device, "logits")?;
            let dx = gradient.on_cuda_mut(&device, "gradient")?;
            cuda::loss::classes::<T>(&device, classes, x, targets, dx)?
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
/// use ndconv::{Tensor, loss};
/// let logits = Tensor::from_vec(&[1], vec![0.0f64])?;
/// let (loss, gradient) = loss::binary_cross_entropy(&logits, &Tensor::from_vec(&[1], vec![1.0])?)?;
/// assert_eq!(loss, 2f64.ln());
/// assert_eq!(gradient.to_vec()?, [-0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn binary_cross_entropy<T: Element>(
    logits: &Tensor<T>,
    targets: &Tensor<T>,
) -> Result<(f64, Tensor<T>)> {
    let on_cpu = cpu::loss::binary_cross_entropy;
    loss_like(logits, targets, on_cpu, Pairs::BinaryCrossEntropy)
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
/// use ndconv::{Tensor, loss};
/// let prediction = Tensor::from_vec(&[2], vec![1.0f64, 5.0])?;
/// let target = Tensor::from_vec(&[2], vec![1.0, 2.0])?;
/// let (loss, gradient) = loss::mean_squared_error(&prediction, &target)?;
/// assert_eq!((loss, gradient.to_vec()?), (4.5, vec![0.0, 3.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn mean_squared_error<T: Element>(
    prediction: &Tensor<T>,
    target: &Tensor<T>,
) -> Result<(f64, Tensor<T>)> {
    let on_cpu = cpu::loss::mean_squared_error;
    loss_like(prediction, target, on_cpu, Pairs::SquaredError)
}

fn loss_like<T: Element>(
    prediction: &Tensor<T>,
    target: &Tensor<T>,
    on_cpu: fn(&[T], &[T], &mut [T]) -> f64,
    on_cuda: Pairs,
) -> Result<(f64, Tensor<T>)> {
    expect_like("target", target, prediction)?;
    if prediction.is_empty() {
        let got = prediction.shape();
        return Err(Error::shape("prediction", "at least one element", got));
    }
    let mut gradient = prediction.uninitialised_like()?;
    let loss = match prediction.device() {
        Device::Cpu => {
            let (x, t) = (prediction.on_cpu("prediction")?, target.on_cpu("target")?);
            on_cpu(x, t, gradient.on_cpu_mut("gradient")?)
        }
        Device::Cuda(device) => {
            let x = prediction.on_cuda(&device, "prediction")?;
            let t = target.on_cuda(&device, "target")?;
            let dx = gradient.on_cuda_mut(&device, "gradient")?;
            cuda::loss::pairs::<T>(&device, on_cuda, prediction.len(), x, t, dx)?
        }
    };
    Ok((loss, gradient))
}
