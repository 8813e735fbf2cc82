//! Golden cases: a layer, its input and what should come out, in one safetensors file that any
//! framework can write.
//!
//! The metadata says which layer (`op`, `rules`, `layout`, `weight_layout`, `stride`, `dilation`,
//! `padding`, `padding_mode`, `output_padding`, `output_shape`, `groups`, `kernel_size`,
//! `count_include_pad`, `ceil_mode`), each value as JSON text; a missing key takes its default.
//! The tensors `x`, `w`, `bias`, `dy` go in; `y`, `dx`, `dw`, `dbias` are expected, and those that
//! are present are checked.

mod metadata;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use ndarray::ArrayD;

use crate::device::Device;
use crate::element::{DType, Element, with_element};
use crate::error::{Error, Result};
use crate::io::TensorFile;
use crate::layer::Gradients;
use crate::remap::WeightLayout;
use crate::shape::Layout;
use crate::tensor::Tensor;
use metadata::{Metadata, Op};

/// How a case is run and how closely its results must agree.
///
/// ```
/// use ndconv::{DType, case::Options};
/// let in_f32 = Options { dtype: Some(DType::F32), ..Options::default() };
/// assert!(!in_f32.exact);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The element type to compute in; the file's own where this is `None`.
    pub dtype: Option<DType>,
    /// The scaled error allowed, `max|got - expected| / max(1, max|expected|)`. Where this is
    /// `None`: f64 1e-11, f32 1e-5, f16 2e-3, bf16 1.6e-2 for the shorter of the type computed in
    /// and the type stored, times the square root of the number of terms of a sum past 256.
    pub tolerance: Option<f64>,
    /// Every element must equal the expected one, rounded to the element type.
    pub exact: bool,
}

/// What became of a case.
///
/// ```no_run
/// use ndconv::{Device, case};
/// let report = case::check("tests/golden/cases/torch_conv2d_plain.safetensors", &Device::Cpu)?;
/// assert!(report.passed(), "{report}");
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The case's name: from its metadata, or the file's.
    pub name: String,
    /// The element type it was computed in.
    pub dtype: DType,
    /// One row per expected tensor.
    pub rows: Vec<Row>,
}

/// One expected tensor of a case.
///
/// ```
/// use ndconv::case::{Row, Worst};
/// let worst = Worst { index: vec![0, 2], expected: 1.0, got: 1.5 };
/// let row = Row { tensor: "y", shape: vec![1, 3], error: 0.5, allowed: 1e-5, passed: false, worst };
/// assert!(row.to_string().contains("FAIL"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `y`, `dx`, `dw` or `dbias`.
    pub tensor: &'static str,
    /// Its shape; of a weight gradient in this crate's order.
    pub shape: Vec<usize>,
    /// `max|got - expected| / max(1, max|expected|)`; infinite where only one is NaN.
    pub error: f64,
    /// The greatest error that passes.
    pub allowed: f64,
    /// Whether it passed.
    pub passed: bool,
    /// The element that differs most.
    pub worst: Worst,
}

/// The element of a tensor that differs most from what was expected.
///
/// ```
/// let worst = ndconv::case::Worst { index: vec![0], expected: 1.0, got: 1.0 };
/// assert_eq!(worst.expected, worst.got);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Its index.
    pub index: Vec<usize>,
    /// What the file holds.
    pub expected: f64,
    /// What was computed.
    pub got: f64,
}

impl Report {
    /// Whether every tensor passed.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{} {} {row}", self.name, self.dtype)?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} error {:.2e} ",
            self.tensor, self.shape, self.error
        )?;
        if self.passed {
            return write!(f, "pass");
        }
        let Worst {
            index,
            expected,
            got,
        } = &self.worst;
        let allowed = self.allowed;
        write!(
            f,
            "FAIL (allowed {allowed:.2e}): at {index:?} expected {expected}, got {got}"
        )
    }
}

/// Runs a case file in its own element type.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`], naming the file, for a malformed one; what the layer says to
/// settings that it refuses.
pub fn check(path: impl AsRef<Path>, device: &Device) -> Result<Report> {
    check_with(path, device, &Options::default())
}

/// Runs a case file as the options say.
///
/// # Errors
/// As [`check`].
pub fn check_with(path: impl AsRef<Path>, device: &Device, options: &Options) -> Result<Report> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = TensorFile::parse(path, &bytes)?;
    let own = file
        .dtype("x")?
        .ok_or_else(|| Error::format(path, "there is no tensor x"))?;
    let dtype = options.dtype.unwrap_or(own);
    with_element!(dtype, T => Case::<T>::run(path, &file, device, options))
}

/// The case files at a path: the file itself, or all `.safetensors` files of a folder, by name.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub fn find(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::io(path, e))? {
        let file = entry.map_err(|e| Error::io(path, e))?.path();
        if file.extension().is_some_and(|e| e == "safetensors") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The tensors of a case in the type that it is computed in, on the device.
struct Case<T> {
    op: Op,
    x: Tensor<T>,
    weight: Option<Tensor<T>>,
    bias: Option<Tensor<T>>,
    dy: Option<Tensor<T>>,
}

impl<T: Element> Case<T> {
    fn run(path: &Path, file: &TensorFile, device: &Device, options: &Options) -> Result<Report> {
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
        let native = |name: &str| -> Result<Option<ArrayD<f64>>> {
            let Some(tensor) = file.tensor::<f64>(name)? else {
                return Ok(None);
            };
            weight_layout
                .to_native(&tensor.to_array()?, op.weight_kind())
                .map(Some)
        };
        let weight = match native("w")? {
            Some(array) => {
                let weight: Tensor<T> = Tensor::from_array(&array)?.cast()?;
                Some(weight.to_device(device)?)
            }
            None => None,
        };
        let bias = file.tensor::<T>("bias")?;
        let case = Case {
            op,
            x: activation("x")?.ok_or_else(|| Error::format(path, "there is no tensor x"))?,
            weight,
            bias: bias.map(|b| b.to_device(device)).transpose()?,
            dy: activation("dy")?,
        };
        let (y, gradients) = case.forward_backward(path, &metadata)?;

        let mut rows = Vec::new();
        let mut compare = |tensor, expected: Option<ArrayD<f64>>, got: Option<&Tensor<T>>| {
            let stored = file.dtype(tensor)?.unwrap_or(T::DTYPE);
            let Some(expected) = expected else {
                return Ok(());
            };
            let Some(got) = got else {
                let reason = format!("{tensor} is expected, but a tensor it needs is missing");
                return Err(Error::format(path, reason));
            };
            // numbers that were stored in a shorter type cannot agree more closely than it allows
            let tolerance = default_tolerance(T::DTYPE).max(default_tolerance(stored));
            let terms = case.terms(tensor, &y) as f64;
            let allowed = match options {
                Options { exact: true, .. } => 0.0,
                Options {
                    tolerance: Some(asked),
                    ..
                } => *asked,
                _ => tolerance * (terms / 256.0).sqrt().max(1.0),
            };
            rows.push(row(path, tensor, &expected, got, allowed, options.exact)?);
            Ok(())
        };
        let array = |name: &str| -> Result<Option<ArrayD<f64>>> {
            file.tensor::<f64>(name)?.map(|t| t.to_array()).transpose()
        };
        let gradients = gradients.as_ref();
        compare("y", array("y")?, Some(&y))?;
        compare("dx", array("dx")?, gradients.map(|g| &g.input))?;
        compare("dw", native("dw")?, gradients.and_then(Gradients::weight))?;
        compare(
            "dbias",
            array("dbias")?,
            gradients.and_then(Gradients::bias),
        )?;
        if rows.is_empty() {
            return Err(Error::format(
                path,
                "none of y, dx, dw, dbias is there to be checked",
            ));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Report {
            name: metadata.text("name")?.unwrap_or_else(|| stem.into_owned()),
            dtype: T::DTYPE,
            rows,
        })
    }

    /// The layer's output, and its gradients where there is a `dy`.
    fn forward_backward(
        &self,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(Tensor<T>, Option<Gradients<T>>)> {
        let in_channels = self.x.channels_first_shape().get(1).copied().unwrap_or(0);
        let (w, b) = (self.weight.clone(), self.bias.clone());
        let layer = match (self.op, self.x.shape().len()) {
            (Op::Dense, _) | (_, 3) => metadata.layer::<T, 1>(self.op, in_channels, w, b)?,
            (_, 4) => metadata.layer::<T, 2>(self.op, in_channels, w, b)?,
            (_, 5) => metadata.layer::<T, 3>(self.op, in_channels, w, b)?,
            (_, 6) => metadata.layer::<T, 4>(self.op, in_channels, w, b)?,
            (_, axes) => {
                let reason = format!("x has {axes} axes; a layer of rank 1 to 4 takes 3 to 6");
                return Err(Error::format(path, reason));
            }
        };
        let y = layer.forward(&self.x)?;
        let gradients = self.dy.as_ref().map(|dy| layer.backward(&self.x, dy));
        Ok((y, gradients.transpose()?))
    }

    /// How many products the longest sum behind an element of this tensor has.
    fn terms(&self, tensor: &str, y: &Tensor<T>) -> usize {
        let Some(weight) = &self.weight else {
            return 1;
        };
        let weight = weight.channels_first_shape();
        let forward: usize = weight[1..].iter().product();
        let backward = weight[0] * weight[2..].iter().product::<usize>();
        let positions = |t: &Tensor<T>| {
            let shape = t.channels_first_shape();
            shape[0] * shape[2..].iter().product::<usize>()
        };
        match (tensor, self.op == Op::ConvTranspose) {
            ("y", false) | ("dx", true) => forward,
            ("y", true) | ("dx", false) => backward,
            _ => positions(&self.x).max(positions(y)),
        }
    }
}

fn row<T: Element>(
    path: &Path,
    tensor: &'static str,
    expected: &ArrayD<f64>,
    got: &Tensor<T>,
    allowed: f64,
    exact: bool,
) -> Result<Row> {
    let got: ArrayD<f64> = got.cast::<f64>()?.to_array()?;
    if got.shape() != expected.shape() {
        let (expected, got) = (expected.shape(), got.shape());
        let reason = format!("{tensor} has shape {expected:?}, but the layer gives {got:?}");
        return Err(Error::format(path, reason));
    }
    let rounded = |v: f64| {
        if exact { T::from_f64(v).to_f64() } else { v }
    };
    let difference = |e: f64, g: f64| match (rounded(e), g) {
        (e, g) if e == g || (e.is_nan() && g.is_nan()) => 0.0,
        (e, g) if (e - g).is_nan() => f64::INFINITY,
        (e, g) => (e - g).abs(),
    };
    let mut greatest = 0.0;
    let mut worst = None;
    for ((index, &e), &g) in expected.indexed_iter().zip(&got) {
        let d = difference(e, g);
        if worst.is_none() || d > greatest {
            greatest = d;
            worst = Some(Worst {
                index: ndarray::Dimension::slice(&index).to_vec(),
                expected: e,
                got: g,
            });
        }
    }
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let error = greatest / scale;
    Ok(Row {
        tensor,
        shape: expected.shape().to_vec(),
        error,
        allowed,
        passed: error <= allowed,
        worst: worst.ok_or_else(|| Error::format(path, format!("{tensor} is empty")))?,
    })
}

fn default_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-11,
        DType::F32 => 1e-5,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
    }
}
