//! Evaluates a payload: unwrap, split, and for each element validate, rules, incident key, occurrence, body.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::budget::Budget;
use super::emit::{Reading, Setting};
use super::key::{KeyPart, Refuse};
use super::path::{JsonPath, Nodes, Scope};
use super::template::{Converted, FUEL_OF_PAYLOAD};
use super::trace::{ElementTrace, PathTrace, RuleTrace, Trace};
use super::value::{kind_of, shortened, shown};
use super::{
    Context, Decision, Element, Otherwise, Rule, RuleSet, TemplateFailures, Then, key, placeholder, unmatched,
};
use crate::bounded_json::{self, Room};
use crate::event::{Action, Body, Draft, Priority, UpdateHash, Violation};
use crate::lenient_json::{self, JsonReading, Repairs};

/// The state that the elements of one payload share.
struct Payload<'a> {
    root: &'a Value,
    context: Context<'a>,
    budget: &'a Budget,
    /// The budget of an explanation, apart from that of the decision: to be explained changes nothing.
    telling: Budget,
    /// The budget of putting the reasons of refusals in order, apart from the decision: no element is refused for it.
    ordering: Budget,
    fuel: Budget,
    converted: OnceCell<Converted>,
    failures: RefCell<TemplateFailures>,
}

/// Decides a payload, or only the one element of it that was cut out before; `traces` is told what was looked at.
pub(super) fn payload(
    rules: &RuleSet,
    payload: &Value,
    only: Option<&Value>,
    context: Context<'_>,
    mut traces: Option<&mut Trace>,
) -> Decision {
    let batch = rules.split.is_some() && only.is_none();
    let (budget, telling) = (Budget::new(STEPS_MAX), Budget::new(TELLING_STEPS_MAX));
    let mut tell = |key, path: Option<&JsonPath>, payload: &Value| {
        if let (Some(traces), Some(path)) = (traces.as_deref_mut(), path) {
            traces.payload.push(PathTrace::of(key, path, Scope { element: payload, root: payload, budget: &telling }));
        }
    };
    tell("unwrap", rules.unwrap.as_ref(), payload);
    let unwrapped = rules.unwrap.as_ref().map(|path| unwrap(path, payload, context.json, &budget)).transpose();
    let (root, repairs) = match &unwrapped {
        Ok(None) => (payload, Repairs::NONE),
        Ok(Some((value, repairs))) => (value, *repairs),
        Err(violation) => return refused(violation, batch, Repairs::NONE, traces),
    };
    let path = rules.split.as_ref().filter(|_| batch);
    tell("split", path, root);
    let nodes = path.map(|path| split(path, rules, root, &budget)).transpose();
    let element = only.unwrap_or(root);
    let elements = match &nodes {
        Ok(None) => std::slice::from_ref(&element),
        Ok(Some(nodes)) => nodes.as_slice(),
        Err(violation) => return refused(violation, batch, repairs, traces),
    };
    let shared = Payload {
        root,
        context: Context { repairs: context.repairs.and(repairs), ..context },
        budget: &budget,
        telling,
        ordering: Budget::new(STEPS_MAX),
        fuel: Budget::new(FUEL_OF_PAYLOAD),
        converted: OnceCell::new(),
        failures: RefCell::new(TemplateFailures::default()),
    };
    let elements = each(rules, elements, batch, &shared, traces);
    Decision { batch, elements, template_failures: shared.failures.into_inner(), repairs }
}

/// The decision on a payload that never comes to its elements.
fn refused(violation: &Violation, batch: bool, repairs: Repairs, traces: Option<&mut Trace>) -> Decision {
    let violations = vec![violation.clone()];
    if let Some(traces) = traces {
        let errors = violations.clone();
        traces.elements.push(ElementTrace { verdict: "refused", errors, ..ElementTrace::default() });
    }
    let elements = vec![Element::Refused { violations, element: None }];
    Decision { batch, elements, template_failures: TemplateFailures::default(), repairs }
}

/// Decides elements in their order; what all of them take together has limits.
fn each(
    rules: &RuleSet,
    elements: &[&Value],
    batch: bool,
    payload: &Payload<'_>,
    mut traces: Option<&mut Trace>,
) -> Vec<Element> {
    let budget = payload.budget;
    let mut weight = 0;
    let mut decided = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().copied().enumerate() {
        let mut trace = traces.is_some().then(|| ElementTrace { index, ..ElementTrace::default() });
        let mut outcome = one(rules, element, payload, trace.as_mut());
        if let (true, Ok(Element::Event(draft))) = (batch, &outcome) {
            let body = draft.body.bytes().len();
            weight += body;
            budget.spend(body as u64 / BODY_BYTES_PER_STEP);
            if weight > BODIES_BYTES_MAX {
                let problem = format!("the bodies of this batch are larger than {} MiB in all", BODIES_BYTES_MAX >> 20);
                outcome = Err(vec![whole(problem)]);
            }
        }
        if budget.is_exhausted() {
            outcome = Err(vec![whole("deciding this payload takes more work than the relay allows".into())]);
        }
        if let Err(violations) = &mut outcome {
            violations.splice(0..0, wrong_kind(rules, element, payload, violations));
        }
        if let (Some(traces), Some(trace)) = (traces.as_deref_mut(), trace) {
            traces.elements.push(concluded(trace, &outcome));
        }
        decided.push(outcome.unwrap_or_else(|violations| Element::Refused {
            violations,
            element: batch.then(|| Bytes::from(element.to_string())),
        }));
    }
    decided
}

/// The elements of a batch.
fn split<'v>(path: &JsonPath, rules: &RuleSet, root: &'v Value, budget: &'v Budget) -> Result<Nodes<'v>, Violation> {
    let scope = Scope { element: root, root, budget };
    let nodes = path.select(scope);
    let problem = match nodes.as_slice() {
        [] => format!("`split` selects nothing here{}", because(path, scope, no_members(rules, root))),
        nodes if nodes.len() > ELEMENTS_MAX || budget.is_exhausted() => {
            format!("`split` makes more than {ELEMENTS_MAX} elements")
        }
        _ => return Ok(nodes),
    };
    Err(violation(path, problem, None))
}

fn unwrap(path: &JsonPath, payload: &Value, json: JsonReading, budget: &Budget) -> Result<(Value, Repairs), Violation> {
    let scope = Scope { element: payload, root: payload, budget };
    let nodes = path.select(scope);
    let node = match nodes.as_slice() {
        [] => {
            let problem = format!("`unwrap` needs this and it is missing{}", because(path, scope, None));
            return Err(violation(path, problem, None));
        }
        [node] => *node,
        nodes => {
            let problem = format!("`unwrap` needs one string here and finds {} values", nodes.len());
            return Err(violation(path, problem, nodes.first().copied()));
        }
    };
    let Value::String(text) = node else {
        let problem = format!("`unwrap` needs a string that holds JSON, this is {}", kind_of(node));
        return Err(violation(path, problem, Some(node)));
    };
    let room = Room::within(payload);
    let error = match bounded_json::read(text.as_bytes(), room) {
        Ok(value) => return Ok((value, Repairs::NONE)),
        Err(error) => error,
    };
    let remedy = match (json, lenient_json::read(text, room)) {
        (JsonReading::Lenient, Some(read)) => return Ok(read),
        (JsonReading::Strict, Some(_)) => "; with `json: lenient` the source would take it",
        (_, None) => "",
    };
    Err(violation(path, format!("`unwrap` finds no JSON in this string: {error}{remedy}"), Some(node)))
}

/// The reason why `split` or `unwrap` selects nothing, in brackets, where it is more than that the last name is missing.
fn because(path: &JsonPath, scope: Scope<'_>, no_members: Option<String>) -> String {
    let no_members = no_members.filter(|_| path.begins_with_name() || scope.root.is_string());
    let why =
        no_members.map(|why| format!("`$` {why}")).or_else(|| path.why_missing(scope)).or_else(|| no_list(path, scope));
    why.map_or_else(String::new, |why| format!(" ({why})"))
}

/// Tells why there are no items for a path that ends with `[*]`.
fn no_list(path: &JsonPath, scope: Scope<'_>) -> Option<String> {
    let list = list_of(path)?;
    match list.first(scope) {
        None => list.why_missing(scope).or_else(|| Some(format!("there is no `{list}`"))),
        Some(Value::Array(_) | Value::Object(_)) => Some(format!("`{list}` is empty")),
        Some(other) => Some(format!("`{list}` has to be a list, not {}", kind_of(other))),
    }
}

/// The path of the list whose items a path selects.
fn list_of(path: &JsonPath) -> Option<JsonPath> {
    JsonPath::parse(path.as_str().strip_suffix("[*]")?).ok()
}

/// A violation that goes before all others: the rules ask the element for a member, and it is of a kind that has none.
fn wrong_kind(rules: &RuleSet, element: &Value, payload: &Payload<'_>, violations: &[Violation]) -> Option<Violation> {
    let path = JsonPath::parse(&violations.first()?.path).ok()?;
    if !path.begins_with_name() || path.is_whole() {
        return None;
    }
    let problem = match (&rules.split, element) {
        (Some(_), Value::Object(_)) => return None,
        (Some(split), element) => {
            let scope = Scope { element: payload.root, root: payload.root, budget: payload.budget };
            wrong_split(split, element, scope)?
        }
        (None, payload) => no_members(rules, payload)?,
    };
    Some(whole(problem))
}

/// The words for an element that is no object.
fn wrong_split(split: &JsonPath, element: &Value, scope: Scope<'_>) -> Option<String> {
    let is_object = |list: &JsonPath| list.first(scope).is_some_and(Value::is_object);
    match list_of(split).filter(is_object) {
        Some(list) => {
            Some(format!("is a member, for `{list}` is an object and no list: `split` makes events of a list's items"))
        }
        None => element
            .is_array()
            .then(|| format!("is an array: `split: {split}` selects the list itself, `split: {split}[*]` its items")),
    }
}

/// The words for a payload that is a list or a text, with the key of the rule file that it probably needs.
fn no_members(rules: &RuleSet, payload: &Value) -> Option<String> {
    match payload {
        Value::Array(_) => Some("is an array, not an object: `split: $[*]` makes each item an event".to_owned()),
        Value::String(_) if rules.unwrap.is_none() => {
            Some("is a string, not an object: `unwrap: $` reads the JSON in it".to_owned())
        }
        _ => None,
    }
}

/// Decides one element; the error says why it is refused.
fn one(
    rules: &RuleSet,
    element: &Value,
    payload: &Payload<'_>,
    mut trace: Option<&mut ElementTrace>,
) -> Result<Element, Vec<Violation>> {
    let scope = Scope { element, root: payload.root, budget: payload.budget };
    let mut violations = Vec::new();
    for validation in &rules.validations {
        validation.check(scope, &mut violations, trace.as_deref_mut().map(|trace| &mut trace.validations));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let (judged, found) = first_match(rules, scope);
    if let Some(trace) = trace.as_deref_mut() {
        let telling = Scope { budget: &payload.telling, ..scope };
        tell(rules, telling, judged, &mut trace.rules);
        trace.nearest = matches!(found, Ok(None)).then(|| unmatched::nearest(rules, telling)).flatten();
    }
    let rule = match found? {
        Some(rule) => rule,
        None => {
            return match rules.otherwise {
                Otherwise::Ignore => Ok(Element::Ignored { rule: None }),
                Otherwise::Reject => Err(unmatched::reasons(rules, scope, &payload.ordering)),
            };
        }
    };
    if let Some(trace) = trace.as_deref_mut() {
        trace.rule = Some(rule.name.to_string());
    }
    let action = match rule.then {
        Then::Trigger => Action::Trigger,
        Then::Resolve => Action::Resolve,
        Then::Ignore => return Ok(Element::Ignored { rule: Some(Arc::clone(&rule.name)) }),
        Then::Reject => return Err(vec![whole(format!("the rule `{}` rejects this", rule.name))]),
    };
    let refuse = Refuse { placeholders: &rules.placeholders, replaced: payload.context.repairs.replaced_text() };
    if let Some(trace) = trace {
        let scope = Scope { budget: &payload.telling, ..scope };
        tell_reads(rules, rule, scope, refuse, &mut trace.reads);
        let reading = Reading { scope, action, templates: &rules.templates };
        rule.emit.iter().for_each(|emit| emit.read(&reading, "", trace));
    }
    draft(rules, rule, action, scope, refuse, payload).map(Element::Event)
}

/// The event that a rule makes of an element: its key, and the body that is sent.
fn draft(
    rules: &RuleSet,
    rule: &Rule,
    action: Action,
    scope: Scope<'_>,
    refuse: Refuse<'_>,
    payload: &Payload<'_>,
) -> Result<Draft, Vec<Violation>> {
    let incident_key = key::incident_key(key_parts(rules, rule), scope, refuse)?;
    let occurrence = key::occurrence(&rules.occurrence, scope, refuse)?;
    let setting = Setting {
        scope,
        action,
        incident_key: &incident_key,
        rule: &rule.name,
        context: payload.context,
        templates: &rules.templates,
        root: &payload.converted,
        variables: [OnceCell::new(), OnceCell::new()],
        fuel: &payload.fuel,
        failures: &payload.failures,
    };
    let body = match &rule.emit {
        Some(emit) => Body::written(|json| emit.write(&setting, json)),
        None => Body::of(scope.element),
    };
    let update = match action {
        Action::Trigger => key::update_hash(&rules.update_on, scope),
        // A resolve resets the comparison; it takes no part in it.
        Action::Resolve => UpdateHash::default(),
    };
    let (rule, priority) = (Arc::clone(&rule.name), rule.priority);
    Ok(Draft { action, rule, incident_key, occurrence, update, priority, body })
}

/// The first rule whose `when` holds, and the place of the last rule that was judged. A placeholder in a value that a
/// rule reads is an error before the rule decides by it; what only later rules read is not looked at.
fn first_match<'r>(rules: &'r RuleSet, scope: Scope<'_>) -> (Option<usize>, Result<Option<&'r Rule>, Vec<Violation>>) {
    for index in rules.index.candidates(scope) {
        let rule = &rules.rules[index];
        let unreadable = unreadable(rules, rule, scope);
        if !unreadable.is_empty() {
            return (Some(index), Err(unreadable));
        }
        if rule.when.as_ref().is_none_or(|when| when.holds(scope, None)) {
            return (Some(index), Ok(Some(rule)));
        }
    }
    (None, Ok(None))
}

fn unreadable(rules: &RuleSet, rule: &Rule, scope: Scope<'_>) -> Vec<Violation> {
    let checked = rule.reads.iter().filter(|path| rules.placeholders.are_refused_at(path));
    checked.flat_map(|path| unrendered(path, scope)).collect()
}

/// Tells of every rule how it is judged, also of those that the index leaves out, up to the `last` one.
fn tell(rules: &RuleSet, scope: Scope<'_>, last: Option<usize>, traces: &mut Vec<RuleTrace>) {
    for (index, rule) in rules.rules.iter().enumerate() {
        if last.is_some_and(|last| index > last) {
            traces.push(told(rule, "not reached", None));
            continue;
        }
        if !unreadable(rules, rule, scope).is_empty() {
            traces.push(told(rule, "unreadable", None));
            continue;
        }
        let mut conditions = Some(Vec::new());
        let holds = rule.when.as_ref().is_none_or(|when| when.holds(scope, conditions.as_mut()));
        traces.push(told(rule, if holds { "matched" } else { "not matched" }, conditions));
    }
}

/// Tells what the keys beside the rules read, and a rule's own incident key.
fn tell_reads(rules: &RuleSet, rule: &Rule, scope: Scope<'_>, refuse: Refuse<'_>, reads: &mut Vec<PathTrace>) {
    key_parts(rules, rule).iter().for_each(|part| part.tell(scope, refuse, reads));
    for (key, paths) in [("occurrence", &rules.occurrence), ("update_on", &rules.update_on)] {
        reads.extend(paths.iter().map(|path| PathTrace::of(key, path, scope)));
    }
}

/// The incident key of a rule: its own, else the file's.
fn key_parts<'r>(rules: &'r RuleSet, rule: &'r Rule) -> &'r [KeyPart] {
    rule.incident_key.as_ref().unwrap_or(&rules.incident_key)
}

fn told(rule: &Rule, verdict: &'static str, conditions: Option<Vec<super::ConditionTrace>>) -> RuleTrace {
    let when = conditions.and_then(|mut conditions| conditions.pop());
    let priority = (rule.priority != Priority::default()).then(|| rule.priority.as_str());
    RuleTrace { spot: rule.spot, name: rule.name.to_string(), then: rule.then.as_str(), priority, verdict, when }
}

fn unrendered(path: &JsonPath, scope: Scope<'_>) -> Vec<Violation> {
    let nodes = path.select(scope);
    let texts = nodes.as_slice().iter().filter_map(|node| node.as_str());
    texts
        .filter_map(|text| {
            scope.budget.spend_bytes(6 * text.len() as u64);
            let found = placeholder::alone(text)?;
            let problem = format!(
                "is an unrendered placeholder, {}, and the rules read it; {}",
                shortened(found),
                placeholder::remedy(path)
            );
            Some(Violation { path: path.as_str().to_owned(), problem, found: Some(shortened(text)) })
        })
        .take(VIOLATIONS_SHOWN_MAX)
        .collect()
}

fn concluded(mut trace: ElementTrace, outcome: &Result<Element, Vec<Violation>>) -> ElementTrace {
    trace.verdict = match outcome {
        Ok(Element::Event(_)) => "event",
        Ok(Element::Ignored { .. }) => "ignored",
        Ok(Element::Refused { .. }) | Err(_) => "refused",
    };
    if let Err(violations) = outcome {
        trace.errors.clone_from(violations);
    }
    trace
}

fn violation(path: &JsonPath, problem: String, found: Option<&Value>) -> Violation {
    Violation { path: path.as_str().to_owned(), problem, found: found.map(shown) }
}

fn whole(problem: String) -> Violation {
    Violation { path: "$".into(), problem, found: None }
}

/// The cost that one payload may have: visited nodes and comparisons together, some 50 ms. A typical payload
/// takes a few hundred, a batch of ten thousand elements under twenty rules about a million.
const STEPS_MAX: u64 = 4_000_000;
/// Ten times as much, for a person who asks at the desk.
const TELLING_STEPS_MAX: u64 = 10 * STEPS_MAX;
/// A batch is decided and written in one piece while others wait, so it has an end, however large `listen.max_body` is.
/// In the 1 MiB of its default there are some thousand alerts.
pub(crate) const ELEMENTS_MAX: usize = 10_000;
/// Each element may copy the whole payload (`$$`) into its body; all of them together may not fill the memory.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// Copying runs many times faster than visiting.
const BODY_BYTES_PER_STEP: u64 = 16;
/// A refusal names the values that matter, not all.
const VIOLATIONS_SHOWN_MAX: usize = 5;
