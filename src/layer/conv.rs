//! Convolution layers and transposed convolution layers of every rank.

use super::{ConvBuilder, Gradients, Layer, named, named_mut};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::{self, Activation};
use crate::problem::{ConvParams, ConvProblem};
use crate::rules::{Rules, TransposedSize};
use crate::shape::{Layout, check_elements};
use crate::tensor::Tensor;

/// A convolution layer of rank `N`: `y = correlate(x, weight) + bias`.
///
/// # Shapes
/// In channels-first order: input `(batch, in_channels, *spatial)`, weight
/// `(out_channels, in_channels / groups, *kernel_size)`, bias `(out_channels)`, output
/// `(batch, out_channels, *output)`. Input and output have one layout, the weight its own.
///
/// ```
/// use ndconv::{Padding, Tensor, init::Rng, layer::{Conv2d, Layer}};
/// let conv = Conv2d::<f32>::builder(3, 16, [3, 3]).padding(Padding::Same).build(&mut Rng::new(0))?;
/// let x = Tensor::from_vec(&[1, 3, 8, 8], vec![0.5; 192])?;
/// let y = conv.forward(&x)?;
/// assert_eq!(y.shape(), [1, 16, 8, 8]);
/// let gradients = conv.backward(&x, &y)?;
/// assert_eq!(gradients.input.shape(), x.shape());
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "Conv1D")]
#[doc(alias = "Conv2D")]
#[doc(alias = "Conv3D")]
#[doc(alias = "DepthwiseConv2D")]
pub struct Conv<T, const N: usize> {
    weight: Tensor<T>,
    bias: Option<Tensor<T>>,
    params: ConvParams<N>,
    rules: Rules,
}

/// Convolution over one axis: a signal or a text.
pub type Conv1d<T> = Conv<T, 1>;
/// Convolution over two axes: an image.
pub type Conv2d<T> = Conv<T, 2>;
/// Convolution over three axes: a volume or a video.
pub type Conv3d<T> = Conv<T, 3>;
/// Convolution over four axes: a volume in time.
pub type Conv4d<T> = Conv<T, 4>;

impl<T: Element, const N: usize> Conv<T, N> {
    /// A builder with PyTorch's defaults: stride 1, no padding, a bias, weights drawn uniformly
    /// within `1 / sqrt(fan_in)`.
    pub fn builder(
        in_channels: usize,
        out_channels: usize,
        kernel_size: [usize; N],
    ) -> ConvBuilder<Self, N> {
        ConvBuilder::new(in_channels, out_channels, kernel_size)
    }

    /// A layer with these weights.
    ///
    /// # Errors
    /// [`Error::Shape`] when weight, bias and groups do not fit together.
    pub fn new(
        weight: Tensor<T>,
        bias: Option<Tensor<T>>,
        params: ConvParams<N>,
        rules: Rules,
    ) -> Result<Self> {
        let out_channels = check_weight::<T, N>(&weight, params.groups)?[0];
        check_groups(out_channels, params.groups)?;
        check_bias(bias.as_ref(), out_channels)?;
        Ok(Conv {
            weight,
            bias,
            params,
            rules,
        })
    }

    /// The weight, `(out_channels, in_channels / groups, *kernel_size)` in its layout.
    pub fn weight(&self) -> &Tensor<T> {
        &self.weight
    }

    /// The bias, `(out_channels)`.
    pub fn bias(&self) -> Option<&Tensor<T>> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation, groups.
    pub fn params(&self) -> &ConvParams<N> {
        &self.params
    }

    /// Whose shape rules the layer follows.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The convolution of an input of this channels-first shape.
    ///
    /// # Errors
    /// As [`Rules::problem`].
    pub fn problem(&self, x: &[usize]) -> Result<ConvProblem<N>> {
        let w = self.weight.channels_first_shape();
        self.rules.problem(x, &w, &self.params)
    }
}

impl<T: Element, const N: usize> Layer<T> for Conv<T, N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::fprop(&p, x, &self.weight, self.bias.as_ref())
    }

    fn forward_activated(&self, x: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::fprop_activated(&p, x, &self.weight, self.bias.as_ref(), activation)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(Gradients {
            input: self.input_gradient(x, dy)?,
            parameters: self.parameter_gradients(x, dy)?,
        })
    }

    fn input_gradient(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::dgrad(&p, dy, &self.weight, None)
    }

    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        let p = self.problem(&x.channels_first_shape())?;
        let weight = ops::wgrad(&p, x, dy, self.weight.layout())?;
        let bias = self.bias.as_ref().map(|_| ops::bgrad(dy)).transpose()?;
        Ok([weight].into_iter().chain(bias).collect())
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        let p = self.problem(&layout.to_channels_first(x))?;
        Ok(layout.from_channels_first(&p.y_shape()))
    }

    fn describe(&self) -> String {
        let [out_channels, in_channels] = [0, 1].map(|i| self.weight.channels_first_shape()[i]);
        let in_channels = in_channels * self.params.groups;
        describe(
            "Conv",
            in_channels,
            out_channels,
            &self.weight,
            &self.params,
        )
    }

    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        named(&self.weight, self.bias.as_ref())
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        named_mut(&mut self.weight, self.bias.as_mut())
    }
}

/// A transposed convolution layer of rank `N`: the adjoint of a convolution, used forwards.
///
/// Its forward pass is the input gradient (dgrad) of the associated convolution, its input
/// gradient that convolution's fprop, and its weight gradient that convolution's wgrad with input
/// and output gradient in each other's place. It is the adjoint of a [`Conv`], not its inverse.
///
/// # Shapes
/// In channels-first order: input `(batch, in_channels, *spatial)`, weight
/// `(in_channels, out_channels / groups, *kernel_size)`, bias `(out_channels)`, output
/// `(batch, out_channels, *output)`.
///
/// ```
/// use ndconv::{Padding, Tensor, init::Rng, layer::{ConvTranspose2d, Layer}};
/// let up = ConvTranspose2d::<f32>::builder(8, 4, [3, 3])
///     .stride([2, 2])
///     .padding(Padding::Same)
///     .build(&mut Rng::new(0))?;
/// let x = Tensor::from_vec(&[1, 8, 14, 14], vec![0.5; 8 * 14 * 14])?;
/// assert_eq!(up.forward(&x)?.shape(), [1, 4, 28, 28]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "Conv1DTranspose")]
#[doc(alias = "Conv2DTranspose")]
#[doc(alias = "Conv3DTranspose")]
#[doc(alias = "Deconvolution")]
pub struct ConvTranspose<T, const N: usize> {
    weight: Tensor<T>,
    bias: Option<Tensor<T>>,
    params: ConvParams<N>,
    rules: Rules,
    size: TransposedSize<N>,
}

/// Transposed convolution over one axis.
pub type ConvTranspose1d<T> = ConvTranspose<T, 1>;
/// Transposed convolution over two axes.
pub type ConvTranspose2d<T> = ConvTranspose<T, 2>;
/// Transposed convolution over three axes.
pub type ConvTranspose3d<T> = ConvTranspose<T, 3>;
/// Transposed convolution over four axes.
pub type ConvTranspose4d<T> = ConvTranspose<T, 4>;

impl<T: Element, const N: usize> ConvTranspose<T, N> {
    /// A builder with PyTorch's defaults.
    pub fn builder(
        in_channels: usize,
        out_channels: usize,
        kernel_size: [usize; N],
    ) -> ConvBuilder<Self, N> {
        ConvBuilder::new(in_channels, out_channels, kernel_size)
    }

    /// A layer with these weights.
    ///
    /// # Errors
    /// [`Error::Shape`] when weight, bias and groups do not fit together.
    pub fn new(
        weight: Tensor<T>,
        bias: Option<Tensor<T>>,
        params: ConvParams<N>,
        rules: Rules,
        size: TransposedSize<N>,
    ) -> Result<Self> {
        let w = check_weight::<T, N>(&weight, params.groups)?;
        check_groups(w[0], params.groups)?;
        check_bias(bias.as_ref(), w[1] * params.groups)?;
        Ok(ConvTranspose {
            weight,
            bias,
            params,
            rules,
            size,
        })
    }

    /// The weight, `(in_channels, out_channels / groups, *kernel_size)` in its layout.
    pub fn weight(&self) -> &Tensor<T> {
        &self.weight
    }

    /// The bias, `(out_channels)`.
    pub fn bias(&self) -> Option<&Tensor<T>> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation, groups.
    pub fn params(&self) -> &ConvParams<N> {
        &self.params
    }

    /// Whose shape rules the layer follows.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// What fixes the output size beside the parameters.
    pub fn size(&self) -> &TransposedSize<N> {
        &self.size
    }

    /// The associated convolution of an input of this channels-first shape: its `y` is this
    /// layer's input, its `x` this layer's output.
    ///
    /// # Errors
    /// As [`Rules::transposed`].
    pub fn problem(&self, x: &[usize]) -> Result<ConvProblem<N>> {
        let w = self.weight.channels_first_shape();
        self.rules.transposed(x, &w, &self.params, &self.size)
    }
}

impl<T: Element, const N: usize> Layer<T> for ConvTranspose<T, N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::dgrad(&p, x, &self.weight, self.bias.as_ref())
    }

    fn forward_activated(&self, x: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::dgrad_activated(&p, x, &self.weight, self.bias.as_ref(), activation)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        Ok(Gradients {
            input: self.input_gradient(x, dy)?,
            parameters: self.parameter_gradients(x, dy)?,
        })
    }

    fn input_gradient(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        let p = self.problem(&x.channels_first_shape())?;
        ops::fprop(&p, dy, &self.weight, None)
    }

    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        let p = self.problem(&x.channels_first_shape())?;
        let weight = ops::wgrad(&p, dy, x, self.weight.layout())?;
        let bias = self.bias.as_ref().map(|_| ops::bgrad(dy)).transpose()?;
        Ok([weight].into_iter().chain(bias).collect())
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        let p = self.problem(&layout.to_channels_first(x))?;
        Ok(layout.from_channels_first(&p.x_shape()))
    }

    fn describe(&self) -> String {
        let [in_channels, out_channels] = [0, 1].map(|i| self.weight.channels_first_shape()[i]);
        let out_channels = out_channels * self.params.groups;
        describe(
            "ConvTranspose",
            in_channels,
            out_channels,
            &self.weight,
            &self.params,
        )
    }

    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        named(&self.weight, self.bias.as_ref())
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        named_mut(&mut self.weight, self.bias.as_mut())
    }
}

/// The channels-first shape of a weight of rank `N`, every axis and product in range.
fn check_weight<T: Element, const N: usize>(
    weight: &Tensor<T>,
    groups: usize,
) -> Result<Vec<usize>> {
    let shape = weight.channels_first_shape();
    if shape.len() != N + 2 || shape.contains(&0) {
        let expected = format!(
            "{} axes of at least 1, 2 of channels and {N} of taps",
            N + 2
        );
        return Err(Error::shape("weight", expected, &shape));
    }
    check_elements("channels", &[shape[1], groups])?;
    Ok(shape)
}

pub(super) fn check_groups(channels: usize, groups: usize) -> Result<()> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        let expected = format!("a divisor of the {channels} channels");
        return Err(Error::argument("groups", expected, groups));
    }
    Ok(())
}

fn check_bias<T: Element>(bias: Option<&Tensor<T>>, channels: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.shape() != [channels] => {
            Err(Error::shape("bias", format!("[{channels}]"), bias.shape()))
        }
        _ => Ok(()),
    }
}

fn describe<T: Element, const N: usize>(
    name: &str,
    in_channels: usize,
    out_channels: usize,
    weight: &Tensor<T>,
    params: &ConvParams<N>,
) -> String {
    let kernel_size = &weight.channels_first_shape()[2..];
    let mut text = format!("{name}{N}d({in_channels}, {out_channels}, {kernel_size:?}");
    let default = ConvParams::<N>::default();
    if params.stride != default.stride {
        text += &format!(", stride {:?}", params.stride);
    }
    if params.padding != default.padding {
        text += &format!(", padding {}", params.padding);
    }
    if params.dilation != default.dilation {
        text += &format!(", dilation {:?}", params.dilation);
    }
    if params.groups != default.groups {
        text += &format!(", groups {}", params.groups);
    }
    if params.padding_mode != default.padding_mode {
        text += &format!(", {}", params.padding_mode.name());
    }
    text + ")"
}
