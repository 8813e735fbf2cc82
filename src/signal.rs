//! Convolution mathematics on arrays: convolve and correlate 1-D to 4-D, circular operations,
//! correlation analysis, sampled functions; each with its gradient.
//!
//! Every definition stands once, in one notation, in `docs/math.md`; the function's own page
//! repeats the formula it computes and names the library that agrees with it.

mod align;
mod boundary;
mod convolution;
mod cost;
mod direct;
pub mod fft;
mod grid;
mod job;
pub mod kernel;
mod linear;
pub mod ndimage;
mod scalar;
mod spectral;
mod xcorr;

pub use align::{Align, Mode, correlation_lags};
pub use boundary::Boundary;
pub use convolution::{Convolution, ConvolutionGradients, convolve, correlate};
pub use cost::{Choice, Method};

pub use rustfft::num_complex::Complex;
pub use scalar::{Real, Scalar};
pub use xcorr::{Correlogram, Scaling, Xcorr, xcorr, xcov};
