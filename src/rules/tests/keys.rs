//! `incident_key`: what its parts take, leave out and refuse.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lenient_json::Repair;

/// A file of one rule with this key.
fn rules(key: &str) -> RuleSet {
    compile(&format!("version: 1\nincident_key: {key}\nrules: [{{ name: all, then: trigger }}]\n"))
}

/// The incident key of a payload, or the first violation.
fn key_of(rules: &RuleSet, payload: &Value) -> Result<String, String> {
    match decide(rules, payload).elements.as_slice() {
        [Element::Event(draft)] => Ok(draft.incident_key.clone()),
        [Element::Refused { violations, .. }] => Err(format!("{}: {}", violations[0].path, violations[0].problem)),
        elements => panic!("{elements:?}"),
    }
}

/// The key is this, or the violation begins so.
fn assert_key(rules: &RuleSet, payload: &Value, expected: Result<&str, &str>) {
    let found = key_of(rules, payload);
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{payload}"),
        (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}, not {expected}"),
        _ => panic!("{found:?}, not {expected:?}"),
    }
}

#[test]
fn a_part_takes_what_it_says_and_refuses_the_rest() {
    let payload = json!({
        "text": "[FIRING #4711] Host db-1 down on {{ $labels.disk }}", "n": 12_345, "id": "x", "blank": " ", "null": null,
        "flag": true, "list": ["a", "b"], "labels": {"b": 1, "a": "x"}, "none": {}, "open": {"a": ["{{ b }}"]},
        "named": {"${x}": 1}, "large": {"a": 1e300},
    });
    for (key, expected) in [
        // A text out of a text, or of a number.
        (r"{ path: $.text, capture: '#(\d+)' }", Ok("4711")),
        (r"{ path: $.text, capture: '(?:host|Host) (?<host>\S+)' }", Ok("db-1")),
        (r"{ path: $.text, capture: '\b(\w+)\b' }", Ok("FIRING")),
        ("{ path: $.n, capture: '^(..)' }", Ok("12")),
        (r"{ path: $.text, capture: '!(\d+)' }", Err(r"$.text: the incident key finds nothing here by /!(\d+)/")),
        ("{ path: $.text, capture: '#(x)?' }", Err("$.text: the incident key finds nothing here by /#(x)?/")),
        (r"{ path: $.text, capture: '\](\s)' }", Err(r"$.text: the incident key finds nothing here by /\](\s)/")),
        (
            "{ path: $.text, capture: 'on (.*)' }",
            Err("$.text: the incident key holds an unrendered placeholder, {{ $labels.disk }};"),
        ),
        ("$.text", Err("$.text: the incident key holds an unrendered placeholder, {{ $labels.disk }};")),
        // The first that is there.
        ("{ $first: [$.missing, $.null, $.blank, $.id, $.n] }", Ok("x")),
        (r"{ $first: [$.id, $.text], capture: '#(\d+)' }", Ok("4711")),
        ("{ $first: [$.missing, $.blank] }", Err("$.missing, $.blank: the incident key needs one of these")),
        ("{ $first: [$.flag, $.id] }", Err("$.flag: the incident key has to be a string or a number, not boolean")),
        ("{ $first: ['$.list[*]', $.id] }", Err("$.list[*]: the incident key needs one value here and finds 2")),
        // What may be left out.
        ("[$.id, { path: $.missing, optional: true }]", Ok("x")),
        ("[$.id, { path: $.null, optional: true }]", Ok("x")),
        ("[$.id, { path: $.blank, optional: true }]", Ok("x")),
        ("[$.id, { path: $.none, canonical: true, optional: true }]", Ok("x")),
        (r"[$.id, { path: $.text, capture: '!(\d+)', optional: true }]", Ok("x")),
        ("[$.id, { $first: [$.missing, $.blank], optional: true }]", Ok("x")),
        ("[$.id, { path: $.flag, optional: true }]", Err("$.flag: the incident key has to be a string or a number")),
        ("[$.id, { path: $.text, optional: true }]", Err("$.text: the incident key holds an unrendered placeholder")),
        (
            "[{ path: $.missing, optional: true }, { path: $.blank, optional: true }]",
            Err("$.missing, $.blank: the incident key needs one of its parts, and none is there"),
        ),
        // Objects.
        ("$.labels", Err("$.labels: the incident key has to be a string or a number, not object")),
        ("{ path: $.labels, canonical: true }", Ok("d90413ac42471d2d4fe60bd9bad4e5d0")),
        ("[$.id, { path: $.id, canonical: true }]", Ok("x/x")),
        ("{ path: $.none, canonical: true }", Err("$.none: the incident key can't be blank")),
        (
            "{ path: $.list, canonical: true }",
            Err("$.list: the incident key has to be a string, a number or an object, not array"),
        ),
        (
            "{ path: $.open, canonical: true }",
            Err("$.open: the incident key holds an unrendered placeholder, {{ b }};"),
        ),
        ("{ path: $.named, canonical: true }", Err("$.named: the incident key holds an unrendered placeholder, ${x};")),
        (
            "{ path: $.large, canonical: true }",
            Err("$.large: the incident key can't be a number too large to be exact"),
        ),
    ] {
        assert_key(&rules(key), &payload, expected);
    }
    let allowed = rules("{ path: $.text, capture: 'on (.*)' }\nplaceholders: allow");
    assert_eq!(key_of(&allowed, &payload).as_deref(), Ok("{{ $labels.disk }}"));
}

#[test]
fn a_part_that_is_missing_or_blank_is_told_with_the_way_to_do_without_it() {
    let told = |key: &str, payload: &Value| {
        let decision = decide(&rules(key), payload);
        let [Element::Refused { violations, .. }] = decision.elements.as_slice() else { panic!("{decision:?}") };
        violations.iter().map(|violation| violation.problem.clone()).collect::<Vec<_>>().join("\n")
    };
    for (key, payload, remedy) in [
        ("[$.host, $.service]", json!({"host": "h", "service": " "}), "`{ path: $.service, optional: true }`"),
        ("[$.host, $.service]", json!({"host": "h"}), "`{ path: $.service, optional: true }`"),
        ("[$.host, $.service]", json!({"host": "h", "service": null}), "`{ path: $.service, optional: true }`"),
        ("[$.host, \"$['a b']\"]", json!({"host": "h", "a b": ""}), "`{ path: '$[''a b'']', optional: true }`"),
        (
            r"[$.host, { path: $.text, capture: '#(\d+)' }]",
            json!({"host": "h", "text": "a"}),
            "`optional: true` beside it",
        ),
        ("[$.host, { $first: [$.a, $.b] }]", json!({"host": "h", "b": ""}), "`optional: true` beside it"),
    ] {
        let problem = told(key, &payload);
        assert!(problem.contains(remedy), "{key}: {problem}");
    }
    // The only part has to be there, and what is wrong is not made right by leaving it out.
    for (key, payload) in
        [("$.host", json!({"host": ""})), ("[$.host, $.service]", json!({"host": "h", "service": true}))]
    {
        let problem = told(key, &payload);
        assert!(!problem.contains("optional"), "{key}: {problem}");
    }
}

#[test]
fn a_part_that_is_left_out_keeps_its_place() {
    let rules = rules(
        "[{ path: $.host, optional: true }, { path: $.service, optional: true }, { path: $.check, optional: true }]",
    );
    for (payload, expected) in [
        (json!({"host": "h", "service": "s", "check": "c"}), "h/s/c"),
        (json!({"host": "h", "service": "s"}), "h/s"),
        (json!({"host": "h"}), "h"),
        (json!({"host": "h/s"}), "h%2Fs"),
        (json!({"host": "h", "check": "s"}), "h//s"),
        (json!({"service": "h"}), "/h"),
        (json!({"check": "h"}), "//h"),
    ] {
        assert_eq!(key_of(&rules, &payload).as_deref(), Ok(expected), "{payload}");
    }
}

#[test]
fn a_rule_may_have_a_key_of_its_own() {
    let rules = compile(
        "version: 1
incident_key: [$.host, $.check]
rules:
  - { name: group, when: { path: $.group, exists: true }, then: trigger, incident_key: { path: $.group, capture: '(.*)' } }
  - { name: over, when: { path: $.over, exists: true }, then: resolve, incident_key: $.over.group }
  - { name: single, then: trigger }
",
    );
    for (payload, expected) in [
        (json!({"group": "g", "host": "h"}), Ok("g")),
        (json!({"over": {"group": "g"}}), Ok("g")),
        (json!({"host": "h", "check": "c"}), Ok("h/c")),
        (json!({"over": {"group": null}, "host": "h", "check": "c"}), Err("$.over.group: the incident key has to be")),
    ] {
        assert_key(&rules, &payload, expected);
    }
    // Where each rule that makes events has its own, the file needs none.
    compile(
        "{ version: 1, rules: [{ name: a, when: { path: $.a, exists: true }, then: ignore }, { name: b, then: trigger, incident_key: $.id }] }",
    );
}

#[test]
fn a_person_is_told_how_each_part_came_to_be() {
    let rules = rules(r"[{ $first: [$.id, $.text], capture: '#(\d+)' }, { path: $.service, optional: true }, $.host]");
    let (_, trace) = rules.explain(&json!({"id": "none", "text": "#7 down", "service": "", "host": "h"}), CONTEXT);
    let told: Vec<String> = trace.elements[0]
        .reads
        .iter()
        .map(|read| match &read.part {
            None => format!("{} as it is", read.path),
            Some(part) => format!("{} {} {} {:?}", read.path, part.how.join(", "), part.verdict, part.text),
        })
        .collect();
    assert_eq!(
        told,
        [
            r"$.id $first, capture #(\d+) next None",
            r#"$.text $first, capture #(\d+) taken Some("7")"#,
            "$.service optional left out None",
            "$.host as it is",
        ]
    );
    let (_, trace) = rules.explain(&json!({"text": "down", "host": "h"}), CONTEXT);
    let verdicts: Vec<&str> =
        trace.elements[0].reads.iter().filter_map(|read| Some(read.part.as_ref()?.verdict)).collect();
    assert_eq!(verdicts, ["next", "refused", "left out"]);
}

/// A text that a part takes, or one of the ways in which there is none.
fn parts() -> impl Strategy<Value = Vec<Option<Value>>> {
    let text = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "a/b", "/", "%", "%2F", "a/", "/b", "//", "a%"]).prop_map(|text| Some(json!(text))),
        1 => (0..3).prop_map(|number| Some(json!(number))),
        3 => prop::sample::select(vec![None, Some(json!(null)), Some(json!("")), Some(json!(" "))]),
    ];
    prop::collection::vec(text, 3)
}

fn payload_of(parts: &[Option<Value>]) -> Value {
    let members =
        ["a", "b", "c"].into_iter().zip(parts).filter_map(|(name, part)| Some((name.to_owned(), part.clone()?)));
    Value::Object(members.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn keys_are_equal_where_all_parts_are_and_nowhere_else(one in parts(), other in parts()) {
        let rules = rules("[{ path: $.a, optional: true }, { path: $.b, optional: true }, { path: $.c, optional: true }]");
        let there = |parts: &[Option<Value>]| -> Vec<Option<String>> {
            let text = |part: &Value| part.as_str().map(str::to_owned).or_else(|| part.as_i64().map(|number| number.to_string()));
            parts.iter().map(|part| part.as_ref().and_then(text).filter(|text| !text.trim().is_empty())).collect()
        };
        let keys = [&one, &other].map(|parts| key_of(&rules, &payload_of(parts)));
        for (parts, key) in [&one, &other].into_iter().zip(&keys) {
            prop_assert_eq!(key.is_ok(), there(parts).iter().any(Option::is_some), "{:?}: {:?}", parts, key);
            prop_assert_eq!(key, &key_of(&rules, &payload_of(parts)), "the same payload has the same key");
        }
        if let [Ok(key), Ok(another)] = &keys {
            prop_assert_eq!(key == another, there(&one) == there(&other), "{} and {}", key, another);
        }
    }

    #[test]
    fn objects_have_the_same_hash_where_they_are_equal_and_nowhere_else(
        members in prop::collection::vec(("[ab\"{},:]{1,2}", prop_oneof![
            "[ab\"{},:1]{0,2}".prop_map(Value::from), (0..3).prop_map(Value::from), Just(json!(1.0)), Just(json!(null)), Just(json!([])),
            Just(json!({"a": 1})), Just(json!({"a": 1.0, "b": [true]})), Just(json!({"b": [true], "a": 1})),
        ]), 1..4),
        others in prop::collection::vec(("[ab\"{},:]{1,2}", prop_oneof![
            "[ab\"{},:1]{0,2}".prop_map(Value::from), (0..3).prop_map(Value::from), Just(json!(null)), Just(json!({"a": 1})),
        ]), 1..4),
    ) {
        let rules = rules("{ path: $.labels, canonical: true }\nplaceholders: allow");
        let of = |members: Vec<(String, Value)>| Value::Object(members.into_iter().collect());
        let hash = |labels: &Value| key_of(&rules, &json!({ "labels": labels })).unwrap();
        let (labels, other) = (of(members), of(others));
        let Value::Object(kept) = &labels else { unreachable!() };
        let turned = Value::Object(kept.iter().rev().map(|(name, value)| (name.clone(), value.clone())).collect());
        prop_assert_eq!(hash(&labels), hash(&turned));
        prop_assert_eq!(hash(&labels).len(), 32);
        let equal = value::equal(&labels, &other, &budget::Budget::new(100_000));
        prop_assert_eq!(hash(&labels) == hash(&other), equal, "{} and {}", labels, other);
    }
}

/// Two hosts that differ only in what was lost must not share a key; a sender that sends U+FFFD itself means it.
#[test]
fn a_part_is_refused_where_something_in_it_was_replaced() {
    let payload =
        json!({"host": "b\u{fffd}ro-1", "labels": {"host": ["b\u{fffd}ro"]}, "id": "x", "text": "\u{fffd} #4711"});
    let rows = [
        ("$.host", true),
        ("[$.id, { path: $.host, optional: true }]", true),
        ("{ $first: [$.host, $.id] }", true),
        ("{ path: $.labels, canonical: true }", true),
        ("$.id", false),
        (r"{ path: $.text, capture: '#(\d+)' }", false),
    ];
    for (key, is_hit) in rows {
        let rules = rules(key);
        for (repair, replaces) in
            [(Repair::ReplacedBytes, true), (Repair::Surrogate, true), (Repair::ControlCharacter, false)]
        {
            let repairs = [Repair::TrailingComma, repair].into_iter().collect();
            let decision = rules.decide(&payload, Context { json: JsonReading::Lenient, repairs, ..CONTEXT });
            match decision.elements.as_slice() {
                [Element::Event(_)] => assert!(!(is_hit && replaces), "{key} {repair:?}"),
                [Element::Refused { violations, .. }] => {
                    assert!(is_hit && replaces, "{key} {repair:?}: {violations:?}");
                    assert!(violations[0].problem.contains("U+FFFD in the place of"), "{violations:?}");
                }
                elements => panic!("{elements:?}"),
            }
        }
        assert!(key_of(&rules, &payload).is_ok(), "{key}");
    }
    let unwrapped = compile("{ version: 1, unwrap: $.m, incident_key: $.id, rules: [{ name: a, then: trigger }] }");
    let lenient = Context { json: JsonReading::Lenient, ..CONTEXT };
    let within = unwrapped.decide(&json!({"m": r#"{"id": "\ud83d"}"#}), lenient);
    assert!(matches!(within.elements[..], [Element::Refused { .. }]), "{within:?}");
}

/// One that looks like another because of what was lost would make a page pass for a late copy. What updates is compared
/// as it was read: the page is there already.
#[test]
fn an_occurrence_in_which_something_was_replaced_counts_as_missing() {
    let rules = compile(
        "version: 1\nincident_key: $.id\noccurrence: [$.at, $.run]\nupdate_on: $.level\nrules: [{ name: a, then: trigger }]\n",
    );
    let draft = |level: &str, repair: Repair| {
        let payload = json!({"id": "x", "at": 1, "run": "b\u{fffd}ro", "level": level});
        let context = Context { json: JsonReading::Lenient, repairs: [repair].into_iter().collect(), ..CONTEXT };
        match rules.decide(&payload, context).elements.remove(0) {
            Element::Event(draft) => draft,
            other => panic!("{other:?}"),
        }
    };
    for (repair, is_kept) in [
        (Repair::ReplacedBytes, false),
        (Repair::Surrogate, false),
        (Repair::Cesu8, true),
        (Repair::ControlCharacter, true),
    ] {
        assert_eq!(draft("high", repair).occurrence.is_some(), is_kept, "{repair:?}");
    }
    let update = |level: &str| draft(level, Repair::ReplacedBytes).update;
    assert_eq!(update("h\u{fffd}ch"), update("h\u{fffd}ch"));
    assert_ne!(update("h\u{fffd}ch"), update("hoch"));
}
