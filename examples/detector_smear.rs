//! A spectrum as a detector sees it: every line spread by the resolution at its energy.
//!
//! ```text
//! cargo run --release --example detector_smear
//! ```
//!
//! Gamma lines of Eu-152 (energies in keV, intensities per 100 decays) on a falling continuum meet
//! the resolutions of a germanium crystal, a scintillator and a calorimeter of ten per cent.
//! Scattering keeps the counts; gathering, the same widths read the other way round, does not: the
//! more so, the faster the width changes. `target/detector_smear/spectrum.svg` shows both.

#[path = "shared/curves.rs"]
mod curves;

use std::process::ExitCode;
use std::time::Instant;

use curves::{Panel, Result, SeriesLabelPosition, folder, write_svg};
use ndarray::Array1;
use ndconv::signal::{Smear, Smearing};

/// keV, photons per 100 decays.
const LINES: [(f64, f64); 8] = [
    (121.8, 28.4),
    (244.7, 7.5),
    (344.3, 26.6),
    (778.9, 13.0),
    (964.1, 14.5),
    (1085.8, 10.1),
    (1112.1, 13.4),
    (1408.0, 20.9),
];

/// keV between samples.
const SPACING: f64 = 0.5;

/// Full width at half maximum over standard deviation of a Gaussian.
const FWHM: f64 = 2.354_820_045;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("detector_smear: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let energies = Array1::from_iter((0..4001).map(|i| f64::from(i) * SPACING));
    let mut emitted = energies.mapv(|e| 0.02 * (-e / 400.0).exp());
    for (energy, intensity) in LINES {
        emitted[(energy / SPACING).round() as usize] += intensity / SPACING;
    }
    let germanium = energies.mapv(|e| (1.0 + 0.0015 * e).sqrt() * 1.6 / FWHM);
    let scintillator = energies.mapv(|e| (40.0 + 2.2 * e).sqrt() / FWHM);
    let calorimeter = energies.mapv(|e| 0.1 * e + 1.0);

    println!(
        "{:<14}{:<10}{:>12}{:>14}{:>10}",
        "detector", "smearing", "counts", "of emitted", "time"
    );
    let total = emitted.sum() * SPACING;
    let mut seen = Vec::new();
    for (name, sigma) in [
        ("germanium", &germanium),
        ("scintillator", &scintillator),
        ("calorimeter", &calorimeter),
    ] {
        for smearing in [Smearing::Scatter, Smearing::Gather] {
            let widths = sigma.to_vec();
            let start = Instant::now();
            let smear = Smear::uniform(SPACING, &widths, smearing)?;
            let spectrum = smear.apply(&emitted)?;
            let time = start.elapsed().as_secs_f64() * 1e3;
            let counts = spectrum.sum() * SPACING;
            let share = counts / total;
            let label = format!("{smearing:?}").to_lowercase();
            println!("{name:<14}{label:<10}{counts:>12.4}{share:>14.6}{time:>7.1} ms");
            seen.push(spectrum);
        }
    }
    println!("emitted: {total:.4} per 100 decays; what scatter lacks left through the edges");

    let curve = |values: &ndarray::ArrayD<f64>, from: f64, to: f64| -> Vec<(f64, f64)> {
        let points = energies.iter().copied().zip(values.iter().copied());
        points.filter(|(e, _)| (from..=to).contains(e)).collect()
    };
    let panels = [
        Panel {
            title: "Eu-152: what two detectors see",
            axes: ["energy (keV)", "counts per keV and 100 decays"],
            log: [false, true],
            legend: SeriesLabelPosition::UpperRight,
            curves: vec![
                ("germanium", curve(&seen[0], 20.0, 1600.0), None),
                ("scintillator", curve(&seen[2], 20.0, 1600.0), None),
            ],
        },
        Panel {
            title: "Ten per cent: two meanings of sigma(E)",
            axes: ["energy (keV)", "counts per keV and 100 decays"],
            log: [false, false],
            legend: SeriesLabelPosition::UpperRight,
            curves: vec![
                (
                    "scatter: width of the source",
                    curve(&seen[4], 700.0, 1999.0),
                    None,
                ),
                (
                    "gather: width of the output",
                    curve(&seen[5], 700.0, 1999.0),
                    None,
                ),
            ],
        },
    ];
    write_svg(&folder("detector_smear")?.join("spectrum.svg"), &panels)
}
