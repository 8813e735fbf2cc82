//! Element types: what a tensor can hold, and the type that its sums are kept in.

use std::fmt;
use std::str::FromStr;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::cpu::{Dispatch, MicroKernel, Passes};
use crate::error::{Error, Result};
use crate::host::Pool;
use crate::signal::Scalar;

/// The name of an [`Element`] type at run time.
///
/// ```
/// use ndconv::DType;
/// assert_eq!("bf16".parse::<DType>()?, DType::BF16);
/// assert_eq!(DType::F64.size(), 8);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of an `f32`.
    BF16,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

impl DType {
    /// All of them, narrowest first.
    pub const ALL: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

    /// `f16`, `bf16`, `f32` or `f64`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// The name of this type in safetensors files.
    pub(crate) fn in_safetensors(self) -> safetensors::Dtype {
        match self {
            DType::F16 => safetensors::Dtype::F16,
            DType::BF16 => safetensors::Dtype::BF16,
            DType::F32 => safetensors::Dtype::F32,
            DType::F64 => safetensors::Dtype::F64,
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F16 | DType::BF16 => 2,
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }
}

/// Runs an expression with a type name bound to the element type that a [`DType`] names.
macro_rules! with_element {
    ($dtype:expr, $type:ident => $run:expr) => {
        match $dtype {
            $crate::element::DType::F16 => {
                type $type = half::f16;
                $run
            }
            $crate::element::DType::BF16 => {
                type $type = half::bf16;
                $run
            }
            $crate::element::DType::F32 => {
                type $type = f32;
                $run
            }
            $crate::element::DType::F64 => {
                type $type = f64;
                $run
            }
        }
    };
}
pub(crate) use with_element;

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        DType::ALL
            .into_iter()
            .find(|d| d.name() == s)
            .ok_or_else(|| Error::argument("dtype", "f16, bf16, f32 or f64", s))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A type that tensors hold: [`f16`](half::f16), [`bf16`], `f32` or `f64`.
///
/// Sums over `f16`, `bf16` and `f32` are kept in `f32`, sums over `f64` in `f64`
/// ([`Element::Acc`]); a result is rounded once, when it is stored.
///
/// ```
/// use ndconv::{DType, Element};
/// fn name<T: Element>() -> &'static str { T::DTYPE.name() }
/// assert_eq!(name::<half::bf16>(), "bf16");
/// assert_eq!(half::f16::from_f64(0.5).to_acc(), 0.5f32);
/// ```
pub trait Element:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + PartialEq
    + Send
    + Sync
    + fmt::Debug
    + fmt::Display
    + 'static
{
    /// The type that sums are kept in: `f32` or `f64`.
    type Acc: Accumulator + Dispatch<Self>;
    /// This type's name at run time.
    const DTYPE: DType;
    /// Widens to the accumulator type; exact.
    fn to_acc(self) -> Self::Acc;
    /// Rounds to nearest, ties to even.
    fn from_acc(acc: Self::Acc) -> Self;
    /// Widens to `f64`; exact.
    fn to_f64(self) -> f64;
    /// Rounds to nearest, ties to even.
    fn from_f64(value: f64) -> Self;
    /// Widens a slice; both must have the same length.
    #[doc(hidden)]
    fn widen(source: &[Self], target: &mut [Self::Acc]);
    /// Rounds a slice; both must have the same length.
    #[doc(hidden)]
    fn narrow(source: &[Self::Acc], target: &mut [Self]);
    /// Appends the little-endian bytes of `source`.
    #[doc(hidden)]
    fn write_le(source: &[Self], bytes: &mut Vec<u8>);
    /// The elements whose little-endian bytes these are; a rest of less than one is dropped.
    #[doc(hidden)]
    fn read_le(bytes: &[u8]) -> Vec<Self>;
    /// The convolution passes of the CPU.
    #[doc(hidden)]
    fn passes() -> Passes<Self>;
    /// Memory of tensors that are no more.
    #[doc(hidden)]
    fn pool() -> &'static Pool<Self>;
}

/// What all element types implement alike.
macro_rules! alike {
    ($type:ident) => {
        // never inlined elsewhere: this is what keeps the engine's code in this crate
        #[inline(never)]
        fn passes() -> Passes<$type> {
            Passes::new()
        }
        fn pool() -> &'static Pool<$type> {
            static POOL: Pool<$type> = Pool::new();
            &POOL
        }
        fn write_le(source: &[Self], bytes: &mut Vec<u8>) {
            bytes.extend(source.iter().flat_map(|v| v.to_le_bytes()));
        }
        fn read_le(bytes: &[u8]) -> Vec<Self> {
            let (elements, _) = bytes.as_chunks();
            elements.iter().map(|&b| $type::from_le_bytes(b)).collect()
        }
    };
}

/// An [`Element`] that sums are kept in: `f32` or `f64`.
///
/// ```
/// fn mean<A: ndconv::Accumulator>(values: &[A]) -> A {
///     let sum = values.iter().fold(A::zero(), |sum, &v| sum + v);
///     sum / A::from_f64(values.len() as f64)
/// }
/// assert_eq!(mean(&[1.0f32, 3.0]), 2.0);
/// ```
pub trait Accumulator:
    Element<Acc = Self>
    + Scalar<Real = Self>
    + num_traits::Float
    + num_traits::NumAssign
    + std::iter::Sum
    + MicroKernel
{
}

macro_rules! accumulator {
    ($type:ident, $dtype:ident) => {
        impl sealed::Sealed for $type {}
        impl Accumulator for $type {}
        impl Element for $type {
            type Acc = $type;
            const DTYPE: DType = DType::$dtype;
            fn to_acc(self) -> $type {
                self
            }
            fn from_acc(acc: $type) -> Self {
                acc
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn widen(source: &[Self], target: &mut [$type]) {
                target.copy_from_slice(source);
            }
            fn narrow(source: &[$type], target: &mut [Self]) {
                target.copy_from_slice(source);
            }
            alike!($type);
        }
    };
}

macro_rules! storage {
    ($type:ident, $dtype:ident, $widen:expr, $narrow:expr) => {
        impl sealed::Sealed for $type {}
        impl Element for $type {
            type Acc = f32;
            const DTYPE: DType = DType::$dtype;
            fn to_acc(self) -> f32 {
                self.to_f32()
            }
            fn from_acc(acc: f32) -> Self {
                $type::from_f32(acc)
            }
            fn to_f64(self) -> f64 {
                $type::to_f64(self)
            }
            fn from_f64(value: f64) -> Self {
                $type::from_f32(to_odd(value))
            }
            fn widen(source: &[Self], target: &mut [f32]) {
                $widen(source, target);
            }
            fn narrow(source: &[f32], target: &mut [Self]) {
                $narrow(source, target);
            }
            alike!($type);
        }
    };
}

accumulator!(f32, F32);
accumulator!(f64, F64);
storage!(
    f16,
    F16,
    <[f16]>::convert_to_f32_slice,
    |source, target: &mut [f16]| target.convert_from_f32_slice(source)
);
storage!(bf16, BF16, widen_bf16, narrow_bf16);

/// The `f32` of which rounding makes what rounding of the value itself would: toward zero, and odd
/// unless exact, so that no tie comes to be (S. Boldo and G. Melquiond, "Emulation of FMA and correctly
/// rounded sums: proved algorithms using rounding to odd", 2008).
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if nearest.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let further = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(further)) | 1)
}

/// As `half` does, in a form that becomes vector instructions.
fn widen_bf16(source: &[bf16], target: &mut [f32]) {
    assert_eq!(source.len(), target.len());
    for (to, from) in target.iter_mut().zip(source) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

/// As `half` does, in a form that becomes vector instructions.
fn narrow_bf16(source: &[f32], target: &mut [bf16]) {
    assert_eq!(source.len(), target.len());
    for (to, from) in target.iter_mut().zip(source) {
        let bits = from.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // a NaN stays one, though its last bits are dropped
        let bits = match from.is_nan() {
            true => bits | 1 << 22,
            false => rounded,
        };
        *to = bf16::from_bits((bits >> 16) as u16);
    }
}

#[test]
fn bf16_is_converted_as_half_does() {
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let mut wide = vec![0.0; all.len()];
    widen_bf16(&all, &mut wide);
    for (from, to) in all.iter().zip(&wide) {
        assert!(from.to_f32().to_bits() == to.to_bits() || from.is_nan() && to.is_nan());
    }
    // just below, at and above every tie, and just beside every value
    for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
        let wide: Vec<f32> = wide
            .iter()
            .map(|v| f32::from_bits(v.to_bits() | low))
            .collect();
        let mut narrow = vec![bf16::ZERO; wide.len()];
        narrow_bf16(&wide, &mut narrow);
        for (from, to) in wide.iter().zip(narrow) {
            assert_eq!(bf16::from_f32(*from).to_bits(), to.to_bits(), "{from}");
        }
    }
}

#[test]
fn f64_is_rounded_to_16_bits_once() {
    fn between<T: Element>(from_bits: fn(u16) -> T, infinity: u16) {
        for bits in 0..infinity - 1 {
            let [a, b] = [bits, bits + 1].map(|bits| from_bits(bits).to_f64());
            let tie = (a + b) / 2.0;
            let even = if bits % 2 == 0 { a } else { b };
            // the last bits of an `f64` decide, which an `f32` does not have
            let (below, above) = (tie.next_down(), tie.next_up());
            for (value, expected) in [(below, a), (tie, even), (above, b), (a, a)] {
                assert_eq!(T::from_f64(value).to_f64(), expected, "{value:e}");
                assert_eq!(T::from_f64(-value).to_f64(), -expected, "{value:e}");
            }
        }
        let infinite = from_bits(infinity).to_f64();
        for value in [f64::MAX, f64::INFINITY, 1e39] {
            assert_eq!(T::from_f64(value).to_f64(), infinite);
        }
        assert!(T::from_f64(f64::NAN).to_f64().is_nan());
        assert_eq!(T::from_f64(-5e-324).to_f64().to_bits(), (-0.0f64).to_bits());
    }
    between(f16::from_bits, f16::INFINITY.to_bits());
    between(bf16::from_bits, bf16::INFINITY.to_bits());
}
