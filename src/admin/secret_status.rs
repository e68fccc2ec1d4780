//! The secret files that can't be read.

use std::path::PathBuf;

use super::View;
use super::readiness::Degradation;
use crate::clock::WallTime;

/// A secret file that can't be read, or holds nothing that can be used. Its previous value is used on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadableSecret {
    pub file: PathBuf,
    pub problem: String,
    pub since: WallTime,
}

impl View {
    /// The secret files that can't be read.
    pub(super) fn secret_degradation(&self) -> Option<Degradation> {
        of_secrets(&self.unreadable_secrets.borrow())
    }
}

/// Nothing is amiss until the secret is to change, or the relay stops, so it makes nothing unready.
fn of_secrets(unreadable: &[UnreadableSecret]) -> Option<Degradation> {
    let since = unreadable.iter().map(|secret| secret.since).min()?;
    let files: Vec<String> = unreadable
        .iter()
        .map(|UnreadableSecret { file, problem, .. }| format!("{}: {problem}", file.display()))
        .collect();
    Some(Degradation {
        reason: "secret_file",
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(files.join("; ")),
        remedy:
            "the value that was read before is used until the relay stops, and no new one is taken: put the file back \
                 and let this user read it"
                .into(),
    })
}
