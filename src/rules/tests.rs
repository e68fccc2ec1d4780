//! The sentences of the rule language, each tried.

mod body_shapes;
mod conditions;
mod decisions;
mod differing;
mod emit;
mod indexed;
mod keys;
mod mistakes;
mod paths;
mod places;
mod properties;
mod reach;
mod shipped;
mod validations;
mod work;

use super::*;

pub(super) const CONTEXT: Context<'static> = Context {
    source: "servicepilot",
    received_at: "2025-11-24T07:30:00.000Z",
    json: JsonReading::Strict,
    repairs: Repairs::NONE,
};

#[test]
fn compiled_rules_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<RuleSet>();
}

/// Compiles a rule file that has no mistakes.
pub(super) fn compile(yaml: &str) -> RuleSet {
    let (rules, findings) = try_compile(yaml);
    assert!(findings.is_empty(), "{}", findings.render(false));
    rules.unwrap()
}

pub(super) fn try_compile(yaml: &str) -> (Option<RuleSet>, Findings) {
    let source = Arc::new(Source::new("rules.yaml".into(), yaml.into()));
    let mut findings = Findings::new();
    let rules = RuleSet::compile(&source, &mut findings);
    (rules, findings)
}

/// Compiles a file of one rule, `then: trigger`, with more keys before `rules`.
pub(super) fn with_rule(head: &str, rule: &str) -> RuleSet {
    compile(&format!(
        "version: 1\n{head}\nincident_key: $.id\nrules:\n  - name: only\n    then: trigger\n{}",
        indent(rule, 4)
    ))
}

pub(super) fn decide(rules: &RuleSet, payload: &Value) -> Decision {
    let decision = rules.decide(payload, CONTEXT);
    let (explained, traces) = rules.explain(payload, CONTEXT);
    assert_eq!(decision, explained, "looking on changes nothing");
    assert_eq!(traces.elements.len(), decision.elements.len());
    decision
}

/// The one element of a decision, as `event`, `ignored` or the problems.
pub(super) fn verdict(rules: &RuleSet, payload: &Value) -> String {
    match decide(rules, payload).elements.as_slice() {
        [Element::Event(draft)] => format!("{} {}", draft.action, draft.rule),
        [Element::Ignored { rule }] => format!("ignored {}", rule.as_deref().unwrap_or("-")),
        [Element::Refused { violations, .. }] => {
            let violations: Vec<String> = violations.iter().map(|v| format!("{} {}", v.path, v.problem)).collect();
            format!("refused {}", violations.join("; "))
        }
        elements => panic!("{elements:?}"),
    }
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}
