//! One spatial axis of a sliding window: the only place with an extent formula.

use crate::error::GeometryError;

/// How the values outside the input are made up.
///
/// For an input `a b c d` and a padding of 2 on both sides:
/// zeros `0 0 a b c d 0 0`, reflect `c b a b c d c b`, replicate `a a a b c d d d`,
/// circular `c d a b c d a b`.
///
/// ```
/// use ndconv::PaddingMode;
/// assert_eq!(PaddingMode::Reflect.source(-2, 4), Some(2));
/// assert_eq!(PaddingMode::Circular.source(-2, 4), Some(2));
/// assert_eq!(PaddingMode::Replicate.source(-2, 4), Some(0));
/// assert_eq!(PaddingMode::Zeros.source(-2, 4), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaddingMode {
    /// Zeros.
    #[default]
    Zeros,
    /// Mirrored about the edge element, which is not repeated.
    Reflect,
    /// The edge element.
    Replicate,
    /// The other end of the input.
    Circular,
}

impl PaddingMode {
    /// `zeros`, `reflect`, `replicate` or `circular`.
    pub fn name(self) -> &'static str {
        match self {
            PaddingMode::Zeros => "zeros",
            PaddingMode::Reflect => "reflect",
            PaddingMode::Replicate => "replicate",
            PaddingMode::Circular => "circular",
        }
    }

    /// The input position whose value stands at `position` of the padded axis, where the input
    /// covers `0..input`; `None` is a zero.
    ///
    /// Reflect and circular fold once: a valid [`Axis`] never asks for more.
    pub fn source(self, position: isize, input: usize) -> Option<usize> {
        let size = isize::try_from(input).ok().filter(|&size| size > 0)?;
        if (0..size).contains(&position) {
            return Some(position as usize);
        }
        let folded = match self {
            PaddingMode::Zeros => return None,
            PaddingMode::Replicate => position.clamp(0, size - 1),
            PaddingMode::Circular if position < 0 => position + size,
            PaddingMode::Circular => position - size,
            PaddingMode::Reflect if position < 0 => position.checked_neg()?,
            PaddingMode::Reflect => (size - 1) - (position - (size - 1)),
        };
        (0..size).contains(&folded).then_some(folded as usize)
    }

    /// The least input that a padding of `padding` on one side can be folded from.
    fn least_input(self, padding: usize) -> usize {
        match self {
            PaddingMode::Zeros | PaddingMode::Replicate => 1,
            PaddingMode::Reflect => padding.saturating_add(1),
            PaddingMode::Circular => padding.max(1),
        }
    }
}

/// One spatial axis of a convolution or pooling, valid by construction.
///
/// Numbers that no valid axis asks for saturate rather than overflow.
///
/// Output position `o` and tap `t` meet at input position `o * stride + t * dilation - padding.0`.
/// `padding` is signed: a negative side is a crop, as transposed convolutions may need.
///
/// ```
/// use ndconv::Axis;
/// let axis = Axis::new(8, 3, 2, 1, (1, 1))?;
/// assert_eq!(axis.output, 4);
/// assert_eq!(axis.position(0, 0), -1);
/// # Ok::<(), ndconv::GeometryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Axis {
    /// Positions of the input.
    pub input: usize,
    /// Taps of the kernel.
    pub kernel_size: usize,
    /// Positions of the output.
    pub output: usize,
    /// Input positions from one output position to the next.
    pub stride: usize,
    /// Input positions from one tap to the next.
    pub dilation: usize,
    /// Positions added before and after the input; negative crops.
    pub padding: (isize, isize),
}

impl Axis {
    /// The axis of one position and one tap, which changes nothing.
    pub const UNIT: Axis = Axis {
        input: 1,
        kernel_size: 1,
        output: 1,
        stride: 1,
        dilation: 1,
        padding: (0, 0),
    };

    /// Whether every position is that of one input position, the same one.
    pub(crate) fn is_pointwise(&self) -> bool {
        (self.kernel_size, self.stride, self.padding) == (1, 1, (0, 0)) && self.input == self.output
    }

    /// Whether windows of several positions lie side by side and cover the input.
    pub(crate) fn is_tiled(&self) -> bool {
        let window = self.kernel_size;
        (self.stride, self.dilation, self.padding) == (window, 1, (0, 0))
            && window > 1
            && self.output.checked_mul(window) == Some(self.input)
    }

    /// A window that slides over the padded input:
    /// `output = floor((input + padding - extent) / stride) + 1`.
    ///
    /// # Errors
    /// A zero size, an empty output, or sizes that overflow.
    pub fn new(
        input: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
        padding: (isize, isize),
    ) -> Result<Self, GeometryError> {
        Self::window(input, kernel_size, stride, dilation, padding, false)
    }

    /// [`Axis::new`]; with `ceil_mode` the division rounds up, and a last window that would begin
    /// past the input and its left padding is dropped (PyTorch's and ONNX's pooling rule).
    pub(crate) fn window(
        input: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
        padding: (isize, isize),
        ceil_mode: bool,
    ) -> Result<Self, GeometryError> {
        positive(input, stride, dilation)?;
        let extent = extent(kernel_size, dilation)?;
        let begin = signed(input)?
            .checked_add(padding.0)
            .ok_or(GeometryError::Overflow)?;
        let padded = begin
            .checked_add(padding.1)
            .ok_or(GeometryError::Overflow)?;
        let step = signed(stride)?;
        let room = padded
            .checked_sub(signed(extent)?)
            .and_then(|r| r.checked_add(if ceil_mode { step - 1 } else { 0 }))
            .ok_or(GeometryError::Overflow)?;
        let mut output = room.div_euclid(step) + 1;
        if ceil_mode && (output - 1) * step >= begin {
            output -= 1;
        }
        if output < 1 {
            return Err(GeometryError::KernelTooLarge { extent, padded });
        }
        let axis = Axis {
            input,
            kernel_size,
            output: output as usize,
            stride,
            dilation,
            padding,
        };
        axis.checked()
    }

    /// The associated convolution of a transposed one: `small` is the transposed input, which is
    /// this axis' `output`; this axis' `input` is
    /// `(small - 1) * stride + extent + output_padding - crop`.
    ///
    /// # Errors
    /// A zero size, an empty result, or sizes that overflow.
    pub fn transposed(
        small: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
        crop: (isize, isize),
        output_padding: usize,
    ) -> Result<Self, GeometryError> {
        let full = Self::transposed_full(small, kernel_size, stride, dilation, output_padding)?;
        let large = signed(full)?
            .checked_sub(crop.0)
            .and_then(|l| l.checked_sub(crop.1))
            .ok_or(GeometryError::Overflow)?;
        if large < 1 {
            return Err(GeometryError::EmptyOutput { output: large });
        }
        let axis = Axis {
            input: large as usize,
            kernel_size,
            output: small,
            stride,
            dilation,
            padding: crop,
        };
        axis.checked()
    }

    /// The transposed output before cropping: `(small - 1) * stride + extent + output_padding`.
    pub(crate) fn transposed_full(
        small: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
        output_padding: usize,
    ) -> Result<usize, GeometryError> {
        positive(small, stride, dilation)?;
        let extent = extent(kernel_size, dilation)?;
        (small - 1)
            .checked_mul(stride)
            .and_then(|l| l.checked_add(extent))
            .and_then(|l| l.checked_add(output_padding))
            .ok_or(GeometryError::Overflow)
    }

    /// Checks once that every position computed from this axis fits in an `isize`.
    fn checked(self) -> Result<Self, GeometryError> {
        let reach = self
            .output
            .checked_mul(self.stride)
            .and_then(|r| r.checked_add(self.extent()))
            .and_then(|r| r.checked_add(self.input))
            .and_then(|r| r.checked_add(self.padding.0.unsigned_abs()))
            .ok_or(GeometryError::Overflow)?;
        signed(reach).map(|_| self)
    }

    /// Checks that this axis' padding can be made from its input by folding once.
    pub(crate) fn check_fold(&self, mode: PaddingMode) -> Result<(), GeometryError> {
        let padding = self.padding.0.max(self.padding.1).max(0) as usize;
        let least = mode.least_input(padding);
        if self.input < least {
            return Err(GeometryError::PaddingTooLong {
                padding,
                mode: mode.name(),
                least,
                input: self.input,
            });
        }
        Ok(())
    }

    /// Positions that the dilated kernel covers: `dilation * (kernel_size - 1) + 1`.
    pub fn extent(&self) -> usize {
        self.dilation
            .saturating_mul(self.kernel_size.saturating_sub(1))
            .saturating_add(1)
    }

    /// Size of the input with both paddings.
    pub fn padded(&self) -> isize {
        saturating(self.input)
            .saturating_add(self.padding.0)
            .saturating_add(self.padding.1)
    }

    /// Where output position `out` and tap `tap` meet on the input axis; outside `0..input` it is
    /// padding.
    pub fn position(&self, out: usize, tap: usize) -> isize {
        let offset = out
            .saturating_mul(self.stride)
            .saturating_add(tap.saturating_mul(self.dilation));
        saturating(offset).saturating_sub(self.padding.0)
    }

    /// [`Axis::position`] where it lies on the input.
    pub fn input_index(&self, out: usize, tap: usize) -> Option<usize> {
        usize::try_from(self.position(out, tap))
            .ok()
            .filter(|&i| i < self.input)
    }
}

fn positive(input: usize, stride: usize, dilation: usize) -> Result<(), GeometryError> {
    let numbers = [
        ("the input size", input),
        ("the stride", stride),
        ("the dilation", dilation),
    ];
    match numbers.into_iter().find(|&(_, value)| value == 0) {
        Some((what, _)) => Err(GeometryError::Zero { what }),
        None => Ok(()),
    }
}

/// `dilation * (kernel_size - 1) + 1`, for numbers that nothing has checked yet.
pub(crate) fn extent(kernel_size: usize, dilation: usize) -> Result<usize, GeometryError> {
    let what = "the kernel size";
    kernel_size
        .checked_sub(1)
        .ok_or(GeometryError::Zero { what })?
        .checked_mul(dilation)
        .and_then(|e| e.checked_add(1))
        .ok_or(GeometryError::Overflow)
}

fn saturating(value: usize) -> isize {
    value.min(isize::MAX as usize) as isize
}

fn signed(value: usize) -> Result<isize, GeometryError> {
    isize::try_from(value).map_err(|_| GeometryError::Overflow)
}
