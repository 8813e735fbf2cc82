//! What a layer knows of a convolution before it sees an input.

use std::fmt;

use crate::axis::PaddingMode;
use crate::axis::extent;
use crate::error::{GeometryError, Result};

/// How much is added before and after each spatial axis.
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Padding};
/// let same = ConvParams { padding: Padding::Same, ..ConvParams::default() };
/// let p = ConvProblem::<2>::new(&[1, 3, 7, 9], &[8, 3, 3, 2], &same)?;
/// assert_eq!(p.output(), [7, 9]);
/// assert_eq!(p.padding(), [(1, 1), (0, 1)]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding<const N: usize> {
    /// So many positions (before, after) each axis.
    Explicit([(usize, usize); N]),
    /// None: every window lies inside the input.
    Valid,
    /// `output = ceil(input / stride)`; an odd total puts the extra position after the input
    /// (Keras, PyTorch, ONNX `SAME_UPPER`).
    Same,
    /// As [`Padding::Same`] with the extra position before the input (ONNX `SAME_LOWER`).
    SameLower,
    /// Every window that touches the input: `extent - 1` on both sides.
    Full,
    /// Output `o` sees no input after `o * stride`: `extent - 1` before, none after.
    Causal,
}

impl<const N: usize> Padding<N> {
    /// The same number of positions before and after every axis.
    pub fn uniform(positions: usize) -> Self {
        Padding::symmetric([positions; N])
    }

    /// As many positions before an axis as after it, each axis its own number.
    pub fn symmetric(positions: [usize; N]) -> Self {
        Padding::Explicit(positions.map(|p| (p, p)))
    }

    /// `(before, after)` for one axis of a plain convolution.
    pub(crate) fn resolve(
        &self,
        axis: usize,
        input: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
    ) -> Result<(isize, isize), GeometryError> {
        let extent = extent(kernel_size, dilation)?;
        let (lo, hi) = match self {
            Padding::Explicit(padding) => padding[axis],
            Padding::Valid => (0, 0),
            Padding::Full => (extent - 1, extent - 1),
            Padding::Causal => (extent - 1, 0),
            Padding::Same | Padding::SameLower => {
                if stride == 0 || input == 0 {
                    return Ok((0, 0)); // refused, with the right name, by the axis itself
                }
                let last = (input.div_ceil(stride) - 1) * stride;
                let needed = last.checked_add(extent).ok_or(GeometryError::Overflow)?;
                let total = needed.saturating_sub(input);
                match self {
                    Padding::Same => (total / 2, total - total / 2),
                    _ => (total - total / 2, total / 2),
                }
            }
        };
        let signed = |v| isize::try_from(v).map_err(|_| GeometryError::Overflow);
        Ok((signed(lo)?, signed(hi)?))
    }
}

impl<const N: usize> fmt::Display for Padding<N> {
    /// A name, or the numbers in as few words as they need: `1`, `[1, 2]`, `[(0, 1), (2, 2)]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Padding::Explicit(pairs) => {
                let before = pairs.map(|(lo, _)| lo);
                return match before.first() {
                    Some(&positions) if *self == Padding::uniform(positions) => {
                        write!(f, "{positions}")
                    }
                    _ if *self == Padding::symmetric(before) => write!(f, "{before:?}"),
                    _ => write!(f, "{pairs:?}"),
                };
            }
            Padding::Valid => "valid",
            Padding::Same => "same",
            Padding::SameLower => "same_lower",
            Padding::Full => "full",
            Padding::Causal => "causal",
        };
        f.write_str(name)
    }
}

/// What a convolution layer knows before it sees an input.
///
/// ```
/// use ndconv::{ConvParams, Padding};
/// let params = ConvParams::<2> { stride: [2, 2], padding: Padding::uniform(1), ..Default::default() };
/// assert_eq!(params.groups, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvParams<const N: usize> {
    /// Input positions from one output position to the next.
    pub stride: [usize; N],
    /// Positions added around the input.
    pub padding: Padding<N>,
    /// Input positions from one tap to the next.
    pub dilation: [usize; N],
    /// The channels fall into this many groups that do not see each other.
    pub groups: usize,
    /// What the added positions hold.
    pub padding_mode: PaddingMode,
}

impl<const N: usize> Default for ConvParams<N> {
    /// Stride 1, no padding, dilation 1, one group, zeros.
    fn default() -> Self {
        ConvParams {
            stride: [1; N],
            padding: Padding::Valid,
            dilation: [1; N],
            groups: 1,
            padding_mode: PaddingMode::Zeros,
        }
    }
}
