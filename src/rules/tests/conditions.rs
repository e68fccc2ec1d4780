//! `when`: operators, node semantics, combinations.

use serde_json::json;

use super::*;

#[test]
fn every_operator_means_what_the_language_says() {
    // One row: a condition on $.v, then values for which it holds, then values for which it does not.
    let rows: &[(&str, &[Value], &[Value])] = &[
        ("equals: CRITICAL", &[json!("CRITICAL")], &[json!("critical"), json!(["CRITICAL"]), json!(null)]),
        ("equals: critical, ignore_case: true", &[json!("CRITICAL")], &[json!("critical ")]),
        ("equals: 1", &[json!(1), json!(1.0)], &[json!("1"), json!(true), json!(1.5)]),
        ("equals: '1'", &[json!("1")], &[json!(1)]),
        ("equals: null", &[json!(null)], &[json!("null"), json!(""), json!(0)]),
        ("equals: true", &[json!(true)], &[json!("true"), json!(1)]),
        ("equals: [1, {a: b}]", &[json!([1.0, {"a": "b"}])], &[json!([1]), json!([{"a": "b"}, 1])]),
        ("one_of: [a, 2, null]", &[json!("a"), json!(2), json!(null)], &[json!("A"), json!("2"), json!(false)]),
        ("one_of: [a, B], ignore_case: true", &[json!("A"), json!("b")], &[json!("c"), json!(1)]),
        ("exists: true", &[json!(null), json!(""), json!(0), json!([])], &[]),
        ("exists: false", &[], &[json!(null), json!("")]),
        ("type: string", &[json!("")], &[json!(1), json!(null)]),
        ("type: number", &[json!(1), json!(1.5)], &[json!("1")]),
        ("type: integer", &[json!(1), json!(1.0)], &[json!(1.5), json!("1")]),
        ("type: boolean", &[json!(false)], &[json!("false"), json!(0)]),
        ("type: object", &[json!({})], &[json!([])]),
        ("type: array", &[json!([])], &[json!({})]),
        ("type: 'null'", &[json!(null)], &[json!("null"), json!(0)]),
        ("type: [string, number]", &[json!("a"), json!(1)], &[json!(null)]),
        ("contains: ritic", &[json!("critical")], &[json!("RITIC"), json!(["ritic"]), json!({"ritic": 1})]),
        ("contains: [x, OK]", &[json!("BROKEN"), json!("x")], &[json!("ok")]),
        ("contains: 0, ignore_case: true", &[json!(10), json!("a0")], &[json!(1), json!(false)]),
        ("contains_all: [a, b]", &[json!("b-a")], &[json!("a"), json!("b")]),
        ("contains_word: OK", &[json!("is OK."), json!("OK")], &[json!("BROKEN"), json!("ok"), json!("OK2")]),
        ("contains_word: [OK, UP], ignore_case: true", &[json!("ok"), json!("it is up")], &[json!("upper token")]),
        ("contains_word: 404", &[json!(404), json!("HTTP 404")], &[json!(4040), json!("x404")]),
        ("starts_with: 5", &[json!(503), json!("5xx"), json!(5.5)], &[json!(-5), json!("x5"), json!([5])]),
        ("ends_with: [.local, '03']", &[json!("a.local"), json!(503)], &[json!("local.a"), json!(null)]),
        ("matches: 'a.c'", &[json!("xabcx")], &[json!("ac"), json!("ABC"), json!(true)]),
        ("matches: ['^a', 'c$'], ignore_case: true", &[json!("ABX"), json!("xC")], &[json!("xax")]),
        ("matches: '^\\d+$'", &[json!(42), json!("42")], &[json!(4.2), json!("4a")]),
        ("gt: 90", &[json!(90.5), json!("91"), json!("1e3")], &[json!(90), json!("90%"), json!(" 91"), json!(null)]),
        ("gte: 90", &[json!(90), json!("90.0")], &[json!(89), json!([91])]),
        ("lt: 0.5", &[json!(0), json!("-1")], &[json!(0.5), json!("abc"), json!("")]),
        ("lte: 5, gte: 1", &[json!(1), json!(5)], &[json!(0), json!(6)]),
        ("gt: 9007199254740992", &[json!(9_007_199_254_740_993_u64)], &[json!(9_007_199_254_740_992_u64)]),
        ("gt: '10'", &[json!(11)], &[json!(9)]),
    ];
    for (operators, passing, failing) in rows {
        let rules = with_rule("otherwise: ignore", &format!("when: {{ path: $.v, {operators} }}"));
        for value in *passing {
            assert_eq!(verdict(&rules, &json!({"id": "x", "v": value})), "trigger only", "{operators} on {value}");
        }
        for value in *failing {
            assert_eq!(verdict(&rules, &json!({"id": "x", "v": value})), "ignored -", "{operators} on {value}");
        }
        let missing = if *operators == "exists: false" { "trigger only" } else { "ignored -" };
        assert_eq!(verdict(&rules, &json!({"id": "x"})), missing, "{operators} on nothing");
    }
}

#[test]
fn paths_of_several_nodes_and_combinations() {
    // One row: what it shows, the condition, the payload, whether it holds.
    let rows: &[(&str, &str, Value, bool)] = &[
        ("any node suffices", "{ path: '$.a[*]', equals: 1 }", json!({"a": [2, 1]}), true),
        ("every asks all", "{ path: '$.a[*]', equals: 1, every: true }", json!({"a": [2, 1]}), false),
        ("every holds when all do", "{ path: '$.a[*]', equals: 1, every: true }", json!({"a": [1, 1.0]}), true),
        ("every asks that there is one", "{ path: '$.a[*]', equals: 1, every: true }", json!({"a": []}), false),
        ("operators meet in one node", "{ path: '$.a[*]', gt: 1, lt: 5 }", json!({"a": [0, 9]}), false),
        ("operators met in one node", "{ path: '$.a[*]', gt: 1, lt: 5 }", json!({"a": [0, 3]}), true),
        ("exists: true joins others", "{ path: $.a, exists: true, equals: 1 }", json!({"a": 1}), true),
        ("nothing selected is false under not too", "{ not: { path: $.a, equals: 1 } }", json!({}), true),
        ("exists: false looks at all nodes", "{ path: '$.a[*]', exists: false }", json!({"a": [1]}), false),
        ("all", "{ all: [{ path: $.a, equals: 1 }, { path: $.b, equals: 2 }] }", json!({"a": 1, "b": 2}), true),
        ("all but one", "{ all: [{ path: $.a, equals: 1 }, { path: $.b, equals: 2 }] }", json!({"a": 1}), false),
        ("any", "{ any: [{ path: $.a, equals: 1 }, { path: $.b, equals: 2 }] }", json!({"b": 2}), true),
        ("any of none", "{ any: [{ path: $.a, equals: 1 }, { path: $.b, equals: 2 }] }", json!({"b": 1}), false),
        ("not", "{ not: { path: $.a, equals: 1 } }", json!({"a": 1}), false),
        ("nested", "{ not: { any: [{ all: [{ path: $.a, exists: true }] }] } }", json!({}), true),
        ("the whole payload", "{ path: $$.a, equals: 1 }", json!({"a": 1}), true),
        ("a filter", "{ path: \"$.a[?@.k == 'x'].v\", gt: 3 }", json!({"a": [{"k": "x", "v": 4}]}), true),
        ("a filter that misses", "{ path: \"$.a[?@.k == 'x'].v\", gt: 3 }", json!({"a": [{"k": "y", "v": 4}]}), false),
    ];
    for (sentence, condition, payload, expected) in rows {
        let rules = with_rule("otherwise: ignore", &format!("when: {condition}"));
        let mut payload = payload.clone();
        payload["id"] = json!("x");
        assert_eq!(verdict(&rules, &payload) == "trigger only", *expected, "{sentence}: {condition} on {payload}");
    }
}

#[test]
fn the_trace_tells_missing_null_and_wrong_type_apart() {
    let rules = with_rule("otherwise: ignore", "when: { path: $.v, contains: x }");
    for (payload, kind, why) in [
        (json!({}), "missing", None),
        (json!({"v": null}), "null", Some("contains reads strings and numbers, this is null")),
        (json!({"v": [1]}), "array", Some("contains reads strings and numbers, this is array")),
        (json!({"v": "abc"}), "string", Some("not contains 'x'")),
    ] {
        let (_, traces) = rules.explain(&payload, CONTEXT);
        let Some(ConditionTrace::Test { seen, holds, path, .. }) = &traces.elements[0].rules[0].when else {
            panic!("{traces:?}");
        };
        assert_eq!((path.as_str(), *holds, seen[0].kind, seen[0].why.as_deref()), ("$.v", false, kind, why));
    }
}

#[test]
fn the_trace_shows_what_a_decision_would_skip() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules:
  - name: first
    when: { any: [{ path: $.a, equals: 1 }, { path: $.b, equals: 2 }] }
    then: ignore
  - { name: second, then: trigger }
",
    );
    let (_, traces) = rules.explain(&json!({"a": 1}), CONTEXT);
    let Some(ConditionTrace::Combined { conditions, combine: "any", holds: true }) = &traces.elements[0].rules[0].when
    else {
        panic!("{traces:?}");
    };
    assert_eq!(conditions.iter().map(ConditionTrace::holds).collect::<Vec<_>>(), [true, false]);
    assert_eq!(
        traces.elements[0].rules.iter().map(|rule| rule.verdict).collect::<Vec<_>>(),
        ["matched", "not reached"]
    );
    assert_eq!((traces.elements[0].verdict, traces.elements[0].rule.as_deref()), ("ignored", Some("first")));
}

#[test]
fn what_is_nearly_right_is_told() {
    for (condition, payload, why) in [
        ("path: $.v, equals: CRITICAL", json!({"v": "Critical"}), "only the case differs"),
        ("path: $.v, one_of: [A, CRITICAL]", json!({"v": "critical"}), "only the case differs"),
        ("path: $.v, starts_with: CRIT", json!({"v": "critical"}), "only the case differs"),
        ("path: $.v, equals: CRITICAL", json!({"v": " CRITICAL\n"}), "only blanks around it differ"),
        ("path: $.v, contains_word: OK", json!({"v": "BROKEN TOKEN"}), "only as a part of a longer word"),
        ("path: $.v, equals: 1", json!({"v": "1"}), "not equals 1: another type (string)"),
        ("path: $.v, equals: CRITICAL", json!({"v": "OK"}), "not equals 'CRITICAL'"),
        ("path: $.state, equals: x", json!({"State": "x"}), "did you mean `$.State`?"),
        ("path: $.a.stat, equals: x", json!({"a": {"state": "x", "b": 1}}), "did you mean `$.a.state`?"),
        ("path: \"$.a['odd nam']\", equals: x", json!({"a": {"odd name": "x"}}), "did you mean `$.a[\"odd name\"]`?"),
        ("path: $.a.b.c, equals: x", json!({"a": {}}), "`$.a` has no `b`"),
        ("path: $.a.b, equals: x", json!({"a": "x"}), "`$.a` is a string"),
        (
            "path: $.a.b, equals: x",
            json!({"a": [{"b": "x"}]}),
            "`$.a` is an array: `[0]` is its first item, `[*]` are all of them",
        ),
        ("path: '$.a[2]', equals: x", json!({"a": ["x", "x"]}), "`$.a` has 2 items"),
        ("path: '$.a[-3]', equals: x", json!({"a": ["x", "x"]}), "`$.a` has 2 items"),
        ("path: '$.a[0]', equals: x", json!({"a": {"b": 1}}), "`$.a` is an object, its members have names"),
    ] {
        let rules = with_rule("otherwise: ignore", &format!("when: {{ {condition} }}"));
        let (_, trace) = rules.explain(&payload, CONTEXT);
        let Some(ConditionTrace::Test { seen, holds: false, .. }) = &trace.elements[0].rules[0].when else {
            panic!("{condition}: {trace:?}");
        };
        assert!(seen[0].why.as_deref().is_some_and(|found| found.starts_with(why)), "{condition}: {seen:?}");
    }
}

#[test]
fn of_rules_that_lack_as_much_the_one_with_the_nearest_value_is_nearest() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules:
  - { name: absent, when: { path: $.mute, equals: yes }, then: ignore }
  - { name: bad, when: { path: $.state, equals: BAD }, then: trigger }
  - { name: good, when: { path: $.state, equals: OK }, then: resolve }
",
    );
    for (payload, expected) in [
        (json!({"state": "ok"}), "good"),
        (json!({"state": " BAD "}), "bad"),
        (json!({"state": "odd"}), "bad"),
        (json!({}), "absent"),
        (json!({"Mute": "yes", "state": "odd"}), "absent"),
    ] {
        let (_, trace) = rules.explain(&payload, CONTEXT);
        assert_eq!(trace.elements[0].nearest.as_ref().unwrap().rule, expected, "{payload}");
    }
}

#[test]
fn the_nearest_rule_is_the_one_that_lacks_least() {
    let rules = compile(
        "version: 1
incident_key: $.id
rules:
  - name: far
    when: { all: [{ path: $.a, equals: 1 }, { path: $.b, equals: 1 }, { path: $.c, equals: 1 }] }
    then: trigger
  - name: near
    when: { all: [{ any: [{ path: $.a, equals: 2 }, { path: $.b, equals: 2 }] }, { not: { any: [{ path: $.c, equals: 3 }, { path: $.d, exists: false }] } }] }
    then: trigger
",
    );
    for (payload, expected) in [
        (json!({"a": 1, "b": 1, "c": 2, "d": 1}), Some(("far", 1))),
        (json!({"a": 0, "b": 0, "c": 0, "d": 1}), Some(("near", 1))),
        (json!({"a": 0, "b": 0, "c": 3}), Some(("far", 3))),
        (json!({"a": 2, "c": 3}), Some(("near", 2))),
        (json!({"a": 2, "c": 0, "d": 0}), None),
    ] {
        let (_, trace) = rules.explain(&payload, CONTEXT);
        let found = trace.elements[0].nearest.as_ref().map(|nearest| (nearest.rule.as_str(), nearest.lacks.len()));
        assert_eq!(found, expected, "{payload}");
    }
}
