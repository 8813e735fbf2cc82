//! The `ndconv` command line: one module per subcommand, each with a `run` that writes to an
//! [`Output`](output::Output) and says how it went.

mod array;
mod bench;
mod check;
mod convolve;
mod device;
mod devices;
mod exit;
mod image;
mod inspect;
mod output;
mod progress;
mod remap;
mod shell;
mod table;
mod xcorr;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Failure, Outcome};
use output::Output;

/// Convolution layers of every rank: check, measure and convert them.
#[derive(Parser)]
#[command(name = "ndconv", version, after_help = exit::CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Bench(bench::Args),
    Convolve(convolve::Convolve),
    Correlate(convolve::Correlate),
    Xcorr(xcorr::Args),
    Devices(devices::Args),
    Inspect(inspect::Args),
    Remap(remap::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

impl Command {
    fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        match self {
            Command::Check(args) => args.run(out),
            Command::Bench(args) => args.run(out),
            Command::Convolve(args) => args.run(out),
            Command::Correlate(args) => args.run(out),
            Command::Xcorr(args) => args.run(out),
            Command::Devices(args) => args.run(out),
            Command::Inspect(args) => args.run(out),
            Command::Remap(args) => args.run(out),
            Command::Completions(args) => args.run(out),
            Command::Man(args) => args.run(out),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    exit::show_warnings();
    let mut out = Output::to_stdout();
    let outcome = cli.command.run(&mut out);
    exit::with(outcome.and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    }))
}
