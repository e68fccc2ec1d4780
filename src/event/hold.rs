//! Holds: events that a person holds back.

use std::fmt;
use std::sync::Arc;

use crate::clock::WallTime;

/// The target of a hold: the events of one incident key, or of a whole source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTarget {
    pub source: Arc<str>,
    /// None for the whole source.
    pub incident_key: Option<Arc<str>>,
}

/// A hold that is in force: nothing of its target is sent until it is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub target: HoldTarget,
    pub since: WallTime,
}

impl HoldTarget {
    /// Returns true if events of this source and key are held.
    pub fn covers(&self, source: &str, incident_key: &str) -> bool {
        *self.source == *source && self.incident_key.as_deref().is_none_or(|key| key == incident_key)
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        if self.incident_key.is_some() { "key" } else { "source" }
    }
}

impl fmt::Display for HoldTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.incident_key {
            Some(key) => write!(f, "key `{key}` of source `{}`", self.source),
            None => write!(f, "source `{}`", self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_about_a_key_or_a_whole_source() {
        let key = HoldTarget { source: "s".into(), incident_key: Some("k".into()) };
        let source = HoldTarget { incident_key: None, ..key.clone() };
        for (source_of, key_of, by_key, by_source) in
            [("s", "k", true, true), ("s", "other", false, true), ("other", "k", false, false)]
        {
            assert_eq!(key.covers(source_of, key_of), by_key, "{source_of} {key_of}");
            assert_eq!(source.covers(source_of, key_of), by_source, "{source_of} {key_of}");
        }
        assert_eq!((key.to_string(), key.kind()), ("key `k` of source `s`".to_owned(), "key"));
        assert_eq!((source.to_string(), source.kind()), ("source `s`".to_owned(), "source"));
    }
}
