//! Weights in the orders of other libraries, and dense layers as convolutions: pure permutations,
//! and the few rewritings of a net that leave its values alone.
//!
//! | from | to | |
//! | --- | --- | --- |
//! | a weight of PyTorch, ONNX, Keras, Theano or a JAX spec | another's order | [`WeightLayout`] |
//! | dense weight, `(channels, *spatial)` flattened | convolution weight | [`dense_to_conv`] |
//! | convolution weight over the whole input | dense weight | [`conv_to_dense`] |
//! | dense weight | convolution of kernel size 1 | [`dense_to_pointwise`] |
//! | a convolution | its Toeplitz or circulant matrix | [`conv_matrix`] |
//! | convolution and batch norm | one convolution | [`fold_batch_norm`] |
//! | transposed convolution | convolution of a zero-stuffed input, and back | [`ZeroStuffed`] |
//! | a net with Flatten and Dense | one that slides over larger inputs | [`make_convolutional`] |

mod batch_norm;
mod dense;
mod layout;
mod matrix;
mod rearrangement;
mod sliding;
mod zero_stuffing;

pub use batch_norm::{BatchNorm, fold_batch_norm, fold_batch_norm_transposed};
pub use dense::{
    conv_layer_to_dense, conv_to_dense, dense_layer_to_conv, dense_layer_to_pointwise,
    dense_to_conv, dense_to_pointwise, plan_conv_to_dense, plan_dense_to_conv,
};
pub use layout::{JaxSpec, WeightKind, WeightLayout};
pub use matrix::conv_matrix;
pub use rearrangement::Rearrangement;
pub(crate) use rearrangement::{Boxes, Part};
pub use sliding::make_convolutional;
pub use zero_stuffing::{ZeroStuffed, swap_weight};
