//! The weights of one Gaussian on a grid.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
use std::ops::Range;

use super::{Edges, Smearing};
use crate::error::{Error, Result};

/// Part of a spacing by which positions may be off for the grid to count as uniform.
const UNIFORM: f64 = 1e-9;

/// Widths in units of the spacing from which on the samples of a Gaussian sum to its area: the
/// difference is `2 exp(-2 pi^2 (sigma / spacing)^2)`.
const RESOLVED: f64 = 1.5;

/// Where the samples lie.
#[derive(Clone, Debug)]
pub(super) enum Grid {
    Uniform {
        spacing: f64,
        len: usize,
    },
    Points {
        positions: Vec<f64>,
        cells: Vec<f64>,
    },
}

impl Grid {
    pub fn uniform(spacing: f64, len: usize) -> Self {
        Grid::Uniform { spacing, len }
    }

    pub fn new(positions: &[f64]) -> Result<Self> {
        let n = positions.len();
        if n < 2 {
            let expected = "at least two; one alone has no cell";
            return Err(Error::shape("positions", expected, n));
        }
        let steps: Vec<f64> = positions.windows(2).map(|w| w[1] - w[0]).collect();
        if let Some(i) = steps.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
            let got = format!("{} then {}", positions[i], positions[i + 1]);
            let expected = "finite and strictly increasing: sort them, and average duplicates";
            return Err(Error::argument("positions", expected, got));
        }
        let spacing = (positions[n - 1] - positions[0]) / (n - 1) as f64;
        let straight = |(i, x): (usize, &f64)| {
            (x - positions[0] - i as f64 * spacing).abs() <= UNIFORM * spacing
        };
        if positions.iter().enumerate().all(straight) {
            return Ok(Grid::uniform(spacing, n));
        }
        let step = |i: usize| steps[i.min(n - 2)];
        let cells = (0..n)
            .map(|i| (step(i.saturating_sub(1)) + step(i)) / 2.0)
            .collect();
        Ok(Grid::Points {
            positions: positions.to_vec(),
            cells,
        })
    }

    pub fn cells(&self) -> Vec<f64> {
        match self {
            Grid::Uniform { spacing, len } => vec![*spacing; *len],
            Grid::Points { cells, .. } => cells.clone(),
        }
    }

    pub fn distance(&self, p: usize, q: usize) -> f64 {
        match self {
            Grid::Uniform { spacing, .. } => p.abs_diff(q) as f64 * spacing,
            Grid::Points { positions, .. } => positions[q] - positions[p],
        }
    }

    /// The points within `reach` of point `p`, itself included.
    pub fn window(&self, p: usize, reach: f64) -> Range<usize> {
        match self {
            Grid::Uniform { spacing, len } => {
                let steps = (reach / spacing) as usize; // saturates
                p.saturating_sub(steps)..p.saturating_add(steps).saturating_add(1).min(*len)
            }
            Grid::Points { positions, .. } => {
                let at = positions[p];
                let from = positions.partition_point(|x| *x < at - reach).min(p);
                from..positions.partition_point(|x| *x <= at + reach).max(p + 1)
            }
        }
    }
}

/// The weights of one pivot's Gaussian, and the memory for them.
pub(super) struct Kernel<'a> {
    grid: &'a Grid,
    edges: Edges,
    /// Where to cut, in widths.
    cut: f64,
    /// The weights, from the point that [`Kernel::weigh`] gave.
    pub weights: Vec<f64>,
}

impl<'a> Kernel<'a> {
    pub fn new(grid: &'a Grid, edges: Edges, tolerance: f64) -> Self {
        Kernel {
            grid,
            edges,
            // erfc(c / sqrt 2) <= exp(-c^2 / 2)
            cut: (-2.0 * tolerance.ln()).sqrt(),
            weights: Vec::new(),
        }
    }

    pub fn reach(&self, sigma: f64) -> f64 {
        self.cut * sigma
    }

    /// Computes the weights of pivot `p` and gives the first point they belong to.
    pub fn weigh(&mut self, p: usize, sigma: f64, smearing: Smearing) -> usize {
        let window = self.samples(p, sigma);
        let total: f64 = self.weights.iter().sum();
        let (share, _) = self.inside(p, sigma, &window, total, 0.0);
        self.weights.iter_mut().for_each(|w| *w *= share / total);
        self.turn_into_values(p, &window, smearing);
        window.start
    }

    /// As [`Kernel::weigh`], but computes the derivatives of the weights in the pivot's width.
    pub fn slopes(&mut self, p: usize, sigma: f64, smearing: Smearing) -> usize {
        let window = self.samples(p, sigma);
        if sigma == 0.0 {
            self.weights.fill(0.0);
            return window.start;
        }
        // w = share g / total, and sigma dg / dsigma = g v^2, v the distance in widths
        let squared = |q: usize| (self.grid.distance(p, q) / sigma).powi(2);
        let total: f64 = self.weights.iter().sum();
        let moments = self.weights.iter().zip(window.clone());
        let mean = moments.map(|(g, q)| g * squared(q)).sum::<f64>() / total;
        let (share, growth) = self.inside(p, sigma, &window, total, mean);
        let scale = share / total / sigma;
        for (w, q) in self.weights.iter_mut().zip(window.clone()) {
            *w *= scale * (squared(q) - mean + growth);
        }
        self.turn_into_values(p, &window, smearing);
        window.start
    }

    /// The Gaussian of pivot `p` as it is, times the cells where they differ, and where.
    fn samples(&mut self, p: usize, sigma: f64) -> Range<usize> {
        let window = self.grid.window(p, self.reach(sigma));
        self.weights.clear();
        match self.grid {
            Grid::Uniform { spacing, .. } => {
                let u = spacing / sigma;
                let before = p - window.start;
                let after = window.end - p;
                let half: Vec<f64> = (0..after.max(before + 1))
                    .map(|m| gauss(m as f64 * u))
                    .collect();
                self.weights.extend(half[1..=before].iter().rev());
                self.weights.extend(&half[..after]);
            }
            Grid::Points { positions, cells } => {
                let at = positions[p];
                let points = window.clone();
                self.weights
                    .extend(points.map(|q| cells[q] * gauss((positions[q] - at) / sigma)));
            }
        }
        window
    }

    /// From what arrives in a cell to the value there: `cell(q) z(q)` is what arrives at `q` of the
    /// area `cell(p) f(p)`.
    fn turn_into_values(&mut self, p: usize, window: &Range<usize>, smearing: Smearing) {
        if let (Grid::Points { cells, .. }, Smearing::Scatter) = (self.grid, smearing) {
            for (w, q) in self.weights.iter_mut().zip(window.clone()) {
                *w *= cells[p] / cells[q];
            }
        }
    }

    /// What the weights sum to, the part of the Gaussian's area that lies on the grid, and the
    /// derivative of its logarithm in that of the width, for samples of this sum whose squared
    /// distances in widths have this mean.
    fn inside(
        &self,
        p: usize,
        sigma: f64,
        window: &Range<usize>,
        total: f64,
        mean: f64,
    ) -> (f64, f64) {
        const ALL: (f64, f64) = (1.0, 0.0);
        if self.edges == Edges::Closed {
            return ALL;
        }
        match self.grid {
            Grid::Uniform { spacing, len } => {
                let steps = self.reach(sigma) / spacing;
                let (room_before, room_after) = (p as f64, (len - 1 - p) as f64);
                if steps.floor() <= room_before.min(room_after) {
                    return ALL;
                }
                let u = spacing / sigma;
                if u * RESOLVED <= 1.0 {
                    // sum over all integers of exp(-(m u)^2 / 2), to rounding
                    let share = total * u * FRAC_2_SQRT_PI / 2.0 * FRAC_1_SQRT_2;
                    return (share, mean - 1.0);
                }
                let (mut all, mut squares) = (1.0, 0.0);
                for v in (1..=steps as usize).map(|m| m as f64 * u) {
                    all += 2.0 * gauss(v);
                    squares += 2.0 * gauss(v) * v * v;
                }
                (total / all, mean - squares / all)
            }
            Grid::Points { positions, cells } => {
                let last = positions.len() - 1;
                let at = positions[p];
                let below = at - positions[0] + cells[0] / 2.0;
                let above = positions[last] + cells[last] / 2.0 - at;
                let (inside_below, inside_above) = (window.start > 0, window.end <= last);
                if inside_below && inside_above {
                    return ALL;
                }
                let [below, above] = [below / sigma, above / sigma];
                let share = 1.0 - upper_tail(below) - upper_tail(above);
                // v phi(v), which is 0 at infinity
                let flow = |v: f64| match gauss(v) {
                    0.0 => 0.0,
                    g => v * g * FRAC_2_SQRT_PI / 2.0 * FRAC_1_SQRT_2,
                };
                (share, -(flow(below) + flow(above)) / share)
            }
        }
    }
}

/// `exp(-u^2 / 2)`; 1 at `0 / 0`, so that width 0 leaves the pivot alone.
fn gauss(u: f64) -> f64 {
    if u.is_nan() {
        return 1.0;
    }
    (-0.5 * u * u).exp()
}

/// The part of a standard normal distribution above `u >= 0`.
fn upper_tail(u: f64) -> f64 {
    0.5 * erfc(u / SQRT_2)
}

/// `2 / sqrt(pi) * integral from x to infinity of exp(-t^2)`, for `x >= 0`, to about 1e-15: the
/// series of `erf` (Abramowitz and Stegun 7.1.6), then the continued fraction (7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    if x > 27.0 {
        return 0.0;
    }
    let tail = (1..=60)
        .rev()
        .fold(x, |rest, k| x + f64::from(k) / 2.0 / rest);
    FRAC_2_SQRT_PI / 2.0 * (-x * x).exp() / tail
}

#[cfg(test)]
mod tests {
    use super::erfc;

    #[test]
    fn erfc_matches_its_table() {
        for (x, value) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (1.999, 0.004_698_414_4),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (6.0, 2.151_973_671_249_891_3e-17),
        ] {
            let tolerance = if x == 1.999 { 1e-5 } else { 1e-13 };
            let error = (erfc(x) - value).abs() / value;
            assert!(error < tolerance, "erfc({x}) = {}, not {value}", erfc(x));
        }
    }
}
