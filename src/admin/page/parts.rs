//! The pieces that views share: times, states, texts with commands in them, tables of events.

use maud::{Markup, html};
use serde_json::Value;

use crate::clock::WallTime;
use crate::text::grouped;

/// A time of the API, without its day where that is today. The script adds how long ago it was, and the reader's own clock.
pub(super) fn time(text: &str) -> Markup {
    let (day, second) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    let is_today = WallTime::now().rfc3339().starts_with(day);
    html! { time datetime=(text) { @if !is_today { (day) " " } (second) " UTC" } }
}

/// A time, or a word where there is none.
pub(super) fn time_or(text: Option<&str>, none: &str) -> Markup {
    match text {
        Some(text) => time(text),
        None => html! { span.dim { (none) } },
    }
}

/// The state of an event with its outcome, in a word and a colour.
pub(super) fn badge(event: &Value) -> Markup {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let (state, outcome) = (text("state"), text("outcome"));
    let kind = match (state, outcome) {
        ("delivered", "unmatched" | "not_resolved") => "warning",
        ("delivered", _) => "good",
        ("dead", _) => "bad",
        ("refused", _) => "warning",
        ("queued", _) => "waiting",
        _ => "ended",
    };
    let words = if outcome.is_empty() { state } else { outcome };
    html! { span.badge.(kind) title=(state) { (words.replace('_', " ")) } }
}

/// A text in which backticks enclose what is typed somewhere.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A number, or a question mark where it is not known.
pub(super) fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), grouped)
}

/// JSON with lines and indents.
pub(super) fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    }
}

/// The reason of an event in a list: of a refused payload its first error, with path and value.
pub(super) fn reason(event: &Value) -> String {
    let error = &event["error"];
    let text = |name: &str| error[name].as_str();
    let (Some(path), Some(problem)) = (text("path"), text("problem")) else {
        return event["reason"].as_str().unwrap_or_default().to_owned();
    };
    let found = text("found").map(|found| format!(" {found}")).unwrap_or_default();
    format!("{path}{found}: {problem}")
}

/// Events as rows, newest first. `root` leads to `/`.
pub(super) fn event_table(events: &[Value], root: &str) -> Markup {
    html! {
        div.scroll {
            table.events {
                thead { tr {
                    th scope="col" { "Received" } th scope="col" { "State" } th scope="col" { "Action" }
                    th scope="col" { "Incident key" } th scope="col" { "Source" } th scope="col" { "Reason" }
                } }
                tbody {
                    @for event in events {
                        @let text = |name: &str| event[name].as_str().unwrap_or_default();
                        tr {
                            td { a href={ (root) "events/" (text("id")) } { (time(text("received_at"))) } }
                            td {
                                (badge(event))
                                @if event["held"].is_string() { " " span.badge.warning { "held" } }
                            }
                            td { (event["action"].as_str().unwrap_or("–")) }
                            td.key { (event["incident_key"].as_str().unwrap_or("–")) }
                            td { (text("source")) }
                            td.reason { (reason(event)) }
                        }
                    }
                }
            }
        }
    }
}
