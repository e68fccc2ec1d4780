//! `gander check`: everything that is wrong or doubtful, at once.

use clap::Args;

use super::terminal::Terminal;
use super::{ConfigArguments, Exit};
use crate::config::{self, Config, Failure, Loaded, Secrets};
use crate::document::{Findings, Severity};

/// Check the configuration, its rules, certificates and secrets
///
/// Shows every finding at once, each with file, line, column, what was expected and the remedy. Nothing is started and
/// nothing is written.
///
/// Exit codes: 0 nothing was found; 1 there are errors or warnings; 2 the file can't be read.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print the findings as a JSON list of {severity, file, line, column, end_line, end_column, path, message, help}
    ///
    /// Lines and columns count from 1, in characters; the end is the column behind the last one. `path` is the dotted
    /// path of the key. Where a finding is about a variable or a flag, `file` is its name and the lines are null.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    let inputs = match arguments.config.inputs(Secrets::Required, terminal) {
        Ok(inputs) => inputs,
        Err(exit) => return exit,
    };
    let findings = match config::load(&inputs) {
        Err(failure @ Failure::Unreadable(_)) => {
            terminal.say_failure(&failure);
            return Exit::CouldNotRun;
        }
        Err(Failure::Invalid(findings)) => findings,
        Ok(Loaded { config, warnings }) => {
            if warnings.is_empty() && !arguments.json {
                terminal.print(&format!("{} is fine: {}", inputs.path.display(), summary(&config)));
            }
            warnings
        }
    };
    show(&findings, arguments.json, terminal);
    if findings.is_empty() { Exit::Fine } else { Exit::No }
}

fn show(findings: &Findings, json: bool, terminal: &mut Terminal) {
    if json {
        terminal.print(&findings.to_json().to_string());
        return;
    }
    if findings.is_empty() {
        return;
    }
    let text = findings.render(terminal.colour());
    terminal.print(text.trim_end());
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let errors = findings.iter().count() - warnings;
    terminal.say(&format!("\n{} and {}", count(errors, "error"), count(warnings, "warning")));
}

fn summary(config: &Config) -> String {
    let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    format!("{} on {scheme}://{}: {}", count(names.len(), "source"), config.listen.address, names.join(", "))
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
