//! The rule bench: how the rules that are loaded now decide a payload that a person gives. Nothing is stored or sent.

use axum::extract::{Request, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};
use tokio::task::spawn_blocking;

use super::decided::{ELEMENTS_SHOWN, decided, refused};
use super::fields::Fields;
use super::layout::{Frame, Place};
use crate::admin::State;
use crate::admin::body::{BODY_TIMEOUT, body};
use crate::advice::filter_verdict::FilterVerdict;
use crate::callgoose::filters::FiltersBeside;
use crate::event::EventId;
use crate::inbound::Explained;
use crate::rules::Element;

/// `GET /bench`, with `event=ID` for what came with a kept event.
pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let fields = Fields::of_query(&uri);
    let recorded = match fields.get("event") {
        Some(id) => recorded(&state, id).await,
        None => None,
    };
    let (source, payload) = recorded.unwrap_or_default();
    let gone = !source.is_empty() && !state.view.sources.contains(&source);
    let said = html! {
        @if gone {
            section.sentence.warning {
                p { "This came from " code { (source) } ", which is no source of the configuration any more: no rules are loaded for it. Choose another one to see what its rules would make of it." }
            }
        }
    };
    show(&state, &source, &payload, &said)
}

/// `POST /bench`, with `source` and `payload`.
pub(super) async fn decide(Extract(state): Extract<State>, request: Request) -> Response {
    let bytes_max = ENCODED_BYTES * state.view.ingest.body_bytes_max();
    let fields = match body(request, bytes_max, BODY_TIMEOUT).await {
        Ok(body) => Fields::of_form(&body),
        Err(problem) => return problem,
    };
    let (source, payload) = (fields.get("source").unwrap_or_default(), fields.get("payload").unwrap_or_default());
    let (ingest, name, raw) = (state.view.ingest.clone(), source.to_owned(), payload.as_bytes().to_vec());
    let entry = state.view.entries.iter().find(|entry| *entry.name == *source);
    let (filters, from) = (state.view.filters.borrow().clone(), entry.and_then(|entry| entry.from.clone()));
    // Senders' tasks do not wait for what a person tries.
    let verdict = spawn_blocking(move || match ingest.explain(&name, raw) {
        None => html! { p { "There is no such source. Choose one." } },
        Some(Err(unreadable)) => refused(&[unreadable]),
        Some(Ok(explained)) => decided(&explained, &verdicts(&filters, &explained, from.as_deref())),
    });
    let verdict = verdict.await.unwrap_or_else(|_| html! { p { "Deciding it failed; see the log." } });
    show(&state, source, payload, &verdict)
}

async fn recorded(state: &State, id: &str) -> Option<(String, String)> {
    let id: EventId = id.parse().ok()?;
    let details = state.view.journal.read(move |reader| reader.details(id)).await.ok()??;
    Some((details.summary.source, details.received?))
}

/// The verdict of Callgoose's filters on each element; none on one that is no event, or without filters.
fn verdicts(filters: &FiltersBeside, explained: &Explained, from: Option<&str>) -> Vec<Option<FilterVerdict>> {
    let FiltersBeside::Read { filters, .. } = filters else { return Vec::new() };
    let verdict = |element: &Element| match element {
        Element::Event(draft) => Some(FilterVerdict::of(draft, filters, from)),
        _ => None,
    };
    explained.decision.elements.iter().take(ELEMENTS_SHOWN).map(verdict).collect()
}

fn show(state: &State, source: &str, payload: &str, verdict: &Markup) -> Response {
    let main = html! {
        h1 { "Rule bench" }
        p.dim {
            "How the rules that are loaded now decide a payload"
            @match &*state.view.filters.borrow() {
                FiltersBeside::Read { name, .. } => { ", and what the filters in " code { (name) } " make of it" },
                FiltersBeside::Unusable { .. } => {},
                FiltersBeside::None => {
                    ". With " code { "callgoose-filters.yaml" } " beside the configuration it also tells what Callgoose would do"
                },
            }
            ". Nothing is stored or sent."
        }
        @if let FiltersBeside::Unusable { name, problem } = &*state.view.filters.borrow() {
            section.sentence.warning { p { code { (name) } " can't be used: " (problem) } }
        }
        form.bench method="post" action="bench" {
            label {
                "Source"
                select name="source" {
                    @if !source.is_empty() && !state.view.sources.iter().any(|name| name == source) {
                        option value="" selected { "(choose)" }
                    }
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
