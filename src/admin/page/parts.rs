//! The pieces that views share: times, states, texts with commands in them, tables of events.

use maud::{Markup, html};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::clock::WallTime;
use crate::journal::Summary;
use crate::text::{grouped, visible};

/// A time of the API, without its day where that is today. The script adds how long ago it was, and the reader's own clock.
pub(super) fn time(text: &str) -> Markup {
    let (day, second) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    let is_today = WallTime::now().rfc3339().starts_with(day);
    let shown = if is_today { format!("{second} UTC") } else { format!("{day} {second} UTC") };
    html! { time datetime=(text) { (shown) } }
}

/// A time, or a word where there is none.
pub(super) fn time_or(text: Option<&str>, none: &str) -> Markup {
    match text {
        Some(text) => time(text),
        None => html! { span.dim { (none) } },
    }
}

/// The state of an event with its outcome, in a word and a colour.
pub(super) fn badge(event: &Summary) -> Markup {
    let (state, outcome) = (event.state.as_str(), event.outcome.as_deref().unwrap_or_default());
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

/// A text in lines as they are, JSON with indents.
pub(super) fn code_block(text: &str) -> Markup {
    html! { pre tabindex="0" { (indented(text)) } }
}

/// A text, with lines and indents where it is JSON: by its own characters, so that no number is another one. Where that
/// would be too much to read, its beginning as it is.
fn indented(text: &str) -> String {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    let pretty = is_json.then(|| pretty(text, SHOWN_BYTES_MAX)).flatten();
    pretty.unwrap_or_else(|| shortened(text))
}

/// A text, or its beginning where it is more than a person reads.
pub(super) fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=SHOWN_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…\n\n({} bytes in all)", &text[..end], text.len())
}

/// A JSON text with lines and indents; none where that has more than so many bytes. Strings and numbers stay as they are.
fn pretty(json: &str, bytes_max: usize) -> Option<String> {
    let (mut pretty, mut depth) = (String::with_capacity(json.len()), 0_usize);
    let (mut within, mut escaped) = (false, false);
    // Within strings white space counts, outside of them it is written anew.
    let mut previous = ' ';
    for c in json.chars() {
        if pretty.len() > bytes_max {
            return None;
        }
        if within {
            pretty.push(c);
            (within, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        depth = if closes { depth.saturating_sub(1) } else { depth };
        let opened = matches!(previous, '{' | '[');
        if previous == ',' || opened != closes && (opened || closes) {
            pretty.push('\n');
            pretty.extend(std::iter::repeat_n("  ", depth));
        }
        pretty.push(c);
        match c {
            '"' => within = true,
            ':' => pretty.push(' '),
            '{' | '[' => depth += 1,
            _ => {}
        }
        previous = c;
    }
    Some(pretty)
}

/// Said in place of what the journal would tell.
pub(super) fn unreadable() -> Markup {
    html! {
        section.sentence.warning role="alert" {
            p { "The journal can't be read now: it answers another question, or its disk does not answer. Ask again." }
        }
    }
}

/// The reason of an event in a list: of a refused payload its first error, with path and value.
pub(super) fn reason(event: &Summary) -> String {
    let text = |name: &str| event.error.as_ref()?[name].as_str();
    let (Some(path), Some(problem)) = (text("path"), text("problem")) else {
        return event.reason.clone().unwrap_or_default();
    };
    let found = text("found").map(|found| format!(" {}", visible(found))).unwrap_or_default();
    format!("{path}{found}: {problem}")
}

/// Events as rows, newest first. `root` leads to `/`.
pub(super) fn event_table(events: &[Summary], root: &str) -> Markup {
    html! {
        div.scroll {
            table.events {
                thead { tr {
                    th scope="col" { "Received" } th scope="col" { "State" } th scope="col" { "Action" }
                    th scope="col" { "Incident key" } th scope="col" { "Source" } th scope="col" { "Reason" }
                } }
                tbody {
                    @for event in events {
                        tr {
                            td { a href={ (root) "events/" (event.id) } { (time(&event.received_at)) } }
                            td {
                                (badge(event))
                                @if event.held.is_some() { " " span.badge.warning { "held" } }
                            }
                            td { (event.action.as_deref().unwrap_or("–")) }
                            td.key { (event.incident_key.as_deref().unwrap_or("–")) }
                            td { (event.source) }
                            td.reason { (reason(event)) }
                        }
                    }
                }
            }
        }
    }
}

/// More of a payload than a person reads on a page; `gander events show ID --raw` has all of it.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_indented_as_elsewhere_and_nothing_in_it_is_altered() {
        for value in [
            json!({}),
            json!([]),
            json!({ "a": [], "b": {}, "c": [1, { "d": "x, y: {z}" }, null], "e": "\"\\ \n [" }),
            json!([[["deep"]], "", "\\\\", true]),
            json!("text"),
            json!(7),
        ] {
            for written in [format!("{value:#}"), value.to_string()] {
                assert_eq!(pretty(&written, 1 << 20), Some(format!("{value:#}")), "{written}");
            }
        }
        assert_eq!(
            pretty(r#"{"id":12345678901234567890123,"id":1.0}"#, 99).unwrap(),
            "{\n  \"id\": 12345678901234567890123,\n  \"id\": 1.0\n}"
        );
        assert_eq!(pretty(&"[".repeat(100), 1_000), None, "indents count");
    }
}
