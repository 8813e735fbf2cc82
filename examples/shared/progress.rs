//! Progress: a bar for a person at a terminal, a line an epoch for a pipe or a log.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::cli::{Result, say};

/// Shows how far the training is.
///
/// The bar goes to the standard error. The lines are a result, the curve in numbers, and go to the
/// standard output, unless a person there already watches the bar.
pub struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Starts at step 0 of `steps`.
    pub fn new(steps: u64) -> Self {
        let watched = io::stderr().is_terminal();
        let bar = match watched {
            true => ProgressBar::new(steps),
            false => ProgressBar::hidden(),
        };
        let style =
            ProgressStyle::with_template("{bar:40.cyan/blue} {percent:>3} %  {eta} left\n{msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress {
            bar,
            lines: !(watched && io::stdout().is_terminal()),
        }
    }

    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// One epoch is done, and this came out.
    pub fn epoch(&self, line: String) -> Result<()> {
        if self.lines {
            self.bar.suspend(|| say(&line))?;
        }
        self.bar.set_message(line);
        Ok(())
    }

    /// Leaves the terminal as it was, but for the full bar.
    pub fn finish(self) {
        self.bar.abandon();
    }
}
