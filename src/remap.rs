//! Weights in the orders of other libraries: pure permutations.

use std::str::FromStr;

use ndarray::{ArrayD, Axis, IxDyn};

use crate::error::{Error, Result};

/// Whose order of axes a weight has.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::{WeightKind, WeightLayout};
/// let keras = ArrayD::<f32>::zeros(vec![5, 5, 3, 16]); // (height, width, in, out)
/// let native = WeightLayout::Keras.to_native(&keras, WeightKind::Conv)?;
/// assert_eq!(native.shape(), [16, 3, 5, 5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightLayout {
    /// `(out, in / groups, *taps)`, transposed `(in, out / groups, *taps)`, dense `(out, in)`:
    /// this crate's own, and ONNX's.
    #[default]
    PyTorch,
    /// `(*taps, in / groups, out)`, transposed `(*taps, out, in)`, depthwise
    /// `(*taps, in, multiplier)`, dense `(in, out)`: Keras and TensorFlow.
    Keras,
    /// As PyTorch with every tap axis reversed: Theano convolves where the others correlate.
    Theano,
}

/// What a weight is used for, where that decides its order.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::{WeightKind, WeightLayout};
/// let keras = ArrayD::<f32>::zeros(vec![3, 8, 2]); // 3 taps, 8 channels, 2 outputs for each
/// let native = WeightLayout::Keras.to_native(&keras, WeightKind::Depthwise)?;
/// assert_eq!(native.shape(), [16, 1, 3]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// A convolution or a transposed one, of any number of groups.
    Conv,
    /// A convolution with as many groups as input channels.
    Depthwise,
    /// A fully connected layer.
    Dense,
}

impl WeightLayout {
    /// `pytorch`, `keras` or `theano`.
    pub fn name(self) -> &'static str {
        match self {
            WeightLayout::PyTorch => "pytorch",
            WeightLayout::Keras => "keras",
            WeightLayout::Theano => "theano",
        }
    }

    /// A weight of this order in this crate's own.
    ///
    /// # Errors
    /// [`Error::Shape`] for fewer axes than such a weight has.
    pub fn to_native<A: Clone>(self, weight: &ArrayD<A>, kind: WeightKind) -> Result<ArrayD<A>> {
        let rank = weight.ndim();
        if rank < 2 || (rank < 3 && kind != WeightKind::Dense) {
            let expected = "two axes of channels, and one or more of taps in a convolution";
            return Err(Error::shape("weight", expected, weight.shape()));
        }
        match (self, kind) {
            (WeightLayout::PyTorch, _) | (WeightLayout::Theano, WeightKind::Dense) => {
                Ok(weight.clone())
            }
            (WeightLayout::Theano, _) => {
                let mut flipped = weight.view();
                (2..rank).for_each(|axis| flipped.invert_axis(Axis(axis)));
                Ok(flipped.to_owned())
            }
            (WeightLayout::Keras, WeightKind::Conv | WeightKind::Dense) => Ok(permuted(
                weight,
                [rank - 1, rank - 2].into_iter().chain(0..rank - 2),
            )),
            (WeightLayout::Keras, WeightKind::Depthwise) => {
                let moved = permuted(weight, [rank - 2, rank - 1].into_iter().chain(0..rank - 2));
                let shape = moved.shape();
                let outputs = shape[0].checked_mul(shape[1]);
                let outputs = outputs.ok_or_else(|| crate::shape::too_large("weight", shape))?;
                let native = [&[outputs, 1][..], &shape[2..]].concat();
                moved
                    .into_shape_with_order(IxDyn(&native))
                    .map_err(|e| Error::shape("weight", "a depthwise weight", e.to_string()))
            }
        }
    }
}

impl FromStr for WeightLayout {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [
            WeightLayout::PyTorch,
            WeightLayout::Keras,
            WeightLayout::Theano,
        ]
        .into_iter()
        .find(|l| l.name() == s)
        .ok_or_else(|| Error::argument("weight layout", "pytorch, keras or theano", s))
    }
}

/// The array with its axes in this order, in memory as well.
fn permuted<A: Clone>(array: &ArrayD<A>, order: impl Iterator<Item = usize>) -> ArrayD<A> {
    let order: Vec<usize> = order.collect();
    let moved = array.view().permuted_axes(IxDyn(&order));
    moved.as_standard_layout().into_owned()
}
