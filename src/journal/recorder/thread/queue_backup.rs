//! Keeps the dispatcher's last copy of the queue, for a journal that must be repaired during a stop.

use std::collections::HashSet;

use tokio::sync::mpsc;

use crate::event::{EventId, Pending};
use crate::journal::decide::Accepted;
use crate::journal::recorder::{Committed, QueueCopy};

/// The dispatcher's last copy of the queue, and commits since.
#[derive(Debug)]
pub(super) struct QueueBackup {
    receiver: mpsc::Receiver<QueueCopy>,
    copy: Option<QueueCopy>,
    /// Commits after the dispatcher ended, in order.
    commits: Vec<Committed>,
}

impl QueueBackup {
    /// Returns it with the channel for the dispatcher's copy.
    pub(super) fn new() -> (mpsc::Sender<QueueCopy>, QueueBackup) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, QueueBackup { receiver, copy: None, commits: Vec::new() })
    }

    /// Notes a commit that the dispatcher did not get.
    pub(super) fn note(&mut self, committed: Committed) {
        self.commits.push(committed);
    }

    /// The current queue; none while the dispatcher has sent no copy.
    pub(super) fn queue(&mut self) -> Option<&QueueCopy> {
        if let Ok(copy) = self.receiver.try_recv() {
            self.copy = Some(copy);
        }
        let copy = self.copy.as_mut()?;
        let mut ended = HashSet::new();
        for committed in self.commits.drain(..) {
            ended.extend(committed.settled.iter().map(|settlement| settlement.id));
            for Accepted { event, outgoing } in committed.accepted {
                let (source, action, priority) = (event.source, event.action, event.priority);
                copy.waiting.push(Pending { event: event.id, source, action, priority });
                copy.bodies.extend(outgoing.map(|outgoing| (event.id, outgoing)));
            }
        }
        copy.forget(&ended);
        Some(copy)
    }

    /// Returns true if no copy came, and none can come.
    pub(super) fn is_lost(&self) -> bool {
        self.copy.is_none() && self.receiver.is_closed() && self.receiver.is_empty()
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
