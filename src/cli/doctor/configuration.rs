//! The configuration as the relay reads it, and the parts of it that the checks need.

use super::machine::{in_time, unanswered};
use super::report::Found;
use crate::cli::Stop;
use crate::cli::check::{count, summary};
use crate::config::{self, Addresses, Failure, Inputs, Loaded, Unreadable};
use crate::delivery::client;
use crate::journal;
use crate::yaml::{Findings, Severity};

/// The configuration's verdict, and the parts that the other checks need. A part may be right where another is wrong.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) found: Found,
    pub(super) addresses: Option<Addresses>,
    pub(super) journal: Option<journal::Config>,
    pub(super) upstream: Option<client::Config>,
}

/// Reads the configuration, as the relay does, with `required`; and its parts, with secrets and certificates or without,
/// with `optional`.
pub(super) async fn read(required: Inputs, optional: Inputs) -> Result<Read, Stop> {
    let read = in_time(move || {
        let found = verdict(&required)?;
        let (addresses, journal) = (config::load_addresses(&optional).ok(), config::load_journal(&optional).ok());
        let upstream = config::load_upstream(&optional).ok();
        Ok::<_, Unreadable>(Read { found, addresses, journal, upstream })
    });
    match read.await {
        Some(read) => Ok(read?),
        None => Ok(Read { found: unanswered(), addresses: None, journal: None, upstream: None }),
    }
}

fn verdict(inputs: &Inputs) -> Result<Found, Unreadable> {
    let file = inputs.path.display().to_string();
    match config::load(inputs) {
        Err(Failure::Unreadable(unreadable)) => Err(unreadable),
        Err(Failure::Invalid(findings)) => Ok(invalid(&file, &findings)),
        Ok(Loaded { config, warnings: mut findings, shadow }) => {
            findings.extend(shadow);
            Ok(match findings.is_fine() {
                true => Found::ok(format!("{file}: {}", summary(&config))),
                false => Found::warning(told(&file, &findings), CHECK),
            })
        }
    }
}

fn invalid(file: &str, findings: &Findings) -> Found {
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    match errors.all(|finding| finding.code == "secret-missing") {
        // The relay may have them.
        true => Found::warning(
            told(file, findings),
            "run this as the relay's user and with its environment; what needs these secrets is not tried",
        ),
        false => Found::failed(told(file, findings), CHECK),
    }
}

/// `gander.yaml: 2 errors, 1 warning; gander.yaml:3:5: what is wrong`.
fn told(file: &str, findings: &Findings) -> String {
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let kinds = [(number(Severity::Error), "error"), (number(Severity::Warning), "warning")];
    let counts = kinds.iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(*number, what));
    let first = findings.lines().into_iter().next().unwrap_or_default();
    format!("{file}: {}; {first}", counts.collect::<Vec<_>>().join(", "))
}

const CHECK: &str = "`gander check` shows each with its place and remedy";
