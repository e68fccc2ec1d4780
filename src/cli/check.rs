//! `gander check`: everything that is wrong or doubtful, at once.

use std::path::PathBuf;

use clap::Args;

use super::terminal::{Terminal, plain};
use super::{ConfigArguments, Exit, Stop, input};
use crate::authoring::lint;
use crate::callgoose::filters::Filters;
use crate::config::{self, Config, Failure, Loaded, Secrets};
use crate::yaml::{Findings, Severity};

/// Check the configuration, its rules, certificates and secrets
///
/// Shows every finding at once, each with file, line, column, what was expected and the remedy. Nothing is started and
/// nothing is written. With sandbox filters it also finds rules that write values which no filter matches.
///
/// Errors keep the relay from starting, but for those in rules on trial (`rules_shadow`): it starts without these.
/// Warnings are what is probably not meant; notes are worth knowing and change no exit code.
///
/// Exit codes: 0 nothing was found but notes; 1 there are errors or warnings; 2 the file can't be read.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The sandbox filters that the rules are held against [default: callgoose-filters.yaml beside the configuration]
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
    /// Print the findings as a JSON list of {severity, code, file, line, column, end_line, end_column, path, message, help}
    ///
    /// Lines and columns count from 1, in characters; the end is the column behind the last one. `path` is the dotted
    /// path of the key. Where a finding is about a variable or a flag, `file` is its name and the lines are null. `code`
    /// says what kind of finding it is, as unknown-key or unreachable-rule; config/OPERATING.md lists them.
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let inputs = arguments.config.inputs(Secrets::Required)?;
    let filters = input::filters(arguments.filters.as_deref(), Some(&inputs.path))?;
    let (loaded, snapshot) = config::read(&inputs);
    let (mut findings, config) = match loaded {
        Err(Failure::Unreadable(unreadable)) => return Err(unreadable.into()),
        Err(Failure::Invalid(findings)) => (findings, None),
        Ok(Loaded { config, mut warnings, shadow }) => {
            warnings.extend(shadow);
            (warnings, Some(config))
        }
    };
    // Rules in the shadow of others may be wrong where the configuration is not.
    let complete = config.is_some() && !findings.has_errors();
    let sources = config.as_ref().map_or(&[][..], |config| &config.sources);
    lint::look(&snapshot.rules, sources, complete, filters.as_ref(), &mut findings);
    if let Some(section) = config.as_ref().and_then(|config| config.self_check.as_ref()) {
        // Mistakes in the filters themselves were told above.
        let read = filters.as_ref().and_then(|file| Some((Filters::read(file, &mut Findings::new())?, &file.name)));
        let filters = read.as_ref().map(|(filters, name)| (filters, name.as_str()));
        lint::self_check(section, sources, filters, &mut findings);
    }
    findings.sort();
    if let Some(config) = config
        && findings.is_fine()
        && !arguments.json
    {
        terminal.print(&format!("{} is fine: {}", plain(&inputs.path.display().to_string()), summary(&config)));
    }
    show(&findings, arguments.json, terminal);
    Ok(if findings.is_fine() { Exit::Fine } else { Exit::No })
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
    if findings.is_fine() {
        return;
    }
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (number(Severity::Error), number(Severity::Warning), number(Severity::Note));
    let notes = if notes == 0 { String::new() } else { format!(", {}", count(notes, "note")) };
    terminal.say(&format!("\n{} and {}{notes}", count(errors, "error"), count(warnings, "warning")));
}

/// The sources and where they are reached.
pub(super) fn summary(config: &Config) -> String {
    let confirmations = config.confirmations.iter().map(|source| &*source.name);
    let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).chain(confirmations).collect();
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    format!("{} on {scheme}://{}: {}", count(names.len(), "source"), config.listen.address, names.join(", "))
}

pub(super) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
