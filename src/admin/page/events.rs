//! The list of events, with the filter in its address.

use axum::extract::State as Extract;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};

use super::fields::Fields;
use super::layout::{Frame, Place};
use super::parts::{event_table, prose, time, unreadable};
use crate::admin::State;
use crate::admin::api::{Listed, list};
use crate::admin::selection::Selection;
use crate::clock::WallTime;
use crate::event::{Outcome, State as EventState};
use crate::text::grouped;

pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let query = Fields::of_query(&uri);
    let filter = Selection::of_pairs(query.iter()).and_then(|selection| selection.list(WallTime::now()));
    let found = match filter {
        Ok(filter) => list(&state, filter).await.map_err(|_| unreadable()),
        Err(problem) => Err(html! { section.sentence.warning role="alert" { p { (prose(&problem)) } } }),
    };
    let main = html! {
        h1 { "Events" }
        (form(&query, &state.view.sources))
        @match &found {
            Ok(listed) => (rows(listed, &query)),
            Err(problem) => (problem),
        }
    };
    // A person who reads an older page, or looks for a text, is not interrupted.
    let live = !query.has("after") && !query.has("search") && !query.has("key_or_title");
    Frame { state: &state, place: Place::Events, title: "Events", root: "./", live }.show(&main)
}

fn rows(listed: &Listed, query: &Fields) -> Markup {
    html! {
        @if listed.page.events.is_empty() {
            p { @if listed.page.next.is_some() { "None so far." } @else { "No event matches." } }
            @for sentence in listed.not_looked_at.iter().flatten() { p.dim { (prose(sentence)) } }
        } @else {
            (event_table(&listed.page.events, ""))
        }
        @if let Some(searched) = &listed.page.searched {
            p.dim {
                "Looked at " (grouped(searched.looked_at as u64)) " events, newest first"
                @if searched.by_index > 0 { ", " (grouped(searched.by_index as u64)) " of them by the index" }
                @if let Some(back_to) = &searched.back_to { ", back to " (time(back_to)) }
                @if searched.stopped { "; there are more" }
                "."
            }
        }
        @if let Some(next) = &listed.page.next {
            @let goes_on = listed.page.searched.as_ref().is_some_and(|searched| searched.stopped);
            p { a.button href={ "events?" (query.with("after", next)) } rel="next" { @if goes_on { "Go on" } @else { "Older" } } }
        }
    }
}

fn form(query: &Fields, sources: &[String]) -> Markup {
    let choice = |name: &str, label: &str, any: &str, words: &[&str]| {
        let chosen = query.get(name).unwrap_or_default();
        html! {
            label {
                (label)
                select name=(name) {
                    option value="" { (any) }
                    @if !chosen.is_empty() && !words.contains(&chosen) { option value=(chosen) selected { (chosen) } }
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
            (field("key_or_title", "Key or title", "disk full"))
            (field("search", "Text in payload", "slow, newest first"))
            (field("since", "Since", "2h"))
            @for (name, value) in query.iter().filter(|(name, _)| !FIELDS.contains(name) && *name != "after") { span.filter-more { (name) ": " code { (value) } } input type="hidden" name=(name) value=(value); }
            button { "Show" }
            a.quiet href="events" { "All" }
        }
    }
}

/// The fields of the form.
const FIELDS: [&str; 6] = ["state", "outcome", "source", "key_or_title", "search", "since"];
