//! NumPy's `.npy`: a dictionary in Python's notation, then the elements.

use safetensors::Dtype;

use super::archive::{Place, StoredTensor};
use super::kinds::StoredType;
use super::source::Source;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::remap::Rearrangement;
use crate::shape::check_elements;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses headers past 10,000 bytes unless told otherwise.
const LONGEST_HEADER: usize = 1 << 16;

/// What a header says.
pub(super) struct Header {
    /// Bytes before the elements.
    pub length: usize,
    shape: Vec<usize>,
    dtype: StoredType,
    big_endian: bool,
    plan: Option<Rearrangement>,
}

impl Header {
    /// The longest header with everything before it.
    pub const LONGEST: usize = LONGEST_HEADER + 12;

    /// Parses the first bytes of a file; `name` stands in messages.
    pub fn parse(source: &Source, head: &[u8], name: &str) -> Result<Self> {
        let wrong = |what: &str| source.error(format!("{name}: npy header: {what}"));
        let (length_bytes, start) = match head.get(..8) {
            Some([0x93, b'N', b'U', b'M', b'P', b'Y', 1, _]) => (2, 10),
            Some([0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _]) => (4, 12),
            _ => return Err(wrong("byte 0: not an npy signature of version 1, 2 or 3")),
        };
        let length = head.get(8..8 + length_bytes);
        let length = length.ok_or_else(|| wrong("cut off"))?;
        let length = length.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
        if length > LONGEST_HEADER {
            return Err(wrong(&format!("byte 8: {length} bytes are too many")));
        }
        let text = head.get(start..start + length);
        let text = text.ok_or_else(|| wrong("byte 8: it is longer than the file"))?;
        let text = std::str::from_utf8(text).map_err(|e| wrong(&e.to_string()))?;
        let value = |key: &str| {
            let missing = || wrong(&format!("there is no '{key}'"));
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let after = quoted.iter().find_map(|k| text.split_once(k.as_str()));
            let (_, rest) = after.ok_or_else(missing)?;
            rest.trim_start()
                .strip_prefix(':')
                .map(str::trim_start)
                .ok_or_else(missing)
        };
        let descr = value("descr")?;
        let descr = match descr.chars().next() {
            Some(quote @ ('\'' | '"')) => descr[1..].split_once(quote).map(|(d, _)| d),
            _ => None,
        };
        let descr =
            descr.ok_or_else(|| wrong("'descr' is not text: structured arrays are not read"))?;
        let (dtype, big_endian) = element(descr).ok_or_else(|| {
            wrong(&format!(
                "elements {descr:?} are not of a type that is read"
            ))
        })?;
        let fortran = match value("fortran_order")? {
            v if v.starts_with("True") => true,
            v if v.starts_with("False") => false,
            _ => return Err(wrong("'fortran_order' is neither True nor False")),
        };
        let shape = value("shape")?
            .strip_prefix('(')
            .and_then(|s| s.split_once(')'));
        let (shape, _) = shape.ok_or_else(|| wrong("'shape' is not a tuple"))?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        let sizes: Result<Vec<usize>, _> = sizes.map(|s| s.trim_end_matches('L').parse()).collect();
        let shape = sizes.map_err(|e| wrong(&format!("'shape': {e}")))?;
        if shape.len() > 64 {
            return Err(wrong("'shape' has more than 64 axes"));
        }
        check_elements(name, &shape)?;
        let plan = match fortran && shape.len() > 1 {
            true => {
                let reversed: Vec<usize> = shape.iter().rev().copied().collect();
                let order: Vec<usize> = (0..shape.len()).rev().collect();
                Some(Rearrangement::new(&reversed)?.permute(&order)?)
            }
            false => None,
        };
        Ok(Header {
            length: start + length,
            shape,
            dtype,
            big_endian,
            plan,
        })
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> Option<usize> {
        self.dtype.bytes(self.shape.iter().product())
    }

    pub fn tensor(self, name: &str, place: Place) -> StoredTensor {
        StoredTensor {
            name: name.to_string(),
            shape: self.shape,
            dtype: self.dtype,
            place,
            plan: self.plan,
            big_endian: self.big_endian,
        }
    }
}

/// A whole `.npy` file, or one stored in another.
pub(super) fn read(source: &Source, name: &str) -> Result<StoredTensor> {
    let head = source.read(0, source.len().min(Header::LONGEST as u64), "npy header")?;
    let header = Header::parse(source, &head, name)?;
    let data = source.len() - header.length as u64;
    if header.bytes().map(|b| b as u64) != Some(data) {
        let reason = format!(
            "{name}: the header describes {:?} elements of {}, and {data} bytes follow",
            header.shape, header.dtype
        );
        return Err(source.error(reason));
    }
    let span = source.part(header.length as u64, data, name)?;
    Ok(header.tensor(name, Place::Span(span)))
}

/// `<f4` and the like. Two bytes without a type are what NumPy makes of bfloat16.
fn element(descr: &str) -> Option<(StoredType, bool)> {
    let (order, kind) = match descr.as_bytes().first()? {
        b'<' | b'>' | b'|' | b'=' => descr.split_at(1),
        _ => ("=", descr),
    };
    let dtype = match kind {
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "i1" => Dtype::I8,
        "i2" => Dtype::I16,
        "i4" => Dtype::I32,
        "i8" => Dtype::I64,
        "u1" => Dtype::U8,
        "u2" => Dtype::U16,
        "u4" => Dtype::U32,
        "u8" => Dtype::U64,
        "b1" | "?" => Dtype::BOOL,
        "V2" => Dtype::BF16,
        "c8" if order != ">" => Dtype::C64,
        _ => return None,
    };
    Some((StoredType(dtype), order == ">"))
}

/// The header of an array in row-major order, padded as NumPy pads it.
///
/// # Errors
/// [`Error::Unsupported`] for a type that NumPy has no name for.
pub(super) fn header(dtype: StoredType, shape: &[usize]) -> Result<Vec<u8>> {
    let descr = match dtype.0 {
        Dtype::F16 => "<f2",
        Dtype::F32 => "<f4",
        Dtype::F64 => "<f8",
        Dtype::I8 => "|i1",
        Dtype::I16 => "<i2",
        Dtype::I32 => "<i4",
        Dtype::I64 => "<i8",
        Dtype::U8 => "|u1",
        Dtype::U16 => "<u2",
        Dtype::U32 => "<u4",
        Dtype::U64 => "<u8",
        Dtype::BOOL => "|b1",
        Dtype::BF16 => "|V2",
        Dtype::C64 => "<c8",
        _ => {
            let what = format!("{dtype} in an npy file: write safetensors");
            return Err(Error::Unsupported { what });
        }
    };
    let mut sizes: String = shape.iter().map(|s| format!("{s}, ")).collect();
    if shape.len() > 1 {
        sizes.truncate(sizes.len() - 2);
    }
    let sizes = sizes.trim_end();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text += &" ".repeat(padded - 1 - text.len());
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| Error::Unsupported {
        what: format!("an npy header for {} axes", shape.len()),
    })?;
    Ok([MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat())
}

/// Writes an array as an `.npy` file, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
///
/// ```
/// let path = std::env::temp_dir().join(format!("ndconv-doc-write-{}.npy", std::process::id()));
/// ndconv::io::write_npy(&path, &ndarray::arr1(&[half::f16::ONE]).into_dyn())?;
/// assert_eq!(ndconv::io::Archive::open(&path)?.tensors()[0].dtype().to_string(), "f16");
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn write_npy<T: Element>(
    path: impl AsRef<std::path::Path>,
    array: &ndarray::ArrayD<T>,
) -> Result<()> {
    let dtype: DType = T::DTYPE;
    let mut bytes = header(dtype.into(), array.shape())?;
    let elements: Vec<T> = array.iter().copied().collect();
    T::write_le(&elements, &mut bytes);
    super::write_atomically(path.as_ref(), &bytes)
}
