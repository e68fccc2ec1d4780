//! Sources of `kind: confirmation`.

use super::*;
use crate::callgoose::confirmation::{IncidentAction, Told};

/// [`BASE`] with a second source, which has these lines beside its `kind` and `auth`.
fn with(lines: &[&str]) -> Desk {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let source = format!("  c:\n    kind: confirmation\n    auth: [{{ bearer: {{ env: IN }} }}]\n{lines}upstream:");
    Desk::new(&BASE.replacen("upstream:", &source, 1))
}

#[test]
fn it_needs_no_rules_and_is_none_of_the_sources_that_take_alerts() {
    let config = with(&[]).load().config;
    let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    assert_eq!(names, ["s"]);
    let [source] = config.confirmations.as_slice() else { panic!("{:?}", config.confirmations) };
    assert_eq!((&*source.name, source.rate_limit.per_second.get(), &source.shape.source), ("c", 50, &None));

    let shape = r"confirmation: { incident_key: { path: $.a, capture: '#(\S+)' }, source: s, action: { path: $.b, opened: 1, closed: [2, x] } }";
    let lines = ["allow_from: [10.0.0.0/8]", "rate_limit: { per_second: 5, burst: 10 }", shape];
    let mut config = with(&lines).load().config;
    let source = config.confirmations.remove(0);
    assert_eq!((source.rate_limit.burst.get(), source.shape.source.as_deref()), (10, Some("s")));
    let told = source.shape.read(&serde_json::json!({"a": "CPU #e1", "b": "X"}));
    assert_eq!(told, Told { incident_key: Some("e1".into()), action: Some(IncidentAction::Closed) });
}

#[test]
fn keys_that_make_no_sense_with_it_are_refused() {
    for line in [
        "rules: rules.yaml",
        "rules_shadow: rules.yaml",
        "from: Callgoose",
        "max_queued: 30%",
        "respond: delivered",
        "respond_timeout: 5s",
        "handshake: { path: $.challenge }",
    ] {
        let found = listed(&with(&[line]).findings());
        let [found] = found.as_slice() else { panic!("{line}: {found:?}") };
        let key = format!("sources.c.{}: ", line.split(':').next().unwrap());
        assert!(
            found.contains(&key) && found.contains("has no meaning for a source of `kind: confirmation`"),
            "{found}"
        );
    }
    for (line, expected) in [
        ("confirmation: { incident_key: a }", "sources.c.confirmation.incident_key: "),
        ("confirmation: { action: { path: $.a, opened: x } }", "action.closed: `closed` is required here and missing"),
        (
            "confirmation: { action: { path: $.a, opened: [], closed: x } }",
            "action.opened: expected a word or a list of",
        ),
        ("confirmation: { action: { path: $.a, opened: x, closed: [y, X] } }", "action: a word stands for both"),
        ("confirmation: { source: c }", "confirmation.source: expected the name of a source that takes alerts, found "),
        ("confirmation: { keys: $.a }", "confirmation.keys: unknown key `keys`"),
        ("knd: x", "sources.c.knd: unknown key `knd` (did you mean `kind`?)"),
    ] {
        let found = listed(&with(&[line]).findings());
        assert!(found.len() == 1 && found[0].contains(expected), "{line}: {found:?}");
    }
    let found = found("    rules: rules.yaml\n", "    rules: rules.yaml\n    confirmation: { source: s }\n");
    assert!(found.len() == 1 && found[0].contains("this source takes alerts"), "{found:?}");
    let only = listed(&Desk::new(&BASE.replacen("    rules: rules.yaml\n", "    kind: confirmation\n", 1)).findings());
    assert!(only.len() == 1 && only[0].contains("every source is of `kind: confirmation`"), "{only:?}");
}
