//! The commands of people: when, which, to which events, and who it was.

use maud::{Markup, html};
use serde_json::Value;

use super::parts::time;
use crate::journal::CommandRecord;

/// Commands as rows, newest first, on a view beside `/`.
pub(super) fn command_list(commands: &[CommandRecord]) -> Markup {
    html! {
        div.scroll {
            table.events {
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Command" } th scope="col" { "To what" } th scope="col" { "By whom" }
                } }
                tbody {
                    @for command in commands {
                        tr {
                            td { (time(&command.at)) }
                            td { (command.command) }
                            td.key { (target(command)) }
                            td { (command.by) }
                        }
                    }
                }
            }
        }
    }
}

/// The events, the filter that chose them, or the source or key that was held.
fn target(command: &CommandRecord) -> Markup {
    html! {
        @match (&command.source, command.events.as_slice()) {
            (Some(source), _) => {
                @if let Some(key) = &command.key { (key) " of " }
                (source)
            },
            (None, [one]) if command.selection.is_none() => a href={ "events/" (one) } { (one) },
            (None, events) => {
                (command.count) " " @if command.count == 1 { "event" } @else { "events" }
                @if let Some(chosen) = command.selection.as_ref().map(chosen_by) { " with " (chosen) }
                @for event in events.iter().take(EVENTS_SHOWN) { " " a href={ "events/" (event) } { (event) } }
                @if events.len() > EVENTS_SHOWN { " …" }
            },
        }
    }
}

/// A filter in words: `state dead, source servicepilot`.
pub(super) fn chosen_by(selection: &Value) -> String {
    let words = selection.as_object().into_iter().flatten().map(|(name, value)| match value {
        Value::String(text) if text.is_empty() => format!("no {name}"),
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    words.collect::<Vec<_>>().join(", ").replace('_', " ")
}

/// The API has more of them.
const EVENTS_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_is_told_in_words() {
        assert_eq!(
            chosen_by(&json!({ "older_than": "2h", "state": "dead", "reason": "" })),
            "older than 2h, state dead, no reason"
        );
    }
}
