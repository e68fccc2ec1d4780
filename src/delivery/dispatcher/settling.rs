//! Events whose settlement is on its way to the disk: their keys wait for it, and only then is it told.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::delivery::schedule::KeySlot;
use crate::event::{EventId, Queued};

/// The settlements that are being written, by event.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<EventId, Unwritten>);

/// An event whose settlement is being written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) event: Queued,
    /// None where it was not the first of its key, which then does not wait for it.
    pub(super) key: Option<KeySlot>,
    /// Since it was acknowledged.
    pub(super) age: Duration,
    /// An earlier attempt may have taken effect unseen.
    pub(super) in_doubt: bool,
    /// Waits for the settlement to be on disk.
    pub(super) told: Option<oneshot::Sender<()>>,
}

impl Settling {
    pub(super) fn put(&mut self, unwritten: Unwritten) {
        self.0.insert(unwritten.event.id, unwritten);
    }

    /// Tells when the settlement of this event is on disk.
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

    /// The settlement of this event is on disk.
    pub(super) fn take(&mut self, id: EventId) -> Option<Unwritten> {
        self.0.remove(&id)
    }
}
