//! Finite convolution of sampled functions: `z(x) = integral from 0 to x of f(t) g(x - t) dt`.
//!
//! With samples `h` apart, `h * full[k]` (what `h * conv(f, g)` gives) is the Riemann sum: both
//! end points count fully, and the error is of order `h`. Each [`Rule`] corrects the ends, so that
//! the cost stays that of one or two convolutions by FFT:
//!
//! - trapezoid: `h * (full[k] - (f[0] g[k] + f[k] g[0]) / 2)`, order 2;
//! - Simpson: weights 1/3, 4/3, 2/3, .. 1/3 through a second convolution with `(-1)^j f[j]`, and
//!   the 3/8 rule on the first three steps where `k` is odd, order 4;
//! - Gregory (1670): end corrections by finite differences, `c[a]` on the samples next to both
//!   ends, any order.
//!
//! Where `k` is too small for a rule, both functions are interpolated over their first samples and
//! the product of the polynomials is integrated, so that the order holds from the first step on.

mod rule;

use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};
use num_traits::Float;

use super::circular::{Geometry, Operand, Pairing, sums};
use super::fft::next_fast_len;
use super::{CircularMethod, CircularOperation, Scalar};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::shape::check_elements;
pub use rule::Rule;
use rule::Weights;

/// Finite convolution of functions sampled at `0, h, 2 h, ..`.
///
/// ```
/// use ndarray::Array1;
/// use ndconv::signal::{FiniteConvolution, Rule};
/// let h = 0.1;
/// let x: Array1<f64> = Array1::from_iter((0..51).map(|i| i as f64 * h));
/// let (f, g) = (x.mapv(|x| (-x).exp()), x.mapv(|x| 2.0 * (-2.0 * x).exp()));
/// let exact = x.mapv(|x| 2.0 * ((-x).exp() - (-2.0 * x).exp()));
/// let error = |rule| -> ndconv::Result<f64> {
///     let z = FiniteConvolution::new(h, rule)?.apply(&f, &g)?;
///     Ok(z.iter().zip(&exact).fold(0.0, |m, (z, e)| (z - e).abs().max(m)))
/// };
/// assert!((error(Rule::Riemann)? - 0.2).abs() < 1e-12);
/// assert!((error(Rule::Trapezoid)? - 4.17e-4).abs() < 1e-6);
/// assert!(error(Rule::Gregory(6))? < 2e-7);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FiniteConvolution {
    step: f64,
    rule: Rule,
}

/// A value and an estimate of its error.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate<S: Scalar> {
    /// The finite convolution.
    pub value: ArrayD<S>,
    /// About `|value - exact|`: what halving the step to this one changed, over `2^order - 1`.
    pub error: ArrayD<S::Real>,
}

impl FiniteConvolution {
    /// For samples `step` apart.
    ///
    /// # Errors
    /// [`Error::Argument`] for a step that is not a positive number, or a Gregory order outside
    /// 2 to 10.
    pub fn new(step: f64, rule: Rule) -> Result<Self> {
        if !(step.is_finite() && step > 0.0) {
            return Err(Error::argument("step", "a positive number", step));
        }
        Ok(FiniteConvolution {
            step,
            rule: rule.checked()?,
        })
    }

    /// `z[k]`, about the integral from 0 to `k h`; `z[0]` is 0 by every rule but Riemann's.
    ///
    /// # Shapes
    /// `f` and `g` have one number of samples, at least 1, on the last axis; the others broadcast,
    /// and the result has the shape that gives.
    ///
    /// # Errors
    /// [`Error::Shape`] otherwise.
    pub fn apply<S, A, B, D, E>(
        &self,
        f: &ArrayBase<A, D>,
        g: &ArrayBase<B, E>,
    ) -> Result<ArrayD<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let geometry = Geometry::new(f.shape(), g.shape(), &[-1])?;
        let n = geometry.dims()[0];
        let weights = Weights::new(self.rule, n);
        let [f, g] = [geometry.boxes(f), geometry.boxes(g)];
        let pairing = geometry.pairing(Operand::Z, Operand::X, Operand::Y);
        let convolve = |f: &[S]| linear(CircularOperation::Convolve, n, [f, &g], &pairing);
        let mut z = convolve(&f)?;
        if weights.alternating {
            let other = convolve(&alternate(&f, n))?;
            for (z, v) in z.chunks_mut(n).zip(other.chunks(n)) {
                for (k, (z, v)) in z.iter_mut().zip(v).enumerate() {
                    *z += v.scale(real::<S>(weights.share(k)));
                }
            }
        }
        let step = real::<S>(self.step);
        for (o, z) in z.chunks_mut(n).enumerate() {
            for &(i, j) in pairing.of(o) {
                let (f, g) = (&f[i * n..][..n], &g[j * n..][..n]);
                for (k, z) in z.iter_mut().enumerate() {
                    if k < weights.first() {
                        *z = S::zero();
                    }
                    weights.corrections(k, |a, b, c| *z += (f[a] * g[b]).scale(real::<S>(c)));
                    *z = z.scale(step);
                }
            }
        }
        let shape = geometry.shape(Operand::Z);
        geometry.array(Operand::Z, &shape, z)
    }

    /// The vector-Jacobian products of [`FiniteConvolution::apply`] for `dz`: the gradients in `f`
    /// and `g`, summed over what was broadcast.
    ///
    /// # Shapes
    /// `dz` has the result's shape, the gradients those of `f` and `g`.
    ///
    /// # Errors
    /// [`Error::Shape`] otherwise.
    pub fn apply_vjp<S, A, B, C, D, E, F>(
        &self,
        f: &ArrayBase<A, D>,
        g: &ArrayBase<B, E>,
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
        let geometry = Geometry::new(f.shape(), g.shape(), &[-1])?;
        let shape = geometry.shape(Operand::Z);
        if dz.shape() != shape {
            return Err(Error::shape("dz", format!("{shape:?}"), dz.shape()));
        }
        let n = geometry.dims()[0];
        let weights = Weights::new(self.rule, n);
        let (shape_f, shape_g) = (f.shape(), g.shape());
        let [f, g] = [geometry.boxes(f), geometry.boxes(g)];
        let step = real::<S>(self.step);
        let dz: Vec<S> = geometry.boxes(dz).iter().map(|v| v.scale(step)).collect();
        // what reaches the convolutions: none where the start weights rule
        let through = |share: &dyn Fn(usize) -> f64| -> Vec<S> {
            let weight = |i: usize| {
                let k = i % n;
                if k < weights.first() { 0.0 } else { share(k) }
            };
            let scaled = dz.iter().enumerate();
            scaled.map(|(i, v)| v.scale(real::<S>(weight(i)))).collect()
        };
        let to_f = geometry.pairing(Operand::X, Operand::Y, Operand::Z);
        let to_g = geometry.pairing(Operand::Y, Operand::X, Operand::Z);
        let correlate =
            |a: &[S], b: &[S], pairing| linear(CircularOperation::Correlate, n, [a, b], pairing);
        let du = through(&|_| 1.0);
        let mut df = correlate(&g, &du, &to_f)?;
        let mut dg = correlate(&f, &du, &to_g)?;
        if weights.alternating {
            let dv = through(&|k| weights.share(k));
            let other = alternate(&correlate(&g, &dv, &to_f)?, n);
            df.iter_mut().zip(other).for_each(|(d, o)| *d += o);
            let other = correlate(&alternate(&f, n), &dv, &to_g)?;
            dg.iter_mut().zip(other).for_each(|(d, o)| *d += o);
        }
        let pairing = geometry.pairing(Operand::Z, Operand::X, Operand::Y);
        for (o, dz) in dz.chunks(n).enumerate() {
            for &(i, j) in pairing.of(o) {
                let (i, j) = (i * n, j * n);
                for (k, dz) in dz.iter().enumerate() {
                    weights.corrections(k, |a, b, c| {
                        let dz = dz.scale(real::<S>(c));
                        df[i + a] += g[j + b].conj() * dz;
                        dg[j + b] += f[i + a].conj() * dz;
                    });
                }
            }
        }
        Ok((
            geometry.array(Operand::X, shape_f, df)?,
            geometry.array(Operand::Y, shape_g, dg)?,
        ))
    }

    /// [`FiniteConvolution::apply`] with an estimate of the error from a second run on every other
    /// sample (Richardson).
    ///
    /// The estimate holds for functions as smooth as the rule's order asks for; where they are
    /// not, it is still of the size of the error, as the difference of two approximations.
    ///
    /// # Shapes
    /// As [`FiniteConvolution::apply`], with at least 5 samples.
    ///
    /// # Errors
    /// As [`FiniteConvolution::apply`].
    ///
    /// ```
    /// use ndarray::Array1;
    /// use ndconv::signal::{FiniteConvolution, Rule};
    /// let f = Array1::from_iter((0..101).map(|i| (-0.05 * f64::from(i)).exp()));
    /// let g = f.mapv(|f| f * f);
    /// let z = FiniteConvolution::new(0.05, Rule::Gregory(4))?.with_error(&f, &g)?;
    /// let x = 100.0 * 0.05f64;
    /// let error = (z.value[100] - (-x).exp() + (-2.0 * x).exp()).abs();
    /// assert!(error < 2.0 * z.error[100] && z.error[100] < 1e-6);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn with_error<S, A, B, D, E>(
        &self,
        f: &ArrayBase<A, D>,
        g: &ArrayBase<B, E>,
    ) -> Result<Estimate<S>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let value = self.apply(f, g)?;
        let n = value.shape()[value.ndim() - 1];
        if n < 5 {
            let expected = "at least 5 samples for an error estimate";
            return Err(Error::shape("f and g", expected, n));
        }
        let twice = FiniteConvolution {
            step: 2.0 * self.step,
            rule: self.rule,
        };
        let coarse = twice.apply(&every_other(f), &every_other(g))?;
        let share = real::<S>(1.0 / (f64::from(self.rule.order() as u32).exp2() - 1.0));
        let half = n.div_ceil(2);
        let (fine, coarse): (Vec<S>, Vec<S>) = (
            value.iter().copied().collect(),
            coarse.into_iter().collect(),
        );
        let mut error = Vec::with_capacity(fine.len());
        for (fine, coarse) in fine.chunks(n).zip(coarse.chunks(half)) {
            let at = |k: usize| Float::sqrt((fine[2 * k] - coarse[k]).norm_sqr()) * share;
            error.extend((0..n).map(|k| {
                let (below, above) = (k / 2, k.div_ceil(2).min(half - 1));
                Float::max(at(below), at(above))
            }));
        }
        let error = ArrayD::from_shape_vec(IxDyn(value.shape()), error)
            .map_err(|e| Error::shape("error", "the shape of the value", e))?;
        Ok(Estimate { value, error })
    }
}

/// [`FiniteConvolution`] in one call: `z(x) = integral from 0 to x of f(t) g(x - t) dt`.
///
/// # Shapes
/// As [`FiniteConvolution::apply`].
///
/// # Errors
/// As [`FiniteConvolution::new`] and [`FiniteConvolution::apply`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Rule, finite_convolve};
/// let one = arr1(&[1.0, 1.0, 1.0]);
/// let x = finite_convolve(&one, &one, 0.5, Rule::Trapezoid)?;
/// assert_eq!(x.as_slice().unwrap(), [0.0, 0.5, 1.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn finite_convolve<S, A, B, D, E>(
    f: &ArrayBase<A, D>,
    g: &ArrayBase<B, E>,
    step: f64,
    rule: Rule,
) -> Result<ArrayD<S>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
    E: Dimension,
{
    FiniteConvolution::new(step, rule)?.apply(f, g)
}

/// The first `n` elements of the linear convolution or correlation of rows of `n`: a circular one
/// of rows with room for what would come round.
fn linear<S: Scalar>(
    operation: CircularOperation,
    n: usize,
    operands: [&[S]; 2],
    pairing: &Pairing,
) -> Result<Vec<S>> {
    let room = next_fast_len(2 * n - 1);
    let outputs = pairing.outputs();
    check_elements("the padded samples", &[outputs, room])?;
    let padded = operands.map(|rows| {
        let mut padded = vec![S::zero(); rows.len() / n * room];
        let pairs = padded.chunks_mut(room).zip(rows.chunks(n));
        pairs.for_each(|(to, from)| to[..n].copy_from_slice(from));
        padded
    });
    let [a, b] = &padded;
    let result = sums(operation, CircularMethod::Auto, &[room], [a, b], pairing);
    Ok(result
        .chunks(room)
        .flat_map(|row| &row[..n])
        .copied()
        .collect())
}

/// `(-1)^j x[j]` in every row.
fn alternate<S: Scalar>(x: &[S], n: usize) -> Vec<S> {
    let signed = |(j, &v): (usize, &S)| if (j % n).is_multiple_of(2) { v } else { -v };
    x.iter().enumerate().map(signed).collect()
}

/// The samples with even numbers on the last axis.
fn every_other<S, A, D>(x: &ArrayBase<A, D>) -> ArrayD<S>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    let mut x = x.view().into_dyn();
    let last = ndarray::Axis(x.ndim() - 1);
    x.slice_axis_inplace(last, ndarray::Slice::new(0, None, 2));
    x.to_owned()
}

fn real<S: Scalar>(value: f64) -> S::Real {
    <S::Real as Element>::from_f64(value)
}
