//! One event from its arrival to its end, with what to do.

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::html as response;
use super::layout::{Frame, Place, document};
use super::parts::{badge, code_block, event_table, prose, shortened, time_or, unreadable};
use crate::admin::readiness::readiness;
use crate::admin::{State, kept_event};
use crate::advice::{self, Advice, Beside};
use crate::clock::WallTime;
use crate::event::EventId;
use crate::inbound::repair::Repair;
use crate::journal::Filter;
use crate::text::{length_of, visible};

pub(super) async fn view(Extract(state): Extract<State>, Path(id): Path<String>) -> Response {
    let event = match details(&state, &id).await {
        Ok(Some(event)) => event,
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
    let others = of_same_key(&state, &event).await;
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let (action, key) = (event["action"].as_str().unwrap_or("refused payload"), event["incident_key"].as_str());
    let main = html! {
        p.dim { "Event " (text("id")) " of " a href={ "../events?source=" (text("source")) } { (text("source")) } }
        h1 { (action) @if let Some(key) = key { " " span.key { (key) } } " " (badge(&event)) }
        (what_to_do(&state, &event).await)
        (commands(&state, &event))
        (steps(&event))
        (contents(&event))
        @match others {
            None => (unreadable()),
            Some(others) if others.is_empty() => {}
            Some(others) => section { h2 { "Other events of this key" } (event_table(&others, "../")) },
        }
    };
    // What has ended does not change any more.
    let live = text("state") == "queued";
    Frame { state: &state, place: Place::Events, title: key.unwrap_or(action), root: "../", live }.show(&main)
}

async fn details(state: &State, id: &str) -> Result<Option<Value>, Response> {
    let Ok(id) = id.parse::<EventId>() else { return Ok(None) };
    let event = kept_event::read(state, id).await?;
    Ok(event.and_then(|event| serde_json::to_value(event).ok()))
}

/// The latest others; none if the journal can't be read.
async fn of_same_key(state: &State, event: &Value) -> Option<Vec<Value>> {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let Some(key) = text("incident_key") else { return Some(Vec::new()) };
    let filter = Filter { key: Some(key), source: text("source"), limit: OTHERS + 1, ..Filter::default() };
    let page = state.view.journal.read(move |reader| reader.list(&filter)).await.ok()?;
    let others = page.events.iter().filter_map(|other| serde_json::to_value(other).ok());
    Some(others.filter(|other| other["id"] != event["id"]).take(OTHERS).collect())
}

async fn what_to_do(state: &State, event: &Value) -> Markup {
    let advice = match event["state"].as_str() {
        Some("queued") => {
            let readiness = serde_json::to_value(readiness(&state.view)).unwrap_or_default();
            Some(advice::of_queued(event, &readiness, WallTime::now()))
        }
        _ => advice::of_event(event, newest_replay(state, event).await.as_ref(), Beside::Details),
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

async fn newest_replay(state: &State, event: &Value) -> Option<Value> {
    let id: EventId = event["replayed_by"].as_array()?.last()?.as_str()?.parse().ok()?;
    let mut found = state.view.journal.read(move |reader| reader.summaries(&[id])).await.ok()?;
    serde_json::to_value(found.pop()?).ok()
}

/// The commands that there are for the event, for whoever showed the token.
fn commands(state: &State, event: &Value) -> Markup {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let is_queued = text("state") == "queued";
    let is_done = text("state") == "delivered" && matches!(text("outcome"), "created" | "resolved");
    let is_damaged = text("reason").starts_with("damaged");
    let one = |command: &str, body: &str, label: &str, ask: &str| {
        let path = format!("api/v1/events/{}/{command}", text("id"));
        html! { button data-post=(path) data-body=(body) data-ask=(ask) { (label) } }
    };
    let hold = |command: &str, label: &str, ask: &str| {
        let body = match event["held"].as_str() {
            Some("source") => json!({ "source": text("source") }),
            _ => json!({ "source": text("source"), "key": text("incident_key") }),
        };
        html! { button data-post={ "api/v1/events/" (command) } data-body=(body.to_string()) data-ask=(ask) { (label) } }
    };
    html! {
        @if state.access.token.is_none() {
            p.dim { "This page can only be read. With " code { "admin.token" } " it can replay, discard and hold." }
        } @else {
            div.commands hidden {
                @if text("reason") == "discarded" {
                    (one("replay", r#"{"force":true}"#, "Replay", "A person discarded it. Send it nevertheless?"))
                } @else if !is_queued && !is_done && !is_damaged {
                    (one("replay", "{}", "Replay", "Send it again?"))
                }
                @if matches!(text("state"), "dead" | "refused" | "queued") {
                    (one("discard", "{}", "Discard", "End it? It stays in the journal, and is not sent."))
                }
                @if event["held"] == "source" {
                    (hold("release", "Release the source", "Let all that waits of its source go out?"))
                } @else if is_queued && event["held"].is_string() {
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
fn steps(event: &Value) -> Markup {
    let text = |name: &str| event[name].as_str();
    let mut steps = vec![(text("received_at"), received(event))];
    for call in event["deliveries"].as_array().into_iter().flatten() {
        steps.push((call["started_at"].as_str(), called(call)));
    }
    if let Some(at) = text("settled_at") {
        let state = event["state"].as_str().unwrap_or_default();
        steps.push((
            Some(at),
            html! { "It ended: " b { (state) } @if let Some(reason) = text("reason") { ", " (reason) } },
        ));
    }
    if let Some(at) = text("next_attempt_at") {
        steps.push((Some(at), html! { "Its next call is due" }));
    }
    let mut before: Option<WallTime> = None;
    let rows = steps.into_iter().map(|(at, what)| {
        let moment = at.and_then(WallTime::parse_rfc3339);
        let gap = before.zip(moment).map(|(before, now)| now.since(before)).filter(|gap| gap.as_millis() > 0);
        before = moment.or(before);
        html! {
            @if let Some(gap) = gap { li.gap { "+ " (length_of(gap)) } }
            li { span.at { (time_or(at, "?")) } div { (what) } }
        }
    });
    let rows: Vec<Markup> = rows.collect();
    html! { section { h2 { "What happened" } ol.steps { @for row in rows { (row) } } } }
}

fn received(event: &Value) -> Markup {
    let text = |name: &str| event[name].as_str();
    html! {
        "Received and on disk"
        @if let Some(rule) = text("rule") { ", decided by rule " b { (rule) } }
        @if let Some(novelty) = text("novelty") { " (" (novelty.replace('_', " ")) ")" }
        @if let Some(original) = text("replay_of") { ", a replay of " a href=(original) { (original) } }
        @if let Some(count) = event["duplicates"].as_u64().filter(|count| *count > 0) {
            "; " (count) " more came that repeat it"
        }
        @if let Some(replays) = event["replayed_by"].as_array().filter(|replays| !replays.is_empty()) {
            "; replayed as " @for id in replays.iter().filter_map(Value::as_str) { a href=(id) { (id) } " " }
        }
        div.dim {
            "request " code { (text("request_id").unwrap_or_default()) }
            @if let Some(own) = text("sender_request_id") { ", the sender's " code { (own) } }
            @if let Some(trace) = text("trace_id") { ", trace " code { (trace) } }
            @if let Some(span) = text("sender_span_id") { ", the sender's span " code { (span) } }
        }
    }
}

fn called(call: &Value) -> Markup {
    let text = |name: &str| call[name].as_str();
    html! {
        "Call " (call["number"].as_u64().unwrap_or_default()) ": " b { (text("result").unwrap_or_default().replace('_', " ")) }
        @if let Some(status) = call["status"].as_u64() { ", status " (status) }
        ", took " (call["took_ms"].as_i64().unwrap_or_default()) " ms"
        @if let Some(fault) = text("fault") { ", on the side of the " (fault) }
        @if let Some(detail) = text("detail") { div.dim { (detail) } }
        @if let Some(answer) = text("answer").filter(|answer| !answer.is_empty()) {
            details { summary { "Answer" } (code_block(answer)) }
        }
    }
}

/// What was repaired in the payload, in words.
fn repairs(event: &Value) -> Vec<&str> {
    let words = event["repaired"].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(|word| Repair::read(word).map_or(word, |repair| repair.explain())).collect()
}

/// The payload that came and the body that is sent, beside each other.
fn contents(event: &Value) -> Markup {
    let text = |name: &str| event[name].as_str();
    html! {
        div.columns {
            section {
                h2 { "What came" }
                @match (text("received"), text("received_hex")) {
                    (Some(raw), _) => {
                        (code_block(raw))
                        p { a href={ "../bench?event=" (text("id").unwrap_or_default()) } { "How the rules decide it now" } }
                        details { summary { "As it came" } pre tabindex="0" { (shortened(raw)) } }
                    },
                    (None, Some(hex)) => {
                        p.dim { "It is no UTF-8; in hexadecimal:" }
                        pre tabindex="0" { (shortened(hex)) }
                    },
                    (None, None) => p.dim { "It is not kept any more." },
                }
                @let repaired = repairs(event);
                @if !repaired.is_empty() { p { "Repaired to be read: " (repaired.join("; ")) "." } }
                @if !event["element"].is_null() {
                    details open { summary { "The refused element" } (code_block(&event["element"].to_string())) }
                }
            }
            section {
                @if let Some(errors) = event["errors"].as_array() {
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
                    (code_block(&event["sent"].to_string()))
                }
            }
        }
    }
}

/// Events of the same key that are shown.
const OTHERS: usize = 10;
