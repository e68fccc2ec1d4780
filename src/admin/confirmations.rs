//! `GET /api/v1/confirmations`, and what Callgoose confirmed of open incidents.

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::State;
use super::api::open_incidents;
use super::problem::{Reply, bad_request, meant};
use crate::callgoose::confirmation::Relation;
use crate::event::EventId;
use crate::journal::{ConfirmationFilter, ConfirmationRecord, IncidentConfirmation, LastConfirmation, Summary};

/// An open incident with what Callgoose said of it last.
#[derive(Debug, Serialize)]
pub(super) struct Incident {
    #[serde(flatten)]
    pub(super) trigger: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confirmation: Option<LastConfirmation>,
    /// Callgoose said that it created it, and no confirmation came, although others came before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) not_confirmed: bool,
}

/// `GET /api/v1/incidents`: the triggers on which open incidents rest, newest first.
pub(super) async fn incidents(Extract(state): Extract<State>) -> Reply {
    Ok(Json(serde_json::json!({ "incidents": confirmed_incidents(&state).await? })).into_response())
}

/// The open incidents, newest first.
pub(super) async fn confirmed_incidents(state: &State) -> Result<Vec<Incident>, Response> {
    let open = open_incidents(state).await?;
    // Without a source for them, nothing is missing; what was said before is told.
    let expected = state.view.entries.iter().any(|source| source.confirms);
    let read = state.view.journal.read(move |reader| {
        let confirmed = reader.confirmed(&open)?;
        let pairs = open.into_iter().zip(confirmed);
        Ok(pairs.map(|(trigger, confirmed)| Incident::of(trigger, confirmed, expected)).collect())
    });
    read.await
}

impl Incident {
    fn of(trigger: Summary, confirmed: IncidentConfirmation, expected: bool) -> Incident {
        let (confirmation, not_confirmed) = match confirmed {
            IncidentConfirmation::By(last) => (Some(last), false),
            IncidentConfirmation::Missing => (None, expected),
            IncidentConfirmation::Unknown => (None, false),
        };
        Incident { trigger, confirmation, not_confirmed }
    }
}

/// The confirmations about an event; none where only these can't be read.
pub(super) async fn of_event(state: &State, event: EventId) -> Vec<ConfirmationRecord> {
    let filter = ConfirmationFilter { event: Some(event), limit: OF_EVENT_MAX, ..ConfirmationFilter::default() };
    let page = state.view.journal.read(move |reader| reader.confirmations(filter)).await;
    page.map_or_else(|_| Vec::new(), |page| page.confirmations)
}

/// `GET /api/v1/confirmations`: what Callgoose's outgoing webhooks said, newest first.
pub(super) async fn confirmations(Extract(state): Extract<State>, uri: Uri) -> Reply {
    let filter = of_query(&uri).map_err(bad_request)?;
    let page = state.view.journal.read(move |reader| reader.confirmations(filter)).await?;
    Ok(Json(page).into_response())
}

fn of_query(uri: &Uri) -> Result<ConfirmationFilter, String> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
    let mut filter = ConfirmationFilter { limit: LIMIT_DEFAULT, ..ConfirmationFilter::default() };
    for (name, value) in pairs {
        let wrong = |takes: &str| format!("`{name}` takes {takes}; it is `{value}`");
        match name.as_str() {
            "event" => filter.event = Some(value.parse().map_err(|_| wrong("the id of an event, a number"))?),
            "after" => filter.after = Some(value.parse().map_err(|_| wrong("the `next` of the page before"))?),
            "result" => {
                let result = Relation::ALL.into_iter().find(|result| result.as_str() == value);
                filter.result = Some(result.ok_or_else(|| wrong("matched, unmatched or unknown_shape"))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                filter.limit = limit.ok_or_else(|| wrong(&format!("a number from 1 to {LIMIT_MAX}")))?;
            }
            unknown => {
                let meant = meant(unknown, WORDS);
                return Err(format!("there is no `{unknown}` here{meant}; there are {}", WORDS.join(", ")));
            }
        }
    }
    Ok(filter)
}

const WORDS: [&str; 4] = ["event", "result", "after", "limit"];
const LIMIT_DEFAULT: usize = 50;
/// Each may be 16 KiB.
const LIMIT_MAX: usize = 200;
/// More than a person reads about one event.
const OF_EVENT_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_about_confirmations_is_bounded_and_what_is_misspelt_is_told() {
        let read = |query: &str| of_query(&format!("/api/v1/confirmations?{query}").parse().unwrap());
        let all = ConfirmationFilter { limit: LIMIT_DEFAULT, ..ConfirmationFilter::default() };
        assert_eq!(read(""), Ok(all));
        let result = Some(Relation::UnknownShape);
        let expected = ConfirmationFilter { event: Some(EventId(7)), result, after: Some(9), limit: 200 };
        assert_eq!(read("event=7&result=unknown_shape&after=9&limit=200"), Ok(expected));
        for (query, told) in [
            ("event=a", "`event` takes the id of an event"),
            ("limit=0", "a number from 1 to 200"),
            ("limit=201", "a number from 1 to 200"),
            ("result=lost", "matched, unmatched or unknown_shape"),
            ("after=-", "the `next` of the page before"),
            ("events=7", "did you mean `event`?"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.contains(told), "{query}: {error}");
        }
    }
}
