//! `ndconv completions` and `ndconv man`: what a shell and a reader of manuals need.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man as Page;

use crate::Cli;
use crate::exit::{Failure, Outcome};
use crate::output::Output;

/// Print the completion script of a shell.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, 2 an argument is wrong or a file could not be written.

Examples:
  ndconv completions bash > ~/.local/share/bash-completion/completions/ndconv
  ndconv completions zsh > ~/.zfunc/_ndconv")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ndconv", &mut script);
        out.bytes(&script)?;
        Ok(Outcome::Done)
    }
}

/// Print the manual page, or write one page per subcommand.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, 2 an argument is wrong or a file could not be written.

Examples:
  ndconv man | man -l -
  ndconv man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// Write ndconv.1 and a page per subcommand into this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let mut command = Cli::command();
        command.build();
        let page = |command: clap::Command| -> Result<Vec<u8>, Failure> {
            let mut text = Vec::new();
            Page::new(command).render(&mut text)?;
            Ok(text)
        };
        let Some(dir) = self.dir else {
            out.bytes(&page(command)?)?;
            return Ok(Outcome::Done);
        };
        fs::create_dir_all(&dir).map_err(|source| ndconv::Error::Io {
            path: dir.clone(),
            source,
        })?;
        let subcommands = command.get_subcommands().cloned();
        let subcommands: Vec<_> = subcommands.filter(|c| c.get_name() != "help").collect();
        for command in subcommands.into_iter().chain([command]) {
            let name = command.get_display_name().unwrap_or("ndconv").to_string();
            ndconv::io::write_atomically(&dir.join(format!("{name}.1")), &page(command)?)?;
        }
        Ok(Outcome::Done)
    }
}
