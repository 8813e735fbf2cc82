//! What `h * conv(f, g)` gets wrong, and how to put it right at the same speed.
//!
//! ```text
//! cargo run --release --example finite_convolution
//! ```
//!
//! The integral from 0 to x of f(t) g(x - t) dt, for f = exp(-x) and g = 2 exp(-2 x), by the
//! Riemann sum that a discrete convolution is, by the trapezoid rule and by Gregory's rules, next
//! to the analytic 2 (exp(-x) - exp(-2 x)). `target/finite_convolution/rules.svg` shows it.

#[path = "shared/curves.rs"]
mod curves;

use std::process::ExitCode;
use std::time::Instant;

use curves::{Panel, Result, SeriesLabelPosition, folder, write_svg};
use ndarray::Array1;
use ndconv::signal::{FiniteConvolution, Rule, finite_convolve};

const END: f64 = 5.0;

const RULES: [(&str, Rule); 5] = [
    ("Riemann (h * conv)", Rule::Riemann),
    ("trapezoid", Rule::Trapezoid),
    ("Simpson", Rule::Simpson),
    ("Gregory, order 4", Rule::Gregory(4)),
    ("Gregory, order 8", Rule::Gregory(8)),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("finite_convolution: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The grid, both functions, and the exact result.
fn problem(steps: usize) -> [Array1<f64>; 4] {
    let x = Array1::linspace(0.0, END, steps + 1);
    let f = x.mapv(|x| (-x).exp());
    let g = x.mapv(|x| 2.0 * (-2.0 * x).exp());
    let exact = x.mapv(|x| 2.0 * ((-x).exp() - (-2.0 * x).exp()));
    [x, f, g, exact]
}

fn worst(steps: usize, rule: Rule) -> Result<f64> {
    let [_, f, g, exact] = problem(steps);
    let z = finite_convolve(&f, &g, END / steps as f64, rule)?;
    let errors = z.iter().zip(&exact).map(|(z, e)| (z - e).abs());
    Ok(errors.fold(0.0, f64::max))
}

fn run() -> Result<()> {
    let counts = [10, 20, 50, 100, 200, 400, 800];
    println!("greatest error of the convolution of exp(-x) and 2 exp(-2 x) on [0, 5]\n");
    print!("{:<20}", "steps");
    counts.iter().for_each(|n| print!("{n:>10}"));
    println!("{:>8}", "order");
    let mut convergence = Vec::new();
    for (name, rule) in RULES {
        let errors: Vec<f64> = counts
            .iter()
            .map(|&n| worst(n, rule))
            .collect::<Result<_>>()?;
        print!("{name:<20}");
        errors.iter().for_each(|e| print!("{e:>10.1e}"));
        println!("{:>8.2}", (errors[2] / errors[3]).log2());
        let points = counts.iter().map(|&n| n as f64).zip(errors);
        convergence.push((name, points.collect::<Vec<_>>(), None));
    }

    let steps = 20;
    let step = END / f64::from(steps);
    let [x, f, g, _] = problem(20);
    let [fine, .., exact] = problem(400);
    let dots = |rule| -> Result<Vec<(f64, f64)>> {
        let z = finite_convolve(&f, &g, step, rule)?;
        Ok(x.iter().copied().zip(z).collect())
    };
    let curves = vec![
        ("exact", fine.iter().copied().zip(exact).collect(), None),
        ("Riemann (h * conv)", dots(Rule::Riemann)?, Some(5)),
        ("trapezoid", dots(Rule::Trapezoid)?, Some(5)),
        ("Gregory, order 4", dots(Rule::Gregory(4))?, Some(3)),
    ];

    let [_, f, g, exact] = problem(50);
    let estimate = FiniteConvolution::new(END / 50.0, Rule::Gregory(4))?.with_error(&f, &g)?;
    let estimated = estimate.error.iter().copied().fold(0.0, f64::max);
    let errors = estimate
        .value
        .iter()
        .zip(&exact)
        .map(|(z, e)| (z - e).abs());
    let error = errors.fold(0.0, f64::max);
    println!("\n50 steps, Gregory of order 4: estimated error {estimated:.1e}, true {error:.1e}");

    let [_, f, g, _] = problem(100_000);
    let start = Instant::now();
    finite_convolve(&f, &g, END / 1e5, Rule::Gregory(4))?;
    println!(
        "100 000 steps take {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );

    let panels = [
        Panel {
            title: "exp(-x) and 2 exp(-2x), 20 steps",
            axes: ["x", "integral from 0 to x"],
            log: [false, false],
            legend: SeriesLabelPosition::UpperRight,
            curves,
        },
        Panel {
            title: "Each rule converges with its order",
            axes: ["steps", "greatest error"],
            log: [true, true],
            legend: SeriesLabelPosition::LowerLeft,
            curves: convergence,
        },
    ];
    write_svg(&folder("finite_convolution")?.join("rules.svg"), &panels)
}
