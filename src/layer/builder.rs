//! The builder of convolution layers, plain and transposed.

use std::marker::PhantomData;

use super::conv::check_groups;
use super::{Conv, ConvTranspose};
use crate::axis::PaddingMode;
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::init::{Init, Rng};
use crate::problem::{ConvParams, Padding};
use crate::rules::{Rules, TransposedSize};
use crate::shape::{Layout, check_elements};
use crate::tensor::Tensor;

/// Builds a [`Conv`] or a [`ConvTranspose`].
///
/// ```
/// use ndconv::{Padding, init::{Init, Rng}, layer::Conv1d};
/// let conv = Conv1d::<f32>::builder(4, 4, [3])
///     .groups(4) // depthwise
///     .padding(Padding::Causal)
///     .bias(false)
///     .init(Init::KaimingNormal)
///     .build(&mut Rng::new(7))?;
/// assert_eq!(conv.weight().shape(), [4, 1, 3]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvBuilder<L, const N: usize> {
    in_channels: usize,
    out_channels: usize,
    kernel_size: [usize; N],
    params: ConvParams<N>,
    rules: Rules,
    size: TransposedSize<N>,
    bias: bool,
    init: Init,
    weight_layout: Layout,
    device: Device,
    layer: PhantomData<fn() -> L>,
}

impl<L, const N: usize> ConvBuilder<L, N> {
    pub(super) fn new(in_channels: usize, out_channels: usize, kernel_size: [usize; N]) -> Self {
        ConvBuilder {
            in_channels,
            out_channels,
            kernel_size,
            params: ConvParams::default(),
            rules: Rules::Native,
            size: TransposedSize::default(),
            bias: true,
            init: Init::default(),
            weight_layout: Layout::default(),
            device: Device::Cpu,
            layer: PhantomData,
        }
    }

    /// Input positions from one output position to the next.
    pub fn stride(mut self, stride: [usize; N]) -> Self {
        self.params.stride = stride;
        self
    }

    /// Positions added around the input; cropped from a transposed output.
    pub fn padding(mut self, padding: Padding<N>) -> Self {
        self.params.padding = padding;
        self
    }

    /// What the added positions hold.
    pub fn padding_mode(mut self, mode: PaddingMode) -> Self {
        self.params.padding_mode = mode;
        self
    }

    /// Input positions from one tap to the next.
    pub fn dilation(mut self, dilation: [usize; N]) -> Self {
        self.params.dilation = dilation;
        self
    }

    /// The channels fall into this many groups that do not see each other; as many as there are
    /// input channels is a depthwise convolution.
    pub fn groups(mut self, groups: usize) -> Self {
        self.params.groups = groups;
        self
    }

    /// Whose shape rules to follow.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Whether there is a bias; there is one unless this says no.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The distribution of the initial weights.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The memory order of the weight.
    pub fn weight_layout(mut self, layout: Layout) -> Self {
        self.weight_layout = layout;
        self
    }

    /// The device of the parameters.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// Draws the weight `(outer, inner / groups, *kernel_size)` and the bias. In a convolution
    /// `outer` are the outputs; PyTorch takes the fan-in of a transposed one the same way.
    fn draw<T: Element>(
        &self,
        outer: usize,
        inner: usize,
        rng: &mut Rng,
    ) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
        check_groups(inner, self.params.groups)?;
        check_groups(outer, self.params.groups)?;
        let channels = [outer, inner / self.params.groups];
        let shape = [&channels[..], &self.kernel_size].concat();
        if shape.contains(&0) {
            return Err(Error::shape(
                "weight",
                "channels and taps of at least 1",
                shape,
            ));
        }
        check_elements("weight", &shape)?;
        let taps: usize = self.kernel_size.iter().product();
        let (fan_in, fan_out) = (channels[1] * taps, outer / self.params.groups * taps);
        let weight = self.init.tensor(&shape, fan_in, fan_out, rng)?;
        let weight = weight
            .to_layout(self.weight_layout)?
            .to_device(&self.device)?;
        let bias = if self.bias {
            let init = self.init.bias();
            let bias = init.tensor(&[self.out_channels], fan_in, fan_out, rng)?;
            Some(bias.to_device(&self.device)?)
        } else {
            None
        };
        Ok((weight, bias))
    }
}

impl<T: Element, const N: usize> ConvBuilder<Conv<T, N>, N> {
    /// Draws the parameters.
    ///
    /// # Errors
    /// Zero sizes, channels that `groups` does not divide, [`Error::OutOfMemory`].
    pub fn build(self, rng: &mut Rng) -> Result<Conv<T, N>> {
        let (weight, bias) = self.draw(self.out_channels, self.in_channels, rng)?;
        Conv::new(weight, bias, self.params, self.rules)
    }
}

impl<T: Element, const N: usize> ConvBuilder<ConvTranspose<T, N>, N> {
    /// Positions added after each axis of the output.
    pub fn output_padding(mut self, output_padding: [usize; N]) -> Self {
        self.size.output_padding = Some(output_padding);
        self
    }

    /// The spatial output size itself ([`Rules::Onnx`]).
    pub fn output_shape(mut self, output_shape: [usize; N]) -> Self {
        self.size.output_shape = Some(output_shape);
        self
    }

    /// Draws the parameters.
    ///
    /// # Errors
    /// Zero sizes, channels that `groups` does not divide, [`Error::OutOfMemory`].
    pub fn build(self, rng: &mut Rng) -> Result<ConvTranspose<T, N>> {
        let (weight, bias) = self.draw(self.in_channels, self.out_channels, rng)?;
        ConvTranspose::new(weight, bias, self.params, self.rules, self.size)
    }
}
