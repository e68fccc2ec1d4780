//! Outlines of bodies, held against bodies that were made.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CONTEXT, compile};
use crate::rules::{BodyShape, Element, Known, RuleSet};

/// A rule that triggers and one that resolves, with this `emit` and the trigger's own.
fn rules(emit: Option<&Value>, own: Option<&Value>) -> RuleSet {
    let when = |state: &str| json!({ "path": "$.state", "equals": state });
    let mut rules = json!({
        "version": 1,
        "incident_key": "$.id",
        "rules": [
            { "name": "problem", "when": when("BAD"), "then": "trigger" },
            { "name": "recovery", "when": when("GOOD"), "then": "resolve" },
        ],
    });
    if let Some(emit) = emit {
        rules["emit"] = emit.clone();
    }
    if let Some(own) = own {
        rules["rules"][0]["emit"] = own.clone();
    }
    compile(&rules.to_string())
}

fn shape(emit: &Value, rule: usize) -> BodyShape {
    rules(Some(emit), None).body_shapes().swap_remove(rule)
}

#[test]
fn a_value_is_known_where_it_is_written_out() {
    let one_of = |values: Value| Some(Known::OneOf(values.as_array().unwrap().clone()));
    let anything = Some(Known::Anything);
    let by_action = |trigger: &str| json!({ "trigger": trigger, "resolve": "OK" });
    for (claim, emit, trigger, resolve) in [
        ("a literal", json!("x"), one_of(json!(["x"])), one_of(json!(["x"]))),
        ("a path", json!("$.a"), anything.clone(), anything.clone()),
        ("a template", json!("{{ action }}"), anything.clone(), anything.clone()),
        (
            "by action",
            json!({ "$by_action": by_action("CRITICAL") }),
            one_of(json!(["CRITICAL"])),
            one_of(json!(["OK"])),
        ),
        ("of one action only", json!({ "$by_action": { "trigger": 1 } }), one_of(json!([1])), None),
        (
            "a default for the other action",
            json!({ "$by_action": { "trigger": null, "resolve": 2 }, "$default": 3 }),
            one_of(json!([3])),
            one_of(json!([2])),
        ),
        (
            "a table that lets the rest pass",
            json!({ "$path": "$.a", "$map": { "1": "x" } }),
            anything.clone(),
            anything.clone(),
        ),
        (
            "a table with a default",
            json!({ "$path": "$.a", "$map": { "1": "x" }, "$default": "y" }),
            one_of(json!(["x", "y"])),
            one_of(json!(["x", "y"])),
        ),
        (
            "shaped as it will be",
            json!({ "$by_action": by_action(" Bad "), "$trim": true, "$upper": true }),
            one_of(json!(["BAD"])),
            one_of(json!(["OK"])),
        ),
        (
            "as text",
            json!({ "$by_action": { "trigger": true, "resolve": 5 }, "$string": true }),
            one_of(json!(["true"])),
            one_of(json!(["5"])),
        ),
        ("a path that the rule compares", json!("$.state"), one_of(json!(["BAD"])), one_of(json!(["GOOD"]))),
        (
            "a path that the rule compares, shaped",
            json!({ "$path": "$['state']", "$lower": true, "$default": "x" }),
            one_of(json!(["bad"])),
            one_of(json!(["good"])),
        ),
        (
            "a path that the rule compares, by a table that lets the rest pass",
            json!({ "$path": "$.state", "$map": { "BAD": "CRITICAL" } }),
            one_of(json!(["CRITICAL"])),
            one_of(json!(["GOOD"])),
        ),
        ("the first of some", json!({ "$first": ["a", "b"] }), anything.clone(), anything),
    ] {
        for (rule, expected) in [(0, trigger), (1, resolve)] {
            let shape = shape(&json!({ "k": emit }), rule);
            assert_eq!(shape.keys.get("k").cloned(), expected, "{claim}, rule {rule}");
            assert!(!shape.open);
        }
    }
    let merged = shape(&json!({ "$merge": "$.m", "a": { "$by_action": { "resolve": 1 } }, "b": 2 }), 0);
    assert!(merged.open);
    assert_eq!(merged.keys["a"], Known::Anything, "the payload's own may stand there");
    assert_eq!(merged.keys["b"], Known::OneOf(vec![json!(2)]));
    let laid_over = shape(&json!({ "$merge": "$", "b": 2 }), 0);
    assert!(laid_over.open);
    assert_eq!(laid_over.keys["state"], Known::OneOf(vec![json!("BAD")]), "the payload's own");
    assert_eq!(shape(&json!({ "$merge": "$", "state": 1 }), 0).keys["state"], Known::OneOf(vec![json!(1)]));
}

#[test]
fn a_member_of_the_payload_that_is_the_key_as_it_came_is_known() {
    let known = |key: &str, emit: &str| {
        let rule = format!("{{ name: r, when: {{ path: $.s, equals: a }}, then: trigger{emit} }}");
        let rules = compile(&format!("version: 1\nincident_key: {key}\nrules: [{rule}]\n"));
        rules.body_shapes().swap_remove(0).incident_key
    };
    assert_eq!(known("$.id", "").as_deref(), Some("id"));
    assert_eq!(known("$.id", ", emit: { $merge: $, x: 1 }").as_deref(), Some("id"));
    assert_eq!(known("$.a", ", incident_key: $.b").as_deref(), Some("b"), "the rule's own");
    for (key, emit) in [
        ("[$.a, $.b]", ""),
        ("$.a.b", ""),
        ("{ path: $.a, capture: '([0-9]+)' }", ""),
        ("$.id", ", emit: { id: $.id }"),
        ("$.id", ", emit: { $merge: $, id: x }"),
    ] {
        assert_eq!(known(key, emit), None, "{key}{emit}");
    }
}

#[test]
fn without_an_emit_the_payload_has_the_texts_that_its_rule_asks_for() {
    let shapes = rules(None, None).body_shapes();
    let state = |rule: usize| shapes[rule].keys.get("state").cloned();
    assert!(shapes.iter().all(|shape| shape.open));
    assert_eq!(state(0), Some(Known::OneOf(vec![json!("BAD")])));
    assert_eq!(state(1), Some(Known::OneOf(vec![json!("GOOD")])));
    let known = |when: &str| {
        let rules = format!("rules: [{{ name: r, when: {when}, then: trigger }}]");
        compile(&format!("version: 1\nincident_key: $.id\n{rules}\n")).body_shapes().swap_remove(0).keys.remove("s")
    };
    let both = Some(Known::OneOf(vec![json!("a"), json!("b")]));
    assert_eq!(known("{ all: [{ path: $.t, equals: x }, { path: $.s, one_of: [a, b] }] }"), both);
    for when in [
        "{ path: $.s.t, equals: a }",
        "{ path: $$.s, equals: a }",
        "{ path: $.s, equals: a, ignore_case: true }",
        "{ path: $.s, one_of: [a, 1] }",
        "{ path: $.s, contains: a }",
        "{ path: $.s, exists: false }",
        "{ not: { path: $.s, equals: a } }",
        "{ any: [{ path: $.s, equals: a }, { path: $.t, equals: b }] }",
    ] {
        assert_eq!(known(when), None, "{when}");
    }
}

#[test]
fn a_value_is_told_once_and_always_in_one_order() {
    let table = json!({ "HIGH": "critical", "FATAL": "critical", "LOW": "low", "NONE": "Low", "MID": "medium" });
    let emit = json!({ "k": { "$path": "$.a", "$map": table, "$default": "low", "$lower": true } });
    for _ in 0..20 {
        let expected = ["critical", "low", "medium"].map(Value::from).to_vec();
        assert_eq!(shape(&emit, 0).keys["k"], Known::OneOf(expected));
    }
    let zeros = json!({ "$path": "$.a", "$map": { "a": 0.0, "b": -0.0 }, "$default": 0 });
    let Known::OneOf(values) = shape(&json!({ "k": zeros }), 0).keys.remove("k").unwrap() else { unreachable!() };
    assert_eq!(values.iter().map(Value::to_string).collect::<Vec<_>>(), ["-0.0", "0", "0.0"]);
}

/// Values that a rule file may make, with few literals and paths.
fn emits() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            json!("BAD"),
            json!(" Bad "),
            json!(""),
            json!(1),
            json!(true),
            json!(null),
            json!([])
        ]),
        prop::sample::select(vec![
            json!("$.a"),
            json!("$.b"),
            json!("$.m"),
            json!("$.none"),
            json!("$.state"),
            json!("{{ payload.a }}"),
            json!("{{ action }} {{ rule }}")
        ]),
        prop::sample::select(vec![
            json!({ "$literal": "$.a" }),
            json!({ "$literal": [1] }),
            json!({ "$merge": "$.m" })
        ]),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let source = prop_oneof![
            prop::sample::select(vec!["$.a", "$.b", "$.none", "$.state"]).prop_map(|path| json!({ "$path": path })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| json!({ "$first": all })),
            (inner.clone(), inner.clone(), 0..3)
                .prop_map(|(trigger, resolve, which)| match which {
                    0 => json!({ "trigger": trigger }),
                    1 => json!({ "resolve": resolve }),
                    _ => json!({ "trigger": trigger, "resolve": resolve }),
                })
                .prop_map(|both| json!({ "$by_action": both })),
        ];
        let table = prop::collection::hash_map("BAD|1|x", inner.clone(), 1..3);
        let case = prop::option::of(prop::sample::select(vec!["$lower", "$upper"]));
        let shape = (prop::sample::subsequence(vec!["$string", "$trim", "$truncate"], 0..=3), case);
        let parts = prop_oneof![
            inner.clone().prop_map(|one| json!([one])),
            (inner.clone(), any::<bool>()).prop_map(|(one, merge)| match merge {
                true => json!({ "$merge": "$.m", "k": one }),
                false => json!({ "k": one }),
            }),
        ];
        let operators = (source, prop::option::of(table), prop::option::of(inner), shape);
        let operators = operators.prop_map(|(source, map, default, (shape, case))| {
            let mut operators = source;
            if let Some(map) = map {
                operators["$map"] = json!(map);
            }
            if let Some(default) = default {
                operators["$default"] = default;
            }
            for name in shape.into_iter().chain(case) {
                operators[name] = if name == "$truncate" { json!(2) } else { json!(true) };
            }
            operators
        });
        prop_oneof![5 => operators, 1 => parts]
    })
}

fn merges() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(vec!["$.m", "$"]))
}

fn payloads() -> impl Strategy<Value = Value> {
    let value = || {
        prop::sample::select(vec![json!("BAD"), json!("x"), json!(""), json!(1), json!(false), json!(null), json!({})])
    };
    let member = || prop::option::of(value());
    (any::<bool>(), member(), member(), prop::option::of((member(), member()))).prop_map(|(bad, a, b, m)| {
        let mut payload = json!({ "id": "e1", "state": if bad { "BAD" } else { "GOOD" } });
        let put = |into: &mut Value, name: &str, value: Option<Value>| {
            if let Some(value) = value {
                into[name] = value;
            }
        };
        put(&mut payload, "a", a);
        put(&mut payload, "b", b);
        if let Some((k, l)) = m {
            payload["m"] = json!({});
            put(&mut payload["m"], "k", k);
            put(&mut payload["m"], "l", l);
        }
        payload
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_body_is_outside_of_its_shape(
        file in prop::option::weighted(0.8, (emits(), emits(), merges())),
        own in prop::option::of((emits(), merges())),
        payload in payloads(),
    ) {
        let merging = |mut emit: Value, merge: Option<&str>| {
            if let Some(path) = merge {
                emit["$merge"] = json!(path);
            }
            emit
        };
        let file = file.map(|(k, l, merge)| merging(json!({ "k": k, "state": l }), merge));
        let own = own.map(|(k, merge)| merging(json!({ "k": k }), merge));
        let rules = rules(file.as_ref(), own.as_ref());
        let shapes = rules.body_shapes();
        let decision = rules.decide(&payload, CONTEXT);
        let Element::Event(draft) = &decision.elements[0] else {
            panic!("no event of {payload}");
        };
        let shape = shapes.iter().find(|shape| shape.name == *draft.rule).unwrap();
        for (key, value) in draft.body.value().as_object().unwrap() {
            match shape.keys.get(key) {
                None => prop_assert!(shape.open, "{key} is not in {shape:?} of {file:?}"),
                Some(Known::OneOf(values)) => {
                    prop_assert!(values.contains(value), "{key}: {value} is none of {values:?} of {file:?} {own:?}");
                }
                Some(Known::Anything) => {}
            }
        }
    }
}
