//! Events that wait for a person: dead letters, refused payloads and events that no filter matched, grouped by reason.

use std::collections::BTreeMap;

use axum::extract::State as Extract;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::layout::{Frame, Place};
use super::parts::{badge, prose, reason, time, unreadable};
use crate::admin::State;
use crate::advice::{self, Advice, Beside};
use crate::event::{self, Outcome};
use crate::journal::Filter;

/// Events of one source that need the same from a person.
struct Group {
    count: usize,
    /// As they were received.
    first_at: String,
    /// The newest of them.
    last: Value,
}

pub(super) async fn view(Extract(state): Extract<State>) -> Response {
    let found = waiting(&state).await;
    let main = html! {
        h1 { "Needs attention" }
        @match &found {
            None => (unreadable()),
            Some((groups, _)) if groups.is_empty() => {
                section.sentence.good { p.big { "Nothing waits for a person." } }
            }
            Some((groups, all)) => {
                @if !all { p.dim { "Of each kind the newest " (LOOKED_AT) " are counted; commands are about all." } }
                @for group in groups { (shown(&state, group)) }
            }
        }
    };
    Frame { state: &state, place: Place::Attention, title: "Needs attention", root: "./", live: true }.show(&main)
}

/// The groups, the most urgent first, and whether all events are in them.
async fn waiting(state: &State) -> Option<(Vec<Group>, bool)> {
    let kept = |state| Filter { states: vec![state], limit: LOOKED_AT, ..Filter::default() };
    let unmatched = Filter { outcome: Some(Outcome::Unmatched), limit: LOOKED_AT, ..Filter::default() };
    let kinds = [kept(event::State::Dead), unmatched, kept(event::State::Refused)];
    let pages = state
        .view
        .journal
        .read(move |reader| kinds.iter().map(|kind| reader.list(kind)).collect::<Result<Vec<_>, _>>());
    let pages = pages.await.ok()?;
    let all = pages.iter().all(|page| page.next.is_none());
    // In the order of the kinds, which is that of urgency.
    let events = pages.iter().enumerate().flat_map(|(kind, page)| page.events.iter().map(move |event| (kind, event)));
    let mut groups: BTreeMap<(usize, [String; 2]), Group> = BTreeMap::new();
    // One that was replayed waits for nobody: its replay does.
    for (kind, event) in events.filter(|(_, event)| event.replayed_by.is_empty()) {
        let event = serde_json::to_value(event).unwrap_or_default();
        let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let group = groups.entry((kind, [word("source"), word("reason")])).or_insert_with(|| Group {
            count: 0,
            first_at: String::new(),
            last: event.clone(),
        });
        group.count += 1;
        group.first_at = word("received_at");
    }
    Some((groups.into_values().collect(), all))
}

fn shown(state: &State, group: &Group) -> Markup {
    let Group { count, first_at, last } = group;
    let text = |name: &str| last[name].as_str().unwrap_or_default();
    let id = text("id");
    html! {
        section.group {
            h2 { (badge(last)) " " (count) @if *count == 1 { " event of " } @else { " events of " } (text("source")) @if !text("reason").is_empty() { ": " (text("reason").replace('_', " ")) } }
            p { "Last " (time(text("received_at"))) ", first " (time(first_at)) ". The newest: " a href={ "events/" (id) } { (newest(last)) } }
            @if let Some(Advice { why, remedy }) = advice::of_event(last, None, Beside::Line) {
                p { (prose(&why)) }
                @if let Some(remedy) = remedy { p { b { "What to do: " } (prose(&remedy)) } }
            }
            (commands(state, last))
        }
    }
}

fn newest(event: &Value) -> String {
    match (event["incident_key"].as_str(), reason(event)) {
        (Some(key), _) => key.to_owned(),
        (None, reason) if !reason.is_empty() => reason,
        (None, _) => event["id"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Commands over all of a group: the script asks how many there are first, and goes on page by page.
fn commands(state: &State, last: &Value) -> Markup {
    let text = |name: &str| last[name].as_str().unwrap_or_default();
    let mut selection = json!({ "state": text("state"), "source": text("source") });
    for name in ["outcome", "reason"] {
        if !text(name).is_empty() {
            selection[name] = text(name).into();
        }
    }
    let all = |command: &str, label: &str, ask: &str| {
        html! {
            button data-all={ "api/v1/events/" (command) } data-body=(selection.to_string()) data-ask=(ask) { (label) }
        }
    };
    html! {
        @if state.access.token.is_some() {
            div.commands hidden {
                (all("replay", "Replay all", "Send them again, oldest first?"))
                @if text("state") != "delivered" { (all("discard", "Discard all", "End them? They stay in the journal, and are not sent.")) }
            }
        }
    }
}

/// More of a kind than a person reads.
const LOOKED_AT: usize = 1_000;
