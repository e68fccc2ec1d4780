//! The requests to the recorder: what senders, the dispatcher and people ask to be kept or done.

mod command;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::callgoose::confirmation::Told;
use crate::clock::WallTime;
use crate::event::{Action, Draft, EventId, HoldTarget, KeyId, Occurrence, Settlement, UpdateHash, Violation};
use crate::journal::dedup::Arrival;
use crate::trace_context::TraceContext;

pub(crate) use command::HOLDS_MAX;
pub(crate) use command::{Command, CommandOrigin, Commanded, Declined, HoldChange, Replay};

/// A request to the recorder.
#[derive(Debug)]
pub enum Request {
    /// Keep what a sender sent.
    Record(Submission),
    /// Keep a confirmation.
    Confirm(Confirmation),
    /// Keep a call after which the event is tried again, and when.
    Attempt(AttemptRecord, StoredRetry),
    /// Settle an event.
    Settle(Settle),
    /// Keep what the shadow rules would have decided otherwise.
    Differ(Vec<ShadowDifferences>),
    /// Carry out a command for each of these events, in their order.
    Command { command: Command, ids: Vec<EventId>, origin: Arc<CommandOrigin> },
    /// Put a hold in force, or release it.
    Hold { target: HoldTarget, held: bool, origin: Arc<CommandOrigin> },
    /// Keep a submission in place of the refused payload that it was made of, which ends with it. `force`: also if a
    /// later event of its key was taken, and whether or not it is a duplicate.
    Replace { of: EventId, submission: Submission, force: bool, origin: Arc<CommandOrigin> },
    /// Count the events that wait for delivery or for a person.
    Tally { unmatched: Vec<(EventId, KeyId)> },
    /// List the triggers of open incidents, newest first.
    Open { limit: usize },
    /// Tell what deduplication would decide of events that come together.
    Preview(Vec<Expected>),
}

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
    /// The sender waits for the settlement of each event.
    pub wait_for_settlement: bool,
    /// The events of an earlier copy of the same message; empty where there was none.
    pub earlier: Arc<[Earlier]>,
}

/// An event of a message that its sender sends again under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub key: KeyId,
    pub action: Action,
    pub event: EventId,
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

/// A confirmation to keep.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// The source through which it came.
    pub source: Arc<str>,
    /// The relay's own id of the request.
    pub request_id: Arc<str>,
    pub received_at: WallTime,
    /// The body as it came.
    pub raw: Bytes,
    pub told: Told,
    /// The sources whose events it may be about.
    pub of: Arc<[Arc<str>]>,
}

/// Proves that a confirmation is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its number among the confirmations.
    pub id: u64,
    /// The event that it is about; none if none of its key is kept.
    pub event: Option<EventId>,
}

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

/// One call to the upstream with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub event: EventId,
    pub number: u32,
    pub started_at: WallTime,
    pub took: Duration,
    /// The word of an outcome or a trouble.
    pub result: &'static str,
    pub status: Option<u16>,
    /// Details beside the status: the error's text, a `Location`.
    pub detail: Option<String>,
    /// The shortened body of the answer.
    pub answer: Vec<u8>,
}

/// The state of an event's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRetry {
    pub attempts: u32,
    /// The time for which it has been tried since the first attempt ended, without pauses and while a relay ran. A
    /// duration, so that neither downtime nor a changed clock makes the event older.
    pub age: Duration,
    pub retry_at: WallTime,
    /// The wait that the upstream asked for, if it did.
    pub asked: Option<Duration>,
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

/// Why nothing is acknowledged. The sender is asked to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// `journal.max_events` or `max_bytes` is reached.
    Backlog,
    /// The source has its share of the queue; others are taken.
    SourceShare,
    /// The disk is full.
    DiskFull,
    /// A write or sync failed; the journal is being reopened.
    JournalFault,
    /// Another program changed the journal's files; the journal is being put back.
    JournalReplaced,
    /// More requests wait than the recorder's queue holds.
    Overload,
    /// The relay is stopping.
    Stopping,
}

impl Unavailable {
    pub const ALL: [Unavailable; 7] = [
        Unavailable::Backlog,
        Unavailable::SourceShare,
        Unavailable::DiskFull,
        Unavailable::JournalFault,
        Unavailable::JournalReplaced,
        Unavailable::Overload,
        Unavailable::Stopping,
    ];

    /// The word that logs, metrics and `/readyz` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::Backlog => "backlog",
            Unavailable::SourceShare => "source_share",
            Unavailable::DiskFull => "disk_full",
            Unavailable::JournalFault => "journal_fault",
            Unavailable::JournalReplaced => "journal_replaced",
            Unavailable::Overload => "overload",
            Unavailable::Stopping => "stopping",
        }
    }
}

impl Submission {
    /// The events and bytes that it asks room for. Refused payloads have limits of their own.
    pub(super) fn room(&self) -> (u64, u64) {
        let trace_state = self.trace.as_ref().map_or(0, TraceContext::state_bytes);
        let bodies = self.entries.iter().filter_map(|entry| match entry {
            Entry::Event { draft, .. } => Some(draft.body.bytes().len() + trace_state),
            Entry::Refused { .. } => None,
        });
        let (events, bytes) = bodies.fold((0, self.raw.len()), |(events, bytes), body| (events + 1, bytes + body));
        if events == 0 { (0, 0) } else { (events, bytes as u64) }
    }
}

impl AttemptRecord {
    /// The record, shortened for a volume with little room.
    pub(super) fn shortened(&self) -> AttemptRecord {
        let detail = self.detail.as_ref().map(|text| text.chars().take(DETAIL_CHARACTERS_KEPT).collect());
        let answer = self.answer[..self.answer.len().min(ANSWER_BYTES_KEPT)].to_vec();
        AttemptRecord { detail, answer, ..self.clone() }
    }
}

/// Both limits are part of the room that is reserved for the settlement of each queued event.
const DETAIL_CHARACTERS_KEPT: usize = 40;
const ANSWER_BYTES_KEPT: usize = 80;
