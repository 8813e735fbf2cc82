//! A transposed convolution as a convolution of an input with zeros between its elements.

use ndarray::ArrayD;

use super::Rearrangement;
use super::layout::reversed;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::layer::{Conv, ConvTranspose};
use crate::problem::{ConvParams, ConvProblem, Padding};
use crate::rules::{Rules, TransposedSize};
use crate::shape::Layout;
use crate::tensor::Tensor;

/// The weight of a transposed convolution `(in, out / groups, *taps)` as that of the convolution
/// of its zero-stuffed input `(out, in / groups, *taps)`: channels exchanged within each group and
/// every tap axis reversed. It is its own inverse.
///
/// # Errors
/// [`Error::Shape`] for fewer than three axes, [`Error::Argument`] for groups that do not divide
/// the first.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::swap_weight;
/// let w = ArrayD::from_shape_vec(vec![4, 1, 3], (0..12).collect()).unwrap();
/// let swapped = swap_weight(&w, 2)?;
/// assert_eq!(swapped.shape(), [2, 2, 3]);
/// assert_eq!(swapped[[1, 0, 0]], w[[2, 0, 2]]);
/// assert_eq!(swap_weight(&swapped, 2)?, w);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn swap_weight<A: Clone>(weight: &ArrayD<A>, groups: usize) -> Result<ArrayD<A>> {
    let shape = weight.shape();
    if shape.len() < 3 {
        let expected = "two axes of channels and one or more of taps";
        return Err(Error::shape("weight", expected, shape));
    }
    if groups == 0 || !shape[0].is_multiple_of(groups) {
        let expected = format!("a divisor of the {} channels", shape[0]);
        return Err(Error::argument("groups", expected, groups));
    }
    // (groups, in, out, *taps) -> (groups, out, in, *taps)
    let order: Vec<usize> = [0, 2, 1].into_iter().chain(3..shape.len() + 1).collect();
    let swapped = Rearrangement::new(shape)?
        .split(0, &[groups, shape[0] / groups])?
        .permute(&order)?
        .merge(0..2)?;
    reversed(swapped)?.apply(weight)
}

/// A transposed convolution as two steps: zeros put between and around the elements of the input
/// (or elements cut off where it crops), and a plain convolution of stride 1 without padding.
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::{ConvTranspose1d, Layer}, remap::ZeroStuffed};
/// let up = ConvTranspose1d::<f64>::builder(2, 3, [4]).stride([2]).build(&mut Rng::new(0))?;
/// let x = Tensor::from_vec(&[1, 2, 3], (0..6).map(f64::from).collect())?;
/// let steps = ZeroStuffed::new(&up, &[1, 2, 3])?;
/// let (y, same) = (up.forward(&x)?.to_vec()?, steps.conv.forward(&steps.stuff(&x)?)?.to_vec()?);
/// assert!(y.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-12));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ZeroStuffed<T, const N: usize> {
    /// The convolution of the stuffed input.
    pub conv: Conv<T, N>,
    problem: ConvProblem<N>,
}

impl<T: Element, const N: usize> ZeroStuffed<T, N> {
    /// The steps of a layer for an input of this channels-first shape.
    ///
    /// # Errors
    /// What the layer says to such an input.
    pub fn new(layer: &ConvTranspose<T, N>, x: &[usize]) -> Result<Self> {
        let problem = layer.problem(x)?;
        let groups = layer.params().groups;
        let weight = layer.weight().to_layout(Layout::ChannelsFirst)?;
        let weight = swap_weight(&weight.to_array()?, groups)?;
        let conv = Conv::new(
            Tensor::from_array(&weight)?.to_device(&layer.weight().device())?,
            layer.bias().cloned(),
            ConvParams {
                dilation: layer.params().dilation,
                groups,
                ..ConvParams::default()
            },
            Rules::Native,
        )?;
        Ok(ZeroStuffed { conv, problem })
    }

    /// The channels-first shape of the stuffed input.
    pub fn shape(&self) -> Vec<usize> {
        let p = &self.problem;
        let sizes = p.axes().iter().map(|a| a.input + a.extent() - 1);
        [p.batch(), p.out_channels()]
            .into_iter()
            .chain(sizes)
            .collect()
    }

    /// The input with zeros between and around its elements, in the input's layout.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another shape than the steps were made for.
    pub fn stuff(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let expected = self.problem.y_shape();
        if x.channels_first_shape() != expected {
            let expected = format!("{expected:?}, channels first");
            return Err(Error::shape("x", expected, x.channels_first_shape()));
        }
        let array = x.to_layout(Layout::ChannelsFirst)?.to_array()?;
        let shape = self.shape();
        crate::shape::check_elements("the stuffed x", &shape)?;
        let mut stuffed = ArrayD::from_elem(shape.clone(), T::default());
        for (index, &value) in array.indexed_iter() {
            let mut place = ndarray::Dimension::slice(&index).to_vec();
            let inside = self.problem.axes().iter().enumerate().all(|(a, axis)| {
                // output i reads stuffed element i + tap * dilation, with the taps reversed
                let at = (place[2 + a] * axis.stride + axis.extent() - 1) as isize - axis.padding.0;
                place[2 + a] = at.max(0) as usize;
                at >= 0 && (at as usize) < shape[2 + a]
            });
            if inside {
                stuffed[place.as_slice()] = value;
            }
        }
        Tensor::from_array(&stuffed)?
            .to_layout(x.layout())?
            .to_device(&x.device())
    }

    /// The transposed convolution that gives for `x` what `conv`, of stride 1, gives for `x` with
    /// `zeros[a] - 1` zeros between neighbours along every spatial axis and no others.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a stride, a padding that depends on the input, or one of more
    /// than `extent - 1`.
    ///
    /// ```
    /// use ndconv::{Padding, init::Rng, layer::Conv1d, remap::ZeroStuffed};
    /// let conv = Conv1d::<f32>::builder(2, 3, [4]).padding(Padding::uniform(3)).build(&mut Rng::new(0))?;
    /// let up = ZeroStuffed::undo(&conv, [2])?;
    /// assert_eq!((up.params().stride, up.weight().shape()), ([2], &[2, 3, 4][..]));
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn undo(conv: &Conv<T, N>, zeros: [usize; N]) -> Result<ConvTranspose<T, N>> {
        let unsupported = |what: &str| Error::Unsupported {
            what: format!("as a transposed convolution, {what}"),
        };
        let params = conv.params();
        if params.stride != [1; N] || params.padding_mode != Default::default() {
            return Err(unsupported(
                "a convolution of another stride than 1 or of a padding mode",
            ));
        }
        let shape = conv.weight().channels_first_shape();
        let mut crop = [(0, 0); N];
        for (a, crop) in crop.iter_mut().enumerate() {
            let reach = (shape[2 + a] - 1).checked_mul(params.dilation[a]);
            let reach = reach.ok_or_else(|| unsupported("a kernel of this extent"))?;
            let (lo, hi) = match params.padding {
                Padding::Explicit(padding) => padding[a],
                Padding::Valid => (0, 0),
                Padding::Full => (reach, reach),
                Padding::Causal => (reach, 0),
                Padding::Same | Padding::SameLower => {
                    return Err(unsupported("padding 'same': name the positions"));
                }
            };
            let side = |p: usize| {
                let more = "more padding than the kernel's extent less 1";
                reach.checked_sub(p).ok_or_else(|| unsupported(more))
            };
            *crop = (side(lo)?, side(hi)?);
        }
        let weight = conv.weight().to_layout(Layout::ChannelsFirst)?.to_array()?;
        let weight = swap_weight(&weight, params.groups)?;
        ConvTranspose::new(
            Tensor::from_array(&weight)?.to_device(&conv.weight().device())?,
            conv.bias().cloned(),
            ConvParams {
                stride: zeros,
                padding: Padding::Explicit(crop),
                ..*params
            },
            Rules::Native,
            TransposedSize::default(),
        )
    }
}
