//! Convolution mathematics on arrays: convolve and correlate 1-D to 4-D, circular operations,
//! correlation analysis, sampled functions; each with its gradient.
//!
//! Every definition stands once, in one notation, in `docs/math.md`; the function's own page
//! repeats the formula it computes and names the library that agrees with it.

mod circular;
pub mod fft;
pub mod hrr;
mod quadrature;
mod scalar;
mod smear;

pub use circular::{
    Circular, CircularMethod, CircularOperation, circulant, circular_convolve,
    circular_convolve_backward, circular_convolve_inverse, circular_convolve_to,
    circular_correlate, circular_correlate_backward, circular_correlate_conj_second,
    circular_correlate_inverse, circular_wiener_inverse, involution, periodic_sum,
};
pub(crate) use circular::{Geometry, Operand, Pairing, sums};
pub use quadrature::{Estimate, FiniteConvolution, Rule, finite_convolve};
pub use rustfft::num_complex::Complex;
pub use scalar::{Real, Scalar};
pub use smear::{Edges, Smear, Smearing};
