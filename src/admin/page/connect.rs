//! The pieces to type into each sender and into Callgoose, to copy. No secret is on it, only where it is.

use std::path::Path;

use axum::extract::State as Extract;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::confirmations;
use super::layout::{Frame, Place};
use super::parts::{prose, shortened, time_or};
use crate::admin::State;
use crate::admin::status::current;
use crate::advice::Advice;
use crate::advice::connect::{
    CONFIRMATION_STEPS, FilterSetup, HOST, Listener, SenderSetup, SourceEntry, Transport, Typed, Way, body_template,
    of_filters, of_rules,
};
use crate::advice::status::trouble;
use crate::callgoose::filters::FiltersBeside;
use crate::clock::WallTime;
use crate::inbound::Ingest;

pub(super) async fn view(Extract(state): Extract<State>) -> Response {
    let status = current(&state.view).await;
    let (listener, callgoose) = (listener(&state), callgoose(&state).await);
    let mut confirming = Vec::new();
    for entry in state.view.entries.iter().filter(|entry| entry.confirms) {
        confirming.push((entry, confirmations::unrelated(&state, &entry.name).await));
    }
    let main = html! {
        h1 { "Connect" }
        p.dim {
            "What to type into each sender and into Callgoose. " code { "TOKEN" } " stands for the secret, which is not shown here."
            @if listener.address.ip().is_unspecified() {
                " " code { (HOST) } " stands for the name by which senders reach this machine; its certificate has to have that name."
            }
        }
        (doubted(&listener.doubts()))
        @for entry in state.view.entries.iter().filter(|entry| !entry.confirms) {
            (source(&state, entry, &listener, &status))
        }
        h2 { "Callgoose" }
        p { "Services → your service → API Filters. Without them nobody is alerted." }
        (callgoose)
        @for (entry, unrelated) in &confirming { (confirmation(entry, &listener, unrelated)) }
    };
    Frame { state: &state, place: Place::Connect, title: "Connect", root: "./", live: true }.show(&main)
}

/// The listener as it is now: a certificate may have been renewed.
fn listener(state: &State) -> Listener {
    let mut certificates = state.view.certificates.iter();
    let served = certificates.find(|(section, _)| *section == "listen").map(|(_, served)| served);
    let transport = match served.map(|served| served.self_signed()) {
        None => Transport::Plain,
        Some(None) => Transport::Certified,
        Some(Some(file)) => Transport::SelfSigned(file.display().to_string()),
    };
    let asks_certificate = served.is_some_and(|served| served.asks_certificate());
    let proxy_protocol = state.view.proxy_protocol;
    Listener { address: state.view.listen, transport, asks_certificate, proxy_protocol }
}

fn source(state: &State, entry: &SourceEntry, listener: &Listener, status: &Value) -> Markup {
    let SenderSetup { ways, doubts } = entry.setup(listener);
    let name = &*entry.name;
    let rules = state.view.ingest.rules_of(name);
    let stem = rules.as_ref().and_then(|rules| Path::new(rules.file()).file_stem()?.to_str());
    html! {
        section.group {
            h2 { (name) }
            (last_event(name, status))
            (doubted(&doubts))
            @for (index, Way { typed, secret }) in ways.iter().enumerate() {
                @if index > 0 { h3 { "Or, where that can't be set" } }
                (blocks(typed, &format!("{name}, {}", index + 1)))
                @if let Some(secret) = secret { p.dim { (prose(secret)) "." } }
            }
            @if let Some(body) = stem.and_then(body_template) {
                (block(&Typed::value("Body", body), name))
            }
            @if let Some(head) = rules.as_ref().map(|rules| rules.head()).filter(|head| !head.is_empty()) {
                details {
                    summary { "Step by step, as the head of " (stem.unwrap_or("its rules")) ".yaml says" }
                    (block(&Typed::value("Steps", shortened(head)), name))
                }
            }
        }
    }
}

/// A source of confirmations: its sender is Callgoose.
fn confirmation(entry: &SourceEntry, listener: &Listener, unrelated: &Markup) -> Markup {
    let SenderSetup { ways, doubts } = entry.setup(listener);
    html! {
        section.group {
            h2 { "Callgoose's outgoing webhook to " (entry.name) }
            p { (prose(CONFIRMATION_STEPS)) ":" }
            (doubted(&doubts))
            @for (index, Way { typed, secret }) in ways.iter().enumerate() {
                @if index > 0 { h3 { "Or, where that can't be set" } }
                (blocks(typed, &format!("{}, {}", entry.name, index + 1)))
                @if let Some(secret) = secret { p.dim { (prose(secret)) "." } }
            }
            (unrelated)
        }
    }
}

fn doubted(doubts: &[Advice]) -> Markup {
    html! {
        @for Advice { why, remedy } in doubts {
            div.sentence.warning {
                p { (prose(why)) "." @if let Some(remedy) = remedy { " " b { "What to do: " } (prose(remedy)) "." } }
            }
        }
    }
}

/// When something came of a source, and what troubles it.
fn last_event(name: &str, status: &Value) -> Markup {
    let by_source = status["by_source"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(source) = by_source.iter().find(|source| source["name"] == name) else { return html! {} };
    let trouble = trouble(source, status, WallTime::now());
    html! {
        p {
            "Last event: " (time_or(source["last_event_at"].as_str(), "none since the start"))
            @if !trouble.is_empty() { ". " span.badge.warning { "trouble" } " " (trouble) }
        }
    }
}

async fn callgoose(state: &State) -> Markup {
    let filters = state.view.filters.borrow().clone();
    match &filters {
        FiltersBeside::Read { name, filters } => html! {
            p.dim { "As " code { (name) } " says." }
            (filter_blocks(&of_filters(filters), name))
        },
        FiltersBeside::Unusable { name, problem } => html! {
            div.sentence.warning { p { code { (name) } " can't be used: " (problem) } }
            (of_all_rules(state).await)
        },
        FiltersBeside::None => of_all_rules(state).await,
    }
}

/// Filters from what the rules send. The page asks again with each event, and a file may have thousands of rules: it is
/// found out where no sender's task waits for it.
async fn of_all_rules(state: &State) -> Markup {
    let (ingest, sources) = (state.view.ingest.clone(), state.view.sources.clone());
    let told = spawn_blocking(move || by_source(&ingest, sources)).await.unwrap_or_default();
    html! {
        @for (names, setups) in &told {
            @let names = names.join(", ");
            h3 { "For " (names) ", by what the rules send" }
            @match setups {
                Some(setups) => (filter_blocks(setups, &names)),
                None => p {
                    "These rules do not write out by which text a problem and its recovery are told apart. Give them an "
                    code { "emit" } " with a " code { "state" } ", or choose keys of the payload."
                },
            }
        }
    }
}

/// Sources that send alike, with the filters for them, where the rules tell any.
fn by_source(ingest: &Ingest, sources: Vec<String>) -> Vec<(Vec<String>, Option<Vec<FilterSetup>>)> {
    let mut told: Vec<(Vec<String>, Option<Vec<FilterSetup>>)> = Vec::new();
    for name in sources {
        let setups = ingest.rules_of(&name).and_then(|rules| of_rules(&rules.body_shapes()));
        match told.iter_mut().find(|(_, known)| *known == setups) {
            Some((names, _)) => names.push(name),
            None => told.push((vec![name], setups)),
        }
    }
    told
}

fn filter_blocks(setups: &[FilterSetup], of: &str) -> Markup {
    html! {
        @for FilterSetup { heading, typed } in setups {
            h3 { (heading) }
            (blocks(typed, &format!("{of}, {heading}")))
        }
    }
}

fn blocks(typed: &[Typed], of: &str) -> Markup {
    html! { @for (index, one) in typed.iter().enumerate() { (block(one, &format!("{of}, {index}"))) } }
}

/// A piece to copy: by the script's button, or by hand; of words that are no value there is nothing to copy. `of` tells pieces apart that have the same field.
fn block(Typed { field, value, in_words }: &Typed, of: &str) -> Markup {
    html! {
        div.copy {
            span.note { (field) }
            pre tabindex="0" { (value) }
            @if !in_words {
                button.quiet data-copy={ (of) ": " (field) } aria-label={ "Copy: " (field) } hidden { "Copy" }
            }
        }
    }
}
