//! The list of events, with the filter in its address.

use axum::extract::State as Extract;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::layout::{Frame, Place};
use super::parts::{event_table, prose};
use crate::admin::State;
use crate::admin::api::{Listed, list};
use crate::admin::selection::Selection;
use crate::clock::WallTime;
use crate::event::{Outcome, State as EventState};

pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let query = Query::of(&uri);
    let filter = Selection::of_query(&query.uri()).and_then(|selection| selection.list(WallTime::now()));
    let found = match filter {
        Ok(filter) => list(&state, filter).await.map_err(|_| UNREADABLE.to_owned()),
        Err(problem) => Err(problem),
    };
    let main = html! {
        h1 { "Events" }
        (form(&query, &state.view.sources))
        @match &found {
            Ok(listed) => (rows(listed, &query)),
            Err(problem) => section.sentence.warning role="alert" { p { (prose(problem)) } },
        }
    };
    // A person who reads an older page, or looks for a text, is not interrupted.
    let live = !query.has("after") && !query.has("search");
    Frame { state: &state, place: Place::Events, title: "Events", root: "./", live }.show(&main)
}

fn rows(listed: &Listed, query: &Query) -> Markup {
    let events: Vec<Value> = listed.page.events.iter().filter_map(|event| serde_json::to_value(event).ok()).collect();
    html! {
        @if events.is_empty() {
            p { "No event matches." }
            @for sentence in listed.not_looked_at.iter().flatten() { p.dim { (prose(sentence)) } }
        } @else {
            (event_table(&events, ""))
        }
        @if let Some(searched) = &listed.page.searched {
            @let searched = serde_json::to_value(searched).unwrap_or_default();
            p.dim { "Looked at " (searched["events"].as_u64().unwrap_or_default()) " events, newest first." }
        }
        @if let Some(next) = &listed.page.next {
            p { a.button href={ "events?" (query.with("after", next)) } rel="next" { "Older" } }
        }
    }
}

fn form(query: &Query, sources: &[String]) -> Markup {
    let choice = |name: &str, label: &str, any: &str, words: &[&str]| {
        let chosen = query.get(name).unwrap_or_default();
        html! {
            label {
                (label)
                select name=(name) {
                    option value="" { (any) }
                    @for word in words { option value=(word) selected[*word == chosen] { (word.replace('_', " ")) } }
                }
            }
        }
    };
    let field = |name: &str, label: &str, hint: &str| {
        html! {
            label { (label) input name=(name) value=[query.get(name)] placeholder=(hint) autocomplete="off"; }
        }
    };
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    html! {
        form.filter action="events" role="search" {
            (choice("state", "State", "any", &EventState::ALL.map(EventState::as_str)))
            (choice("outcome", "Outcome", "any", &Outcome::ALL.map(Outcome::as_str)))
            (choice("source", "Source", "all", &sources))
            (field("key_contains", "Key contains", "disk"))
            (field("search", "Text in payload", "slow, newest first"))
            (field("since", "Since", "2h"))
            @if let Some(key) = query.get("key") { input type="hidden" name="key" value=(key); }
            button { "Show" }
            a.quiet href="events" { "All" }
        }
    }
}

const UNREADABLE: &str = "The journal can't be read now; see the overview.";

/// The query of the address, without what was left empty.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Query {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let given =
            pairs.map(|(name, value)| (decoded(name), decoded(value))).filter(|(_, value)| !value.trim().is_empty());
        Query(given.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// As the query of an address, with another value for one of its names.
    fn with(&self, name: &str, value: &str) -> String {
        let others =
            self.0.iter().filter(|(given, _)| given != name).map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs = others.chain([(name, value)]).map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    fn uri(&self) -> Uri {
        let pairs = self.0.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        format!("/events?{}", pairs.collect::<Vec<_>>().join("&")).parse().unwrap_or_default()
    }
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}
