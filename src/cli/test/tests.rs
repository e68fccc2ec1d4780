use super::*;
use crate::authoring::rule_tests::Difference;
use crate::rules::{Gap, Lack, PartKind};

/// A folder with some files; the tests in `t.test.yaml` are run.
fn run(files: &[(&str, &str)]) -> Report {
    run_with(files, Selection::default())
}

fn run_with(files: &[(&str, &str)], selection: Selection<'_>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    super::run(&[folder.path().to_owned()], None, selection)
}

/// The report on a test file of [`RULES`].
pub(super) fn run_file(file: &str) -> Report {
    run(&[("rules.yaml", RULES), ("t.test.yaml", file)])
}

/// The differences, as `test: at: expected | found`.
fn differences(tests: &str) -> Vec<String> {
    let file = format!("rules: rules.yaml\ntests:\n{tests}");
    let report = run(&[("rules.yaml", RULES), ("t.test.yaml", &file)]);
    assert!(!report.findings.has_errors() && report.unreadable.is_empty(), "{}", report.findings.render(false));
    report
        .tests()
        .flat_map(|test| {
            test.differences.iter().map(|d| format!("{}: {}: {} | {}", test.name, d.at, d.expected, d.found))
        })
        .collect()
}

/// The errors of a test file, rendered.
fn mistakes(file: &str) -> String {
    let report = run(&[("rules.yaml", RULES), ("t.test.yaml", file)]);
    assert_eq!(report.exit_code(), 2, "{report:?}");
    format!("{}{}", report.findings.render(false), report.unreadable.join("\n"))
}

const RULES: &str = "
version: 1
incident_key: $.id
update_on: $.severity
rules:
  - { name: problem, when: { path: $.state, equals: BAD }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: GOOD }, then: resolve, priority: high }
  - { name: chatter, when: { path: $.state, equals: TALK }, then: ignore }
emit: { $merge: $, n: 1, list: [1, { a: b }] }
";

const BAD: &str = "payload: { id: e1, state: BAD }";

#[test]
fn what_is_as_expected_passes() {
    let tests = format!(
        "  - {{ name: a, {BAD}, expect: {{ verdict: events, events: [ {{ action: trigger, rule: problem, incident_key: e1, status: queued, body: {{ n: 1.0, list: [1, {{}}] }} }} ] }} }}
  - {{ name: b, {BAD}, fresh: true, expect: {{ events: [ {{ body_exact: {{ id: e1, state: BAD, n: 1, list: [1, {{ a: b }}] }} }} ] }} }}
  - {{ name: c, payload: {{ state: BAD }}, expect: {{ verdict: refused, events: [], errors: [ {{ path: $.id, problem: missing }} ] }} }}
  - {{ name: d, payload: {{ state: TALK }}, expect: {{ verdict: ignored, errors: [] }} }}
  - {{ name: e, payload: {{ id: e1, state: GOOD }}, expect: {{ events: [ {{ action: resolve, priority: high }} ] }} }}
"
    );
    assert_eq!(differences(&tests), Vec::<String>::new());
}

#[test]
fn what_differs_is_told_with_its_place() {
    let row = |expect: &str| differences(&format!("  - {{ name: t, {BAD}, expect: {{ {expect} }} }}\n"));
    for (expect, told) in [
        ("verdict: refused", "t: verdict: refused | events"),
        ("events: []", "t: events: 0 events | 1 event (trigger e1)"),
        ("events: [{}, {}]", "t: events: 2 events | 1 event (trigger e1)"),
        ("events: [{ action: resolve }]", "t: events[0].action: resolve | trigger"),
        ("events: [{ rule: chatter }]", "t: events[0].rule: chatter | problem"),
        (
            "events: [{ rule: problen }]",
            "t: events[0].rule: problen | problem; no rule is named `problen`, did you mean `problem`?",
        ),
        ("events: [{ incident_key: x }]", "t: events[0].incident_key: x | e1"),
        ("events: [{ priority: low }]", "t: events[0].priority: low | normal"),
        ("events: [{ status: duplicate }]", "t: events[0].status: duplicate | queued"),
        ("events: [{ body: { n: 2 } }]", "t: events[0].body.n: 2 | 1"),
        ("events: [{ body: { n: '1' } }]", "t: events[0].body.n: \"1\" | 1"),
        ("events: [{ body: { x: 2 } }]", "t: events[0].body.x: 2 | nothing"),
        ("events: [{ body: { list: [1] } }]", "t: events[0].body.list: [1] | [1,{\"a\":\"b\"}]"),
        ("events: [{ body: { list: [1, { a: c }] } }]", "t: events[0].body.list[1].a: \"c\" | \"b\""),
        (
            "events: [{ body_exact: { id: e1, state: BAD, n: 1 } }]",
            "t: events[0].body.list: nothing | [1,{\"a\":\"b\"}]",
        ),
        ("errors: [{ path: $.id }]", "t: errors[0]: $.id | no error"),
    ] {
        assert_eq!(row(expect), [told], "{expect}");
    }
    let found =
        differences("  - { name: t, payload: { id: x, state: ODD }, expect: { verdict: events, events: [{}] } }\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("t: verdict: events | refused: $.state no rule matches"), "{found:?}");
    let found = differences("  - { name: t, payload: { state: TALK }, expect: { events: [{}] } }\n");
    assert_eq!(found, ["t: events: 1 event | ignored by chatter"]);
}

#[test]
fn tests_of_a_file_share_clock_and_memory_until_one_begins_afresh() {
    let tests = |statuses: &[(&str, &str)]| {
        let tests: Vec<String> = statuses
            .iter()
            .map(|(keys, status)| {
                format!("  - {{ name: t, {keys}, expect: {{ events: [{{ status: {status} }}] }} }}\n")
            })
            .collect();
        differences(&tests.concat())
    };
    let good = "payload: { id: e1, state: GOOD }";
    assert_eq!(
        tests(&[
            (BAD, "queued"),
            (&format!("after: 5s, {BAD}"), "duplicate"),
            ("after: 5s, payload: { id: e1, state: BAD, severity: 2 }", "queued"),
            (&format!("after: 5s, {good}"), "queued"),
            (&format!("after: 5s, {good}"), "duplicate"),
            (&format!("after: 5s, {BAD}"), "queued"),
            (&format!("after: 9m, {BAD}"), "duplicate"),
            (&format!("after: 1m, {BAD}"), "queued"),
            (&format!("fresh: true, {BAD}"), "queued"),
            (BAD, "duplicate"),
        ]),
        Vec::<String>::new()
    );
    let found = tests(&[(BAD, "queued"), (BAD, "queued")]);
    assert_eq!(found, ["t: events[0].status: queued | duplicate, of the event in \"t\", within_window"]);
}

#[test]
fn filters_tell_the_outcome() {
    let filters = "
services:
  - name: s
    trigger: [{ urgency: high, keys: [{ key: state, contains: [BAD] }], map_incident_with: id }]
    resolve: { keys: [{ key: state, contains: [GOOD] }], incident_mapped_with: id }
";
    let file = "
rules: rules.yaml
filters: filters.yaml
tests:
  - { name: a, payload: { id: e1, state: BAD }, expect: { events: [{ outcome: created }] } }
  - { name: b, payload: { id: e1, state: GOOD }, expect: { events: [{ outcome: resolved }] } }
  - { name: c, payload: { id: e2, state: GOOD }, expect: { events: [{ outcome: not_resolved }] } }
  - { name: d, payload: { id: e2, state: GOOD }, expect: { events: [{ status: queued, outcome: created }] } }
";
    let report = run(&[("rules.yaml", RULES), ("filters.yaml", filters), ("t.test.yaml", file)]);
    let failed: Vec<&Difference> = report.tests().flat_map(|test| &test.differences).collect();
    assert_eq!(report.exit_code(), 1, "{report:?}");
    let [Difference { at, expected, found, .. }] = failed.as_slice() else {
        panic!("{failed:?}");
    };
    assert_eq!((at.as_str(), expected.as_str(), found.as_str()), ("events[0].outcome", "created", "not_resolved"));
    let strict = filters.replace("[BAD]", "[WORSE]");
    let report = run(&[("rules.yaml", RULES), ("filters.yaml", &strict), ("t.test.yaml", file)]);
    let first = report.tests().next().unwrap();
    assert!(first.differences[0].found.starts_with("unmatched: service s, trigger filter 1"), "{first:?}");
    assert!(first.warnings[0].contains("nobody would be alerted"), "{first:?}");
}

#[test]
fn a_file_that_names_its_own_filters_is_told_from_those_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let test = "rules: rules.yaml\ntests: [{ name: a, payload: 1, expect: { verdict: refused } }]\n";
    put("rules.yaml", RULES);
    let filter = "{ urgency: high, keys: [{ key: a, contains: [B] }], map_incident_with: id }";
    put("f.yaml", &format!("services: [{{ name: s, trigger: [{filter}] }}]"));
    put("own.test.yaml", &format!("filters: f.yaml\n{test}"));
    put("none.test.yaml", test);
    let asked = config::read_source(&folder.path().join("f.yaml")).unwrap();
    let own = |filters| super::test(&[folder.path().to_owned()], filters).own_filters;
    assert_eq!(own(Some(&asked)), [folder.path().join("own.test.yaml").display().to_string()]);
    assert_eq!(own(None), Vec::<String>::new(), "where none are asked for");
}

#[test]
fn mistakes_in_a_test_file_are_shown_at_their_place() {
    for (file, told) in [
        ("tests: []", "`rules` is required"),
        ("rules: rules.yaml", "`tests` is required"),
        ("rules: none.yaml\ntests: []", "can't read"),
        ("rules: rules.yaml\ntests: []", "no test here"),
        ("rules: rules.yaml\ntests: [{ name: a, expect: { verdict: events } }]", "needs a `payload`"),
        ("rules: rules.yaml\ntests: [{ name: a, payload: 1 }]", "`expect` is required"),
        ("rules: rules.yaml\ntests: [{ name: a, payload: 1, expect: {} }]", "tests nothing"),
        ("rules: rules.yaml\ntests: [{ payload: 1, expect: { verdict: events } }]", "`name` is required"),
        ("rules: rules.yaml\ntests: [{ name: a, payload: 1, expect: { verdict: event } }]", "did you mean `events`"),
        (
            "rules: rules.yaml\ntests: [{ name: a, payload: 1, expect: { events: [{ bdy: {} }] } }]",
            "did you mean `body`",
        ),
        ("rules: rules.yaml\ntests: [{ name: a, payload: 1, expect: { events: [{ outcome: created }] } }]", "filters"),
        ("rules: rules.yaml\ntests: [{ name: a, payload: 1, after: soon, expect: { verdict: events } }]", "duration"),
        (
            "rules: rules.yaml\ntests: [{ name: a, payload: 1, payload_file: x, expect: { verdict: events } }]",
            "exclude",
        ),
        ("rules: rules.yaml\ntests: [{ name: a, payload_file: x.json, expect: { verdict: events } }]", "no such file"),
        ("rules: rules.yaml\ntests: [{ name: a, payload_file: rules.yaml, expect: { verdict: events } }]", "no JSON"),
        ("rules: t.test.yaml\ntests: [{ name: a, payload: 1, expect: { verdict: events } }]", "`version` is required"),
    ] {
        let found = mistakes(file);
        assert!(found.contains(told), "{file}\n{found}");
    }
}

#[test]
fn a_folder_without_tests_and_a_missing_file_can_not_run() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(test(&[folder.path().to_owned()], None).exit_code(), 2);
    assert_eq!(test(&[folder.path().join("no.test.yaml")], None).exit_code(), 2);
    assert_eq!(test(&[], None).exit_code(), 2);
}

#[test]
fn the_shipped_rules_keep_what_their_tests_say() {
    let report = test(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules")], None);
    let mut out = Vec::new();
    report.write(false, &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(report.exit_code(), 0, "{}{}{out}", report.findings.render(false), report.unreadable.join("\n"));
    assert!(!out.contains("warning:") && out.ends_with("tests passed\n"), "{out}");
}

#[test]
fn a_test_that_no_payload_passes_is_refused() {
    for (expect, told) in [
        ("{ verdict: event }", "expected one of events, ignored, refused"),
        ("{ verdict: events, events: [] }", "`events` means that there is an event"),
        ("{ verdict: ignored, events: [{}] }", "mean that there is no event"),
        ("{ verdict: refused, events: [{}] }", "mean that there is no event"),
        ("{ verdict: ignored, errors: [{ path: $.a }] }", "means that there is no error"),
        ("{ verdict: }", "this expects nothing"),
        ("{}", "this expects nothing"),
    ] {
        let file = format!("rules: rules.yaml\ntests:\n  - {{ name: t, payload: {{}}, expect: {expect} }}\n");
        let findings = run_file(&file).findings;
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert!(matches!(messages[..], [one] if one.contains(told)), "{expect}: {messages:?}");
    }
    let rules = run_file("version: 1\nrules: [{ name: a, then: ignore }]\n").findings;
    assert_eq!(
        rules.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(),
        ["this is a rule file, not one of tests"]
    );
    let unnamed = run_file("rules: rules.yaml\ntests:\n  - { name: ' ', payload: {}, expect: { verdict: ignored } }\n");
    assert!(unnamed.findings.render(false).contains("a test's name can't be blank"));
}

#[test]
fn a_difference_points_at_its_line() {
    let file = "rules: rules.yaml
tests:
  - name: t
    payload: { id: e1, state: BAD }
    expect:
      events:
        - rule: problem
          action: resolve
          body:
            n: 2
            list:
              - 1
              - a: c
            gone: 1
          incident_key: x
        - {}
      errors:
        - path: $.id
  - name: u
    payload: { id: e1, state: BAD }
    expect:
      verdict: ignored
";
    let report = run_file(file);
    let lines: Vec<(&str, usize)> =
        report.tests().flat_map(|test| &test.differences).map(|one| (one.at.as_str(), one.line)).collect();
    let places = [
        ("events", 6),
        ("events[0].action", 8),
        ("events[0].incident_key", 15),
        ("events[0].body.n", 10),
        ("events[0].body.list[1].a", 13),
        ("events[0].body.gone", 14),
        ("errors[0]", 18),
        ("verdict", 22),
    ];
    assert_eq!(lines, places);
    let exact = run_file(&file.replace("body:", "body_exact:"));
    let state = exact.tests().flat_map(|test| &test.differences).find(|one| one.at == "events[0].body.state").unwrap();
    assert_eq!(state.line, 9, "what is not written is told where it would stand");
}

#[test]
fn coverage_tells_what_no_test_would_miss() {
    let rules = "
version: 1
validate:
  - { path: $.id, required: true }
incident_key: $.id
rules:
  - { name: first, when: { any: [{ path: $.a, equals: 1 }, { path: $.b, equals: 1 }] }, then: trigger }
  - { name: second, when: { not: { path: $.a, exists: true } }, then: resolve }
  - { name: third, when: { path: $.c, equals: 1 }, then: ignore }
";
    let gaps = |tests: &str| {
        let file = format!("rules: rules.yaml\ntests:\n{tests}");
        let files = [("rules.yaml", rules), ("t.test.yaml", file.as_str())];
        let report = run_with(&files, Selection { coverage: true, ..Selection::default() });
        assert!(report.findings.is_empty(), "{}", report.findings.render(false));
        let [covered] = report.coverage.as_slice() else {
            panic!("{report:?}");
        };
        let gap = |gap: &Gap| (gap.spot.line, gap.kind, gap.lack);
        (covered.coverage.gaps().iter().map(gap).collect::<Vec<_>>(), covered.coverage.shown())
    };
    let first = "  - { name: x, payload: { id: 1, a: 1 }, expect: { verdict: events } }\n";
    let (found, shown) = gaps(first);
    assert_eq!(
        found,
        [
            (4, PartKind::Validation, Lack::NeverFailed),
            (6, PartKind::Otherwise, Lack::NeverReached),
            (7, PartKind::Condition, Lack::NeverFailed),
            (7, PartKind::Condition, Lack::NeverHeld),
            (8, PartKind::Rule, Lack::NeverReached),
            (8, PartKind::Condition, Lack::NeverReached),
            (9, PartKind::Rule, Lack::NeverReached),
            (9, PartKind::Condition, Lack::NeverReached),
        ]
    );
    assert_eq!(shown, (3, 13));
    let all = format!(
        "{first}  - {{ name: b, payload: {{ id: 2, b: 1 }}, expect: {{ verdict: events }} }}
  - {{ name: c, payload: {{ id: 3 }}, expect: {{ verdict: events }} }}
  - {{ name: d, payload: {{ id: 4, a: 2, c: 1 }}, expect: {{ verdict: ignored }} }}
  - {{ name: e, payload: {{ id: 5, a: 2 }}, expect: {{ verdict: refused }} }}
  - {{ name: f, payload: {{ a: 2 }}, expect: {{ verdict: refused }} }}
"
    );
    assert_eq!(gaps(&all), (vec![], (13, 13)));
}

#[test]
fn coverage_is_added_up_over_test_files_and_may_be_asked_for() {
    let rules =
        "{ version: 1, incident_key: $.id, rules: [{ name: a, when: { path: $.a, equals: 1 }, then: trigger }] }";
    let held = "{ rules: rules.yaml, tests: [{ name: x, payload: { id: 1, a: 1 }, expect: { verdict: events } }] }";
    let failed = "{ rules: ./rules.yaml, tests: [{ name: y, payload: { a: 2 }, expect: { verdict: refused } }] }";
    let asked = |files: &[(&str, &str)], percent| {
        let report = run_with(files, Selection { coverage: true, coverage_min: percent, ..Selection::default() });
        (report.coverage.len(), report.coverage[0].coverage.percent(), report.exit_code())
    };
    let one = [("rules.yaml", rules), ("a.test.yaml", held)];
    assert_eq!(asked(&one, 50), (1, 50, 0));
    assert_eq!(asked(&one, 51), (1, 50, 1));
    assert_eq!(asked(&[one[0], one[1], ("b.test.yaml", failed)], 100), (1, 100, 0));
}

#[test]
fn only_tests_of_the_name_are_told_and_all_run() {
    let file = "rules: rules.yaml
tests:
  - { name: opens, payload: { id: e1, state: BAD }, expect: { verdict: refused } }
  - { name: repeats, payload: { id: e1, state: BAD }, expect: { events: [{ status: duplicate }] } }
";
    let named = |name| {
        let selection = Selection { name: Some(name), ..Selection::default() };
        run_with(&[("rules.yaml", RULES), ("t.test.yaml", file)], selection)
    };
    let report = named("peat");
    assert_eq!((report.tests().count(), report.exit_code()), (1, 0), "{report:?}");
    let report = named("closes");
    assert_eq!(
        (report.unreadable.as_slice(), report.exit_code()),
        (&["no test has `closes` in its name".into()][..], 2)
    );
}

#[test]
fn a_name_that_stands_twice_is_warned_of() {
    let test = "  - { name: a, payload: { id: e1, state: TALK }, expect: { verdict: ignored } }\n";
    let report = run_file(&format!("rules: rules.yaml\ntests:\n{test}{test}"));
    let warning = report.findings.render(false);
    assert!(warning.contains("`a` is the name of the test in line 3 too"), "{warning}");
    assert_eq!(report.exit_code(), 0);
}
