//! The circular layer: a learnable filter as long as the signal.

use super::{Gradients, Layer, named, named_mut};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::init::{Init, Rng};
use crate::ops;
use crate::shape::Layout;
use crate::signal::CircularOperation;
use crate::tensor::Tensor;

/// A circular filter over the last axis: `y[n] = sum over k of w[k] x[(k + n) mod N]`, or with
/// [`CircularOperation::Convolve`] `y[n] = sum over k of w[k] x[(n - k) mod N]`.
///
/// # Shapes
/// Input and output `(*batch, N)`. The weight is `(N)`, one filter for all rows, or has more axes,
/// each equal to the input's axis in that place from the end or 1: `(channels, N)` filters every
/// channel of `(batch, channels, N)` by its own.
///
/// ```
/// use ndconv::{Tensor, layer::{CircularConv, Layer}, signal::CircularOperation};
/// let shift = Tensor::from_vec(&[3], vec![0.0f32, 1.0, 0.0])?;
/// let layer = CircularConv::with_weights(CircularOperation::Convolve, shift)?;
/// let x = Tensor::from_vec(&[1, 3], vec![1.0, 2.0, 3.0])?;
/// assert_eq!(layer.forward(&x)?.to_vec()?, [3.0, 1.0, 2.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircularConv<T> {
    operation: CircularOperation,
    weight: Tensor<T>,
}

impl<T: Element> CircularConv<T> {
    /// A correlating layer, as all layers are, with a weight of this shape drawn uniformly within
    /// `1 / sqrt(N)`.
    ///
    /// # Errors
    /// [`Error::Shape`] without an axis or for a size of 0, [`Error::OutOfMemory`].
    pub fn new(shape: &[usize], rng: &mut Rng) -> Result<Self> {
        expect_filter(shape)?;
        let length = shape.last().copied().unwrap_or(1);
        let weight = Init::FanIn.tensor(shape, length, length, rng)?;
        Self::with_weights(CircularOperation::Correlate, weight)
    }

    /// A layer with these weights.
    ///
    /// # Errors
    /// [`Error::Shape`] without an axis or for a size of 0.
    pub fn with_weights(operation: CircularOperation, weight: Tensor<T>) -> Result<Self> {
        expect_filter(weight.shape())?;
        Ok(CircularConv { operation, weight })
    }

    /// The filter, `(.., N)`.
    pub fn weight(&self) -> &Tensor<T> {
        &self.weight
    }

    /// The operation of the forward pass.
    pub fn operation(&self) -> CircularOperation {
        self.operation
    }
}

fn expect_filter(shape: &[usize]) -> Result<()> {
    if shape.is_empty() || shape.contains(&0) {
        let expected = "(.., length) with sizes of at least 1";
        return Err(Error::shape("circular weight", expected, shape));
    }
    Ok(())
}

impl<T: Element> Layer<T> for CircularConv<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Layer::<T>::output_shape(self, x.shape(), x.layout())?;
        ops::circular(self.operation, &self.weight, x)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        ops::expect_like("dy", dy, x)?;
        Ok(Gradients {
            input: ops::circular_gradient_in_y(self.operation, &self.weight, x, dy)?,
            parameters: self.parameter_gradients(x, dy)?,
        })
    }

    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        Layer::<T>::output_shape(self, x.shape(), x.layout())?;
        let weight = ops::circular_gradient_in_x(self.operation, &self.weight, x, dy)?;
        Ok(vec![weight])
    }

    /// The input's own: the weight must not widen it.
    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        let weight = self.weight.shape();
        let lengths_agree = x.last() == weight.last();
        let fits = |(x, w): (&usize, &usize)| w == x || *w == 1;
        let pairs = x.iter().rev().zip(weight.iter().rev());
        if !lengths_agree || x.len() < weight.len() || !pairs.into_iter().all(fits) {
            let expected = format!("(*batch, {weight:?}) or axes that a 1 of it fits");
            return Err(Error::shape("circular input", expected, x));
        }
        Ok(x.to_vec())
    }

    fn describe(&self) -> String {
        format!(
            "CircularConv({:?}, {})",
            self.weight.shape(),
            self.operation
        )
    }

    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        named(&self.weight, None)
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        named_mut(&mut self.weight, None)
    }
}
