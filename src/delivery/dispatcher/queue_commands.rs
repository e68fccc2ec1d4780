//! Commands about events that wait: to end them, to hold them back, to let them go; and the handle that gives them.

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

/// What is held back until a person lets it go. What is under way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Key(KeyId),
    Source(SourceId),
}

/// What becomes of a queued event that a person discards.
#[derive(Debug)]
pub enum Withdrawal {
    /// It ends; resolves when that is on disk.
    Ends(oneshot::Receiver<()>),
    /// A call of it is under way: it ends after that, delivered or not, and is not tried again.
    UnderWay,
    /// It does not wait, or ends at this moment.
    NotWaiting,
}

impl QueueHandle {
    pub(super) fn new() -> (QueueHandle, mpsc::Receiver<QueueCommand>) {
        let (sender, receiver) = mpsc::channel(COMMANDS);
        (QueueHandle(sender), receiver)
    }

    /// Ends these events; one answer an event, in their order. None where the relay is stopping.
    pub async fn discard(&self, events: Vec<(EventId, KeyId)>) -> Option<Vec<Withdrawal>> {
        let (reply, withdrawals) = oneshot::channel();
        self.0.send(QueueCommand::Discard { events, reply }).await.ok()?;
        withdrawals.await.ok()
    }

    /// Holds a key or a source back, or lets it go; returns when no further call of it starts. That it survives a
    /// restart is the journal's part.
    pub async fn hold(&self, what: Hold, held: bool) {
        let (done, wait) = oneshot::channel();
        if self.0.send(QueueCommand::Hold { what, held, done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Commands that wait; one takes microseconds.
const COMMANDS: usize = 16;
