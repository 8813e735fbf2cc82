//! Convolution mathematics on arrays: convolve and correlate 1-D to 4-D, circular operations,
//! correlation analysis, sampled functions; each with its gradient.
//!
//! Every definition stands once, in one notation, in `docs/math.md`; the function's own page
//! repeats the formula it computes and names the library that agrees with it.

pub mod fft;
mod scalar;

pub use rustfft::num_complex::Complex;
pub use scalar::{Real, Scalar};
