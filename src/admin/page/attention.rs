//! Events that wait for a person: dead letters, refused payloads and events that no filter matched, grouped by reason.

use std::collections::BTreeMap;

use axum::extract::State as Extract;
use axum::response::Response;
use maud::{Markup, html};

use super::alike::alike;
use super::command_list::command_list;
use super::fields::encoded;
use super::layout::{Frame, Place};
use super::parts::{badge, prose, reason, time, unreadable};
use crate::admin::State;
use crate::advice::{self, Advice, Beside};
use crate::event::{self, Outcome};
use crate::journal::{CommandRecord, Filter, Summary};

/// Events of one source that need the same from a person.
struct Group {
    count: usize,
    /// As they were received.
    first_at: String,
    /// The newest of them.
    last: Summary,
}

pub(super) async fn view(Extract(state): Extract<State>) -> Response {
    let (found, commands) = (waiting(&state).await, commands_of_people(&state).await);
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
        @if let Some(commands) = commands.filter(|commands| !commands.is_empty()) {
            section {
                h2 { "What people did" }
                (command_list(&commands))
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
        let reason = event.reason.clone().unwrap_or_default();
        let group = groups.entry((kind, [event.source.clone(), reason])).or_insert_with(|| Group {
            count: 0,
            first_at: String::new(),
            last: event.clone(),
        });
        group.count += 1;
        group.first_at.clone_from(&event.received_at);
    }
    Some((groups.into_values().collect(), all))
}

fn shown(state: &State, group: &Group) -> Markup {
    let Group { count, first_at, last } = group;
    // Advice is on what the API tells, here as on the terminal.
    let told = serde_json::to_value(last).unwrap_or_default();
    html! {
        section.group {
            h2 { (badge(last)) " " (count) @if *count == 1 { " event of " } @else { " events of " } (last.source) @if let Some(reason) = &last.reason { ": " (reason.replace('_', " ")) } }
            p { "Last " (time(&last.received_at)) ", first " (time(first_at)) ". The newest: " a href={ "events/" (last.id) } { (newest(last)) } }
            @if let Some(Advice { why, remedy }) = advice::of_event(&told, None, Beside::Line) {
                p { (prose(&why)) }
                @if let Some(remedy) = remedy { p { b { "What to do: " } (prose(&remedy)) } }
            }
            p { a href={ "events?" (listed(last)) } { "All of them" } ": each can be looked at, and replayed from there on." }
            (commands(state, last))
        }
    }
}

/// The query of a list of all events of a group.
fn listed(last: &Summary) -> String {
    let selection = alike(last);
    let words = selection.as_object().into_iter().flatten();
    encoded(words.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))))
}

fn newest(event: &Summary) -> String {
    match (&event.incident_key, reason(event)) {
        (Some(key), _) => key.clone(),
        (None, reason) if !reason.is_empty() => reason,
        (None, _) => event.id.clone(),
    }
}

/// Commands over all of a group: the script asks how many there are first, and goes on page by page.
fn commands(state: &State, last: &Summary) -> Markup {
    let selection = alike(last);
    let all = |command: &str, label: &str, ask: &str| {
        html! {
            button data-all={ "api/v1/events/" (command) } data-body=(selection.to_string()) data-ask=(ask) { (label) }
        }
    };
    html! {
        @if state.access.token.is_some() {
            div.commands hidden {
                (all("replay", "Replay all", "Send them again, oldest first?"))
                @if last.state != event::State::Delivered.as_str() { (all("discard", "Discard all", "End them? They stay in the journal, and are not sent.")) }
            }
        }
    }
}

/// The newest commands; none while the journal can't be read, which is said above.
async fn commands_of_people(state: &State) -> Option<Vec<CommandRecord>> {
    let page = state.view.journal.read(|reader| reader.commands(None, None, COMMANDS_SHOWN)).await.ok()?;
    Some(page.commands)
}

const COMMANDS_SHOWN: usize = 20;
/// More of a kind than a person reads.
const LOOKED_AT: usize = 1_000;
