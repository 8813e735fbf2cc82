//! Batch normalisation folded into the convolution before it.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::layer::{Conv, ConvTranspose};
use crate::shape::Layout;
use crate::tensor::Tensor;

/// What a trained batch norm does to channel `c`:
/// `(x - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c]`.
///
/// ```
/// use ndconv::{Tensor, remap::BatchNorm};
/// let ones = Tensor::from_vec(&[2], vec![1.0f32, 1.0])?;
/// let zeros = Tensor::from_vec(&[2], vec![0.0f32, 0.0])?;
/// let norm = BatchNorm { gamma: None, beta: None, mean: zeros, variance: ones, epsilon: 1e-5 };
/// assert!(norm.gamma.is_none());
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "BatchNormalization")]
pub struct BatchNorm<T> {
    /// The scale (PyTorch `weight`); 1 where there is none.
    pub gamma: Option<Tensor<T>>,
    /// The shift (PyTorch `bias`); 0 where there is none.
    pub beta: Option<Tensor<T>>,
    /// The running mean.
    pub mean: Tensor<T>,
    /// The running variance.
    pub variance: Tensor<T>,
    /// What keeps the root from 0: 1e-5 in PyTorch, 1e-3 in Keras.
    pub epsilon: f64,
}

impl<T: Element> BatchNorm<T> {
    /// Scale and shift of every channel.
    fn affine(&self, channels: usize) -> Result<Vec<(f64, f64)>> {
        let values = |what: &str, tensor: Option<&Tensor<T>>, default: f64| match tensor {
            None => Ok(vec![default; channels]),
            Some(t) if t.shape() == [channels] => {
                Ok(t.to_vec()?.into_iter().map(T::to_f64).collect())
            }
            Some(t) => Err(Error::shape(what, format!("[{channels}]"), t.shape())),
        };
        let gamma = values("gamma", self.gamma.as_ref(), 1.0)?;
        let beta = values("beta", self.beta.as_ref(), 0.0)?;
        let mean = values("mean", Some(&self.mean), 0.0)?;
        let variance = values("variance", Some(&self.variance), 1.0)?;
        let scales = gamma.iter().zip(variance).map(|(g, v)| {
            let root = (v + self.epsilon).sqrt();
            (root > 0.0).then(|| g / root)
        });
        let scales: Option<Vec<f64>> = scales.collect();
        let expected = "variance + epsilon above 0 in every channel";
        let scales = scales.ok_or_else(|| Error::argument("variance", expected, "less"))?;
        let channels = scales.into_iter().zip(mean).zip(beta);
        Ok(channels.map(|((s, m), b)| (s, b - m * s)).collect())
    }

    /// Weight and bias scaled, where `channel` tells the output channel of a weight element's
    /// channels-first index.
    fn fold(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        channels: usize,
        channel: impl Fn(&[usize]) -> usize,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let affine = self.affine(channels)?;
        let mut array = weight.to_layout(Layout::ChannelsFirst)?.to_array()?;
        for (index, value) in array.indexed_iter_mut() {
            let (scale, _) = affine[channel(ndarray::Dimension::slice(&index))];
            *value = T::from_f64(value.to_f64() * scale);
        }
        let old = match bias {
            Some(bias) => bias.to_vec()?.into_iter().map(T::to_f64).collect(),
            None => vec![0.0; channels],
        };
        let shifted = old.iter().zip(&affine).map(|(b, (s, t))| b * s + t);
        let bias = Tensor::from_vec(&[channels], shifted.map(T::from_f64).collect())?;
        let device = weight.device();
        let weight = Tensor::from_array(&array)?.to_layout(weight.layout())?;
        Ok((weight.to_device(&device)?, bias.to_device(&device)?))
    }
}

/// The convolution that does what a convolution and the batch norm after it do.
///
/// Computed in f64 and rounded once.
///
/// # Errors
/// [`Error::Shape`] when the batch norm has not as many channels as the convolution puts out;
/// [`Error::Argument`] for a variance that has no root.
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::{Conv1d, Layer}, remap::{BatchNorm, fold_batch_norm}};
/// let conv = Conv1d::<f64>::builder(1, 1, [1]).build(&mut Rng::new(0))?;
/// let one = |v| Tensor::from_vec(&[1], vec![v]);
/// let norm = BatchNorm {
///     gamma: Some(one(2.0)?), beta: Some(one(1.0)?), mean: one(3.0)?, variance: one(4.0)?, epsilon: 0.0,
/// };
/// let folded = fold_batch_norm(&conv, &norm)?;
/// let x = Tensor::from_vec(&[1, 1, 1], vec![5.0])?;
/// let (plain, normed) = (conv.forward(&x)?.to_vec()?[0], folded.forward(&x)?.to_vec()?[0]);
/// assert!(((plain - 3.0) / 2.0 * 2.0 + 1.0 - normed).abs() < 1e-12);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn fold_batch_norm<T: Element, const N: usize>(
    conv: &Conv<T, N>,
    norm: &BatchNorm<T>,
) -> Result<Conv<T, N>> {
    let channels = conv.weight().channels_first_shape()[0];
    let (weight, bias) = norm.fold(conv.weight(), conv.bias(), channels, |index| index[0])?;
    Conv::new(weight, Some(bias), *conv.params(), conv.rules())
}

/// [`fold_batch_norm`] for a transposed convolution.
///
/// # Errors
/// As [`fold_batch_norm`].
pub fn fold_batch_norm_transposed<T: Element, const N: usize>(
    conv: &ConvTranspose<T, N>,
    norm: &BatchNorm<T>,
) -> Result<ConvTranspose<T, N>> {
    let shape = conv.weight().channels_first_shape();
    let groups = conv.params().groups;
    let per_group = shape[0] / groups;
    let channel = |index: &[usize]| index[0] / per_group * shape[1] + index[1];
    let channels = shape[1] * groups;
    let (weight, bias) = norm.fold(conv.weight(), conv.bias(), channels, channel)?;
    ConvTranspose::new(
        weight,
        Some(bias),
        *conv.params(),
        conv.rules(),
        *conv.size(),
    )
}
