//! `validate`.

use super::super::text::OneOf;
use super::super::trace::Spot;
use super::super::validate::{Check, Validation};
use super::{path, scalar};
use crate::yaml::fields::{each, integer};
use crate::yaml::{Fields, Findings, Node, Value};

pub(super) fn validations(node: &Node, findings: &mut Findings) -> Vec<Validation> {
    let Value::List(items) = &node.value else {
        findings
            .error(node.place.clone(), "validate", format!("expected a list, found {}", node.kind()))
            .help("such as `- { path: $.state, required: true, type: string }`");
        return Vec::new();
    };
    each(items, "validate", |item, at| {
        if let Value::String(path) = &item.value {
            findings
                .error(item.place.clone(), at, "expected a mapping, found a string")
                .help(format!("such as `{{ path: {path}, required: true }}`"));
            return None;
        }
        validation(Fields::of(item, at, findings)?, findings)
    })
}

fn validation(mut fields: Fields<'_>, findings: &mut Findings) -> Option<Validation> {
    let node = fields.require("path", findings);
    let checked = node.and_then(|node| path(node, &fields.path_of("path"), findings));
    // What it asks may be misspelled: that is a finding already.
    let asked = fields.has("required") || CHECKS.iter().any(|name| fields.has(name));
    let required = fields.boolean("required", findings);
    let mut checks = Vec::new();
    if let Some((node, at)) = taken("type", &mut fields) {
        checks.extend(scalar::kinds(node, &at, findings).map(Check::Type));
    }
    if let Some((node, at)) = taken("one_of", &mut fields) {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                let values = items.iter().map(Node::to_json).collect();
                checks.push(Check::OneOf(OneOf::new(values, false)));
            }
            _ => {
                findings.error(node.place.clone(), at, format!("expected a list of values, found {}", node.kind()));
            }
        }
    }
    let min = taken("min_length", &mut fields).and_then(|(node, at)| integer(node, &at, 0..=LENGTH_MAX, findings));
    let max = taken("max_length", &mut fields)
        .and_then(|(node, at)| integer(node, &at, 0..=LENGTH_MAX, findings).map(|max| (node, max)));
    if let (Some(min), Some((node, max))) = (min, max)
        && min > max
    {
        let at = fields.path_of("max_length");
        findings.error(node.place.clone(), at, format!("nothing is at least {min} and at most {max} long"));
    }
    checks.extend(min.and_then(|min| usize::try_from(min).ok()).map(Check::MinLength));
    checks.extend(max.and_then(|(_, max)| usize::try_from(max).ok()).map(Check::MaxLength));
    if let Some((node, at)) = taken("matches", &mut fields) {
        checks.extend(scalar::patterns(node, &at, findings).map(Check::Matches));
    }
    if let Some((node, at)) = taken("not_matches", &mut fields) {
        checks.extend(scalar::patterns(node, &at, findings).map(Check::NotMatches));
    }
    if !asked {
        findings
            .error(fields.place(), fields.path(), "this validation asks nothing")
            .help("it takes required, type, one_of, min_length, max_length, matches, not_matches");
    }
    let spot = Spot::of(&fields.place());
    fields.finish(findings);
    Some(Validation { spot, path: checked?, required: required.unwrap_or(false), checks })
}

fn taken<'a>(name: &'static str, fields: &mut Fields<'a>) -> Option<(&'a Node, String)> {
    Some((fields.take(name)?, fields.path_of(name)))
}

const CHECKS: [&str; 6] = ["type", "one_of", "min_length", "max_length", "matches", "not_matches"];
/// Longer than any body that is accepted.
const LENGTH_MAX: u64 = 1 << 40;
