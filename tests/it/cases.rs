//! Payloads as they give trouble where people do this work, and what becomes of them: by the rules that are shipped, or
//! by those that somebody wrote.

use gander::exports::event::Action;
use gander::exports::inbound::{Accept, Refusal, json};
use gander::exports::lenient_json::JsonReading;
use gander::exports::rules::{Context, Element};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::presets::text;
use crate::support::{Setup, rules};

/// The name of a preset, or a rule file.
type Rules<'a> = &'a str;

/// What a source takes, and the Content-Type that it is sent.
type Sent<'a> = (Accept, &'a str);

/// What becomes of each element; of a refusal a part of the reason, with others behind it.
type Becomes<'a> = &'a [&'a str];

const TEMPLATE_IN_NAME: &str = r#"{"receiver": "r", "status": "firing", "orgId": 1, "alerts": [{"status": "firing",
    "labels": {"alertname": "Disk full on {{ $labels.instance }}", "instance": "db-1"}, "annotations": {},
    "fingerprint": "ff09"}], "title": "[FIRING:1]", "state": "alerting"}"#;

const TEMPLATE_BESIDE_GOOD: &str = r#"{"receiver": "r", "status": "firing", "orgId": 1, "alerts": [
    {"status": "firing", "labels": {"alertname": "{{ $labels.instance }}", "instance": "db-1"}, "annotations": {},
     "fingerprint": "ff09"},
    {"status": "firing", "labels": {"alertname": "Good", "instance": "db-1"}, "annotations": {}, "fingerprint": "ff10"}],
    "title": "[FIRING:2]", "state": "alerting"}"#;

const HEALTH_RESOLVED: &str = r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {
    "alertId": "/subscriptions/0/alerts/b", "alertRule": "sh", "severity": "Sev4", "signalType": "Activity Log",
    "monitorCondition": "Fired", "monitoringService": "ServiceHealth"}, "alertContext": {"status": "Resolved",
    "properties": {"title": "Network", "trackingId": "9SL1-PT0", "stage": "Resolved"}}}}"#;

const ICINGA_DOWN: &str = r#"{"type": "PROBLEM", "object": "db-1!ssh", "host": "db-1", "service": "ssh",
    "state": "CRITICAL", "output": "SSH down", "since": "1732000000"}"#;

/// After it no RECOVERY follows.
const ICINGA_FLAPPED: &str = r#"{"type": "FLAPPINGEND", "object": "db-1!ssh", "host": "db-1", "service": "ssh",
    "state": "OK", "output": "SSH \"up\" | time=1s\nline 2", "since": "1732000000"}"#;

const ZABBIX_CANCELED: &str = r#"{"event_source": "0", "event_id": "991", "event_value": "1", "event_name": "High CPU",
    "event_recovery_date": "{EVENT.RECOVERY.DATE}", "event_update_status": "0", "event_update_action": "",
    "trigger_id": "12", "alert_message": "NOTE: Escalation canceled: trigger \"High CPU\" disabled.\r\nProblem started"}"#;

const IGNORE_TESTS: &str = "
version: 1
rules:
  - name: test
    when: { any: [{ path: $.title, starts_with: '[TEST]' }, { path: $.tags.test, one_of: [true, 'true'] }] }
    then: ignore
  - { name: problem, when: { path: $.status, equals: problem }, then: trigger }
incident_key: [$.id]
";

const QUOTED_PLACEHOLDER: &str =
    r#"{"id": "sp", "status": "problem", "title": "Could not resolve placeholder in \"${jdbc.url}\""}"#;

const HOST_OR_SERVICE: &str = "
version: 1
rules: [{ name: problem, when: { path: $.type, equals: PROBLEM }, then: trigger }]
incident_key: [$.host, { path: $.service, optional: true }]
";

const BLANK_SERVICE: &str = r#"{"type": "PROBLEM", "host": "db-1", "service": "", "state": "DOWN"}"#;

const NO_EMIT: &str = "version: 1
split: $.messages[*]
rules:
  - { name: trigger, when: { path: $.type, equals: incident.trigger }, then: trigger }
  - { name: resolve, when: { path: $.type, equals: incident.resolve }, then: resolve }
  - { name: other, when: { path: $.type, starts_with: incident. }, then: ignore }
incident_key: $.incident.id
";

const MESSAGES: &str = r#"{"messages": [{"type": "incident.acknowledge", "incident": {"id": "P1"}},
    {"type": "incident.resolve", "incident": {"id": "P1"}}, {"type": "incident.trigger", "incident": {"id": "P2"}}]}"#;

const ID_IN_TEXT: &str = r"
version: 1
rules: [{ name: all, when: { path: $.text, starts_with: '[FIRING' }, then: trigger }]
incident_key: { path: $.text, capture: '#(\d+)' }
";

const EACH_ITEM: &str = "
version: 1
split: $[*]
rules:
  - { name: problem, when: { path: $.status, equals: problem }, then: trigger }
  - { name: recovery, when: { path: $.status, equals: ok }, then: resolve }
incident_key: $.id
";

const ARRAY: &[u8] = br#"[{"id": "a1", "status": "problem"}, {"id": "a2", "status": "ok"}]"#;
const LINE_BREAK: &[u8] = b"{\"id\":\"rn\",\"status\":\"problem\",\"title\":\"Event\r\nid: 30d0\"}";
const NAN: &[u8] = br#"{"id":"n","status":"problem","value":NaN}"#;
const QUOTE: &[u8] = br#"{"id":"q","status":"problem","title":"expected "200" got 502"}"#;
const ZERO_ENDED: &[u8] = b"{\"id\":\"z\",\"status\":\"problem\"}\0";
const LATIN_1: &[u8] = b"{\"id\":\"lat\",\"status\":\"problem\",\"title\":\"St\xf6rung auf Ger\xe4t\"}";
/// As Latin-1 it has a key; as the UTF-8 that its other letters are, a part of the key is lost.
const BROKEN_KEY: &[u8] = b"{\"id\":\"Ger\xe4t\",\"status\":\"problem\",\"title\":\"St\xc3\xb6rung\"}";
const FIELDS: &[u8] =
    b"Token=abc&Status=Down&StatusCode=503&URL=https%3A%2F%2Fshop.example&IP=192.0.2.1&Tags=&Name=Shop+DE";

#[test]
fn what_comes_becomes_what_its_sender_meant() {
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    let strict = (Accept::default(), JSON);
    let lenient = (Accept { json: JsonReading::Lenient, ..Accept::default() }, JSON);
    let forms = |kind| (Accept { form: true, ..Accept::default() }, kind);
    let would = "With `json: lenient` the source would take it";
    let rows: &[(&str, Rules<'_>, Sent<'_>, &[u8], Becomes<'_>)] = &[
        (
            "the end of a text in C",
            "generic",
            strict,
            ZERO_ENDED,
            &["400", "a NUL byte (0x00) stands here", "column 30", would],
        ),
        ("the same, leniently", "generic", lenient, ZERO_ENDED, &["trigger z"]),
        ("a template in a rule's name", "grafana", strict, TEMPLATE_IN_NAME.as_bytes(), &["trigger 1/ff09"]),
        (
            "the same beside an alert without",
            "grafana",
            strict,
            TEMPLATE_BESIDE_GOOD.as_bytes(),
            &["trigger 1/ff09", "trigger 1/ff10"],
        ),
        ("a placeholder quoted in a title", "generic", strict, QUOTED_PLACEHOLDER.as_bytes(), &["trigger sp"]),
        ("the same, where titles are read", IGNORE_TESTS, strict, QUOTED_PLACEHOLDER.as_bytes(), &["trigger sp"]),
        (
            "a health event that is fired and over",
            "azure-monitor",
            strict,
            HEALTH_RESOLVED.as_bytes(),
            &["resolve 9SL1-PT0"],
        ),
        ("a problem", "icinga2", strict, ICINGA_DOWN.as_bytes(), &["trigger db-1!ssh"]),
        ("the end of flapping, in OK", "icinga2", strict, ICINGA_FLAPPED.as_bytes(), &["resolve db-1!ssh"]),
        ("an escalation that was canceled", "zabbix", strict, ZABBIX_CANCELED.as_bytes(), &["ignored"]),
        ("messages of several kinds", NO_EMIT, strict, MESSAGES.as_bytes(), &["ignored", "resolve P1", "trigger P2"]),
        ("a host where a service may be", HOST_OR_SERVICE, strict, BLANK_SERVICE.as_bytes(), &["trigger db-1"]),
        (
            "the same, where the key needs both",
            &HOST_OR_SERVICE.replace("{ path: $.service, optional: true }", "$.service"),
            strict,
            BLANK_SERVICE.as_bytes(),
            &["refused $.service", "can't be blank", "`{ path: $.service, optional: true }`"],
        ),
        ("an id in a text", ID_IN_TEXT, strict, br#"{"text": "[FIRING #4711] db-1 down"}"#, &["trigger 4711"]),
        ("a line break in a string", "generic", strict, LINE_BREAK, &["400", "(line 1, column 45)", would]),
        ("the same, leniently", "generic", lenient, LINE_BREAK, &["trigger rn"]),
        ("a number that is none", "generic", strict, NAN, &["400", "`NaN` is no number", "column 38", would]),
        ("the same, leniently", "generic", lenient, NAN, &["trigger n"]),
        ("a quote in a string", "generic", strict, QUOTE, &["400", "(line 1, column 49)"]),
        ("the same, leniently", "generic", lenient, QUOTE, &["400", "(line 1, column 49)"]),
        ("Latin-1 that says nothing", "generic", strict, LATIN_1, &["400", "not UTF-8", "; charset=windows-1252`"]),
        ("the same, leniently", "generic", lenient, LATIN_1, &["trigger lat"]),
        (
            "Latin-1 that says so",
            "generic",
            (Accept::default(), "application/json; charset=iso-8859-1"),
            LATIN_1,
            &["trigger lat"],
        ),
        ("a key of which a letter is lost", "generic", lenient, BROKEN_KEY, &["refused $.id", "U+FFFD"]),
        ("an array", "generic", strict, ARRAY, &["refused $ is an array", "`split: $[*]`"]),
        ("the same, split", EACH_ITEM, strict, ARRAY, &["trigger a1", "resolve a2"]),
        ("a form", "statuscake", (Accept::default(), ""), FIELDS, &["400", "`accept: [json, form]`"]),
        ("the same, that says so", "statuscake", (Accept::default(), FORM), FIELDS, &["415"]),
        (
            "a form where they are taken",
            "statuscake",
            forms(FORM),
            FIELDS,
            &["trigger Shop DE/https:%2F%2Fshop.example"],
        ),
        (
            "the same, as a text",
            "statuscake",
            forms("text/plain"),
            FIELDS,
            &["trigger Shop DE/https:%2F%2Fshop.example"],
        ),
    ];
    let mut wrong = Vec::new();
    for (claim, rules, sent, payload, expected) in rows {
        let found = becomes(rules, *sent, payload);
        let is_so = match found.as_slice() {
            [reason] if reason.starts_with('4') || reason.starts_with("refused") => {
                reason.starts_with(expected[0]) && expected.iter().all(|words| reason.contains(words))
            }
            found => found == *expected,
        };
        if !is_so {
            wrong.push(format!("{claim}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What becomes of each element of a body; of a body that is not read, the answer.
fn becomes(named: Rules<'_>, (accept, content_type): Sent<'_>, body: &[u8]) -> Vec<String> {
    let rules = rules(&if named.contains('\n') { named.to_owned() } else { text(&format!("{named}.yaml")) });
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    }
    let decoded = match json(&headers, body, accept) {
        Ok(decoded) => decoded,
        Err(Refusal::NotJson(not_json)) => return vec![format!("400 {not_json}")],
        Err(refusal) => return vec![refusal.status().as_u16().to_string()],
    };
    let context =
        Context { source: "test", received_at: "2025-01-01T00:00:00Z", json: accept.json, repairs: decoded.repairs };
    let became = |element: Element| match element {
        Element::Event(draft) => match draft.action {
            Action::Trigger => format!("trigger {}", draft.incident_key),
            Action::Resolve => format!("resolve {}", draft.incident_key),
        },
        Element::Ignored { .. } => "ignored".to_owned(),
        Element::Refused { violations, .. } => format!("refused {} {}", violations[0].path, violations[0].problem),
    };
    rules.live.decide(&decoded.value, context).elements.into_iter().map(became).collect()
}

#[test]
fn check_warns_of_rules_without_a_body_that_filters_could_read() {
    let (code, findings) = crate::cli::checked(NO_EMIT, include_str!("../../config/callgoose-filters.yaml"), 0o600);
    let warned = |(place, message): &(String, String)| {
        place.starts_with("no-emit rules.yaml:") && message.contains("nobody would be alerted")
    };
    assert!(code == Some(1) && findings.iter().any(warned), "{findings:?}");
}

#[tokio::test]
async fn the_answer_says_what_helps_and_the_payload_is_kept() {
    let mut setup = Setup::new();
    setup.source().rules = rules(include_str!("../../config/rules/generic.yaml"));
    let edge = setup.start().await;
    for (body, status, place, words) in [
        (ARRAY, 422, None, "is an array, not an object: `split: $[*]`"),
        (LATIN_1, 400, Some(43), "`Content-Type: application/json; charset=windows-1252`"),
        (QUOTE, 400, Some(49), "expected `,` or `}` (line 1, column 49)"),
    ] {
        let answer = edge.send(edge.post(), body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let column = place.map_or(json!(null), |column| json!(column));
        assert_eq!(answer.body["column"], column, "{answer:?}");
        assert!(answer.body.to_string().contains(words), "{answer:?}");
        let kept = edge.kept(&answer.body["id"]);
        let raw =
            kept.received_hex.map_or(kept.received.unwrap_or_default().into_bytes(), |hex| hex::decode(hex).unwrap());
        assert_eq!((kept.summary.state.as_str(), raw.as_slice()), ("refused", body));
    }
}
