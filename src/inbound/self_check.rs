//! Takes what the self check submits: decided by the rules in force and recorded as if a sender had posted it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ingest, request_id};
use crate::clock::WallTime;
use crate::event::{Action, KeyId};
use crate::journal::recorder::{Entry, PendingSettlement, Submission, Unavailable};
use crate::self_check::{Failure, MARK, Settings};
use crate::trace_context::TraceContext;

impl Ingest {
    /// Submits the event of the check's round that began at `started`. Returns when it is on disk, or a duplicate of one
    /// that is, with a handle to wait for its end.
    pub async fn self_check(
        &self,
        settings: &Settings,
        action: Action,
        started: WallTime,
    ) -> Result<PendingSettlement, Failure> {
        let shared = &self.0;
        let (Some(source), Some(rules)) = (shared.sources.named(&settings.source), shared.rules.of(&settings.source))
        else {
            let problem = format!("the source `{}` is served after a restart only", settings.source);
            return Err(Failure::Undecided { action, problem });
        };
        let [trigger, resolve] = settings.drafts(&rules.live, source.accept.json, started)?;
        let draft = match action {
            Action::Trigger => trigger,
            Action::Resolve => resolve,
        };
        let now = shared.clock.now().wall;
        let submission = Submission {
            source: Arc::clone(&source.name),
            request_id: request_id(now),
            sender_request_id: Some(Arc::from(MARK)),
            trace: Some(TraceContext::begin(fastrand::u128(..))),
            received_at: now,
            raw: Bytes::from(settings.payload(action, started).to_string()),
            charset: None,
            entries: vec![Entry::Event { key: KeyId::new(&source.name, &draft.incident_key), draft }],
            wait_for_settlement: true,
        };
        let not_taken = |unavailable: Unavailable| Failure::Journal { action, why: unavailable.as_str() };
        let recorded = shared.recorder.record(submission).await.map_err(not_taken)?;
        let pending = recorded.into_iter().next().and_then(|recorded| recorded.receipt.into_pending_settlement());
        pending.ok_or_else(|| not_taken(Unavailable::JournalFault))
    }
}
