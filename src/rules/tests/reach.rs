//! Rules that can never match: those are told, and no other.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::super::budget::Budget;
use super::super::implies::Prover;
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
        ("{ path: $.a, type: [string, number] }", "{ path: $.a, contains: x }"),
        ("{ path: $.a, type: number }", "{ path: $.a, type: integer }"),
        ("{ path: $.a, contains_word: [CRITICAL, ALARM], ignore_case: true }", "{ path: $.a, contains_word: alarm }"),
        ("{ path: $.a, contains: x }", "{ path: $.a, starts_with: [xy, ax] }"),
        ("{ path: $.a, contains: down }", "{ path: $.a, contains_word: [is down, down] }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, contains_word: [is OK now] }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, equals: all OK }"),
        ("{ path: $.a, starts_with: a }", "{ path: $.a, starts_with: [ab, ac] }"),
        ("{ path: $.a, ends_with: c }", "{ path: $.a, ends_with: bc }"),
        ("{ path: $.a, contains_all: [b, c] }", "{ path: $.a, contains_all: [ab, cd] }"),
        ("{ path: $.a, contains: [b, c] }", "{ path: $.a, contains_all: [x, ab] }"),
        ("{ path: $.a, matches: ['^a', b] }", "{ path: $.a, matches: b }"),
        ("{ path: $.a, gte: 5 }", "{ path: $.a, gt: 5 }"),
        ("{ path: $.a, lt: 6.5 }", "{ path: $.a, lte: 6 }"),
        ("{ path: $.a, gt: 4 }", "{ path: $.a, equals: 5 }"),
        ("{ path: '$.a[*]', contains: x }", "{ path: '$.a[*]', contains: x, every: true }"),
        ("{ path: $.a, contains: x, every: true }", "{ path: $.a, contains: x }"),
        ("{ path: $.a, exists: false }", "{ all: [{ path: $.a, exists: false }, { path: $.b, equals: 1 }] }"),
        ("{ any: [{ path: $.b, equals: 1 }, { path: $.a, equals: x }] }", "{ path: $.a, equals: x }"),
        ("{ path: $.a, one_of: [x, y] }", "{ any: [{ path: $.a, equals: x }, { path: $.a, equals: y }] }"),
        (
            "{ path: $.a, contains: x, type: string }",
            "{ all: [{ path: $.a, type: string }, { path: $.a, contains: x }] }",
        ),
        ("{ not: { path: $.a, equals: x } }", "{ not: { path: $.a, one_of: [x, y] } }"),
        ("{ not: { path: $.a, contains: z } }", "{ path: $.a, one_of: [x, y] }"),
        ("{ not: { path: $.a, exists: true } }", "{ path: $.a, exists: false }"),
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
        ("{ path: $.a, equals: x }", "{ path: $.a, exists: true }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, contains: OK }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, equals: BROKEN }"),
        ("{ path: $.a, contains_word: OK }", "{ path: $.a, starts_with: OK }"),
        ("{ path: $.a, matches: '(?-i)a', ignore_case: true }", "{ path: $.a, equals: A, ignore_case: true }"),
        // 1 is 1.0, and has another text.
        ("{ path: $.a, contains: '1.0' }", "{ path: $.a, equals: 1.0 }"),
        ("{ path: $.a, type: string }", "{ path: $.a, contains: '1' }"),
        ("{ path: $.a, gt: 5 }", "{ path: $.a, gte: 5 }"),
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
fn what_always_holds_and_what_never_does_is_known() {
    let always = "this rule is never reached: `first` in line 4 matches always";
    for earlier in [
        "{ path: $, exists: true }",
        "{ any: [{ path: $.b, exists: true }, { path: $.b, exists: false }] }",
        "{ any: [{ path: $.b, contains: x }, { not: { path: $.b, equals: x } }] }",
    ] {
        let told = warnings(earlier, "{ path: $.a, equals: x }");
        assert_eq!(told, [("second".to_owned(), always.to_owned())], "{earlier}");
    }
    let told = warnings(
        "{ path: $.b, equals: 1 }",
        "{ all: [{ path: $.a, equals: x }, { path: $.b, lt: 2 }, { path: $.a, equals: y }] }",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "{ path: $.a, equals: y }");
    assert!(told[0].1.contains("never matches"), "{told:?}");
}

#[test]
fn what_excludes_itself_is_told_at_its_place() {
    let path = "path: $.a";
    for (one, other) in [
        ("equals: 1", "equals: 2"),
        ("equals: x", "one_of: [y, z]"),
        ("equals: X, ignore_case: true", "type: number"),
        ("equals: true", "contains: x"),
        ("equals: 4", "gt: 4"),
        ("gt: 5", "lt: 3"),
        ("gt: 5", "lte: 5"),
        ("gte: 5", "lt: 5"),
        ("lte: 4.5", "gte: 5"),
        ("gt: 1", "type: boolean"),
        ("contains: x", "type: [array, 'null']"),
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
fn what_is_refused_before_is_told() {
    let message = "this rule never matches: `validate` refuses what it asks for";
    for (validation, when, told) in [
        ("required: true", "{ path: $.a, exists: false }", true),
        ("one_of: [x, y]", "{ path: $.a, equals: z }", true),
        ("one_of: [x, y]", "{ all: [{ path: $.b, equals: 1 }, { path: \"$['a']\", contains: z }] }", true),
        ("type: string", "{ path: $.a, equals: 5 }", true),
        ("required: true", "{ path: $.a, equals: x }", false),
        ("one_of: [x, y]", "{ path: $.a, exists: false }", false),
        ("one_of: [x, y]", "{ any: [{ path: $.a, equals: z }, { path: $.b, equals: z }] }", false),
        ("min_length: 3", "{ path: $.a, equals: z }", true),
        ("matches: '^[A-Z]+$'", "{ path: $.a, one_of: [ok, fine] }", true),
        ("matches: '^[A-Z]+$'", "{ path: $.a, one_of: [ok, OK] }", false),
    ] {
        let yaml = format!(
            "version: 1\nincident_key: $.id\nvalidate:\n  - {{ path: $.a, {validation} }}\nrules:\n  - {{ name: r, when: {when}, then: trigger }}\n"
        );
        let (_, findings) = try_compile(&yaml);
        let found: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(found, if told { vec![message] } else { vec![] }, "{validation} and {when}");
    }
}

#[test]
fn what_can_not_be_within_a_combination_is_told_too() {
    let never = "{ all: [{ path: $.a, equals: 1 }, { path: $.a, equals: 2 }] }";
    let other = "{ path: $.a, gt: 2, lt: 1 }";
    for (when, marked) in [
        (format!("{{ any: [{never}, {other}] }}"), None),
        (format!("{{ all: [{{ path: $.b, equals: 1 }}, {never}] }}"), Some(never)),
        ("{ not: { any: [{ path: $.b, exists: true }, { path: $.b, exists: false }] } }".to_owned(), None),
    ] {
        let told = warnings("{ path: $.c, equals: 1 }", &when);
        let message = "this rule never matches: no payload fulfils what is asked here";
        assert_eq!(told, [(marked.unwrap_or(&when).to_owned(), message.to_owned())]);
    }
    assert_eq!(warnings("{ path: $.c, equals: 1 }", &format!("{{ any: [{never}, {{ path: $.b, equals: 1 }}] }}")), []);
}

#[test]
fn several_rules_may_forestall_one_together() {
    let yaml = "version: 1\nincident_key: $.id\nrules:
  - { name: a, when: { path: $.s, contains: A }, then: trigger }
  - { name: b, when: { path: $.s, contains: B }, then: resolve }
  - { name: c, when: { any: [{ path: $.s, equals: B }, { path: $.s, equals: A }] }, then: resolve }\n";
    let (_, findings) = try_compile(yaml);
    let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        ["this rule is never reached: whatever it matches, `a` in line 4 or `b` in line 5 matches first"]
    );
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
fn rules_that_ask_for_values_of_their_own_are_compared_however_many_they_are() {
    let rule = |index: usize, value: usize| {
        format!("  - {{ name: r{index}, when: {{ path: $.a, one_of: [x{value}, y{value}] }}, then: trigger }}\n")
    };
    let mut rules: String = (0..5_000).map(|index| rule(index, index)).collect();
    rules.push_str(&rule(5_000, 7));
    let (_, findings) = try_compile(&format!("version: 1\nincident_key: $.id\nrules:\n{rules}"));
    let told: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(told, ["this rule is never reached: whatever it matches, `r7` in line 11 matches first"]);
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
    ];
    let ran = runner.run(&weaker, |(earlier, later)| {
        let rules = format!(
            "version: 1\nincident_key: $.id\nrules:\n  - {{ name: a, when: {earlier}, then: trigger }}\n  - {{ name: b, when: {later}, then: trigger }}\n"
        );
        let (rules, findings) = try_compile(&rules);
        let rules = rules.unwrap_or_else(|| panic!("{}", findings.render(false)));
        let (earlier_when, later_when) = (rules.rules[0].when.as_ref().unwrap(), rules.rules[1].when.as_ref().unwrap());
        let prover = Prover::new();
        if prover.exclude(later_when, earlier_when) {
            for payload in &payloads {
                prop_assert!(!holds(later_when, payload) || !holds(earlier_when, payload), "{payload}: {earlier}, {later}");
            }
        }
        let covered = prover.covered_by(later_when, &[earlier_when]).is_some();
        if covered && prover.contradiction(later_when).is_none() {
            let found = findings.iter().any(|finding| finding.message.contains("never reached"));
            prop_assert!(found, "{later} is not compared with {earlier}");
        }
        if covered {
            told.set(told.get() + 1);
            for payload in &payloads {
                prop_assert!(
                    !holds(later_when, payload) || holds(earlier_when, payload),
                    "{payload} passes by {earlier} and reaches {later}"
                );
            }
        }
        for when in [earlier_when, later_when] {
            if prover.contradiction(when).is_some() {
                told.set(told.get() + 1);
                for payload in &payloads {
                    prop_assert!(!holds(when, payload), "{payload} fulfils {earlier} or {later}");
                }
            }
            if prover.always(when) {
                for payload in &payloads {
                    prop_assert!(holds(when, payload), "{payload} does not fulfil {earlier} or {later}");
                }
            }
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    assert!(told.get() > cases / 20, "only {} of {cases} cases were told", told.get());
}
