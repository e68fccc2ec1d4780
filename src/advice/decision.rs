//! A decision of the rules as a person reads it: what was asked of the payload, what was seen, what holds.

use serde_json::Value;

use crate::rules::{
    ConditionTrace, ElementTrace, Missed, Nearest, PartTrace, PathTrace, RuleTrace, Seen, ValidationTrace,
};
use crate::text::plain;

/// One key of the rule file, with a line for each thing that was asked.
pub(crate) struct Section {
    pub(crate) heading: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One line of the tree: a path or rule, what is asked of it, what was seen.
pub(crate) struct Row {
    pub(crate) depth: usize,
    /// None: it was not asked.
    pub(crate) holds: Option<bool>,
    pub(crate) name: String,
    pub(crate) asks: String,
    pub(crate) seen: String,
}

/// The questions that were asked of an element until it was decided.
pub(crate) fn sections(trace: &ElementTrace) -> Vec<Section> {
    let mut rules = Vec::new();
    trace.rules.iter().for_each(|rule| rule_rows(rule, &mut rules));
    let sections = [
        Section { heading: "validate", rows: trace.validations.iter().map(validation_row).collect() },
        Section { heading: RULES, rows: rules },
        Section { heading: "reads", rows: trace.reads.iter().map(path_row).collect() },
    ];
    sections.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

/// The paths of `emit` that found nothing.
pub(crate) fn missed(trace: &ElementTrace) -> Option<Section> {
    let rows: Vec<Row> = trace.missed.iter().map(missed_row).collect();
    (!rows.is_empty()).then_some(Section { heading: "emit found nothing at", rows })
}

/// The conditions that the nearest rule lacked.
pub(crate) fn lacking(nearest: &Nearest) -> Vec<Row> {
    let mut rows = Vec::new();
    nearest.lacks.iter().for_each(|condition| condition_rows(condition, 0, &mut rows));
    rows
}

fn validation_row(validation: &ValidationTrace) -> Row {
    Row {
        depth: 0,
        holds: Some(validation.holds),
        name: validation.path.clone(),
        asks: validation.checks.join(", "),
        seen: seen(&validation.seen, validation.selected),
    }
}

fn rule_rows(rule: &RuleTrace, rows: &mut Vec<Row>) {
    let holds = match rule.verdict {
        "matched" => Some(true),
        "not matched" | "unreadable" => Some(false),
        _ => None,
    };
    let always = if rule.when.is_none() && holds == Some(true) { ", always" } else { "" };
    let priority = rule.priority.map_or_else(String::new, |priority| format!(", {priority}"));
    let name = format!("{} → {}{priority}", rule.name, rule.then);
    let asks = format!("{}{always}", rule.verdict);
    rows.push(Row { depth: 0, holds, name, asks, seen: format!("line {}", rule.spot.line) });
    rule.when.iter().for_each(|condition| condition_rows(condition, 1, rows));
}

fn condition_rows(condition: &ConditionTrace, depth: usize, rows: &mut Vec<Row>) {
    match condition {
        ConditionTrace::Combined { combine, holds, conditions } => {
            let (name, asks) = ((*combine).to_owned(), String::new());
            rows.push(Row { depth, holds: Some(*holds), name, asks, seen: String::new() });
            conditions.iter().for_each(|condition| condition_rows(condition, depth + 1, rows));
        }
        ConditionTrace::Test { path, operators, every, selected, seen: nodes, holds, .. } => rows.push(Row {
            depth,
            holds: Some(*holds),
            name: path.clone(),
            asks: format!("{}{}", if *every { "every " } else { "" }, operators.join(", ")),
            seen: seen(nodes, *selected),
        }),
    }
}

/// A path of `emit` that found nothing, marked where a name is nearly right.
fn missed_row(missed: &Missed) -> Row {
    let Missed { key, path, instead, why } = missed;
    let becomes = match (instead, path.starts_with('$')) {
        (true, _) => "missing, another value is sent",
        (false, true) => "missing, left out",
        (false, false) => "missing, renders empty",
    };
    let why = why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    let holds = missed.is_near().then_some(false);
    Row { depth: 0, holds, name: key.clone(), asks: path.clone(), seen: plain(&format!("{becomes}{why}")) }
}

pub(crate) fn path_row(read: &PathTrace) -> Row {
    let (name, seen) = (read.key.to_owned(), seen(&read.seen, read.selected));
    let Some(PartTrace { how, verdict, text }) = &read.part else {
        return Row { depth: 0, holds: Some(read.selected > 0), name, asks: read.path.clone(), seen };
    };
    let (holds, becomes) = match (*verdict, text) {
        ("taken", Some(text)) => (Some(true), format!(" → {}", plain(text))),
        ("refused", _) => (Some(false), String::new()),
        (other, _) => (None, format!(" → {other}")),
    };
    Row { depth: 0, holds, name, asks: format!("{}  {}", read.path, how.join(", ")), seen: format!("{seen}{becomes}") }
}

/// The value that a path found, with the reason where that is more than "not what was asked".
fn seen(nodes: &[Seen], selected: usize) -> String {
    let told = nodes.iter().map(|node| {
        let value = match &node.value {
            None => node.kind.to_owned(),
            Some(Value::String(text)) if node.kind != "string" => text.clone(),
            Some(value) => value.to_string(),
        };
        let size = match (node.size, node.kind) {
            (Some(size), "array") => format!(" [{size} items]"),
            (Some(size), "object") => format!(" [{size} members]"),
            (Some(size), _) => format!(" [{size} characters]"),
            (None, _) => String::new(),
        };
        match &node.why {
            Some(why) if !why.starts_with("not ") => format!("{value}{size} ({why})"),
            _ => format!("{value}{size}"),
        }
    });
    let more = match selected.saturating_sub(nodes.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    plain(&format!("{}{more}", told.collect::<Vec<_>>().join(", ")))
}

/// The heading of the rules.
pub(crate) const RULES: &str = "rules";
