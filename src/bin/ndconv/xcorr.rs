//! `ndconv xcorr`: correlation of signals by lag.

use std::path::PathBuf;

use ndarray::{Array1, ArrayD, Ix1, Ix2};
use ndarray_npy::WritableElement;
use ndconv::Element as _;
use ndconv::signal::{Scalar, Scaling, Xcorr};
use serde_json::{Value, json};

use crate::array::{self, Numbers};
use crate::exit::{Failure, Outcome};
use crate::output::{Output, number};
use crate::progress;

/// Correlate two signals at every lag, or one with itself, or the columns of a matrix.
#[derive(clap::Args)]
#[command(after_help = "\
R[k] = sum over i of x[i + k] * conj(y[i]); the shorter signal is taken to end in zeros. A matrix
gives a column for every pair of columns (i, j), at P * i + j.

Exit codes: 0 done, 2 a file or an argument is wrong.

Examples:
  ndconv xcorr x.npy y.npy --scaling coeff --maxlag 100
  ndconv xcorr x.npy --centred --scaling biased -o autocovariance.npy")]
pub struct Args {
    /// A signal, or a matrix of one signal per column.
    x: PathBuf,
    /// The other signal [default: x itself].
    y: Option<PathBuf>,
    /// none, biased, unbiased, coeff.
    #[arg(long, default_value = "none")]
    scaling: Scaling,
    /// The largest lag [default: all].
    #[arg(long)]
    maxlag: Option<usize>,
    /// Remove the means first: covariance, and with coeff the correlation coefficient.
    #[arg(long)]
    centred: bool,
    /// Write the values to this .npy file in place of a list.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print lags and values as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let x = Numbers::read(&self.x)?;
        let y = self.y.as_deref().map(Numbers::read).transpose()?;
        let Some(y) = y else {
            return match x {
                Numbers::F32(x) => self.columns(x, out),
                Numbers::F64(x) => self.columns(x, out),
                Numbers::C64(x) => self.columns(x, out),
                Numbers::C128(x) => self.columns(x, out),
            };
        };
        let x = x.like(&y);
        match (y.like(&x), x) {
            (Numbers::F32(y), Numbers::F32(x)) => self.pair(x, y, out),
            (Numbers::F64(y), Numbers::F64(x)) => self.pair(x, y, out),
            (Numbers::C64(y), Numbers::C64(x)) => self.pair(x, y, out),
            (Numbers::C128(y), Numbers::C128(x)) => self.pair(x, y, out),
            _ => Err(Failure::Usage("the signals have no common type".into())),
        }
    }

    fn xcorr(&self) -> Xcorr {
        let mut xcorr = Xcorr::new().scaling(self.scaling);
        if let Some(maxlag) = self.maxlag {
            xcorr = xcorr.maxlag(maxlag);
        }
        if self.centred { xcorr.centred() } else { xcorr }
    }

    fn pair<S: Scalar + WritableElement>(
        &self,
        x: ArrayD<S>,
        y: ArrayD<S>,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        let (x, y) = (signal(x)?, signal(y)?);
        let what = format!("{} with {} samples", x.len(), y.len());
        let r = progress::during(what, || self.xcorr().of(&x, &y))?;
        self.write(&r.lags, r.values.into_dyn(), out)
    }

    fn columns<S: Scalar + WritableElement>(
        &self,
        x: ArrayD<S>,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        if x.ndim() != 2 {
            let x = signal(x)?;
            let what = format!("{} samples with themselves", x.len());
            let r = progress::during(what, || self.xcorr().auto(&x))?;
            return self.write(&r.lags, r.values.into_dyn(), out);
        }
        let wrong = |e| Failure::Usage(format!("x: {e}"));
        let x = x.into_dimensionality::<Ix2>().map_err(wrong)?;
        let what = format!("every pair of {} columns", x.ncols());
        let r = progress::during(what, || self.xcorr().columns(&x))?;
        self.write(&r.lags, r.values.into_dyn(), out)
    }

    fn write<S: Scalar + WritableElement>(
        &self,
        lags: &[isize],
        values: ArrayD<S>,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        if let Some(path) = &self.output {
            array::write(path, &values)?;
        }
        let rows = values.rows();
        let pair = |v: &S| (v.re().to_f64(), v.im().to_f64());
        if self.json {
            let value = |v: &S| match S::COMPLEX {
                true => json!([number(pair(v).0), number(pair(v).1)]),
                false => number(pair(v).0),
            };
            let values: Value = match values.ndim() {
                1 => values.iter().map(value).collect(),
                _ => rows
                    .into_iter()
                    .map(|r| r.iter().map(value).collect::<Value>())
                    .collect(),
            };
            out.json(&json!({ "lags": lags, "values": values }))?;
        } else if self.output.is_none() {
            let width = if values.ndim() == 1 {
                1
            } else {
                values.shape()[1]
            };
            let mut numbers = values.iter();
            for lag in lags {
                let row = numbers
                    .by_ref()
                    .take(width)
                    .map(|v| match (S::COMPLEX, pair(v)) {
                        (true, (re, im)) => format!("{re}{im:+}i"),
                        (false, (re, _)) => re.to_string(),
                    });
                out.line(&format!("{lag}\t{}", row.collect::<Vec<_>>().join("\t")))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn signal<S: Scalar>(x: ArrayD<S>) -> Result<Array1<S>, Failure> {
    let axes = x.ndim();
    let wrong = |_| {
        Failure::Usage(format!(
            "a signal has one axis, this array {axes}; a matrix comes alone"
        ))
    };
    x.into_dimensionality::<Ix1>().map_err(wrong)
}
