//! The rows that a start reads back.

use std::collections::HashSet;
use std::sync::Arc;

use super::sum::Standing;
use super::{Found, Recovered};
use crate::event::{Damage, EventId};

/// A row at a restart.
pub(super) struct RecoveredRow {
    pub(super) id: EventId,
    /// By its text; empty where that is none.
    pub(super) source: Arc<str>,
    /// Where it stands, unless that is not what was written.
    pub(super) standing: Option<Standing>,
    pub(super) read: Result<Read, Damage>,
    /// It is the event's own row, and not that of a key's state.
    pub(super) is_event: bool,
}

/// A row whose checksum matches.
pub(super) enum Read {
    Event(Recovered),
    /// Also one that a person ended since.
    Refused,
}

impl RecoveredRow {
    /// The row for deduplication and delivery; none for a refused payload.
    pub(super) fn found(self) -> Option<Found> {
        match self.read {
            Ok(Read::Event(event)) => Some(Found::Event(event)),
            Ok(Read::Refused) => None,
            Err(_) => Some(Found::Damaged(self.id)),
        }
    }
}

/// One text for each name that was met, so that a million events share a few.
pub(super) fn shared(name: &str, names: &mut HashSet<Arc<str>>) -> Arc<str> {
    match names.get(name) {
        Some(name) => Arc::clone(name),
        None => {
            let name: Arc<str> = Arc::from(name);
            names.insert(Arc::clone(&name));
            name
        }
    }
}
