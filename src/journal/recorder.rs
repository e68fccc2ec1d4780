//! The recorder: the one owner of deduplication and of the journal's writing end, [`RecorderThread`], and the handle to
//! it, [`Recorder`].
//!
//! A caller hands over a [`Submission`] and gets a receipt for each entry once all of it is on disk. One owner decides
//! and appends in one step, so that concurrent copies of an event are one event without a lock, and one sync serves
//! everyone who waited meanwhile. The dispatcher hands over attempts and settlements; nobody else writes.

mod availability;
mod command;
mod confirmation;
mod earlier;
mod receipt;
mod thread;
mod write_progress;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::activity::Activity;
use crate::clock::WallTime;
use crate::event::{
    Action, Draft, EventId, HoldRecord, HoldTarget, KeyId, Occurrence, Outgoing, Pending, Queued, Settlement,
    SourceNames, UpdateHash, Violation,
};
use crate::journal::dedup::{Arrival, Preview};
use crate::journal::{AttemptRecord, CommandOrigin, SourceTotals, StoredRetry, Totals};
use crate::tap::Tap;
use crate::trace_context::TraceContext;

pub use availability::{Health, Remark, TurnedAway, Unavailable};
pub use command::{Command, Commanded, Declined, HOLDS_MAX, HoldChange};
pub use confirmation::{Confirmation, Confirmed};
pub use earlier::Earlier;
pub use receipt::{Receipt, Recorded};
pub use thread::{RecorderParts, RecorderThread, restore_dedup};
use write_progress::WriteProgress;

/// The entries of one request, to be recorded together or not at all.
#[derive(Debug)]
pub struct Submission {
    pub source: Arc<str>,
    /// The relay's own id of the request, as in its logs.
    pub request_id: Arc<str>,
    /// The sender's own, shortened and escaped.
    pub sender_request_id: Option<Arc<str>>,
    /// The trace of its events; none for a payload that an earlier version kept.
    pub trace: Option<TraceContext>,
    pub received_at: WallTime,
    /// The body as it came.
    pub raw: Bytes,
    /// The charset of `raw`; none for UTF-8.
    pub charset: Option<&'static str>,
    /// In the order of the payload. Ignored elements are not among them.
    pub entries: Vec<Entry>,
    /// The receipts carry a [`PendingSettlement`].
    pub wait_for_settlement: bool,
    /// What an earlier copy of the same message became; empty where there was none.
    pub earlier: Arc<[Earlier]>,
}

/// An event or a refused payload to record.
#[derive(Debug)]
pub enum Entry {
    /// The key is that of the draft's source and incident key.
    Event { key: KeyId, draft: Draft },
    Refused {
        /// The element's own JSON; none where the whole request is refused, whose raw body stands for it.
        element: Option<Bytes>,
        /// The label of the refusal.
        reason: &'static str,
        violations: Vec<Violation>,
    },
}

/// Resolves when the event is settled.
#[derive(Debug)]
pub struct PendingSettlement(oneshot::Receiver<Settlement>);

/// A settlement to write.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The last call; none where the event ended without one.
    pub attempt: Option<AttemptRecord>,
    pub settlement: Settlement,
    pub key: KeyId,
    /// A later event of the key waits for it. Where neither that nor a sender does, it may share a later batch.
    pub awaited: bool,
    /// The command that discarded it, where a person did.
    pub commanded: Option<Arc<CommandOrigin>>,
}

/// The events that one commit made durable, for the dispatcher.
#[derive(Debug, Default)]
pub struct Committed {
    pub accepted: Vec<Accepted>,
    pub settled: Vec<Settlement>,
    /// Asks for a copy of the queue, since somebody cut off the journal's files.
    pub queue_copy_request: Option<oneshot::Sender<QueueCopy>>,
}

/// A copy of the dispatcher's queue, to write again what the journal lost.
#[derive(Clone, Debug, Default)]
pub struct QueueCopy {
    /// Every event that waits or is under way.
    pub waiting: Vec<Pending>,
    /// Events whose settlement is not on disk yet.
    pub ending: HashSet<EventId>,
    /// The bodies of the newest events that wait.
    pub bodies: HashMap<EventId, Outgoing>,
}

/// An event that was just made durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub event: Queued,
    /// The body to send; none where it is to be read back from the journal.
    pub outgoing: Option<Outgoing>,
}

/// The differences between what the rules decided of an event and what the shadow rules would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDifferences {
    pub event: EventId,
    /// A JSON list.
    pub differences: String,
}

/// An event that has not come, to ask deduplication about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub key: KeyId,
    pub action: Action,
    pub update: UpdateHash,
    pub occurrence: Option<Occurrence>,
}

impl Expected {
    pub fn arrival(&self) -> Arrival<'_> {
        let Expected { key, action, update, occurrence } = self;
        Arrival { key: *key, action: *action, update: *update, occurrence: occurrence.as_ref() }
    }
}

/// Counts of the events that wait for delivery or for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub totals: Totals,
    /// Of the unmatched events that were asked about, those after which nothing of their key was taken.
    pub unmatched: usize,
    /// Keys whose last event is a trigger that was delivered.
    pub open_incidents: usize,
    /// Keys whose last event is a trigger that waits: it opens an incident, or is about one that is open.
    pub open_waiting: usize,
    /// The configured sources.
    pub by_source: Vec<(Arc<str>, SourceTotals)>,
}

/// A handle on the recorder. Clones reach the same one; it ends when all are gone.
#[derive(Clone, Debug)]
pub struct Recorder {
    messages: mpsc::Sender<Message>,
    health: watch::Receiver<Health>,
    turned_away: watch::Receiver<Vec<TurnedAway>>,
    remarks: watch::Receiver<Vec<Remark>>,
    holds: watch::Receiver<Arc<Vec<HoldRecord>>>,
    sources: Arc<SourceNames>,
    last_queue: mpsc::Sender<QueueCopy>,
    commits: watch::Receiver<u64>,
    progress: Arc<WriteProgress>,
    tap: Tap,
    activity: Activity,
}

#[derive(Debug)]
pub(crate) enum Message {
    Record {
        submission: Submission,
        reply: oneshot::Sender<Result<Vec<Recorded>, Unavailable>>,
    },
    Confirm {
        confirmation: Confirmation,
        reply: oneshot::Sender<Result<Confirmed, Unavailable>>,
    },
    Attempt(AttemptRecord, StoredRetry),
    Settle(Settle),
    Tally {
        unmatched: Vec<(EventId, KeyId)>,
        reply: oneshot::Sender<Tally>,
    },
    Open {
        limit: usize,
        reply: oneshot::Sender<Option<Vec<EventId>>>,
    },
    ShadowDifferences(Vec<ShadowDifferences>),
    Preview {
        arrivals: Vec<Expected>,
        reply: oneshot::Sender<Option<Vec<Preview>>>,
    },
    Command {
        command: Command,
        ids: Vec<EventId>,
        origin: Arc<CommandOrigin>,
        reply: oneshot::Sender<Result<Vec<Commanded>, Unavailable>>,
    },
    Hold {
        target: HoldTarget,
        held: bool,
        origin: Arc<CommandOrigin>,
        reply: oneshot::Sender<Result<HoldChange, Unavailable>>,
    },
    Replace {
        of: EventId,
        submission: Submission,
        force: bool,
        origin: Arc<CommandOrigin>,
        reply: oneshot::Sender<Replaced>,
    },
}

/// The receipts of what replaced a refused payload, or why it was not replaced.
pub(crate) type Replaced = Result<Result<Vec<Recorded>, Declined>, Unavailable>;

impl Recorder {
    /// Keeps a submission; returns its entries in their order, each with its receipt, after the sync.
    pub async fn record(&self, submission: Submission) -> Result<Vec<Recorded>, Unavailable> {
        let (reply, recorded) = oneshot::channel();
        self.put(Message::Record { submission, reply })?;
        self.reply(recorded).await?
    }

    /// Carries out a command for each of these events, in their order; returns when everything of it is on disk. Of
    /// more than [`COMMANDED_AT_ONCE`] senders may come between.
    pub async fn command(
        &self,
        command: Command,
        ids: &[EventId],
        origin: &Arc<CommandOrigin>,
    ) -> Result<Vec<Commanded>, Unavailable> {
        let mut done = Vec::with_capacity(ids.len());
        for ids in ids.chunks(COMMANDED_AT_ONCE) {
            let (reply, commanded) = oneshot::channel();
            let origin = Arc::clone(origin);
            self.put(Message::Command { command, ids: ids.to_vec(), origin, reply })?;
            done.extend(self.reply(commanded).await??);
        }
        Ok(done)
    }

    /// Keeps a submission in place of the refused payload that it was made of, which ends with it. `force`: also if a
    /// later event of its key was taken, and whether or not it is a duplicate.
    pub async fn replace(
        &self,
        of: EventId,
        submission: Submission,
        force: bool,
        origin: &Arc<CommandOrigin>,
    ) -> Result<Result<Vec<Recorded>, Declined>, Unavailable> {
        let (reply, replaced) = oneshot::channel();
        self.put(Message::Replace { of, submission, force, origin: Arc::clone(origin), reply })?;
        self.reply(replaced).await?
    }

    fn put(&self, message: Message) -> Result<(), Unavailable> {
        if self.stalled().is_some() {
            return Err(Unavailable::JournalFault);
        }
        self.messages.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unavailable::Overload,
            mpsc::error::TrySendError::Closed(_) => Unavailable::Stopping,
        })
    }

    /// Waits for a reply, but not for a disk that hangs. What was asked may be done all the same, once the disk answers: a
    /// repeat is then a duplicate.
    async fn reply<T>(&self, mut reply: oneshot::Receiver<T>) -> Result<T, Unavailable> {
        loop {
            match tokio::time::timeout(write_progress::LOOK, &mut reply).await {
                Ok(reply) => return reply.map_err(|_| Unavailable::Stopping),
                Err(_) if self.stalled().is_some() => return Err(Unavailable::JournalFault),
                Err(_) => {}
            }
        }
    }

    /// For how long the disk has not answered. While the journal is repaired, which may take as long, its own reason holds.
    fn stalled(&self) -> Option<Duration> {
        let taking = *self.health.borrow() == Health::Taking;
        if taking { self.progress.stalled() } else { None }
    }

    /// Writes down a call after which the event is to be tried again, and when. Not waited for: a lost line of this
    /// record loses no event.
    pub async fn attempted(&self, attempt: AttemptRecord, tried: StoredRetry) {
        let _ = self.messages.send(Message::Attempt(attempt, tried)).await;
    }

    /// Sends a settlement to be written; a [`Committed`] tells when it is on disk. Returns it where the recorder's queue is
    /// full: then [`Recorder::settle_in_turn`].
    pub fn settle(&self, settle: Settle) -> Result<(), Box<Settle>> {
        match self.messages.try_reserve() {
            Ok(place) => {
                place.send(Message::Settle(settle));
                Ok(())
            }
            Err(_) => Err(Box::new(settle)),
        }
    }

    /// Like [`Recorder::settle`], but waits for its turn. If the recorder ended before that, the event is still queued at
    /// the next start.
    pub async fn settle_in_turn(&self, settle: Settle) {
        let _ = self.messages.send(Message::Settle(settle)).await;
    }

    /// Leaves what is known of the queue when the dispatcher ends, for a journal that lacks some of it later.
    pub fn leave_queue(&self, queue: QueueCopy) {
        // Nobody else does, so there is room.
        let _ = self.last_queue.try_send(queue);
    }

    /// The triggers on which open incidents rest, newest first; none while that can't be told.
    pub async fn open_incidents(&self, limit: usize) -> Option<Vec<EventId>> {
        let (reply, ids) = oneshot::channel();
        self.put(Message::Open { limit, reply }).ok()?;
        self.reply(ids).await.ok()?
    }

    /// Sends differences to be written, unless the recorder's queue is half full: senders come first. Not waited for.
    pub fn record_differences(&self, differences: Vec<ShadowDifferences>) -> Result<(), Vec<ShadowDifferences>> {
        if self.messages.capacity() < QUEUE / 2 {
            return Err(differences);
        }
        self.messages.try_send(Message::ShadowDifferences(differences)).map_err(|error| match error.into_inner() {
            Message::ShadowDifferences(differences) => differences,
            _ => Vec::new(),
        })
    }

    /// Asks what deduplication would decide of events that come together; none while that can't be told.
    pub async fn preview(&self, arrivals: Vec<Expected>) -> Option<Vec<Preview>> {
        let (reply, previews) = oneshot::channel();
        self.put(Message::Preview { arrivals, reply }).ok()?;
        self.reply(previews).await.ok()?
    }

    /// The sources that send more than their share of the queue.
    pub fn turned_away(&self) -> Vec<TurnedAway> {
        self.turned_away.borrow().clone()
    }

    /// Writes down that something is held back from now on, or no longer; returns when that is on disk.
    pub async fn hold(
        &self,
        target: HoldTarget,
        held: bool,
        origin: &Arc<CommandOrigin>,
    ) -> Result<HoldChange, Unavailable> {
        let (reply, change) = oneshot::channel();
        self.put(Message::Hold { target, held, origin: Arc::clone(origin), reply })?;
        self.reply(change).await?
    }

    /// The holds in force, in the order of source and key.
    pub fn holds(&self) -> Arc<Vec<HoldRecord>> {
        Arc::clone(&self.holds.borrow())
    }

    /// The change feed: the number of commits, which grows with whatever becomes of events. It changes from now on. A
    /// commit waits for nobody who watches it, and of several in a row a slow watcher sees the last one.
    pub fn commits(&self) -> watch::Receiver<u64> {
        let mut commits = self.commits.clone();
        commits.mark_unchanged();
        commits
    }

    /// The state of the journal for senders, now.
    pub fn health(&self) -> Health {
        match self.stalled() {
            Some(took) => Health::Refusing {
                why: Unavailable::JournalFault,
                detail: format!("a write has not returned for {} s: the disk hangs", took.as_secs()),
                since: WallTime(WallTime::now().0 - i64::try_from(took.as_millis()).unwrap_or(0)),
            },
            None => self.health.borrow().clone(),
        }
    }

    /// The names of the sources of which it hands over events.
    pub fn sources(&self) -> &Arc<SourceNames> {
        &self.sources
    }

    /// Counts the events that wait for delivery or for a person; none while that can't be told.
    pub async fn tally(&self, unmatched: Vec<(EventId, KeyId)>) -> Option<Tally> {
        let (reply, tally) = oneshot::channel();
        self.put(Message::Tally { unmatched, reply }).ok()?;
        self.reply(tally).await.ok()
    }

    /// The activity of each source since the start.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The live stream, to tell and to follow.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The remarks in force.
    pub fn remarks(&self) -> Vec<Remark> {
        self.remarks.borrow().clone()
    }

    /// True once the recorder's thread has ended: every handle is gone, or it failed.
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

impl PendingSettlement {
    /// Waits for the end of the event; none if the relay stops before that.
    pub async fn settled(self) -> Option<Settlement> {
        self.0.await.ok()
    }
}

/// Requests that may wait for one sync. A storm beyond it is told to come again.
const QUEUE: usize = 1_024;
/// Events that one commit replays or discards: senders wait for the same sync, and each may be on pages of its own.
pub const COMMANDED_AT_ONCE: usize = 25;

#[cfg(test)]
mod tests;
