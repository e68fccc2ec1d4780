//! One event from its arrival to its end, with what to do.

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::alike::alike_from;
use super::command_list::chosen_by;
use super::confirmations;
use super::html as response;
use super::layout::{Frame, Place, document};
use super::parts::{badge, code_block, event_table, prose, shortened, time, unreadable};
use crate::admin::State;
use crate::admin::kept_event::{self, KeptEvent};
use crate::admin::readiness::readiness;
use crate::advice::{self, Advice, Beside};
use crate::clock::WallTime;
use crate::event::{self, EventId, Outcome};
use crate::journal::{AttemptDetails, CommandRecord, ConfirmationRecord, Details, Filter, Summary};
use crate::lenient_json::Repair;
use crate::text::{length_of, visible};

pub(super) async fn view(Extract(state): Extract<State>, Path(id): Path<String>) -> Response {
    let (event, commanded) = match read(&state, &id).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let main = html! {
                h1 { "No such event" }
                p { "None with the number " code { (id) } " is kept. Delivered events are kept for " code { "journal.keep_delivered" } "." }
                p { a href="../events" { "All events" } }
            };
            return response(StatusCode::NOT_FOUND, document("No such event", "../", false, &html! {}, &main));
        }
        Err(_) => {
            let main = html! { h1 { "Event " (id) } (unreadable()) };
            let frame = Frame { state: &state, place: Place::Events, title: "Event", root: "../", live: true };
            return frame.show_with(StatusCode::SERVICE_UNAVAILABLE, &main);
        }
    };
    let advice = what_to_do(&state, &event).await;
    let KeptEvent { details: event, repaired, confirmations, .. } = event;
    let summary = &event.summary;
    let others = of_same_key(&state, summary).await;
    let (action, key) = (summary.action.as_deref().unwrap_or("refused payload"), summary.incident_key.as_deref());
    let main = html! {
        p.dim { "Event " (summary.id) " of " a href={ "../events?source=" (summary.source) } { (summary.source) } }
        h1 { (action) @if let Some(key) = key { " " span.key { (key) } } " " (badge(summary)) }
        (advice)
        (commands(&state, summary))
        (steps(&event, &commanded, &confirmations))
        (contents(&event, &repaired))
        @match others {
            None => (unreadable()),
            Some(others) if others.is_empty() => {}
            Some(others) => section { h2 { "Other events of this key" } (event_table(&others, "../")) },
        }
    };
    // An event that has ended does not change any more, but Callgoose may still say something of it.
    let live =
        summary.state == event::State::Queued.as_str() || state.view.entries.iter().any(|source| source.confirms);
    Frame { state: &state, place: Place::Events, title: key.unwrap_or(action), root: "../", live }.show(&main)
}

/// An event, and the commands of people about it: none where only these can't be read.
async fn read(state: &State, id: &str) -> Result<Option<(KeptEvent, Vec<CommandRecord>)>, Response> {
    let Ok(id) = id.parse::<EventId>() else { return Ok(None) };
    let Some(event) = kept_event::read(state, id).await? else { return Ok(None) };
    let commands = state.view.journal.read(move |reader| reader.commands(Some(id), None, COMMANDS_SHOWN));
    Ok(Some((event, commands.await.map_or_else(|_| Vec::new(), |page| page.commands))))
}

/// The latest others; none if the journal can't be read.
async fn of_same_key(state: &State, event: &Summary) -> Option<Vec<Summary>> {
    let Some(key) = event.incident_key.clone() else { return Some(Vec::new()) };
    let filter = Filter { key: Some(key), source: Some(event.source.clone()), limit: OTHERS + 1, ..Filter::default() };
    let page = state.view.journal.read(move |reader| reader.list(&filter)).await.ok()?;
    Some(page.events.into_iter().filter(|other| other.id != event.id).take(OTHERS).collect())
}

async fn what_to_do(state: &State, event: &KeptEvent) -> Markup {
    // Advice is on what the API tells, here as on the terminal.
    let told = serde_json::to_value(event).unwrap_or_default();
    let advice = if event.details.summary.state == event::State::Queued.as_str() {
        let readiness = serde_json::to_value(readiness(&state.view)).unwrap_or_default();
        Some(advice::of_queued(&told, &readiness, WallTime::now()))
    } else {
        advice::of_event(&told, newest_replay(state, &event.details.summary).await.as_ref(), Beside::Details)
    };
    html! {
        @if let Some(Advice { why, remedy }) = advice {
            section.sentence.warning {
                p.big { (prose(&why)) }
                @if let Some(remedy) = remedy { p { b { "What to do: " } (prose(&remedy)) } }
            }
        }
    }
}

async fn newest_replay(state: &State, event: &Summary) -> Option<Value> {
    let id: EventId = event.replayed_by.last()?.parse().ok()?;
    let mut found = state.view.journal.read(move |reader| reader.summaries(&[id])).await.ok()?;
    serde_json::to_value(found.pop()?).ok()
}

/// The commands that there are for the event, for whoever showed the token.
fn commands(state: &State, event: &Summary) -> Markup {
    let Summary { id, source, incident_key, held, .. } = event;
    let is = |state: event::State| event.state == state.as_str();
    let ended_with = |outcome: Outcome| event.outcome.as_deref() == Some(outcome.as_str());
    let (is_queued, reason) = (is(event::State::Queued), event.reason.as_deref().unwrap_or_default());
    let is_done = ended_with(Outcome::Created) || ended_with(Outcome::Resolved);
    let is_damaged = reason.starts_with("damaged");
    let one = |command: &str, body: &str, label: &str, ask: &str| {
        let path = format!("api/v1/events/{id}/{command}");
        html! { button data-post=(path) data-body=(body) data-ask=(ask) { (label) } }
    };
    let hold = |command: &str, label: &str, ask: &str| {
        let body = match held {
            Some("source") => json!({ "source": source }),
            _ => json!({ "source": source, "key": incident_key }),
        };
        html! { button data-post={ "api/v1/events/" (command) } data-body=(body.to_string()) data-ask=(ask) { (label) } }
    };
    html! {
        @if state.access.token.is_none() {
            p.dim { "This page can only be read. With " code { "admin.token" } " it can replay, discard and hold." }
        } @else {
            div.commands hidden {
                @if reason == "discarded" {
                    (one("replay", r#"{"force":true}"#, "Replay", "A person discarded it. Send it nevertheless?"))
                } @else if !is_queued && !is_done && !is_damaged {
                    (one("replay", "{}", "Replay", "Send it again?"))
                }
                @if !is_queued && !is_done && !is_damaged && !["discarded", "replayed"].contains(&reason) {
                    button data-all="api/v1/events/replay" data-body=(alike_from(event).to_string())
                        data-ask="Send this one and those after it again, oldest first?" { "Replay from here on" }
                }
                @if is_queued || is(event::State::Dead) || is(event::State::Refused) {
                    (one("discard", "{}", "Discard", "End it? It stays in the journal, and is not sent."))
                }
                @if *held == Some("source") {
                    (hold("release", "Release the source", "Let all that waits of its source go out?"))
                } @else if is_queued && held.is_some() {
                    (hold("release", "Release", "Let what is held of its key go out?"))
                } @else if is_queued {
                    (hold("hold", "Hold", "Send nothing of its key until it is released?"))
                }
            }
            noscript { p.dim { "Commands need the script of this page." } }
        }
    }
}

/// The steps of the event with their times, and the time between two of them.
fn steps(event: &Details, commanded: &[CommandRecord], confirmed: &[ConfirmationRecord]) -> Markup {
    let Details { summary, settled_at, next_attempt_at, deliveries, .. } = event;
    let mut steps = vec![(&summary.received_at, received(event))];
    steps.extend(deliveries.iter().map(|call| (&call.started_at, called(call))));
    if let Some(at) = settled_at {
        let (state, reason) = (&summary.state, &summary.reason);
        steps.push((at, html! { "It ended: " b { (state) } @if let Some(reason) = reason { ", " (reason) } }));
    }
    if let Some(at) = next_attempt_at {
        steps.push((at, html! { "Its next call is due" }));
    }
    for command in commanded.iter().rev() {
        // Before what it led to: times of one spelling are in the order of their texts.
        let place = steps.iter().skip(1).position(|(at, _)| **at >= command.at).map_or(steps.len(), |place| place + 1);
        steps.insert(place, (&command.at, given(command)));
    }
    for confirmation in confirmed.iter().rev() {
        // After what led to it.
        let at = &confirmation.received_at;
        let place = steps.iter().position(|(other, _)| *other > at).unwrap_or(steps.len());
        steps.insert(place, (at, confirmations::step(confirmation)));
    }
    let mut before: Option<WallTime> = None;
    let rows = steps.into_iter().map(|(at, what)| {
        let moment = WallTime::parse_rfc3339(at);
        let gap = before.zip(moment).map(|(before, now)| now.since(before)).filter(|gap| gap.as_millis() > 0);
        before = moment.or(before);
        html! {
            @if let Some(gap) = gap { li.gap { "+ " (length_of(gap)) } }
            li { span.at { (time(at)) } div { (what) } }
        }
    });
    let rows: Vec<Markup> = rows.collect();
    html! { section { h2 { "What happened" } ol.steps { @for row in rows { (row) } } } }
}

fn received(event: &Details) -> Markup {
    let Details { summary: Summary { rule, replayed_by, .. }, novelty, replay_of, duplicates, .. } = event;
    html! {
        "Received and on disk"
        @if let Some(rule) = rule { ", decided by rule " b { (rule) } }
        @if let Some(novelty) = novelty { " (" (novelty.replace('_', " ")) ")" }
        @if let Some(original) = replay_of { ", a replay of " a href=(original) { (original) } }
        @if *duplicates > 0 { "; " (duplicates) " more came that repeat it" }
        @if !replayed_by.is_empty() { "; replayed as " @for id in replayed_by { a href=(id) { (id) } " " } }
        div.dim {
            "request " code { (event.request_id) }
            @if let Some(own) = &event.sender_request_id { ", the sender's " code { (own) } }
            @if let Some(trace) = &event.summary.trace_id { ", trace " code { (trace) } }
            @if let Some(span) = &event.sender_span_id { ", the sender's span " code { (span) } }
        }
    }
}

/// A command of a person.
fn given(command: &CommandRecord) -> Markup {
    let done = match command.command.as_str() {
        "replay" => "Replayed",
        "discard" => "Discarded",
        other => other,
    };
    html! {
        b { (done) } " by " (command.by)
        @if let Some(selection) = &command.selection { div.dim { "with all that match " (chosen_by(selection)) } }
    }
}

fn called(call: &AttemptDetails) -> Markup {
    let AttemptDetails { number, took_ms, result, status, fault, detail, answer, .. } = call;
    html! {
        "Call " (number) ": " b { (result.replace('_', " ")) }
        @if let Some(status) = status { ", status " (status) }
        ", took " (took_ms) " ms"
        @if let Some(fault) = fault { ", on the side of the " (fault) }
        @if let Some(detail) = detail { div.dim { (detail) } }
        @if let Some(answer) = answer.as_deref().filter(|answer| !answer.is_empty()) {
            details { summary { "Answer" } (code_block(answer)) }
        }
    }
}

/// The payload that came and the body that is sent, beside each other.
fn contents(event: &Details, repaired: &[Repair]) -> Markup {
    let sent = event.sent.as_ref().map_or_else(|| "null".to_owned(), Value::to_string);
    html! {
        div.columns {
            section {
                h2 { "What came" }
                @match (&event.received, &event.received_hex) {
                    (Some(raw), _) => {
                        (code_block(raw))
                        p { a href={ "../bench?event=" (event.summary.id) } { "How the rules decide it now" } }
                        details { summary { "As it came" } pre tabindex="0" { (shortened(raw)) } }
                    },
                    (None, Some(hex)) => {
                        p.dim { "It is no UTF-8; in hexadecimal:" }
                        pre tabindex="0" { (shortened(hex)) }
                    },
                    (None, None) => p.dim { "It is not kept any more." },
                }
                @if !repaired.is_empty() {
                    p { "Repaired to be read: " (repaired.iter().map(|repair| repair.explain()).collect::<Vec<_>>().join("; ")) "." }
                }
                @if let Some(element) = &event.element {
                    details open { summary { "The refused element" } (code_block(&element.to_string())) }
                }
            }
            section {
                @if let Some(errors) = event.errors.as_ref().and_then(Value::as_array) {
                    h2 { "Why it was refused" }
                    ul {
                        @for error in errors {
                            @let word = |name: &str| error[name].as_str().unwrap_or_default();
                            li {
                                code { (word("path")) } ": " (word("problem"))
                                @if error["found"].is_string() { "; found " code { (visible(word("found"))) } }
                            }
                        }
                    }
                } @else {
                    h2 { "What is sent" }
                    (code_block(&sent))
                }
            }
        }
    }
}

/// More than a person gives about one event.
const COMMANDS_SHOWN: usize = 20;
/// Events of the same key that are shown.
const OTHERS: usize = 10;
