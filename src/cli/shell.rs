//! `gander completions` and `gander man`: the command line itself, for shells and for `man`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::terminal::Terminal;
use super::{Cli, Exit, Stop};

/// Print completions for a shell
///
/// Exit codes: 0 fine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander completions bash > /etc/bash_completion.d/gander\n  \
                        gander completions zsh > \"${fpath[1]}/_gander\"\n  \
                        gander completions fish > ~/.config/fish/completions/gander.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page of gander or of one of its commands, or write them all
///
/// In roff, as `man` reads it.
///
/// Exit codes: 0 fine; 2 there is no such command, or the directory can't be written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander man | man -l -\n  gander man events replay | man -l -\n  \
                        gander man --output /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The command, as `events replay` [default: gander itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory, made if missing: gander.1, gander-check.1 …
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    output: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn command(&self, terminal: &mut Terminal) -> Exit {
        clap_complete::generate(self.shell, &mut Cli::command(), "gander", terminal);
        Exit::Fine
    }
}

impl Man {
    pub(crate) fn command(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        // A page for `--help` on every page would help nobody.
        let mut command = Cli::command().propagate_version(true).disable_version_flag(true).disable_help_flag(true);
        if let Some(directory) = &self.output {
            let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
            written.map_err(|error| format!("can't write into {}: {error}", directory.display()))?;
            return Ok(Exit::Fine);
        }
        command.build();
        let mut page = &command;
        for name in &self.command {
            let found = page.find_subcommand(name);
            page = found.ok_or_else(|| format!("there is no command `{}`", self.command.join(" ")))?;
        }
        // The terminal remembers what can't be written.
        let _ = clap_mangen::Man::new(page.clone()).render(terminal);
        Ok(Exit::Fine)
    }
}
