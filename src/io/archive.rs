//! A file of named tensors of any of the formats that are read.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use flate2::read::DeflateDecoder;

use super::kinds::{Format, StoredType};
use super::source::Source;
use super::{hdf5, npy, onnx, safetensors_file, torch, zipped};
use crate::element::{Element, with_element};
use crate::error::{Error, Result};
use crate::remap::Rearrangement;
use crate::shape::check_elements;
use crate::tensor::Tensor;

/// A tensor in a file: its name, shape and type are known, its elements are read when asked for.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("ndconv-doc-stored-{}.npy", std::process::id()));
/// # ndconv::io::write_npy(&path, &ndarray::arr1(&[1.0f32, 2.0]).into_dyn())?;
/// let archive = ndconv::io::Archive::open(&path)?;
/// let stored = &archive.tensors()[0];
/// assert_eq!((stored.name(), stored.shape()), ("array", &[2][..]));
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoredTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: StoredType,
    pub(crate) place: Place,
    /// What becomes of the stored elements; `None` where they lie in row-major order.
    pub(crate) plan: Option<Rearrangement>,
    pub(crate) big_endian: bool,
}

/// Where a tensor's elements are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// As they are.
    Span(Source),
    /// Behind so many other bytes of a deflated stream.
    Deflated { stream: Source, skip: usize },
    /// In the chunks of an HDF5 dataset.
    Chunks(hdf5::Chunks),
}

impl StoredTensor {
    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its element type.
    pub fn dtype(&self) -> StoredType {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.dtype.bytes(self.len()).unwrap_or(0)
    }

    /// The elements before the plan.
    fn stored(&self, source: &Source) -> Result<Vec<u8>> {
        let stored = match &self.plan {
            Some(plan) => check_elements(&self.name, plan.source_shape())?,
            None => self.len(),
        };
        let bytes = self.dtype.bytes(stored).unwrap_or(0);
        let what = format!("tensor {}", self.name);
        source.check_budget(bytes as u64, &what)?;
        let mut data = match &self.place {
            Place::Span(span) => span.read(0, bytes as u64, &what)?,
            Place::Deflated { stream, skip } => inflate(stream, *skip, bytes, &what)?,
            Place::Chunks(chunks) => chunks.read(&what)?,
        };
        if data.len() != bytes {
            let reason = format!("{what}: {} bytes where {bytes} belong", data.len());
            return Err(source.error(reason));
        }
        let width = self.dtype.bits() / 8;
        if self.big_endian && width > 1 {
            data.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        Ok(data)
    }
}

/// A file of named tensors, open for reading.
///
/// Opening reads names, shapes and types; elements are read tensor by tensor. No more memory is
/// taken than 100 times the file's length (16 MiB for small ones), whatever the file claims, and
/// nothing in a file is ever run.
///
/// ```
/// use ndarray::arr2;
/// use ndconv::io::{Archive, Format, write_npy};
/// let path = std::env::temp_dir().join(format!("ndconv-doc-{}.npy", std::process::id()));
/// write_npy(&path, &arr2(&[[1.0f32, 2.0]]).into_dyn())?;
/// let archive = Archive::open(&path)?;
/// assert_eq!(archive.format(), Format::Npy);
/// assert_eq!(archive.tensor::<f64>("array")?.to_vec()?, [1.0, 2.0]);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Debug)]
pub struct Archive {
    source: Source,
    format: Format,
    tensors: Vec<StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Archive {
    /// Opens a file of any format that is read.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`], naming the place, for a malformed file or one of no known
    /// format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::of(Source::open(path.as_ref())?)
    }

    /// A file's bytes; `path` stands in messages, tells files without a signature apart by its
    /// extension, and is where ONNX' external data is looked for.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        Self::of(Source::from_bytes(path.as_ref(), bytes))
    }

    fn of(source: Source) -> Result<Self> {
        let head = source.read(0, source.len().min(9), "first bytes")?;
        let mut metadata = BTreeMap::new();
        let extension = source.path().extension().map(|e| e.to_ascii_lowercase());
        let extension = extension.as_deref().and_then(|e| e.to_str()).unwrap_or("");
        let (format, tensors) = match head.as_slice() {
            [b'P', b'K', 3 | 5, ..] => zipped::read(&source)?,
            head if head.starts_with(hdf5::SIGNATURE) => (Format::Hdf5, hdf5::read(&source)?),
            head if head.starts_with(npy::MAGIC) => {
                (Format::Npy, vec![npy::read(&source, "array")?])
            }
            [.., b'{'] if head.len() == 9 => (
                Format::Safetensors,
                safetensors_file::read(&source, &mut metadata)?,
            ),
            _ if extension == "safetensors" => (
                Format::Safetensors,
                safetensors_file::read(&source, &mut metadata)?,
            ),
            [0x80, 2..=5, ..] => return Err(source.error(torch::OLD)),
            _ if extension == "onnx" || matches!(head.first(), Some(8)) => {
                (Format::Onnx, onnx::read(&source)?)
            }
            _ => {
                let known = "safetensors, npy, npz, PyTorch (zip), HDF5, Keras and ONNX";
                return Err(source.error(format!("of no format that is read: {known}")));
            }
        };
        Ok(Archive {
            source,
            format,
            tensors,
            metadata,
        })
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// The text metadata of a safetensors file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::Format`], naming those that are like it, when there is none.
    pub fn find(&self, name: &str) -> Result<&StoredTensor> {
        let found = self.tensors.iter().find(|t| t.name == name);
        found.ok_or_else(|| {
            let last = |n: &str| n.rsplit(['.', '/']).next().unwrap_or(n).to_string();
            let alike = |t: &&StoredTensor| t.name.contains(name) || last(&t.name) == last(name);
            let some: Vec<&str> = self
                .tensors
                .iter()
                .filter(alike)
                .map(|t| t.name())
                .collect();
            let some = match some.as_slice() {
                [] => String::new(),
                some => format!("; there is {}", some[..some.len().min(6)].join(", ")),
            };
            self.source
                .error(format!("there is no tensor {name}{some}"))
        })
    }

    /// The elements of a tensor of this file in row-major order, as little-endian bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a malformed tensor; [`Error::OutOfMemory`].
    pub fn read(&self, tensor: &StoredTensor) -> Result<Vec<u8>> {
        let stored = tensor.stored(&self.source)?;
        let Some(plan) = &tensor.plan else {
            return Ok(stored);
        };
        let what = format!("tensor {}", tensor.name);
        let both = stored.len().saturating_add(tensor.bytes());
        self.source.check_budget(both as u64, &what)?;
        let mut moved = super::source::zeroed(tensor.bytes(), &what)?;
        let width = tensor.dtype.bits() / 8;
        plan.gather(&stored, width, 0..tensor.len(), &mut moved)?;
        Ok(moved)
    }

    /// Fills `bytes` with what [`Archive::read`] gives from element `first` on, from where it is;
    /// false where the file does not have it in that order.
    pub(super) fn read_part(
        &self,
        tensor: &StoredTensor,
        first: usize,
        bytes: &mut [u8],
    ) -> Result<bool> {
        let (Place::Span(span), None, false) = (&tensor.place, &tensor.plan, tensor.big_endian)
        else {
            return Ok(false);
        };
        let Some(begin) = tensor.dtype.bytes(first) else {
            let whole = "a part of whole bytes";
            return Err(Error::shape(&tensor.name, whole, first));
        };
        span.read_into(begin as u64, bytes, &format!("tensor {}", tensor.name))?;
        Ok(true)
    }

    /// Writes what [`Archive::read`] gives, without holding it in memory where the file has it in
    /// that order.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`Error::Io`], naming this file, when the target takes no more.
    pub fn copy(&self, tensor: &StoredTensor, target: &mut dyn Write) -> Result<()> {
        let failed = |e| Error::io(self.path(), e);
        match &tensor.place {
            Place::Span(span) if tensor.plan.is_none() && !tensor.big_endian => {
                let mut left = tensor.bytes();
                let mut reader = span.reader();
                let mut block = vec![0; left.min(1 << 18)];
                while left > 0 {
                    let wanted = block.len().min(left);
                    let count = reader.read(&mut block[..wanted]).map_err(failed)?;
                    if count == 0 {
                        let reason = format!("tensor {}: the file became shorter", tensor.name);
                        return Err(self.source.error(reason));
                    }
                    target.write_all(&block[..count]).map_err(failed)?;
                    left -= count;
                }
                Ok(())
            }
            _ => target.write_all(&self.read(tensor)?).map_err(failed),
        }
    }

    /// A tensor by name, rounded to `T`.
    ///
    /// # Errors
    /// As [`Archive::read`] and [`Archive::find`]; [`Error::Format`] for a tensor of another type
    /// than f16, bf16, f32 and f64.
    pub fn tensor<T: Element>(&self, name: &str) -> Result<Tensor<T>> {
        let tensor = self.find(name)?;
        let Some(dtype) = tensor.dtype.float() else {
            let reason = format!(
                "{name} holds {}; f16, bf16, f32, f64 are computed with",
                tensor.dtype
            );
            return Err(self.source.error(reason));
        };
        let bytes = self.read(tensor)?;
        with_element!(dtype, S => Tensor::from_vec(&tensor.shape, S::read_le(&bytes))?.cast())
    }
}

/// `count` bytes behind `skip` others of a deflated stream, in memory as they come.
pub(crate) fn inflate(stream: &Source, skip: usize, count: usize, what: &str) -> Result<Vec<u8>> {
    let malformed = |e| stream.error(format!("{what}: {e}"));
    stream.check_budget(count as u64, what)?;
    let mut decoder = DeflateDecoder::new(std::io::BufReader::new(stream.reader()));
    let skipped = std::io::copy(&mut (&mut decoder).take(skip as u64), &mut std::io::sink());
    let mut data = Vec::new();
    let ended = skipped.map_err(malformed)? < skip as u64;
    decoder
        .take(count as u64)
        .read_to_end(&mut data)
        .map_err(malformed)?;
    if ended || data.len() < count {
        return Err(stream.error(format!("{what}: the compressed data ends early")));
    }
    Ok(data)
}
