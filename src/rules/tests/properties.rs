//! Properties of any document, any path, any rule file.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::rules::budget::Budget;
use crate::rules::path::{JsonPath, Scope};

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
            prop::collection::vec((prop_oneof![9 => "[abcd]", 1 => "[é'\"\\\\\n\u{1F600}]"], inner), 0..5)
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
        prop::sample::select(vec![
            "\"a\"",
            "'é'",
            "'\\u00e9'",
            "'\\u0061'",
            "'\\''",
            "\"'\"",
            "'\"'",
            "\"\\\"\"",
            "'\\\\'",
            "'\\n'",
            "'\u{1F600}'",
        ])
        .prop_map(str::to_owned),
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

/// Parts of paths and of what is no path, to be put anywhere.
const PARTS: [&str; 72] = [
    "$",
    "@",
    ".",
    "..",
    "*",
    "[",
    "]",
    "(",
    ")",
    "?",
    "'a'",
    "\"b\"",
    "a",
    "_",
    "é",
    "0",
    "1",
    "-1",
    "01",
    "-0",
    "1.5",
    "1e3",
    "9007199254740991",
    "9007199254740992",
    "true",
    "null",
    ":",
    ",",
    "==",
    "!=",
    "<",
    ">=",
    "=",
    "=~",
    "!",
    "&&",
    "||",
    "&",
    " ",
    "\t",
    "\n",
    "length(",
    "count(",
    "value(",
    "match(",
    "search(",
    "in(",
    "foo(",
    "length",
    " in ",
    " and ",
    "not ",
    "@.a",
    "@.*",
    "..b",
    "['a']",
    "[0]",
    "[?@.a]",
    "'\\u0041'",
    "'\\x'",
    "'\\ud800'",
    "'\\''",
    "-",
    "E",
    "\u{a0}",
    "\u{7f}",
    "\\",
    "/",
    "[1:2]",
    "[::-1]",
    "",
    "''",
];
/// Paths that are refused although RFC 9535 allows them, or could: it would never match, or not as it looks.
const DELIBERATE: [&str; 4] =
    ["is no regular expression", "an invisible character", "not exact in JSON", "brackets nest"];

fn edited(text: &str, place: prop::sample::Index, part: &str, replaces: bool) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = place.index(characters.len() + 1);
    let behind = characters.get(at + usize::from(replaces)..).unwrap_or_default();
    characters[..at].iter().copied().chain(part.chars()).chain(behind.iter().copied()).collect()
}

fn blank_before_dots(text: &str) -> bool {
    text.match_indices("..").any(|(at, _)| text[..at].ends_with([' ', '\t', '\n']))
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
            "emit: {{ a: {0}, b: '{{{{ payload.a.b }}}} {{{{ root }}}}', c: {{ $first: [{0}, x], $map: {{ a: b }}, $default: $$, $string: true, $upper: true, $capture: '(.[AB]?)', $truncate: 2 }}, d: {{ $merge: {0}, e: [{0}] }} }}\n",
            json!(path)
        )
    });
    let then = prop_oneof![Just("trigger"), Just("resolve"), Just("ignore"), Just("reject")];
    (head, emit, when, then, paths(), any::<bool>()).prop_map(|(head, emit, when, then, key, allow)| {
        format!(
            "version: 1\n{head}{emit}incident_key: [{{ path: {0}, capture: '(.)', optional: true }}, {{ $first: [$.id, {0}], canonical: true }}]\nplaceholders: {1}\nrules:\n  - {{ name: a, when: {when}, then: {then} }}\n  - {{ name: b, then: trigger }}\n",
            json!(key),
            if allow { "allow" } else { "refuse" }
        )
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
    fn what_another_implementation_refuses_is_refused_and_nothing_else(
        text in paths(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(PARTS.to_vec()), any::<bool>()), 0..5),
    ) {
        let text = edits.into_iter().fold(text, |text, (place, part, replaces)| edited(&text, place, part, replaces));
        let ours = JsonPath::parse(&text);
        let theirs = serde_json_path::JsonPath::parse(&text);
        match (&ours, &theirs) {
            // `$$` is ours. RFC 9535 allows blanks before `..`, which theirs refuses.
            (Ok(_), Err(_)) => prop_assert!(text.starts_with("$$") || blank_before_dots(&text), "{}", text),
            (Err(error), Ok(_)) => prop_assert!(
                DELIBERATE.iter().any(|part| error.message.contains(part) || error.help.as_ref().is_some_and(|help| help.contains(part))), "{}: {:?}", text, error
            ),
            _ => {}
        }
        if let Err(error) = &ours {
            prop_assert!(text.get(error.range.clone()).is_some(), "{:?} has no {:?}", text, error.range);
            prop_assert!(!error.message.is_empty());
        }
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
    fn no_text_as_a_rule_file_panics(
        text in "(version: 1\n)?(rules|emit|validate|when|incident_key|split): [ \\[{'$.a-z:,}\\]]{0,40}\n?\\PC{0,30}"
    ) {
        let (rules, findings) = try_compile(&text);
        prop_assert!(rules.is_some() || findings.has_errors());
    }
}
