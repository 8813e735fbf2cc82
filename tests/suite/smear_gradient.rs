//! The gradient of a smearing in its widths, by difference quotients.

use ndarray::{Array2, ArrayD};
use ndconv::init::Rng;
use ndconv::signal::{Edges, Smear, Smearing};
use ndconv::{Error, Result};

const POINTS: usize = 40;

fn rows(rng: &mut Rng) -> Array2<f64> {
    Array2::from_shape_simple_fn((3, POINTS), || rng.normal())
}

/// Positions at random distances.
fn positions(rng: &mut Rng) -> Vec<f64> {
    let steps = (0..POINTS).map(|_| 0.5 + rng.uniform());
    let place = |at: &mut f64, step: f64| {
        *at += step;
        Some(*at)
    };
    steps.scan(0.0, place).collect()
}

#[test]
fn the_gradient_in_the_widths_is_that_of_difference_quotients() -> Result<()> {
    let rng = &mut Rng::new(5);
    let (f, dz) = (rows(rng), rows(rng));
    let places = positions(rng);
    // below and above the width from which on the samples sum to the area
    let sigma: Vec<f64> = (0..POINTS).map(|_| 0.3 + 4.0 * rng.uniform()).collect();
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        for edges in [Edges::Open, Edges::Closed] {
            for uniform in [true, false] {
                let smear = |sigma: &[f64]| -> Result<Smear> {
                    let smear = match uniform {
                        true => Smear::uniform(1.0, sigma, smearing),
                        false => Smear::on_grid(&places, sigma, smearing),
                    };
                    // what is cut off changes by jumps: far below the quotients' own error
                    smear?.edges(edges).tolerance(1e-40)
                };
                let loss = |sigma: &[f64]| -> Result<f64> {
                    let z: ArrayD<f64> = smear(sigma)?.apply(&f)?;
                    Ok(z.iter().zip(&dz).map(|(z, d)| z * d).sum())
                };
                let gradient = smear(&sigma)?.sigma_vjp(&f, &dz)?;
                assert_eq!(gradient.len(), POINTS);
                for p in 0..POINTS {
                    let moved = |step: f64| {
                        let mut sigma = sigma.clone();
                        sigma[p] += step;
                        loss(&sigma)
                    };
                    let h = 1e-5;
                    let slope = (moved(h)? - moved(-h)?) / (2.0 * h);
                    assert!(
                        (slope - gradient[p]).abs() < 1e-7 * slope.abs().max(1.0),
                        "{smearing:?} {edges:?} uniform {uniform} point {p}: {slope} {}",
                        gradient[p]
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn widths_of_zero_have_no_gradient_and_other_shapes_are_refused() -> Result<()> {
    let rng = &mut Rng::new(6);
    let (f, dz) = (rows(rng), rows(rng));
    let smear = Smear::uniform(1.0, &[0.0; POINTS], Smearing::Scatter)?;
    assert!(smear.sigma_vjp(&f, &dz)?.iter().all(|&g| g == 0.0));
    let one = dz.row(0).to_owned().insert_axis(ndarray::Axis(0));
    assert!(matches!(
        smear.sigma_vjp(&f, &one),
        Err(Error::Shape { .. })
    ));
    Ok(())
}
