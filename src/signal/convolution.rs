//! `convolve` and `correlate` on arrays: what is convolved along which axes, and how it is aligned.

use ndarray::{Array, ArrayBase, Data, Dimension};

use super::align::{Align, Mode, Op};
use super::boundary::Boundary;
use super::cost::{self, Choice, Method};
use super::job::Job;
use super::scalar::Scalar;
use crate::error::Result;

/// A linear convolution or correlation: mode, alignment, boundary, axes and method.
///
/// ```text
/// convolve   full[m] = sum over j of a[m - j] * b[j]
/// correlate  full[m] = sum over j of a[j + m - (k - 1)] * conj(b[j])        lag m - (k - 1)
/// ```
///
/// per axis, of which [`Mode`] and [`Align`] keep a part. Every axis is reversed in a convolution.
///
/// # Shapes
/// `a` and `b` have `n` and `k` elements along every convolved axis. `b` may have fewer axes than
/// `a`: it then belongs to the last ones. Along the axes that are not convolved the two are paired
/// one by one, or one of them has size 1 and is used for all of the other.
///
/// # Errors
/// Every call gives [`Error::Shape`](crate::Error::Shape) for an empty operand, for more axes in
/// `b` than in `a`, and for `Valid` where neither operand covers the other;
/// [`Error::Geometry`](crate::Error::Geometry) where the library asked for refuses;
/// [`Error::Argument`](crate::Error::Argument) for axes or an origin that do not exist; and
/// [`Error::TooLarge`](crate::Error::TooLarge) for a result that memory cannot hold.
///
/// ```
/// use ndarray::{arr1, arr2};
/// use ndconv::signal::{Convolution, Method, Mode};
/// let rows = arr2(&[[4.0, 5.0, 6.0], [1.0, 0.0, 0.0]]);
/// let filter = Convolution::new(Mode::Full).method(Method::Direct);
/// let out = filter.convolve(&rows, &arr1(&[2.0, 3.0]))?; // every row
/// assert_eq!(out, arr2(&[[8.0, 22.0, 27.0, 18.0], [2.0, 3.0, 0.0, 0.0]]));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Convolution {
    pub(super) mode: Mode,
    pub(super) align: Align,
    pub(super) method: Method,
    pub(super) boundary: Boundary,
    pub(super) axes: Option<Vec<usize>>,
    pub(super) origin: Vec<isize>,
}

/// The gradients of a convolution in its operands, in their shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionGradients<A, B> {
    /// In the first operand.
    pub a: A,
    /// In the second operand.
    pub b: B,
}

impl Convolution {
    /// Along all axes of the second operand, aligned as SciPy, with zeros outside, by
    /// [`Method::Auto`].
    pub fn new(mode: Mode) -> Self {
        Convolution {
            mode,
            ..Convolution::default()
        }
    }

    /// Whose rule aligns the result.
    pub fn align(mut self, align: Align) -> Self {
        self.align = align;
        self
    }

    /// How it is computed.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// What stands beyond the ends of the first operand. `Valid` never looks there.
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// The axes of `a` that are convolved; the others are batch axes.
    pub fn axes(mut self, axes: &[usize]) -> Self {
        self.axes = Some(axes.to_vec());
        self
    }

    /// Shifts the kernel by so many positions per convolved axis, as `scipy.ndimage`'s `origin`;
    /// one number stands for all axes. Only for [`Align::Ndimage`] and [`Mode::Same`].
    pub fn origin(mut self, origin: &[isize]) -> Self {
        self.origin = origin.to_vec();
        self
    }

    /// `a * b`, with `b` reversed along every convolved axis.
    ///
    /// # Errors
    /// Those of the [type](Convolution#errors).
    pub fn convolve<S, A, B, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
    ) -> Result<Array<S, D>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        Job::new::<S>(self, Op::Convolve, a.shape(), b.shape())?.run(a, b)
    }

    /// `sum over j of a[j + lag] * conj(b[j])`: nothing reversed, the second conjugated.
    ///
    /// # Errors
    /// Those of the [type](Convolution#errors).
    ///
    /// ```
    /// use ndarray::arr1;
    /// use ndconv::signal::{Convolution, Mode};
    /// let c = Convolution::new(Mode::Valid).correlate(&arr1(&[1.0, 2.0, 3.0]), &arr1(&[0.0, 1.0]))?;
    /// assert_eq!(c, arr1(&[2.0, 3.0]));
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn correlate<S, A, B, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
    ) -> Result<Array<S, D>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        Job::new::<S>(self, Op::Correlate, a.shape(), b.shape())?.run(a, b)
    }

    /// The gradients of [`convolve`](Convolution::convolve) for the gradient `dz` of its result.
    ///
    /// For complex elements the gradient of a real loss is `dL/d re + i dL/d im`. A constant
    /// boundary has no gradient of its own.
    ///
    /// # Shapes
    /// `dz` has the shape of the result.
    ///
    /// # Errors
    /// Those of the [type](Convolution#errors), and [`Error::Shape`](crate::Error::Shape) for
    /// another `dz`.
    ///
    /// ```
    /// use ndarray::arr1;
    /// use ndconv::signal::{Convolution, Mode};
    /// let (a, b) = (arr1(&[4.0, 5.0, 6.0]), arr1(&[2.0, 3.0]));
    /// let g = Convolution::new(Mode::Valid).convolve_vjp(&a, &b, &arr1(&[1.0, 10.0]))?;
    /// assert_eq!(g.a, arr1(&[3.0, 32.0, 20.0]));
    /// assert_eq!(g.b, arr1(&[65.0, 54.0]));
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn convolve_vjp<S, A, B, C, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
        dz: &ArrayBase<C, D>,
    ) -> Result<ConvolutionGradients<Array<S, D>, Array<S, E>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        C: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        Job::new::<S>(self, Op::Convolve, a.shape(), b.shape())?.gradients(a, b, dz)
    }

    /// The gradients of [`correlate`](Convolution::correlate) for the gradient `dz` of its result.
    ///
    /// # Shapes
    /// As [`convolve_vjp`](Convolution::convolve_vjp).
    ///
    /// # Errors
    /// As [`convolve_vjp`](Convolution::convolve_vjp).
    pub fn correlate_vjp<S, A, B, C, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
        dz: &ArrayBase<C, D>,
    ) -> Result<ConvolutionGradients<Array<S, D>, Array<S, E>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        C: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        Job::new::<S>(self, Op::Correlate, a.shape(), b.shape())?.gradients(a, b, dz)
    }

    /// What [`Method::Auto`] would do with these operands, and what it expects each method to cost.
    ///
    /// # Errors
    /// Those of the [type](Convolution#errors).
    pub fn choose_method<S, A, B, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
    ) -> Result<Choice>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let job = Job::new::<S>(self, Op::Convolve, a.shape(), b.shape())?;
        Ok(cost::choose::<S>(&job.linear))
    }
}

/// [`Convolution::convolve`] along all axes, aligned as SciPy, by the fastest method.
///
/// # Errors
/// Those of [`Convolution`].
///
/// ```
/// use ndarray::arr2;
/// use ndconv::signal::{Mode, convolve};
/// let a = arr2(&[[2.0, 3.0], [3.0, 1.0]]);
/// let b = arr2(&[[4.0, 5.0, 6.0], [0.0, -1.0, 1.0]]);
/// let full = arr2(&[[8.0, 22.0, 27.0, 18.0], [12.0, 17.0, 22.0, 9.0], [0.0, -3.0, 2.0, 1.0]]);
/// assert_eq!(convolve(&a, &b, Mode::Full)?, full);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn convolve<S, A, B, D>(
    a: &ArrayBase<A, D>,
    b: &ArrayBase<B, D>,
    mode: Mode,
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
{
    Convolution::new(mode).convolve(a, b)
}

/// [`Convolution::correlate`] along all axes, aligned as SciPy, by the fastest method.
///
/// # Errors
/// Those of [`Convolution`].
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Mode, correlate};
/// let c = correlate(&arr1(&[1.0, 2.0, 3.0]), &arr1(&[0.0, 1.0, 0.5]), Mode::Full)?;
/// assert_eq!(c, arr1(&[0.5, 2.0, 3.5, 3.0, 0.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn correlate<S, A, B, D>(
    a: &ArrayBase<A, D>,
    b: &ArrayBase<B, D>,
    mode: Mode,
) -> Result<Array<S, D>>
where
    S: Scalar,
    A: Data<Elem = S>,
    B: Data<Elem = S>,
    D: Dimension,
{
    Convolution::new(mode).correlate(a, b)
}
