//! Correlation analysis: how alike two signals are at every lag.

use ndarray::{Array1, Array2, ArrayBase, Data, Ix1, Ix2};
use num_traits::{Float as _, Zero};

use super::align::{Region, names};
use super::cost::{Method, choose};
use super::linear::{Linear, Shared, reversed_conj};
use super::scalar::Scalar;
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// What a correlation is divided by at lag `k`; `N` is the length of the signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scaling {
    /// Nothing.
    #[default]
    None,
    /// `N`.
    Biased,
    /// `N - |k|`, the number of products in the sum.
    Unbiased,
    /// `sqrt(sum |x|^2 * sum |y|^2)`: a signal with itself has 1 at lag 0, and nothing is larger.
    Coeff,
}

names!(Scaling, "scaling": None "none", Biased "biased", Unbiased "unbiased", Coeff "coeff");

/// Linear correlation of finite signals at lags `-m..=m`, as MATLAB's and Octave's `xcorr`:
///
/// ```text
/// R[k] = sum over i of x[i + k] * conj(y[i])
/// ```
///
/// The shorter signal is taken to end in zeros. (The circular version is another function:
/// `circular_correlate`, which conjugates the **first** operand.)
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::Xcorr;
/// let r = Xcorr::new().of(&arr1(&[2.0, 0.0, 0.0, 1.0]), &arr1(&[1.0, 0.0, -1.0, 2.0]))?;
/// assert_eq!(r.lags, [-3, -2, -1, 0, 1, 2, 3]);
/// assert_eq!(r.values, arr1(&[4.0, -2.0, 0.0, 4.0, -1.0, 0.0, 1.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Xcorr {
    scaling: Scaling,
    maxlag: Option<usize>,
    centred: bool,
    method: Method,
}

/// A function of the lag.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlogram<A> {
    /// The lag of every value (or row): a positive one has `x` behind `y`.
    pub lags: Vec<isize>,
    /// The values.
    pub values: A,
}

impl Xcorr {
    /// Unscaled, at all lags, means kept.
    pub fn new() -> Self {
        Xcorr::default()
    }

    /// What the values are divided by.
    pub fn scaling(mut self, scaling: Scaling) -> Self {
        self.scaling = scaling;
        self
    }

    /// The largest lag. Lags at which the signals do not meet give 0.
    pub fn maxlag(mut self, maxlag: usize) -> Self {
        self.maxlag = Some(maxlag);
        self
    }

    /// Removes each signal's mean first: covariance (`xcov`), and with [`Scaling::Coeff`] the
    /// correlation coefficient.
    pub fn centred(mut self) -> Self {
        self.centred = true;
        self
    }

    /// How the sums are computed.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The correlation of `x` with `y`.
    ///
    /// With [`Scaling::Coeff`] a signal of zeros (or, centred, a constant one) gives NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty signal, and for unequal lengths with a scaling;
    /// [`Error::TooLarge`] for a `maxlag` that memory cannot hold.
    pub fn of<S, A, B>(
        &self,
        x: &ArrayBase<A, Ix1>,
        y: &ArrayBase<B, Ix1>,
    ) -> Result<Correlogram<Array1<S>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
    {
        let (x, y) = (self.centre(x.to_vec()), self.centre(y.to_vec()));
        let p = self.problem(x.len(), y.len(), 1)?;
        let values = p.compute(self.chosen::<S>(&p), &x, &reversed_conj(&y, y.len()))?;
        let lags = lags(&p);
        let norm = self.norm(&x, &y);
        let factors = self.factors::<S>(&lags, x.len(), norm);
        let values = std::iter::zip(values, factors)
            .map(|(v, f)| v.scale(f))
            .collect();
        Ok(Correlogram { lags, values })
    }

    /// The correlation of a signal with itself.
    ///
    /// # Errors
    /// Those of [`Xcorr::of`].
    ///
    /// ```
    /// use ndarray::arr1;
    /// use ndconv::signal::{Scaling, Xcorr};
    /// let r = Xcorr::new().centred().scaling(Scaling::Coeff).auto(&arr1(&[1.0, 2.0, 4.0]))?;
    /// assert!((r.values[2] - 1.0f64).abs() < 1e-15);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn auto<S, A>(&self, x: &ArrayBase<A, Ix1>) -> Result<Correlogram<Array1<S>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
    {
        self.of(x, x)
    }

    /// Every column of a matrix with every column.
    ///
    /// # Shapes
    /// `x` is `(length, P)`; the values are `(lags, P * P)`, and column `P * i + j` is that of
    /// column `i` with column `j`, counted from 0.
    ///
    /// # Errors
    /// Those of [`Xcorr::of`].
    pub fn columns<S, A>(&self, x: &ArrayBase<A, Ix2>) -> Result<Correlogram<Array2<S>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
    {
        let count = x.ncols();
        let columns: Vec<Vec<S>> = x
            .columns()
            .into_iter()
            .map(|c| self.centre(c.to_vec()))
            .collect();
        let p = self.problem(x.nrows(), x.nrows(), count * count)?;
        let lags = lags(&p);
        let mut values = Array2::zeros((lags.len(), check_elements("pairs", &[count, count])?));
        let single = Linear { batch: 1, ..p };
        let method = self.chosen::<S>(&single);
        for i in 0..count {
            for j in 0..count {
                let (x, y) = (&columns[i], &columns[j]);
                let r = single.compute(method, x, &reversed_conj(y, y.len()))?;
                let factors = self.factors::<S>(&lags, x.len(), self.norm(x, y));
                let mut column = values.column_mut(count * i + j);
                for ((to, r), f) in column.iter_mut().zip(r).zip(factors) {
                    *to = r.scale(f);
                }
            }
        }
        Ok(Correlogram { lags, values })
    }

    /// The gradients of [`Xcorr::of`] in `x` and `y` for the gradient `dr` of its values; of
    /// [`Xcorr::auto`] the gradient is the sum of the two.
    ///
    /// # Errors
    /// Those of [`Xcorr::of`], and [`Error::Shape`] for another number of lags.
    ///
    /// ```
    /// use ndarray::arr1;
    /// use ndconv::signal::Xcorr;
    /// let (x, y) = (arr1(&[1.0, 2.0]), arr1(&[3.0, 5.0]));
    /// let (dx, dy) = Xcorr::new().maxlag(0).vjp(&x, &y, &arr1(&[1.0]))?;
    /// assert_eq!((dx, dy), (y, x)); // of the scalar product
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn vjp<S, A, B, C>(
        &self,
        x: &ArrayBase<A, Ix1>,
        y: &ArrayBase<B, Ix1>,
        dr: &ArrayBase<C, Ix1>,
    ) -> Result<(Array1<S>, Array1<S>)>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        C: Data<Elem = S>,
    {
        let (x, y) = (self.centre(x.to_vec()), self.centre(y.to_vec()));
        let p = self.problem(x.len(), y.len(), 1)?;
        let lags = lags(&p);
        if dr.len() != lags.len() {
            return Err(Error::shape("dr", format!("{} lags", lags.len()), dr.len()));
        }
        let kernel = reversed_conj(&y, y.len());
        let method = self.chosen::<S>(&p);
        let factors = self.factors::<S>(&lags, x.len(), self.norm(&x, &y));
        let scaled: Vec<S> = dr.iter().zip(&factors).map(|(d, &f)| d.scale(f)).collect();
        let (mut dx, dk) = p.gradients(method, &x, &kernel, &scaled)?;
        let mut dy = reversed_conj(&dk, y.len());
        if self.scaling == Scaling::Coeff {
            // the norm depends on both: d r = .. - r * (d|x|/|x| + d|y|/|y|)
            let r = p.compute(method, &x, &kernel)?;
            let along: S::Real = r
                .iter()
                .zip(&scaled)
                .map(|(&r, &d)| (r.conj() * d).re())
                .sum();
            project(&mut dx, &x, along);
            project(&mut dy, &y, along);
        }
        Ok((self.centre(dx).into(), self.centre(dy).into()))
    }

    fn problem(&self, n: usize, k: usize, batch: usize) -> Result<Linear> {
        if n == 0 || k == 0 || batch == 0 {
            return Err(Error::shape("xcorr", "signals that are not empty", (n, k)));
        }
        if self.scaling != Scaling::None && n != k {
            let expected = "equal lengths for a scaling other than none";
            return Err(Error::shape("xcorr", expected, (n, k)));
        }
        let largest = self.maxlag.unwrap_or(n.max(k) - 1);
        let len = largest
            .checked_mul(2)
            .and_then(|l| l.checked_add(1))
            .unwrap_or(usize::MAX);
        check_elements("the lags", &[len])?;
        Ok(Linear {
            batch,
            shared: Shared::Neither,
            n: vec![n],
            k: vec![k],
            region: vec![Region {
                start: k as isize - 1 - largest as isize,
                len,
            }],
        })
    }

    fn chosen<S: Scalar>(&self, p: &Linear) -> Method {
        match self.method {
            Method::Auto => choose::<S>(p).method,
            method => method,
        }
    }

    fn centre<S: Scalar>(&self, mut x: Vec<S>) -> Vec<S> {
        if self.centred && !x.is_empty() {
            let sum = x.iter().fold(S::zero(), |s, &v| s + v);
            let mean = sum.scale(<S::Real as Scalar>::of(1.0 / x.len() as f64));
            x.iter_mut().for_each(|v| *v -= mean);
        }
        x
    }

    /// `sqrt(sum |x|^2 * sum |y|^2)`.
    fn norm<S: Scalar>(&self, x: &[S], y: &[S]) -> S::Real {
        let energy = |x: &[S]| x.iter().map(|v| v.norm_sqr()).sum::<S::Real>();
        energy(x).sqrt() * energy(y).sqrt()
    }

    /// What the value at every lag is multiplied with.
    fn factors<S: Scalar>(&self, lags: &[isize], n: usize, norm: S::Real) -> Vec<S::Real> {
        let over = |count: usize| <S::Real as Scalar>::of(1.0 / count as f64);
        let factor = |&lag: &isize| match self.scaling {
            Scaling::None => over(1),
            Scaling::Biased => over(n),
            // beyond the signals' length there is no product to take the mean of
            Scaling::Unbiased if lag.unsigned_abs() >= n => Zero::zero(),
            Scaling::Unbiased => over(n - lag.unsigned_abs()),
            Scaling::Coeff => over(1) / norm,
        };
        lags.iter().map(factor).collect()
    }
}

/// Takes `along / |x|^2` times `x` off the gradient.
fn project<S: Scalar>(dx: &mut [S], x: &[S], along: S::Real) {
    let energy: S::Real = x.iter().map(|v| v.norm_sqr()).sum();
    dx.iter_mut()
        .zip(x)
        .for_each(|(d, v)| *d -= v.scale(along / energy));
}

fn lags(p: &Linear) -> Vec<isize> {
    let Region { start, len } = p.region[0];
    let first = start - (p.k[0] as isize - 1);
    (first..first + len as isize).collect()
}

/// [`Xcorr::of`] at all lags up to `maxlag`, if one is given.
///
/// # Errors
/// Those of [`Xcorr::of`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Scaling, xcorr};
/// let r = xcorr(&arr1(&[1.0, 2.0]), &arr1(&[3.0, 4.0]), Scaling::Biased, Some(1))?;
/// assert_eq!(r.values, arr1(&[2.0, 5.5, 3.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn xcorr<S, A, B>(
    x: &ArrayBase<A, Ix1>,
    y: &ArrayBase<B, Ix1>,
    scaling: Scaling,
    maxlag: Option<usize>,
) -> Result<Correlogram<Array1<S>>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
{
    let maxlag = maxlag.or(Some(x.len().max(y.len()).saturating_sub(1)));
    Xcorr {
        scaling,
        maxlag,
        ..Xcorr::new()
    }
    .of(x, y)
}

/// [`xcorr`] of the signals without their means: cross-covariance.
///
/// # Errors
/// Those of [`Xcorr::of`].
pub fn xcov<S, A, B>(
    x: &ArrayBase<A, Ix1>,
    y: &ArrayBase<B, Ix1>,
    scaling: Scaling,
    maxlag: Option<usize>,
) -> Result<Correlogram<Array1<S>>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
{
    let maxlag = maxlag.or(Some(x.len().max(y.len()).saturating_sub(1)));
    Xcorr {
        scaling,
        maxlag,
        ..Xcorr::new()
    }
    .centred()
    .of(x, y)
}
