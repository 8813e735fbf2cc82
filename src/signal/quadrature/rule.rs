//! Quadrature rules as weights on the products of two sampled functions.

use crate::error::{Error, Result};

/// A quadrature rule for [`FiniteConvolution`](super::FiniteConvolution).
///
/// ```
/// use ndconv::signal::Rule;
/// assert_eq!([Rule::Riemann, Rule::Simpson, Rule::Gregory(6)].map(Rule::order), [1, 4, 6]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Every sample with weight `h`: `h * conv(f, g)`, order 1. It is here to compare with.
    Riemann,
    /// Half the weight at both ends, order 2.
    Trapezoid,
    /// Simpson's 1/3 rule, with the 3/8 rule in front where the number of steps is odd, order 4.
    Simpson,
    /// End corrections of this order, 2 to 10; 2 is the trapezoid rule. Noise in the samples and
    /// functions that are not smooth ask for a low order.
    Gregory(usize),
}

impl Rule {
    /// The power of the step that the error goes with, for smooth functions.
    pub fn order(self) -> usize {
        match self {
            Rule::Riemann => 1,
            Rule::Trapezoid => 2,
            Rule::Simpson => 4,
            Rule::Gregory(order) => order,
        }
    }

    pub(super) fn checked(self) -> Result<Self> {
        match self {
            Rule::Gregory(order) if !(2..=10).contains(&order) => {
                Err(Error::argument("the Gregory order", "2 to 10", order))
            }
            rule => Ok(rule),
        }
    }
}

/// A rule for `n` samples, with steps of 1: for `k >= first()`
/// `z[k] = sum over j of (1 + share(k) (-1)^j) f[j] g[k - j]` plus corrections near both ends;
/// below, corrections alone.
pub(super) struct Weights {
    /// Whether [`Weights::share`] is anything but 0.
    pub alternating: bool,
    /// For even and for odd `k`: on `f[a] g[k - a]`.
    head: [Vec<f64>; 2],
    /// For even and for odd `k`: on `f[k - a] g[a]`.
    tail: [Vec<f64>; 2],
    /// For small `k`: on `f[a] g[b]`, as square matrices.
    start: Vec<Vec<Vec<f64>>>,
}

impl Weights {
    pub fn new(rule: Rule, n: usize) -> Self {
        let (alternating, head, tail, first) = match rule {
            Rule::Riemann => (false, [vec![], vec![]], [vec![], vec![]], 0),
            Rule::Trapezoid => {
                let ends = [vec![-0.5], vec![-0.5]];
                (false, ends.clone(), ends, 1)
            }
            Rule::Simpson => {
                // 3/8, 9/8, 9/8, 3/8 + 1/3 less 4/3, 2/3, 4/3, 2/3
                let odd = vec![-23.0 / 24.0, 11.0 / 24.0, -5.0 / 24.0, 1.0 / 24.0];
                let end = vec![-1.0 / 3.0];
                (true, [end.clone(), odd], [end.clone(), end], 2)
            }
            Rule::Gregory(order) => {
                let ends = end_corrections(order - 1);
                let ends = [ends.clone(), ends];
                (false, ends.clone(), ends, (order - 2).max(1))
            }
        };
        let points = rule.order().min(n);
        let start = (0..first.min(n)).map(|k| start_weights(k, points));
        Weights {
            alternating,
            head,
            tail,
            start: start.collect(),
        }
    }

    /// The first `k` that the rule is defined for.
    pub fn first(&self) -> usize {
        self.start.len()
    }

    /// The weight of the alternating sum.
    pub fn share(&self, k: usize) -> f64 {
        match (self.alternating, k % 2) {
            (false, _) => 0.0,
            (true, 0) => -1.0 / 3.0,
            (true, _) => 1.0 / 3.0,
        }
    }

    /// Calls `add(a, b, c)` for every correction `c f[a] g[b]` of `z[k]`.
    pub fn corrections(&self, k: usize, mut add: impl FnMut(usize, usize, f64)) {
        if let Some(rows) = self.start.get(k) {
            for (a, row) in rows.iter().enumerate() {
                row.iter().enumerate().for_each(|(b, &c)| add(a, b, c));
            }
            return;
        }
        let (head, tail) = (&self.head[k % 2], &self.tail[k % 2]);
        head.iter().enumerate().for_each(|(a, &c)| add(a, k - a, c));
        tail.iter().enumerate().for_each(|(a, &c)| add(k - a, a, c));
    }
}

/// Gregory's corrections of the plain sum at the `terms` samples next to one end:
/// `c[a] = -(-1)^a sum over m of |G[m + 1]| binomial(m, a)`, with the Gregory coefficients
/// 1/2, -1/12, 1/24, -19/720, ..
fn end_corrections(terms: usize) -> Vec<f64> {
    // z / ln(1 + z) = sum of G[n] z^n
    let mut gregory = vec![1.0f64];
    for n in 1..=terms {
        let earlier = (1..=n).map(|j| {
            let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
            gregory[n - j] * sign / (j + 1) as f64
        });
        gregory.push(-earlier.sum::<f64>());
    }
    let mut corrections = vec![0.0; terms];
    let mut binomials = vec![1.0f64];
    for m in 0..terms {
        for (a, binomial) in binomials.iter().enumerate() {
            let sign = if a % 2 == 0 { -1.0 } else { 1.0 };
            corrections[a] += sign * gregory[m + 1].abs() * binomial;
        }
        let shifted = [&[0.0], &binomials[..]].concat();
        binomials.push(0.0);
        binomials.iter_mut().zip(shifted).for_each(|(b, s)| *b += s);
    }
    corrections
}

/// `integral from 0 to k of L[a](s) L[b](k - s) ds` for the Lagrange polynomials on `0..points`.
fn start_weights(k: usize, points: usize) -> Vec<Vec<f64>> {
    let mut weights = vec![vec![0.0; points]; points];
    if k == 0 {
        return weights;
    }
    let half = k as f64 / 2.0;
    let lagrange = |a: usize, s: f64| -> f64 {
        let others = (0..points).filter(|&i| i != a);
        others
            .map(|i| (s - i as f64) / (a as f64 - i as f64))
            .product()
    };
    for (node, weight) in gauss_legendre(points) {
        let s = half * (1.0 + node);
        for (a, row) in weights.iter_mut().enumerate() {
            let factor = weight * half * lagrange(a, s);
            for (b, w) in row.iter_mut().enumerate() {
                *w += factor * lagrange(b, k as f64 - s);
            }
        }
    }
    weights
}

/// Nodes and weights on [-1, 1], exact for polynomials of degree `2 points - 1`.
fn gauss_legendre(points: usize) -> Vec<(f64, f64)> {
    let n = points as f64;
    (0..points)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..8 {
                // P[j + 1] = ((2 j + 1) x P[j] - j P[j - 1]) / (j + 1)
                let (mut before, mut value) = (0.0, 1.0);
                for j in 0..points {
                    let j = j as f64;
                    let next = ((2.0 * j + 1.0) * x * value - j * before) / (j + 1.0);
                    (before, value) = (value, next);
                }
                slope = n * (x * value - before) / (x * x - 1.0);
                x -= value / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{end_corrections, gauss_legendre};

    #[test]
    fn gregory_order_four_has_its_known_weights() {
        let weights: Vec<f64> = end_corrections(3)
            .iter()
            .map(|c| 24.0 * (1.0 + c))
            .collect();
        for (weight, known) in weights.iter().zip([9.0, 28.0, 23.0]) {
            assert!((weight - known).abs() < 1e-12, "{weights:?}");
        }
    }

    #[test]
    fn gauss_legendre_integrates_its_degree() {
        for points in 1..=10 {
            for degree in 0..2 * points {
                let nodes = gauss_legendre(points);
                let value = nodes.iter().map(|(x, w)| w * x.powi(degree as i32));
                let exact = if degree % 2 == 0 {
                    2.0 / (degree + 1) as f64
                } else {
                    0.0
                };
                assert!(
                    (value.sum::<f64>() - exact).abs() < 1e-14,
                    "{points} {degree}"
                );
            }
        }
    }
}
