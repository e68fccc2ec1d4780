//! The rule bench: how the rules that are loaded now decide a payload that a person gives. Nothing is stored or sent.

use axum::extract::{Request, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};
use tokio::task::spawn_blocking;

use super::decided::{decided, refused};
use super::fields::Fields;
use super::layout::{Frame, Place};
use crate::admin::State;
use crate::admin::body::body;
use crate::event::EventId;

/// `GET /bench`, with `event=ID` for what came with a kept event.
pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let fields = Fields::of_query(&uri);
    let recorded = match fields.get("event") {
        Some(id) => recorded(&state, id).await,
        None => None,
    };
    let (source, payload) = recorded.unwrap_or_default();
    show(&state, &source, &payload, &html! {})
}

/// `POST /bench`, with `source` and `payload`.
pub(super) async fn decide(Extract(state): Extract<State>, request: Request) -> Response {
    let bytes_max = ENCODED_BYTES * state.view.ingest.body_bytes_max();
    let fields = match body(request, bytes_max).await {
        Ok(body) => Fields::of_form(&body),
        Err(problem) => return problem,
    };
    let (source, payload) = (fields.get("source").unwrap_or_default(), fields.get("payload").unwrap_or_default());
    let (ingest, name, raw) = (state.view.ingest.clone(), source.to_owned(), payload.as_bytes().to_vec());
    // Senders' tasks do not wait for what a person tries.
    let verdict = spawn_blocking(move || match ingest.explain(&name, raw) {
        None => html! { p { "There is no such source." } },
        Some(Err(unreadable)) => refused(&[unreadable]),
        Some(Ok(explained)) => decided(&explained),
    });
    let verdict = verdict.await.unwrap_or_else(|_| html! { p { "Deciding it failed; see the log." } });
    show(&state, source, payload, &verdict)
}

async fn recorded(state: &State, id: &str) -> Option<(String, String)> {
    let id: EventId = id.parse().ok()?;
    let details = state.view.journal.read(move |reader| reader.details(id)).await.ok()??;
    Some((details.summary.source, details.received?))
}

fn show(state: &State, source: &str, payload: &str, verdict: &Markup) -> Response {
    let main = html! {
        h1 { "Rule bench" }
        p.dim {
            "How the rules that are loaded now decide a payload. Nothing is stored or sent. What Callgoose's filters would \
             make of it: " code { "gander explain --source NAME FILE" } "."
        }
        form.bench method="post" action="bench" {
            label {
                "Source"
                select name="source" {
                    @for name in &state.view.sources { option value=(name) selected[name == source] { (name) } }
                }
            }
            label { "Payload" textarea name="payload" rows="12" spellcheck="false" { (payload) } }
            button { "Decide" }
        }
        (verdict)
    };
    Frame { state, place: Place::Bench, title: "Rule bench", root: "./", live: false }.show(&main)
}

/// A byte of a form takes up to so many: `%0A`.
const ENCODED_BYTES: usize = 3;
