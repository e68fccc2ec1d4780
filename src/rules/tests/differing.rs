//! Two rule sets that decide one payload differently.

use serde_json::{Value, json};

use super::super::diff::{DIFFERENCES_MAX, Difference, differences};
use super::{CONTEXT, compile};

const RULES: &str = "
version: 1
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
  - { name: noise, when: { path: $.state, equals: INFO }, then: ignore }
incident_key: [$.id]
occurrence: [$.start]
emit: { id: $.id, state: $.state, more: { level: $.level } }
";

/// A claim, what is replaced in [`RULES`], a payload, and the lines in which the two then differ.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a Value, &'a [&'a str]);

/// A difference as a line.
fn line(one: &Difference) -> String {
    let path = one.path.as_deref().map(|path| format!(" {path}")).unwrap_or_default();
    let [is, would_be] = [&one.is, &one.would_be].map(|value| value.as_deref().unwrap_or("missing"));
    format!("{}{path}: {is}, would be {would_be}", one.what.as_str())
}

/// The lines in which the rules after `changes` differ from [`RULES`].
fn differing(changes: &[(&str, &str)], payload: &Value) -> Vec<String> {
    let mut changed = RULES.to_owned();
    for (from, to) in changes {
        assert!(changed.contains(from), "{from}");
        changed = changed.replace(from, to);
    }
    let [is, would_be] = [RULES, &changed].map(|rules| compile(rules).decide(payload, CONTEXT));
    differences(&is, &would_be).iter().map(line).collect()
}

#[test]
fn what_others_see_of_a_decision_is_compared() {
    let critical = json!({ "id": "e1", "state": "CRITICAL", "level": 3, "start": 1 });
    let info = json!({ "id": "e1", "state": "INFO" });
    let odd = json!({ "id": "e1", "state": "odd" });
    let no_rule = "refused, $.state: no rule matches this";
    let rows: [Row<'_>; 14] = [
        ("the same rules", &[], &critical, &[]),
        ("another rule's name", &[("problem", "alarm")], &critical, &[]),
        ("another order of members", &[("id: $.id, state: $.state", "state: $.state, id: $.id")], &critical, &[]),
        ("other violations", &[("equals: OK", "equals: FINE")], &odd, &[]),
        ("what updates", &[("emit:", "update_on: [$.level]\nemit:")], &critical, &[]),
        ("the action", &[("then: trigger", "then: resolve")], &critical, &["verdict: trigger, would be resolve"]),
        (
            "no event any more",
            &[("then: trigger", "then: ignore")],
            &critical,
            &["verdict: trigger, would be ignored by the rule `problem`"],
        ),
        (
            "an event where there was none",
            &[("then: ignore", "then: trigger")],
            &info,
            &["verdict: ignored by the rule `noise`, would be trigger"],
        ),
        (
            "refused instead of ignored",
            &[("equals: INFO", "equals: NOTE")],
            &info,
            &[&format!("verdict: ignored by the rule `noise`, would be {no_rule}")],
        ),
        (
            "ignored instead of refused",
            &[("incident_key", "otherwise: ignore\nincident_key")],
            &odd,
            &[&format!("verdict: {no_rule}, would be ignored, no rule matches")],
        ),
        ("the key", &[("[$.id]", "[$.id, $.level]")], &critical, &[r#"incident_key: "e1", would be "e1/3""#]),
        ("the occurrence", &[("occurrence: [$.start]", "")], &critical, &[r#"occurrence: "[1]", would be missing"#]),
        (
            "members of the body",
            &[("state: $.state, more", "urgent: true, 'a b': 1, more"), ("level: $.level", "level: high")],
            &critical,
            &[
                r#"body $.state: "CRITICAL", would be missing"#,
                r#"body $.more.level: 3, would be "high""#,
                "body $.urgent: missing, would be true",
                r#"body $["a b"]: missing, would be 1"#,
            ],
        ),
        (
            "a batch",
            &[("rules:", "split: $.none[*]\nrules:")],
            &critical,
            &["verdict: trigger, would be refused, $.none[*]: `split` selects nothing here (there is no `$.none`)"],
        ),
    ];
    for (claim, changes, payload, expected) in rows {
        assert_eq!(differing(changes, payload), expected, "{claim}");
    }
}

#[test]
fn elements_are_compared_where_there_are_as_many() {
    let batch = RULES.replace("rules:", "split: $.alerts[*]\nrules:");
    let payload = json!({ "alerts": [{ "id": "a", "state": "INFO" }, { "id": "b", "state": "CRITICAL" }], "old": [1] });
    let with = |from, to| compile(&batch.replace(from, to)).decide(&payload, CONTEXT);
    let is = with("", "");
    let found = differences(&is, &with("then: trigger", "then: resolve"));
    assert_eq!(found.iter().map(|found| found.index).collect::<Vec<_>>(), [1]);
    let found = differences(&is, &with("$.alerts[*]", "$.old[*]"));
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), ["elements: 2, would be 1"]);
}

#[test]
fn what_is_told_of_a_payload_is_bounded() {
    let many: Value = (0..1_000).map(|number| (format!("k{number}"), json!("x".repeat(10_000)))).collect();
    let payload = json!({ "id": "e1", "state": "CRITICAL", "many": many });
    let found = differing(&[("more: { level: $.level }", "$merge: $.many")], &payload);
    assert_eq!(found.len(), DIFFERENCES_MAX);
    assert!(found.iter().all(|line| line.len() < 1_000));
}
