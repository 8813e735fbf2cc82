//! Smearing of sampled functions by a Gaussian whose width changes from point to point.
//!
//! Two different integrals go by this name. With `G(u; s) = exp(-u^2 / 2 s^2) / (s sqrt(2 pi))`,
//!
//! - **scatter**: `z(x) = integral of f(t) G(x - t; sigma(t)) dt`. Every *source* point is spread by
//!   its own width, as a detector's resolution does; the area of `f` is conserved.
//! - **gather**: `z(x) = integral of f(t) G(x - t; sigma(x)) dt`. Every *output* point averages its
//!   surroundings with its own width, as a variable blur does; constants are conserved, the area is
//!   not.
//!
//! Each Gaussian is cut where less than a stated share of its area remains, so the work is
//! `O(points * width)`, and it is scaled so that its samples sum to exactly 1: a width below the
//! spacing of the grid ends at the identity instead of at a spike.

mod kernel;

use ndarray::{Array1, ArrayBase, ArrayD, Data, Dimension, IxDyn};
use rayon::prelude::*;

use crate::element::{Accumulator, Element};
use crate::error::{Error, Result};
use kernel::{Grid, Kernel};

/// Which point's width a [`Smear`] uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Smearing {
    /// The width of the source: `integral of f(t) G(x - t; sigma(t)) dt`.
    Scatter,
    /// The width of the output: `integral of f(t) G(x - t; sigma(x)) dt`.
    Gather,
}

/// What becomes of the part of a Gaussian that lies outside the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Edges {
    /// It is lost (scatter), or meets a function that is 0 there (gather).
    #[default]
    Open,
    /// It is put back in proportion: scatter keeps the whole area on the grid, gather averages
    /// over what there is.
    Closed,
}

/// The share of each Gaussian's area that may be cut off unless [`Smear::tolerance`] says otherwise.
const TOLERANCE: f64 = 1e-12;

/// Pivot points that one task works on.
const CHUNK: usize = 512;

/// A variable-width Gaussian smearing: a linear operator on functions sampled on one grid.
///
/// A sample stands for the cell around its point, half-way to both neighbours.
///
/// ```
/// use ndconv::signal::{Smear, Smearing};
/// let spacing = 0.1;
/// let grid: Vec<f64> = (0..200).map(|i| (i as f64 - 100.0) * spacing).collect();
/// let sigma: Vec<f64> = grid.iter().map(|x| 0.2 * x.abs() + 0.1).collect();
/// let f: Vec<f64> = grid.iter().map(|x| (-0.5 * (x - 1.0f64).powi(2)).exp()).collect();
/// let scatter = Smear::uniform(spacing, &sigma, Smearing::Scatter)?;
/// let z = scatter.apply(&ndarray::aview1(&f))?;
/// let area = |v: f64| v * spacing;
/// assert!((area(z.sum()) - area(f.iter().sum())).abs() < 1e-3);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Smear {
    grid: Grid,
    sigma: Vec<f64>,
    smearing: Smearing,
    edges: Edges,
    tolerance: f64,
}

impl Smear {
    /// On points `spacing` apart, with one width per point in the units of `spacing`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a spacing that is not a positive number or a width that is negative
    /// or not finite; [`Error::Shape`] without any width.
    pub fn uniform(spacing: f64, sigma: &[f64], smearing: Smearing) -> Result<Self> {
        if !(spacing.is_finite() && spacing > 0.0) {
            return Err(Error::argument("spacing", "a positive number", spacing));
        }
        Self::new(Grid::uniform(spacing, sigma.len()), sigma, smearing)
    }

    /// On points at strictly increasing `positions`, at any distances from each other.
    ///
    /// Area means the sum of values times the widths of their cells: interior cells reach half-way
    /// to both neighbours, the first and the last lie symmetrically about their points.
    ///
    /// # Errors
    /// [`Error::Argument`] for positions that do not increase or are not finite, or a width that is
    /// negative or not finite; [`Error::Shape`] for other than one width per position, or none.
    ///
    /// ```
    /// use ndconv::signal::{Smear, Smearing};
    /// assert!(Smear::on_grid(&[0.0, 1.0, 1.0], &[1.0; 3], Smearing::Gather).is_err());
    /// let smear = Smear::on_grid(&[0.0, 1.0, 2.5, 4.5], &[0.0; 4], Smearing::Scatter)?;
    /// let y = ndarray::arr1(&[1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(smear.apply(&y)?, y.into_dyn()); // width 0 changes nothing
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn on_grid(positions: &[f64], sigma: &[f64], smearing: Smearing) -> Result<Self> {
        if positions.len() != sigma.len() {
            let expected = format!("{}, one a position", positions.len());
            return Err(Error::shape("sigma", expected, sigma.len()));
        }
        Self::new(Grid::new(positions)?, sigma, smearing)
    }

    fn new(grid: Grid, sigma: &[f64], smearing: Smearing) -> Result<Self> {
        if sigma.is_empty() {
            return Err(Error::shape("sigma", "at least one point", sigma.len()));
        }
        if let Some(bad) = sigma.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            let expected = "finite widths of at least 0";
            return Err(Error::argument("sigma", expected, bad));
        }
        Ok(Smear {
            grid,
            sigma: sigma.to_vec(),
            smearing,
            edges: Edges::Open,
            tolerance: TOLERANCE,
        })
    }

    /// With each Gaussian cut so that at most this share of its area is left out; `1e-12` unless
    /// changed. The result is off by at most twice that share of the greatest `|f|`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `0 < tolerance < 1`.
    pub fn tolerance(mut self, tolerance: f64) -> Result<Self> {
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return Err(Error::argument("tolerance", "0 < tolerance < 1", tolerance));
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// With this choice for what lies outside the grid.
    pub fn edges(mut self, edges: Edges) -> Self {
        self.edges = edges;
        self
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.sigma.len()
    }

    /// Never: a smearing has at least one point.
    pub fn is_empty(&self) -> bool {
        self.sigma.is_empty()
    }

    /// The widths of the cells, whose sum with the values is the area.
    pub fn cells(&self) -> Vec<f64> {
        self.grid.cells()
    }

    /// The smeared function.
    ///
    /// # Shapes
    /// `f` has the points on its last axis, the others are batch; the result has its shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last axis is not the grid.
    pub fn apply<T, A, D>(&self, f: &ArrayBase<A, D>) -> Result<ArrayD<T>>
    where
        T: Accumulator,
        A: Data<Elem = T>,
        D: Dimension,
    {
        self.run(f, "f", self.smearing == Smearing::Scatter)
    }

    /// The vector-Jacobian product of [`Smear::apply`]: the transposed operator on `dz`.
    ///
    /// # Shapes
    /// As [`Smear::apply`].
    ///
    /// # Errors
    /// As [`Smear::apply`].
    pub fn apply_vjp<T, A, D>(&self, dz: &ArrayBase<A, D>) -> Result<ArrayD<T>>
    where
        T: Accumulator,
        A: Data<Elem = T>,
        D: Dimension,
    {
        self.run(dz, "dz", self.smearing == Smearing::Gather)
    }

    /// The gradient of a loss in the widths, from the gradient `dz` in the result of
    /// [`Smear::apply`] to `f`, summed over the batch.
    ///
    /// With `v = (x - t) / sigma` a Gaussian changes by `G (v^2 - 1) / sigma`; what [`Edges`] and
    /// the scaling to a sum of 1 do is differentiated as well. Where the Gaussian is cut is not, and
    /// matters as little as what is cut off. At width 0 the gradient is 0.
    ///
    /// # Shapes
    /// `f` and `dz` have the same shape, as in [`Smear::apply`]; the result is `(points)`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last axis is not the grid or the shapes differ.
    ///
    /// ```
    /// use ndarray::{arr1, Array1};
    /// use ndconv::signal::{Smear, Smearing};
    /// let f: Array1<f64> = arr1(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    /// let smear = |sigma| Smear::uniform(1.0, &[sigma; 7], Smearing::Gather);
    /// // the peak falls as 1 / (sigma sqrt(2 pi)) when all widths grow
    /// let peak = |sigma| Ok::<f64, ndconv::Error>(smear(sigma)?.apply(&f)?[[3]]);
    /// let slope = (peak(0.8 + 1e-6)? - peak(0.8 - 1e-6)?) / 2e-6;
    /// let gradient = smear(0.8)?.sigma_vjp(&f, &f)?;
    /// assert!((gradient.sum() - slope).abs() < 1e-8);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn sigma_vjp<T, A, B, D>(
        &self,
        f: &ArrayBase<A, D>,
        dz: &ArrayBase<B, D>,
    ) -> Result<Array1<T>>
    where
        T: Accumulator,
        A: Data<Elem = T>,
        B: Data<Elem = T>,
        D: Dimension,
    {
        let (f_rows, dz_rows) = (self.rows(f, "f")?, self.rows(dz, "dz")?);
        if f.shape() != dz.shape() {
            let expected = format!("the shape of f, {:?}", f.shape());
            return Err(Error::shape("dz", expected, dz.shape()));
        }
        // the pivot's own value meets the others through the weights' slopes
        let (own, near) = match self.smearing {
            Smearing::Scatter => (f_rows, dz_rows),
            Smearing::Gather => (dz_rows, f_rows),
        };
        let n = self.len();
        let slope = |kernel: &mut Kernel, p: usize| {
            let first = kernel.slopes(p, self.sigma[p], self.smearing);
            let weights = &kernel.weights;
            let rows = own.chunks(n).zip(near.chunks(n));
            let met = rows.map(|(own, near)| {
                let near = near[first..].iter().zip(weights);
                own[p] * near.map(|(v, w)| v * w).sum::<f64>()
            });
            <T as Element>::from_f64(met.sum())
        };
        let kernel = || Kernel::new(&self.grid, self.edges, self.tolerance);
        let slopes: Vec<T> = (0..n).into_par_iter().map_init(kernel, slope).collect();
        Ok(slopes.into())
    }

    /// The elements of `f`, row after row.
    fn rows<T, A, D>(&self, f: &ArrayBase<A, D>, what: &str) -> Result<Vec<f64>>
    where
        T: Accumulator,
        A: Data<Elem = T>,
        D: Dimension,
    {
        let n = self.len();
        if f.shape().last() != Some(&n) {
            let expected = format!("{n} points on the last axis");
            return Err(Error::shape(what, expected, f.shape()));
        }
        Ok(f.iter().map(|&v| Element::to_f64(v)).collect())
    }

    /// With weights `w[p][q]` of pivot `p` at point `q`: `z[q] = sum_p w[p][q] f[p]` if `spread`,
    /// else `z[p] = sum_q w[p][q] f[q]`.
    fn run<T, A, D>(&self, f: &ArrayBase<A, D>, what: &str, spread: bool) -> Result<ArrayD<T>>
    where
        T: Accumulator,
        A: Data<Elem = T>,
        D: Dimension,
    {
        let n = self.len();
        let source = self.rows(f, what)?;
        let rows = source.len() / n;
        let mut sums = vec![0.0; source.len()];
        // fixed chunks, added in order: the same bits for every number of threads
        let starts: Vec<usize> = (0..n).step_by(CHUNK).collect();
        for wave in starts.chunks(64) {
            let parts: Vec<Part> = wave
                .par_iter()
                .map(|&start| self.part(&source, rows, start, spread))
                .collect();
            for part in parts {
                let len = part.values.len() / rows.max(1);
                for (row, values) in part.values.chunks(len.max(1)).enumerate() {
                    let sums = &mut sums[row * n + part.start..][..len];
                    sums.iter_mut().zip(values).for_each(|(s, v)| *s += v);
                }
            }
        }
        let values = sums.into_iter().map(<T as Element>::from_f64).collect();
        ArrayD::from_shape_vec(IxDyn(f.shape()), values)
            .map_err(|e| Error::shape(what, "a shape that ndarray can hold", e.to_string()))
    }

    /// What the pivots of one chunk give.
    fn part(&self, f: &[f64], rows: usize, start: usize, spread: bool) -> Part {
        let n = self.len();
        let end = n.min(start + CHUNK);
        let mut kernel = Kernel::new(&self.grid, self.edges, self.tolerance);
        let span = if spread {
            let reach = (start..end).map(|p| self.grid.window(p, kernel.reach(self.sigma[p])));
            reach.fold(start..end, |all, w| {
                all.start.min(w.start)..all.end.max(w.end)
            })
        } else {
            start..end
        };
        let mut values = vec![0.0; rows * span.len()];
        for p in start..end {
            let first = kernel.weigh(p, self.sigma[p], self.smearing);
            let weights = &kernel.weights;
            for row in 0..rows {
                let f = &f[row * n..][..n];
                let out = &mut values[row * span.len()..][..span.len()];
                if spread {
                    let out = &mut out[first - span.start..][..weights.len()];
                    out.iter_mut()
                        .zip(weights)
                        .for_each(|(o, w)| *o += w * f[p]);
                } else {
                    let near = &f[first..][..weights.len()];
                    out[p - span.start] = near.iter().zip(weights).map(|(f, w)| f * w).sum();
                }
            }
        }
        Part {
            start: span.start,
            values,
        }
    }
}

/// Sums over one chunk of pivots: `(rows, points from start)`.
struct Part {
    start: usize,
    values: Vec<f64>,
}
