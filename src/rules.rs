//! The output-shape rules of PyTorch, Keras and ONNX: what each framework would make of the same
//! parameters, and what it would refuse.

use crate::axis::{Axis, PaddingMode, extent};
use crate::error::{Error, GeometryError, Result};
use crate::problem::{ConvParams, ConvProblem, Padding, check_output_padding, same_crop};

/// Whose shape rules a layer follows.
///
/// They agree on plain convolutions that all of them allow, and part ways on transposed ones.
///
/// ```
/// use ndconv::{ConvParams, Padding, Rules, TransposedSize};
/// let params = ConvParams::<1> { stride: [2], padding: Padding::Same, ..Default::default() };
/// let (x, w) = ([1, 4, 14], [4, 8, 3]);
/// let keras = Rules::Keras.transposed(&x, &w, &params, &TransposedSize::default())?;
/// assert_eq!(keras.input(), [28]);
/// let pytorch = Rules::PyTorch.transposed(&x, &w, &params, &TransposedSize::default());
/// assert!(pytorch.is_err()); // PyTorch has no 'same' there
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rules {
    /// This crate's own: every padding everywhere, otherwise PyTorch's.
    #[default]
    Native,
    /// `torch.nn.Conv*d` and `ConvTranspose*d`.
    PyTorch,
    /// `keras.layers.Conv*D` and `Conv*DTranspose`.
    Keras,
    /// The ONNX operators `Conv` and `ConvTranspose`.
    Onnx,
}

/// What fixes the output size of a transposed convolution beside its parameters.
///
/// ```
/// use ndconv::TransposedSize;
/// let size = TransposedSize { output_padding: Some([1, 1]), ..TransposedSize::default() };
/// assert_eq!(size.output_shape, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransposedSize<const N: usize> {
    /// Positions added after each axis. `None` is 0, but for Keras, where it means a size chosen
    /// by the padding (`input * stride` for `same`).
    pub output_padding: Option<[usize; N]>,
    /// The spatial output size itself (ONNX).
    pub output_shape: Option<[usize; N]>,
}

impl<const N: usize> Default for TransposedSize<N> {
    fn default() -> Self {
        TransposedSize {
            output_padding: None,
            output_shape: None,
        }
    }
}

impl Rules {
    /// The convolution of `x` with `w` under these rules.
    ///
    /// # Shapes
    /// As [`ConvProblem::new`].
    ///
    /// # Errors
    /// As [`ConvProblem::new`], and what the framework refuses: PyTorch `same` with a stride,
    /// Keras a stride together with a dilation, each a padding or padding mode that it lacks.
    pub fn problem<const N: usize>(
        self,
        x: &[usize],
        w: &[usize],
        params: &ConvParams<N>,
    ) -> Result<ConvProblem<N>> {
        let allowed = match self {
            Rules::Native => true,
            Rules::PyTorch => matches!(
                params.padding,
                Padding::Explicit(_) | Padding::Valid | Padding::Same
            ),
            Rules::Keras => match params.padding {
                Padding::Valid | Padding::Same => true,
                Padding::Causal => N == 1,
                _ => false,
            },
            Rules::Onnx => !matches!(params.padding, Padding::Full | Padding::Causal),
        };
        self.check_padding(allowed, params)?;
        // Keras' depthwise layers take strides and dilations together, its others do not.
        let depthwise = params.groups > 1 && x.get(1) == Some(&params.groups);
        if !(self == Rules::Keras && depthwise) {
            self.check_strides(params)?;
        }
        ConvProblem::new(x, w, params)
    }

    /// The convolution whose dgrad is the transposed convolution of `x` with `w` under these
    /// rules.
    ///
    /// # Shapes
    /// As [`ConvProblem::transposed`].
    ///
    /// # Errors
    /// As [`ConvProblem::transposed`], and what the framework refuses.
    pub fn transposed<const N: usize>(
        self,
        x: &[usize],
        w: &[usize],
        params: &ConvParams<N>,
        size: &TransposedSize<N>,
    ) -> Result<ConvProblem<N>> {
        let allowed = match self {
            Rules::Native => true,
            Rules::PyTorch => matches!(params.padding, Padding::Explicit(_) | Padding::Valid),
            Rules::Keras => matches!(params.padding, Padding::Valid | Padding::Same),
            Rules::Onnx => !matches!(params.padding, Padding::Full | Padding::Causal),
        };
        self.check_padding(allowed, params)?;
        if size.output_shape.is_some() && self != Rules::Onnx {
            return Err(Error::Unsupported {
                what: format!(
                    "output_shape under {} rules: use output_padding",
                    self.name()
                ),
            });
        }
        match self {
            Rules::Native | Rules::PyTorch => {
                ConvProblem::transposed(x, w, params, size.output_padding.unwrap_or([0; N]))
            }
            Rules::Keras => {
                self.check_strides(params)?;
                ConvProblem::transposed_with(x, w, params, |a, input, kernel_size| {
                    let (stride, dilation) = (params.stride[a], params.dilation[a]);
                    let output_padding = size.output_padding.map(|op| op[a]);
                    check_output_padding(output_padding.unwrap_or(0), stride, 1)?;
                    let same = params.padding == Padding::Same;
                    keras_transposed_axis(
                        same,
                        input,
                        kernel_size,
                        stride,
                        dilation,
                        output_padding,
                    )
                })
            }
            Rules::Onnx => ConvProblem::transposed_with(x, w, params, |a, input, kernel_size| {
                let (stride, dilation) = (params.stride[a], params.dilation[a]);
                let op = size.output_padding.map_or(0, |op| op[a]);
                check_output_padding(op, stride, dilation)?;
                let full = Axis::transposed_full(input, kernel_size, stride, dilation, op)?;
                let auto = matches!(params.padding, Padding::Same | Padding::SameLower);
                let crop = match (size.output_shape, params.padding) {
                    (Some(shape), padding) => same_crop(full, shape[a], padding == Padding::Same)?,
                    (None, padding) if auto => {
                        let output = input.checked_mul(stride).ok_or(GeometryError::Overflow)?;
                        same_crop(full, output, padding == Padding::Same)?
                    }
                    (None, Padding::Explicit(padding)) => {
                        let signed = |v| isize::try_from(v).map_err(|_| GeometryError::Overflow);
                        (signed(padding[a].0)?, signed(padding[a].1)?)
                    }
                    (None, _) => (0, 0),
                };
                Axis::transposed(input, kernel_size, stride, dilation, crop, op)
            }),
        }
    }

    /// `native`, `pytorch`, `keras` or `onnx`.
    pub fn name(self) -> &'static str {
        match self {
            Rules::Native => "native",
            Rules::PyTorch => "pytorch",
            Rules::Keras => "keras",
            Rules::Onnx => "onnx",
        }
    }

    fn check_padding<const N: usize>(self, allowed: bool, params: &ConvParams<N>) -> Result<()> {
        let mode = params.padding_mode;
        if mode != PaddingMode::Zeros && matches!(self, Rules::Keras | Rules::Onnx) {
            return Err(Error::Unsupported {
                what: format!("padding mode {} under {} rules", mode.name(), self.name()),
            });
        }
        if !allowed {
            return Err(Error::Unsupported {
                what: format!(
                    "padding {} of rank {N} under {} rules: use explicit padding or native rules",
                    params.padding,
                    self.name()
                ),
            });
        }
        Ok(())
    }

    /// What PyTorch and Keras refuse of strides.
    fn check_strides<const N: usize>(self, params: &ConvParams<N>) -> Result<()> {
        let Some(axis) = params.stride.iter().position(|&s| s > 1) else {
            return Ok(());
        };
        let stride = params.stride[axis];
        if self == Rules::PyTorch && params.padding == Padding::Same {
            return Err(GeometryError::SameNeedsUnitStride { stride }.at(axis));
        }
        if self == Rules::Keras && params.dilation.iter().any(|&d| d > 1) {
            return Err(GeometryError::StrideWithDilation.at(axis));
        }
        Ok(())
    }
}

/// Keras: without `output_padding`, `same` gives `input * stride` and `valid` everything that a
/// tap reaches and at least `input * stride`; with it, `same` crops half a kernel.
fn keras_transposed_axis(
    same: bool,
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    output_padding: Option<usize>,
) -> Result<Axis, GeometryError> {
    let signed = |v| isize::try_from(v).map_err(|_| GeometryError::Overflow);
    let extent = extent(kernel_size, dilation)?;
    let (begin, output) = match (same, output_padding) {
        (false, op) => {
            let op = op.unwrap_or(stride.saturating_sub(extent));
            let full = Axis::transposed_full(input, kernel_size, stride, dilation, op)?;
            (0, signed(full)?)
        }
        (true, None) => {
            let output = input.checked_mul(stride).ok_or(GeometryError::Overflow)?;
            (signed(extent.saturating_sub(stride) / 2)?, signed(output)?)
        }
        (true, Some(op)) => {
            let full = Axis::transposed_full(input, kernel_size, stride, dilation, op)?;
            let crop = signed(extent - extent % 2)?;
            ((crop - signed(op)?).max(0) / 2, signed(full)? - crop)
        }
    };
    let full = signed(Axis::transposed_full(
        input,
        kernel_size,
        stride,
        dilation,
        0,
    )?)?;
    Axis::transposed(
        input,
        kernel_size,
        stride,
        dilation,
        (begin, full - output - begin),
        0,
    )
}
