//! With the index or without it: the same decisions.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::rules::index::Index;

/// Values of every kind that `equals` tells apart or not, for few paths.
fn keyed_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!(null)),
        1 => Just(json!(true)),
        1 => (0_i64..4).prop_map(Value::from),
        1 => Just(json!(1.0)),
        1 => Just(json!(-0.0)),
        1 => Just(json!(0.5)),
        1 => Just(json!(1e300)),
        1 => Just(json!(u64::MAX)),
        1 => Just(json!(18_446_744_073_709_551_616.0)),
        20 => prop::sample::select(vec!["ok", "OK", "o\u{212A}", "a", "b", "B", "c", "1", "null", "<% a %>"])
            .prop_map(Value::from),
        1 => Just(json!([1])),
        1 => Just(json!({"b": 1})),
    ]
}

/// Elements for [`keyed_rules`]: `a` and `b` at the top, and in `list`.
fn keyed_documents() -> impl Strategy<Value = Value> {
    let member = prop::option::weighted(0.9, keyed_values()).boxed();
    (member.clone(), member.clone(), member).prop_map(|(a, b, item)| {
        let mut document = json!({"id": "x", "list": item.into_iter().collect::<Vec<_>>()});
        for (name, value) in [("a", a), ("b", b)] {
            document.as_object_mut().unwrap().extend(value.map(|value| (name.to_owned(), value)));
        }
        document
    })
}

/// Rule files of many rules, most of which compare for equality.
fn keyed_rules() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        4 => Just("$.a"),
        2 => Just("$.b"),
        1 => Just("$$.a"),
        1 => Just("$.list[0]"),
        1 => Just("$.list[*]"),
        1 => Just("$['a']"),
    ];
    let compared =
        (path, keyed_values(), keyed_values(), 0..5, any::<bool>()).prop_map(|(path, one, other, how, any)| {
            let folds =
                if any && (one.is_string() || how == 1 && other.is_string()) { ", ignore_case: true" } else { "" };
            match how {
                0 => format!("{{ path: \"{path}\", equals: {one}{folds} }}"),
                1 => format!("{{ path: \"{path}\", one_of: [{one}, {other}]{folds} }}"),
                2 => format!("{{ path: \"{path}\", every: true, equals: {one}, type: [string, number] }}"),
                3 => format!("{{ path: \"{path}\", equals: {one}, one_of: [{one}, {other}] }}"),
                _ => format!("{{ path: \"{path}\", exists: false }}"),
            }
        });
    let when = compared.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| format!("{{ all: [{}] }}", all.join(", "))),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|any| format!("{{ any: [{}] }}", any.join(", "))),
            inner.prop_map(|inner| format!("{{ not: {inner} }}")),
        ]
    });
    let then = prop_oneof![Just("trigger"), Just("resolve"), Just("ignore"), Just("reject")];
    let placeholders = prop::sample::select(vec!["allow", "refuse", "{ allow: [$.id] }"]);
    (prop::collection::vec((when, then), 1..40), placeholders, any::<bool>()).prop_map(
        |(rules, placeholders, split)| {
            let rules: String = rules
                .iter()
                .enumerate()
                .map(|(index, (when, then))| format!("  - {{ name: r{index}, when: {when}, then: {then} }}\n"))
                .collect();
            let split = if split { "split: $\n" } else { "" };
            format!("version: 1\n{split}incident_key: $.id\nplaceholders: {placeholders}\nrules:\n{rules}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_index_changes_no_decision(
        documents in prop::collection::vec(keyed_documents(), 1..5),
        yaml in keyed_rules(),
    ) {
        let (rules, findings) = try_compile(&yaml);
        prop_assert!(rules.is_some(), "{}\n{}", yaml, findings.render(false));
        let indexed = rules.unwrap();
        let plain = RuleSet { index: Index::plain(indexed.rules.len()), ..try_compile(&yaml).0.unwrap() };
        for document in &documents {
            let found = decide(&indexed, document);
            prop_assert_eq!(&found, &plain.decide(document, CONTEXT), "{}\n{}", yaml, document);
        }
    }
}
