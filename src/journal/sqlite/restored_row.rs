//! The rows that a start reads back.

use std::collections::HashSet;
use std::sync::Arc;

use super::sum::Standing;
use super::{Found, RestoredEvent};
use crate::event::{Damage, EventId};

/// A row at a start.
pub(super) struct RestoredRow {
    pub(super) id: EventId,
    /// The source's name; empty if it is no text.
    pub(super) source: Arc<str>,
    /// Its state; none if that is damaged.
    pub(super) standing: Option<Standing>,
    pub(super) read: Result<Read, Damage>,
    /// True for an event's row, false for the state of a pruned event's key.
    pub(super) is_event: bool,
}

/// A row with a matching checksum.
pub(super) enum Read {
    Event(RestoredEvent),
    /// A refused payload, also one that a person ended since.
    Refused,
}

impl RestoredRow {
    /// The part for deduplication and delivery; none for a refused payload.
    pub(super) fn found(self) -> Option<Found> {
        match self.read {
            Ok(Read::Event(event)) => Some(Found::Event(event)),
            Ok(Read::Refused) => None,
            Err(_) => Some(Found::Damaged(self.id)),
        }
    }
}

/// One shared text for each name, so that a million events hold a few.
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
