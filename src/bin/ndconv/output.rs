//! Standard output, and what may be written to it: text, tables, JSON.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, StdoutLock, Write};

use serde_json::Value;

/// A colour that means something; the text must make sense without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// The terminal's own.
    #[default]
    Plain,
    /// Green.
    Good,
    /// Red.
    Bad,
    /// Bold.
    Heading,
}

impl Tone {
    /// The escape sequence that begins this tone.
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("\x1b[32m"),
            Tone::Bad => Some("\x1b[31m"),
            Tone::Heading => Some("\x1b[1m"),
        }
    }
}

/// Whether to write escape sequences, by what standard output is and the environment says.
fn coloured(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let no_color = variable("NO_COLOR").is_some_and(|v| !v.is_empty());
    let dumb = variable("TERM").is_some_and(|v| v == "dumb");
    terminal && !no_color && !dumb
}

/// Standard output, coloured if it is a terminal and `NO_COLOR` is not set.
///
/// With `--json` a subcommand writes one JSON document here and nothing else: an object with
/// names in `snake_case`, times in seconds, sizes in bytes, and numbers that are not finite as
/// the strings `"NaN"`, `"inf"`, `"-inf"` (see [`number`]).
pub struct Output {
    stdout: StdoutLock<'static>,
    colour: bool,
}

impl Output {
    pub fn to_stdout() -> Self {
        let stdout = io::stdout().lock();
        Output {
            colour: coloured(stdout.is_terminal(), |name| std::env::var_os(name)),
            stdout,
        }
    }

    /// Text with a tone, escape sequences included.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.colour => format!("{code}{text}\x1b[0m"),
            _ => text.to_string(),
        }
    }

    /// One line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }

    /// A JSON document, indented.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout, value)?;
        writeln!(self.stdout)
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// A number as JSON; JSON has no word for those that are not finite, so they become strings.
pub fn number(value: f64) -> Value {
    match value {
        v if v.is_finite() => Value::from(v),
        v if v.is_nan() => Value::from("NaN"),
        v if v > 0.0 => Value::from("inf"),
        _ => Value::from("-inf"),
    }
}

/// Text that came from a file or a path, in one line and without control characters.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match c {
        '\n' => " ".to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_turns_colours_off() {
        let set = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| value.into())
        };
        assert!(coloured(true, |_| None));
        assert!(
            coloured(true, set("NO_COLOR", "")),
            "as no-color.org has it"
        );
        assert!(coloured(true, set("TERM", "xterm")));
        for (terminal, name, value) in [
            (true, "NO_COLOR", "1"),
            (true, "NO_COLOR", "0"),
            (true, "TERM", "dumb"),
            (false, "TERM", "xterm"),
        ] {
            let colour = coloured(terminal, set(name, value));
            assert!(!colour, "{name}={value}");
            let output = Output {
                stdout: io::stdout().lock(),
                colour,
            };
            for tone in [Tone::Plain, Tone::Good, Tone::Bad, Tone::Heading] {
                assert_eq!(output.paint(tone, "12 passed"), "12 passed");
            }
        }
        let output = Output {
            stdout: io::stdout().lock(),
            colour: true,
        };
        assert_eq!(output.paint(Tone::Good, "ok"), "\x1b[32mok\x1b[0m");
    }
}
