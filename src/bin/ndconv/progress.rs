//! A sign of life on standard error for work that takes its time.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Runs `work` with a spinner and a clock, which a terminal alone shows.
pub fn during<R>(what: String, work: impl FnOnce() -> R) -> R {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
        spinner.set_style(style);
    }
    spinner.set_message(what);
    spinner.enable_steady_tick(Duration::from_millis(250));
    let result = work();
    spinner.finish_and_clear();
    result
}
