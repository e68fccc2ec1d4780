//! What is known of kept events before a decision: read from the store for the requests of one batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::callgoose::confirmation::Candidate;
use crate::clock::WallTime;
use crate::event::{Action, EventId, KeyId, Occurrence, Priority, Reason, Settlement, State, UpdateHash};
use crate::journal::dedup::{Dedup, Effect};
use crate::journal::fact::Counted;
use crate::journal::request::{Command, Confirmation, Entry, Replay, Request, Submission};
use crate::journal::state::RecorderState;
use crate::journal::totals::Fit;
use crate::trace_context::TraceContext;

/// The answers of the store to all that the requests of a batch ask it for. Most batches need nothing of it.
#[derive(Debug, Default)]
pub struct Known {
    /// The events that commands name.
    pub events: HashMap<EventId, KnownEvent>,
    /// The raw bodies of requests, for replays, by the row that holds each.
    pub raws: HashMap<EventId, Blob>,
    /// The newest event after another of its key, for keys that deduplication does not know.
    pub later: HashMap<(EventId, KeyId), Later>,
    /// Keys that deduplication does not know, of which the upstream may have an open incident.
    pub may_be_open: HashSet<KeyId>,
    /// The events that an earlier copy of a message became and that leave it nothing to do: they wait, the upstream holds
    /// them, or later events of their keys made them pointless.
    pub standing: HashSet<EventId>,
    /// The room that queued events take, where the batch asks for more than there is.
    pub counted: HashMap<EventId, Counted>,
    /// The events that each confirmation may be about, newest first and by source; by the request of the confirmation.
    pub(super) candidates: HashMap<Arc<str>, Vec<OfSource>>,
    /// The number of the next confirmation.
    pub next_confirmation: u64,
}

/// The events of one source that a confirmation may be about, newest first.
pub(super) type OfSource = (Arc<str>, Vec<Candidate>);

/// An event that a command names.
#[derive(Clone, Debug)]
pub struct KnownEvent {
    pub row: StoredRow,
    /// Its body, for a replay.
    pub body: Blob,
    pub newest_replay: Option<Replay>,
}

/// The row of an event.
#[derive(Clone, Debug)]
pub enum StoredRow {
    NotKept,
    /// Its checksum does not match; with its state and source, if these can be read.
    Damaged(Option<(State, Arc<str>)>),
    Sound(Box<Stored>),
}

/// A question to the store.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// The room that a queued event takes.
    Counted(EventId),
    /// The row of an event; for a replay with its bodies.
    Event { id: EventId, bodies: bool },
    /// Asks if the upstream may have an open incident of a key.
    MayBeOpen { key: KeyId, source: &'a str, incident_key: &'a str },
    /// Asks if an event still stands for its message: see [`stands`].
    Standing(EventId),
    /// The events that a confirmation may be about: up to the one that it is about, or all, where another of the batch names
    /// the same key.
    Confirmed { confirmation: &'a Confirmation, all: bool },
}

/// Returns true if an event that ended so leaves nothing for its message to do.
pub(super) fn stands(Settlement { state, outcome, reason, .. }: &Settlement) -> bool {
    Effect::of(*state, *outcome) == Some(Effect::Confirmed) || *reason == Some(Reason::Superseded)
}

/// The questions of a batch, in its order. `ends`: superseded events end unsent.
pub fn questions<'a>(
    requests: impl Iterator<Item = &'a Request> + Clone,
    state: &RecorderState,
    ends: bool,
) -> Vec<Question<'a>> {
    let (mut asked, dedup) = (Vec::new(), state.dedup());
    let tight = lacks_room(requests.clone(), state);
    let mut keys: Vec<&str> = Vec::new();
    for request in requests {
        match request {
            Request::Command { command, ids, .. } => {
                let bodies = matches!(command, Command::Replay { .. });
                asked.extend(ids.iter().map(|id| Question::Event { id: *id, bodies }));
            }
            Request::Replace { of, submission, .. } => {
                asked.push(Question::Event { id: *of, bodies: false });
                if ends {
                    asked.extend(unknown_triggers(submission, dedup));
                }
            }
            Request::Record(submission) => {
                asked.extend(submission.earlier.iter().map(|earlier| Question::Standing(earlier.event)));
                if ends {
                    asked.extend(unknown_triggers(submission, dedup));
                }
            }
            Request::Confirm(confirmation) => {
                keys.extend(confirmation.told.incident_key.as_deref());
                asked.push(Question::Confirmed { confirmation, all: false });
            }
            Request::Settle(settle) if tight => asked.push(Question::Counted(settle.settlement.id)),
            _ => {}
        }
    }
    for question in &mut asked {
        if let Question::Confirmed { confirmation, all } = question
            && let Some(key) = confirmation.told.incident_key.as_deref()
        {
            *all = keys.iter().filter(|one| **one == key).count() > 1;
        }
    }
    asked
}

/// Returns true if the new events of a batch do not all fit into the limits as they are used now. Then the room counts that
/// its settlements free.
fn lacks_room<'a>(requests: impl Iterator<Item = &'a Request>, state: &RecorderState) -> bool {
    let mut wanted: Vec<(&str, u64, u64)> = Vec::new();
    for request in requests {
        let (Request::Record(submission) | Request::Replace { submission, .. }) = request else { continue };
        let (events, bytes) = submission.room();
        match wanted.iter_mut().find(|(source, ..)| *source == &*submission.source) {
            Some(one) => (one.1, one.2) = (one.1 + events, one.2 + bytes),
            None => wanted.push((&submission.source, events, bytes)),
        }
    }
    let all = wanted.iter().fold((0, 0), |all, one| (all.0 + one.1, all.1 + one.2));
    let fits = |source, events, bytes| state.room.totals.fit(&state.limits, source, events, bytes) == Fit::Fits;
    let each = || wanted.iter().all(|(source, events, bytes)| fits(Some(*source), *events, *bytes));
    !(wanted.is_empty() || fits(None, all.0, all.1) && each())
}

/// Triggers of keys that deduplication does not know.
fn unknown_triggers<'a>(submission: &'a Submission, dedup: &Dedup) -> impl Iterator<Item = Question<'a>> {
    submission.entries.iter().filter_map(|entry| match entry {
        Entry::Event { key, draft } if draft.action == Action::Trigger && dedup.last(*key).is_none() => {
            let (source, incident_key) = (&*submission.source, &*draft.incident_key);
            Some(Question::MayBeOpen { key: *key, source, incident_key })
        }
        Entry::Event { .. } | Entry::Refused { .. } => None,
    })
}

/// A question for an event of a key after another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaterQuestion {
    pub of: EventId,
    pub key: KeyId,
    pub source: Arc<str>,
    pub incident_key: String,
}

/// The later events that the commands of a batch must know of, once the events themselves are known.
pub(crate) fn later_questions<'a>(
    requests: impl IntoIterator<Item = &'a Request>,
    dedup: &Dedup,
    known: &Known,
) -> Vec<LaterQuestion> {
    let mut asked = Vec::new();
    let mut ask = |of: EventId, key: KeyId, source: &Arc<str>, incident_key: &str| {
        if dedup.last(key).is_none() {
            asked.push(LaterQuestion { of, key, source: Arc::clone(source), incident_key: incident_key.to_owned() });
        }
    };
    for request in requests {
        match request {
            Request::Command { command: Command::Replay { force: false }, ids, .. } => {
                for id in ids {
                    if let Some(KnownEvent { row: StoredRow::Sound(stored), .. }) = known.events.get(id)
                        && let Some(decided) = &stored.decided
                    {
                        let key = KeyId::new(&stored.source, &decided.incident_key);
                        ask(*id, key, &stored.source, &decided.incident_key);
                    }
                }
            }
            Request::Replace { of, submission, force: false, .. } => {
                for entry in &submission.entries {
                    if let Entry::Event { key, draft } = entry {
                        ask(*of, *key, &submission.source, &draft.incident_key);
                    }
                }
            }
            _ => {}
        }
    }
    asked
}

/// A row, as commands need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: EventId,
    pub source: Arc<str>,
    pub state: State,
    pub reason: Option<Reason>,
    /// When its next call is due, if it is queued and was tried.
    pub retry_at: Option<WallTime>,
    /// The bytes that it counts for in the limits.
    pub bytes: u64,
    /// The row that holds the raw body of its request.
    pub raw_in: EventId,
    /// The charset of the raw body; none for UTF-8.
    pub charset: Option<String>,
    /// None for a refused payload.
    pub decided: Option<Decided>,
    /// The id of the request in which it came.
    pub request: String,
    /// None if an earlier version took it.
    pub trace: Option<TraceContext>,
}

/// A body, as commands need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blob {
    Sound(Bytes),
    /// Pruned with history.
    Gone,
    /// Its checksum does not match.
    Damaged,
}

/// The decision of the rules about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub action: Action,
    pub incident_key: String,
    pub rule: String,
    pub priority: Priority,
    pub update: UpdateHash,
    pub occurrence: Option<Occurrence>,
}

/// A later event of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    None,
    Event(EventId),
    /// Too many rows follow to check them all.
    Unknown,
}
