//! Takes what the self check submits: decided by the rules in force and recorded as if a sender had posted it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ingest, request_id};
use crate::clock::WallTime;
use crate::event::{Action, Draft, EventId, KeyId};
use crate::journal::CommandOrigin;
use crate::journal::recorder::PendingSettlement;
use crate::journal::request::{Command, Entry, Submission, Unavailable};
use crate::self_check::{Failure, MARK, Settings};
use crate::trace_context::TraceContext;

/// An event of the check that is on disk.
#[derive(Debug)]
pub struct Submitted {
    pub end: PendingSettlement,
    /// It is a duplicate of an event that was there before, which may be a sender's.
    pub repeats: bool,
}

impl Ingest {
    /// Decides the trigger and the resolve of the round that begins at `started`, by the rules in force now.
    pub fn decide_self_check(&self, settings: &Settings, started: WallTime) -> Result<[Draft; 2], Failure> {
        let shared = &self.0;
        let (Some(source), Some(rules)) = (shared.sources.named(&settings.source), shared.rules.of(&settings.source))
        else {
            let problem = format!("the source `{}` is served after a restart only", settings.source);
            return Err(Failure::Undecided { action: Action::Trigger, problem });
        };
        settings.drafts(&rules.live, source.accept.json, started)
    }

    /// Submits an event of the check's round that began at `started`. Returns when it is on disk, or a duplicate of one
    /// that is.
    pub async fn submit_self_check(
        &self,
        settings: &Settings,
        draft: Draft,
        started: WallTime,
    ) -> Result<Submitted, Failure> {
        let (shared, source, action) = (&self.0, &settings.source, draft.action);
        let now = shared.clock.now().wall;
        let submission = Submission {
            source: Arc::clone(source),
            request_id: request_id(now),
            sender_request_id: Some(Arc::from(MARK)),
            trace: Some(TraceContext::begin(fastrand::u128(..))),
            received_at: now,
            raw: Bytes::from(settings.payload(action, started).to_string()),
            charset: None,
            entries: vec![Entry::Event { key: KeyId::new(source, &draft.incident_key), draft }],
            wait_for_settlement: true,
            earlier: Arc::default(),
        };
        let not_taken = |unavailable: Unavailable| Failure::Journal { action, why: unavailable.as_str() };
        let recorded = shared.recorder.record(submission).await.map_err(not_taken)?;
        let receipt = recorded.into_iter().next().map(|recorded| recorded.receipt);
        let submitted = receipt.and_then(|receipt| {
            let repeats = receipt.is_duplicate();
            receipt.into_pending_settlement().map(|end| Submitted { end, repeats })
        });
        submitted.ok_or_else(|| not_taken(Unavailable::JournalFault))
    }

    /// Discards a dead letter of the check: it would be kept until a person did, and each round might leave another.
    pub async fn discard_self_check(&self, event: EventId) -> Result<(), Unavailable> {
        let request_id = request_id(self.0.clock.now().wall);
        let origin = Arc::new(CommandOrigin { request_id, by: Arc::from(BY), selection: None });
        self.0.recorder.command(Command::Discard, &[event], &origin).await.map(drop)
    }
}

/// Stands in the journal's list of commands where a person's way in stands otherwise.
const BY: &str = "self check";
