//! What every example's command line has in common: its flags, its devices, how it ends.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::{env, fs};

use clap::Parser;
use ndconv::Device;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Flags that every example takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// cpu, cuda or cuda:N; the first GPU, or the processor where there is none, unless given
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Where every random choice comes from; the same seed gives the same bits
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = number::<u64>("a whole number of at least 0", |_| true))]
    pub seed: u64,
    /// A folder with MNIST's IDX files (or any others so named), in place of the bundled digits
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The folder to write to, made if need be [default: target/EXAMPLE in the package]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Common {
    /// Opens the device and says which it is.
    ///
    /// A device that was asked for must be there; the GPU that nobody asked for need not, but then
    /// the reason is told.
    pub fn open_device(&self) -> Result<Device> {
        let (device, why_not_cuda) = match &self.device {
            Some(name) => (name.parse()?, None),
            None => Device::cuda_or_cpu(0),
        };
        match why_not_cuda {
            Some(reason) => say(&format!("device: {device} ({reason})"))?,
            None => say(&format!("device: {device}"))?,
        }
        Ok(device)
    }

    /// The folder to write to.
    pub fn open_out(&self, example: &str) -> Result<PathBuf> {
        let out = self.out.clone().unwrap_or_else(|| {
            let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
            package.unwrap_or_default().join("target").join(example)
        });
        fs::create_dir_all(&out).map_err(|e| {
            let out = out.display();
            format!("{out}: expected a folder to write to, or a place to make it: {e}")
        })?;
        Ok(out)
    }
}

/// A flag's parser that says what it expects.
pub fn number<T>(
    expected: &'static str,
    fits: fn(&T) -> bool,
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone + Send + Sync
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(fits);
        number.ok_or_else(|| format!("expected {expected}"))
    }
}

/// How many times the data are seen.
pub fn epochs() -> impl Fn(&str) -> std::result::Result<usize, String> + Clone + Send + Sync {
    number("a whole number from 1 to 10000", |n| {
        (1..=10_000).contains(n)
    })
}

/// Images a step; more would ask for memory rather than speed.
pub fn batch() -> impl Fn(&str) -> std::result::Result<usize, String> + Clone + Send + Sync {
    number("a whole number from 1 to 4096", |n| (1..=4096).contains(n))
}

/// What a step's length is multiplied by.
pub fn learning_rate() -> impl Fn(&str) -> std::result::Result<f64, String> + Clone + Send + Sync {
    number("a finite number above 0", |r: &f64| {
        r.is_finite() && *r > 0.0
    })
}

/// Ends a training whose loss is no number any more: nothing could be learned from there.
pub fn check_loss(loss: f64) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(
        format!("the training diverged: expected a finite loss, got {loss}; lower --learning-rate")
            .into(),
    )
}

/// A line on the standard output; a reader that went away is an error, not a panic.
pub fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").map_err(|e| format!("standard output: {e}").into())
}

/// Parses the flags, runs the example, and reports an error in one line.
pub fn main<A: Parser>(run: impl FnOnce(A) -> Result<()>) -> ExitCode {
    let result = match A::try_parse() {
        Ok(args) => run(args),
        Err(help) if !help.use_stderr() => help.print().map_err(Into::into),
        Err(wrong) => Err(first_paragraph(&wrong.to_string()).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = error.to_string();
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            // nothing is left to tell when nobody reads the error either
            writeln!(io::stderr(), "error: {line}").ok();
            ExitCode::FAILURE
        }
    }
}

/// What clap says before its advice on usage.
fn first_paragraph(message: &str) -> String {
    let end = message.find("\n\n").unwrap_or(message.len());
    message[..end].trim_start_matches("error: ").to_string()
}
