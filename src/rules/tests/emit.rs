//! `emit`: values, operators, templates, layers.

use serde_json::json;

use super::*;

/// The body that `emit` (a YAML flow mapping or block) makes of a payload.
fn body_of(emit: &str, payload: &Value) -> Value {
    let rules = compile(&format!(
        "version: 1
incident_key: $.id
rules:
  - {{ name: down, when: {{ path: $.up, exists: false }}, then: trigger }}
  - {{ name: up, then: resolve }}
emit: {emit}
"
    ));
    body(&rules, payload)
}

fn body(rules: &RuleSet, payload: &Value) -> Value {
    let decision = decide(rules, payload);
    assert_eq!(decision.template_failures, TemplateFailures::default());
    match decision.elements.as_slice() {
        [Element::Event(draft)] => draft.body.value(),
        elements => panic!("{elements:?}"),
    }
}

#[test]
fn values_are_made_as_the_language_says() {
    let payload = json!({
        "id": "x", "n": 1.5, "null": null, "empty": "", "list": [1, 2], "tags": {"a": "b"}, "sev": "HIGH", "code": 7,
        "pad": "  Über  ", "html": "<b>&</b>", "flag": true, "none": []
    });
    for (emit, expected) in [
        // Paths keep their type; a missing one leaves its key out.
        (
            "{ a: $.n, b: $.missing, c: $.null, d: '$.list[*]', e: $$.id }",
            json!({"a": 1.5, "c": null, "d": 1, "e": "x"}),
        ),
        // Literals.
        ("{ a: 1, b: true, c: null, d: text, e: [] }", json!({"a": 1, "b": true, "c": null, "d": "text", "e": []})),
        ("{ a: { $literal: $.n }, b: { $literal: { $path: x } } }", json!({"a": "$.n", "b": {"$path": "x"}})),
        // Nested.
        ("{ a: { b: { c: $.n, d: $.missing } } }", json!({"a": {"b": {"c": 1.5}}})),
        ("{ a: [$.n, $.missing, x, { k: $.id }] }", json!({"a": [1.5, "x", {"k": "x"}]})),
        // $path, $first, $by_action.
        ("{ a: { $path: $.tags }, b: { $path: $.missing } }", json!({"a": {"a": "b"}})),
        ("{ a: { $first: [$.missing, $.null, $.empty, $.none, $.id] } }", json!({"a": "x"})),
        ("{ a: { $first: [$.empty, '{{ payload.empty }}', 'last'] } }", json!({"a": "last"})),
        ("{ a: { $first: [$.missing] } }", json!({})),
        ("{ a: { $first: [{ $path: $.flag }] } }", json!({"a": true})),
        ("{ a: { $by_action: { trigger: T, resolve: R } } }", json!({"a": "T"})),
        ("{ a: { $by_action: { resolve: R } } }", json!({})),
        ("{ a: { $by_action: { resolve: R }, $default: D } }", json!({"a": "D"})),
        // $map.
        ("{ a: { $path: $.sev, $map: { HIGH: high } } }", json!({"a": "high"})),
        ("{ a: { $path: $.code, $map: { 7: seven } } }", json!({"a": "seven"})),
        ("{ a: { $path: $.n, $map: { '1.5': x } } }", json!({"a": "x"})),
        ("{ a: { $path: $.sev, $map: { LOW: low } } }", json!({"a": "HIGH"})),
        ("{ a: { $path: $.sev, $map: { LOW: low }, $default: other } }", json!({"a": "other"})),
        ("{ a: { $path: $.flag, $map: { 'true': yes } } }", json!({"a": true})),
        ("{ a: { $path: $.sev, $map: { HIGH: $.code } } }", json!({"a": 7})),
        // $default is for missing and null, not for empty.
        ("{ a: { $path: $.missing, $default: d }, b: { $path: $.null, $default: $.id } }", json!({"a": "d", "b": "x"})),
        ("{ a: { $path: $.empty, $default: d } }", json!({"a": ""})),
        ("{ a: { $path: $.null } }", json!({"a": null})),
        // Text.
        ("{ a: { $path: $.pad, $trim: true, $lower: true } }", json!({"a": "über"})),
        ("{ a: { $path: $.pad, $trim: true, $upper: true, $truncate: 2 } }", json!({"a": "ÜB"})),
        ("{ a: { $path: $.pad, $truncate: 3 } }", json!({"a": "  Ü"})),
        ("{ a: { $path: $.code, $trim: true, $truncate: 1 } }", json!({"a": 7})),
        (
            "{ a: { $path: $.n, $string: true }, b: { $path: $.flag, $string: true, $upper: true } }",
            json!({"a": "1.5", "b": "TRUE"}),
        ),
        ("{ a: { $path: $.sev, $map: { HIGH: '  Ho  ' }, $trim: true, $lower: true } }", json!({"a": "ho"})),
        // $capture takes a part of the text; without a match there is no value.
        (r"{ a: { $path: $.pad, $capture: '(\S+)' } }", json!({"a": "Über"})),
        ("{ a: { $path: $.pad, $lower: true, $capture: '(b[a-z]+)', $truncate: 2 } }", json!({"a": "be"})),
        ("{ a: { $path: $.sev, $capture: '^(?:H)(.)' } }", json!({"a": "I"})),
        ("{ a: { $path: $.sev, $capture: '(low)' } }", json!({})),
        ("{ a: { $path: $.sev, $capture: '(low)', $default: x } }", json!({})),
        ("{ a: { $path: $.missing, $default: 'no 5', $capture: '(5)' } }", json!({"a": "5"})),
        ("{ a: { $path: $.sev, $map: { HIGH: 'p1 high' }, $capture: '^(p.)' } }", json!({"a": "p1"})),
        ("{ a: { $first: [{ $path: $.sev, $capture: '(low)' }, none] } }", json!({"a": "none"})),
        (
            "{ a: { $path: $.code, $capture: '(x)' }, b: { $path: $.tags, $capture: '(x)' } }",
            json!({"a": 7, "b": {"a": "b"}}),
        ),
        ("{ a: { $path: $.code, $string: true, $capture: '(x)' } }", json!({})),
        ("{ $merge: $.tags, a: { $path: $.sev, $capture: '(low)' } }", json!({"a": "b"})),
        // $merge copies first; what is not an object copies nothing.
        ("{ $merge: $.tags, c: d }", json!({"a": "b", "c": "d"})),
        ("{ c: d, $merge: $.tags, a: x }", json!({"a": "x", "c": "d"})),
        ("{ $merge: $.tags, a: $.missing }", json!({"a": "b"})),
        ("{ $merge: $.list, c: d }", json!({"c": "d"})),
        ("{ in: { $merge: $.tags, z: 1 } }", json!({"in": {"a": "b", "z": 1}})),
        // Templates.
        ("{ a: 'n={{ payload.n }} f={{ payload.flag }}' }", json!({"a": "n=1.5 f=true"})),
        ("{ a: '{{ payload.html }}' }", json!({"a": "<b>&</b>"})),
        ("{ a: '[{{ payload.null }}{{ payload.no.such.thing }}]' }", json!({"a": "[]"})),
        ("{ a: '{{ payload.tags }} {{ payload.list }}' }", json!({"a": r#"{"a":"b"} [1,2]"#})),
        (
            "{ a: '{{ action }} {{ incident_key }} {{ source }} {{ rule }}' }",
            json!({"a": "trigger x servicepilot down"}),
        ),
        ("{ a: '{{ received_at }}' }", json!({"a": "2025-11-24T07:30:00.000Z"})),
        ("{ a: '{{ root.id }}{{ payload.sev | lower }}' }", json!({"a": "xhigh"})),
        ("{ a: '{% if payload.up %}up{% else %}down{% endif %}' }", json!({"a": "down"})),
    ] {
        assert_eq!(body_of(emit, &payload), expected, "{emit}");
    }
}

#[test]
fn a_resolve_makes_its_own_values() {
    let made = body_of(
        "{ a: { $by_action: { trigger: T, resolve: $.id } }, b: '{{ action }}' }",
        &json!({"id": "x", "up": 1}),
    );
    assert_eq!(made, json!({"a": "x", "b": "resolve"}));
}

#[test]
fn keys_keep_the_order_of_the_file() {
    let made = body_of("{ z: 1, a: 2, m: 3 }", &json!({"id": "x"}));
    assert_eq!(made.to_string(), r#"{"z":1,"a":2,"m":3}"#);
}

#[test]
fn without_emit_the_payload_is_sent() {
    let rules = with_rule("", "");
    let payload = json!({"id": "x", "b": [1]});
    assert_eq!(body(&rules, &payload), payload);
}

#[test]
fn a_rules_emit_is_laid_over_the_files() {
    let rules = with_rule("emit: { a: 1, b: { c: 2 }, $merge: $.m }", "emit: { b: { d: 3 }, e: $.id }");
    assert_eq!(body(&rules, &json!({"id": "x", "m": {"z": 0}})), json!({"z": 0, "a": 1, "b": {"d": 3}, "e": "x"}));
    let rules = with_rule("", "emit: { extra: 1 }");
    assert_eq!(
        body(&rules, &json!({"id": "x"})),
        json!({"id": "x", "extra": 1}),
        "over the payload where there is none"
    );
}

#[test]
fn a_template_that_fails_leaves_an_empty_text_and_a_count() {
    let rules = with_rule(
        "emit: { ok: $.id, loop: '{% for i in range(10000) %}{% for j in range(10000) %}{{ j }}{% endfor %}{% endfor %}', bad: '{{ payload.id + 1 }}' }",
        "",
    );
    let decision = decide(&rules, &json!({"id": "x"}));
    let [Element::Event(draft)] = decision.elements.as_slice() else {
        panic!("{decision:?}");
    };
    assert_eq!(draft.body.value(), json!({"ok": "x", "loop": "", "bad": ""}));
    assert_eq!(decision.template_failures.count, 2);
    assert!(decision.template_failures.first.as_deref().is_some_and(|first| first.starts_with("emit.loop: ")));
}

#[test]
fn failing_templates_never_refuse_an_element_of_a_batch() {
    let rules = compile(
        "version: 1
split: '$[*]'
incident_key: $.id
rules: [{ name: all, then: trigger }]
emit: { loop: '{% for i in range(10000) %}{% for j in range(10000) %}{{ j }}{% endfor %}{% endfor %}' }
",
    );
    let decision = rules.decide(&Value::Array(vec![json!({"id": "x"}); 300]), CONTEXT);
    assert!(decision.elements.iter().all(|element| matches!(element, Element::Event(_))));
    assert_eq!(decision.template_failures.count, 300);
}
