//! Files of tensors.
//!
//! [`Archive`] reads safetensors, npy, npz, PyTorch checkpoints, Keras' HDF5 and ONNX;
//! [`Writer`] writes safetensors, npy and npz, whole or not at all. [`save_parameters`] and
//! [`load_parameters`] keep the parameters of a layer in safetensors.

mod archive;
mod hdf5;
mod kinds;
mod npy;
mod onnx;
mod pickle;
mod rearranged;
mod safetensors_file;
mod source;
mod torch;
mod write;
mod zipped;

pub use archive::{Archive, StoredTensor};
pub use kinds::{Format, StoredType};
pub use npy::write_npy;
pub use write::{Entry, Writer};
use write::{beside, persist};

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::element::{DType, Element, with_element};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Writes a layer's parameters to a safetensors file by name, weights in channels-first order.
///
/// The file appears under its name when it is complete: it is written beside it and renamed.
///
/// # Errors
/// [`Error::Io`], or what the device reports.
///
/// ```
/// use ndconv::{init::Rng, io, layer::{Dense, Layer}};
/// let path = std::env::temp_dir().join(format!("ndconv-doc-{}.safetensors", std::process::id()));
/// let saved = Dense::<f32>::new(3, 2, &mut Rng::new(1))?;
/// io::save_parameters(&saved, &path)?;
/// let mut loaded = Dense::<f32>::new(3, 2, &mut Rng::new(2))?;
/// io::load_parameters(&mut loaded, &path)?;
/// assert_eq!(loaded.weight().to_vec()?, saved.weight().to_vec()?);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn save_parameters<T: Element>(layer: &dyn Layer<T>, path: impl AsRef<Path>) -> Result<()> {
    let tensors = layer.parameters();
    save(path.as_ref(), &tensors, &HashMap::new())
}

/// Reads a layer's parameters from a safetensors file, by name.
///
/// Every parameter must be there with its shape, and nothing else; another float type is
/// rounded to the layer's. On an error the layer is unchanged.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`], naming the tensor, for a file that is malformed or not this
/// layer's.
pub fn load_parameters<T: Element>(layer: &mut dyn Layer<T>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = TensorFile::parse(path, &bytes)?;
    let mut loaded = Vec::new();
    for (name, parameter) in layer.parameters() {
        let expected = parameter.channels_first_shape();
        let tensor = file
            .tensor::<T>(&name)?
            .ok_or_else(|| Error::format(path, format!("there is no tensor {name}")))?;
        if tensor.shape() != expected {
            let got = tensor.shape();
            let reason = format!("{name} has shape {got:?}; the layer needs {expected:?}");
            return Err(Error::format(path, reason));
        }
        let device = parameter.device();
        loaded.push((
            name,
            tensor.to_layout(parameter.layout())?.to_device(&device)?,
        ));
    }
    if let Some(name) = file
        .names()
        .find(|name| loaded.iter().all(|(known, _)| known != name))
    {
        return Err(Error::format(
            path,
            format!("the layer has no parameter {name}"),
        ));
    }
    for ((_, parameter), (_, tensor)) in layer.parameters_mut().into_iter().zip(loaded) {
        *parameter = tensor;
    }
    Ok(())
}

/// Writes named tensors and text metadata to a safetensors file.
pub(crate) fn save<T: Element>(
    path: &Path,
    tensors: &[(String, &Tensor<T>)],
    metadata: &HashMap<String, String>,
) -> Result<()> {
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.to_layout(Layout::ChannelsFirst)?;
        let mut bytes = Vec::with_capacity(tensor.len() * size_of::<T>());
        T::write_le(&tensor.to_vec()?, &mut bytes);
        buffers.push((name, tensor.shape().to_vec(), bytes));
    }
    let views = buffers
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(T::DTYPE.in_safetensors(), shape.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::format(path, e.to_string()))?;
    let metadata = (!metadata.is_empty()).then(|| metadata.clone());
    let bytes =
        safetensors::serialize(views, metadata).map_err(|e| Error::format(path, e.to_string()))?;
    write_atomically(path, &bytes)
}

/// Writes a file beside its place and renames it, so that no reader ever sees half of it.
///
/// # Errors
/// [`Error::Io`]; whatever had the name before is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = beside(path).and_then(|mut file| {
        file.write_all(bytes)?;
        persist(file, path)
    });
    written.map_err(|e| Error::io(path, e))
}

/// A safetensors file in memory whose header has been checked against its length.
pub(crate) struct TensorFile<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> TensorFile<'a> {
    pub fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let malformed = |e| Error::format(path, format!("not a well-formed safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        Ok(TensorFile {
            path,
            tensors: SafeTensors::deserialize(bytes).map_err(malformed)?,
            metadata: header.metadata().clone().unwrap_or_default(),
        })
    }

    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name)
    }

    /// The element type of a tensor.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        let Ok(view) = self.tensors.tensor(name) else {
            return Ok(None);
        };
        let known = DType::ALL
            .into_iter()
            .find(|d| d.in_safetensors() == view.dtype());
        known.map(Some).ok_or_else(|| {
            let reason = format!(
                "{name} holds {:?}; f16, bf16, f32, f64 are read",
                view.dtype()
            );
            Error::format(self.path, reason)
        })
    }

    /// A tensor rounded to `T`; `None` when there is none of this name.
    pub fn tensor<T: Element>(&self, name: &str) -> Result<Option<Tensor<T>>> {
        let Some(dtype) = self.dtype(name)? else {
            return Ok(None);
        };
        let Ok(view) = self.tensors.tensor(name) else {
            return Ok(None);
        };
        let (shape, bytes) = (view.shape(), view.data());
        with_element!(dtype, S => decode::<S, T>(shape, bytes)).map(Some)
    }
}

fn decode<S: Element, T: Element>(shape: &[usize], bytes: &[u8]) -> Result<Tensor<T>> {
    Tensor::from_vec(shape, S::read_le(bytes))?.cast()
}
