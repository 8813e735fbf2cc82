//! Convolution mathematics on arrays: convolve and correlate 1-D to 4-D, circular operations,
//! correlation analysis, sampled functions; each with its gradient.
//!
//! Every definition stands once, in one notation, in `docs/math.md`; the function's own page
//! repeats the formula it computes and names the library that agrees with it.

mod align;
mod boundary;
pub(crate) mod circular;
mod convolution;
mod cost;
mod direct;
pub mod fft;
mod grid;
pub mod hrr;
mod job;
mod kept;
pub mod kernel;
mod line;
mod linear;
pub mod ndimage;
mod quadrature;
mod scalar;
mod smear;
mod spectral;
mod xcorr;

pub use align::{Align, Mode, correlation_lags};
pub use boundary::Boundary;
pub use circular::{
    Circular, CircularMethod, CircularOperation, circulant, circular_convolve,
    circular_convolve_inverse, circular_convolve_to, circular_convolve_vjp, circular_correlate,
    circular_correlate_conj_second, circular_correlate_inverse, circular_correlate_vjp,
    circular_wiener_inverse, involution, periodic_sum,
};
pub use convolution::{Convolution, ConvolutionGradients, convolve, correlate};
pub use cost::{Choice, Method};
pub use quadrature::{Estimate, FiniteConvolution, Rule, finite_convolve};
pub use rustfft::num_complex::Complex;
pub use scalar::{Real, Scalar};
pub use smear::{Edges, Smear, Smearing};
pub use xcorr::{Correlogram, Scaling, Xcorr, xcorr, xcov};
