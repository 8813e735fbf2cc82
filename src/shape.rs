//! Shapes and memory layouts.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The order of a tensor's axes in memory, slowest first.
///
/// ```
/// use ndconv::Layout;
/// assert_eq!(Layout::ChannelsLast.to_channels_first(&[8, 28, 30, 3]), [8, 3, 28, 30]);
/// assert_eq!(Layout::ChannelsLast.from_channels_first(&[8, 3, 28, 30]), [8, 28, 30, 3]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `N C *spatial` for activations, `K C *kernel_size` for weights (PyTorch, Theano, ONNX).
    #[default]
    ChannelsFirst,
    /// `N *spatial C` for activations, `K *kernel_size C` for weights (Keras, TensorFlow,
    /// tensor cores).
    ChannelsLast,
}

impl Layout {
    /// Both.
    pub const ALL: [Layout; 2] = [Layout::ChannelsFirst, Layout::ChannelsLast];

    /// `channels_first` or `channels_last`.
    pub fn name(self) -> &'static str {
        match self {
            Layout::ChannelsFirst => "channels_first",
            Layout::ChannelsLast => "channels_last",
        }
    }

    /// The axis that holds the channels of a tensor of `rank` axes (at least 2).
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Layout::ChannelsFirst => 1.min(rank.saturating_sub(1)),
            Layout::ChannelsLast => rank.saturating_sub(1),
        }
    }

    /// A shape in memory order as `(batch, channels, *spatial)`.
    pub fn to_channels_first(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self == Layout::ChannelsLast && shape.len() > 2 {
            shape[1..].rotate_right(1);
        }
        shape
    }

    /// A shape `(batch, channels, *spatial)` in memory order.
    pub fn from_channels_first(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self == Layout::ChannelsLast && shape.len() > 2 {
            shape[1..].rotate_left(1);
        }
        shape
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Layout::ALL
            .into_iter()
            .find(|l| l.name() == s)
            .ok_or_else(|| Error::argument("layout", "channels_first or channels_last", s))
    }
}

/// The number of elements of a shape, if its bytes (at 8 an element) can be addressed.
pub(crate) fn check_elements(what: &str, shape: &[usize]) -> Result<usize> {
    // strides are products of some of the sizes, also where another one is 0
    let most = shape
        .iter()
        .try_fold(1usize, |p, &s| p.checked_mul(s.max(1)))
        .filter(|&p| p <= isize::MAX as usize / 8)
        .ok_or_else(|| too_large(what, shape))?;
    Ok(if shape.contains(&0) { 0 } else { most })
}

pub(crate) fn too_large(what: &str, shape: &[usize]) -> Error {
    Error::TooLarge {
        what: what.into(),
        size: format!("{shape:?}"),
    }
}

/// The rank error that says which axis is missing.
pub(crate) fn expect_rank(op: &str, rank: usize, axes: &str, shape: &[usize]) -> Result<()> {
    if shape.len() == rank {
        return Ok(());
    }
    let advice = match rank.checked_sub(shape.len()) {
        Some(1) => ": add a batch axis in front or, if that is there, add a channel axis",
        Some(2) => ": add a batch and a channel axis",
        _ => "",
    };
    Err(Error::Shape {
        what: op.to_string(),
        expected: format!("{rank} axes {axes}"),
        got: format!("{} axes {shape:?}{advice}", shape.len()),
    })
}
