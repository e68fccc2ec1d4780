//! The incidents that are open, the one whose trigger is oldest first.

use axum::extract::State as Extract;
use axum::response::Response;
use maud::html;
use serde_json::Value;

use super::layout::{Frame, Place};
use super::parts::{badge, time, unreadable};
use crate::admin::State;
use crate::admin::api::{INCIDENTS_MAX, open_incidents};

pub(super) async fn view(Extract(state): Extract<State>) -> Response {
    let open = open_incidents(&state).await;
    let main = html! {
        h1 { "Open incidents" }
        p.dim {
            "Keys whose last event is a trigger, the oldest of these first. A reminder or an update is a trigger, too: an \
             incident may have been open for longer."
            @if open.as_ref().is_ok_and(|open| open.len() == INCIDENTS_MAX) { " The newest " (INCIDENTS_MAX) " are shown." }
        }
        @match &open {
            Err(_) => (unreadable()),
            Ok(open) if open.is_empty() => p { "None is open." },
            Ok(open) => {
                div.scroll { table.events {
                    thead { tr {
                        th scope="col" { "Last trigger" } th scope="col" { "Incident key" } th scope="col" { "Source" }
                        th scope="col" { "State" } th scope="col" { "Rule" }
                    } }
                    tbody {
                        @for incident in open.iter().rev() {
                            @let incident = serde_json::to_value(incident).unwrap_or(Value::Null);
                            @let text = |name: &str| incident[name].as_str().unwrap_or_default();
                            tr {
                                td { a href={ "events/" (text("id")) } { (time(text("received_at"))) } }
                                td.key { (text("incident_key")) }
                                td { (text("source")) }
                                td { (badge(&incident)) }
                                td { (text("rule")) }
                            }
                        }
                    }
                } }
            }
        }
    };
    Frame { state: &state, place: Place::Incidents, title: "Open incidents", root: "./", live: true }.show(&main)
}
