//! Writing what a run gives as what is expected from now on.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use super::run::Case;
use super::{Options, dtype, read};
use crate::device::Device;
use crate::element::{Element, with_element};
use crate::error::{Error, Result};
use crate::io::{TensorFile, write_atomically};

/// Runs a case and writes it to `to` with what came out as its expected tensors.
///
/// `y` is always recorded; `dx`, `dw` and `dbias` where the case has a `dy`. They are stored in the
/// type that they were computed in; the inputs and the settings are kept as they are, and `source`
/// says who computed. `to` may be the case itself. The file appears whole or not at all.
///
/// # Errors
/// As [`check`](super::check), and [`Error::Io`] when the file cannot be written.
///
/// ```no_run
/// use ndconv::{Device, case::{self, Options}};
/// case::record("new.safetensors", "recorded.safetensors", &Device::Cpu, &Options::default())?;
/// assert!(case::check("recorded.safetensors", &Device::Cpu)?.passed());
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn record(
    path: impl AsRef<Path>,
    to: impl AsRef<Path>,
    device: &Device,
    options: &Options,
) -> Result<()> {
    let path = path.as_ref();
    let bytes = read(path)?;
    let file = TensorFile::parse(path, &bytes)?;
    let dtype = dtype(path, &file, options)?;
    let recorded = with_element!(dtype, T => {
        let results = Case::<T>::load(path, &file, device)?.run()?;
        let encode = |(name, array): (&'static str, ndarray::ArrayD<f64>)| {
            let values: Vec<T> = array.iter().map(|&v| T::from_f64(v)).collect();
            let mut bytes = Vec::with_capacity(size_of_val(&values[..]));
            T::write_le(&values, &mut bytes);
            (name, array.shape().to_vec(), bytes)
        };
        results.tensors.into_iter().map(encode).collect::<Vec<_>>()
    });

    let malformed = |e: safetensors::SafeTensorError| Error::format(path, e.to_string());
    let stored = SafeTensors::deserialize(&bytes).map_err(malformed)?;
    let mut views = Vec::new();
    for (name, view) in stored.iter() {
        if recorded.iter().all(|(new, ..)| *new != name) {
            views.push((name, view));
        }
    }
    for (name, shape, bytes) in &recorded {
        let view = TensorView::new(dtype.in_safetensors(), shape.clone(), bytes);
        views.push((name, view.map_err(malformed)?));
    }
    let mut metadata = file.metadata().clone();
    let source = format!("ndconv {} on {device}", env!("CARGO_PKG_VERSION"));
    metadata.insert("source".into(), Value::from(source).to_string());
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(malformed)?;
    write_atomically(to.as_ref(), &bytes)
}
