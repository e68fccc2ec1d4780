//! The order of a decision, batches, keys, placeholders, limits.

use serde_json::json;

use super::*;
use crate::event::{Action, Priority};
use crate::lenient_json::Repair;

const TWO_RULES: &str = "
version: 1
incident_key: $.id
update_on: [$.severity]
occurrence: [$.start]
rules:
  - { name: problem, when: { path: $.state, equals: BAD }, then: trigger }
  - { name: test, when: { path: $.state, equals: TEST }, then: ignore }
  - { name: never, when: { path: $.state, equals: NEVER }, then: reject }
  - { name: recovery, when: { path: $.state, equals: GOOD }, then: resolve }
";

fn events(decision: &Decision) -> Vec<String> {
    decision
        .elements
        .iter()
        .map(|element| match element {
            Element::Event(draft) => format!("{} {}", draft.action, draft.incident_key),
            Element::Ignored { .. } => "ignored".into(),
            Element::Refused { violations, .. } => format!("refused {}", violations[0].path),
        })
        .collect()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = compile(TWO_RULES);
    for (state, expected) in [
        ("BAD", "trigger problem"),
        ("GOOD", "resolve recovery"),
        ("TEST", "ignored test"),
        ("NEVER", "refused $ the rule `never` rejects this"),
    ] {
        assert_eq!(verdict(&rules, &json!({"id": "x", "state": state})), expected);
    }
}

#[test]
fn what_no_rule_matches_is_refused_with_what_the_rules_read() {
    let rules = compile(TWO_RULES);
    let decision = decide(&rules, &json!({"id": "x", "state": "ODD"}));
    let [Element::Refused { violations, .. }] = decision.elements.as_slice() else {
        panic!("{decision:?}");
    };
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].path.as_str(), violations[0].found.as_deref()), ("$.state", Some("ODD")));
}

/// A list of events shows the first reason alone.
#[test]
fn the_first_reason_is_what_would_have_decided() {
    let rules = compile(
        "
version: 1
incident_key: $.id
rules:
  - { name: test, when: { all: [{ path: $.name, equals: TEST }, { path: $.slug, equals: '' }] }, then: ignore }
  - { name: note, when: { path: $.comment, exists: true }, then: ignore }
  - { name: over, when: { all: [{ path: $.kind, equals: issue }, { path: $.issue, equals: closed }] }, then: resolve }
  - { name: problem, when: { path: $.status, equals: down }, then: trigger }
  - { name: recovery, when: { all: [{ path: $.status, equals: up }, { not: { path: $.old, equals: true } }] }, then: resolve }
",
    );
    for (payload, expected) in [
        // A word that no rule knows goes before names that only a test is known by, and before what may be missing.
        (
            json!({"name": "Backup", "slug": "backup", "status": "grace"}),
            ["$.status", "$.kind", "$.issue", "$.name", "$.slug"],
        ),
        (json!({"status": "grace"}), ["$.status", "$.kind", "$.issue", "$.name", "$.slug"]),
        (json!({"status": "grace", "old": true}), ["$.status", "$.kind", "$.issue", "$.name", "$.slug"]),
        // `issue` is a kind that a rule knows.
        (json!({"kind": "issue", "issue": "odd"}), ["$.issue", "$.status", "$.name", "$.slug", "$.comment"]),
        // A missing value that would decide.
        (json!({"name": "Backup"}), ["$.status", "$.kind", "$.issue", "$.name", "$.slug"]),
    ] {
        let decision = decide(&rules, &payload);
        let [Element::Refused { violations, .. }] = decision.elements.as_slice() else { panic!("{decision:?}") };
        assert_eq!(
            violations.iter().map(|violation| violation.path.as_str()).collect::<Vec<_>>(),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn otherwise_can_ignore() {
    let rules = with_rule("otherwise: ignore", "when: { path: $.a, equals: 1 }");
    assert_eq!(verdict(&rules, &json!({})), "ignored -");
}

#[test]
fn an_ignored_element_needs_no_key() {
    assert_eq!(verdict(&compile(TWO_RULES), &json!({"state": "TEST"})), "ignored test");
}

#[test]
fn an_event_carries_key_occurrence_update_and_body() {
    let rules = compile(TWO_RULES);
    let payload = json!({"id": 7, "state": "BAD", "severity": "high", "start": "t1"});
    let decision = decide(&rules, &payload);
    let [Element::Event(trigger)] = decision.elements.as_slice() else {
        panic!("{decision:?}");
    };
    assert_eq!((trigger.action, trigger.incident_key.as_str(), &*trigger.rule), (Action::Trigger, "7", "problem"));
    assert_eq!(trigger.occurrence.as_ref().map(|o| &*o.0), Some(r#"["t1"]"#));
    assert_eq!(trigger.body.value(), payload);
    let resolve = decide(&rules, &json!({"id": 7, "state": "GOOD", "severity": "high"}));
    let [Element::Event(resolve)] = resolve.elements.as_slice() else {
        panic!("{resolve:?}");
    };
    assert_ne!(resolve.update, trigger.update, "a resolve takes no part in the comparison");
    assert_eq!(resolve.occurrence, None);
}

#[test]
fn an_event_has_the_priority_of_its_rule() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules:
  - { name: page, when: { path: $.severity, equals: critical }, then: trigger, priority: high }
  - { name: noise, when: { path: $.severity, equals: info }, then: resolve, priority: low }
  - { name: said, when: { path: $.severity, equals: warning }, then: trigger, priority: normal }
  - { name: other, then: trigger }
",
    );
    for (severity, expected) in
        [("critical", Priority::High), ("info", Priority::Low), ("warning", Priority::Normal), ("", Priority::Normal)]
    {
        let decision = decide(&rules, &json!({"id": 1, "severity": severity}));
        let [Element::Event(draft)] = decision.elements.as_slice() else { panic!("{decision:?}") };
        assert_eq!(draft.priority, expected, "{severity}");
    }
    let mut sorted = [Priority::Low, Priority::Normal, Priority::High];
    sorted.sort_unstable();
    assert_eq!(sorted, Priority::ALL, "what goes first is first");
}

#[test]
fn a_batch_decides_each_element_by_itself_and_in_order() {
    let rules = compile(&format!("split: '$.alerts[*]'\n{}", TWO_RULES.trim_start()));
    let payload = json!({"state": "BAD", "alerts": [
        {"id": "a", "state": "BAD"}, {"state": "BAD"}, 5, {"id": "a", "state": "GOOD"}, {"id": "b", "state": "TEST"}]});
    let decision = decide(&rules, &payload);
    assert!(decision.batch);
    assert_eq!(events(&decision), ["trigger a", "refused $.id", "refused $.state", "resolve a", "ignored"]);
    let Element::Refused { element, .. } = &decision.elements[1] else {
        panic!("{decision:?}");
    };
    assert_eq!(element.as_deref(), Some(&br#"{"state":"BAD"}"#[..]), "what is refused is kept");
}

#[test]
fn the_whole_payload_is_in_reach_of_an_element() {
    let rules = compile(
        "version: 1
split: '$.alerts[*]'
incident_key: [$$.group, $.id]
rules: [{ name: all, then: trigger }]
emit: { cluster: $$.group, text: '{{ root.group }}/{{ payload.id }}' }
",
    );
    let decision = decide(&rules, &json!({"group": "g", "alerts": [{"id": 1}, {"id": 2}]}));
    assert_eq!(events(&decision), ["trigger g/1", "trigger g/2"]);
    let Element::Event(draft) = &decision.elements[1] else {
        panic!("{decision:?}");
    };
    assert_eq!(draft.body.value(), json!({"cluster": "g", "text": "g/2"}));
}

#[test]
fn a_split_that_selects_nothing_is_a_refusal() {
    let rules = compile(&format!("split: '$.alerts[*]'\n{}", TWO_RULES.trim_start()));
    for payload in [json!({"alerts": []}), json!({}), json!([])] {
        let decision = decide(&rules, &payload);
        assert_eq!((decision.batch, events(&decision)), (true, vec!["refused $.alerts[*]".to_owned()]), "{payload}");
    }
}

#[test]
fn unwrap_comes_before_everything() {
    let rules = compile(&format!("unwrap: $.Message\nsplit: $.alerts[*]\n{}", TWO_RULES.trim_start()));
    let inner = r#"{"alerts": [{"id": "a", "state": "BAD"}]}"#;
    assert_eq!(events(&decide(&rules, &json!({"Message": inner, "alerts": []}))), ["trigger a"]);
    for (payload, problem) in [
        (json!({}), "missing"),
        (json!({"Message": null}), "null"),
        (json!({"Message": {"alerts": []}}), "object"),
        (json!({"Message": "plain text"}), "no JSON"),
        (json!({"Message": ""}), "no JSON"),
        (json!({"Message": "{} {}"}), "no JSON"),
    ] {
        let decision = decide(&rules, &payload);
        let [Element::Refused { violations, element: None }] = decision.elements.as_slice() else {
            panic!("{decision:?}");
        };
        assert!(violations[0].path == "$.Message" && violations[0].problem.contains(problem), "{violations:?}");
    }
}

#[test]
fn what_unwrap_reads_is_repaired_where_the_source_is_lenient() {
    let rules = compile(&format!("unwrap: $.Message\n{}", TWO_RULES.trim_start()));
    let payload = json!({"Message": "{\"id\": \"a\", \"state\": \"BAD\", \"title\": \"a\nb\",}"});
    let refused = decide(&rules, &payload);
    let [Element::Refused { violations, .. }] = refused.elements.as_slice() else { panic!("{refused:?}") };
    assert!(violations[0].problem.ends_with("; with `json: lenient` the source would take it"), "{violations:?}");
    let taken = rules.decide(&payload, Context { json: JsonReading::Lenient, ..CONTEXT });
    assert_eq!(events(&taken), ["trigger a"]);
    assert_eq!(taken.repairs, [Repair::ControlCharacter, Repair::TrailingComma].into_iter().collect());
    for message in ["plain text", "{\"id\": \"say \"a\"\",}"] {
        let refused = rules.decide(&json!({"Message": message}), Context { json: JsonReading::Lenient, ..CONTEXT });
        assert!(matches!(refused.elements[..], [Element::Refused { element: None, .. }]), "{refused:?}");
    }
}

#[test]
fn a_placeholder_in_what_decides_is_refused_by_name() {
    let rules = compile(TWO_RULES);
    for (payload, path) in [
        (json!({"id": "a", "state": " <% event.state %>"}), "$.state"),
        (json!({"id": "{{ id }}", "state": "BAD"}), "$.id"),
        (json!({"id": "a${b}", "state": "GOOD"}), "$.id"),
    ] {
        let verdict = verdict(&rules, &payload);
        assert!(verdict.starts_with(&format!("refused {path} ")) && verdict.contains("placeholder"), "{verdict}");
    }
    assert_eq!(verdict(&rules, &json!({"id": "a", "state": "BAD", "title": "<% x %>"})), "trigger problem");
}

#[test]
fn a_text_that_quotes_a_placeholder_decides_like_any_other() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules: [{ name: problem, when: { path: $.text, contains_word: [BAD] }, then: trigger }]
",
    );
    let payload = json!({"id": "a", "text": "BAD: disk full on {{ $labels.instance }}"});
    assert_eq!(verdict(&rules, &payload), "trigger problem");
}

#[test]
fn placeholders_can_be_allowed() {
    let rules = compile(&format!("placeholders: allow\n{}", TWO_RULES.trim_start()));
    assert_eq!(events(&decide(&rules, &json!({"id": "<% x %>", "state": "BAD"}))), ["trigger <% x %>"]);
}

#[test]
fn placeholders_can_be_allowed_at_a_path() {
    let allowed = |paths: &str| compile(&format!("placeholders: {{ allow: {paths} }}\n{}", TWO_RULES.trim_start()));
    let (key, state) = (json!({"id": "<% x %>", "state": "BAD"}), json!({"id": "x", "state": "{{ x }}"}));
    let at_key = allowed("\"$['id']\"");
    assert_eq!(events(&decide(&at_key, &key)), ["trigger <% x %>"]);
    assert!(verdict(&at_key, &state).starts_with("refused $.state is an unrendered placeholder"));
    let at_state = allowed("[$.state]");
    assert!(
        verdict(&at_state, &state).starts_with("refused $.state no rule matches"),
        "{}",
        verdict(&at_state, &state)
    );
    assert!(verdict(&at_state, &key).starts_with("refused $.id the incident key holds an unrendered placeholder"));
}

#[test]
fn a_placeholder_that_only_later_rules_read_is_no_matter() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules:
  - { name: first, when: { path: $.a, equals: 1 }, then: trigger }
  - { name: second, when: { path: $.b, contains: x }, then: trigger }
",
    );
    assert_eq!(verdict(&rules, &json!({"id": "x", "a": 1, "b": "<% x %>"})), "trigger first");
    assert!(verdict(&rules, &json!({"id": "x", "a": 2, "b": "<% x %>"})).starts_with("refused $.b"));
}

#[test]
fn a_batch_has_a_limit() {
    let rules = compile(&format!("split: '$[*]'\n{}", TWO_RULES.trim_start()));
    let element = json!({"id": "a", "state": "BAD"});
    let most = rules.decide(&Value::Array(vec![element.clone(); 10_000]), CONTEXT);
    assert_eq!(most.elements.len(), 10_000);
    assert!(most.elements.iter().all(|element| matches!(element, Element::Event(_))));
    let more = rules.decide(&Value::Array(vec![element; 10_001]), CONTEXT);
    assert_eq!(events(&more), ["refused $[*]"]);
}

#[test]
fn work_is_bounded_and_what_exceeds_it_is_refused() {
    let rules = with_rule("otherwise: ignore", "when: { path: '$..[?count($..*) == 1]', exists: true }");
    let wide = json!({"id": "x", "a": vec![vec![vec![0; 20]; 20]; 20]});
    assert!(verdict(&rules, &wide).contains("more work"));
    let rules = compile(
        "version: 1
split: '$.e[*]'
incident_key: $.id
rules: [{ name: all, then: trigger }]
emit: { all: $$ }
",
    );
    let payload = json!({"pad": "x".repeat(100_000), "e": vec![json!({"id": 1}); 5_000]});
    let decision = rules.decide(&payload, CONTEXT);
    assert_eq!(decision.elements.len(), 5_000);
    let made = decision.elements.iter().filter(|element| matches!(element, Element::Event(_))).count();
    assert!((1..1_000).contains(&made), "{made} copies of the whole payload");
}

#[test]
fn a_payload_of_another_kind_is_refused_with_the_key_that_it_needs() {
    let said = |rules: &str, payload: Value| {
        let decision = decide(&compile(rules), &payload);
        let [Element::Refused { violations, .. }] = decision.elements.as_slice() else { panic!("{decision:?}") };
        format!("{} {} {:?}", violations[0].path, violations[0].problem, violations[0].found)
    };
    let with = |line: &str| format!("{line}\n{}", TWO_RULES.trim_start());
    let alert = json!({"id": "x", "state": "BAD"});
    let validated = with("validate: [{ path: $.id, required: true }]");
    for rules in [TWO_RULES, &validated] {
        assert_eq!(
            said(rules, json!([alert])),
            "$ is an array, not an object: `split: $[*]` makes each item an event None"
        );
        assert!(said(rules, json!(alert.to_string())).starts_with("$ is a string, not an object: `unwrap: $` reads"));
    }
    assert!(
        said(&with("split: $.alerts"), json!({"alerts": [alert]}))
            .starts_with("$ is an array: `split: $.alerts` selects the list itself, `split: $.alerts[*]` its items")
    );
    assert_eq!(
        said(&with("split: '$.alerts[*]'"), json!([alert])),
        "$.alerts[*] `split` selects nothing here (`$` is an array, not an object: `split: $[*]` makes each item an event) None"
    );
    for (split, payload, problem) in [
        (
            "$[*]",
            json!({"id": "x"}),
            "$ is a member, for `$` is an object and no list: `split` makes events of a list's",
        ),
        ("$[*]", json!({"alerts": [alert]}), "$ is a member, for `$` is an object and no list"),
        ("$.alerts[*]", json!({"alerts": {"id": "x"}}), "$ is a member, for `$.alerts` is an object and no list"),
        ("$[*]", json!([["x"]]), "$ is an array: `split: $[*]` selects the list itself, `split: $[*][*]` its items"),
        ("$[*]", json!({}), "$[*] `split` selects nothing here (`$` is empty)"),
        ("$[*]", json!([]), "$[*] `split` selects nothing here (`$` is empty)"),
        ("$[*]", json!(7), "$[*] `split` selects nothing here (`$` has to be a list, not number)"),
        ("$[*]", json!("[]"), "$[*] `split` selects nothing here (`$` is a string, not an object: `unwrap: $` reads"),
        ("$.alerts[*]", json!({"alerts": []}), "$.alerts[*] `split` selects nothing here (`$.alerts` is empty)"),
        ("$.alerts[*]", alert.clone(), "$.alerts[*] `split` selects nothing here (there is no `$.alerts`)"),
        (
            "$.alerts[*]",
            json!({"alert": [alert]}),
            "$.alerts[*] `split` selects nothing here (did you mean `$.alert`?)",
        ),
    ] {
        let found = said(&with(&format!("split: '{split}'")), payload);
        assert!(found.starts_with(problem), "{found}");
    }
    // Members that are alerts are alerts.
    assert_eq!(
        events(&decide(&compile(&with("split: '$[*]'")), &json!({"a": alert, "b": {"id": "y", "state": "GOOD"}}))),
        ["trigger x", "resolve y"]
    );
    assert!(said(&with("unwrap: $.Mesage"), json!({"Message": "{}"})).contains("(did you mean `$.Message`?)"));
    // What is right as it is says nothing of its kind.
    let first = "{ version: 1, incident_key: '$[0].id', rules: [{ name: a, when: { path: '$[0].state', equals: BAD }, then: trigger }] }";
    assert!(said(first, json!([{"id": "x", "state": "ODD"}])).starts_with("$[0].state no rule matches this"));
    assert!(said(TWO_RULES, json!(7)).starts_with("$.state no rule matches"));
}

#[test]
fn a_refused_placeholder_names_the_key_that_allows_it() {
    let quoted = TWO_RULES.replace("incident_key: $.id", "incident_key: \"$['id']\"");
    assert_ne!(quoted, TWO_RULES);
    for (rules, payload, parts) in [
        (
            TWO_RULES,
            json!({"id": "x", "state": "{{ state }}"}),
            ["{{ state }}", "`placeholders: { allow: [$.state] }`"],
        ),
        (TWO_RULES, json!({"id": "x ${id}", "state": "BAD"}), ["${id}", "`placeholders: { allow: [$.id] }`"]),
        (
            quoted.as_str(),
            json!({"id": "${id}", "state": "BAD"}),
            ["${id}", "`placeholders: { allow: ['$[''id'']'] }`"],
        ),
    ] {
        let decision = decide(&compile(rules), &payload);
        let [Element::Refused { violations, .. }] = decision.elements.as_slice() else { panic!("{decision:?}") };
        assert!(parts.iter().all(|part| violations[0].problem.contains(part)), "{violations:?}");
        let key = violations[0].problem.split('`').nth(1).unwrap();
        let allowed = compile(&format!("{key}\n{}", rules.trim_start()));
        assert!(!verdict(&allowed, &payload).contains("placeholder"), "what the answer names takes it");
    }
}
