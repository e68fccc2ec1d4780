//! Commands for queued events: discard, hold, release; and the handle that gives them.

use tokio::sync::{mpsc, oneshot};

use crate::clock::Monotonic;
use crate::delivery::schedule::Schedule;
use crate::event::{EventId, HoldTarget, KeyId, SourceNames};

/// A handle on the dispatcher's queue. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct QueueHandle(mpsc::Sender<QueueCommand>);

#[derive(Debug)]
pub(super) enum QueueCommand {
    Discard { events: Vec<(EventId, KeyId)>, reply: oneshot::Sender<Vec<Discarding>> },
    Hold { target: HoldTarget, held: bool, done: oneshot::Sender<()> },
}

/// The result of discarding a queued event.
#[derive(Debug)]
pub enum Discarding {
    /// It is being settled; the receiver resolves when that is on disk.
    Ends(oneshot::Receiver<()>),
    /// A call is under way: the event ends after it, delivered or not, and is not retried.
    UnderWay,
    /// It is not waiting, or is being settled already.
    NotWaiting,
}

impl QueueHandle {
    pub(super) fn new() -> (QueueHandle, mpsc::Receiver<QueueCommand>) {
        let (sender, receiver) = mpsc::channel(COMMANDS);
        (QueueHandle(sender), receiver)
    }

    /// Discards events; one result for each, in order. None if the relay is stopping.
    pub async fn discard(&self, events: Vec<(EventId, KeyId)>) -> Option<Vec<Discarding>> {
        let (reply, results) = oneshot::channel();
        self.0.send(QueueCommand::Discard { events, reply }).await.ok()?;
        results.await.ok()
    }

    /// Holds or releases a key or a source; returns when no further call of it starts. A call under way is finished.
    /// The journal makes it survive a restart.
    pub async fn hold(&self, target: HoldTarget, held: bool) {
        let (done, wait) = oneshot::channel();
        if self.0.send(QueueCommand::Hold { target, held, done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Holds a key or a source in the schedule, or releases it.
pub(super) fn set_hold(
    schedule: &mut Schedule,
    target: &HoldTarget,
    held: bool,
    sources: &SourceNames,
    now: Monotonic,
) {
    let key = target.incident_key.as_ref().map(|key| KeyId::new(&target.source, key));
    match (key, held) {
        (Some(key), true) => schedule.hold_key(key, now),
        (Some(key), false) => schedule.release_key(key, now),
        (None, true) => schedule.hold_source(sources.id(&target.source), now),
        (None, false) => schedule.release_source(sources.id(&target.source), now),
    }
}

/// The limit of waiting commands; one takes microseconds.
const COMMANDS: usize = 16;
