use serde_json::json;

use super::*;
use crate::config::{Inputs, Secrets};
use crate::lenient_json::Repairs;

const RULES: &str = "
version: 1
validate: [{ path: $.id, required: true, type: string }]
incident_key: $.id
rules:
  - { name: problem, when: { path: $.state, contains_word: [BAD, WORSE] }, then: trigger }
  - { name: recovery, when: { all: [{ path: $.state, equals: GOOD }, { not: { path: $.n, gt: 5 } }] }, then: resolve }
  - { name: rest, then: ignore }
";

const FILTERS: &str = "
services:
  - name: pay
    trigger: [{ urgency: high, keys: [{ key: state, contains: [BAD] }], title_from: title, map_incident_with: id }]
    resolve: { keys: [{ key: state, contains: [GOOD] }], incident_mapped_with: id }
";

/// Explains a payload by these rules and filters.
fn explanation(yaml: &str, payload: &Value) -> Explanation {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("gander.yaml", "sources: { s: { rules: rules.yaml, from: Ops } }");
    put("rules.yaml", yaml);
    put("callgoose-filters.yaml", FILTERS);
    let inputs = Inputs {
        path: folder.path().join("gander.yaml"),
        environment: std::collections::BTreeMap::new(),
        flags: Vec::new(),
        secrets: Secrets::Optional,
    };
    let mut loaded = load_rules(&inputs, "s").unwrap();
    loaded.rules_file = "rules.yaml".into();
    let mut callgoose = Callgoose::open(None, Some(&inputs.path), &mut Terminal::new()).unwrap().unwrap();
    callgoose.name = "filters.yaml".into();
    let repairs = Repairs::NONE;
    let context = Context { source: "s", received_at: "t", json: loaded.accept.json, repairs };
    let mut explanation = Explanation::of(&loaded, payload, context);
    explanation.callgoose = Some(callgoose.asked(&explanation.decision, loaded.from.as_deref()));
    explanation
}

fn text(yaml: &str, payload: &Value) -> String {
    page::text(&explanation(yaml, payload), false)
}

#[test]
fn a_person_sees_every_rule_with_what_it_saw() {
    let text = text(RULES, &json!({"id": "x", "state": "GOOD", "n": "7 %"}));
    assert_eq!(
        text,
        r#"validate
  ✓ $.id  required, type string  "x"
rules  rules.yaml
  ✗ problem → trigger   not matched                 line 6
    ✗ $.state           contains_word [BAD, WORSE]  "GOOD"
  ✓ recovery → resolve  matched                     line 7
    ✓ all
      ✓ $.state         equals 'GOOD'               "GOOD"
      ✓ not
        ✗ $.n           gt 5                        "7 %" (gt reads numbers, this text is none)
  · rest → ignore       not reached                 line 8
reads
  ✓ incident_key  $.id  "x"
event
  action        resolve
  incident_key  x
  body
    {
      "id": "x",
      "state": "GOOD",
      "n": "7 %"
    }
callgoose  filters.yaml
  ✓ service pay: the resolve filter closes the incident mapped with "x"

"#
    );
}

#[test]
fn a_path_of_emit_that_found_nothing_is_marked_with_the_near_name() {
    let yaml = format!(
        "{RULES}emit:
  title: $.titel
  host: $.host
  text: 'on {{{{ payload.sevice }}}}'
  name: {{ $first: [$.nmae, $.title, none] }}
  level: {{ $path: $.severity, $default: low }}
  by: {{ $by_action: {{ trigger: $.n, resolve: $.never }} }}
  tags: {{ all: [$.tags.polcy] }}
"
    );
    let payload =
        json!({"id": "x", "state": "BAD", "title": "t", "service": "s", "name": "n", "n": 1, "tags": {"policy": "p"}});
    let text = text(&yaml, &payload);
    assert!(
        text.contains(
            "emit found nothing at
  ✗ title        $.titel         missing, left out (did you mean `$.title`?)
  · host         $.host          missing, left out
  ✗ text         payload.sevice  missing, renders empty (did you mean `$.service`?)
  ✗ name         $.nmae          missing, another value is sent (did you mean `$.name`?)
  · level        $.severity      missing, another value is sent
  ✗ tags.all[0]  $.tags.polcy    missing, left out (did you mean `$.tags.policy`?)
event
"
        ),
        "{text}"
    );
    let missed = &object::object(&explanation(&yaml, &payload))["trace"][0]["missed"];
    let first = json!({"key": "title", "path": "$.titel", "instead": false, "why": "did you mean `$.title`?"});
    assert_eq!((missed.as_array().unwrap().len(), &missed[0]), (6, &first), "{missed}");
}

#[test]
fn how_each_part_of_the_key_came_to_be_is_shown() {
    let yaml = RULES.replace(
        "incident_key: $.id",
        r"incident_key: [{ path: $.text, capture: '#(\d+)' }, { path: $.n, optional: true }, $.id]",
    ) + "emit: { code: { $path: $.text, $capture: '(E\\d+)' } }\n";
    let payload = json!({"id": "x", "state": "BAD", "text": "[#4711] down"});
    let text = text(&yaml, &payload);
    assert!(
        text.contains(
            r##"reads
  ✓ incident_key  $.text  capture #(\d+)  "[#4711] down" → 4711
  · incident_key  $.n  optional           missing → left out
  ✓ incident_key  $.id                    "x"
emit found nothing at
  · code  $.text  missing, left out (/(E\d+)/ finds nothing in it)
event
"##
        ),
        "{text}"
    );
    let object = object::object(&explanation(&yaml, &payload));
    let part = json!({"how": [r"capture #(\d+)"], "verdict": "taken", "text": "4711"});
    assert_eq!(
        (&object["trace"][0]["reads"][0]["part"], &object["events"][0]["incident_key"]),
        (&part, &json!("4711//x"))
    );
}

#[test]
fn the_priority_of_a_rule_is_shown_where_it_says_one() {
    let yaml = RULES.replacen("then: trigger", "then: trigger, priority: high", 1);
    let payload = json!({"id": "x", "state": "BAD"});
    let text = text(&yaml, &payload);
    assert!(text.contains("✓ problem → trigger, high"), "{text}");
    assert!(text.contains("\n  priority      high\n"), "{text}");
    let object = object::object(&explanation(&yaml, &payload));
    assert_eq!(
        (&object["events"][0]["priority"], &object["trace"][0]["rules"][0]["priority"]),
        (&json!("high"), &json!("high"))
    );
    let plain = object::object(&explanation(RULES, &payload));
    assert_eq!(
        (&plain["events"][0]["priority"], &plain["trace"][0]["rules"][0]["priority"]),
        (&json!(null), &json!(null))
    );
}

#[test]
fn a_person_sees_why_it_is_refused() {
    let text = page::text(&explanation(RULES, &json!({"id": 5})), true);
    assert!(
        text.contains("\u{1b}[31m✗\u{1b}[0m $.id  required, type string  5 (has to be of type string, not number)")
    );
    assert!(text.contains("has to be of type string, not number (found: 5)"), "{text}");
}

#[test]
fn what_a_payload_holds_moves_no_cursor() {
    let yaml = format!("occurrence: $.state{RULES}");
    let odd = "BAD \u{1b}[2J\u{7}\n\u{7f}\u{9b}31m\u{202e}";
    for payload in [json!({"id": odd, "state": odd, "n": odd}), json!({"id": [odd], "state": odd})] {
        let text = text(&yaml, &payload);
        let moves = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(moves), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("31m")), "{text}");
    }
}

#[test]
fn a_program_gets_one_object() {
    let yaml = format!("split: $[*]{RULES}");
    let payload = json!([{"id": "a", "state": "BAD"}, {}, {"id": "c"}]);
    let object = object::object(&explanation(&yaml, &payload));
    let names: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(names, ["verdict", "events", "errors", "trace", "reads", "filters"]);
    assert_eq!(object["verdict"], "events");
    let opens = json!({"filter": 1, "urgency": "high", "title": "Incident from Ops", "mapped_with": "a"});
    assert_eq!(
        object["events"],
        json!([{
            "index": 0, "action": "trigger", "rule": "problem", "incident_key": "a", "body": payload[0],
            "callgoose": {"matched": true, "matches": [{"service": "pay", "opens": opens, "closes": null}], "misses": []},
        }])
    );
    assert_eq!((&object["reads"][0]["key"], &object["reads"][0]["selected"]), (&json!("split"), &json!(3)));
    assert_eq!(
        (&object["trace"][0]["rules"][0]["line"], &object["trace"][0]["rules"][0]["column"]),
        (&json!(6), &json!(5))
    );
    assert_eq!(object["errors"], json!([{"path": "$.id", "problem": "is required and missing", "found": null}]));
    let verdicts: Vec<&Value> = object["trace"].as_array().unwrap().iter().map(|element| &element["verdict"]).collect();
    assert_eq!(verdicts, ["event", "refused", "ignored"]);
}

#[test]
fn a_person_sees_what_the_nearest_rule_lacked() {
    let rules = RULES.replace("  - { name: rest, then: ignore }\n", "");
    let text = text(&rules, &json!({"id": "x", "state": "bad", "m": 9}));
    let nearest = "nearest rule
  problem (rules.yaml:6) matches if this comes out otherwise:
  ✗ $.state  contains_word [BAD, WORSE]  \"bad\" (only the case differs: `ignore_case: true` takes it)
refused
";
    assert!(text.contains(nearest), "{text}");
}

#[test]
fn a_person_sees_that_nobody_would_be_alerted() {
    let text = text(RULES, &json!({"id": "x", "state": "WORSE"}));
    let told = "callgoose  filters.yaml
  ✗ no trigger filter matches: nobody would be alerted
      service pay, trigger filter 1: `state` is \"WORSE\", which does not contain \"BAD\"
";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_person_sees_how_much_there_is_of_what_is_shortened() {
    let yaml =
        "{ version: 1, incident_key: $.id, rules: [{ name: a, when: { path: '$.l[*]', equals: 99 }, then: trigger }] }";
    let list: Vec<usize> = (0..30).collect();
    let seen = text(yaml, &json!({"id": "x", "l": list}));
    assert!(seen.contains("18, 19 and 10 more"), "{seen}");
    let long = text(yaml, &json!({"id": "x", "l": ["y".repeat(5_000)]}));
    assert!(long.contains("…\" [5000 characters]"), "{long}");
}
