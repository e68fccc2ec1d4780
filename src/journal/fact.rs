//! Facts: what becomes true with a commit, and nothing else. Applying them writes their rows.

use std::borrow::Cow;
use std::sync::Arc;

use crate::callgoose::confirmation::Told;
use crate::clock::WallTime;
use crate::event::{Action, EventId, HoldRecord, HoldTarget, KeyId, Priority, Reason, Settlement, State, UpdateHash};
use crate::journal::dedup::Occurrences;
use crate::journal::request::{AttemptRecord, CommandOrigin, ShadowDifferences, StoredRetry};
use crate::trace_context::TraceContext;

/// One thing that becomes true with a commit.
#[derive(Debug)]
pub enum Fact<'a> {
    /// An event was taken: it waits for delivery, and its key rests on it.
    Taken { id: EventId, key: KeyId, event: NewEvent<'a> },
    /// A payload was refused, and is kept for a person.
    Refused { id: EventId, payload: NewRefusal<'a> },
    /// A call came to nothing, and its event is tried again. The call itself is listed where there is room.
    Tried { event: EventId, attempt: Option<&'a AttemptRecord>, retry: StoredRetry, at: WallTime },
    /// A queued event ended, by its last call, without one, or by a person's command. One that ended before stays as it is.
    Settled {
        key: KeyId,
        settlement: &'a Settlement,
        attempt: Option<Cow<'a, AttemptRecord>>,
        discarded_by: Option<&'a CommandOrigin>,
        /// The room that it takes until then, where what follows in its batch asks for room.
        frees: Option<&'a Counted>,
    },
    /// A dead letter or a refused payload ended by a person's command. One that ended before stays as it is.
    Ended { id: EventId, key: Option<KeyId>, reason: Reason, at: WallTime, frees: Option<Counted> },
    /// A key or a source is held back.
    Held(HoldRecord),
    /// It is held back no longer.
    Released(&'a HoldTarget),
    /// A person's command was carried out.
    Commanded(NewCommand<'a>),
    /// A confirmation came.
    Confirmed { id: u64, confirmation: NewConfirmation<'a> },
    /// The shadow rules would have decided otherwise.
    Differed(&'a [ShadowDifferences]),
    /// An event was sent again by its sender so many times.
    Repeated { of: EventId, times: u64 },
    /// A key that rested on this event is not known any more, since too many are.
    Forgotten(EventId),
}

/// The room that an event takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub source: Arc<str>,
    pub state: State,
    pub bytes: u64,
}

/// An event to append.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    pub source: &'a str,
    pub action: Action,
    pub incident_key: &'a str,
    pub rule: &'a str,
    pub priority: Priority,
    pub novelty: &'a str,
    /// The time of its acknowledgement: the column `received_at`.
    pub acknowledged_at: WallTime,
    pub request: &'a str,
    /// The sender's request id.
    pub sender_request: Option<&'a str>,
    /// None if an earlier version took it.
    pub trace: Option<&'a TraceContext>,
    pub raw: Raw<'a>,
    /// The charset of `raw`; none for UTF-8.
    pub charset: Option<&'a str>,
    pub body: &'a [u8],
    pub update: UpdateHash,
    pub occurrences: Occurrences,
    /// The event that set its key's state until now.
    pub follows: Option<EventId>,
    /// The event or refused payload of which this is a replay.
    pub replay_of: Option<EventId>,
}

/// A refused payload, kept for a person.
#[derive(Clone, Debug)]
pub struct NewRefusal<'a> {
    pub source: &'a str,
    /// The time at which its request came.
    pub received_at: WallTime,
    pub request: &'a str,
    /// The sender's request id.
    pub sender_request: Option<&'a str>,
    /// The trace of its request.
    pub trace: Option<&'a TraceContext>,
    pub raw: Raw<'a>,
    /// The charset of `raw`; none for UTF-8.
    pub charset: Option<&'a str>,
    /// The refused element of `raw`, as JSON; none if all of it was refused.
    pub element: Option<&'a [u8]>,
    pub reason: &'a str,
    /// The errors, as a JSON list; each with the `reason`, which is read from there once the row has ended.
    pub errors: Cow<'a, [u8]>,
}

/// A request's body: stored with the first row of the request, referred to by the others.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    Bytes(&'a [u8]),
    In(EventId),
    /// Not kept any more.
    Gone,
}

/// A confirmation to keep.
#[derive(Clone, Copy, Debug)]
pub struct NewConfirmation<'a> {
    pub received_at: WallTime,
    pub source: &'a str,
    /// The relay's own id of the request.
    pub request: &'a str,
    pub told: &'a Told,
    /// The event that it is about, and that one's source.
    pub about: Option<(EventId, &'a str)>,
    /// The body as it came. Its beginning is kept.
    pub raw: &'a [u8],
}

/// A command that was carried out.
#[derive(Clone, Debug)]
pub struct NewCommand<'a> {
    pub at: WallTime,
    /// `replay`, `discard`, `hold` or `release`.
    pub command: &'a str,
    pub origin: &'a CommandOrigin,
    pub on: CommandTarget<'a>,
}

/// The events, or the key or source, that a command was about.
#[derive(Clone, Debug)]
pub enum CommandTarget<'a> {
    Events(Vec<EventId>),
    Held(&'a HoldTarget),
}

impl NewEvent<'_> {
    /// The bytes that it counts for in the limits.
    pub(super) fn bytes(&self) -> u64 {
        let trace_state = self.trace.map_or(0, TraceContext::state_bytes);
        (self.raw.stored().map_or(0, <[u8]>::len) + self.body.len() + trace_state) as u64
    }
}

impl NewRefusal<'_> {
    /// The bytes that it counts for in the limits.
    pub(super) fn bytes(&self) -> u64 {
        let trace_state = self.trace.map_or(0, TraceContext::state_bytes);
        (self.raw.stored().map_or(0, <[u8]>::len) + self.element.map_or(0, <[u8]>::len) + trace_state) as u64
    }
}

impl<'a> Raw<'a> {
    /// The body, where this row holds it.
    pub(super) fn stored(self) -> Option<&'a [u8]> {
        match self {
            Raw::Bytes(bytes) => Some(bytes),
            Raw::In(_) | Raw::Gone => None,
        }
    }

    /// The row that holds it, for the row `own`.
    pub(super) fn holder(self, own: EventId) -> EventId {
        match self {
            Raw::In(other) => other,
            Raw::Bytes(_) | Raw::Gone => own,
        }
    }
}
