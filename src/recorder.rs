//! The one owner of deduplication and of the journal's writing end.
//!
//! Whoever wants an event kept hands it a [`Submission`] and gets a receipt for each entry once everything in
//! it is on disk. Deciding and appending are one step of one owner, so concurrent copies of one event are one
//! event without a lock.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::event::Violation;
use crate::event::{Action, EventId, KeyId, Occurrence, Outcome, State, UpdateHash};
use crate::time::WallTime;

/// What one request asks to keep: all of it or nothing.
#[derive(Debug)]
pub struct Submission {
    pub source: Arc<str>,
    /// The relay's own id of the request, as in its logs.
    pub request_id: Arc<str>,
    pub received_at: WallTime,
    /// The body as it came.
    pub raw: Bytes,
    /// In the order of the payload. Ignored elements are not among them.
    pub entries: Vec<Entry>,
    /// Whether the receipts are to carry a [`Follow`].
    pub follow: bool,
}

/// One thing to keep.
#[derive(Debug)]
pub enum Entry {
    Event(Recordable),
    Refused {
        /// The element's own JSON; none where the whole request is refused, whose raw body stands for it.
        element: Option<Bytes>,
        /// A word for why: the label of the refusal.
        reason: &'static str,
        violations: Vec<Violation>,
    },
}

/// An event ready to be written.
#[derive(Debug)]
pub struct Recordable {
    pub action: Action,
    pub key: KeyId,
    pub incident_key: String,
    pub rule: Arc<str>,
    pub occurrence: Option<Occurrence>,
    pub update: UpdateHash,
    /// The canonical body, serialised.
    pub body: Bytes,
}

/// What became of one entry, in the order of the entries. Its existence is the proof that the entry is on disk.
#[derive(Debug)]
pub enum Receipt {
    Queued { id: EventId, follow: Option<Follow> },
    Duplicate { of: EventId, follow: Option<Follow> },
    Refused { id: EventId },
}

/// Resolves when the event is settled.
#[derive(Debug)]
pub struct Follow(oneshot::Receiver<Settled>);

/// How an event ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub id: EventId,
    pub state: State,
    /// What the upstream said; none where it was never reached or its answer was no delivery.
    pub outcome: Option<Outcome>,
    /// Why, where it ended without delivery.
    pub reason: Option<String>,
}

/// Why nothing was kept. The sender is asked to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// `journal.max_events` or `max_bytes` is reached.
    Backlog,
    /// The disk is full.
    DiskFull,
    /// A write or sync failed; the journal is being reopened.
    JournalFault,
    /// More requests wait than the recorder's queue holds.
    Overload,
    /// The relay is stopping.
    Stopping,
}

/// A handle on the recorder. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct Recorder {}

impl Recorder {
    /// Keeps a submission; returns one receipt an entry, after the sync.
    pub async fn record(&self, _submission: Submission) -> Result<Vec<Receipt>, Unavailable> {
        Err(Unavailable::Stopping)
    }
}

impl Follow {
    /// Waits for the end of the event; none if the relay stops before that.
    pub async fn settled(self) -> Option<Settled> {
        self.0.await.ok()
    }
}
