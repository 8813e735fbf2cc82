//! Sampled functions: the rows D1 and D2 of the requirements, orders, adjoints, errors.

use ndarray::{Array1, Array2, ArrayD, IxDyn, arr1, aview1};
use ndconv::init::Rng;
use ndconv::signal::{
    Complex, Edges, FiniteConvolution, Rule, Scalar, Smear, Smearing, finite_convolve,
};
use ndconv::{Error, Result};

/// f, g, the exact finite convolution, and the end of the interval.
type Case = (fn(f64) -> f64, fn(f64) -> f64, fn(f64) -> f64, f64);

const EXPONENTIALS: Case = (
    |x| (-x).exp(),
    |x| 2.0 * (-2.0 * x).exp(),
    |x| 2.0 * ((-x).exp() - (-2.0 * x).exp()),
    5.0,
);
const POLYNOMIAL: Case = (
    |x| (-x).exp(),
    |x| x * x * (-x).exp(),
    |x| x.powi(3) * (-x).exp() / 3.0,
    7.0,
);

fn samples(function: fn(f64) -> f64, end: f64, steps: usize) -> Array1<f64> {
    Array1::from_iter((0..=steps).map(|k| function(end * k as f64 / steps as f64)))
}

fn worst(case: Case, steps: usize, rule: Rule) -> Result<f64> {
    let (f, g, exact, end) = case;
    let [f, g, exact] = [f, g, exact].map(|function| samples(function, end, steps));
    let z = finite_convolve(&f, &g, end / steps as f64, rule)?;
    Ok(z.iter()
        .zip(&exact)
        .fold(0.0, |m: f64, (z, e)| m.max((z - e).abs())))
}

#[test]
fn d1_riemann_and_trapezoid() -> Result<()> {
    let near = |value: f64, stated: f64| (value / stated - 1.0).abs() < 5e-3;
    assert!(near(worst(EXPONENTIALS, 50, Rule::Riemann)?, 0.200));
    assert!(near(worst(EXPONENTIALS, 50, Rule::Trapezoid)?, 4.17e-4));
    assert!(near(worst(POLYNOMIAL, 50, Rule::Riemann)?, 3.88e-2));
    assert!(near(worst(POLYNOMIAL, 50, Rule::Trapezoid)?, 1.20e-3));
    let (f, g) = (arr1(&[3.0f64, 1.0, 4.0]), arr1(&[2.0, 7.0, 1.0]));
    let z = finite_convolve(&f, &g, 0.5, Rule::Trapezoid)?;
    let full = [6.0, 23.0, 18.0];
    for k in 1..3 {
        let formula = 0.5 * full[k] - 0.25 * (f[0] * g[k] + f[k] * g[0]);
        assert!((z[k] - formula).abs() < 1e-15);
    }
    assert_eq!(z[0], 0.0);
    Ok(())
}

#[test]
fn d1_the_higher_rules_have_their_order() -> Result<()> {
    let rules = [Rule::Riemann, Rule::Trapezoid, Rule::Simpson];
    let gregory = (2..=10).map(Rule::Gregory);
    for rule in rules.into_iter().chain(gregory) {
        for case in [EXPONENTIALS, POLYNOMIAL] {
            let (coarse, fine) = match rule.order() {
                0..=6 => (100, 200),
                _ => (40, 80),
            };
            let errors = (worst(case, coarse, rule)?, worst(case, fine, rule)?);
            let order = (errors.0 / errors.1).log2();
            let least = rule.order() as f64 - 0.35;
            assert!(
                order > least || errors.1 < 1e-13,
                "{rule:?}: {order} {errors:?}"
            );
        }
    }
    assert!(worst(EXPONENTIALS, 50, Rule::Simpson)? < 2e-5);
    assert!(worst(EXPONENTIALS, 50, Rule::Gregory(8))? < 2e-8);
    Ok(())
}

#[test]
fn d1_few_samples_are_exact_for_polynomials() -> Result<()> {
    // f = 1 + x, g = x: z = x^2 / 2 + x^3 / 6, the product being of degree 2
    let exact = |x: f64| x * x / 2.0 + x.powi(3) / 6.0;
    for n in 1..12 {
        let x = Array1::from_iter((0..n).map(f64::from));
        let f = x.mapv(|x| 1.0 + x);
        for rule in [Rule::Simpson, Rule::Gregory(4), Rule::Gregory(10)] {
            let z = finite_convolve(&f, &x, 1.0, rule)?;
            for (z, x) in z.iter().zip(&x) {
                let error = (z - exact(*x)).abs();
                assert!(
                    error < 1e-10 * (1.0 + exact(*x)),
                    "{rule:?} of {n}: {error}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn d1_the_error_estimate_is_of_the_size_of_the_error() -> Result<()> {
    for (f, g, exact, end) in [EXPONENTIALS, POLYNOMIAL] {
        for steps in [50, 51] {
            let [f, g, exact] = [f, g, exact].map(|function| samples(function, end, steps));
            for rule in [
                Rule::Riemann,
                Rule::Trapezoid,
                Rule::Simpson,
                Rule::Gregory(4),
            ] {
                let convolution = FiniteConvolution::new(end / steps as f64, rule)?;
                let estimate = convolution.with_error(&f, &g)?;
                let error = estimate
                    .value
                    .iter()
                    .zip(&exact)
                    .map(|(z, e)| (z - e).abs());
                let error = error.fold(0.0, f64::max);
                let estimated = estimate.error.iter().copied().fold(0.0, f64::max);
                let ratio = estimated / error;
                assert!((0.4..4.0).contains(&ratio), "{rule:?} {steps}: {ratio}");
            }
        }
    }
    Ok(())
}

fn normal(shape: &[usize], rng: &mut Rng) -> ArrayD<f64> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || rng.normal())
}

fn inner<S: Scalar<Real = f64>>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a.conj() * *b).re()).sum()
}

#[test]
fn d1_gradients_are_adjoint() -> Result<()> {
    let rng = &mut Rng::new(1);
    let rules = [
        Rule::Riemann,
        Rule::Trapezoid,
        Rule::Simpson,
        Rule::Gregory(6),
    ];
    for n in [1, 2, 3, 4, 7, 40] {
        for rule in rules {
            let convolution = FiniteConvolution::new(0.3, rule)?;
            let (f, g) = (normal(&[3, n], rng), normal(&[n], rng));
            let dz = normal(&[3, n], rng);
            let (df, dg) = convolution.apply_vjp(&f, &g, &dz)?;
            let (u, v) = (normal(&[3, n], rng), normal(&[n], rng));
            let along_f = inner(&dz, &convolution.apply(&u, &g)?);
            let along_g = inner(&dz, &convolution.apply(&f, &v)?);
            assert!((along_f - inner(&df, &u)).abs() < 1e-11, "{rule:?} {n}");
            assert!((along_g - inner(&dg, &v)).abs() < 1e-11, "{rule:?} {n}");
        }
    }
    let complex = |rng: &mut Rng| normal(&[9], rng).mapv(|re| Complex::new(re, 1.0 - re * re));
    let (f, g, dz, u) = (complex(rng), complex(rng), complex(rng), complex(rng));
    let convolution = FiniteConvolution::new(0.3, Rule::Simpson)?;
    let (df, _) = convolution.apply_vjp(&f, &g, &dz)?;
    let along = inner(&dz, &convolution.apply(&u, &g)?);
    assert!((along - inner(&df, &u)).abs() < 1e-11);
    Ok(())
}

#[test]
fn d1_nonsense_is_refused() {
    let x = arr1(&[1.0, 2.0, 3.0]);
    for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            finite_convolve(&x, &x, step, Rule::Simpson),
            Err(Error::Argument { .. })
        ));
    }
    for order in [0, 1, 11, usize::MAX] {
        assert!(FiniteConvolution::new(1.0, Rule::Gregory(order)).is_err());
    }
    let shape = |r: Result<ArrayD<f64>>| assert!(matches!(r, Err(Error::Shape { .. })));
    shape(finite_convolve(&x, &arr1(&[1.0]), 1.0, Rule::Trapezoid));
    shape(finite_convolve(
        &arr1(&[0.0; 0]),
        &arr1(&[0.0; 0]),
        1.0,
        Rule::Trapezoid,
    ));
    let trapezoid = FiniteConvolution::new(1.0, Rule::Trapezoid).unwrap();
    shape(trapezoid.with_error(&x, &x).map(|e| e.value));
    shape(trapezoid.apply_vjp(&x, &x, &arr1(&[1.0])).map(|(df, _)| df));
}

fn gauss(x: f64, mean: f64, sigma: f64) -> f64 {
    let u = (x - mean) / sigma;
    (-0.5 * u * u).exp() / (sigma * (2.0 * std::f64::consts::PI).sqrt())
}

fn grid(from: f64, to: f64, spacing: f64) -> Vec<f64> {
    let n = ((to - from) / spacing).round() as usize;
    (0..=n).map(|i| from + i as f64 * spacing).collect()
}

#[test]
fn d2_a_normal_distribution_gets_wider() -> Result<()> {
    let x = grid(-8.0, 10.0, 0.05);
    let f: Vec<f64> = x.iter().map(|&x| gauss(x, 1.0, 1.0)).collect();
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        let smear = Smear::uniform(0.05, &vec![0.5; x.len()], smearing)?;
        let z = smear.apply(&aview1(&f))?;
        for (z, x) in z.iter().zip(&x) {
            assert!((z - gauss(*x, 1.0, 1.25f64.sqrt())).abs() < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn d2_scatter_conserves_the_area_and_gather_does_not() -> Result<()> {
    let spacing = 0.01;
    let x = grid(-12.0, 12.0, spacing);
    let sigma: Vec<f64> = x.iter().map(|x| 0.2 * x.abs() + 0.1).collect();
    let f: Vec<f64> = x.iter().map(|&x| gauss(x, 1.0, 1.0)).collect();
    let area = |smearing| -> Result<f64> {
        let z = Smear::uniform(spacing, &sigma, smearing)?.apply(&aview1(&f))?;
        Ok(z.sum() * spacing)
    };
    assert!((area(Smearing::Scatter)? - 1.0).abs() < 1e-9);
    let gathered = area(Smearing::Gather)?;
    assert!((gathered - 1.057).abs() < 5e-4, "{gathered}");
    Ok(())
}

/// The sums without truncation or normalisation.
fn dense(x: &[f64], cells: &[f64], sigma: &[f64], f: &[f64], smearing: Smearing) -> Vec<f64> {
    let n = x.len();
    let weight = |i: usize, j: usize| match smearing {
        Smearing::Scatter => gauss(x[i], x[j], sigma[j]),
        Smearing::Gather => gauss(x[i], x[j], sigma[i]),
    };
    (0..n)
        .map(|i| (0..n).map(|j| cells[j] * f[j] * weight(i, j)).sum())
        .collect()
}

#[test]
fn d2_truncation_keeps_its_promise() -> Result<()> {
    let spacing = 0.1;
    let x = grid(-6.0, 6.0, spacing);
    let sigma: Vec<f64> = x.iter().map(|x| 0.25 + 0.05 * x.abs()).collect();
    let f: Vec<f64> = x.iter().map(|x| 1.0 + x.sin()).collect(); // does not vanish at the ends
    let cells = vec![spacing; x.len()];
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        let exact = dense(&x, &cells, &sigma, &f, smearing);
        for tolerance in [1e-3, 1e-6, 1e-12] {
            let smear = Smear::uniform(spacing, &sigma, smearing)?.tolerance(tolerance)?;
            let z = smear.apply(&aview1(&f))?;
            let error = z.iter().zip(&exact).map(|(z, e)| (z - e).abs());
            let error = error.fold(0.0, f64::max);
            assert!(
                error < 2.0 * 2.0 * tolerance + 1e-13,
                "{smearing:?} {tolerance}: {error}"
            );
        }
    }
    Ok(())
}

#[test]
fn d2_grids_of_any_spacing() -> Result<()> {
    // spacing from 0.01 to 0.05
    let mut x = vec![-8.0f64];
    while x[x.len() - 1] < 10.0 {
        let at = x[x.len() - 1];
        x.push(at + 0.03 + 0.02 * at.sin());
    }
    let f: Vec<f64> = x.iter().map(|&x| gauss(x, 1.0, 1.0)).collect();
    let sigma = vec![0.5; x.len()];
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        let z = Smear::on_grid(&x, &sigma, smearing)?.apply(&aview1(&f))?;
        for (z, x) in z.iter().zip(&x) {
            let error = (z - gauss(*x, 1.0, 1.25f64.sqrt())).abs();
            assert!(error < 1e-4, "{smearing:?} at {x}: {error}");
        }
    }
    let smear = Smear::on_grid(&x, &sigma, Smearing::Scatter)?;
    let area = |f: &[f64]| -> f64 { f.iter().zip(smear.cells()).map(|(f, c)| f * c).sum() };
    let z = smear.apply(&aview1(&f))?.into_raw_vec_and_offset().0;
    assert!((area(&z) - area(&f)).abs() < 1e-12);
    // positions that are uniform give what a spacing gives
    let x = grid(0.0, 5.0, 0.1);
    let f = Array1::from_iter(x.iter().map(|x| x.cos()));
    let sigma = vec![0.3; x.len()];
    let by_positions = Smear::on_grid(&x, &sigma, Smearing::Gather)?.apply(&f)?;
    let by_spacing = Smear::uniform(0.1, &sigma, Smearing::Gather)?.apply(&f)?;
    assert!((by_positions - by_spacing).iter().all(|d| d.abs() < 1e-12));
    Ok(())
}

#[test]
fn d2_widths_from_nothing_to_everything() -> Result<()> {
    let f = arr1(&[1.0f64, 2.0, 3.0, 4.0, 5.0]);
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        for sigma in [0.0, 1e-300, 1e-3] {
            let smear = Smear::uniform(1.0, &[sigma; 5], smearing)?;
            assert_eq!(smear.apply(&f)?, f.clone().into_dyn());
        }
        for sigma in [1e6, 1e300, f64::MAX] {
            let smear = Smear::uniform(1.0, &[sigma; 5], smearing)?;
            assert!(smear.apply(&f)?.iter().all(|z| z.abs() < 1e-4));
            let closed = smear.edges(Edges::Closed).apply(&f)?;
            assert!(closed.iter().all(|z| (z - 3.0).abs() < 1e-9), "{closed}");
        }
        let positions = [0.0, 1.0, 1.5, 3.0, 7.0];
        for sigma in [0.0, 1e-3, 0.4, 1e6, f64::MAX] {
            let smear = Smear::on_grid(&positions, &[sigma; 5], smearing)?;
            assert!(smear.apply(&f)?.iter().all(|z| z.is_finite()));
        }
    }
    // the whole area stays on a closed grid
    let closed = Smear::uniform(0.5, &[0.7; 5], Smearing::Scatter)?.edges(Edges::Closed);
    assert!((closed.apply(&f)?.sum() - 15.0).abs() < 1e-12);
    Ok(())
}

#[test]
fn d2_the_gradient_is_the_transposed_operator() -> Result<()> {
    let rng = &mut Rng::new(2);
    let mut x: Vec<f64> = (0..60).map(|_| rng.uniform() * 5.0).collect();
    x.sort_by(f64::total_cmp);
    let sigma: Vec<f64> = x.iter().map(|x| 0.1 + 0.05 * x).collect();
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        let operators = [
            Smear::uniform(0.1, &sigma, smearing)?,
            Smear::on_grid(&x, &sigma, smearing)?,
            Smear::on_grid(&x, &sigma, smearing)?.edges(Edges::Closed),
        ];
        for smear in operators {
            let (f, dz) = (normal(&[3, 60], rng), normal(&[3, 60], rng));
            let forward = inner(&dz, &smear.apply(&f)?);
            let backward = inner(&smear.apply_vjp(&dz)?, &f);
            assert!((forward - backward).abs() < 1e-10);
        }
    }
    Ok(())
}

#[test]
fn d2_long_inputs_in_single_precision_and_batches() -> Result<()> {
    let n = 3000;
    let sigma: Vec<f64> = (0..n).map(|i| 1.0 + f64::from(i) / 500.0).collect();
    let f = Array2::from_shape_fn((2, n as usize), |(r, i)| ((r + 1) * i % 17) as f32);
    let smear = Smear::uniform(1.0, &sigma, Smearing::Scatter)?;
    let z = smear.apply(&f)?;
    let row = smear.apply(&f.row(1).mapv(f64::from))?;
    let second = z.index_axis(ndarray::Axis(0), 1);
    let error = second.iter().zip(&row);
    assert!(error.fold(0.0, |m: f64, (a, b)| m.max((f64::from(*a) - b).abs())) < 1e-5);
    Ok(())
}

#[test]
fn d2_nonsense_is_refused() -> Result<()> {
    let argument = |r: Result<Smear>| assert!(matches!(r, Err(Error::Argument { .. })), "{r:?}");
    let shape = |r: Result<Smear>| assert!(matches!(r, Err(Error::Shape { .. })), "{r:?}");
    for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        argument(Smear::uniform(spacing, &[1.0; 3], Smearing::Gather));
    }
    for sigma in [-1.0, f64::NAN, f64::INFINITY] {
        argument(Smear::uniform(1.0, &[1.0, sigma], Smearing::Gather));
    }
    shape(Smear::uniform(1.0, &[], Smearing::Gather));
    shape(Smear::on_grid(&[0.0, 1.0], &[1.0], Smearing::Scatter));
    shape(Smear::on_grid(&[0.0], &[1.0], Smearing::Scatter));
    argument(Smear::on_grid(
        &[0.0, 2.0, 1.0],
        &[1.0; 3],
        Smearing::Scatter,
    ));
    argument(Smear::on_grid(
        &[0.0, f64::NAN, 1.0],
        &[1.0; 3],
        Smearing::Scatter,
    ));
    argument(Smear::on_grid(
        &[0.0, f64::INFINITY],
        &[1.0; 2],
        Smearing::Scatter,
    ));
    let smear = Smear::uniform(1.0, &[1.0; 3], Smearing::Gather)?;
    for tolerance in [0.0, 1.0, f64::NAN, -1e-3] {
        argument(smear.clone().tolerance(tolerance));
    }
    assert!(smear.apply(&arr1(&[1.0, 2.0])).is_err());
    assert!(smear.apply(&ndarray::arr0(1.0)).is_err());
    assert_eq!(smear.apply(&Array2::<f64>::zeros((0, 3)))?.shape(), [0, 3]);
    assert!(smear.apply(&arr1(&[1.0, f64::NAN, 2.0]))?[1].is_nan());
    Ok(())
}
