//! Keeps the dispatcher's last copy of the queue, for a journal that must be repaired during a stop.

use std::collections::HashSet;

use tokio::sync::mpsc;

use crate::event::{EventId, Waits};
use crate::journal::recorder::{Durable, Fresh, Remembered};

/// The queue as the dispatcher left it, and commits since.
#[derive(Debug)]
pub(super) struct LeftBehind {
    left: mpsc::Receiver<Remembered>,
    remembered: Option<Remembered>,
    /// Commits that it was not told any more, in order.
    untold: Vec<Durable>,
}

impl LeftBehind {
    /// With it, where the dispatcher leaves it.
    pub(super) fn new() -> (mpsc::Sender<Remembered>, LeftBehind) {
        let (sender, left) = mpsc::channel(1);
        (sender, LeftBehind { left, remembered: None, untold: Vec::new() })
    }

    /// Notes what the dispatcher was not told any more.
    pub(super) fn note(&mut self, durable: Durable) {
        self.untold.push(durable);
    }

    /// The queue by now; none while the dispatcher has left nothing.
    pub(super) fn remembered(&mut self) -> Option<&Remembered> {
        if let Ok(remembered) = self.left.try_recv() {
            self.remembered = Some(remembered);
        }
        let remembered = self.remembered.as_mut()?;
        let mut ended = HashSet::new();
        for durable in self.untold.drain(..) {
            ended.extend(durable.ended.iter().map(|settlement| settlement.id));
            for Fresh { event, outgoing } in durable.fresh {
                let (source, action, priority) = (event.source, event.action, event.priority);
                remembered.waiting.push(Waits { event: event.id, source, action, priority });
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

impl Remembered {
    /// These ends are on disk.
    fn forget(&mut self, ended: &HashSet<EventId>) {
        if !ended.is_empty() {
            self.waiting.retain(|waits| !ended.contains(&waits.event));
            self.ending.retain(|id| !ended.contains(id));
            self.bodies.retain(|id, _| !ended.contains(id));
        }
    }
}
