//! Replays a refused payload through the rules that are loaded now.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::elements::{self, Elements};
use super::payload::{Decoded, Reading};
use super::refusal::{BODY_TOO_LARGE, NotJson};
use super::response::Reply;
use super::{Ingest, Shared, gzip, payload};
use crate::event::Violation;
use crate::journal::recorder::NotReplaced;
use crate::journal::request::{Declined, Entry, Submission, Unavailable};
use crate::journal::{CommandOrigin, RefusedPayload};
use crate::lenient_json::Repairs;
use crate::rules::{Context, Decision, RuleSet};

/// The result of replaying a refused payload.
#[derive(Debug)]
pub enum Replayed {
    /// The rules can use all or part of it now. The payload is ended and its events are on disk: one object an element,
    /// as in the response to a sender.
    Taken(Vec<Value>),
    /// The rules refuse it as before; it stays refused.
    RefusedAgain(Vec<Violation>),
    Declined(Declined),
    /// The corrected payload holds so many elements, and stands for one of a batch.
    SeveralElements(usize),
    /// Its source is not in the configuration any more.
    NoSource,
    /// Only its beginning is kept, which may look like a whole.
    CutOff,
    /// It is one element of a batch, and the batch, which the rules may read by `$$`, is not kept any more.
    NoBatch,
    Unavailable(Unavailable),
}

impl Ingest {
    /// Decides a refused payload again, or the corrected one in its stead. `force`: also if a later event of its key
    /// was taken or it is a duplicate.
    pub async fn replay(
        &self,
        refused: RefusedPayload,
        corrected: Option<Bytes>,
        force: bool,
        origin: &Arc<CommandOrigin>,
    ) -> Replayed {
        let shared = &self.0;
        let stands_for_element = corrected.is_some() && refused.element.is_some();
        let (of, trace) = (refused.id, refused.trace.clone());
        let DecidedAgain { source, raw, reading, decision } =
            match shared.decide_again(in_its_stead(refused, corrected)) {
                Ok(decided) => decided,
                Err(replayed) => return replayed,
            };
        let elements = decision.elements.len();
        let Elements { entries, ignored, .. } = Elements::of(source, decision);
        // A batch comes here whole only if the rules could not split it.
        if ignored.is_empty() && entries.iter().all(|entry| matches!(entry, Entry::Refused { .. })) {
            return Replayed::RefusedAgain(entries.into_iter().flat_map(violations).collect());
        }
        if stands_for_element && elements > 1 {
            return Replayed::SeveralElements(elements);
        }
        let submission = Submission {
            source: Arc::clone(source),
            request_id: Arc::clone(&origin.request_id),
            sender_request_id: None,
            trace,
            received_at: shared.clock.now().wall,
            raw: Bytes::from(raw),
            charset: reading.charset.label(),
            entries,
            wait_for_settlement: false,
            earlier: Arc::default(),
        };
        match shared.recorder.replace(of, submission, force, origin).await {
            Ok(recorded) => {
                let replies: Vec<Reply> =
                    elements::replies(ignored, recorded).into_iter().map(|(reply, _)| reply).collect();
                shared.count_ignored(&replies, source);
                Replayed::Taken(replies.iter().map(Reply::to_value).collect())
            }
            Err(NotReplaced::Declined(declined)) => Replayed::Declined(declined),
            Err(NotReplaced::Unavailable(why)) => Replayed::Unavailable(why),
        }
    }
}

/// A refused payload with the decision by the rules that are loaded now.
struct DecidedAgain<'s> {
    source: &'s Arc<str>,
    /// Unpacked.
    raw: Vec<u8>,
    reading: Reading,
    decision: Decision,
}

impl Shared {
    /// Decides a refused payload by the rules that are loaded now; the error is the end of its replay where there is
    /// nothing to decide.
    fn decide_again(&self, payload: RefusedPayload) -> Result<DecidedAgain<'_>, Replayed> {
        let (Some(source), Some(rules)) = (self.sources.named(&payload.source), self.rules.of(&payload.source)) else {
            return Err(Replayed::NoSource);
        };
        if payload.reason.as_deref() == Some(BODY_TOO_LARGE) {
            return Err(Replayed::CutOff);
        }
        let Some(raw) = payload.raw else {
            return Err(match payload.element {
                Some(_) => Replayed::NoBatch,
                None => Replayed::Declined(Declined::Pruned),
            });
        };
        if !source.accept.gzip && gzip::looks_packed(&raw) {
            return Err(Replayed::RefusedAgain(vec![gzip::not_taken(&source.name)]));
        }
        let unpacked = if source.accept.gzip { gzip::of_kept(raw, self.limits.bytes_max) } else { Ok(raw) };
        let raw = unpacked.map_err(|too_large| Replayed::RefusedAgain(vec![too_large]))?;
        let reading = Reading::named(payload.charset.as_deref(), source.accept);
        // The time when it came, not that of the replay: templates may show it.
        let received_at = payload.received_at.rfc3339();
        let context = Context {
            source: &source.name,
            received_at: &received_at,
            json: source.accept.json,
            repairs: Repairs::NONE,
        };
        let (decision, repairs) = decide(&rules.live, &raw, reading, payload.element.as_deref(), context)
            .map_err(|not_json| Replayed::RefusedAgain(vec![not_json.into()]))?;
        self.metrics.payload_repaired(&source.name, repairs);
        Ok(DecidedAgain { source: &source.name, raw, reading, decision })
    }

    fn count_ignored(&self, replies: &[Reply], source: &Arc<str>) {
        for _ in replies.iter().filter(|reply| matches!(reply, Reply::Ignored { .. })) {
            self.metrics.event_ignored(source);
        }
    }
}

/// The corrected payload in the stead of a refused one. It is whole, also where an element of a batch was refused: it
/// is kept and read again as what came.
fn in_its_stead(refused: RefusedPayload, corrected: Option<Bytes>) -> RefusedPayload {
    match corrected {
        Some(raw) => RefusedPayload { raw: Some(raw.to_vec()), charset: None, element: None, reason: None, ..refused },
        None => refused,
    }
}

fn decide(
    rules: &RuleSet,
    raw: &[u8],
    reading: Reading,
    element: Option<&[u8]>,
    context: Context<'_>,
) -> Result<(Decision, Repairs), NotJson> {
    let Decoded { value, repairs } = payload::decode(raw, reading)?;
    let context = Context { repairs, ..context };
    let decision = match element {
        None => rules.decide(&value, context),
        Some(element) => {
            // The relay's own JSON.
            let element = payload::decode(element, Reading::default())?;
            rules.decide_element(&element.value, &value, context)
        }
    };
    let repairs = repairs.and(decision.repairs);
    Ok((decision, repairs))
}

fn violations(entry: Entry) -> Vec<Violation> {
    match entry {
        Entry::Refused { violations, .. } => violations,
        Entry::Event { .. } => Vec::new(),
    }
}

impl From<NotJson> for Violation {
    fn from(not_json: NotJson) -> Violation {
        Violation { path: "$".to_owned(), problem: format!("the body is not JSON: {not_json}"), found: None }
    }
}
