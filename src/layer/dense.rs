//! The fully connected layer: a convolution of kernel size 1 whose positions are the batch.

use super::{Gradients, Layer, named, named_mut};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::init::{Init, Rng};
use crate::ops::{self, Activation};
use crate::problem::{ConvParams, ConvProblem};
use crate::remap::dense_layer_to_conv;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// A fully connected layer: `y = x weight^T + bias`.
///
/// # Shapes
/// Input `(batch, in_features)`, weight `(out_features, in_features)`, bias `(out_features)`,
/// output `(batch, out_features)`.
///
/// ```
/// use ndconv::{Tensor, layer::{Dense, Layer}};
/// let weight = Tensor::from_vec(&[1, 2], vec![10.0f32, 1.0])?;
/// let dense = Dense::with_weights(weight, Some(Tensor::from_vec(&[1], vec![0.5])?))?;
/// let x = Tensor::from_vec(&[1, 2], vec![3.0, 4.0])?;
/// assert_eq!(dense.forward(&x)?.to_vec()?, [34.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "Linear")]
pub struct Dense<T> {
    weight: Tensor<T>,
    bias: Option<Tensor<T>>,
}

impl<T: Element> Dense<T> {
    /// A layer with a bias and PyTorch's default initial values.
    ///
    /// # Errors
    /// [`Error::Shape`] for a size of 0, [`Error::OutOfMemory`].
    pub fn new(in_features: usize, out_features: usize, rng: &mut Rng) -> Result<Self> {
        Self::with_init(in_features, out_features, Init::default(), rng)
    }

    /// A layer with a bias and these initial values.
    ///
    /// # Errors
    /// As [`Dense::new`].
    pub fn with_init(
        in_features: usize,
        out_features: usize,
        init: Init,
        rng: &mut Rng,
    ) -> Result<Self> {
        let shape = [out_features, in_features];
        if shape.contains(&0) {
            return Err(Error::shape("weight", "features of at least 1", shape));
        }
        let weight = init.tensor(&shape, in_features, out_features, rng)?;
        let bias = init
            .bias()
            .tensor(&[out_features], in_features, out_features, rng)?;
        Self::with_weights(weight, Some(bias))
    }

    /// A layer with these weights.
    ///
    /// # Errors
    /// [`Error::Shape`] when weight and bias do not fit together.
    pub fn with_weights(weight: Tensor<T>, bias: Option<Tensor<T>>) -> Result<Self> {
        let &[out_features, in_features] = weight.shape() else {
            let expected = "(out_features, in_features)";
            return Err(Error::shape("weight", expected, weight.shape()));
        };
        if in_features == 0 || out_features == 0 {
            return Err(Error::shape(
                "weight",
                "features of at least 1",
                weight.shape(),
            ));
        }
        match &bias {
            Some(bias) if bias.shape() != [out_features] => {
                let expected = format!("[{out_features}]");
                Err(Error::shape("bias", expected, bias.shape()))
            }
            _ => Ok(Dense { weight, bias }),
        }
    }

    /// The weight, `(out_features, in_features)`.
    pub fn weight(&self) -> &Tensor<T> {
        &self.weight
    }

    /// The bias, `(out_features)`.
    pub fn bias(&self) -> Option<&Tensor<T>> {
        self.bias.as_ref()
    }

    /// `(1, in, batch) * (out, in, 1) -> (1, out, batch)`, channels last: the rows as they lie.
    fn problem(&self, x: &[usize]) -> Result<ConvProblem<1>> {
        let [out_features, in_features] = [self.weight.shape()[0], self.weight.shape()[1]];
        match *x {
            [batch, features] if features == in_features && batch > 0 => ConvProblem::new(
                &[1, in_features, batch],
                &[out_features, in_features, 1],
                &ConvParams::default(),
            ),
            _ => Err(Error::shape(
                "dense input",
                format!("(batch, {in_features}), with Flatten in front for more axes"),
                x,
            )),
        }
    }

    fn taps(&self) -> Result<Tensor<T>> {
        let [out_features, in_features] = [self.weight.shape()[0], self.weight.shape()[1]];
        self.weight.reshape(&[out_features, in_features, 1])
    }
}

/// `(batch, features)` as one channels-last image of `batch` positions.
fn positions<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    match *x.shape() {
        [batch, features] => Ok(x
            .reshape(&[1, batch, features])?
            .with_layout(Layout::ChannelsLast)),
        _ => Err(Error::shape("dense tensor", "(batch, features)", x.shape())),
    }
}

/// The inverse of [`positions`].
fn rows<T: Element>(y: Tensor<T>) -> Result<Tensor<T>> {
    Ok(y.reshape(&y.shape()[1..])?
        .with_layout(Layout::ChannelsFirst))
}

impl<T: Element> Layer<T> for Dense<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(x.shape())?;
        rows(ops::fprop(
            &p,
            &positions(x)?,
            &self.taps()?,
            self.bias.as_ref(),
        )?)
    }

    fn forward_activated(&self, x: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
        let (p, bias) = (self.problem(x.shape())?, self.bias.as_ref());
        let (x, weight) = (positions(x)?, self.taps()?);
        rows(ops::fprop_activated(&p, &x, &weight, bias, activation)?)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(Gradients {
            input: self.input_gradient(x, dy)?,
            parameters: self.parameter_gradients(x, dy)?,
        })
    }

    fn input_gradient(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(x.shape())?;
        rows(ops::dgrad(&p, &positions(dy)?, &self.taps()?, None)?)
    }

    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        let p = self.problem(x.shape())?;
        let weight = ops::wgrad(&p, &positions(x)?, &positions(dy)?, Layout::ChannelsFirst)?
            .reshape(self.weight.shape())?;
        let bias = self.bias.as_ref().map(|_| ops::bgrad(dy)).transpose()?;
        Ok([weight].into_iter().chain(bias).collect())
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        let p = self.problem(x)?;
        Ok(vec![p.output()[0], p.out_channels()])
    }

    fn sliding(&self, x: &[usize], layout: Layout) -> Result<Option<Box<dyn Layer<T>>>> {
        fn conv<T: Element, const N: usize>(
            dense: &Dense<T>,
            channels: usize,
            spatial: &[usize],
            layout: Layout,
        ) -> Result<Option<Box<dyn Layer<T>>>> {
            let mut sizes = [0; N];
            sizes.copy_from_slice(spatial);
            let conv = dense_layer_to_conv(dense, channels, sizes, layout)?;
            Ok(Some(Box::new(conv)))
        }
        match layout.to_channels_first(x).as_slice() {
            [_, channels, s @ ..] => match s.len() {
                1 => conv::<T, 1>(self, *channels, s, layout),
                2 => conv::<T, 2>(self, *channels, s, layout),
                3 => conv::<T, 3>(self, *channels, s, layout),
                4 => conv::<T, 4>(self, *channels, s, layout),
                _ => Ok(None), // rows already, or what forward refuses
            },
            _ => Ok(None),
        }
    }

    fn describe(&self) -> String {
        format!(
            "Dense({}, {})",
            self.weight.shape()[1],
            self.weight.shape()[0]
        )
    }

    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        named(&self.weight, self.bias.as_ref())
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        named_mut(&mut self.weight, self.bias.as_mut())
    }
}
