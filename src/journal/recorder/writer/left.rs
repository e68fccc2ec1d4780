//! Keeps the dispatcher's last copy of the queue, for a journal that must be repaired during a stop.

use std::collections::HashSet;

use tokio::sync::mpsc;

use crate::event::{EventId, Pending};
use crate::journal::recorder::{Accepted, Committed, QueueCopy};

/// The dispatcher's last copy of the queue, and commits since.
#[derive(Debug)]
pub(super) struct LeftBehind {
    left: mpsc::Receiver<QueueCopy>,
    remembered: Option<QueueCopy>,
    /// Commits after the dispatcher ended, in order.
    untold: Vec<Committed>,
}

impl LeftBehind {
    /// Returns it with the channel through which the dispatcher leaves its copy.
    pub(super) fn new() -> (mpsc::Sender<QueueCopy>, LeftBehind) {
        let (sender, left) = mpsc::channel(1);
        (sender, LeftBehind { left, remembered: None, untold: Vec::new() })
    }

    /// Notes a commit that the dispatcher did not get.
    pub(super) fn note(&mut self, committed: Committed) {
        self.untold.push(committed);
    }

    /// The current queue; none while the dispatcher has left no copy.
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

    /// Returns true if no copy came, and none can come.
    pub(super) fn is_nothing(&self) -> bool {
        self.remembered.is_none() && self.left.is_closed() && self.left.is_empty()
    }
}

impl QueueCopy {
    /// Drops settled events.
    fn forget(&mut self, ended: &HashSet<EventId>) {
        if !ended.is_empty() {
            self.waiting.retain(|waits| !ended.contains(&waits.event));
            self.ending.retain(|id| !ended.contains(id));
            self.bodies.retain(|id, _| !ended.contains(id));
        }
    }
}
