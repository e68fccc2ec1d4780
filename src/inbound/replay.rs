//! Replays a refused payload through the rules that are loaded now.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::charset::Charset;
use super::elements::{self, Elements};
use super::refusal::NotJson;
use super::response::Reply;
use super::{Ingest, Shared, payload};
use crate::event::Violation;
use crate::journal::RefusedPayload;
use crate::journal::recorder::{Declined, Entry, Submission, Unavailable};
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
    /// Its source is not in the configuration any more.
    NoSource,
    /// It is one element of a batch, and the batch, which the rules may read by `$$`, is not kept any more.
    NoBatch,
    Unavailable(Unavailable),
}

impl Ingest {
    /// Decides a refused payload again. `force`: also if a later event of its key was taken or it is a duplicate.
    pub async fn replay(&self, payload: RefusedPayload, force: bool, request_id: &Arc<str>) -> Replayed {
        let shared = &self.0;
        let (Some(source), Some(rules)) = (shared.sources.named(&payload.source), shared.rules.of(&payload.source))
        else {
            return Replayed::NoSource;
        };
        let Some(raw) = payload.raw else {
            return if payload.element.is_some() { Replayed::NoBatch } else { Replayed::Declined(Declined::Pruned) };
        };
        let charset = payload.charset.as_deref().and_then(Charset::named).unwrap_or_default();
        // The time when it came, not that of the replay: templates may show it.
        let received_at = payload.received_at.rfc3339();
        let context = Context { source: &source.name, received_at: &received_at };
        let decision = match decide(&rules.live, &raw, charset, payload.element.as_deref(), context) {
            Ok(decision) => decision,
            Err(not_json) => return Replayed::RefusedAgain(vec![not_json.into()]),
        };
        let Elements { entries, ignored, .. } = Elements::of(&source.name, decision);
        // A batch comes here whole only if the rules could not split it.
        if ignored.is_empty() && entries.iter().all(|entry| matches!(entry, Entry::Refused { .. })) {
            return Replayed::RefusedAgain(entries.into_iter().flat_map(violations).collect());
        }
        let submission = Submission {
            source: Arc::clone(&source.name),
            request_id: Arc::clone(request_id),
            sender_request_id: None,
            received_at: shared.clock.now().wall,
            raw: Bytes::from(raw),
            charset: charset.label(),
            entries,
            follow: false,
        };
        match shared.recorder.replace(payload.id, submission, force).await {
            Ok(Ok(recorded)) => {
                let replies: Vec<Reply> =
                    elements::replies(ignored, recorded).into_iter().map(|(reply, _)| reply).collect();
                shared.count_ignored(&replies, &source.name);
                Replayed::Taken(replies.iter().map(Reply::to_value).collect())
            }
            Ok(Err(declined)) => Replayed::Declined(declined),
            Err(unavailable) => Replayed::Unavailable(unavailable),
        }
    }
}

impl Shared {
    fn count_ignored(&self, replies: &[Reply], source: &Arc<str>) {
        for _ in replies.iter().filter(|reply| matches!(reply, Reply::Ignored { .. })) {
            self.metrics.event_ignored(source);
        }
    }
}

fn decide(
    rules: &RuleSet,
    raw: &[u8],
    charset: Charset,
    element: Option<&[u8]>,
    context: Context<'_>,
) -> Result<Decision, NotJson> {
    let payload = payload::decode(raw, charset)?;
    match element {
        None => Ok(rules.decide(&payload, context)),
        Some(element) => {
            let element = payload::decode(element, Charset::default())?;
            Ok(rules.decide_element(&element, &payload, context))
        }
    }
}

fn violations(entry: Entry) -> Vec<Violation> {
    match entry {
        Entry::Refused { violations, .. } => violations,
        Entry::Event { .. } => Vec::new(),
    }
}

impl From<NotJson> for Violation {
    fn from(not_json: NotJson) -> Violation {
        let NotJson { problem, line, column, .. } = not_json;
        let problem = format!("the body is not JSON: {problem} (line {line}, column {column})");
        Violation { path: "$".to_owned(), problem, found: None }
    }
}
