//! Tells how the rules that are loaded now decide a payload, and takes nothing.

use super::payload::{self, Reading};
use super::repair::Repairs;
use super::{Decoded, Ingest, gzip};
use crate::clock::WallTime;
use crate::event::Violation;
use crate::rules::{Context, Decision, Trace};

/// A payload as it lies in the journal, or as a person gives it.
#[derive(Debug)]
pub struct Given<'a> {
    pub source: &'a str,
    pub raw: Vec<u8>,
    /// None: UTF-8.
    pub charset: Option<&'a str>,
    /// The element of `raw` that is decided, as JSON; none for all of it.
    pub element: Option<&'a [u8]>,
    pub received_at: WallTime,
}

/// A decision, with how it came about.
#[derive(Debug)]
pub struct Explained {
    /// The repairs that the payload needed.
    pub repairs: Repairs,
    pub decision: Decision,
    pub trace: Trace,
}

impl Ingest {
    /// Explains a payload; none if there is no such source. The error says why it can't be read.
    pub fn explain(&self, given: Given<'_>) -> Option<Result<Explained, Violation>> {
        let shared = &self.0;
        let (source, rules) = (shared.sources.named(given.source)?, shared.rules.of(given.source)?);
        let read = || {
            let raw = given.raw;
            let raw = if source.accept.gzip { gzip::of_kept(raw, shared.limits.bytes_max)? } else { raw };
            let Decoded { value, repairs } = payload::decode(&raw, Reading::named(given.charset, source.accept))?;
            let received_at = given.received_at.rfc3339();
            let context =
                Context { source: &source.name, received_at: &received_at, json: source.accept.json, repairs };
            let (decision, trace) = match given.element {
                None => rules.live.explain(&value, context),
                // The relay's own JSON.
                Some(element) => {
                    let element = payload::decode(element, Reading::default())?;
                    rules.live.explain_element(&element.value, &value, context)
                }
            };
            Ok(Explained { repairs: repairs.and(decision.repairs), decision, trace })
        };
        Some(read())
    }
}
