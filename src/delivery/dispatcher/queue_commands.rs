//! Commands for queued events: discard, hold, release; and the handle that gives them.

use tokio::sync::{mpsc, oneshot};

use crate::event::{EventId, KeyId, SourceId};

/// A handle on the dispatcher's queue. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct QueueHandle(mpsc::Sender<QueueCommand>);

#[derive(Debug)]
pub(super) enum QueueCommand {
    Discard { events: Vec<(EventId, KeyId)>, reply: oneshot::Sender<Vec<Withdrawal>> },
    Hold { what: Hold, held: bool, done: oneshot::Sender<()> },
}

/// The target of a hold. A call under way is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Key(KeyId),
    Source(SourceId),
}

/// The result of discarding a queued event.
#[derive(Debug)]
pub enum Withdrawal {
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
    pub async fn discard(&self, events: Vec<(EventId, KeyId)>) -> Option<Vec<Withdrawal>> {
        let (reply, withdrawals) = oneshot::channel();
        self.0.send(QueueCommand::Discard { events, reply }).await.ok()?;
        withdrawals.await.ok()
    }

    /// Holds or releases a key or a source; returns when no further call of it starts. The journal makes it survive a
    /// restart.
    pub async fn hold(&self, what: Hold, held: bool) {
        let (done, wait) = oneshot::channel();
        if self.0.send(QueueCommand::Hold { what, held, done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// The limit of waiting commands; one takes microseconds.
const COMMANDS: usize = 16;
