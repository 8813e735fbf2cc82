//! Arrays in `.npy` files: real and complex, in either precision.

use std::path::Path;

use ndarray::{ArrayD, ArrayViewD};
use ndarray_npy::{ViewElement, ViewNpyExt, WritableElement, WriteNpyExt};
use ndconv::signal::Complex;
use ndconv::{Error, Result};

/// An array of one of the types that the signal functions work on.
pub enum Numbers {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    C64(ArrayD<Complex<f32>>),
    C128(ArrayD<Complex<f64>>),
}

impl Numbers {
    /// Whole numbers become `f64`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        if let Some(x) = view::<f64>(&bytes) {
            return Ok(Numbers::F64(x));
        }
        if let Some(x) = view::<f32>(&bytes) {
            return Ok(Numbers::F32(x));
        }
        if let Some(x) = view::<Complex<f64>>(&bytes) {
            return Ok(Numbers::C128(x));
        }
        if let Some(x) = view::<Complex<f32>>(&bytes) {
            return Ok(Numbers::C64(x));
        }
        macro_rules! whole {
            ($($type:ty)*) => {
                $(if let Some(x) = view::<$type>(&bytes) {
                    return Ok(Numbers::F64(x.mapv(|v| v as f64)));
                })*
            };
        }
        whole!(i64 i32 i16 i8 u64 u32 u16 u8);
        let reason = match ArrayViewD::<f64>::view_npy(&bytes) {
            Err(error) => format!("not an array of real, complex or whole numbers: {error}"),
            Ok(_) => "not an array".into(),
        };
        Err(Error::Format {
            path: path.to_owned(),
            reason,
        })
    }

    pub fn is_complex(&self) -> bool {
        matches!(self, Numbers::C64(_) | Numbers::C128(_))
    }

    pub fn is_double(&self) -> bool {
        matches!(self, Numbers::F64(_) | Numbers::C128(_))
    }

    /// The same numbers in the type that holds both.
    pub fn like(self, other: &Numbers) -> Numbers {
        let double = self.is_double() || other.is_double();
        let complex = self.is_complex() || other.is_complex();
        let wide = |v: Complex<f32>| Complex::new(f64::from(v.re), f64::from(v.im));
        let this = match (self, double) {
            (Numbers::F32(x), true) => Numbers::F64(x.mapv(f64::from)),
            (Numbers::C64(x), true) => Numbers::C128(x.mapv(wide)),
            (this, _) => this,
        };
        match (this, complex) {
            (Numbers::F32(x), true) => Numbers::C64(x.mapv(Complex::from)),
            (Numbers::F64(x), true) => Numbers::C128(x.mapv(Complex::from)),
            (this, _) => this,
        }
    }
}

fn view<T: ViewElement + Clone>(bytes: &[u8]) -> Option<ArrayD<T>> {
    ArrayViewD::<T>::view_npy(bytes).ok().map(|x| x.to_owned())
}

/// Writes an array so that no reader ever sees half of it.
pub fn write<T: WritableElement>(path: &Path, array: &ArrayD<T>) -> Result<()> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).map_err(|e| Error::Format {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    ndconv::io::write_atomically(path, &bytes)
}
