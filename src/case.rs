//! Golden cases: a layer, its input and what should come out, in one safetensors file that any
//! framework can write.
//!
//! The metadata says which layer (`op`, `rules`, `layout`, `weight_layout`, `stride`, `dilation`,
//! `padding`, `padding_mode`, `output_padding`, `output_shape`, `groups`, `kernel_size`,
//! `count_include_pad`, `ceil_mode`), each value as JSON text; a missing key takes its default.
//! The tensors `x`, `w`, `bias`, `dy` go in; `y`, `dx`, `dw`, `dbias` are expected, and those that
//! are present are checked. A tensor of any other name is an error.
//!
//! [`check`] runs one file, [`check_all`] a folder; [`cases!`](crate::cases) makes `#[test]`s of a
//! folder, [`record`] writes what a run gives into a file as its expected tensors. From a shell:
//! `ndconv check FILE`.

mod compare;
mod metadata;
mod record;
mod run;
mod suite;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::element::{DType, with_element};
use crate::error::{Error, Result};
use crate::io::TensorFile;
use run::Case;

pub use record::record;
pub use suite::{Summary, check_all};
#[doc(hidden)]
pub use suite::{package, unlisted, verdict};

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
    /// The scaled error allowed, `max|got - expected| / max(1, max|expected|)`. Where this and
    /// the two below are `None`: f64 1e-11, f32 1e-5, f16 2e-3, bf16 1.6e-2 for the shorter of
    /// the type computed in and the type stored, times the square root of the number of terms of
    /// a sum past 256.
    pub tolerance: Option<f64>,
    /// With this or `atol`, every element must satisfy
    /// `|got - expected| <= atol + rtol * |expected|`, as NumPy's `allclose`, and `tolerance` is
    /// not looked at; the one of them that is `None` is 0.
    pub rtol: Option<f64>,
    /// See `rtol`.
    pub atol: Option<f64>,
    /// Every element must equal the expected one, rounded to the element type, whatever the
    /// tolerances say.
    pub exact: bool,
}

/// What became of a case.
///
/// ```no_run
/// use ndconv::{Device, case};
/// let report = case::check("tests/golden/cases/torch_conv2d_valid.safetensors", &Device::Cpu)?;
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
    /// Its shape, in the file's own order.
    pub shape: Vec<usize>,
    /// `max|got - expected| / max(1, max|expected|)`; infinite where only one is NaN.
    pub error: f64,
    /// The greatest `error` that passes; under `rtol` and `atol` instead the greatest difference
    /// that passes at the worst element.
    pub allowed: f64,
    /// Whether it passed.
    pub passed: bool,
    /// The element that differs most, or under `rtol` and `atol` the one that differs most in
    /// proportion to what is allowed there.
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
    /// Its index in the tensor as the file holds it: of the weight gradient of a Keras layer
    /// that is `(*taps, in, out)`, and of a Theano one the taps are counted as stored.
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

/// Runs a case file in its own element type, that of `x`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`], naming the file, for a malformed one; what the layer says to
/// settings that it refuses; [`Error::Unsupported`] where the case is sound, but the device does
/// not offer such a layer in this element type.
pub fn check(path: impl AsRef<Path>, device: &Device) -> Result<Report> {
    check_with(path, device, &Options::default())
}

/// Runs a case file as the options say.
///
/// # Errors
/// As [`check`].
pub fn check_with(path: impl AsRef<Path>, device: &Device, options: &Options) -> Result<Report> {
    let path = path.as_ref();
    let bytes = read(path)?;
    let file = TensorFile::parse(path, &bytes)?;
    let dtype = dtype(path, &file, options)?;
    with_element!(dtype, T => Case::<T>::load(path, &file, device)?.check(options))
}

/// The case files at a path: the file itself, or all `.safetensors` files of a folder and the
/// folders in it, by name.
///
/// # Errors
/// [`Error::Io`] when a folder cannot be read.
pub fn find(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let kind = entry.file_type().map_err(|e| Error::io(&folder, e))?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path); // but not a link to one, which could lead in a circle
            } else if path.extension().is_some_and(|e| e == "safetensors") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The bytes of a regular file: a device or a pipe could go on for ever.
fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "not a regular file"));
    }
    fs::read(path).map_err(|e| Error::io(path, e))
}

/// The type to compute in.
fn dtype(path: &Path, file: &TensorFile, options: &Options) -> Result<DType> {
    let own = file.dtype("x")?;
    let own = own.ok_or_else(|| Error::format(path, "there is no tensor x"))?;
    Ok(options.dtype.unwrap_or(own))
}
