//! Settlements that are being written: their keys wait, and who discarded an event is told once it is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::delivery::schedule::KeySlot;
use crate::event::{EventId, Queued};

/// The settlements being written, by event.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<EventId, Unwritten>);

/// An event whose settlement is being written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) event: Queued,
    /// None where its body was not at hand.
    pub(super) incident_key: Option<Arc<str>>,
    /// None if it was not the first of its key, which then does not wait for it.
    pub(super) key: Option<KeySlot>,
    /// The time since its acknowledgement.
    pub(super) age: Duration,
    /// True if an earlier attempt may have taken effect without an answer.
    pub(super) in_doubt: bool,
    /// Notified when the settlement is on disk.
    pub(super) told: Option<oneshot::Sender<()>>,
}

impl Settling {
    pub(super) fn put(&mut self, unwritten: Unwritten) {
        self.0.insert(unwritten.event.id, unwritten);
    }

    /// Adds a receiver for the notice that this settlement is on disk.
    pub(super) fn tell(&mut self, id: EventId, told: oneshot::Sender<()>) {
        if let Some(unwritten) = self.0.get_mut(&id) {
            unwritten.told = Some(told);
        }
    }

    pub(super) fn contains(&self, id: EventId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = EventId> {
        self.0.keys().copied()
    }

    /// Removes a settlement that is on disk.
    pub(super) fn take(&mut self, id: EventId) -> Option<Unwritten> {
        self.0.remove(&id)
    }
}
