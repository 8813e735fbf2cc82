//! Layers without weights: activations, softmax, flatten, dropout.

use super::pool::gradient;
use super::{Gradients, Layer, Mode, Sequential};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::{self, Activation};
use crate::shape::{Layout, check_elements};
use crate::tensor::Tensor;

impl<T: Element> Layer<T> for Activation {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        ops::activate(*self, x)
    }

    fn as_activation(&self) -> Option<Activation> {
        Some(*self)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(gradient(ops::activate_backward(*self, x, dy)?))
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        Ok(x.to_vec())
    }

    fn describe(&self) -> String {
        match self {
            Activation::LeakyRelu { slope } => format!("LeakyRelu({slope})"),
            other => format!("{other:?}"),
        }
    }
}

/// `exp(x) / sum(exp(x))` over the channel axis.
///
/// # Shapes
/// `(batch, channels, *spatial)` in either layout, unchanged.
///
/// ```
/// use ndconv::{Tensor, layer::{Layer, Softmax}};
/// let x = Tensor::from_vec(&[1, 2], vec![3.0f32, 3.0])?;
/// assert_eq!(Softmax.forward(&x)?.to_vec()?, [0.5, 0.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax;

impl<T: Element> Layer<T> for Softmax {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        ops::softmax(x)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(gradient(ops::softmax_backward(x, dy)?))
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        Ok(x.to_vec())
    }

    fn describe(&self) -> String {
        "Softmax".into()
    }
}

/// Everything after the batch axis as one axis, in memory order: `C *spatial` for channels-first
/// (PyTorch), `*spatial C` for channels-last (Keras).
///
/// ```
/// use ndconv::{Device, Tensor, layer::{Flatten, Layer}};
/// let x = Tensor::<f32>::zeros(&[2, 3, 4, 5], &Device::Cpu)?;
/// assert_eq!(Flatten.forward(&x)?.shape(), [2, 60]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

impl<T: Element> Layer<T> for Flatten {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let shape = Layer::<T>::output_shape(self, x.shape(), x.layout())?;
        Ok(x.reshape(&shape)?.with_layout(Layout::default()))
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(gradient(dy.reshape(x.shape())?.with_layout(x.layout())))
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        match x {
            [batch, rest @ ..] => Ok(vec![*batch, check_elements("flatten", rest)?]),
            [] => Err(Error::shape("flatten input", "a batch axis", x)),
        }
    }

    fn describe(&self) -> String {
        "Flatten".into()
    }

    /// Nothing: the layers behind take the axes as they are.
    fn sliding(&self, _x: &[usize], _layout: Layout) -> Result<Option<Box<dyn Layer<T>>>> {
        Ok(Some(Box::new(Sequential::new())))
    }
}

/// In training, zeroes each element with probability `p` and scales the others by `1 / (1 - p)`;
/// in use, changes nothing.
///
/// ```
/// use ndconv::{Device, Tensor, layer::{Dropout, Layer, Mode}};
/// let mut dropout = Dropout::new(0.25)?;
/// let x = Tensor::full(&[100], 3.0f32, &Device::Cpu)?;
/// Layer::<f32>::set_mode(&mut dropout, Mode::Train { seed: 0 });
/// assert!(dropout.forward(&x)?.to_vec()?.iter().all(|&v| v == 0.0 || v == 4.0));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    probability: f64,
    mode: Mode,
}

impl Dropout {
    /// Drops with this probability.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `0 <= p < 1`.
    pub fn new(probability: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::argument(
                "dropout probability",
                "0 <= p < 1",
                probability,
            ));
        }
        Ok(Dropout {
            probability,
            mode: Mode::Eval,
        })
    }

    fn apply<T: Element>(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        match self.mode {
            Mode::Eval => Ok(x.clone()),
            Mode::Train { seed } => ops::dropout(x, self.probability, seed),
        }
    }
}

impl<T: Element> Layer<T> for Dropout {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.apply(x)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        ops::expect_like("dy", dy, x)?;
        Ok(gradient(self.apply(dy)?)) // the mask depends on the index alone
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        Ok(x.to_vec())
    }

    fn describe(&self) -> String {
        format!("Dropout({})", self.probability)
    }

    fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }
}
