//! How the program ends: exit codes, and errors in one line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::output::printable;

/// The end of every `--help`.
pub const CODES: &str = "\
Exit codes:
  0  done; every check passed
  1  done, but a check failed
  2  wrong usage, or something could not be read, written or opened

NO_COLOR in the environment turns colours off; there are none outside a terminal.";

/// How a subcommand that ran to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; every check passed.
    Done,
    /// Done, but a check failed.
    ChecksFailed,
    /// A file could not be read or is malformed, and the rest was done.
    Unreadable,
}

/// Why a subcommand stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What the library said.
    #[error(transparent)]
    Library(#[from] ndconv::Error),
    /// Arguments that make no sense together, and what to do.
    #[error("{0}")]
    Usage(String),
    /// Standard output could not be written to.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// One line on standard error.
pub fn complain(message: &str) {
    let line = printable(message.trim());
    let _ = writeln!(io::stderr(), "error: {line}"); // nobody is left to tell if this fails
}

/// What is wrong with a file, naming it once.
pub fn about(path: &std::path::Path, error: &ndconv::Error) -> String {
    match error {
        ndconv::Error::Io { .. } | ndconv::Error::Format { .. } => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    }
}

/// The exit code of a subcommand's result.
pub fn with(result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::ChecksFailed) => ExitCode::from(1),
        Ok(Outcome::Unreadable) => ExitCode::from(2),
        // the reader has seen enough, as in `ndconv check cases | head`
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(2)
        }
    }
}

/// Help and version as clap prints them; its errors in one line.
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        _ => {}
    }
    let text = error.render().to_string();
    let mut lines: Vec<&str> = Vec::new();
    let mut help = "ndconv --help".to_string();
    for line in text.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage
                .split(' ')
                .take_while(|w| !w.starts_with(['[', '<', '-']));
            help = format!("{} --help", words.collect::<Vec<_>>().join(" "));
            break;
        }
        if !line.is_empty() && !line.starts_with("For more information") {
            lines.push(line.trim_start_matches("error: "));
        }
    }
    complain(&format!("{}; see {help}", lines.join("; ")));
    ExitCode::from(2)
}

/// Shows what the library warns of, a line each, on standard error.
pub fn show_warnings() {
    static WARNINGS: Warnings = Warnings;
    if log::set_logger(&WARNINGS).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.target().starts_with("ndconv")
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            eprintln!("ndconv: warning: {}", record.args());
        }
    }

    fn flush(&self) {}
}
