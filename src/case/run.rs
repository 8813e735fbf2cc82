//! A case in memory: its tensors on a device, its layer, and what the layer gives.

use std::path::Path;

use ndarray::ArrayD;

use super::compare::{Bound, default_tolerance, row};
use super::metadata::{Metadata, Op};
use super::{Options, Report};
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::io::TensorFile;
use crate::layer::{Gradients, Layer};
use crate::remap::WeightLayout;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// What a tensor of a case may be called: a misspelt `dw` would go unchecked.
const NAMES: [&str; 8] = ["x", "w", "bias", "dy", "y", "dx", "dw", "dbias"];

/// A case in the type that it is computed in.
pub(super) struct Case<'a, T> {
    path: &'a Path,
    file: &'a TensorFile<'a>,
    metadata: Metadata<'a>,
    op: Op,
    weight_layout: WeightLayout,
    x: Tensor<T>,
    weight: Option<Tensor<T>>,
    dy: Option<Tensor<T>>,
    layer: Box<dyn Layer<T>>,
    /// What the layer says that the shape of `y` will be.
    output_shape: Vec<usize>,
}

/// What a layer gives, each in the order of the file.
pub(super) struct Results {
    /// `y`, and `dx`, `dw`, `dbias` where there is a `dy`.
    pub tensors: Vec<(&'static str, ArrayD<f64>)>,
}

impl<'a, T: Element> Case<'a, T> {
    /// Reads the tensors and makes the layer; computes nothing yet.
    pub fn load(path: &'a Path, file: &'a TensorFile<'a>, device: &Device) -> Result<Self> {
        if let Some(other) = file.names().find(|name| !NAMES.contains(name)) {
            let names = NAMES.join(", ");
            let reason = format!("there is a tensor {other}, which is none of {names}");
            return Err(Error::format(path, reason));
        }
        let metadata = Metadata::new(path, file);
        let layout: Layout = metadata.named("layout", "channels_first or channels_last")?;
        let weight_layout: WeightLayout =
            metadata.named("weight_layout", "pytorch, keras or theano")?;
        let op = metadata.op()?;
        // a case's dense weight is (out, in) under any name but keras
        let weight_layout = match (weight_layout, op) {
            (WeightLayout::Theano, Op::Dense) => WeightLayout::PyTorch,
            (layout, _) => layout,
        };
        let activation = |name: &str| -> Result<Option<Tensor<T>>> {
            let tensor = file.tensor::<T>(name)?;
            let on_device = tensor.map(|t| t.with_layout(layout).to_device(device));
            on_device.transpose()
        };
        let weight = match file.tensor::<T>("w")? {
            Some(w) => {
                let native = weight_layout.to_native(&w.to_array()?, op.weight_kind())?;
                Some(Tensor::from_array(&native)?.to_device(device)?)
            }
            None => None,
        };
        let bias = file.tensor::<T>("bias")?;
        let bias = bias.map(|b| b.to_device(device)).transpose()?;
        let x = activation("x")?.ok_or_else(|| Error::format(path, "there is no tensor x"))?;
        let layer = make_layer(path, &metadata, op, &x, &weight, bias);
        let layer = layer.map_err(|e| refused(path, e))?;
        let output_shape = layer.output_shape(x.shape(), layout);
        Ok(Case {
            path,
            file,
            metadata,
            op,
            weight_layout,
            weight,
            dy: activation("dy")?,
            layer,
            output_shape: output_shape.map_err(|e| refused(path, e))?,
            x,
        })
    }

    /// Compares what the layer gives with what the file expects.
    pub fn check(&self, options: &Options) -> Result<Report> {
        let mut expected = Vec::new();
        for name in ["y", "dx", "dw", "dbias"] {
            if let Some(tensor) = self.file.tensor::<f64>(name)? {
                expected.push((name, tensor.to_array()?));
            }
        }
        if expected.is_empty() {
            let reason = "none of y, dx, dw, dbias is there to be checked";
            return Err(Error::format(self.path, reason));
        }
        // before anything is computed: settings can promise any size, the file's tensors cannot
        for (name, expected) in &expected {
            if *name == "y" {
                self.check_shape("y", expected.shape(), &self.output_shape)?;
            } else if self.dy.is_none() {
                let reason = format!("{name} is expected, but there is no tensor dy");
                return Err(Error::format(self.path, reason));
            }
        }
        let results = self.run()?;

        let mut rows = Vec::new();
        for (name, expected) in &expected {
            let got = results.tensors.iter().find(|(n, _)| n == name);
            let Some((_, got)) = got else {
                let reason = format!("{name} is expected, but the layer has no such gradient");
                return Err(Error::format(self.path, reason));
            };
            self.check_shape(name, expected.shape(), got.shape())?;
            let bound = self.bound(name, options)?;
            rows.push(row::<T>(self.path, name, expected, got, bound)?);
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let name = self.metadata.text("name")?;
        Ok(Report {
            name: name.unwrap_or_else(|| stem.into_owned()),
            dtype: T::DTYPE,
            rows,
        })
    }

    /// The layer's output, and its gradients where there is a `dy`.
    pub fn run(&self) -> Result<Results> {
        if let Some(dy) = &self.dy {
            self.check_shape("dy", dy.shape(), &self.output_shape)?;
        }
        let array = |t: &Tensor<T>| t.cast::<f64>()?.to_array();
        let mut tensors = vec![("y", array(&self.layer.forward(&self.x)?)?)];
        if let Some(dy) = &self.dy {
            let gradients = self.layer.backward(&self.x, dy)?;
            tensors.push(("dx", array(&gradients.input)?));
            if let Some(dw) = gradients.weight() {
                tensors.push(("dw", self.in_file_order(&array(dw)?)?));
            }
            if let Some(dbias) = Gradients::bias(&gradients) {
                tensors.push(("dbias", array(dbias)?));
            }
        }
        Ok(Results { tensors })
    }

    /// A weight gradient in the order of the file's weight.
    ///
    /// The offsets of the file's weight go the way that its values went, and tell where each
    /// value of the gradient belongs.
    fn in_file_order(&self, native: &ArrayD<f64>) -> Result<ArrayD<f64>> {
        let Some(w) = self.file.tensor::<T>("w")? else {
            return Ok(native.clone());
        };
        let mut ordered = ArrayD::zeros(w.shape());
        let offsets: ArrayD<usize> = ndarray::Array::from_iter(0..w.len())
            .into_shape_with_order(w.shape())
            .map_err(|e| Error::shape("w", "a shape that ndarray can hold", e.to_string()))?;
        let offsets = self
            .weight_layout
            .to_native(&offsets, self.op.weight_kind())?;
        if let Some(values) = ordered.as_slice_mut() {
            for (&offset, &value) in offsets.iter().zip(native) {
                values[offset] = value;
            }
        }
        Ok(ordered)
    }

    fn check_shape(&self, tensor: &str, file: &[usize], layer: &[usize]) -> Result<()> {
        if file == layer {
            return Ok(());
        }
        let reason = format!("{tensor} has shape {file:?}, but the layer gives {layer:?}");
        Err(Error::format(self.path, reason))
    }

    /// How far a tensor may be from what is expected.
    fn bound(&self, tensor: &str, options: &Options) -> Result<Bound> {
        Ok(match *options {
            Options { exact: true, .. } => Bound::Exact,
            Options { rtol, atol, .. } if rtol.is_some() || atol.is_some() => Bound::Elementwise {
                rtol: rtol.unwrap_or(0.0),
                atol: atol.unwrap_or(0.0),
            },
            Options {
                tolerance: Some(asked),
                ..
            } => Bound::Scaled(asked),
            _ => {
                // what was stored in a shorter type cannot agree more closely than it allows
                let stored = self.file.dtype(tensor)?.unwrap_or(T::DTYPE);
                let tolerance = default_tolerance(T::DTYPE).max(default_tolerance(stored));
                let terms = self.terms(tensor) as f64;
                Bound::Scaled(tolerance * (terms / 256.0).sqrt().max(1.0))
            }
        })
    }

    /// How many products the longest sum behind an element of this tensor has.
    fn terms(&self, tensor: &str) -> usize {
        let Some(weight) = &self.weight else {
            return 1;
        };
        let weight = weight.channels_first_shape();
        let forward: usize = weight[1..].iter().product();
        let backward = weight[0] * weight[2..].iter().product::<usize>();
        let positions = |shape: &[usize]| {
            let shape = self.x.layout().to_channels_first(shape);
            shape[0] * shape[2..].iter().product::<usize>()
        };
        match (tensor, self.op == Op::ConvTranspose) {
            ("y", false) | ("dx", true) => forward,
            ("y", true) | ("dx", false) => backward,
            _ => positions(self.x.shape()).max(positions(&self.output_shape)),
        }
    }
}

fn make_layer<T: Element>(
    path: &Path,
    metadata: &Metadata,
    op: Op,
    x: &Tensor<T>,
    weight: &Option<Tensor<T>>,
    bias: Option<Tensor<T>>,
) -> Result<Box<dyn Layer<T>>> {
    let shape = x.channels_first_shape();
    let w = weight.clone();
    match (op, shape.len()) {
        (Op::Dense, _) | (_, 3) => metadata.layer::<T, 1>(op, &shape, w, bias),
        (_, 4) => metadata.layer::<T, 2>(op, &shape, w, bias),
        (_, 5) => metadata.layer::<T, 3>(op, &shape, w, bias),
        (_, 6) => metadata.layer::<T, 4>(op, &shape, w, bias),
        (_, axes) => {
            let reason = format!("x has {axes} axes; a layer of rank 1 to 4 takes 3 to 6");
            Err(Error::format(path, reason))
        }
    }
}

/// Settings that the case's own rules do not offer make it malformed; [`Error::Unsupported`] is
/// kept for what a device does not offer.
fn refused(path: &Path, error: Error) -> Error {
    match error {
        Error::Unsupported { what } => {
            Error::format(path, format!("its rules do not allow {what}"))
        }
        error => error,
    }
}
