//! Keeps the dispatcher's last copy of the queue, for a journal that must be repaired during a stop.

use std::collections::HashSet;

use tokio::sync::mpsc;

use crate::event::{EventId, Pending};
use crate::journal::recorder::{Accepted, Committed, QueueCopy};

/// The queue as the dispatcher left it, and commits since.
#[derive(Debug)]
pub(super) struct LeftBehind {
    left: mpsc::Receiver<QueueCopy>,
    remembered: Option<QueueCopy>,
    /// Commits that it was not told any more, in order.
    untold: Vec<Committed>,
}

impl LeftBehind {
    /// With it, where the dispatcher leaves it.
    pub(super) fn new() -> (mpsc::Sender<QueueCopy>, LeftBehind) {
        let (sender, left) = mpsc::channel(1);
        (sender, LeftBehind { left, remembered: None, untold: Vec::new() })
    }

    /// Notes what the dispatcher was not told any more.
    pub(super) fn note(&mut self, committed: Committed) {
        self.untold.push(committed);
    }

    /// The queue by now; none while the dispatcher has left nothing.
    pub(super) fn remembered(&mut self) -> Option<&QueueCopy> {
        if let Ok(remembered) = self.left.try_recv() {
            self.remembered = Some(remembered);
        }
        let remembered = self.remembered.as_mut()?;
        let mut ended = HashSet::new();
        for committed in self.untold.drain(..) {
            ended.extend(committed.settled.iter().map(|settlement| settlement.id));
            for Accepted { event, outgoing } in committed.accepted {
                let (source, action, priority) = (event.source, event.action, event.priority);
                remembered.waiting.push(Pending { event: event.id, source, action, priority });
                remembered.bodies.extend(outgoing.map(|outgoing| (event.id, outgoing)));
            }
        }
        remembered.forget(&ended);
        Some(remembered)
    }

    /// Nothing was left, and nobody is there to leave it any more.
    pub(super) fn is_nothing(&self) -> bool {
        self.remembered.is_none() && self.left.is_closed() && self.left.is_empty()
    }
}

impl QueueCopy {
    /// These ends are on disk.
    fn forget(&mut self, ended: &HashSet<EventId>) {
        if !ended.is_empty() {
            self.waiting.retain(|waits| !ended.contains(&waits.event));
            self.ending.retain(|id| !ended.contains(id));
            self.bodies.retain(|id, _| !ended.contains(id));
        }
    }
}
