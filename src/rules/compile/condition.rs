//! `when`: conditions and their combinations.

use super::super::condition::{Asks, Comparison, Condition, Operator, Test};
use super::super::path::JsonPath;
use super::super::text::{Ask, OneOf, TextTest};
use super::super::trace::Spot;
use super::{all, path, scalar};
use crate::yaml::{Fields, Findings, Node, Value};

/// A condition at `at`.
pub(super) fn condition(node: &Node, at: &str, findings: &mut Findings) -> Option<Condition> {
    let Value::Map(entries) = &node.value else {
        let help = match &node.value {
            Value::List(_) => "several conditions are joined by `all: […]` or `any: […]`",
            _ => "such as `{ path: $.state, equals: CRITICAL }`; leave the key out for a rule that matches always",
        };
        findings.error(node.place.clone(), at, format!("expected a condition, found {}", node.kind())).help(help);
        return None;
    };
    let combining = entries.iter().filter(|(key, _)| COMBINERS.contains(&key.name.as_str())).count();
    let fields = Fields::of(node, at, findings)?;
    match combining {
        0 => test(node, fields, findings).map(Condition::Test),
        1 if entries.len() == 1 => combined(fields, findings),
        _ => {
            let second = entries.get(1).map_or(&node.place, |(key, _)| &key.place);
            findings
                .error(second.clone(), at, "`all`, `any`, `not` and `path` can't stand beside each other")
                .help("put each into its own mapping and join them: `all: [{ any: […] }, { path: … }]`");
            None
        }
    }
}

fn combined(mut fields: Fields<'_>, findings: &mut Findings) -> Option<Condition> {
    if let Some(node) = fields.take("all") {
        return conditions(node, &fields.path_of("all"), findings).map(Condition::All);
    }
    if let Some(node) = fields.take("any") {
        return conditions(node, &fields.path_of("any"), findings).map(Condition::Any);
    }
    let node = fields.take("not")?;
    condition(node, &fields.path_of("not"), findings).map(|condition| Condition::Not(Box::new(condition)))
}

fn conditions(node: &Node, at: &str, findings: &mut Findings) -> Option<Vec<Condition>> {
    let Value::List(items) = &node.value else {
        findings
            .error(node.place.clone(), at, format!("expected a list of conditions, found {}", node.kind()))
            .help("each in brackets, `[{ path: $.state, equals: CRITICAL }, …]`, or on a line that begins with `-`");
        return None;
    };
    if items.is_empty() {
        findings.error(node.place.clone(), at, "this list needs a condition");
        return None;
    }
    all(items, at, |item, at| condition(item, at, findings))
}

fn test(node: &Node, mut fields: Fields<'_>, findings: &mut Findings) -> Option<Test> {
    let path_node = fields.take_some("path");
    let tested: Option<JsonPath> = match path_node {
        Some(node) => path(node, &fields.path_of("path"), findings),
        None => {
            findings
                .error(fields.place(), fields.path(), "a condition needs a `path`")
                .help("such as `{ path: $.state, equals: CRITICAL }`, or `all`, `any`, `not`");
            None
        }
    };
    let every = fields.boolean("every", findings).unwrap_or(false);
    let ignore_case_node = fields.take_some("ignore_case");
    let any_case =
        ignore_case_node.and_then(|node| crate::yaml::fields::boolean(node, &fields.path_of("ignore_case"), findings));
    let exists_node = fields.take_some("exists");
    let exists = exists_node.and_then(|node| crate::yaml::fields::boolean(node, &fields.path_of("exists"), findings));
    let broken = exists_node.is_some() && exists.is_none();
    let mut reading = Reading { fields, any_case: any_case.unwrap_or(false), folds: false, broken, findings };
    let mut operators = reading.operators();
    let Reading { fields, folds, broken, .. } = reading;
    // A mistyped operator is reported by its name; that there is none would only repeat it.
    let broken = broken || fields.unknown().next().is_some();
    let at = fields.path().to_owned();
    if let Some(node) = ignore_case_node
        && !folds
        && !broken
    {
        findings
            .error(node.place.clone(), fields.path_of("ignore_case"), "no operator here compares text")
            .help("`ignore_case` goes with `equals` and `one_of` of strings and with the text operators");
    }
    fields.finish(findings);
    let asks = match exists {
        Some(false) if every || !operators.is_empty() => {
            findings
                .error(node.key_place("exists"), at, "`exists: false` can't be joined by another operator")
                .help("where nothing is found there is nothing else to ask");
            return None;
        }
        Some(false) => Asks::Absent,
        Some(true) => {
            operators.insert(0, Operator::Exists);
            Asks::Nodes(operators)
        }
        // Without a path either, one of the two is enough to say.
        None if operators.is_empty() && !broken && path_node.is_some() => {
            findings
                .error(node.place.clone(), at, "a condition needs an operator beside its path")
                .help(format!("one of {}", OPERATORS.join(", ")));
            return None;
        }
        None => Asks::Nodes(operators),
    };
    Some(Test { spot: Spot::of(&node.place), path: tested?, every, asks })
}

/// The reading of a condition's operators.
struct Reading<'a, 'f> {
    fields: Fields<'a>,
    any_case: bool,
    /// True if some operator compares strings.
    folds: bool,
    /// True if some operator was there and could not be read.
    broken: bool,
    findings: &'f mut Findings,
}

impl Reading<'_, '_> {
    fn operators(&mut self) -> Vec<Operator> {
        let mut operators = Vec::new();
        // Cheap operators first: the order decides nothing but the time.
        if let Some(node) = self.fields.take("type") {
            let at = self.fields.path_of("type");
            let kinds = scalar::kinds(node, &at, self.findings);
            self.add(kinds.map(Operator::Type), &mut operators);
        }
        if let Some(node) = self.fields.take("equals") {
            operators.push(Operator::Equals(self.one_of(vec![node])));
        }
        if let Some(node) = self.fields.take("one_of") {
            let values = match &node.value {
                Value::List(items) if !items.is_empty() => Some(self.one_of(items.iter().collect())),
                _ => {
                    let at = self.fields.path_of("one_of");
                    self.findings
                        .error(node.place.clone(), at, format!("expected a list of values, found {}", kind(node)))
                        .help("one value is compared by `equals`");
                    None
                }
            };
            self.add(values.map(Operator::OneOf), &mut operators);
        }
        for comparison in Comparison::ALL {
            if let Some(node) = self.fields.take(comparison.as_str()) {
                let at = self.fields.path_of(comparison.as_str());
                let number = scalar::number(node, &at, self.findings);
                self.add(number.map(|number| Operator::Number(comparison, number)), &mut operators);
            }
        }
        for ask in Ask::ALL {
            if let Some(node) = self.fields.take(ask.as_str()) {
                let test = self.text(ask, node);
                self.add(test.map(Operator::Text), &mut operators);
            }
        }
        operators
    }

    fn add(&mut self, operator: Option<Operator>, operators: &mut Vec<Operator>) {
        self.broken |= operator.is_none();
        operators.extend(operator);
    }

    fn one_of(&mut self, items: Vec<&Node>) -> OneOf {
        for item in &items {
            doubt(item, true, self.fields.path(), self.findings);
        }
        self.folds |= items.iter().any(|item| item.as_str().is_some());
        let values = items.into_iter().map(Node::to_json).collect();
        OneOf::new(values, self.any_case)
    }

    fn text(&mut self, ask: Ask, node: &Node) -> Option<TextTest> {
        self.folds = true;
        let at = self.fields.path_of(ask.as_str());
        let words = scalar::words(node, &at, self.findings)?;
        let nodes = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().for_each(|node| doubt(node, ask == Ask::ContainsWord, &at, self.findings));
        TextTest::new(ask, words.clone(), self.any_case)
            .map_err(|(index, error)| match &node.value {
                Value::List(items) if ask == Ask::Matches => {
                    let at = format!("{at}[{index}]");
                    scalar::bad_pattern(&items[index], &at, &words[index], &error, self.findings);
                }
                _ if ask == Ask::Matches => scalar::bad_pattern(node, &at, &words[index], &error, self.findings),
                _ => {
                    self.findings.error(node.place.clone(), &at, error.message);
                }
            })
            .ok()
    }
}

/// Warns of a text that is hardly meant so. `whole`: one at whose ends a blank hardly ever stands.
fn doubt(node: &Node, whole: bool, at: &str, findings: &mut Findings) {
    let Some(text) = node.as_str() else {
        return;
    };
    let (message, help) = if text.starts_with(['“', '”', '„', '‘']) && text.ends_with(['“', '”', '’']) {
        ("these quotes are a part of the text", "YAML knows \" and ' as quotes, and no others")
    } else if whole && text.trim() != text && !text.is_empty() {
        ("a blank or a line break at the end is a part of the text", "take it off, unless the sender writes it so")
    } else {
        return;
    };
    findings.warning(node.place.clone(), at, message).code("doubtful").help(help);
}

fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::List(_) => "an empty one",
        _ => node.kind(),
    }
}

const COMBINERS: [&str; 3] = ["all", "any", "not"];
const OPERATORS: [&str; 14] = [
    "equals",
    "one_of",
    "exists",
    "type",
    "contains",
    "contains_all",
    "contains_word",
    "starts_with",
    "ends_with",
    "matches",
    "gt",
    "gte",
    "lt",
    "lte",
];
