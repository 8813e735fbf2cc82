//! `ndconv check`: replays golden cases.

use std::path::{Path, PathBuf};

use ndconv::case::{self, Options, Report, Row, Summary};
use ndconv::{DType, Device, Error};
use serde_json::{Value, json};

use crate::device::DeviceArgs;
use crate::exit::{Failure, Outcome, about, complain};
use crate::output::{Output, Tone, number};
use crate::table::{Align, Cell, Stream};

/// Run golden cases: layers with their inputs, against the outputs that another library computed.
///
/// Prints a row per expected tensor, and in the last line how many cases passed, failed and were
/// skipped (the device does not offer such a layer in this element type). The error is
/// `max|got - expected| / max(1, max|expected|)`, the index of the worst element that of the
/// tensor as the file holds it.
#[derive(clap::Args)]
#[command(after_help = "\
Tolerance, where none is asked for: f64 1e-11, f32 1e-5, f16 2e-3, bf16 1.6e-2, times the square
root of the number of terms of a sum past 256.

Exit codes: 0 all passed, 1 one failed, 2 a file could not be read or is malformed (the others
still run).

Examples:
  ndconv check tests/cases
  ndconv check 'cases/conv*.safetensors' --dtype f32 --json
  ndconv check case.safetensors --rtol 1e-4 --atol 1e-6
  ndconv check --record cases/new.safetensors              add the expected tensors in place
  ndconv check new.safetensors --record recorded.safetensors")]
pub struct Args {
    /// Case files, folders of them, or patterns with * ? [..].
    #[arg(required_unless_present = "record")]
    paths: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// The element type to compute in: f64, f32, f16 or bf16 [default: that of x in the file].
    #[arg(long)]
    dtype: Option<DType>,
    /// Pass if every element has |got - expected| <= A + R * |expected|; A is 0 if not given.
    #[arg(long, value_name = "R", value_parser = tolerance)]
    rtol: Option<f64>,
    /// As --rtol, for the absolute part; R is 0 if not given.
    #[arg(long, value_name = "A", value_parser = tolerance)]
    atol: Option<f64>,
    /// Pass if every element equals the expected one, rounded to the element type.
    #[arg(long, conflicts_with_all = ["rtol", "atol"])]
    exact: bool,
    /// Check nothing, but write what comes out as the expected tensors: to this file or folder,
    /// or without other paths into the cases at PATH themselves.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["rtol", "atol", "exact"])]
    record: Option<String>,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    match value >= 0.0 {
        true => Ok(value),
        false => Err("must not be negative".into()),
    }
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let device = self.device.open()?;
        let options = Options {
            dtype: self.dtype,
            rtol: self.rtol,
            atol: self.atol,
            exact: self.exact,
            ..Options::default()
        };
        match &self.record {
            Some(to) => self.record(to, &device, &options, out),
            None => self.check(&device, &options, out),
        }
    }

    fn check(
        &self,
        device: &Device,
        options: &Options,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        let (files, mut missing) = expand(&self.paths);
        let mut table = None;
        if !self.json {
            let stem = |file: &PathBuf| file.file_stem().unwrap_or_default().len();
            let widest = files.iter().map(stem).max().unwrap_or(0);
            table = Some(Stream::begin(&COLUMNS, &[widest, 0, 16, 8, 0], out)?);
        }
        let mut summary = Summary::default();
        for file in files {
            let report = case::check_with(&file, device, options);
            if let Some(table) = &table {
                print(&file, &report, table, out)?;
            }
            match &report {
                Ok(_) | Err(Error::Unsupported { .. }) => {}
                Err(error) => {
                    out.flush()?; // so that the two streams interleave as things happened
                    complain(&about(&file, error));
                }
            }
            summary.cases.push((file, report));
        }
        missing += summary.unreadable();
        let (passed, failed) = (summary.passed(), summary.failed());
        if self.json {
            let cases: Vec<Value> = summary.cases.iter().map(|(f, r)| to_json(f, r)).collect();
            out.json(&json!({
                "device": device.to_string(),
                "cases": cases,
                "passed": passed,
                "failed": failed,
                "skipped": summary.skipped(),
                "unreadable": missing,
            }))?;
        } else {
            let tone = if summary.is_success() {
                Tone::Good
            } else {
                Tone::Bad
            };
            let skipped = summary.skipped();
            let counts = format!("{passed} passed, {failed} failed, {skipped} skipped");
            out.line(&out.paint(tone, &counts))?;
        }
        Ok(match (missing, failed) {
            (0, 0) => Outcome::Done,
            (0, _) => Outcome::ChecksFailed,
            _ => Outcome::Unreadable,
        })
    }

    fn record(
        &self,
        to: &str,
        device: &Device,
        options: &Options,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        let in_place = self.paths.is_empty();
        let (files, mut unreadable) = match in_place {
            true => expand(&[to.to_string()]),
            false => expand(&self.paths),
        };
        let to = Path::new(to);
        if !in_place && files.len() > 1 && !to.is_dir() {
            let (count, to) = (files.len(), to.display());
            return Err(Failure::Usage(format!(
                "--record {to} is not a folder, but there are {count} cases: make the folder, or \
                 to record in place quote the pattern: ndconv check --record 'PATTERN'"
            )));
        }
        let mut recorded = Vec::new();
        for file in files {
            let target = match (in_place, to.is_dir()) {
                (true, _) => file.clone(),
                (false, true) => to.join(file.file_name().unwrap_or_default()),
                (false, false) => to.to_owned(),
            };
            if !in_place && target.exists() {
                complain(&format!(
                    "{}: exists already: remove it first, or record in place with ndconv check \
                     --record PATH alone",
                    target.display()
                ));
                unreadable += 1;
                continue;
            }
            match case::record(&file, &target, device, options) {
                Ok(()) => recorded.push(target),
                Err(error) => {
                    complain(&about(&file, &error));
                    unreadable += 1;
                }
            }
        }
        if self.json {
            let paths: Vec<_> = recorded.iter().map(|p| p.to_string_lossy()).collect();
            out.json(&json!({ "recorded": paths, "unreadable": unreadable }))?;
        } else {
            for path in &recorded {
                out.line(&format!("recorded {}", path.display()))?;
            }
        }
        Ok(match unreadable {
            0 => Outcome::Done,
            _ => Outcome::Unreadable,
        })
    }
}

/// The files at these paths, in order, and how many paths led nowhere.
fn expand(paths: &[String]) -> (Vec<PathBuf>, usize) {
    let (mut files, mut missing) = (Vec::new(), 0);
    for path in paths {
        match expand_one(path) {
            Ok(found) => files.extend(found),
            Err(message) => {
                complain(&message);
                missing += 1;
            }
        }
    }
    (files, missing)
}

fn expand_one(path: &str) -> Result<Vec<PathBuf>, String> {
    let named = Path::new(path);
    if !named.exists() && path.contains(['*', '?', '[']) {
        let matches = glob::glob(path).map_err(|e| format!("{path}: not a pattern: {e}"))?;
        let mut files = Vec::new();
        for file in matches {
            let file = file.map_err(|e| e.to_string())?;
            files.extend(case::find(&file).map_err(|e| about(&file, &e))?);
        }
        if files.is_empty() {
            return Err(format!("{path}: no file matches this pattern"));
        }
        return Ok(files);
    }
    let files = case::find(named).map_err(|e| about(named, &e))?;
    if files.is_empty() {
        return Err(format!(
            "{path}: there is no .safetensors file in this folder"
        ));
    }
    Ok(files)
}

const COLUMNS: [(&str, Align); 5] = [
    ("case", Align::Left),
    ("tensor", Align::Left),
    ("shape", Align::Left),
    ("error", Align::Right),
    ("result", Align::Left),
];

fn print(
    file: &Path,
    report: &ndconv::Result<Report>,
    table: &Stream,
    out: &mut Output,
) -> Result<(), Failure> {
    match report {
        Ok(report) => {
            for row in &report.rows {
                table.row(&cells(report, row), out)?;
            }
        }
        Err(Error::Unsupported { what }) => {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let skip = format!("skip: {what}");
            let none = Cell::default;
            table.row(&[stem.into(), none(), none(), none(), skip.into()], out)?;
        }
        Err(_) => {}
    }
    Ok(())
}

fn cells(report: &Report, row: &Row) -> [Cell; 5] {
    let verdict = match row.passed {
        true => Cell::toned(Tone::Good, "pass"),
        false => {
            let (at, expected, got) = (&row.worst.index, row.worst.expected, row.worst.got);
            let verdict = format!("FAIL at {at:?}: expected {expected}, got {got}");
            Cell::toned(Tone::Bad, verdict)
        }
    };
    let shape = format!("{:?}", row.shape);
    let error = format!("{:.2e}", row.error);
    [
        (&report.name).into(),
        row.tensor.into(),
        shape.into(),
        error.into(),
        verdict,
    ]
}

fn to_json(file: &Path, report: &ndconv::Result<Report>) -> Value {
    let path = file.to_string_lossy();
    match report {
        Ok(report) => {
            let rows = report.rows.iter().map(|row| {
                json!({
                    "tensor": row.tensor,
                    "shape": row.shape,
                    "error": number(row.error),
                    "allowed": number(row.allowed),
                    "passed": row.passed,
                    "index": row.worst.index,
                    "expected": number(row.worst.expected),
                    "got": number(row.worst.got),
                })
            });
            json!({
                "path": path,
                "case": report.name,
                "dtype": report.dtype.name(),
                "status": if report.passed() { "passed" } else { "failed" },
                "tensors": rows.collect::<Vec<_>>(),
            })
        }
        Err(error) => {
            let skipped = matches!(error, Error::Unsupported { .. });
            json!({
                "path": path,
                "status": if skipped { "skipped" } else { "unreadable" },
                "reason": error.to_string(),
            })
        }
    }
}
