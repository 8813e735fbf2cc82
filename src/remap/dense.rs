//! Dense layers as convolutions and back.

use ndarray::{ArrayD, IxDyn};

use super::{Rearrangement, conv_matrix};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::layer::{Conv, Dense};
use crate::problem::{ConvParams, Padding};
use crate::rules::Rules;
use crate::shape::{Layout, check_elements};
use crate::tensor::Tensor;

/// The convolution weight `(out, channels, *spatial)` of a dense weight `(out, features)` that
/// follows a flatten of `(channels, *spatial)`.
///
/// `flatten` is the order in which the features were laid out. Over (512, 7, 7), feature
/// (c, h, w) is number `c * 49 + h * 7 + w` channels-first (PyTorch) and `(h * 7 + w) * 512 + c`
/// channels-last (Keras). A convolution of the whole input with this weight gives what the dense
/// layer gives; over a larger input it gives a map of such outputs.
///
/// # Errors
/// [`Error::Shape`] when features and input do not have the same number of elements.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::{Layout, remap::dense_to_conv};
/// let dense = ArrayD::from_shape_vec(vec![1, 12], (0..12).collect()).unwrap();
/// let first = dense_to_conv(&dense, &[3, 2, 2], Layout::ChannelsFirst)?;
/// let last = dense_to_conv(&dense, &[3, 2, 2], Layout::ChannelsLast)?;
/// assert_eq!(first[[0, 2, 1, 0]], 2 * 4 + 1 * 2);
/// assert_eq!(last[[0, 2, 1, 0]], (1 * 2 + 0) * 3 + 2);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dense_to_conv<A: Clone>(
    weight: &ArrayD<A>,
    input: &[usize],
    flatten: Layout,
) -> Result<ArrayD<A>> {
    plan_dense_to_conv(Rearrangement::new(weight.shape())?, input, flatten)?.apply(weight)
}

/// The dense weight `(out, features)` of a convolution weight `(out, channels, *spatial)` whose
/// kernel covers its input; the inverse of [`dense_to_conv`].
///
/// # Errors
/// [`Error::Shape`] for fewer than three axes.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::{Layout, remap};
/// let dense = ArrayD::from_shape_vec(vec![2, 6], (0..12).collect()).unwrap();
/// let conv = remap::dense_to_conv(&dense, &[2, 3], Layout::ChannelsLast)?;
/// assert_eq!(remap::conv_to_dense(&conv, Layout::ChannelsLast)?, dense);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn conv_to_dense<A: Clone>(weight: &ArrayD<A>, flatten: Layout) -> Result<ArrayD<A>> {
    plan_conv_to_dense(Rearrangement::new(weight.shape())?, flatten)?.apply(weight)
}

/// The weight of a convolution of rank `rank` and kernel size 1 that does at every position what
/// a dense layer does to a row: `(out, in)` becomes `(out, in, 1, ..)`.
///
/// # Errors
/// [`Error::Shape`] for other than two axes; [`Error::Argument`] for a rank other than 1 to 4.
///
/// ```
/// use ndarray::ArrayD;
/// let dense = ArrayD::<f32>::zeros(vec![10, 4096]);
/// assert_eq!(ndconv::remap::dense_to_pointwise(&dense, 2)?.shape(), [10, 4096, 1, 1]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dense_to_pointwise<A: Clone>(weight: &ArrayD<A>, rank: usize) -> Result<ArrayD<A>> {
    if !(1..=4).contains(&rank) {
        return Err(Error::argument("rank", "1 to 4", rank));
    }
    let channels = weight.shape().get(1).copied().unwrap_or(0);
    let input = [&[channels][..], &vec![1; rank]].concat();
    dense_to_conv(weight, &input, Layout::ChannelsFirst)
}

/// [`dense_to_conv`] as one more step of a rearrangement.
///
/// # Errors
/// As [`dense_to_conv`].
pub fn plan_dense_to_conv(
    plan: Rearrangement,
    input: &[usize],
    flatten: Layout,
) -> Result<Rearrangement> {
    if !(2..=5).contains(&input.len()) {
        let expected = "(channels, *spatial) with one to four spatial axes";
        return Err(Error::shape("flattened input", expected, input));
    }
    let features = check_elements("flattened input", input)?;
    let shape = plan.shape();
    if shape.len() != 2 || shape[1] != features {
        let expected = format!("(out, {features}) for a flattened input of {input:?}");
        return Err(Error::shape("dense weight", expected, shape));
    }
    match flatten {
        Layout::ChannelsFirst => plan.split(1, input),
        Layout::ChannelsLast => {
            let in_memory = [&input[1..], &input[..1]].concat();
            let last = input.len();
            let order: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
            plan.split(1, &in_memory)?.permute(&order)
        }
    }
}

/// [`conv_to_dense`] as one more step of a rearrangement.
///
/// # Errors
/// As [`conv_to_dense`].
pub fn plan_conv_to_dense(plan: Rearrangement, flatten: Layout) -> Result<Rearrangement> {
    let rank = plan.shape().len();
    if rank < 3 {
        let expected = "(out, channels, *spatial)";
        return Err(Error::shape("convolution weight", expected, plan.shape()));
    }
    let plan = match flatten {
        Layout::ChannelsFirst => plan,
        Layout::ChannelsLast => {
            let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
            plan.permute(&order)?
        }
    };
    plan.merge(1..rank)
}

/// The convolution layer that gives what a dense layer gives after a flatten of
/// `(channels, *spatial)`, and slides over larger inputs.
///
/// # Errors
/// As [`dense_to_conv`].
///
/// ```
/// use ndconv::{Layout, Tensor, init::Rng, remap};
/// use ndconv::layer::{Dense, Flatten, Layer};
/// let dense = Dense::<f64>::new(2 * 3 * 3, 4, &mut Rng::new(0))?;
/// let conv = remap::dense_layer_to_conv(&dense, 2, [3, 3], Layout::ChannelsFirst)?;
/// let x = Tensor::from_vec(&[1, 2, 3, 3], (0..18).map(f64::from).collect())?;
/// let (y, map) = (dense.forward(&Flatten.forward(&x)?)?, conv.forward(&x)?);
/// assert_eq!(map.shape(), [1, 4, 1, 1]);
/// assert!((y.to_vec()?[3] - map.to_vec()?[3]).abs() < 1e-12);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dense_layer_to_conv<T: Element, const N: usize>(
    dense: &Dense<T>,
    channels: usize,
    spatial: [usize; N],
    flatten: Layout,
) -> Result<Conv<T, N>> {
    let input = [&[channels][..], &spatial].concat();
    let weight = dense_to_conv(&dense.weight().to_array()?, &input, flatten)?;
    Conv::new(
        on_the_device_of(dense.weight(), &weight)?,
        dense.bias().cloned(),
        ConvParams::default(),
        Rules::Native,
    )
}

/// The convolution layer of kernel size 1 that does at every position what a dense layer does to
/// a row.
///
/// # Errors
/// What the device reports.
///
/// ```
/// use ndconv::{init::Rng, layer::{Conv2d, Dense}, remap};
/// let dense = Dense::<f32>::new(8, 4, &mut Rng::new(0))?;
/// let conv: Conv2d<f32> = remap::dense_layer_to_pointwise(&dense)?;
/// assert_eq!(conv.weight().shape(), [4, 8, 1, 1]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn dense_layer_to_pointwise<T: Element, const N: usize>(
    dense: &Dense<T>,
) -> Result<Conv<T, N>> {
    let in_features = dense.weight().shape()[1];
    dense_layer_to_conv(dense, in_features, [1; N], Layout::ChannelsFirst)
}

/// The dense layer that gives, for a flattened input of these spatial sizes, what a convolution
/// gives at its only output position. Groups, dilation and padding are all taken into account.
///
/// # Errors
/// [`Error::Shape`] when the convolution has more than one output position there;
/// what the convolution refuses.
///
/// ```
/// use ndconv::{Layout, init::Rng, layer::Conv2d, remap};
/// let conv = Conv2d::<f32>::builder(2, 4, [3, 3]).build(&mut Rng::new(0))?;
/// let dense = remap::conv_layer_to_dense(&conv, [3, 3], Layout::ChannelsLast)?;
/// assert_eq!(dense.weight().shape(), [4, 18]);
/// assert!(remap::conv_layer_to_dense(&conv, [5, 5], Layout::ChannelsLast).is_err());
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn conv_layer_to_dense<T: Element, const N: usize>(
    conv: &Conv<T, N>,
    spatial: [usize; N],
    flatten: Layout,
) -> Result<Dense<T>> {
    let weight = conv.weight().to_layout(Layout::ChannelsFirst)?.to_array()?;
    let in_channels = weight.shape()[1] * conv.params().groups;
    let input = [&[1, in_channels][..], &spatial].concat();
    let problem = conv.problem(&input)?;
    if problem.output() != [1; N] {
        let expected = "one output position: a kernel that covers the input";
        return Err(Error::shape("convolution", expected, problem.output()));
    }
    let plain = conv.params().groups == 1
        && problem.kernel_size() == spatial
        && matches!(conv.params().padding, Padding::Valid);
    let dense = if plain {
        conv_to_dense(&weight, flatten)?
    } else {
        let matrix = conv_matrix(&problem, &weight.mapv(T::to_f64))?.mapv(T::from_f64);
        let outputs = weight.shape()[0];
        let taps = [&[outputs, in_channels][..], &spatial].concat();
        let taps = matrix.into_shape_with_order(IxDyn(&taps));
        let taps = taps.map_err(|e| Error::shape("matrix", "taps", e.to_string()))?;
        conv_to_dense(&taps, flatten)?
    };
    Dense::with_weights(
        on_the_device_of(conv.weight(), &dense)?,
        conv.bias().cloned(),
    )
}

fn on_the_device_of<T: Element>(like: &Tensor<T>, array: &ArrayD<T>) -> Result<Tensor<T>> {
    Tensor::from_array(array)?.to_device(&like.device())
}
