//! Rules that can never match: those are told, and no other.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::super::budget::Budget;
use super::super::path::Scope;
use super::*;
use crate::yaml::Place;

/// The warnings for two rules, of which the first has the condition `earlier`: the text that is marked, and the message.
fn warnings(earlier: &str, later: &str) -> Vec<(String, String)> {
    let yaml = format!(
        "version: 1\nincident_key: $.id\nrules:\n  - {{ name: first, when: {earlier}, then: trigger }}\n  - {{ name: second, when: {later}, then: resolve }}\n"
    );
    let (rules, findings) = try_compile(&yaml);
    assert!(rules.is_some(), "{}", findings.render(false));
    let told = findings.iter().map(|finding| {
        let Place::Text { source, span } = &finding.place else { unreachable!() };
        (source.text[span.clone()].to_owned(), finding.message.clone())
    });
    told.collect()
}

#[test]
fn a_rule_that_an_earlier_one_always_forestalls_is_told_at_its_condition() {
    for (earlier, later) in [
        ("{ path: $.a, equals: x }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, one_of: [x, y] }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, equals: x }", "{ path: \"$['a']\", equals: x }"),
        ("{ path: '$.a[0]', equals: x }", "{ path: \"$ ['a'] [0]\", equals: x }"),
        ("{ path: $.a, one_of: [x, y, 1] }", "{ path: $.a, one_of: [y, 1.0] }"),
        ("{ path: $.a, equals: X, ignore_case: true }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, exists: true }", "{ path: $.a, gt: 5 }"),
        ("{ path: $.a, exists: true }", "{ all: [{ path: $.b, equals: 1 }, { path: $.a, equals: null }] }"),
        ("{ path: $.a, type: [string, number] }", "{ path: $.a, type: string }"),
        ("{ path: $.a, contains_word: [CRITICAL, alarm], ignore_case: true }", "{ path: $.a, contains_word: alarm }"),
        ("{ path: $.a, starts_with: [ab, ac] }", "{ path: $.a, starts_with: ab }"),
        ("{ path: $.a, contains_all: [b, c] }", "{ path: $.a, contains_all: [c, b, a] }"),
        ("{ path: $.a, matches: ['^a', b] }", "{ path: $.a, matches: b }"),
        ("{ path: $.a, gte: 5 }", "{ path: $.a, gte: 5.0, lt: 9 }"),
        ("{ path: $.a, contains: CRIT }", "{ path: $.a, equals: CRITICAL }"),
        ("{ path: $.a, starts_with: crit, ignore_case: true }", "{ path: $.a, one_of: [CRITICAL, Crit] }"),
        ("{ path: $.a, ends_with: AL, ignore_case: true }", "{ path: $.a, equals: critical, ignore_case: true }"),
        ("{ path: $.a, matches: '^C' }", "{ path: $.a, equals: CRITICAL }"),
        ("{ path: $.a, gt: 3 }", "{ path: $.a, gt: 5 }"),
        ("{ path: $.a, gte: 5 }", "{ path: $.a, gt: 5 }"),
        ("{ path: $.a, lt: 9 }", "{ path: $.a, lte: 8 }"),
        ("{ path: '$.a[*]', contains: x }", "{ path: '$.a[*]', contains: x, every: true }"),
        ("{ path: $.a, contains: x, every: true }", "{ path: $.a, contains: x }"),
        ("{ path: $.a, exists: false }", "{ all: [{ path: $.a, exists: false }, { path: $.b, equals: 1 }] }"),
        ("{ any: [{ path: $.b, equals: 1 }, { path: $.a, equals: x }] }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, one_of: [x, y] }", "{ any: [{ path: $.a, equals: x }, { path: $.a, equals: y }] }"),
        ("{ not: { path: $.a, equals: x } }", "{ not: { path: $.a, one_of: [x, y] } }"),
    ] {
        let told = warnings(earlier, later);
        assert_eq!(told.len(), 1, "{earlier} before {later}: {told:?}");
        assert_eq!(told[0].0, later, "the condition is marked");
        assert_eq!(told[0].1, "this rule is never reached: whatever it matches, `first` in line 4 matches first");
    }
}

#[test]
fn a_rule_that_some_payload_reaches_is_not_told() {
    for (earlier, later) in [
        ("{ path: $.a, equals: x }", "{ path: $.b, equals: x }"),
        ("{ path: $.a, equals: x }", "{ path: $$.a, equals: x }"),
        ("{ path: $.a, equals: x }", "{ path: $.a, equals: x, ignore_case: true }"),
        ("{ path: $.a, equals: x }", "{ path: $.a, one_of: [x, y] }"),
        ("{ path: $.a, contains: x }", "{ path: $.a, contains: x, ignore_case: true }"),
        ("{ path: $.a, matches: '[^a]', ignore_case: true }", "{ path: $.a, matches: '[^a]' }"),
        ("{ path: $.a, equals: x }", "{ path: $.a, exists: true }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, contains: OK }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, equals: BROKEN }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, starts_with: OK }"),
        ("{ path: $.a, matches: '(?-i)a', ignore_case: true }", "{ path: $.a, equals: A, ignore_case: true }"),
        // 1 is 1.0, and has another text.
        ("{ path: $.a, contains: '1.0' }", "{ path: $.a, equals: 1.0 }"),
        ("{ path: $.a, type: string }", "{ path: $.a, contains: '1' }"),
        ("{ path: $.a, contains: x }", "{ path: $.a, one_of: [x, y] }"),
        ("{ path: $.a, contains: x }", "{ path: $.a, equals: x, ignore_case: true }"),
        ("{ path: $.a, gt: 5 }", "{ path: $.a, gte: 5 }"),
        ("{ path: $.a, gt: 5 }", "{ path: $.a, gt: 3 }"),
        ("{ path: $.a, lt: 9 }", "{ path: $.a, gt: 9 }"),
        ("{ path: '$.a[*]', contains: x, every: true }", "{ path: '$.a[*]', contains: x }"),
        (
            "{ path: '$.a[*]', contains: x, type: string }",
            "{ all: [{ path: '$.a[*]', type: string }, { path: '$.a[*]', contains: x }] }",
        ),
        ("{ not: { path: '$.a[*]', equals: y } }", "{ path: '$.a[*]', equals: x }"),
        ("{ not: { path: $.a, one_of: [x, y] } }", "{ not: { path: $.a, equals: x } }"),
        ("{ all: [{ path: $.a, equals: x }, { path: $.b, equals: 1 }] }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, contains_all: [a, b] }", "{ path: $.a, contains_all: [a, c] }"),
        ("{ path: $.a, contains_all: [a, b] }", "{ path: $.a, contains: [a, b] }"),
    ] {
        assert_eq!(warnings(earlier, later), [], "{earlier} before {later}");
    }
}

#[test]
fn a_rule_behind_one_without_a_condition_is_told_at_its_name() {
    let yaml = "version: 1\nincident_key: $.id\nrules:
  - { name: first, then: trigger }
  - { name: second, when: { path: $.a, equals: x }, then: resolve }
  - { name: third, then: ignore }\n";
    let (_, findings) = try_compile(yaml);
    let told: Vec<_> = findings.iter().map(|one| (one.place.line_column(), one.message.as_str())).collect();
    let always = "this rule is never reached: `first` in line 4 matches always";
    assert_eq!(told, [(Some((5, 13)), always), (Some((6, 13)), always)]);
}

#[test]
fn what_excludes_itself_is_told_at_its_place() {
    let path = "path: $.a";
    for (one, other) in [
        ("equals: 1", "equals: 2"),
        ("equals: x", "one_of: [y, z]"),
        ("equals: X, ignore_case: true", "equals: y"),
        ("gt: 5", "lt: 3"),
        ("gt: 5", "lte: 5"),
        ("gte: 5", "lt: 5"),
        ("lte: 4.5", "gte: 5"),
        ("type: string", "type: number"),
        ("exists: false", "equals: x"),
    ] {
        let second = format!("{{ {path}, {other} }}");
        let told = warnings("{ path: $.b, equals: 1 }", &format!("{{ all: [{{ {path}, {one} }}, {second}] }}"));
        assert_eq!(told.len(), 1, "{one} and {other}: {told:?}");
        assert_eq!(told[0].0, second);
        assert!(told[0].1.contains("never matches"), "{told:?}");
    }
    for (one, other) in [
        ("equals: 1", "equals: 1.0"),
        ("equals: 1", "contains: '1.0'"),
        ("equals: X, ignore_case: true", "one_of: [y, x]"),
        ("equals: X, ignore_case: true", "equals: x"),
        ("gte: 5", "lte: 5"),
        ("gt: 5", "type: string"),
        ("type: integer", "type: number"),
        ("contains: x", "starts_with: y"),
    ] {
        let both = format!("{{ all: [{{ {path}, {one} }}, {{ {path}, {other} }}] }}");
        assert_eq!(warnings("{ path: $.b, equals: 1 }", &both), [], "{one} and {other}");
    }
    let within = "{ path: '$.a[*]', gt: 5, lt: 3 }";
    for (when, marked) in [(within.to_owned(), within), (format!("{{ all: [{within}] }}"), within)] {
        let told = warnings("{ path: $.b, equals: 1 }", &when);
        assert_eq!(
            told,
            [(marked.to_owned(), "this rule never matches: no value fulfils all that is asked here".into())]
        );
    }
    let opposite = "{ not: { path: $.a, one_of: [x, y] } }";
    let told = warnings("{ path: $.b, equals: 1 }", &format!("{{ all: [{{ path: $.a, equals: x }}, {opposite}] }}"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, opposite);
    let several = "{ all: [{ path: '$.a[*]', gt: 5 }, { path: '$.a[*]', lt: 3 }] }";
    assert_eq!(warnings("{ path: $.b, equals: 1 }", several), []);
}

#[test]
fn of_two_that_exclude_each_other_the_first_is_named_by_its_line() {
    let yaml = "version: 1\nincident_key: $.id\nrules:
  - name: a
    when:
      all:
        - { path: $.s, gt: 5 }
        - { path: $.t, equals: x }
        - { path: $.s, lt: 3 }
    then: trigger\n";
    let (_, findings) = try_compile(yaml);
    let told: Vec<_> = findings.iter().map(|one| (one.place.line_column(), one.help.as_deref())).collect();
    let help = "of `all`, number 1 in line 7 and number 3 exclude each other";
    assert_eq!(told, [(Some((9, 11)), Some(help))]);
}

#[test]
fn a_thousand_rules_are_compared_at_once_and_any_number_ends() {
    for count in [1_000, 5_000] {
        let rules: String = (0..count)
            .map(|index| format!("  - {{ name: r{index}, when: {{ any: [{{ path: $.a, contains: x{index} }}, {{ path: $.b, equals: {index} }}] }}, then: trigger }}\n"))
            .collect();
        let (rules, findings) = try_compile(&format!("version: 1\nincident_key: $.id\nrules:\n{rules}"));
        assert!(rules.is_some() && findings.iter().all(|finding| finding.message.contains("matches first")));
    }
}

#[test]
fn a_condition_with_a_mistake_is_told_for_that_alone() {
    for broken in ["{ path: $.a, matches: '' }", "{ path: $.a, one_of: [] }"] {
        let yaml = format!(
            "version: 1\nincident_key: $.id\nrules:\n  - {{ name: a, when: {broken}, then: trigger }}\n  - {{ name: b, when: {{ path: $.a, equals: x }}, then: trigger }}\n"
        );
        let (_, findings) = try_compile(&yaml);
        assert_eq!(findings.iter().count(), 1, "{}", findings.render(false));
    }
}

fn conditions() -> impl Strategy<Value = String> {
    let path = prop_oneof![4 => Just("$.a"), 2 => Just("$.b"), 2 => Just("'$.a[*]'")];
    let word = prop_oneof![Just("A"), Just("a"), Just("AB"), Just("A B"), Just("k"), Just("'1'")];
    let words = prop::collection::vec(word, 1..3).prop_map(|words| format!("[{}]", words.join(", ")));
    let value = prop_oneof![
        Just("A"),
        Just("a"),
        Just("A B"),
        Just("K"),
        Just("1"),
        Just("1.0"),
        Just("2"),
        Just("'1'"),
        Just("null"),
        Just("true")
    ];
    let values = prop::collection::vec(value, 1..4).prop_map(|values| format!("[{}]", values.join(", ")));
    let case = prop_oneof![Just(""), Just(", ignore_case: true")];
    let text = prop_oneof![
        Just("contains"),
        Just("contains_all"),
        Just("contains_word"),
        Just("starts_with"),
        Just("ends_with"),
        Just("matches")
    ];
    let number =
        (prop_oneof![Just("gt"), Just("gte"), Just("lt"), Just("lte")], prop_oneof![Just("0"), Just("1"), Just("1.5")]);
    let operator = prop_oneof![
        3 => (text, words, case.clone()).prop_map(|(ask, words, case)| format!("{ask}: {words}{case}")),
        3 => (values, case).prop_map(|(values, case)| {
            // `ignore_case` is an error where no string is compared.
            let case = if values.contains(['A', 'a', 'K', '\'']) { case } else { "" };
            format!("one_of: {values}{case}")
        }),
        2 => number.prop_map(|(operator, than)| format!("{operator}: {than}")),
        1 => Just("exists: true".to_owned()),
        1 => Just("exists: false".to_owned()),
        1 => Just("type: string".to_owned()),
        1 => Just("type: [integer, string]".to_owned()),
        1 => Just("type: [number, string]".to_owned()),
        1 => Just("type: string, contains: A".to_owned()),
        1 => Just("type: boolean".to_owned()),
        1 => Just("gt: 0, lt: 1.5".to_owned()),
        1 => Just("gte: 1.5, lte: 1".to_owned()),
        1 => Just("contains: A, every: true".to_owned()),
    ];
    let test = (path, operator).prop_map(|(path, operator)| format!("{{ path: {path}, {operator} }}"));
    test.prop_recursive(3, 8, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.join(", "));
        prop_oneof![
            parts.clone().prop_map(|parts| format!("{{ all: [{parts}] }}")),
            parts.prop_map(|parts| format!("{{ any: [{parts}] }}")),
            inner.prop_map(|inner| format!("{{ not: {inner} }}")),
        ]
    })
}

/// Every payload of two members with values that tell the conditions apart.
fn payloads() -> Vec<Value> {
    let values = [
        json!("A"),
        json!("a"),
        json!("AB"),
        json!("aB"),
        json!("A B"),
        json!("BA"),
        json!("K"),
        json!("\u{212A}"),
        json!("1"),
        json!("1.0"),
        json!(0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(2),
        json!(-1),
        json!(null),
        json!(true),
        json!({"x": "A"}),
        json!([]),
        json!(["A"]),
        json!(["A", "x"]),
        json!(["a", 1]),
        json!([1, 2]),
        json!([1.0, "A B"]),
        json!([null]),
    ];
    let mut payloads: Vec<Value> = values.iter().map(|a| json!({ "a": a })).collect();
    payloads.extend(
        values.iter().flat_map(|a| {
            [json!("A"), json!("b"), json!(1), json!(null), json!(1.0)].map(|b| json!({ "a": a, "b": b }))
        }),
    );
    payloads.extend([json!({}), json!({"b": "A"}), json!({"b": 1})]);
    payloads
}

#[test]
fn whenever_a_rule_is_told_unreachable_no_payload_reaches_it() {
    let payloads = payloads();
    let told = Cell::new(0);
    let holds = |when: &condition::Condition, payload: &Value| {
        let budget = Budget::new(1_000_000);
        when.holds(Scope { element: payload, root: payload, budget: &budget }, None)
    };
    let cases = 2_000;
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let weaker = prop_oneof![
        3 => (conditions(), conditions()),
        1 => (conditions(), conditions()).prop_map(|(one, other)| (format!("{{ any: [{other}, {one}] }}"), one)),
        1 => (conditions(), conditions()).prop_map(|(one, other)| (one.clone(), format!("{{ all: [{other}, {one}] }}"))),
        1 => (conditions(), any::<bool>()).prop_map(|(one, first)| {
            let exact = one.replace("ignore_case: true", "ignore_case: false");
            if first { (exact, one) } else { (one, exact) }
        }),
    ];
    let ran = runner.run(&weaker, |(earlier, later)| {
        let rules = format!(
            "version: 1\nincident_key: $.id\nrules:\n  - {{ name: a, when: {earlier}, then: trigger }}\n  - {{ name: b, when: {later}, then: trigger }}\n"
        );
        let (rules, findings) = try_compile(&rules);
        let rules = rules.unwrap_or_else(|| panic!("{}", findings.render(false)));
        let (earlier_when, later_when) = (rules.rules[0].when.as_ref().unwrap(), rules.rules[1].when.as_ref().unwrap());
        let covered = findings.iter().any(|finding| finding.message.contains("never reached"));
        let never = |rule: &str| {
            findings.iter().any(|finding| finding.path == rule && finding.message.contains("never matches"))
        };
        let (first_never, second_never) = (never("rules[0]"), never("rules[1]"));
        told.set(told.get() + u32::from(covered || first_never || second_never));
        for payload in &payloads {
            let (first, second) = (holds(earlier_when, payload), holds(later_when, payload));
            prop_assert!(!(covered && second && !first), "{payload} passes by {earlier} and reaches {later}");
            prop_assert!(!(first_never && first), "{payload} fulfils {earlier}");
            prop_assert!(!(second_never && second), "{payload} fulfils {later}");
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    assert!(told.get() > cases / 20, "only {} of {cases} cases were told", told.get());
}
