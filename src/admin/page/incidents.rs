//! The incidents that are open, the one whose trigger is oldest first.

use axum::extract::State as Extract;
use axum::response::Response;
use maud::html;

use super::confirmations::of_incident;
use super::layout::{Frame, Place};
use super::parts::{badge, time, unreadable};
use crate::admin::State;
use crate::admin::api::INCIDENTS_MAX;
use crate::admin::confirmations::{Incident, confirmed_incidents};

pub(super) async fn view(Extract(state): Extract<State>) -> Response {
    let open = confirmed_incidents(&state).await;
    let confirms = state.view.entries.iter().any(|source| source.confirms);
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
                        th scope="col" { "State" } @if confirms { th scope="col" { "Callgoose says" } }
                        th scope="col" { "Rule" }
                    } }
                    tbody {
                        @for confirmed @ Incident { trigger: incident, .. } in open.iter().rev() {
                            tr {
                                td { a href={ "events/" (incident.id) } { (time(&incident.received_at)) } }
                                td.key { (incident.incident_key.as_deref().unwrap_or_default()) }
                                td { (incident.source) }
                                td { (badge(incident)) }
                                @if confirms { td { (of_incident(confirmed)) } }
                                td { (incident.rule.as_deref().unwrap_or_default()) }
                            }
                        }
                    }
                } }
            }
        }
    };
    Frame { state: &state, place: Place::Incidents, title: "Open incidents", root: "./", live: true }.show(&main)
}
