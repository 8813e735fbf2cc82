//! A memory that stores pairs in one vector: holographic reduced representations.
//!
//! ```text
//! cargo run --release --example hrr
//! ```
//!
//! Pairs of roles and fillers are bound by circular convolution and added up in one trace of the
//! same length; a role unbinds its filler, and the most similar of 1000 known vectors is the
//! answer. The table shows how many answers are right by dimension and number of pairs;
//! `target/hrr/accuracy.svg` the same, with the similarity of right and wrong answers.

#[path = "shared/curves.rs"]
mod curves;

use std::process::ExitCode;

use curves::{Panel, Result, SeriesLabelPosition, folder, write_svg};
use ndarray::{Array2, Axis, s};
use ndconv::init::Rng;
use ndconv::signal::hrr;

const KNOWN: usize = 1000;
const PAIRS: [usize; 4] = [3, 8, 20, 50];
const DIMENSIONS: [usize; 8] = [16, 32, 64, 128, 256, 512, 1024, 2048];
const TRIALS: usize = 6;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hrr: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    sentence()?;
    println!("\nright answers out of {KNOWN} known vectors, in per cent");
    print!("{:>10}", "dimension");
    PAIRS
        .iter()
        .for_each(|p| print!("{:>12}", format!("{p} pairs")));
    println!();
    let mut accuracy = PAIRS.map(|_| Vec::new());
    let mut cosines = [Vec::new(), Vec::new()];
    for dimension in DIMENSIONS {
        print!("{dimension:>10}");
        for (curve, pairs) in accuracy.iter_mut().zip(PAIRS) {
            let (right, own, best_other) = recall(dimension, pairs)?;
            print!("{:>11.1}%", 100.0 * right);
            curve.push((dimension as f64, 100.0 * right));
            if pairs == 8 {
                cosines[0].push((dimension as f64, own));
                cosines[1].push((dimension as f64, best_other));
            }
        }
        println!();
    }
    let names = PAIRS.map(|p| format!("{p} pairs in one vector"));
    let [own, other] = cosines;
    let panels = [
        Panel {
            title: "Recall from a holographic memory",
            axes: ["dimension", "right answers of 1000 (%)"],
            log: [true, false],
            legend: SeriesLabelPosition::LowerRight,
            curves: names
                .iter()
                .zip(accuracy)
                .map(|(name, curve)| (name.as_str(), curve, None))
                .collect(),
        },
        Panel {
            title: "8 pairs: why it works",
            axes: ["dimension", "cosine with the unbound vector"],
            log: [true, false],
            legend: SeriesLabelPosition::UpperRight,
            curves: vec![
                ("the filler that was stored", own, None),
                ("the best of the 999 others", other, None),
            ],
        },
    ];
    write_svg(&folder("hrr")?.join("accuracy.svg"), &panels)
}

/// "The dog bit the man" and back.
fn sentence() -> Result<()> {
    let rng = &mut Rng::new(2);
    let names = [
        "agent", "verb", "object", "dog", "bite", "man", "see", "woman",
    ];
    let vectors = hrr::random_unitary::<f64>(names.len(), 512, rng)?;
    let (roles, fillers) = (vectors.slice(s![..3, ..]), vectors.slice(s![3..6, ..]));
    let trace = hrr::superpose(&hrr::bind(&roles, &fillers)?)?;
    println!("trace = agent * dog + verb * bite + object * man, one vector of 512 numbers");
    for (role, name) in roles.rows().into_iter().zip(names) {
        let found = hrr::unbind(&trace, &role)?;
        let cosines = hrr::similarity(&found, &vectors)?;
        let ranked = cosines.iter().zip(names).max_by(|a, b| a.0.total_cmp(b.0));
        if let Some((cosine, answer)) = ranked {
            println!("  {name:<6} -> {answer:<6} (cosine {cosine:.2})");
        }
    }
    Ok(())
}

/// The share of right answers, and the mean cosine of the right and of the best wrong one.
fn recall(dimension: usize, pairs: usize) -> Result<(f64, f64, f64)> {
    let (mut right, mut own, mut other) = (0, 0.0, 0.0);
    for trial in 0..TRIALS {
        let rng = &mut Rng::new((dimension * 1000 + pairs * 10 + trial) as u64);
        let known: Array2<f32> = hrr::random_unitary(KNOWN, dimension, rng)?;
        let roles: Array2<f32> = hrr::random_unitary(pairs, dimension, rng)?;
        let fillers = known.slice(s![..pairs, ..]);
        let trace = hrr::superpose(&hrr::bind(&roles, &fillers)?)?;
        let found = hrr::unbind(&trace, &roles)?;
        for (filler, found) in found.axis_iter(Axis(0)).enumerate() {
            let cosines = hrr::similarity(&found, &known)?;
            let others = cosines.iter().enumerate().filter(|(i, _)| *i != filler);
            let best = others.map(|(_, c)| *c).fold(f32::NEG_INFINITY, f32::max);
            right += usize::from(cosines[filler] > best);
            own += f64::from(cosines[filler]);
            other += f64::from(best);
        }
    }
    let answers = (TRIALS * pairs) as f64;
    Ok((right as f64 / answers, own / answers, other / answers))
}
