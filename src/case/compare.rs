//! One expected tensor against what was computed.

use std::path::Path;

use ndarray::{ArrayD, Dimension as _};

use super::{Row, Worst};
use crate::element::{DType, Element};
use crate::error::{Error, Result};

/// How far apart two tensors may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// Equal, once rounded to the element type.
    Exact,
    /// `max|got - expected| / max(1, max|expected|)` at most this.
    Scaled(f64),
    /// `|got - expected| <= atol + rtol * |expected|` for every element.
    Elementwise { rtol: f64, atol: f64 },
}

impl Bound {
    /// The difference allowed beside `expected`, in a tensor of this scale.
    fn allowed(self, expected: f64, scale: f64) -> f64 {
        match self {
            Bound::Exact => 0.0,
            Bound::Scaled(tolerance) => tolerance * scale,
            Bound::Elementwise { rtol, .. } if expected.is_nan() || rtol == 0.0 => self.floor(),
            Bound::Elementwise { rtol, .. } => self.floor() + rtol * expected.abs(),
        }
    }

    fn floor(self) -> f64 {
        match self {
            Bound::Elementwise { atol, .. } => atol,
            _ => 0.0,
        }
    }
}

/// The default scaled error of a type.
pub(super) fn default_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-11,
        DType::F32 => 1e-5,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
    }
}

/// Compares two arrays of one shape, of which `got` was computed in `T`.
pub(super) fn row<T: Element>(
    path: &Path,
    tensor: &'static str,
    expected: &ArrayD<f64>,
    got: &ArrayD<f64>,
    bound: Bound,
) -> Result<Row> {
    let finite = expected.iter().filter(|v| v.is_finite());
    let scale = finite.fold(1.0f64, |m, v| m.max(v.abs()));
    let mut greatest = 0.0f64;
    let mut worst: Option<(f64, Worst)> = None;
    for ((index, &e), &g) in expected.indexed_iter().zip(got) {
        let rounded = match bound {
            Bound::Exact => T::from_f64(e).to_f64(),
            _ => e,
        };
        let difference = difference(rounded, g);
        greatest = greatest.max(difference);
        // how bad it is: the difference, in proportion to what is allowed where that varies
        let excess = match bound {
            Bound::Elementwise { .. } => ratio(difference, bound.allowed(e, scale)),
            _ => difference,
        };
        if worst.as_ref().is_none_or(|(w, _)| excess > *w) {
            let worst_here = Worst {
                index: index.slice().to_vec(),
                expected: e,
                got: g,
            };
            worst = Some((excess, worst_here));
        }
    }
    let (excess, worst) = worst.ok_or_else(|| Error::format(path, format!("{tensor} is empty")))?;
    let error = greatest / scale;
    let (allowed, passed) = match bound {
        Bound::Exact => (0.0, error == 0.0),
        Bound::Scaled(tolerance) => (tolerance, error <= tolerance),
        Bound::Elementwise { .. } => (bound.allowed(worst.expected, scale), excess <= 1.0),
    };
    Ok(Row {
        tensor,
        shape: expected.shape().to_vec(),
        error,
        allowed,
        passed,
        worst,
    })
}

/// Two NaN and two equal infinities agree; a NaN or an infinity beside anything else does not.
fn difference(expected: f64, got: f64) -> f64 {
    match (expected, got) {
        (e, g) if e == g || (e.is_nan() && g.is_nan()) => 0.0,
        (e, g) if (e - g).is_nan() => f64::INFINITY,
        (e, g) => (e - g).abs(),
    }
}

/// `difference / allowed` where nothing is allowed, or everything.
fn ratio(difference: f64, allowed: f64) -> f64 {
    match (difference, allowed) {
        (0.0, _) => 0.0,
        (d, _) if d.is_infinite() => f64::INFINITY,
        (_, 0.0) => f64::INFINITY,
        (d, a) => d / a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &[f64], got: &[f64], bound: Bound) -> Row {
        let array = |v: &[f64]| ndarray::Array1::from(v.to_vec()).into_dyn();
        let (expected, got) = (array(expected), array(got));
        row::<f32>(Path::new("case"), "y", &expected, &got, bound).expect("not empty")
    }

    #[test]
    fn an_infinity_does_not_hide_the_other_elements() {
        let inf = f64::INFINITY;
        let row = compare(&[inf, 1.0], &[inf, 5.0], Bound::Scaled(1e-3));
        assert!(!row.passed);
        assert_eq!(row.worst.index, [1]);
        assert!(compare(&[inf, 1.0], &[inf, 1.0], Bound::Scaled(1e-3)).passed);
        assert!(
            !compare(
                &[inf],
                &[1.0],
                Bound::Elementwise {
                    rtol: 1.0,
                    atol: 0.0
                }
            )
            .passed
        );
        assert!(!compare(&[inf], &[-inf], Bound::Scaled(1e-3)).passed);
    }

    #[test]
    fn nan_agrees_with_nan_alone() {
        let nan = f64::NAN;
        let elementwise = Bound::Elementwise {
            rtol: 0.1,
            atol: 0.1,
        };
        for bound in [Bound::Exact, Bound::Scaled(1e-3), elementwise] {
            assert!(compare(&[nan, 1.0], &[nan, 1.0], bound).passed);
            assert!(!compare(&[1.0, nan], &[1.0, 2.0], bound).passed);
            let row = compare(&[2.0, 1.0], &[2.0, nan], bound);
            assert!(!row.passed);
            assert_eq!(row.worst.index, [1]);
        }
    }

    #[test]
    fn elementwise_looks_at_each_element() {
        let bound = Bound::Elementwise {
            rtol: 1e-3,
            atol: 1e-6,
        };
        // 100.05 is within a thousandth of 100, 0.01 is not within one of 0.012
        let row = compare(&[100.0, 0.012, 0.0], &[100.05, 0.01, 5e-7], bound);
        assert!(!row.passed);
        assert_eq!(row.worst.index, [1]);
        assert!(compare(&[100.0, 0.012], &[100.05, 0.012], bound).passed);
        assert!(
            compare(
                &[1.0, -0.0],
                &[1.0, 0.0],
                Bound::Elementwise {
                    rtol: 0.0,
                    atol: 0.0
                }
            )
            .passed
        );
    }
}
