//! Confirmations, as Callgoose's outgoing webhooks told them: on an event's story, and as they came, for whoever writes
//! the paths for them.

use maud::{Markup, html};

use super::parts::{code_block, time};
use crate::admin::State;
use crate::admin::confirmations::Incident;
use crate::callgoose::confirmation::Relation;
use crate::journal::{ConfirmationFilter, ConfirmationRecord};

/// A confirmation as a step of its event.
pub(super) fn step(one: &ConfirmationRecord) -> Markup {
    html! {
        @match one.action.as_deref() {
            Some(action) => { "Callgoose says: incident " b { (action) } },
            None => "Callgoose sent a webhook about this incident",
        }
        div.dim { "through " (one.source) ", request " code { (one.request_id) } }
        (raw(one))
    }
}

/// Tells of an open incident what Callgoose said of it last.
pub(super) fn of_incident(incident: &Incident) -> Markup {
    html! {
        @match &incident.confirmation {
            Some(last) if last.action == "closed" => {
                span.badge.warning { "closed" } " " (time(&last.received_at))
            },
            Some(last) => { (last.action) " " (time(&last.received_at)) },
            None if incident.not_confirmed => span.dim { "not confirmed" },
            None => {},
        }
    }
}

/// The newest confirmations of a source that are about no event.
pub(super) async fn unrelated(state: &State, source: &str) -> Markup {
    let source = source.to_owned();
    let read = state.view.journal.read(move |reader| {
        let mut found = Vec::new();
        for result in [Relation::UnknownShape, Relation::Unmatched] {
            let filter = ConfirmationFilter { result: Some(result), limit: LOOKED_AT, ..ConfirmationFilter::default() };
            let page = reader.confirmations(filter)?;
            found.extend(page.confirmations.into_iter().filter(|one| one.source == source).take(SHOWN));
        }
        Ok(found)
    });
    let found = read.await.unwrap_or_default();
    html! {
        @if !found.is_empty() {
            h3 { "What came and is about no event" }
            p.dim {
                "Unknown shape: no incident key was found in it; name where it stands under " code { "confirmation" } ". Unmatched: no \
                 event of its key is kept."
            }
            @for one in &found {
                p {
                    (time(&one.received_at)) ": " (one.result.replace('_', " "))
                    @if let Some(key) = &one.incident_key { ", key " span.key { (key) } }
                }
                (raw(one))
            }
        }
    }
}

/// The body as it came.
fn raw(one: &ConfirmationRecord) -> Markup {
    html! {
        details {
            summary { "As it came" }
            (code_block(&one.raw))
            @if one.bytes > one.raw.len() as u64 { p.dim { "Its beginning; it had " (one.bytes) " bytes." } }
        }
    }
}

/// For each result: enough to see what Callgoose sends.
const SHOWN: usize = 3;
/// Among which those of one source are looked for.
const LOOKED_AT: usize = 20;
