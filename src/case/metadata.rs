//! The settings of a case: safetensors metadata, each value JSON text.

use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use crate::Element;
use crate::axis::{Axis, PaddingMode};
use crate::error::{Error, Result};
use crate::io::TensorFile;
use crate::layer::{AvgPool, Conv, ConvTranspose, Dense, Layer, MaxPool};
use crate::pool_problem::PoolParams;
use crate::problem::{ConvParams, ConvProblem, Padding};
use crate::remap::WeightKind;
use crate::rules::{Rules, TransposedSize};
use crate::tensor::Tensor;

/// A padded input of so many elements is made without asking how large the input is.
const MOST_PADDED: usize = 1 << 24;

/// A window is walked through tap by tap, and no tensor of the file vouches for its size.
const LONGEST_WINDOW: usize = 1 << 20;

/// What a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dense,
    MaxPool,
    AvgPool,
}

impl Op {
    const ALL: [(&'static str, Op); 6] = [
        ("conv", Op::Conv),
        ("conv_transpose", Op::ConvTranspose),
        ("depthwise_conv", Op::DepthwiseConv),
        ("dense", Op::Dense),
        ("max_pool", Op::MaxPool),
        ("avg_pool", Op::AvgPool),
    ];

    pub fn weight_kind(self) -> WeightKind {
        match self {
            Op::ConvTranspose => WeightKind::ConvTranspose,
            Op::DepthwiseConv => WeightKind::Depthwise,
            Op::Dense => WeightKind::Dense,
            _ => WeightKind::Conv,
        }
    }
}

/// The metadata of a file, with errors that name the file and the key.
pub(super) struct Metadata<'a> {
    path: &'a Path,
    file: &'a TensorFile<'a>,
}

impl<'a> Metadata<'a> {
    pub fn new(path: &'a Path, file: &'a TensorFile<'a>) -> Self {
        Metadata { path, file }
    }

    fn malformed(&self, key: &str, expected: &str) -> Error {
        let got = self
            .file
            .metadata()
            .get(key)
            .map_or("nothing", String::as_str);
        let reason = format!("metadata key {key}: expected {expected}, got {got}");
        Error::format(self.path, reason)
    }

    /// The value of a key; text that is not JSON stands for itself.
    fn value(&self, key: &str) -> Option<Value> {
        let text = self.file.metadata().get(key)?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        (!value.is_null()).then_some(value)
    }

    /// A key's text, where it has any.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(key, "a string")),
        }
    }

    /// A key whose text names a value.
    pub fn named<V: FromStr<Err = Error> + Default>(&self, key: &str, names: &str) -> Result<V> {
        match self.text(key)? {
            None => Ok(V::default()),
            Some(text) => text.parse().map_err(|_| self.malformed(key, names)),
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.malformed(key, "true or false")),
        }
    }

    /// `[s0, ..]`, one number per spatial axis.
    fn sizes<const N: usize>(&self, key: &str) -> Result<Option<[usize; N]>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let sizes = value.as_array().and_then(|list| {
            let sizes: Option<Vec<usize>> = list.iter().map(size).collect();
            sizes?.try_into().ok()
        });
        let expected = format!("a list of {N} non-negative integers");
        sizes
            .map(Some)
            .ok_or_else(|| self.malformed(key, &expected))
    }

    fn padding<const N: usize>(&self) -> Result<Padding<N>> {
        let named = match self.value("padding") {
            None => Some(Padding::Valid),
            Some(Value::String(name)) => match name.as_str() {
                "valid" => Some(Padding::Valid),
                "same" => Some(Padding::Same),
                "same_lower" => Some(Padding::SameLower),
                "full" => Some(Padding::Full),
                "causal" => Some(Padding::Causal),
                _ => None,
            },
            Some(value) => explicit(&value).map(Padding::Explicit),
        };
        let expected =
            format!("{N} pairs [before, after], or valid, same, same_lower, full, causal");
        named.ok_or_else(|| self.malformed("padding", &expected))
    }

    fn padding_mode(&self) -> Result<PaddingMode> {
        let name = self.text("padding_mode")?.unwrap_or("zeros".into());
        let modes = [
            PaddingMode::Zeros,
            PaddingMode::Reflect,
            PaddingMode::Replicate,
            PaddingMode::Circular,
        ];
        let mode = modes.into_iter().find(|m| m.name() == name);
        mode.ok_or_else(|| self.malformed("padding_mode", "zeros, reflect, replicate, circular"))
    }

    /// Whose rules; `pytorch` where none are named. PyTorch has no word for `full`, `causal` and
    /// `same_lower`, nor a transposed `same`: those follow this crate's own rules.
    fn rules<const N: usize>(&self, padding: &Padding<N>, transposed: bool) -> Result<Rules> {
        let pytorch = match padding {
            Padding::Explicit(_) | Padding::Valid => Rules::PyTorch,
            Padding::Same if !transposed => Rules::PyTorch,
            _ => Rules::Native,
        };
        match self.text("rules")?.as_deref() {
            None | Some("pytorch") => Ok(pytorch),
            Some("keras") => Ok(Rules::Keras),
            Some("onnx") => Ok(Rules::Onnx),
            _ => Err(self.malformed("rules", "pytorch, keras or onnx")),
        }
    }

    pub fn op(&self) -> Result<Op> {
        let name = self.text("op")?;
        let found = Op::ALL
            .into_iter()
            .find(|(n, _)| Some(*n) == name.as_deref());
        let names = Op::ALL.map(|(name, _)| name).join(", ");
        found
            .map(|(_, op)| op)
            .ok_or_else(|| self.malformed("op", &format!("one of {names}")))
    }

    fn params<const N: usize>(&self, groups: usize) -> Result<ConvParams<N>> {
        Ok(ConvParams {
            stride: self.sizes("stride")?.unwrap_or([1; N]),
            padding: self.padding()?,
            dilation: self.sizes("dilation")?.unwrap_or([1; N]),
            groups,
            padding_mode: self.padding_mode()?,
        })
    }

    /// Without a `kernel_size` the window is as large as the taps of a tensor `w`, or as the whole
    /// input where there is none.
    fn pool_params<T: Element, const N: usize>(
        &self,
        x: &[usize],
        weight: Option<Tensor<T>>,
    ) -> Result<PoolParams<N>> {
        let kernel_size = match self.sizes("kernel_size")? {
            Some(kernel_size) => kernel_size,
            None => {
                let shape = weight.map_or_else(|| x.to_vec(), |w| w.shape().to_vec());
                let taps = shape.get(2..).and_then(|taps| taps.try_into().ok());
                taps.ok_or_else(|| self.malformed("kernel_size", "one size per spatial axis"))?
            }
        };
        if let Some(size) = kernel_size.iter().find(|&&size| size > LONGEST_WINDOW) {
            let reason = format!("a pooling window of {size} positions: at most {LONGEST_WINDOW}");
            return Err(Error::format(self.path, reason));
        }
        Ok(PoolParams {
            kernel_size,
            stride: self.sizes("stride")?.unwrap_or([1; N]),
            padding: self.padding()?,
            dilation: self.sizes("dilation")?.unwrap_or([1; N]),
            ceil_mode: self.flag("ceil_mode")?,
            count_include_pad: self.flag("count_include_pad")?,
        })
    }

    /// The layer of this case, of rank `N`, for an input of shape `x`, channels first.
    pub fn layer<T: Element, const N: usize>(
        &self,
        op: Op,
        x: &[usize],
        weight: Option<Tensor<T>>,
        bias: Option<Tensor<T>>,
    ) -> Result<Box<dyn Layer<T>>> {
        let missing = || Error::format(self.path, "there is no tensor w");
        let groups = match (op, self.value("groups")) {
            (Op::DepthwiseConv, None) => x.get(1).copied().unwrap_or(0),
            (_, None) => 1,
            (_, Some(value)) => {
                size(&value).ok_or_else(|| self.malformed("groups", "a whole number"))?
            }
        };
        let padding = self.padding::<N>()?;
        Ok(match op {
            Op::Conv | Op::DepthwiseConv => {
                let (weight, params) = (weight.ok_or_else(missing)?, self.params(groups)?);
                let rules = self.rules(&padding, false)?;
                self.check_padded(&rules.problem(x, weight.shape(), &params)?)?;
                Box::new(Conv::<T, N>::new(weight, bias, params, rules)?)
            }
            Op::ConvTranspose => Box::new(ConvTranspose::<T, N>::new(
                weight.ok_or_else(missing)?,
                bias,
                self.params(groups)?,
                self.rules(&padding, true)?,
                TransposedSize {
                    output_padding: self.sizes("output_padding")?,
                    output_shape: self.sizes("output_shape")?,
                },
            )?),
            Op::Dense => Box::new(Dense::with_weights(weight.ok_or_else(missing)?, bias)?),
            Op::MaxPool => Box::new(MaxPool::<N>::with_params(self.pool_params(x, weight)?)),
            Op::AvgPool => Box::new(AvgPool::<N>::with_params(self.pool_params(x, weight)?)),
        })
    }

    /// Padding modes other than zeros make the padded input, whose size no tensor of the file
    /// vouches for.
    fn check_padded<const N: usize>(&self, p: &ConvProblem<N>) -> Result<()> {
        let sizes = |spatial: &dyn Fn(&Axis) -> usize| {
            let spatial = p.axes().iter().map(spatial);
            [p.batch(), p.in_channels()]
                .into_iter()
                .chain(spatial)
                .fold(1usize, usize::saturating_mul)
        };
        let padded = sizes(&|axis| usize::try_from(axis.padded()).unwrap_or(usize::MAX));
        let given = sizes(&|axis| axis.input);
        if p.padding_mode() == PaddingMode::Zeros || padded / 64 <= given.max(MOST_PADDED / 64) {
            return Ok(());
        }
        let reason = format!("the padding makes {padded} elements of the {given} of x: too many");
        Err(Error::format(self.path, reason))
    }
}

fn size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

/// `[[lo, hi], ..]`, one pair per spatial axis.
fn explicit<const N: usize>(value: &Value) -> Option<[(usize, usize); N]> {
    let pair = |v: &Value| match v.as_array()?.as_slice() {
        [lo, hi] => Some((size(lo)?, size(hi)?)),
        _ => None,
    };
    let pairs: Option<Vec<_>> = value.as_array()?.iter().map(pair).collect();
    pairs?.try_into().ok()
}
