//! Random arrays and what is measured on them.

use ndarray::{ArrayD, IxDyn};
use ndconv::Element;
use ndconv::init::Rng;
use ndconv::signal::{CircularOperation, Scalar};

/// Both circular operations.
pub const OPERATIONS: [CircularOperation; 2] =
    [CircularOperation::Convolve, CircularOperation::Correlate];

pub fn array<S: Scalar>(shape: &[usize], rng: &mut Rng) -> ArrayD<S> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        let [re, im] = [rng.normal(), rng.normal()].map(<S::Real as Element>::from_f64);
        S::from_parts(re, im)
    })
}

pub fn distance<S: Scalar>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let differences = a.iter().zip(b).map(|(a, b)| (*a - *b).norm_sqr());
    let worst = differences.map(|d| Element::to_f64(d).sqrt());
    worst.fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

pub fn inner<S: Scalar>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| (a.conj() * *b).re());
    products.map(Element::to_f64).sum()
}

/// The definition, modulo by modulo, for one row.
pub fn by_definition<S: Scalar>(operation: CircularOperation, x: &[S], y: &[S]) -> Vec<S> {
    let n = x.len();
    (0..n)
        .map(|i| {
            (0..n).fold(S::zero(), |sum, k| {
                sum + match operation {
                    CircularOperation::Convolve => x[k] * y[(n + i - k) % n],
                    CircularOperation::Correlate => x[k].conj() * y[(k + i) % n],
                }
            })
        })
        .collect()
}
