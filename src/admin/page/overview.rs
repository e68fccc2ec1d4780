//! The first view: how things are in a sentence, numbers, sources, and the latest events.

use axum::extract::State as Extract;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Frame, Place};
use super::parts::{event_table, number, prose, time_or};
use super::plots::{Reach, plots};
use crate::admin::history::Counters;
use crate::admin::status::current;
use crate::admin::{State, holds};
use crate::advice::readiness::{degraded, minute};
use crate::advice::status::{Headline, Level, headline, not_resolved, open, self_check, trouble, waiting};
use crate::clock::WallTime;
use crate::journal::{Filter, Summary};

pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let now = WallTime::now();
    let status = current(&state.view).await;
    let latest = latest(&state).await;
    let reach = if uri.query() == Some("plots=day") { Reach::Day } else { Reach::Hour };
    let (length, count) = reach.bars();
    let spans = state.history.spans(length, count, (now, Counters::of(&state.view)));
    let main = html! {
        h1.hidden { "Overview" }
        (sentence(&status, now))
        (tiles(&status, now))
        (unresolved(&status, now))
        (plots(&spans, reach))
        (sources(&status, now))
        @if let Some(told) = self_check(&status, now) { p { (told) } }
        section {
            h2 { "Latest events" }
            @match latest {
                Some(events) if events.is_empty() => p.dim { "None is kept yet." },
                Some(events) => (event_table(&events, "")),
                None => p.dim { "The journal does not answer at once." },
            }
        }
        p.dim {
            "Gander " (status["version"].as_str().unwrap_or_default()) ", up since "
            (time_or(status["started_at"].as_str(), "?")) ", to " (status["upstream"]["url"].as_str().unwrap_or_default())
        }
    };
    Frame { state: &state, place: Place::Overview, title: "Overview", root: "./", live: true }.show(&main)
}

/// How things are, and what to do about each thing that is not as it should be.
fn sentence(status: &Value, now: WallTime) -> Markup {
    let Headline { sentence, level, remedy, about } = headline(status, now);
    let kind = match level {
        Level::Well => "good",
        Level::Warning => "warning",
        Level::Bad => "bad",
    };
    html! {
        section.sentence.(kind) role="status" {
            p.big { (sentence) }
            @if let Some(remedy) = remedy { p { b { "What to do: " } (prose(&remedy)) } }
        }
        @for entry in degraded(&status["readiness"]).iter().filter(|entry| Some(*entry) != about) {
            @let text = |name: &str| entry[name].as_str().unwrap_or_default();
            section.sentence.warning {
                p { b { (text("reason").replace('_', " ")) } " since " (minute(text("since"))) ": " (text("detail")) }
                p { b { "What to do: " } (prose(text("remedy"))) }
            }
        }
    }
}

fn tiles(status: &Value, now: WallTime) -> Markup {
    let (start, queue, kept) = (&status["since_start"], &status["queue"], &status["kept"]);
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let waits = if count(&queue["events"]) > 0 { waiting(status, now) } else { "nothing waits".to_owned() };
    let tile = |name: &str, value: &Value, note: &str, path: &str, worry: bool| {
        html! {
            a.tile.worry[worry && count(value) > 0] href={ "./" (path) } {
                span.name { (name) } span.value { (number(value)) } span.note { (note) }
            }
        }
    };
    html! {
        section.tiles aria-label="Numbers" {
            (tile("Accepted", &start["taken"], "since the start", "events", false))
            (tile("Delivered", &start["delivered"], "since the start", "events?state=delivered", false))
            (tile("Waiting", &queue["events"], &waits, "queue", false))
            (tile("Open", &kept["open_incidents"], &open(kept), "incidents", false))
            (tile("Dead letters", &kept["dead"], "given up, kept", "events?state=dead", true))
            (tile("Refused", &kept["refused"], "could not be used", "events?state=refused", true))
            (tile("Unmatched", &kept["unmatched"], "keys: no filter matched the last event", "events?outcome=unmatched", true))
        }
    }
}

/// The recoveries that closed nothing: told, and no trouble.
fn unresolved(status: &Value, now: WallTime) -> Markup {
    html! {
        @if let Some(told) = not_resolved(status, now) {
            p.dim { (prose(&told)) " (" a href="./events?outcome=not_resolved" { "show them" } ")" }
        }
    }
}

fn sources(status: &Value, now: WallTime) -> Markup {
    let by_source = status["by_source"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        section {
            h2 { "Sources" }
            div.scroll {
                table {
                    thead { tr {
                        th scope="col" { "Source" } th scope="col" { "Last event" } th.count scope="col" { "Accepted" }
                        th.count scope="col" { "Waiting" } th.count scope="col" { "Dead" } th scope="col" { "Trouble" }
                    } }
                    tbody {
                        @for source in by_source {
                            @let name = source["name"].as_str().unwrap_or_default();
                            tr {
                                td { a href={ "events?source=" (name) } { (name) } }
                                td { (time_or(source["last_event_at"].as_str(), "none since the start")) }
                                td.count { (number(&source["taken"])) }
                                td.count { (number(&source["queued"])) }
                                td.count { (number(&source["dead"])) }
                                td { (trouble(source, status, now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

async fn latest(state: &State) -> Option<Vec<Summary>> {
    let filter = Filter { limit: LATEST, ..Filter::default() };
    let mut page = state.view.journal.read(move |reader| reader.list(&filter)).await.ok()?;
    holds::mark(&mut page.events, &state.view.recorder.holds());
    Some(page.events)
}

const LATEST: usize = 10;
