//! Operands: words, patterns, numbers and types, each one value or a list.

use serde_json::Number;

use super::super::pattern::{Capture, Pattern, RegexError};
use super::super::value::{Kind, number_of};
use super::all;
use crate::yaml::{Findings, Node, Value, fields};

/// Reads a list of operands, or the one that stands for it, each so that all mistakes are found; none if one of them can't
/// be used, or there is none.
fn operands<T>(
    node: &Node,
    at: &str,
    findings: &mut Findings,
    read: impl Fn(&Node, &str, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            findings.error(node.place.clone(), at, "an empty list never matches").help("name at least one value");
            None
        }
        Value::List(items) => all(items, at, |item, at| read(item, at, findings)),
        _ => Some(vec![read(node, at, findings)?]),
    }
}

/// The words of a text operator. A whole number is read as its text, so that `starts_with: 5` needs no quotes.
pub(super) fn words(node: &Node, at: &str, findings: &mut Findings) -> Option<Vec<String>> {
    operands(node, at, findings, word)
}

/// The patterns of `matches` in a validation.
pub(super) fn patterns(node: &Node, at: &str, findings: &mut Findings) -> Option<Vec<Pattern>> {
    operands(node, at, findings, |item, at, findings| {
        let written = word(item, at, findings)?;
        Pattern::of_rule(&written, false).map_err(|error| bad_pattern(item, at, &written, &error, findings)).ok()
    })
}

/// The pattern of `capture`, with its one group.
pub(super) fn capture(node: &Node, at: &str, findings: &mut Findings) -> Option<Capture> {
    let Value::String(written) = &node.value else {
        findings
            .error(node.place.clone(), at, format!("expected a regular expression, found {}", node.kind()))
            .help(r"such as `'#(\d+)'`: what the group matches is taken");
        return None;
    };
    let capture = Capture::of_rule(written).map_err(|error| bad_pattern(node, at, written, &error, findings)).ok()?;
    let help = match capture.groups() {
        1 => return Some(capture),
        0 => r"put what is wanted into parentheses: `#(\d+)`",
        _ => "what only holds parts together is written `(?:…)`",
    };
    let message = format!("what one group matches is taken, and this pattern has {} groups", capture.groups());
    findings.error(node.place.clone(), at, message).code("invalid-regex").help(help);
    None
}

/// Reports a pattern that can't be used.
pub(super) fn bad_pattern(node: &Node, at: &str, written: &str, error: &RegexError, findings: &mut Findings) {
    let place = node.place.within(written, error.range.clone());
    findings
        .error(place, at, format!("this is no regular expression: {}", error.message))
        .code("invalid-regex")
        .help("the syntax is that of the Rust crate `regex`: no look-around, no back-references");
}

/// One type or a list of them.
pub(super) fn kinds(node: &Node, at: &str, findings: &mut Findings) -> Option<Vec<Kind>> {
    operands(node, at, findings, |item, at, findings| {
        if item.is_null() {
            findings
                .error(item.place.clone(), at, "the type null has to be quoted")
                .help("write `'null'`: without quotes it is YAML's way to say nothing");
            return None;
        }
        fields::choice(item, at, &Kind::CHOICES, findings)
    })
}

/// A number, or a string that is wholly one.
pub(super) fn number(node: &Node, at: &str, findings: &mut Findings) -> Option<Number> {
    let number = match &node.value {
        Value::Number(_) | Value::String(_) => number_of(&node.to_json()),
        _ => None,
    };
    if number.is_none() {
        findings.error(node.place.clone(), at, format!("expected a number, found {}", node.kind()));
    }
    number
}

fn word(node: &Node, at: &str, findings: &mut Findings) -> Option<String> {
    match &node.value {
        Value::String(text) if text.is_empty() => {
            findings.error(node.place.clone(), at, "an empty text is in every text: this would always match");
            None
        }
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(number) => {
            findings
                .error(node.place.clone(), at, format!("expected a text, found the number {number}"))
                .help("put it into quotes, so that it is searched as you wrote it");
            None
        }
        Value::Bool(value) => {
            findings
                .error(node.place.clone(), at, format!("expected a text, found the boolean {value}"))
                .help(format!("put it into quotes, or ask `equals: {value}`"));
            None
        }
        _ => {
            findings.error(
                node.place.clone(),
                at,
                format!("expected a text or a list of texts, found {}", node.kind()),
            );
            None
        }
    }
}
