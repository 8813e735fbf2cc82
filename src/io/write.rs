//! Writing files of tensors, a tensor at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::archive::{Archive, StoredTensor};
use super::kinds::{Format, StoredType};
use super::npy;
use crate::error::{Error, Result};
use crate::remap::Rearrangement;
use crate::shape::check_elements;

/// A tensor that is going to be written.
///
/// ```
/// use ndconv::{DType, io::Entry};
/// let entry = Entry { name: "bias".into(), shape: vec![4], dtype: DType::F32.into() };
/// assert_eq!(entry.shape, [4]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: StoredType,
}

impl Entry {
    fn bytes(&self) -> Result<u64> {
        let elements = check_elements(&self.name, &self.shape)?;
        let bytes = self.dtype.bytes(elements);
        let odd = || Error::shape(&self.name, "a whole number of bytes", &self.shape);
        bytes.map(|b| b as u64).ok_or_else(odd)
    }
}

/// Writes a file of tensors one after another; what had the name before stays until the last.
///
/// The format is that of the extension: `.safetensors`, `.npz`, or `.npy` for a single tensor.
///
/// ```
/// use ndconv::{DType, io::{Archive, Entry, Writer}};
/// let path = std::env::temp_dir().join(format!("ndconv-doc-{}.npz", std::process::id()));
/// let entry = Entry { name: "bias".into(), shape: vec![2], dtype: DType::F32.into() };
/// let mut writer = Writer::create(&path, vec![entry], &Default::default())?;
/// writer.tensor(|target| {
///     target.write_all(&1.0f32.to_le_bytes())?;
///     target.write_all(&2.0f32.to_le_bytes())?;
///     Ok(())
/// })?;
/// writer.finish()?;
/// assert_eq!(Archive::open(&path)?.tensor::<f32>("bias")?.to_vec()?, [1.0, 2.0]);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    target: Target,
    entries: std::vec::IntoIter<Entry>,
}

enum Target {
    Plain(BufWriter<tempfile::NamedTempFile>),
    Zip(Box<ZipWriter<BufWriter<tempfile::NamedTempFile>>>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Target::Plain(_) => "Plain",
            Target::Zip(_) => "Zip",
        })
    }
}

impl Writer {
    /// The format that a file of this name is written in.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other extensions than `.safetensors`, `.npz` and `.npy`.
    pub fn format(path: &Path) -> Result<Format> {
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        match extension.as_deref().and_then(|e| e.to_str()) {
            Some("safetensors") => Ok(Format::Safetensors),
            Some("npz") => Ok(Format::Npz),
            Some("npy") => Ok(Format::Npy),
            _ => Err(Error::Unsupported {
                what: format!(
                    "writing {}: name it .safetensors, .npz or .npy",
                    path.display()
                ),
            }),
        }
    }

    /// Begins a file of these tensors. Text metadata goes into safetensors alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another extension, more than one tensor in `.npy`, a type that
    /// the format does not have; [`Error::Argument`] for a name twice; [`Error::Io`].
    pub fn create(
        path: impl AsRef<Path>,
        entries: Vec<Entry>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let format = Self::format(path)?;
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = entries.iter().find(|e| !names.insert(e.name.as_str())) {
            return Err(Error::argument(
                "tensor name",
                "each name once",
                &twice.name,
            ));
        }
        let head = match format {
            Format::Safetensors => safetensors_header(&entries, metadata)?,
            Format::Npz => {
                for entry in &entries {
                    npy::header(entry.dtype, &entry.shape)?;
                }
                Vec::new()
            }
            _ => match entries.as_slice() {
                [one] => npy::header(one.dtype, &one.shape)?,
                _ => {
                    let what = format!("{} tensors in an npy file: name it .npz", entries.len());
                    return Err(Error::Unsupported { what });
                }
            },
        };
        let io = |e| Error::io(path, e);
        let mut file = BufWriter::with_capacity(1 << 16, super::beside(path).map_err(io)?);
        file.write_all(&head).map_err(io)?;
        Ok(Writer {
            path: path.to_owned(),
            target: match format {
                Format::Npz => Target::Zip(Box::new(ZipWriter::new(file))),
                _ => Target::Plain(file),
            },
            entries: entries.into_iter(),
        })
    }

    /// Writes the next tensor: `write` gives its elements as little-endian bytes.
    ///
    /// # Errors
    /// What `write` reports; [`Error::Shape`] when it gives other than the bytes of the tensor's
    /// shape, or there is no next tensor; [`Error::Io`].
    pub fn tensor(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Box<dyn std::error::Error>>,
    ) -> Result<()> {
        let Some(entry) = self.entries.next() else {
            return Err(Error::shape(
                "tensors",
                "as many as were announced",
                "one more",
            ));
        };
        let io = |e| Error::io(&self.path, e);
        let target: &mut dyn Write = match &mut self.target {
            Target::Plain(file) => file,
            Target::Zip(zip) => {
                let options = SimpleFileOptions::default()
                    .compression_method(zip::CompressionMethod::Stored)
                    .large_file(entry.bytes()? > u64::from(u32::MAX) - (1 << 20))
                    .with_alignment(64);
                zip.start_file(format!("{}.npy", entry.name), options)
                    .map_err(|e| io(e.into()))?;
                zip.write_all(&npy::header(entry.dtype, &entry.shape)?)
                    .map_err(io)?;
                zip
            }
        };
        let mut counted = Counted {
            target,
            count: 0,
            error: None,
        };
        let written = write(&mut counted);
        if let Some(error) = counted.error {
            return Err(io(error));
        }
        let count = counted.count;
        written.map_err(|e| match e.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => Error::io(&self.path, io::Error::other(other.to_string())),
        })?;
        let bytes = entry.bytes()?;
        if count != bytes {
            let expected = format!("{bytes} bytes for {}", entry.name);
            return Err(Error::shape("tensor data", expected, count));
        }
        Ok(())
    }

    /// Writes a tensor of another file as the next tensor, in the order of `plan`; `progress` is
    /// told every number of bytes that was written.
    ///
    /// It takes a few tens of megabytes of memory where the other file has the tensor in row-major
    /// order. In an npz file that holds for fewer plans: see [`Archive::copy_rearranged`].
    ///
    /// # Errors
    /// As [`Archive::copy_rearranged`] and [`Writer::tensor`].
    ///
    /// ```
    /// use ndconv::{io::{Archive, Entry, Writer, write_npy}, remap::Rearrangement};
    /// let path = std::env::temp_dir().join(format!("ndconv-doc-{}.npy", std::process::id()));
    /// write_npy(&path, &ndarray::arr2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn())?;
    /// let archive = Archive::open(&path)?;
    /// let tensor = &archive.tensors()[0];
    /// let plan = Rearrangement::new(&[2, 3])?.permute(&[1, 0])?;
    /// let entry = Entry { name: "t".into(), shape: plan.shape(), dtype: tensor.dtype() };
    /// let transposed = path.with_extension("safetensors");
    /// let mut writer = Writer::create(&transposed, vec![entry], &Default::default())?;
    /// writer.rearranged(&archive, tensor, &plan, |_bytes| {})?;
    /// writer.finish()?;
    /// let read = Archive::open(&transposed)?.tensor::<f32>("t")?;
    /// assert_eq!(read.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// # std::fs::remove_file(path).ok();
    /// # std::fs::remove_file(transposed).ok();
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn rearranged(
        &mut self,
        archive: &Archive,
        tensor: &StoredTensor,
        plan: &Rearrangement,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<()> {
        let fits = |entry: &Entry| {
            let bytes = tensor.dtype().bytes(plan.shape().iter().product());
            bytes.is_some_and(|bytes| entry.bytes().is_ok_and(|b| b == bytes as u64))
        };
        let scattered = !plan.is_reshape() && self.entries.as_slice().first().is_some_and(fits);
        if let Target::Plain(file) = &mut self.target
            && scattered
        {
            let io = |e| Error::io(&self.path, e);
            file.flush().map_err(io)?;
            let begin = file.stream_position().map_err(io)?;
            let written = archive.scatter_rearranged(tensor, plan, |place, bytes| {
                let file = file.get_mut();
                let there = file.seek(SeekFrom::Start(begin + place));
                there.and_then(|_| file.write_all(bytes)).map_err(io)?;
                progress(bytes.len());
                Ok(())
            })?;
            if written {
                let bytes = self.entries.next().map_or(Ok(0), |entry| entry.bytes())?;
                file.seek(SeekFrom::Start(begin + bytes)).map_err(io)?;
                return Ok(());
            }
        }
        self.tensor(|target| {
            let mut target = Reported { target, progress };
            Ok(archive.copy_rearranged(tensor, plan, &mut target)?)
        })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::Shape`] when a tensor is missing; [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if let Some(missing) = self.entries.next() {
            return Err(Error::shape(
                "tensors",
                "all that were announced",
                missing.name,
            ));
        }
        let io = |e| Error::io(&self.path, e);
        let file = match self.target {
            Target::Plain(file) => file,
            Target::Zip(zip) => zip.finish().map_err(|e| io(e.into()))?,
        };
        let file = file.into_inner().map_err(|e| io(e.into_error()))?;
        super::persist(file, &self.path).map_err(io)
    }
}

/// A stream that reports what it takes.
struct Reported<'a, F> {
    target: &'a mut dyn Write,
    progress: F,
}

impl<F: FnMut(usize)> Write for Reported<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.target.write(bytes)?;
        (self.progress)(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// A stream that counts, and keeps the error of writing apart from those of what is written.
struct Counted<'a> {
    target: &'a mut dyn Write,
    count: u64,
    error: Option<io::Error>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.target.write(bytes) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let copy = io::Error::new(e.kind(), e.to_string());
                self.error = Some(e);
                Err(copy)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// The header of a safetensors file whose tensors lie in this order, padded so that they begin at
/// a multiple of 8.
fn safetensors_header(entries: &[Entry], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let texts = metadata
            .iter()
            .map(|(k, v)| (k.clone(), Value::from(v.as_str())));
        header.insert("__metadata__".into(), Value::Object(texts.collect()));
    }
    let mut begin = 0u64;
    for entry in entries {
        let end = begin.checked_add(entry.bytes()?);
        let end = end.ok_or_else(|| crate::shape::too_large(&entry.name, &entry.shape))?;
        let mut info = Map::new();
        info.insert("dtype".into(), Value::from(format!("{:?}", entry.dtype.0)));
        info.insert("shape".into(), Value::from(entry.shape.clone()));
        info.insert("data_offsets".into(), Value::from(vec![begin, end]));
        if entry.name == "__metadata__" {
            return Err(Error::argument(
                "tensor name",
                "another name",
                "__metadata__",
            ));
        }
        header.insert(entry.name.clone(), Value::Object(info));
        begin = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes(), text.as_slice()].concat())
}

/// A new file in the folder of `path`, with the permissions of any new file.
pub(super) fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ndconv-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask
    }
    builder.tempfile_in(folder)
}

/// Gives a finished file its name.
pub(super) fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
