//! Whose order of axes a weight has.

use std::fmt;
use std::str::FromStr;

use ndarray::ArrayD;

use super::Rearrangement;
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// Whose order of axes a weight has.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::{WeightKind, WeightLayout};
/// let keras = ArrayD::<f32>::zeros(vec![5, 5, 3, 16]); // (height, width, in, out)
/// let native = WeightLayout::Keras.to_native(&keras, WeightKind::Conv)?;
/// assert_eq!(native.shape(), [16, 3, 5, 5]);
/// let back = WeightLayout::Keras.from_native(&native, WeightKind::Conv)?;
/// assert_eq!(back, keras);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightLayout {
    /// `(out, in / groups, *taps)`, transposed `(in, out / groups, *taps)`, dense `(out, in)`:
    /// this crate's own.
    #[default]
    PyTorch,
    /// `(*taps, in / groups, out)`, transposed `(*taps, out, in)`, depthwise
    /// `(*taps, in, multiplier)`, dense `(in, out)`: Keras and TensorFlow.
    Keras,
    /// As PyTorch with every tap axis reversed, for Theano convolves where the others correlate;
    /// dense `(in, out)`.
    Theano,
    /// As PyTorch: `Conv`, `ConvTranspose`, and `Gemm` with `transB`.
    Onnx,
    /// The right-hand side of a `jax.lax` dimension string; dense `(in, out)`.
    ///
    /// Transposed: what `jax.lax.conv_transpose` takes with `transpose_kernel=False`, which does
    /// not flip the taps where the others do. With `transpose_kernel=True` a kernel is that of
    /// [`WeightLayout::Keras`].
    Jax(JaxSpec),
}

/// What a weight is used for, where that decides its order.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::{WeightKind, WeightLayout};
/// let keras = ArrayD::<f32>::zeros(vec![3, 8, 2]); // 3 taps, 8 channels, 2 outputs for each
/// let depthwise = WeightKind::Depthwise;
/// let native = WeightLayout::Keras.to_native(&keras, depthwise)?;
/// assert_eq!(native.shape(), [16, 1, 3]);
/// let back = WeightLayout::Keras.from_native_in_groups(&native, depthwise, 8)?;
/// assert_eq!(back.shape(), [3, 8, 2]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// A convolution of any number of groups.
    Conv,
    /// A transposed convolution of any number of groups.
    ConvTranspose,
    /// A convolution with as many groups as input channels.
    Depthwise,
    /// A fully connected layer.
    Dense,
}

/// A kernel's part of a JAX dimension string, such as `OIHW`, `HWIO` or `OIDHW`: `O` for output
/// channels, `I` for input channels, any other letter or digit for a spatial axis.
///
/// Spatial axes are taken in the order `T D H W` or `0 1 2 3` where the letters are these, as they
/// stand in `NCDHW` and `NDHWC`, and else as they come in the string.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::{WeightKind, WeightLayout};
/// let layout: WeightLayout = "HWIO".parse()?;
/// let native = layout.to_native(&ArrayD::<f32>::zeros(vec![5, 7, 3, 16]), WeightKind::Conv)?;
/// assert_eq!(native.shape(), [16, 3, 5, 7]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JaxSpec {
    letters: [u8; 6],
    rank: usize,
}

impl JaxSpec {
    /// Where output channels, input channels and the spatial axes stand.
    fn order(&self) -> Vec<usize> {
        let letters = &self.letters[..self.rank];
        let place = |letter: u8| letters.iter().position(|&l| l == letter);
        let mut spatial: Vec<usize> = (0..self.rank)
            .filter(|&axis| !matches!(letters[axis], b'O' | b'I'))
            .collect();
        for known in [&b"TDHW"[..], b"0123"] {
            let rank_of = |axis: &usize| known.iter().position(|&k| k == letters[*axis]);
            if spatial.iter().all(|axis| rank_of(axis).is_some()) {
                spatial.sort_by_key(rank_of);
            }
        }
        let channels = [place(b'O'), place(b'I')].into_iter().flatten();
        channels.chain(spatial).collect()
    }
}

impl FromStr for JaxSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let expected = "O, I and one to four spatial letters, each once, such as OIHW or HWIO";
        let wrong = || Error::argument("JAX kernel spec", expected, s);
        let bytes = s.as_bytes();
        let once = |letter: &u8| bytes.iter().filter(|b| *b == letter).count() == 1;
        if !(3..=6).contains(&bytes.len())
            || !bytes.iter().all(u8::is_ascii_alphanumeric)
            || !bytes.iter().all(once)
            || !bytes.contains(&b'O')
            || !bytes.contains(&b'I')
        {
            return Err(wrong());
        }
        let mut letters = [0; 6];
        letters[..bytes.len()].copy_from_slice(bytes);
        Ok(JaxSpec {
            letters,
            rank: bytes.len(),
        })
    }
}

impl fmt::Display for JaxSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = &self.letters[..self.rank];
        letters.iter().try_for_each(|&l| write!(f, "{}", l as char))
    }
}

impl fmt::Debug for JaxSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl WeightLayout {
    /// Those that have a name of their own.
    pub const NAMED: [WeightLayout; 4] = [
        WeightLayout::PyTorch,
        WeightLayout::Keras,
        WeightLayout::Theano,
        WeightLayout::Onnx,
    ];

    /// `pytorch`, `keras`, `theano`, `onnx` or `jax`.
    pub fn name(self) -> &'static str {
        match self {
            WeightLayout::PyTorch => "pytorch",
            WeightLayout::Keras => "keras",
            WeightLayout::Theano => "theano",
            WeightLayout::Onnx => "onnx",
            WeightLayout::Jax(_) => "jax",
        }
    }

    /// A weight of this order in this crate's own.
    ///
    /// # Errors
    /// [`Error::Shape`] for a number of axes that such a weight does not have.
    pub fn to_native<A: Clone>(self, weight: &ArrayD<A>, kind: WeightKind) -> Result<ArrayD<A>> {
        let plan = self.plan_to_native(Rearrangement::new(weight.shape())?, kind)?;
        plan.apply(weight)
    }

    /// A weight of this crate's own order in this one. A depthwise weight is taken to have one
    /// output for each input; [`WeightLayout::from_native_in_groups`] for more.
    ///
    /// # Errors
    /// As [`WeightLayout::to_native`].
    pub fn from_native<A: Clone>(self, weight: &ArrayD<A>, kind: WeightKind) -> Result<ArrayD<A>> {
        self.from_native_in_groups(weight, kind, weight.shape().first().copied().unwrap_or(1))
    }

    /// [`WeightLayout::from_native`] of a depthwise weight with this many groups: its input
    /// channels. Weights of another kind do not need the number.
    ///
    /// # Errors
    /// As [`WeightLayout::to_native`], and groups that do not divide the output channels.
    pub fn from_native_in_groups<A: Clone>(
        self,
        weight: &ArrayD<A>,
        kind: WeightKind,
        groups: usize,
    ) -> Result<ArrayD<A>> {
        let plan = self.plan_from_native(Rearrangement::new(weight.shape())?, kind, groups)?;
        plan.apply(weight)
    }

    /// [`WeightLayout::to_native`] as one more step of a rearrangement.
    ///
    /// # Errors
    /// As [`WeightLayout::to_native`].
    pub fn plan_to_native(self, plan: Rearrangement, kind: WeightKind) -> Result<Rearrangement> {
        let rank = self.check(&plan, kind)?;
        let plan = match (self, kind) {
            (WeightLayout::PyTorch | WeightLayout::Onnx, _) => plan,
            (_, WeightKind::Dense) => plan.permute(&[1, 0])?,
            (WeightLayout::Theano, _) => reversed(plan)?,
            (WeightLayout::Keras, WeightKind::Depthwise) => {
                let shape = plan.shape();
                let outputs = check_elements("channels", &shape[rank - 2..])?;
                let order = taps_last([rank - 2, rank - 1], 0..rank - 2);
                plan.permute(&order)?.merge(0..2)?.split(0, &[outputs, 1])?
            }
            (WeightLayout::Keras, _) => {
                plan.permute(&taps_last([rank - 1, rank - 2], 0..rank - 2))?
            }
            (WeightLayout::Jax(spec), WeightKind::ConvTranspose) => {
                let mut order = spec.order();
                order.swap(0, 1);
                reversed(plan.permute(&order)?)?
            }
            (WeightLayout::Jax(spec), _) => plan.permute(&spec.order())?,
        };
        Ok(plan)
    }

    /// [`WeightLayout::from_native_in_groups`] as one more step of a rearrangement.
    ///
    /// # Errors
    /// As [`WeightLayout::from_native_in_groups`].
    pub fn plan_from_native(
        self,
        plan: Rearrangement,
        kind: WeightKind,
        groups: usize,
    ) -> Result<Rearrangement> {
        let rank = self.check(&plan, kind)?;
        let taps_first = |last: [usize; 2]| (2..rank).chain(last).collect::<Vec<_>>();
        match (self, kind) {
            (WeightLayout::PyTorch | WeightLayout::Onnx, _) => Ok(plan),
            (_, WeightKind::Dense) => plan.permute(&[1, 0]),
            (WeightLayout::Theano, _) => reversed(plan),
            (WeightLayout::Keras, WeightKind::Depthwise) => {
                let shape = plan.shape();
                if groups == 0 || !shape[0].is_multiple_of(groups) || shape[1] != 1 {
                    let expected = format!("({groups} groups * multiplier, 1, *taps)");
                    return Err(Error::shape("depthwise weight", expected, shape));
                }
                // (in, multiplier, 1, *taps) -> (*taps, in, multiplier)
                let split = plan.split(0, &[groups, shape[0] / groups])?.merge(1..3)?;
                split.permute(&taps_first([0, 1]))
            }
            (WeightLayout::Keras, _) => plan.permute(&taps_first([1, 0])),
            (WeightLayout::Jax(spec), kind) => {
                let mut order = spec.order();
                let mut plan = plan;
                if kind == WeightKind::ConvTranspose {
                    order.swap(0, 1);
                    plan = reversed(plan)?;
                }
                let mut inverse = vec![0; rank];
                order.iter().enumerate().for_each(|(i, &o)| inverse[o] = i);
                plan.permute(&inverse)
            }
        }
    }

    /// The number of axes, if such a weight can have it.
    fn check(self, plan: &Rearrangement, kind: WeightKind) -> Result<usize> {
        let shape = plan.shape();
        let rank = shape.len();
        let (allowed, expected) = match (self, kind) {
            (_, WeightKind::Dense) => (rank == 2, "two axes".to_string()),
            (WeightLayout::Jax(spec), _) => (rank == spec.rank, format!("axes {spec}")),
            _ => (
                rank >= 3,
                "two axes of channels and one or more of taps".into(),
            ),
        };
        if !allowed {
            return Err(Error::shape("weight", expected, shape));
        }
        Ok(rank)
    }
}

impl fmt::Display for WeightLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightLayout::Jax(spec) => write!(f, "{spec}"),
            named => f.write_str(named.name()),
        }
    }
}

impl FromStr for WeightLayout {
    type Err = Error;

    /// A name, `tensorflow` for Keras' order, or a JAX kernel spec such as `HWIO`.
    fn from_str(s: &str) -> Result<Self> {
        if s == "tensorflow" {
            return Ok(WeightLayout::Keras);
        }
        let named = WeightLayout::NAMED.into_iter().find(|l| l.name() == s);
        let expected = "pytorch, keras, theano, onnx or a JAX kernel spec such as HWIO";
        named
            .or_else(|| s.parse().ok().map(WeightLayout::Jax))
            .ok_or_else(|| Error::argument("weight layout", expected, s))
    }
}

fn taps_last(channels: [usize; 2], taps: std::ops::Range<usize>) -> Vec<usize> {
    channels.into_iter().chain(taps).collect()
}

/// Every tap axis of a weight of this crate's order reversed.
pub(super) fn reversed(plan: Rearrangement) -> Result<Rearrangement> {
    (2..plan.shape().len()).try_fold(plan, Rearrangement::reverse)
}
