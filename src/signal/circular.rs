//! Circular convolution and correlation: sums in which positions are counted modulo the length.
//!
//! For boxes of `N` elements, indices modulo `N` along every circular axis:
//!
//! - [`circular_convolve`]: `z[n] = sum over k of x[k] y[n - k]`, spectrum `F x * F y`;
//! - [`circular_correlate`]: `z[n] = sum over k of conj(x[k]) y[k + n]`, spectrum
//!   `conj(F x) * F y`. It is the `ccorr(x, y)` of holographic reduced representations, HolE and
//!   CompGCN: the **first** argument is conjugated (for real data: reversed).
//! - [`circular_correlate_conj_second`]: `z[n] = sum over k of x[k + n] conj(y[k])`, which is
//!   `circular_correlate(y, x)` and, for real data, `circular_correlate(x, y)` at `-n`.
//!
//! The other axes are batch and broadcast as in NumPy. A transform over the batch axis as well
//! (`fft2` on a matrix of rows) would mix the rows; name the axes with [`Circular::over`] where
//! several are meant.
//!
//! The gradients (Theano, CompGCN and others needed them by hand) are circular operations too:
//! of `z = correlate(x, y)`: `dx = correlate(dz, y)`, `dy = convolve(dz, x)`; of
//! `z = convolve(x, y)`: `dx = correlate(y, dz)`, `dy = correlate(x, dz)`. For complex data the
//! gradient is `dL/dRe + i dL/dIm`, as in PyTorch.

mod engine;
mod geometry;
mod inverse;
mod lanes;
mod last_axis;
mod spectrum;
mod wrap;

pub use inverse::{circular_convolve_inverse, circular_correlate_inverse, circular_wiener_inverse};
pub use last_axis::{
    circular_convolve, circular_convolve_vjp, circular_correlate, circular_correlate_conj_second,
    circular_correlate_vjp,
};
pub use wrap::{circulant, circular_convolve_to, involution, periodic_sum};

pub(crate) use engine::{both_sums, sums};
pub(crate) use geometry::{Geometry, Operand, Pairing};

use std::fmt;
use std::str::FromStr;

use ndarray::{ArrayBase, ArrayD, Data, Dimension};

use super::Scalar;
use crate::error::{Error, Result};

/// Which of the two circular operations.
///
/// ```
/// use ndconv::signal::CircularOperation;
/// assert_eq!("correlate".parse::<CircularOperation>()?, CircularOperation::Correlate);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircularOperation {
    /// `z[n] = sum over k of x[k] y[n - k]`.
    Convolve,
    /// `z[n] = sum over k of conj(x[k]) y[k + n]`.
    Correlate,
}

impl CircularOperation {
    /// `convolve` or `correlate`.
    pub fn name(self) -> &'static str {
        match self {
            CircularOperation::Convolve => "convolve",
            CircularOperation::Correlate => "correlate",
        }
    }

    /// The operation and the operands whose result is the gradient in x.
    pub(crate) fn gradient_in_x(self) -> (Self, Operand, Operand) {
        match self {
            CircularOperation::Convolve => (Self::Correlate, Operand::Y, Operand::Z),
            CircularOperation::Correlate => (Self::Correlate, Operand::Z, Operand::Y),
        }
    }

    /// The operation and the operands whose result is the gradient in y.
    pub(crate) fn gradient_in_y(self) -> (Self, Operand, Operand) {
        match self {
            CircularOperation::Convolve => (Self::Correlate, Operand::X, Operand::Z),
            CircularOperation::Correlate => (Self::Convolve, Operand::Z, Operand::X),
        }
    }
}

impl fmt::Display for CircularOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CircularOperation {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::Convolve, Self::Correlate]
            .into_iter()
            .find(|o| o.name() == s)
            .ok_or_else(|| Error::argument("circular operation", "convolve or correlate", s))
    }
}

/// How a circular operation is computed.
///
/// ```
/// use ndconv::signal::{Circular, CircularMethod};
/// let (x, y) = (ndarray::arr1(&[1.0, 2.0, 3.0]), ndarray::arr1(&[0.0, 1.0, 0.0]));
/// let exact = Circular::default().method(CircularMethod::Direct).correlate(&x, &y)?;
/// assert_eq!(exact.as_slice().unwrap(), [2.0, 1.0, 3.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CircularMethod {
    /// The sums as they are defined: exact on integers, `N^2` products.
    Direct,
    /// Through the spectra: rounding of the order of the precision, `N log N` products.
    Fft,
    /// `Direct` for boxes of few elements, else `Fft`.
    #[default]
    Auto,
}

impl CircularMethod {
    /// Elements of a box up to which the direct sums are faster, as measured with AVX2 (`f32`, `f64`,
    /// complex).
    fn is_direct<S: Scalar>(self, len: usize) -> bool {
        match self {
            CircularMethod::Direct => true,
            CircularMethod::Fft => false,
            CircularMethod::Auto => len <= if S::COMPLEX { 16 } else { 32 },
        }
    }
}

/// Circular operations over chosen axes by a chosen method; the last axis and
/// [`CircularMethod::Auto`] by default.
///
/// ```
/// use ndarray::arr2;
/// use ndconv::signal::Circular;
/// // two images of 2 x 2, circular in both axes
/// let (x, y) = (arr2(&[[1.0, 2.0], [3.0, 4.0]]), arr2(&[[0.0, 1.0], [0.0, 0.0]]));
/// let z = Circular::over(&[-2, -1]).convolve(&x, &y)?;
/// assert_eq!(z, arr2(&[[2.0, 1.0], [4.0, 3.0]]).into_dyn());
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circular {
    axes: Vec<isize>,
    method: CircularMethod,
}

impl Default for Circular {
    fn default() -> Self {
        Circular::over(&[-1])
    }
}

impl Circular {
    /// Circular along these axes of the broadcast shape; a negative number counts from its end.
    pub fn over(axes: &[isize]) -> Self {
        Circular {
            axes: axes.to_vec(),
            method: CircularMethod::Auto,
        }
    }

    /// With this method.
    pub fn method(mut self, method: CircularMethod) -> Self {
        self.method = method;
        self
    }

    /// `z[n] = sum over k of x[k] y[n - k]`.
    ///
    /// # Shapes
    /// The circular axes of `x` and `y` have the same sizes, at least 1; the others broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`] otherwise, [`Error::Argument`] for axes that are not there.
    pub fn convolve<S, A, B, D, E>(
        &self,
        x: &ArrayBase<A, D>,
        y: &ArrayBase<B, E>,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        self.apply(CircularOperation::Convolve, x, y)
    }

    /// `z[n] = sum over k of conj(x[k]) y[k + n]`.
    ///
    /// # Shapes
    /// As [`Circular::convolve`].
    ///
    /// # Errors
    /// As [`Circular::convolve`].
    pub fn correlate<S, A, B, D, E>(
        &self,
        x: &ArrayBase<A, D>,
        y: &ArrayBase<B, E>,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        self.apply(CircularOperation::Correlate, x, y)
    }

    /// The operation that is named by a value.
    ///
    /// # Shapes
    /// As [`Circular::convolve`].
    ///
    /// # Errors
    /// As [`Circular::convolve`].
    pub fn apply<S, A, B, D, E>(
        &self,
        operation: CircularOperation,
        x: &ArrayBase<A, D>,
        y: &ArrayBase<B, E>,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let geometry = Geometry::new(x.shape(), y.shape(), &self.axes)?;
        let shape = geometry.shape(Operand::Z);
        let boxes = [&*geometry.boxes(x), &*geometry.boxes(y)];
        let pairing = geometry.pairing(Operand::Z, Operand::X, Operand::Y);
        let z = sums(operation, self.method, geometry.dims(), boxes, &pairing);
        geometry.array(Operand::Z, &shape, z)
    }

    /// The vector-Jacobian products of [`Circular::apply`] for `dz`: the gradients in `x` and `y`.
    ///
    /// # Shapes
    /// `dz` has the result's shape, the gradients those of `x` and `y`: what was broadcast is
    /// summed.
    ///
    /// # Errors
    /// As [`Circular::convolve`].
    pub fn apply_vjp<S, A, B, C, D, E, F>(
        &self,
        operation: CircularOperation,
        x: &ArrayBase<A, D>,
        y: &ArrayBase<B, E>,
        dz: &ArrayBase<C, F>,
    ) -> Result<(ArrayD<S>, ArrayD<S>)>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        C: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
        F: Dimension,
    {
        let geometry = Geometry::new(x.shape(), y.shape(), &self.axes)?;
        let shape = geometry.shape(Operand::Z);
        if dz.shape() != shape {
            return Err(Error::shape("dz", format!("{shape:?}"), dz.shape()));
        }
        let boxes = [geometry.boxes(x), geometry.boxes(y), geometry.boxes(dz)];
        let dims = geometry.dims();
        let ways = [operation.gradient_in_x(), operation.gradient_in_y()];
        let one_to_one = boxes.iter().all(|b| b.len() == boxes[0].len());
        let both = match one_to_one {
            true => both_sums(ways, self.method, dims, boxes.each_ref().map(|b| &**b)),
            false => None,
        };
        let [dx, dy] = both.unwrap_or_else(|| {
            [Operand::X, Operand::Y].map(|of| {
                let (operation, a, b) = ways[of as usize];
                let pairing = geometry.pairing(of, a, b);
                let operands = [a, b].map(|o: Operand| &*boxes[o as usize]);
                sums(operation, self.method, dims, operands, &pairing)
            })
        });
        Ok((
            geometry.array(Operand::X, x.shape(), dx)?,
            geometry.array(Operand::Y, y.shape(), dy)?,
        ))
    }
}
