//! Layers: values with a forward and a backward pass.
//!
//! A layer keeps no activations. The caller, or [`Sequential`] with its [`Tape`], holds the input
//! and hands it to the backward pass.

mod activation;
mod builder;
mod circular;
mod conv;
mod dense;
mod pool;
mod sequential;

pub use activation::{Dropout, Flatten, Softmax};
pub use builder::ConvBuilder;
pub use circular::CircularConv;
pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, Conv4d, ConvTranspose, ConvTranspose1d, ConvTranspose2d,
    ConvTranspose3d, ConvTranspose4d,
};
pub use dense::Dense;
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, GlobalAvgPool, MaxPool, MaxPool1d, MaxPool2d,
    MaxPool3d,
};
pub use sequential::{Sequential, Summary, SummaryRow, Tape};

use std::fmt;

use crate::device::Device;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{self, Activation};
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Whether a layer is being trained or used.
///
/// ```
/// use ndconv::layer::{Dropout, Layer, Mode};
/// use ndconv::{Device, Tensor};
/// let mut layer = Dropout::new(0.5)?;
/// let x = Tensor::full(&[8], 1.0f32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&x)?.to_vec()?, [1.0; 8]);
/// Layer::<f32>::set_mode(&mut layer, Mode::Train { seed: 1 });
/// assert_ne!(layer.forward(&x)?.to_vec()?, [1.0; 8]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Used: nothing is random.
    #[default]
    Eval,
    /// Trained: dropout draws from this seed. Give every step its own.
    Train {
        /// What the step's random choices are drawn from.
        seed: u64,
    },
}

/// What a backward pass gives.
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::{Dense, Layer}};
/// let dense = Dense::<f64>::new(2, 1, &mut Rng::new(0))?;
/// let x = Tensor::from_vec(&[1, 2], vec![3.0, 5.0])?;
/// let gradients = dense.backward(&x, &Tensor::from_vec(&[1, 1], vec![1.0])?)?;
/// assert_eq!(gradients.weight().unwrap().to_vec()?, [3.0, 5.0]);
/// assert_eq!(gradients.bias().unwrap().to_vec()?, [1.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// The gradient in the layer's input.
    pub input: Tensor<T>,
    /// The gradients in the parameters, in the order of [`Layer::parameters`].
    pub parameters: Vec<Tensor<T>>,
}

impl<T> Gradients<T> {
    /// The gradient in the weight of a single layer.
    pub fn weight(&self) -> Option<&Tensor<T>> {
        self.parameters.first()
    }

    /// The gradient in the bias of a single layer: a sum, not a mean.
    pub fn bias(&self) -> Option<&Tensor<T>> {
        self.parameters.get(1)
    }
}

/// A function of a tensor, with gradients in its input and its parameters.
///
/// ```
/// use ndconv::{Result, Tensor, layer::{Gradients, Layer}, Layout};
///
/// #[derive(Debug)]
/// struct Identity;
///
/// impl Layer<f32> for Identity {
///     fn forward(&self, x: &Tensor<f32>) -> Result<Tensor<f32>> {
///         Ok(x.clone())
///     }
///     fn backward(&self, _x: &Tensor<f32>, dy: &Tensor<f32>) -> Result<Gradients<f32>> {
///         Ok(Gradients { input: dy.clone(), parameters: Vec::new() })
///     }
///     fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
///         Ok(x.to_vec())
///     }
///     fn describe(&self) -> String {
///         "Identity".into()
///     }
/// }
/// ```
pub trait Layer<T: Element>: fmt::Debug + Send + Sync {
    /// The layer's value at `x`.
    ///
    /// # Errors
    /// A shape that the layer does not take, or what the operations report.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;

    /// [`Layer::forward`] and an activation of the result, in one pass where the layer can.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn forward_activated(&self, x: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
        ops::activate(activation, &self.forward(x)?)
    }

    /// The activation that this layer is, if it is one: [`Sequential`] lets the layer before apply
    /// it.
    fn as_activation(&self) -> Option<Activation> {
        None
    }

    /// The vector-Jacobian products for `dy` at `x`, in the input and in each parameter.
    ///
    /// # Errors
    /// As [`Layer::forward`], and a `dy` that has not the output's shape.
    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>>;

    /// [`Layer::backward`] without the gradients in the parameters, for a layer that is not trained
    /// itself: the discriminator in a generator's step.
    ///
    /// # Errors
    /// As [`Layer::backward`].
    fn input_gradient(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(self.backward(x, dy)?.input)
    }

    /// [`Layer::backward`] without the gradient in the input, which the first layer of a net has
    /// no use for.
    ///
    /// # Errors
    /// As [`Layer::backward`].
    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        Ok(self.backward(x, dy)?.parameters)
    }

    /// The shape that `forward` gives for an input of shape `x`, both in memory order.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>>;

    /// The layer and its options in one line.
    fn describe(&self) -> String;

    /// The parameters by name, in a fixed order.
    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        Vec::new()
    }

    /// The parameters by name, in the order of [`Layer::parameters`].
    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        Vec::new()
    }

    /// What this layer becomes in a net that slides over larger inputs
    /// ([`crate::remap::make_convolutional`]), for an input of shape `x` in memory order that was
    /// not flattened; `None` for a layer that slides as it is.
    ///
    /// # Errors
    /// A shape that the layer does not take.
    fn sliding(&self, _x: &[usize], _layout: Layout) -> Result<Option<Box<dyn Layer<T>>>> {
        Ok(None)
    }

    /// The layers that this one runs one after another, if it does nothing else.
    fn inner(&self) -> &[Box<dyn Layer<T>>] {
        &[]
    }

    /// The layers of [`Layer::inner`], to be exchanged for others.
    fn inner_mut(&mut self) -> &mut [Box<dyn Layer<T>>] {
        &mut []
    }

    /// Moves the parameters to a device; on an error the layer is unchanged.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or what the device reports.
    ///
    /// ```
    /// use ndconv::{Device, init::Rng, layer::{Dense, Layer}};
    /// let mut dense = Dense::<f32>::new(3, 2, &mut Rng::new(0))?;
    /// let (device, _why_not_cuda) = Device::cuda_or_cpu(0);
    /// dense.move_to(&device)?;
    /// assert_eq!(dense.weight().device(), device);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    fn move_to(&mut self, device: &Device) -> Result<()> {
        let parameters = self.parameters();
        let moved = parameters.iter().map(|(_, p)| p.to_device(device));
        let moved = moved.collect::<Result<Vec<_>>>()?;
        for ((_, parameter), tensor) in self.parameters_mut().into_iter().zip(moved) {
            *parameter = tensor;
        }
        Ok(())
    }

    /// Chooses between training and use.
    fn set_mode(&mut self, _mode: Mode) {}
}

/// The parameters of a layer that has a weight and perhaps a bias.
fn named<'a, T>(
    weight: &'a Tensor<T>,
    bias: Option<&'a Tensor<T>>,
) -> Vec<(String, &'a Tensor<T>)> {
    let bias = bias.map(|b| ("bias".to_string(), b));
    [("weight".to_string(), weight)]
        .into_iter()
        .chain(bias)
        .collect()
}

/// [`named`] for writing.
fn named_mut<'a, T>(
    weight: &'a mut Tensor<T>,
    bias: Option<&'a mut Tensor<T>>,
) -> Vec<(String, &'a mut Tensor<T>)> {
    let bias = bias.map(|b| ("bias".to_string(), b));
    [("weight".to_string(), weight)]
        .into_iter()
        .chain(bias)
        .collect()
}
