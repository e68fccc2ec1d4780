//! The rows that a batch writes: events, refused payloads, calls.

use std::time::Duration;

use crate::clock::WallTime;
use crate::event::{Action, EventId, Priority, UpdateHash};
use crate::journal::dedup::Occurrences;

/// An event to append.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    pub source: &'a str,
    pub action: Action,
    pub incident_key: &'a str,
    pub rule: &'a str,
    pub priority: Priority,
    pub novelty: &'a str,
    pub received_at: WallTime,
    pub request: &'a str,
    /// The id that the sender gave the request.
    pub sender_request: Option<&'a str>,
    pub raw: Raw<'a>,
    /// In which `raw` is to be read; none for UTF-8.
    pub charset: Option<&'a str>,
    pub body: &'a [u8],
    pub update: UpdateHash,
    pub occurrences: &'a Occurrences,
    /// On which its key's state rested until now.
    pub follows: Option<EventId>,
    /// The event or refused payload that a person had replayed.
    pub replay_of: Option<EventId>,
}

/// Something refused, to keep for a person.
#[derive(Clone, Copy, Debug)]
pub struct NewRefusal<'a> {
    pub source: &'a str,
    pub received_at: WallTime,
    pub request: &'a str,
    /// The id that the sender gave the request.
    pub sender_request: Option<&'a str>,
    pub raw: Raw<'a>,
    /// In which `raw` is to be read; none for UTF-8.
    pub charset: Option<&'a str>,
    /// The element of `raw` that was refused, as JSON; none where the whole was.
    pub element: Option<&'a [u8]>,
    pub reason: &'a str,
    /// What is wrong with it, as a JSON list.
    pub errors: &'a [u8],
}

/// A request's body: kept with the first row of the request, named by the others.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    Bytes(&'a [u8]),
    In(EventId),
    /// It is not kept any more.
    Gone,
}

/// One call to the upstream and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub event: EventId,
    pub number: u32,
    pub started_at: WallTime,
    pub took: Duration,
    /// An outcome or a trouble, as a word.
    pub result: &'static str,
    pub status: Option<u16>,
    /// What a person needs beside the status: the error's text, a `Location`.
    pub detail: Option<String>,
    /// The answer's body, shortened.
    pub answer: Vec<u8>,
}
