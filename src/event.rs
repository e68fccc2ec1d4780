//! The vocabulary: an event, its states and its outcomes. All other modules use these words.

mod hold;
mod settlement;
mod source_names;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::{Monotonic, WallTime};
use crate::trace_context::TraceContext;

pub(crate) use hold::{HoldRecord, HoldTarget};
pub(crate) use settlement::Damage;
pub use settlement::{Reason, Settlement};
pub use source_names::{SourceId, SourceNames};

/// The request of an event to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Open an incident, or repeat that it is open.
    Trigger,
    /// Close the incident.
    Resolve,
}

/// The urgency of an event among others of its source, in the order of delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

/// An event's number: grows with every event, is never used twice, and orders events as they were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

/// An incident key with its source, as 128 bits of a cryptographic hash: the key for order and deduplication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u128);

/// A hash of the `update_on` values of a trigger; equal hashes mean that nothing worth forwarding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct UpdateHash(pub u64);

/// The identity of one occurrence of an incident key: the values of the `occurrence` paths, as a JSON list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Occurrence(pub Arc<str>);

/// The state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Acknowledged, on disk, not yet confirmed by the upstream.
    Queued,
    /// The upstream answered; the outcome says what it did.
    Delivered,
    /// Given up; kept until a person replays or discards it.
    Dead,
    /// Unusable, from an authenticated sender; the raw payload is kept.
    Refused,
    /// Ended without delivery for a stated reason.
    Ended,
}

/// The upstream's effect, as the body of its answer states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An incident was opened.
    Created,
    /// An incident was closed.
    Resolved,
    /// The upstream had seen the same request before.
    Duplicate,
    /// A resolve found no open incident.
    NotResolved,
    /// No filter of the upstream matched: it answered 2xx and nobody was alerted.
    Unmatched,
    /// A 2xx that does not say what was done.
    Accepted,
}

/// The treatment of events that a later event of their key makes pointless before they were tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Superseded {
    /// They are sent, in order.
    #[default]
    Send,
    /// They end unsent.
    End,
}

/// One trigger or resolve that the rules decided on, not yet recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub action: Action,
    /// The rule that decided.
    pub rule: Arc<str>,
    pub incident_key: String,
    pub occurrence: Option<Occurrence>,
    pub update: UpdateHash,
    /// The priority of the rule.
    pub priority: Priority,
    /// The canonical body, as it will be sent.
    pub body: Body,
}

/// A body for the upstream: JSON text, serialised once and never parsed on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Bytes);

/// The reason why a payload, or one element of it, is unusable.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Violation {
    /// The path that was read, as written in the rule file; `$` for the whole payload.
    pub path: String,
    /// The problem, in a sentence.
    pub problem: String,
    /// The value found there, shortened; none if there was none.
    pub found: Option<String>,
}

/// One event on its way to the upstream, with the data that the dispatcher needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub id: EventId,
    pub key: KeyId,
    pub source: SourceId,
    pub action: Action,
    pub priority: Priority,
    /// True for a trigger that follows a resolve: the upstream can't have had it before.
    pub reopening: bool,
    /// True for a trigger of an open key: another was taken before and not resolved.
    pub continues: bool,
    /// The time of acknowledgement; negative for events that a start found in the journal.
    pub acknowledged: Monotonic,
}

/// An event that waits for delivery, as stored in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub event: EventId,
    pub source: SourceId,
    pub action: Action,
    pub priority: Priority,
}

/// The body and metadata for one event's call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub source: Arc<str>,
    pub incident_key: Arc<str>,
    pub body: Bytes,
    /// When the event was acknowledged.
    pub acknowledged: WallTime,
    /// None if an earlier version took it.
    pub trace: Option<TraceContext>,
}

impl Body {
    /// Serialises a value. If that fails, which no [`serde_json::Value`] does, the body is empty.
    pub fn of(value: &impl serde::Serialize) -> Body {
        Body(serde_json::to_vec(value).map_or_else(|_| Bytes::new(), Bytes::from))
    }

    /// Takes the text that `write` writes, which must be one JSON value.
    pub fn written(write: impl FnOnce(&mut Vec<u8>)) -> Body {
        let mut json = Vec::with_capacity(BODY_BYTES_EXPECTED);
        write(&mut json);
        Body(Bytes::from(json))
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The parsed value, for display; the text if it is nested too deeply for the parser.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0).unwrap_or_else(|_| String::from_utf8_lossy(&self.0).into())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Action {
    pub const ALL: [Action; 2] = [Action::Trigger, Action::Resolve];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Trigger => "trigger",
            Action::Resolve => "resolve",
        }
    }
}

impl Priority {
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// The word in rules, the journal and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

impl State {
    pub const ALL: [State; 5] = [State::Queued, State::Delivered, State::Dead, State::Refused, State::Ended];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delivered => "delivered",
            State::Dead => "dead",
            State::Refused => "refused",
            State::Ended => "ended",
        }
    }
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Created,
        Outcome::Resolved,
        Outcome::Duplicate,
        Outcome::NotResolved,
        Outcome::Unmatched,
        Outcome::Accepted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Resolved => "resolved",
            Outcome::Duplicate => "duplicate",
            Outcome::NotResolved => "not_resolved",
            Outcome::Unmatched => "unmatched",
            Outcome::Accepted => "accepted",
        }
    }

    /// Returns true if an event with this action can have this outcome.
    pub fn is_of(self, action: Action) -> bool {
        match self {
            Outcome::Created => action == Action::Trigger,
            Outcome::Resolved | Outcome::NotResolved => action == Action::Resolve,
            Outcome::Duplicate | Outcome::Unmatched | Outcome::Accepted => true,
        }
    }

    /// Returns true if the upstream holds no incident for this event although it answered: the key is unknown again.
    pub fn leaves_key_unknown(self) -> bool {
        matches!(self, Outcome::Unmatched | Outcome::NotResolved)
    }

    /// Returns true if a person should look: perhaps nobody was alerted.
    pub fn is_warning(self) -> bool {
        matches!(self, Outcome::Unmatched | Outcome::NotResolved | Outcome::Accepted)
    }
}

impl KeyId {
    /// The identity of `incident_key` within `source`.
    pub fn new(source: &str, incident_key: &str) -> KeyId {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(source.as_bytes());
        // Source names hold no NUL, so that two different pairs never give the same text.
        hash.update(&[0]);
        hash.update(incident_key.as_bytes());
        let mut first = [0_u8; 16];
        first.copy_from_slice(&hash.finish().as_ref()[..16]);
        KeyId(u128::from_be_bytes(first))
    }
}

impl UpdateHash {
    /// The hash of a text that spells out the compared values.
    pub fn of(text: &str) -> UpdateHash {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut first = [0_u8; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        UpdateHash(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serialises as a string: the number has no meaning for clients, and may become something else.
impl serde::Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({:032x})", self.0)
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<EventId, Self::Err> {
        text.parse().map(EventId)
    }
}

impl FromStr for Priority {
    type Err = ();

    fn from_str(text: &str) -> Result<Priority, ()> {
        Priority::ALL.into_iter().find(|priority| priority.as_str() == text).ok_or(())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<State, ()> {
        State::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Outcome, ()> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or(())
    }
}

/// Enough for an alert.
const BODY_BYTES_EXPECTED: usize = 1_024;
