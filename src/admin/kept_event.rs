//! One event with all that is kept of it, and with what was repaired in its payload.

use std::time::Duration;

use axum::response::Response;
use serde::Serialize;

use super::{State, confirmations, holds};
use crate::clock::WallTime;
use crate::event::{self, EventId};
use crate::inbound::repairs_of_kept;
use crate::journal::{ConfirmationRecord, Details};
use crate::lenient_json::Repair;

/// An event as the API tells it.
#[derive(Debug, Serialize)]
pub(super) struct KeptEvent {
    #[serde(flatten)]
    pub(super) details: Details,
    /// The repairs of the payload, in the words of `gander_payloads_repaired_total`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) repaired: Vec<Repair>,
    /// When its call began that is under way. The dispatcher knows: the journal has a call once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) call_since: Option<String>,
    /// The words of Callgoose on its incident, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) confirmations: Vec<ConfirmationRecord>,
}

/// Reads an event from the journal; none if it is not kept.
pub(super) async fn read(state: &State, id: EventId) -> Result<Option<KeptEvent>, Response> {
    // The payload is read off the tasks that serve others, as the journal is.
    let event = state.view.journal.read(move |reader| Ok(reader.details(id)?.map(KeptEvent::of)));
    let mut event = event.await?;
    if let Some(event) = &mut event {
        holds::mark(std::slice::from_mut(&mut event.details.summary), &state.view.recorder.holds());
        if event.details.summary.state == event::State::Queued.as_str() {
            let since = tokio::time::timeout(ASKED_MAX, state.view.queue.call_since(id)).await.ok().flatten();
            event.call_since = since.map(WallTime::rfc3339);
        }
        event.confirmations = confirmations::of_event(state, id).await;
    }
    Ok(event)
}

impl KeptEvent {
    fn of(details: Details) -> KeptEvent {
        let raw = match (&details.received_hex, &details.received) {
            (Some(hex), _) => hex::decode(hex).unwrap_or_default(),
            (None, received) => received.clone().unwrap_or_default().into_bytes(),
        };
        // The end of a refused payload writes over the reason of the event, not over that of its errors.
        let of_errors = details.errors.as_ref().and_then(|errors| errors[0]["reason"].as_str());
        let refused_for = of_errors.or(details.summary.reason.as_deref());
        let repairs = repairs_of_kept(&raw, details.charset.as_deref(), refused_for);
        KeptEvent { repaired: repairs.iter().collect(), call_since: None, confirmations: Vec::new(), details }
    }
}

/// The dispatcher answers within microseconds, but not while the relay stops.
const ASKED_MAX: Duration = Duration::from_secs(1);
