//! How the rules decide a payload: every validation, rule and condition with the value that was seen, and what is sent.

use maud::{Markup, html};

use super::parts::{code_block, prose};
use crate::advice::decision::{Row, Section, lacking, missed, path_row, sections};
use crate::advice::filter_verdict::FilterVerdict;
use crate::event::{Draft, Priority, Violation};
use crate::inbound::Explained;
use crate::rules::{Element, ElementTrace, Nearest};
use crate::text::visible;

/// A decision as a tree, one for each element of a batch. `verdicts`: what Callgoose's filters make of each.
pub(super) fn decided(explained: &Explained, verdicts: &[Option<FilterVerdict>]) -> Markup {
    let Explained { repairs, decision, trace } = explained;
    let elements = decision.elements.iter().zip(&trace.elements);
    let payload = Section { heading: "payload", rows: trace.payload.iter().map(path_row).collect() };
    html! {
        @if !repairs.is_empty() {
            p { "Repaired: " (repairs.iter().map(|repair| repair.explain()).collect::<Vec<_>>().join("; ")) "." }
        }
        @if !payload.rows.is_empty() { (section(&payload)) }
        @for (place, (element, trace)) in elements.take(ELEMENTS_SHOWN).enumerate() {
            @if decision.batch { h3 { "Element " (trace.index) } }
            (one(element, trace))
            @if let Some(Some(verdict)) = verdicts.get(place) { (filtered(verdict)) }
        }
        @if decision.elements.len() > ELEMENTS_SHOWN {
            p.dim { "And " (decision.elements.len() - ELEMENTS_SHOWN) " more elements." }
        }
        @if let Some(first) = &decision.template_failures.first {
            p { "A template failed and rendered empty: " code { (first) } }
        }
    }
}

fn one(element: &Element, trace: &ElementTrace) -> Markup {
    html! {
        @for part in sections(trace) { (section(&part)) }
        @if let Some(nearest) = &trace.nearest { (nearest_rule(nearest)) }
        @if let Some(missed) = missed(trace) { (section(&missed)) }
        @match element {
            Element::Event(draft) => (event(draft)),
            Element::Ignored { rule } => {
                p.verdict { b { "Ignored" } @if let Some(rule) = rule { ", by the rule " code { (rule) } } @else { ": no rule matches" } "." }
            },
            Element::Refused { violations, .. } => (refused(violations)),
        }
    }
}

fn nearest_rule(nearest: &Nearest) -> Markup {
    let Nearest { rule, spot, .. } = nearest;
    html! {
        p { "The rule " code { (rule) } " (line " (spot.line) ") would match if this came out otherwise:" }
        (rows(&lacking(nearest)))
    }
}

fn event(draft: &Draft) -> Markup {
    html! {
        p.verdict {
            b { (draft.action.as_str()) } " of " span.key { (draft.incident_key) } ", by the rule " code { (&*draft.rule) }
            @if draft.priority != Priority::default() { ", priority " (draft.priority.as_str()) }
            @if let Some(occurrence) = &draft.occurrence { ", occurrence " code { (&*occurrence.0) } }
            "; sent is:"
        }
        (code_block(&String::from_utf8_lossy(draft.body.bytes())))
    }
}

/// The verdict of Callgoose's filters on an event.
fn filtered(verdict: &FilterVerdict) -> Markup {
    let kind = if verdict.takes_effect() { "good" } else { "warning" };
    html! {
        section.sentence.(kind) {
            p { b { "Callgoose's filters:" } }
            ul { @for line in verdict.said() { li { (line) } } }
            @for line in verdict.details() { p.note { (line) } }
        }
    }
}

/// The reasons of a refusal.
pub(super) fn refused(violations: &[Violation]) -> Markup {
    html! {
        p.verdict { b { "Refused" } ":" }
        ul {
            @for Violation { path, problem, found } in violations {
                li { code { (path) } ": " (prose(problem)) @if let Some(found) = found { "; found " code { (visible(found)) } } }
            }
        }
    }
}

fn section(section: &Section) -> Markup {
    html! {
        h3 { (section.heading) }
        (rows(&section.rows))
    }
}

fn rows(rows: &[Row]) -> Markup {
    html! {
        div.scroll {
            table.tree {
                tbody {
                    @for Row { depth, holds, name, asks, seen } in rows.iter().take(ROWS_SHOWN) {
                        @let (mark, said) = match holds {
                            Some(true) => ("✓", "holds"),
                            Some(false) => ("✗", "does not hold"),
                            None => ("·", "not asked"),
                        };
                        tr.{ "depth-" ((*depth).min(DEPTH_SHOWN)) } {
                            td.mark title=(said) { (mark) }
                            td.key { (name) }
                            td { (asks) }
                            td.key { (seen) }
                        }
                    }
                    @if rows.len() > ROWS_SHOWN { tr { td {} td.dim colspan="3" { "and " (rows.len() - ROWS_SHOWN) " more" } } }
                }
            }
        }
    }
}

/// More than a person reads on a page; `gander explain` shows all.
pub(super) const ELEMENTS_SHOWN: usize = 20;
const ROWS_SHOWN: usize = 200;
/// The style has so many indents.
const DEPTH_SHOWN: usize = 6;
