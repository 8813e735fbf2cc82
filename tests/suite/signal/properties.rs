//! What must hold for all operands: the methods agree, the operations commute, gradients are
//! adjoints.

use ndarray::{ArrayD, arr1};
use ndconv::Element as _;
use ndconv::signal::*;
use proptest::prelude::*;

use super::{METHODS, assert_close, distance, whole};

/// `Re sum conj(a) * b`.
fn dot<S: Scalar>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (a.conj() * b).re().to_f64())
        .sum()
}

fn convolution(mode: usize, align: usize, boundary: usize) -> Convolution {
    let boundaries = [
        Boundary::ZERO,
        Boundary::Reflect,
        Boundary::Mirror,
        Boundary::Nearest,
        Boundary::Wrap,
    ];
    Convolution::new(Mode::ALL[mode])
        .align(Align::ALL[align])
        .boundary(boundaries[boundary])
}

/// The result, and whether `<dz, a * b>` is what the gradients say: bilinear, so exactly.
fn check<S: Scalar>(c: &Convolution, a: &ArrayD<S>, b: &ArrayD<S>) {
    let Ok(direct) = c.clone().method(Method::Direct).convolve(a, b) else {
        for method in METHODS {
            assert!(c.clone().method(method).convolve(a, b).is_err());
        }
        return;
    };
    let correlated = c
        .clone()
        .method(Method::Direct)
        .correlate(a, b)
        .expect("as the convolution");
    let (dz, dc) = (whole(direct.shape(), 3), whole(correlated.shape(), 4));
    for method in METHODS {
        let (c, name) = (c.clone().method(method), method.name());
        assert_close(&c.convolve(a, b).unwrap(), &direct, 1e-12, name);
        assert_close(&c.correlate(a, b).unwrap(), &correlated, 1e-12, name);
        let value = dot(&dz, &direct);
        let g = c.convolve_vjp(a, b, &dz).unwrap();
        assert!((dot(&g.a, a) - value).abs() < 1e-8, "{c:?}: da");
        assert!((dot(&g.b, b) - value).abs() < 1e-8, "{c:?}: db");
        let value = dot(&dc, &correlated);
        let g = c.correlate_vjp(a, b, &dc).unwrap();
        assert!(
            (dot(&g.a, a) - value).abs() < 1e-8,
            "{c:?}: da of correlate"
        );
        // in b a correlation is conjugate-linear: Re<dz, corr(a, b)> is still real-linear
        assert!(
            (dot(&g.b, b) - value).abs() < 1e-8,
            "{c:?}: db of correlate"
        );
    }
}

/// Every entry of the gradients against a step of 1: exact, because nothing is more than bilinear.
fn check_entries<S: Scalar>(c: &Convolution, a: &ArrayD<S>, b: &ArrayD<S>) {
    let z = c.correlate(a, b).expect("valid operands");
    let dz = whole::<S>(z.shape(), 5);
    let g = c.correlate_vjp(a, b, &dz).unwrap();
    let base = dot(&dz, &z);
    for unit in [S::one(), S::from_parts(S::of(0.0).re(), S::of(1.0).re())] {
        for i in 0..a.len() {
            let mut moved = a.clone();
            *moved.iter_mut().nth(i).unwrap() += unit;
            let change = dot(&dz, &c.correlate(&moved, b).unwrap()) - base;
            let said = (g.a.iter().nth(i).unwrap().conj() * unit).re().to_f64();
            assert!(
                (change - said).abs() < 1e-9,
                "a[{i}]: {change} against {said}"
            );
        }
        for i in 0..b.len() {
            let mut moved = b.clone();
            *moved.iter_mut().nth(i).unwrap() += unit;
            let change = dot(&dz, &c.correlate(a, &moved).unwrap()) - base;
            let said = (g.b.iter().nth(i).unwrap().conj() * unit).re().to_f64();
            assert!(
                (change - said).abs() < 1e-9,
                "b[{i}]: {change} against {said}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn methods_agree_and_gradients_are_adjoint(
        shape in proptest::collection::vec((1usize..9, 1usize..6), 1..=3),
        mode in 0usize..3,
        align in 0usize..7,
        boundary in 0usize..5,
        seed in 0u64..1000,
    ) {
        let (n, k): (Vec<_>, Vec<_>) = shape.into_iter().unzip();
        let c = convolution(mode, align, boundary);
        check::<f64>(&c, &whole(&n, seed), &whole(&k, seed + 1));
        check::<Complex<f64>>(&c, &whole(&n, seed), &whole(&k, seed + 1));
    }

    #[test]
    fn full_convolution_commutes(n in 1usize..200, k in 1usize..200, seed in 0u64..1000) {
        let (a, b) = (whole::<f64>(&[n], seed), whole::<f64>(&[k], seed + 1));
        for method in METHODS {
            let full = Convolution::new(Mode::Full).method(method);
            let ab = full.convolve(&a, &b).unwrap();
            assert_close(&ab, &full.convolve(&b, &a).unwrap(), 1e-12, method.name());
        }
    }

    #[test]
    fn batches_are_rows(
        rows in 1usize..5, share in 0usize..3, n in 1usize..40, k in 1usize..10, seed in 0u64..1000,
    ) {
        let (ra, rb) = [(rows, rows), (rows, 1), (1, rows)][share];
        let (a, b) = (whole::<f64>(&[ra, n], seed), whole::<f64>(&[rb, k], seed + 1));
        for method in METHODS {
            let full = Convolution::new(Mode::Full).axes(&[1]).method(method);
            let z = full.convolve(&a, &b).unwrap();
            let dz = whole::<f64>(z.shape(), 9);
            let g = full.convolve_vjp(&a, &b, &dz).unwrap();
            prop_assert_eq!((g.a.shape(), g.b.shape()), (a.shape(), b.shape()));
            prop_assert!((dot(&g.a, &a) - dot(&dz, &z)).abs() < 1e-8);
            prop_assert!((dot(&g.b, &b) - dot(&dz, &z)).abs() < 1e-8);
            for i in 0..rows {
                let row = |x: &ArrayD<f64>| {
                    let i = if x.shape()[0] == 1 { 0 } else { i };
                    x.index_axis(ndarray::Axis(0), i).to_owned()
                };
                let one = Convolution::new(Mode::Full).method(Method::Direct);
                assert_close(&row(&z), &one.convolve(&row(&a), &row(&b)).unwrap(), 1e-12, "row");
            }
        }
    }
}

#[test]
fn gradients_entry_by_entry() {
    let shapes: [(&[usize], &[usize]); 3] = [(&[6], &[4]), (&[3, 4], &[2, 3]), (&[2], &[5])];
    for (n, k) in shapes {
        for mode in [Mode::Full, Mode::Same] {
            for boundary in [
                Boundary::ZERO,
                Boundary::Reflect,
                Boundary::Wrap,
                Boundary::Mirror,
            ] {
                let c = Convolution::new(mode).boundary(boundary);
                check_entries::<f64>(&c, &whole(n, 1), &whole(k, 2));
                check_entries::<Complex<f64>>(&c, &whole(n, 1), &whole(k, 2));
            }
        }
    }
}

/// Blocks, long kernels and transforms of awkward lengths, on more data than one thread takes.
#[test]
fn long_operands() {
    for (n, k) in [(40_000, 700), (700, 40_000), (30_011, 17), (5_003, 4_999)] {
        let (a, b) = (whole::<f64>(&[n], 1), whole::<f64>(&[k], 2));
        for mode in [Mode::Full, Mode::Same, Mode::Valid] {
            let c = Convolution::new(mode);
            let direct = c.clone().method(Method::Direct).convolve(&a, &b).unwrap();
            for method in [Method::Fft, Method::OverlapAdd, Method::Auto] {
                let got = c.clone().method(method).convolve(&a, &b).unwrap();
                assert_close(&got, &direct, 1e-12, &format!("{n} * {k} {mode} {method}"));
            }
        }
    }
    let (a, b) = (whole::<f32>(&[300, 200], 1), whole::<f32>(&[31, 45], 2));
    let direct = Convolution::new(Mode::Same)
        .method(Method::Direct)
        .convolve(&a, &b)
        .unwrap();
    for method in [Method::Fft, Method::OverlapAdd] {
        let got = Convolution::new(Mode::Same)
            .method(method)
            .convolve(&a, &b)
            .unwrap();
        assert!(distance(&got, &direct) < 1e-5, "{method}");
    }
}

#[test]
fn xcorr_gradients_match_differences() {
    let (x, y) = (
        arr1(&[1.0, -2.0, 0.5, 3.0, 1.5]),
        arr1(&[2.0, 1.0, -1.0, 0.3, 0.9]),
    );
    let dr = arr1(&[0.3, -1.0, 2.0, 0.7, 1.1, -0.4, 0.2]);
    for scaling in [
        Scaling::None,
        Scaling::Biased,
        Scaling::Unbiased,
        Scaling::Coeff,
    ] {
        for xcorr in [Xcorr::new(), Xcorr::new().centred()] {
            let xcorr = xcorr.scaling(scaling).maxlag(3);
            let (dx, dy) = xcorr.vjp(&x, &y, &dr).unwrap();
            let loss = |x: &_, y: &_| xcorr.of(x, y).unwrap().values.dot(&dr);
            for i in 0..5 {
                let step = 1e-5;
                let shifted = |v: &ndarray::Array1<f64>, s: f64| {
                    let mut v = v.clone();
                    v[i] += s;
                    v
                };
                let by_x = (loss(&shifted(&x, step), &y) - loss(&shifted(&x, -step), &y)) / 2e-5;
                let by_y = (loss(&x, &shifted(&y, step)) - loss(&x, &shifted(&y, -step))) / 2e-5;
                assert!(
                    (by_x - dx[i]).abs() < 1e-8,
                    "{xcorr:?} dx[{i}]: {by_x} {}",
                    dx[i]
                );
                assert!(
                    (by_y - dy[i]).abs() < 1e-8,
                    "{xcorr:?} dy[{i}]: {by_y} {}",
                    dy[i]
                );
            }
        }
    }
}
