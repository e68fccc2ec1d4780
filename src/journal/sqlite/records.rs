//! The rows that a batch writes: events, refused payloads, calls.

use std::time::Duration;

use crate::clock::WallTime;
use crate::event::{Action, EventId, Priority, UpdateHash};
use crate::journal::dedup::Occurrences;
use crate::trace_context::TraceContext;

/// An event to append.
#[derive(Clone, Copy, Debug)]
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
    pub occurrences: &'a Occurrences,
    /// The event that set its key's state until now.
    pub follows: Option<EventId>,
    /// The event or refused payload of which this is a replay.
    pub replay_of: Option<EventId>,
}

/// A refused payload, kept for a person.
#[derive(Clone, Copy, Debug)]
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
    pub errors: &'a [u8],
}

/// A request's body: stored with the first row of the request, referred to by the others.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    Bytes(&'a [u8]),
    In(EventId),
    /// Not kept any more.
    Gone,
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
