//! The queue: by source and lane with the time that it will take, then the keys that fail or wait longest.

use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::fields::{Fields, encoded};
use super::layout::{Frame, Place};
use super::parts::{number, prose, time_or};
use crate::admin::State;
use crate::admin::queue::{Question, Unanswered, current};
use crate::advice::list;
use crate::advice::queue::{drain, retrying, sentence, standing};
use crate::clock::WallTime;
use crate::text::grouped;

pub(super) async fn view(Extract(state): Extract<State>, uri: Uri) -> Response {
    let now = WallTime::now();
    let answer = match Question::of_query(&uri) {
        Ok(question) => current(&state.view, &question).await,
        Err(why) => Err(Unanswered { status: StatusCode::BAD_REQUEST, why }),
    };
    let status = answer.as_ref().err().map_or(StatusCode::OK, |unanswered| unanswered.status);
    let source = Fields::of_query(&uri).get("source").map(str::to_owned);
    let main = html! {
        h1 { "Queue" @if let Some(source) = &source { " of " span.key { (source) } } }
        @match &answer {
            Err(Unanswered { why, .. }) => section.sentence.warning role="alert" { p { (prose(why)) "." } },
            Ok(answer) => {
                p.big role="status" { (sentence(answer, source.as_deref(), now)) }
                (sources(answer))
                @if !list(answer, "keys").is_empty() { (lanes(answer)) }
                (keys(answer, now))
            }
        }
        @if source.is_some() { p { a href="queue" { "All sources" } } }
    };
    // A wrong question gets the same answer each time: there is nothing to keep up to date.
    let live = status != StatusCode::BAD_REQUEST;
    Frame { state: &state, place: Place::Queue, title: "Queue", root: "./", live }.show_with(status, &main)
}

fn sources(answer: &Value) -> Markup {
    html! {
        section {
            h2 { "Sources" }
            div.scroll {
                table {
                    thead { tr {
                        th scope="col" { "Source" } th.count scope="col" { "Waiting" } th scope="col" { "Oldest" }
                        th.count scope="col" { "Fresh" } th.count scope="col" { "Backlog" }
                        th.count scope="col" { "Retrying" } th.count scope="col" { "Held" }
                        th.count scope="col" { "Calls" } th scope="col" { "Drained in" }
                    } }
                    tbody {
                        @for source in list(answer, "sources") {
                            @let name = source["source"].as_str().unwrap_or_default();
                            tr {
                                td { a href={ "queue?" (encoded([("source", name)].into_iter())) } { (name) } }
                                td.count { (number(&source["events"])) }
                                td { (oldest(source)) }
                                td.count { (number(&source["fresh"])) }
                                td.count { (number(&source["backlog"])) }
                                td.count { (grouped(retrying(source))) }
                                td.count { (number(&source["held"])) }
                                td.count { (number(&source["calls"])) }
                                td { (drain(source)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The event of a source that waits longest, by the time of its receipt.
fn oldest(source: &Value) -> Markup {
    let received = time_or(source["oldest_received_at"].as_str(), "–");
    html! {
        @match source["oldest_id"].as_str() {
            Some(id) => a href={ "events/" (id) } { (received) },
            None => (received),
        }
    }
}

/// The time that each lane will take, of all sources together.
fn lanes(answer: &Value) -> Markup {
    let lane = |name: &str| {
        let lane = &answer["queue"]["lanes"][name];
        html! { b { (number(&lane["events"])) } " in the " (name) " lane, drained in " (drain(lane)) }
    };
    html! {
        p.dim {
            "Of all sources: " (lane("fresh")) "; " (lane("backlog")) ". Times are those of the last minute's rate; what "
            "waits for its next attempt, or is held, takes longer."
        }
    }
}

fn keys(answer: &Value, now: WallTime) -> Markup {
    let keys = list(answer, "keys");
    let more = answer["more_keys"].as_u64().filter(|more| *more > 0);
    html! {
        @if !keys.is_empty() {
            section {
                h2 { "Keys that fail, then those that wait longest" }
                div.scroll {
                    table.events {
                        thead { tr {
                            th scope="col" { "First event" } th scope="col" { "Incident key" } th scope="col" { "Source" }
                            th.count scope="col" { "Waiting" } th.count scope="col" { "Tries" }
                            th scope="col" { "Waits for" } th scope="col" { "Last result" }
                        } }
                        tbody { @for key in keys { (row(key, &answer["upstream"], now)) } }
                    }
                }
                @if let Some(more) = more {
                    p { (grouped(more)) " more keys wait: " a href="events?state=queued" { "events that wait" } }
                }
            }
        }
    }
}

fn row(key: &Value, upstream: &Value, now: WallTime) -> Markup {
    let text = |name: &str| key[name].as_str().unwrap_or("–");
    html! {
        tr {
            td { a href={ "events/" (text("id")) } { (time_or(key["received_at"].as_str(), "?")) } }
            td.key { (text("incident_key")) }
            td { (text("source")) }
            td.count { (number(&key["events"])) }
            td.count { (number(&key["attempts"])) }
            td { (standing(key, upstream, now)) }
            td.reason { (text("reason")) }
        }
    }
}
