//! What a file of tensors can be, and what a tensor in it can hold.

use std::fmt;

use crate::element::DType;

/// The format of a file of tensors, found out from its first bytes.
///
/// ```
/// assert_eq!(ndconv::io::Format::Safetensors.to_string(), "safetensors");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `.safetensors`.
    Safetensors,
    /// NumPy's `.npy`: one tensor, named `array`.
    Npy,
    /// NumPy's `.npz`.
    Npz,
    /// PyTorch's `.pt` or `.pth`, as a zip file.
    Torch,
    /// HDF5: Keras' `.weights.h5` and the older `.h5`.
    Hdf5,
    /// Keras' `.keras`: HDF5 within a zip file.
    Keras,
    /// ONNX initialisers.
    Onnx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::Npy => "npy",
            Format::Npz => "npz",
            Format::Torch => "PyTorch",
            Format::Hdf5 => "HDF5",
            Format::Keras => "Keras",
            Format::Onnx => "ONNX",
        })
    }
}

/// The element type of a tensor in a file, of which [`DType`] are those that are computed with.
///
/// ```
/// use ndconv::{DType, io::StoredType};
/// assert_eq!(StoredType::from(DType::BF16).to_string(), "bf16");
/// assert_eq!(StoredType::from(DType::F64).float(), Some(DType::F64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredType(pub(crate) safetensors::Dtype);

impl StoredType {
    /// The type to compute in, for a float type that there is.
    pub fn float(self) -> Option<DType> {
        DType::ALL
            .into_iter()
            .find(|d| d.in_safetensors() == self.0)
    }

    /// Bits of an element.
    pub fn bits(self) -> usize {
        self.0.bitsize()
    }

    /// Bytes of so many elements.
    pub(crate) fn bytes(self, elements: usize) -> Option<usize> {
        let bits = elements.checked_mul(self.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl From<DType> for StoredType {
    fn from(dtype: DType) -> Self {
        StoredType(dtype.in_safetensors())
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{:?}", self.0).to_lowercase())
    }
}
