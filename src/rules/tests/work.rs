//! Work has an end: whatever a rule file asks and a payload brings, a decision takes a bounded time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::*;
use crate::rules::budget::Budget;
use crate::rules::path::{JsonPath, Scope};

/// The steps that a decision may take: see `decide`.
const STEPS: u64 = 4_000_000;
/// Far more than it takes without optimisation; without a budget each of these takes minutes to years.
const ENOUGH: Duration = Duration::from_secs(20);

/// The time that this thread computed, whatever else the machine does meanwhile.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// A text of `a` and `b` that no automaton can foresee.
fn unforeseeable(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(1);
    (0..bytes).map(|_| if random.bool() { 'a' } else { 'b' }).collect()
}

#[test]
fn hostile_paths_come_to_an_end() {
    let wide = json!(vec![1; 60_000]);
    let objects = json!(vec![json!({"a": 1, "b": "x", "c": [1, 2]}); 10_000]);
    let nested = (0..120).fold(json!(1), |inner, _| json!([inner, {"a": 1}]));
    let long = "n".repeat(4_000);
    let texts = json!({
        "t": unforeseeable(200_000), "u": unforeseeable(200_000), "p": "(a|b)*a(a|b){200}c", "long": "a".repeat(5_000),
        "l": vec![0; 2_000], "ps": (0..2_000).map(|index| format!("\\w{{20}}{index}")).collect::<Vec<_>>(),
    });
    for (path, document) in [
        ("$[?count($..*) > 1]".to_owned(), &wide),
        ("$[?@ == $[0] && $[?@ == 2]]".to_owned(), &wide),
        ("$..*..*..*..*..*".to_owned(), &nested),
        (format!("$..[{}]", ["*"; 900].join(",")), &objects),
        (format!("$..[{}]", ["'a'"; 900].join(",")), &objects),
        (format!("$[?$[?@['{long}']]]"), &objects),
        ("$[?$[?@.*]]".to_owned(), &objects),
        ("$[?$ == $]".to_owned(), &objects),
        ("$.l[?$.l[?$.t == $.u]]".to_owned(), &texts),
        ("$.l[?$.l[?length($.t) == 1]]".to_owned(), &texts),
        ("$.l[?search($.t, '(a|b)*a(a|b){200}c')]".to_owned(), &texts),
        ("$.l[?search($.t, '(ab|ba)*ab(ab|ba){30}c')]".to_owned(), &texts),
        ("$.l[?search($.t, $.p)]".to_owned(), &texts),
        ("$.l[?search($.t, $.long)]".to_owned(), &texts),
        ("$.ps[?search($.t, @)]".to_owned(), &texts),
    ] {
        let parsed = JsonPath::parse(&path).unwrap_or_else(|error| panic!("{path}: {}", error.message));
        let budget = Budget::new(STEPS);
        let started = computed();
        let nodes = parsed.select(Scope { element: document, root: document, budget: &budget });
        let took = computed() - started;
        let shown = &path[..path.len().min(60)];
        assert!(budget.is_exhausted(), "{shown}: {} nodes", nodes.as_slice().len());
        assert!(took < ENOUGH, "{shown} took {took:?}");
    }
}

#[test]
fn hostile_patterns_and_texts_come_to_an_end() {
    let text = unforeseeable(200_000);
    let payload = json!({"id": "x", "t": text, "l": vec![0; 500]});
    let split = json!(vec![payload.clone(); 20]);
    for (head, rule) in [
        ("", "when: { path: $.t, matches: '(a|b)*a(a|b){200}c' }"),
        ("", "when: { path: $.t, matches: '[^x]*a[^x]{120}c', ignore_case: true }"),
        ("validate: [{ path: $.t, not_matches: '(a|b)*a(a|b){200}c' }]", "when: { path: $.t, exists: true }"),
        (
            "validate: [{ path: \"$.l[?search($.t, 'abc')]\", min_length: 9 }]",
            "when: { path: \"$.l[?$.l[?search($.t, 'abcabcabcabcabcabcabcabcabcabc')]]\", exists: true }",
        ),
    ] {
        let rules = with_rule(head, rule);
        let started = computed();
        let said = format!("{:?}", rules.decide(&payload, CONTEXT).elements);
        assert!(said.contains("more work than the relay allows"), "{rule}: {said:.200}");
        let took = computed() - started;
        assert!(took < ENOUGH, "{rule} took {took:?}");
    }
    // What no sender can make slow costs by the length of the text, however many parts it has.
    for rule in [
        "when: { path: $.t, matches: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T' }",
        "when: { path: $.t, matches: '(?i)critical|alarm|problem|down|failed|unreachable|timeout|degraded' }",
        r"when: { path: $.t, matches: '\w+:\s*(CRITICAL|ALARM)' }",
        "when: { path: $.t, contains_word: [CRITICAL, ALARM, PROBLEM], ignore_case: true }",
    ] {
        let rules = with_rule("split: $[*]\notherwise: ignore", rule);
        assert!(
            rules.decide(&split, CONTEXT).elements.iter().all(|element| matches!(element, Element::Ignored { .. }))
        );
    }
}

#[test]
fn hostile_keys_and_captures_come_to_an_end() {
    let text = unforeseeable(200_000);
    let labels: serde_json::Map<String, Value> =
        (0..10_000).map(|index| (format!("label{index}"), json!(index))).collect();
    let payload = json!({"t": text, "labels": labels, "l": vec![json!({"id": "x"}); 5_000]});
    let head = "version: 1\nsplit: $.l[*]\nrules: [{ name: all, then: trigger }]\n";
    for rest in [
        "incident_key: [$.id, { path: $$.labels, canonical: true }]",
        "incident_key: [$.id, { path: $$.t, capture: '^(?:a|b)*(aa)' }]",
        "incident_key: [$.id, { path: $$.t, capture: '(?:a|b)*a(?:a|b){200}(c)', optional: true }]",
        "incident_key: $.id\nemit: { a: { $path: $$.t, $capture: '^((?:a|b)*)$', $truncate: 1 } }",
        "incident_key: $.id\nupdate_on: [$$.labels]\nemit: { a: b }",
        "incident_key: $.id\noccurrence: [$$.labels]\nemit: { a: b }",
    ] {
        let rules = compile(&format!("{head}{rest}\n"));
        let started = computed();
        let said = format!("{:?}", rules.decide(&payload, CONTEXT).elements.last());
        assert!(said.contains("more work than the relay allows"), "{rest}: {said:.300}");
        let took = computed() - started;
        assert!(took < ENOUGH, "{rest} took {took:?}");
    }
    // What one reads in earnest costs little: an id out of each text of a large batch.
    let alerts = vec![json!({"text": format!("[FIRING #4711] {}", "Host db-1 down. ".repeat(60))}); 2_000];
    let rules = compile(
        r"{ version: 1, split: '$[*]', rules: [{ name: all, then: trigger }], incident_key: { path: $.text, capture: '#(\d+)' }, emit: { title: { $path: $.text, $capture: '\] (.*)' } } }",
    );
    let decision = rules.decide(&Value::Array(alerts), CONTEXT);
    assert!(
        decision.elements.iter().all(|element| matches!(element, Element::Event(_))),
        "{:?}",
        decision.elements.last()
    );
}

#[test]
fn the_reasons_of_a_batch_that_no_rule_matches_come_to_an_end() {
    // The index leaves all rules out, so that deciding takes no steps to speak of.
    let rule = |number: usize| {
        let tests: String = (0..200).map(|test| format!(", {{ path: $.r{number}t{test}, exists: true }}")).collect();
        format!(
            "  - {{ name: r{number}, when: {{ all: [{{ path: $.state, equals: s{number} }}{tests}] }}, then: trigger }}\n"
        )
    };
    let listed: String = (0..50).map(rule).collect();
    let head = "version: 1\nsplit: $[*]\nplaceholders: allow\nincident_key: $.id";
    let rules = compile(&format!("{head}\nrules:\n{listed}"));
    let payload = json!(vec![json!({}); 10_000]);
    let started = computed();
    let decision = rules.decide(&payload, CONTEXT);
    let took = computed() - started;
    assert!(took < ENOUGH, "it took {took:?}");
    assert_eq!(decision.elements.len(), 10_000);
    for element in decision.elements {
        let Element::Refused { violations, .. } = element else { panic!("{element:?}") };
        assert_eq!(violations.len(), 5);
        assert!(violations.iter().all(|one| one.problem == "no rule matches, and this is missing"), "{violations:?}");
    }
}

#[test]
fn singular_paths_allocate_nothing() {
    let document = json!({"tags": {"policy_id": "p1", "list": [{"a": null}]}});
    for (path, expected) in [
        ("$", true),
        ("$.tags.policy_id", true),
        ("$['tags']['list'][0]['a']", true),
        ("$$.tags.list[-1]", true),
        ("$.tags.list[7].a", false),
        ("$.none.at.all", false),
    ] {
        let path = JsonPath::parse(path).unwrap();
        let budget = Budget::new(STEPS);
        let mut found = false;
        let used = allocation_counter::measure(|| {
            found = path.first(Scope { element: &document, root: &document, budget: &budget }).is_some();
        });
        assert_eq!(found, expected, "{path}");
        assert_eq!(used.count_total, 0, "{path}");
    }
    let several = JsonPath::parse("$.tags.*").unwrap();
    let budget = Budget::new(STEPS);
    let used = allocation_counter::measure(|| {
        several.first(Scope { element: &document, root: &document, budget: &budget });
    });
    assert!(used.count_total > 0, "the allocator does not count");
}
