//! The state of the last reload, for readiness and status.

use serde_json::{Value, json};

use super::readiness::Degradation;
use crate::clock::WallTime;

/// The configuration in force, and why the files as they are now are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When the configuration was read last; at the start first.
    pub read_at: WallTime,
    /// When that which is in force was read.
    pub in_force_since: WallTime,
    pub failure: Option<ReloadFailure>,
    /// Dotted paths of the keys that were changed since the start and that only a restart takes over.
    pub restart_needed: Vec<String>,
}

/// Why the configuration that was read last is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadFailure {
    /// The first of the failures in a row.
    pub since: WallTime,
    /// Never empty; each with file, line and column where it has them.
    pub problems: Vec<String>,
}

impl Reload {
    /// The configuration of the start is in force.
    pub fn started(at: WallTime) -> Reload {
        Reload { read_at: at, in_force_since: at, failure: None, restart_needed: Vec::new() }
    }

    pub(super) fn degradation(&self) -> Option<Degradation> {
        let ReloadFailure { since, problems } = self.failure.as_ref()?;
        let first = problems.first().map_or("", String::as_str);
        let detail = match problems.len() {
            0 | 1 => first.to_owned(),
            count => format!("{first} (and {} more, see /api/v1/status)", count - 1),
        };
        Some(Degradation {
            reason: "config_reload",
            since: since.rfc3339(),
            status: None,
            fault: None,
            detail: Some(detail),
            remedy: "the rules that are in force stay so; `gander check` and `gander test` show all of it; what is mended is \
                     taken by itself within seconds, or at SIGHUP",
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let failure = self.failure.as_ref();
        json!({
            "successful": failure.is_none(),
            "read_at": self.read_at.rfc3339(),
            "in_force_since": self.in_force_since.rfc3339(),
            "failing_since": failure.map(|failure| failure.since.rfc3339()),
            "problems": failure.map_or(&[][..], |failure| &failure.problems),
            "restart_needed": self.restart_needed,
        })
    }
}
