//! Convolution mathematics: other libraries' numbers, the requirement rows, and properties.

#[cfg(feature = "cli")]
mod cli;
mod errors;
mod golden;
mod properties;
mod rows;

use ndarray::{ArrayD, IxDyn};
use ndconv::signal::{Complex, Method, Scalar};

/// Every method but the choice between them.
const METHODS: [Method; 3] = [Method::Direct, Method::Fft, Method::OverlapAdd];

/// Whole numbers in -8..=8 that look random; the same for the same seed.
fn whole<S: Scalar>(shape: &[usize], seed: u64) -> ArrayD<S> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as i64 % 9 - 4
    };
    ArrayD::from_shape_fn(IxDyn(shape), |_| {
        let (re, im) = (next() as f64, next() as f64);
        S::from_parts(S::of(re).re(), S::of(im).re())
    })
}

/// The largest difference, relative to the largest expected value or 1.
fn distance<S: Scalar>(got: &ArrayD<S>, expected: &ArrayD<S>) -> f64 {
    assert_eq!(got.shape(), expected.shape());
    let wide = |v: S| {
        Complex::new(
            ndconv::Element::to_f64(v.re()),
            ndconv::Element::to_f64(v.im()),
        )
    };
    let scale = expected.iter().map(|&v| wide(v).norm()).fold(1.0, f64::max);
    let differences = got
        .iter()
        .zip(expected)
        .map(|(&a, &b)| (wide(a) - wide(b)).norm());
    differences.fold(
        0.0,
        |m, d| if d.is_nan() { f64::NAN } else { f64::max(m, d) },
    ) / scale
}

fn assert_close<S: Scalar>(got: &ArrayD<S>, expected: &ArrayD<S>, tolerance: f64, what: &str) {
    let distance = distance(got, expected);
    assert!(
        distance <= tolerance,
        "{what}: off by {distance:e}\ngot {got:?}\nexpected {expected:?}"
    );
}
