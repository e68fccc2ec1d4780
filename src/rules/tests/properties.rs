//! What holds for any document, any path, any rule file.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::rules::index::Index;
use crate::rules::path::{Budget, JsonPath, Scope};

/// JSON documents with few names, so that paths hit something.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(1.0), Just(-0.0), Just(1e300)].prop_map(Value::from),
        prop_oneof!["[abkO ]{0,4}", Just("1".to_owned()), Just("<% x %>".to_owned()), Just("é\u{1F600}".to_owned())]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[abcd]", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Well-formed paths of every kind of segment.
fn paths() -> impl Strategy<Value = String> {
    let index = -3_i64..4;
    let bound = prop::option::of(-4_i64..5).prop_map(|bound| bound.map_or_else(String::new, |bound| bound.to_string()));
    let comparable = prop_oneof![
        Just("@".to_owned()),
        "[abcd]".prop_map(|name| format!("@.{name}")),
        (0_i64..4).prop_map(|index| format!("@[{index}]")),
        "[abcd]".prop_map(|name| format!("$.{name}")),
        prop_oneof![
            Just("1"),
            Just("-1"),
            Just("0.5"),
            Just("'a'"),
            Just("\"\""),
            Just("true"),
            Just("null"),
            Just("1e300")
        ]
        .prop_map(str::to_owned),
        Just("length(@)".to_owned()),
        Just("count(@.*)".to_owned()),
        Just("value(@.a)".to_owned()),
        Just("value(@..b)".to_owned()),
    ]
    .boxed();
    let operator = prop_oneof![Just("=="), Just("!="), Just("<")];
    // Where the two sides are no numbers or strings, or an index in a comparison is negative, the other
    // implementation departs from RFC 9535 (`null <= null` is true there, `true > false` is not).
    let bounded =
        (comparable.clone(), prop_oneof![Just("<="), Just(">"), Just(">=")], prop_oneof![Just("1"), Just("'a'")]);
    let test = prop_oneof![
        (comparable.clone(), operator, comparable)
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        bounded.prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        Just("@.a".to_owned()),
        Just("!@.b".to_owned()),
        Just("@.*".to_owned()),
        Just("@[?@.a]".to_owned()),
        Just("match(@.a, '[ab].*')".to_owned()),
        Just("search(@, 'a')".to_owned()),
    ]
    .boxed();
    let logical = prop_oneof![
        test.clone(),
        (test.clone(), test.clone()).prop_map(|(left, right)| format!("{left} && {right}")),
        (test.clone(), test.clone()).prop_map(|(left, right)| format!("{left} || {right}")),
        (test.clone(), test).prop_map(|(left, right)| format!("!({left} && {right})")),
    ]
    .boxed();
    let selector = prop_oneof![
        "[abcd]".prop_map(|name| format!("'{name}'")),
        Just("*".to_owned()),
        index.prop_map(|index| index.to_string()),
        (bound.clone(), bound.clone(), bound).prop_map(|(start, end, step)| format!("{start}:{end}:{step}")),
        logical.prop_map(|logical| format!("?{logical}")),
    ]
    .boxed();
    let segment = prop_oneof![
        4 => "[abcd]".prop_map(|name| format!(".{name}")),
        1 => Just(".*".to_owned()),
        1 => "[abcd]".prop_map(|name| format!("..{name}")),
        3 => (prop::bool::weighted(0.2), prop::collection::vec(selector, 1..3))
            .prop_map(|(deep, selectors)| format!("{}[{}]", if deep { ".." } else { "" }, selectors.join(", "))),
    ];
    prop::collection::vec(segment, 0..4).prop_map(|segments| format!("${}", segments.concat())).boxed()
}

/// Rule files that compile, put together from parts.
fn rule_files() -> impl Strategy<Value = String> {
    let operator = prop_oneof![
        Just("equals: a"),
        Just("one_of: [a, 1, null]"),
        Just("exists: false"),
        Just("exists: true"),
        Just("type: [string, integer]"),
        Just("contains: [a, b], ignore_case: true"),
        Just("contains_word: [OK, k], ignore_case: true"),
        Just("starts_with: a"),
        Just("matches: '^[ab]+$'"),
        Just("gt: 0, lte: 2.5"),
        Just("every: true, type: string"),
    ];
    let condition =
        (paths(), operator).prop_map(|(path, operator)| format!("{{ path: {}, {operator} }}", json!(path))).boxed();
    let when = prop_oneof![
        condition.clone(),
        (condition.clone(), condition.clone()).prop_map(|(left, right)| format!("{{ all: [{left}, {right}] }}")),
        (condition.clone(), condition.clone()).prop_map(|(left, right)| format!("{{ any: [{left}, {right}] }}")),
        condition.prop_map(|inner| format!("{{ not: {inner} }}")),
    ];
    let head = prop_oneof![
        Just(String::new()),
        Just("unwrap: $.a\n".to_owned()),
        paths().prop_map(|path| format!("split: {}\n", json!(path))),
        paths().prop_map(|path| format!(
            "validate: [{{ path: {}, required: true, max_length: 3, matches: a }}]\n",
            json!(path)
        )),
        paths().prop_map(|path| format!("update_on: {0}\noccurrence: {0}\n", json!(path))),
    ];
    let emit = paths().prop_map(|path| {
        format!(
            "emit: {{ a: {0}, b: '{{{{ payload.a.b }}}} {{{{ root }}}}', c: {{ $first: [{0}, x], $map: {{ a: b }}, $default: $$, $string: true, $upper: true, $truncate: 2 }}, d: {{ $merge: {0}, e: [{0}] }} }}\n",
            json!(path)
        )
    });
    let then = prop_oneof![Just("trigger"), Just("resolve"), Just("ignore"), Just("reject")];
    (head, emit, when, then, paths(), any::<bool>()).prop_map(|(head, emit, when, then, key, allow)| {
        format!(
            "version: 1\n{head}{emit}incident_key: [{}, $.id]\nplaceholders: {}\nrules:\n  - {{ name: a, when: {when}, then: {then} }}\n  - {{ name: b, then: trigger }}\n",
            json!(key),
            if allow { "allow" } else { "refuse" }
        )
    })
}

/// Values of every kind that `equals` tells apart or not, for few paths.
fn keyed_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        (0_i64..4).prop_map(Value::from),
        Just(json!(1.0)),
        Just(json!(-0.0)),
        Just(json!(0.5)),
        Just(json!(1e300)),
        Just(json!(u64::MAX)),
        Just(json!(18_446_744_073_709_551_616.0)),
        prop_oneof![Just("ok"), Just("OK"), Just("o\u{212A}"), Just("a"), Just("1"), Just("null"), Just("<% a %>")]
            .prop_map(Value::from),
        Just(json!([1])),
        Just(json!({"b": 1})),
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
    (prop::collection::vec((when, then), 1..40), any::<bool>(), any::<bool>()).prop_map(|(rules, allow, split)| {
        let rules: String = rules
            .iter()
            .enumerate()
            .map(|(index, (when, then))| format!("  - {{ name: r{index}, when: {when}, then: {then} }}\n"))
            .collect();
        let placeholders = if allow { "allow" } else { "refuse" };
        let split = if split { "split: $\n" } else { "" };
        format!("version: 1\n{split}incident_key: $.id\nplaceholders: {placeholders}\nrules:\n{rules}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn paths_select_what_another_implementation_selects(document in documents(), text in paths()) {
        let ours = JsonPath::parse(&text);
        let theirs = serde_json_path::JsonPath::parse(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {:?} {:?}", text, ours.err(), theirs.err());
        let (Ok(ours), Ok(theirs)) = (JsonPath::parse(&text), serde_json_path::JsonPath::parse(&text)) else {
            return Ok(());
        };
        let budget = Budget::new(10_000_000);
        let nodes = ours.select(Scope { element: &document, root: &document, budget: &budget });
        prop_assert!(!budget.is_exhausted());
        // Compared by address: the same nodes, in the same order.
        let ours: Vec<*const Value> = nodes.as_slice().iter().map(|node| std::ptr::from_ref(*node)).collect();
        let theirs: Vec<*const Value> = theirs.query(&document).iter().map(|node| std::ptr::from_ref(*node)).collect();
        prop_assert_eq!(ours, theirs, "{} on {}", text, document);
    }

    #[test]
    fn no_text_as_a_path_panics(text in "\\PC{0,40}") {
        if let Err(error) = JsonPath::parse(&text) {
            prop_assert!(text.get(error.range.clone()).is_some(), "{:?} has no {:?}", text, error.range);
        }
    }

    #[test]
    fn no_text_that_resembles_a_path_panics(text in "[$@.?*\\[\\]()'\" a-c0-9:,=!<>&|\\\\~\u{e9}\u{a0}-]{0,24}") {
        let text = format!("${text}");
        if let Err(error) = JsonPath::parse(&text) {
            prop_assert!(text.get(error.range.clone()).is_some(), "{:?} has no {:?}", text, error.range);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_document_under_any_rules_is_decided_and_explained_alike(document in documents(), yaml in rule_files()) {
        let (rules, findings) = try_compile(&yaml);
        prop_assert!(rules.is_some(), "{}\n{}", yaml, findings.render(false));
        let decision = decide(&rules.unwrap(), &document);
        prop_assert!(!decision.elements.is_empty());
        for element in &decision.elements {
            match element {
                Element::Refused { violations, .. } => prop_assert!(!violations.is_empty()),
                Element::Event(draft) => prop_assert!(!draft.incident_key.is_empty() && draft.incident_key.len() <= 512),
                Element::Ignored { .. } => {}
            }
        }
    }

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

    #[test]
    fn no_text_as_a_rule_file_panics(
        text in "(version: 1\n)?(rules|emit|validate|when|incident_key|split): [ \\[{'$.a-z:,}\\]]{0,40}\n?\\PC{0,30}"
    ) {
        let (rules, findings) = try_compile(&text);
        prop_assert!(rules.is_some() || findings.has_errors());
    }
}
