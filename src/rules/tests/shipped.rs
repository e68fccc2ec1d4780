//! The rules that are shipped: the guide's filters.

use serde_json::json;

use super::*;

fn shipped() -> RuleSet {
    compile(include_str!("../../../config/rules/servicepilot.yaml"))
}

#[test]
fn states_are_read_as_the_guide_means_them() {
    let rules = shipped();
    for (state, expected) in [
        ("CRITICAL", "trigger problem"),
        ("ALARM", "trigger problem"),
        ("PROBLEM", "trigger problem"),
        ("critical", "trigger problem"),
        ("[Alarm] CPU", "trigger problem"),
        ("CRITICAL: no answer", "trigger problem"),
        ("OK", "resolve recovery"),
        ("Resolved", "resolve recovery"),
        ("recovery.", "resolve recovery"),
        ("state: ok (after 5 min)", "resolve recovery"),
        // A state with words of both kinds is a problem: nobody loses an alert.
        ("OK -> CRITICAL", "trigger problem"),
        ("RECOVERY from PROBLEM", "trigger problem"),
        ("OK (was CRITICAL)", "trigger problem"),
        ("NO PROBLEM", "trigger problem"),
        // Neither: refused, and kept.
        ("NOT OK", "refused"),
        ("non ok", "refused"),
        ("BROKEN", "refused"),
        ("TOKEN EXPIRED", "refused"),
        ("UNRESOLVED", "refused"),
        ("CRITICALITY", "refused"),
        ("UNKNOWN", "refused"),
        ("", "refused"),
        ("<% event.state %>", "refused"),
    ] {
        let verdict = verdict(&rules, &json!({"servicepilot_event_id": "e1", "state": state}));
        assert!(verdict.starts_with(expected), "{state}: {verdict}");
    }
}

#[test]
fn an_identity_that_identifies_nothing_is_refused() {
    let rules = shipped();
    for id in [json!("<% event.id %>"), json!(""), json!("  "), json!(null), json!({}), json!("x".repeat(201))] {
        let verdict = verdict(&rules, &json!({"servicepilot_event_id": id, "state": "OK"}));
        assert!(verdict.starts_with("refused $.servicepilot_event_id"), "{id}: {verdict}");
    }
}

#[test]
fn what_filters_read_is_a_string_at_the_top_level() {
    let payload =
        json!({"servicepilot_event_id": 5, "state": "ALARM", "severity": 3, "host": 10, "tags": {"policy_id": 77}});
    let decision = decide(&shipped(), &payload);
    let [Element::Event(draft)] = decision.elements.as_slice() else {
        panic!("{decision:?}");
    };
    for (name, expected) in [
        ("servicepilot_event_id", "5"),
        ("source", "servicepilot"),
        ("state", "CRITICAL"),
        ("severity", "3"),
        ("title", "10"),
        ("host", "10"),
        ("policy_id", "77"),
    ] {
        assert_eq!(draft.body.value()[name], json!(expected), "{name}");
    }
}
