//! Events that ended, while their end is on its way to the disk: what is to be done when it is there.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::delivery::schedule::{KeySlot, Why};
use crate::event::{EventId, Outgoing, Queued};
use crate::journal::Damage;

use super::delivery::Ending;

/// The ends that are being written, by event.
#[derive(Debug, Default)]
pub(super) struct Ends(HashMap<EventId, Written>);

/// An end that is being written. Its key is free when it is on disk, and only then is it told.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) event: Queued,
    /// None where it was not the first of its key, which then does not wait for it.
    pub(super) key: Option<KeySlot>,
    pub(super) how: How,
    /// Who waits for the end to be on disk.
    pub(super) told: Option<oneshot::Sender<()>>,
}

impl Written {
    pub(super) fn new(event: Queued, key: Option<KeySlot>, how: How) -> Written {
        Written { event, key, how, told: None }
    }
}

/// What an event ended by.
#[derive(Debug)]
pub(super) enum How {
    /// A call.
    Called { outgoing: Outgoing, ending: Ending },
    /// A later event of its key, while it only waited for a better answer.
    Overtaken,
    /// What was to be sent is not what was written.
    Damaged(Damage),
    /// No call.
    Unsent { why: Why },
}

impl Ends {
    pub(super) fn put(&mut self, end: Written) {
        self.0.insert(end.event.id, end);
    }

    /// Somebody waits for the end of this event to be on disk.
    pub(super) fn tell(&mut self, id: EventId, told: oneshot::Sender<()>) {
        if let Some(written) = self.0.get_mut(&id) {
            written.told = Some(told);
        }
    }

    pub(super) fn contains(&self, id: EventId) -> bool {
        self.0.contains_key(&id)
    }

    /// Events that ended, and whose end is not on disk.
    pub(super) fn events(&self) -> impl Iterator<Item = EventId> {
        self.0.keys().copied()
    }

    /// The end of this event is on disk: what waited for that.
    pub(super) fn take(&mut self, id: EventId) -> Option<Written> {
        self.0.remove(&id)
    }
}
