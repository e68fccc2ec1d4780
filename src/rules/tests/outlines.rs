//! What is known of a body without its payload, held against bodies that were made.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CONTEXT, compile};
use crate::rules::{Element, Known, Outline, RuleSet};

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

fn outline(emit: &Value, rule: usize) -> Outline {
    rules(Some(emit), None).outlines().swap_remove(rule)
}

#[test]
fn what_is_known_of_a_value() {
    let one_of = |values: Value| Some(Known::OneOf(values.as_array().unwrap().clone()));
    let anything = Some(Known::Anything);
    let by_action = |trigger: &str| json!({ "trigger": trigger, "resolve": "OK" });
    for (claim, emit, trigger, resolve) in [
        ("a literal", json!("x"), one_of(json!(["x"])), one_of(json!(["x"]))),
        ("a path", json!("$.a"), anything.clone(), anything.clone()),
        ("a path that the rule fixes", json!("$['state']"), one_of(json!(["BAD"])), one_of(json!(["GOOD"]))),
        ("mapped", json!({ "$path": "$.state", "$map": { "BAD": 1 } }), one_of(json!([1])), one_of(json!(["GOOD"]))),
        (
            "a template that reads no payload",
            json!("{{ 'P' if action == 'Trigger' else action | upper }}"),
            one_of(json!(["TRIGGER"])),
            one_of(json!(["RESOLVE"])),
        ),
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
            anything,
        ),
        (
            "a table with a default",
            json!({ "$path": "$.a", "$map": { "1": "x" }, "$default": "y" }),
            one_of(json!(["x", "y"])),
            one_of(json!(["x", "y"])),
        ),
        (
            "a table for known values",
            json!({ "$by_action": by_action("BAD"), "$map": { "BAD": "CRITICAL" } }),
            one_of(json!(["CRITICAL"])),
            one_of(json!(["OK"])),
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
        (
            "the first that is not empty",
            json!({ "$first": ["", "a", "b"] }),
            one_of(json!(["a"])),
            one_of(json!(["a"])),
        ),
    ] {
        for (rule, expected) in [(0, trigger), (1, resolve)] {
            let outline = outline(&json!({ "k": emit }), rule);
            assert_eq!(outline.keys.get("k").cloned(), expected, "{claim}, rule {rule}");
            assert!(!outline.open);
        }
    }
    let merged = outline(&json!({ "$merge": "$.m", "a": { "$by_action": { "resolve": 1 } }, "b": 2 }), 0);
    assert!(merged.open);
    assert_eq!(merged.keys["a"], Known::Anything, "the payload's own may stand there");
    assert_eq!(merged.keys["b"], Known::OneOf(vec![json!(2)]));
}

#[test]
fn without_an_emit_the_payload_has_what_its_rule_asks_for() {
    let outlines = rules(None, None).outlines();
    let state = |rule: usize| outlines[rule].keys.get("state").cloned();
    assert!(outlines.iter().all(|outline| outline.open));
    assert_eq!(state(0), Some(Known::OneOf(vec![json!("BAD")])));
    assert_eq!(state(1), Some(Known::OneOf(vec![json!("GOOD")])));
}

#[test]
fn what_a_condition_fixes() {
    let sent = |when: &str| {
        let yaml = format!(
            "version: 1\nincident_key: $.id\nrules: [{{ name: r, when: {when}, then: trigger }}]\nemit: {{ k: $.s }}\n"
        );
        compile(&yaml).outlines().swap_remove(0).keys.remove("k")
    };
    let one_of = |values: Value| Some(Known::OneOf(values.as_array().unwrap().clone()));
    for (when, known) in [
        (
            "{ all: [{ path: $.t, equals: x }, { path: $.s, one_of: [a, null, true] }] }",
            one_of(json!(["a", null, true])),
        ),
        ("{ any: [{ path: $.s, equals: a }, { path: \"$['s']\", equals: b }] }", one_of(json!(["a", "b"]))),
        ("{ path: $.s, exists: false }", None),
        ("{ any: [{ path: $.s, equals: a }, { path: $.t, equals: b }] }", Some(Known::Anything)),
        ("{ any: [{ path: $.s, equals: a }, { path: $.s, exists: false }] }", Some(Known::Anything)),
        ("{ not: { path: $.s, equals: a } }", Some(Known::Anything)),
        ("{ path: $.s, equals: a, ignore_case: true }", Some(Known::Anything)),
        ("{ path: $.s, equals: 1 }", Some(Known::Anything)),
    ] {
        assert_eq!(sent(when), known, "{when}");
    }
}

#[test]
fn a_trigger_that_no_resolve_can_meet_is_known() {
    let unmet = |key: &str, resolve: &str| {
        let yaml = format!(
            "version: 1\nincident_key: {key}\nrules:\n  - {{ name: p, when: {{ path: $.s, equals: P }}, then: trigger }}\n  - {{ name: r, when: {resolve}, then: resolve }}\n"
        );
        compile(&yaml).unmet().into_iter().map(|(rule, path)| (rule, path.to_owned())).collect::<Vec<_>>()
    };
    let resolve = "{ path: $.s, equals: O }";
    assert_eq!(unmet("[$.id, $.s]", resolve), [(0, "$.s".to_owned())]);
    assert_eq!(unmet("[$.id]", resolve), []);
    assert_eq!(unmet("[$.id, $.s]", "{ path: $.s, one_of: [O, P] }"), []);
    assert_eq!(unmet("[$.id, $.s]", "{ path: $.t, equals: O }"), []);
}

#[test]
fn a_value_is_told_once_and_always_in_one_order() {
    let table = json!({ "HIGH": "critical", "FATAL": "critical", "LOW": "low", "NONE": "Low", "MID": "medium" });
    let emit = json!({ "k": { "$path": "$.a", "$map": table, "$default": "low", "$lower": true } });
    for _ in 0..20 {
        let expected = ["critical", "low", "medium"].map(Value::from).to_vec();
        assert_eq!(outline(&emit, 0).keys["k"], Known::OneOf(expected));
    }
    let zeros = json!({ "$path": "$.a", "$map": { "a": 0.0, "b": -0.0 }, "$default": 0 });
    let Known::OneOf(values) = outline(&json!({ "k": zeros }), 0).keys.remove("k").unwrap() else { unreachable!() };
    assert_eq!(values.iter().map(Value::to_string).collect::<Vec<_>>(), ["0.0", "-0.0", "0"]);
}

#[test]
fn tables_of_tables_do_not_multiply() {
    let table = |value: &dyn Fn(usize) -> Value| -> Value {
        (0..50).map(|number| (format!("w{number}"), value(number))).collect::<serde_json::Map<_, _>>().into()
    };
    let words = json!({ "$path": "$.a", "$map": table(&|_| json!("w1")), "$default": "w1" });
    let mut alike = words.clone();
    let mut different = json!("$.a");
    for depth in 0..8 {
        alike = json!({ "$first": [alike], "$map": { "w1": words }, "$default": "w1" });
        let own = table(&|number| json!(format!("{depth}-{number}")));
        different = json!({ "$path": "$.a", "$map": own, "$default": different });
    }
    let outline = outline(&json!({ "alike": alike, "different": different }), 0);
    assert_eq!(outline.keys["alike"], Known::OneOf(vec![json!("w1")]));
    assert_eq!(outline.keys["different"], Known::Anything, "too many to be told apart");
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
    fn no_body_is_outside_of_its_outline(
        file in prop::option::weighted(0.8, (emits(), emits(), any::<bool>())),
        own in prop::option::of((emits(), any::<bool>())),
        payload in payloads(),
    ) {
        let merging = |mut emit: Value, merge: bool| {
            if merge {
                emit["$merge"] = json!("$.m");
            }
            emit
        };
        let file = file.map(|(k, l, merge)| merging(json!({ "k": k, "l": l }), merge));
        let own = own.map(|(k, merge)| merging(json!({ "k": k }), merge));
        let rules = rules(file.as_ref(), own.as_ref());
        let outlines = rules.outlines();
        let decision = rules.decide(&payload, CONTEXT);
        let Element::Event(draft) = &decision.elements[0] else {
            panic!("no event of {payload}");
        };
        let outline = outlines.iter().find(|outline| outline.name == *draft.rule).unwrap();
        for (key, value) in draft.body.value().as_object().unwrap() {
            match outline.keys.get(key) {
                None => prop_assert!(outline.open, "{key} is not in {outline:?} of {file:?}"),
                Some(Known::OneOf(values)) => {
                    prop_assert!(values.contains(value), "{key}: {value} is none of {values:?} of {file:?} {own:?}");
                }
                Some(Known::Anything) => {}
            }
        }
    }
}
