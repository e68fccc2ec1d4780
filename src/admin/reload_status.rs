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
    pub restart_needed: RestartNeeded,
}

/// The keys that were changed since the start and that only a restart takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartNeeded {
    /// Dotted paths.
    pub keys: Vec<String>,
    /// When the first of them was found changed; none if there is none.
    pub since: Option<WallTime>,
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
        Reload { read_at: at, in_force_since: at, failure: None, restart_needed: RestartNeeded::default() }
    }

    pub(super) fn degradations(&self) -> impl Iterator<Item = Degradation> {
        self.failed().into_iter().chain(self.restart_needed.degradation())
    }

    fn failed(&self) -> Option<Degradation> {
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
            remedy: "the rules that are in force stay so; `gander check` and `gander test` show all of it; what is fixed is \
                     taken by itself within seconds, or at SIGHUP".into(),
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
            "restart_needed": self.restart_needed.keys,
        })
    }
}

impl RestartNeeded {
    /// The keys that are changed now, after those that were before.
    pub fn followed_by(&self, keys: Vec<String>, now: WallTime) -> RestartNeeded {
        let since = (!keys.is_empty()).then(|| self.since.unwrap_or(now));
        RestartNeeded { keys, since }
    }

    fn degradation(&self) -> Option<Degradation> {
        Some(Degradation {
            reason: "restart_needed",
            since: self.since?.rfc3339(),
            status: None,
            fault: None,
            detail: Some(format!("changed and not in force: {}", self.keys.join(", "))),
            remedy: "restart the relay to take this over: what waits is kept; or put it back as it was".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_told_since_it_was_changed_first_until_it_is_put_back() {
        let keys = || vec!["sources.other".to_owned(), "upstream.timeout".to_owned()];
        let first = RestartNeeded::default().followed_by(keys(), WallTime(1_000));
        let second = first.followed_by(keys(), WallTime(2_000));
        let told = second.degradation().unwrap();
        assert_eq!(told.since, WallTime(1_000).rfc3339());
        assert_eq!(told.detail.as_deref(), Some("changed and not in force: sources.other, upstream.timeout"));
        assert_eq!(second.followed_by(Vec::new(), WallTime(3_000)), RestartNeeded::default());
        assert_eq!(RestartNeeded::default().degradation(), None);
    }
}
