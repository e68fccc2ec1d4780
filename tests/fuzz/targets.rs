//! The parsers: what is run with an input, and what must hold of its answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use gander::exports::callgoose::filters::Filters;
use gander::exports::cli;
use gander::exports::config::{self, Inputs, Secrets};
use gander::exports::event::Body;
use gander::exports::inbound;
use gander::exports::lenient_json::{JsonReading, Repairs};
use gander::exports::rules::budget::Budget;
use gander::exports::rules::path::{JsonPath, Scope};
use gander::exports::rules::{Context, Decision, Element, RuleSet};
use gander::exports::trace_context::{STORED_BYTES_MAX, SpanId, TraceContext};
use gander::exports::yaml::{Findings, Place, Source};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{origins, signatures, words};

/// A parser under search.
pub struct Target {
    pub name: &'static str,
    /// Inputs to begin with.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// What its format is made of.
    pub words: &'static [&'static str],
    /// Runs an input; returns what is said of it. Panics where that can't be right.
    pub run: fn(&[u8]) -> String,
}

pub const PATHS: Target = Target {
    name: "paths",
    corpus: || {
        texts(&[
            "$",
            "$$.a",
            "$.a.b[0]",
            "$['a']..b[*]",
            "$[?@.a == 'x' && !@.b]",
            "$..[1:5:2, -1]",
            "$[?length(@.a) > 1]",
            "$[?count(@..*) != value($.b)]",
            "$[?match(@.a, 'x+') || search(@.b, $.a)]",
            "$.a[?@.b in ['x']]",
            "$[(@.length-1)]",
        ])
    },
    words: words::PATH,
    run: path,
};

pub const RULE_FILES: Target = Target {
    name: "rule_files",
    corpus: || {
        let mut corpus = texts(&[
            "version: 1\nincident_key: $.id\nrules: [{ name: a, then: trigger }]\n",
            "version: 1\nunwrap: $.m\nsplit: $[*]\nvalidate: [{ path: $.a, required: true, one_of: [a, 1], matches: x }]\nincident_key: [$.id, $$.b]\noccurrence: $.t\nupdate_on: [$.s]\nplaceholders: allow\notherwise: ignore\nrules:\n  - { name: a, when: { all: [{ path: $.a, equals: x, ignore_case: true }, { not: { path: $.b, gt: 1 } }] }, then: resolve }\n  - { name: b, when: { any: [{ path: '$.l[*]', contains_word: [OK] }, { path: $.b, exists: false }] }, then: reject }\n  - name: c\n    then: trigger\n    emit: { x: { $first: [$.a, '{{ payload.b }}'], $map: { a: b }, $default: 1, $truncate: 3 }, $merge: $ }\n",
        ]);
        corpus.push(shipped("rules/servicepilot.yaml"));
        corpus
    },
    words: words::YAML,
    run: rule_file,
};

pub const TEST_FILES: Target = Target {
    name: "test_files",
    corpus: || {
        vec![
        shipped("rules/servicepilot.test.yaml"),
        b"rules: servicepilot.yaml\ndedup: { window: 1m }\ntests:\n  - name: a\n    after: 5s\n    fresh: true\n    payload: { servicepilot_event_id: e1, state: CRITICAL }\n    expect: { verdict: events, events: [{ action: trigger, status: queued, body: { state: CRITICAL } }], errors: [{ path: $.a }] }\n".to_vec(),
    ]
    },
    words: words::YAML,
    run: test_file,
};

pub const CONFIGURATIONS: Target =
    Target { name: "configurations", corpus: || vec![shipped("gander.yaml")], words: words::YAML, run: configuration };

pub const FILTERS: Target =
    Target { name: "filters", corpus: || vec![shipped("callgoose-filters.yaml")], words: words::YAML, run: filters };

pub const TEMPLATES: Target = Target {
    name: "templates",
    corpus: || {
        texts(&[
            "{{ payload.a }} on {{ root.b | upper }}",
            "{% if payload.a %}x{% else %}y{% endif %}",
            "{% for x in payload.list %}{{ loop.index }}{{ x }}{% endfor %}",
            "{{ payload.a | default('x') ~ 1 + 2 }}",
        ])
    },
    words: words::TEMPLATE,
    run: template,
};

pub const PAYLOADS: Target = Target {
    name: "payloads",
    corpus: || {
        texts(&[
            "{\"servicepilot_event_id\":\"e1\",\"state\":\"CRITICAL\",\"title\":\"t\",\"startTime\":\"2025-11-24T07:30:00Z\"}",
            "{\"id\":\"a\",\"a\":[{\"b\":1,\"c\":\"OK\"},{\"b\":null}],\"m\":\"{\\\"id\\\": 1}\"}",
            "[[1,2],{\"a\":{}}]",
            "null",
        ])
    },
    words: words::JSON,
    run: payload,
};

pub const BODIES: Target = Target {
    name: "bodies",
    corpus: || {
        texts(&[
            "{\"a\": \"Zürich\"}",
            "application/json; charset=utf-8\n{}",
            "text/plain; charset=shift_jis\n\"a\"",
            "application/cloudevents+json\n[1,2]",
            "text/plain; charset=\"utf-16le\"\n\"\0a\0\"\0",
            "Status=Down&URL=https%3A%2F%2Fshop.example&Name=Shop+DE&Tags=&Tags=b",
            "application/x-www-form-urlencoded; charset=iso-8859-1\npayload=%7B%22a%22%3A1%7D&a=%FC",
            "{\"a\": \"b\nc\", \"d\": \"C:\\P \\u{41} \\ud800\", \"e\": [NaN, -Infinity, 1,],}",
            "\u{feff}\u{feff}[\"é\",]\0",
        ])
    },
    words: words::JSON,
    run: body,
};

pub const TRACES: Target = Target {
    name: "traces",
    corpus: || {
        texts(&[
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\nrojo=00f067aa0ba902b7, fw529@dt=FfRiJW5j\na/b=  1",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more\n\n , \na=1,a=2",
            "0123456789abcdef01234567\u{1}a=1,b=2",
        ])
    },
    words: words::TRACE,
    run: trace,
};

pub const FORWARDED: Target = Target {
    name: "forwarded",
    corpus: || {
        texts(&[
            "for=203.0.113.7",
            "for=192.0.2.1;proto=https;by=10.0.0.1;host=a.example, for=\"[2001:db8::7]:4711\"\nFor=\"10.0.0.2:_x\"",
            "for=\"a\\\"b\", for=unknown,,for=_hidden;",
        ])
    },
    words: words::FORWARDED,
    run: origins::forwarded,
};

pub const X_FORWARDED_FOR: Target = Target {
    name: "x_forwarded_for",
    corpus: || {
        texts(&[
            "203.0.113.7",
            "192.0.2.1, 203.0.113.7:54321, [2001:db8::7]:443, 10.0.0.1\n10.0.0.2,\"10.0.0.3\"",
            "unknown, , ::ffff:10.0.0.1",
        ])
    },
    words: words::FORWARDED,
    run: origins::x_forwarded_for,
};

pub const PROXY_HEADERS: Target = Target {
    name: "proxy_headers",
    corpus: || {
        let header = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", rest].concat();
        vec![
            header(b"\x20\0\0\0"),
            header(b"\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x02\xd4\x31\x20\xfb\x16\x03\x01"),
            header(b"\x21\x11\0\x10\xcb\0\x71\x07\x0a\0\0\x02\xd4\x31\x20\xfb\x04\0\x01\x09"),
            header(&[&b"\x21\x21\0\x24"[..], &[7; 36]].concat()),
            header(&[&b"\x21\x31\0\xd8"[..], &[b'/'; 216]].concat()),
            b"PROXY TCP4 203.0.113.7 10.0.0.2 54321 8443\r\n".to_vec(),
        ]
    },
    words: words::PROXY_HEADER,
    run: origins::proxy_header,
};

pub const SIGNATURES: Target = Target {
    name: "signatures",
    corpus: || signatures::CREDENTIALS.iter().map(signatures::signed).collect(),
    words: words::SIGNATURE,
    run: signatures::checked,
};

fn path(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let path = match JsonPath::parse(&text) {
        Ok(path) => path,
        Err(error) => {
            assert!(text.get(error.range.clone()).is_some(), "{:?} is no part of the path", error.range);
            return error.message;
        }
    };
    assert_eq!(path.as_str(), text);
    let budget = Budget::new(100_000);
    let nodes = path.select(Scope { element: &DOCUMENT, root: &DOCUMENT, budget: &budget });
    let count = nodes.as_slice().len();
    assert!(!path.is_singular() || count <= 1, "a singular path selects {count} nodes");
    let found = match count {
        0 => "nothing",
        1 => "one",
        _ => "several",
    };
    format!("taken: {found} {}", budget.is_exhausted())
}

fn rule_file(input: &[u8]) -> String {
    let source = source("rules.yaml", input);
    let mut findings = Findings::new();
    let rules = RuleSet::compile(&source, &mut findings);
    let said = told(&findings);
    let Some(rules) = rules else {
        assert!(findings.has_errors(), "refused without a reason");
        return said;
    };
    assert!(!findings.has_errors(), "taken in spite of errors");
    let payloads = [&*DOCUMENT, &DOCUMENT["a"]];
    let decisions: Vec<String> = payloads.into_iter().map(|payload| decided(&rules, payload)).collect();
    format!("{said} {}", decisions.join(", "))
}

fn test_file(input: &[u8]) -> String {
    SCRATCH.with_borrow(|scratch| {
        let file = scratch.path().join("rules/servicepilot.test.yaml");
        fs::write(&file, input).unwrap();
        let report = cli::test::test(&[file], None);
        let mut out = Vec::new();
        report.write(true, &mut out).unwrap();
        assert!(report.to_json().is_object());
        format!("{} {} {}", report.exit_code(), told(&report.findings), report.unreadable.len())
    })
}

fn configuration(input: &[u8]) -> String {
    SCRATCH.with_borrow(|scratch| {
        let path = scratch.path().join("gander.yaml");
        fs::write(&path, input).unwrap();
        let environment = BTreeMap::from([("GANDER_LOG__LEVEL".to_owned(), "warn".to_owned())]);
        match config::load(&Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Optional }) {
            Ok(loaded) => told(&loaded.warnings),
            Err(config::Failure::Unreadable(unreadable)) => unreadable.to_string(),
            Err(config::Failure::Invalid(findings)) => {
                assert!(findings.has_errors(), "refused without a reason");
                told(&findings)
            }
        }
    })
}

fn filters(input: &[u8]) -> String {
    let mut findings = Findings::new();
    let filters = Filters::read(&source("filters.yaml", input), &mut findings);
    let said = told(&findings);
    match filters {
        None => {
            assert!(findings.has_errors(), "refused without a reason");
            said
        }
        Some(filters) => format!("{said} {:?}", filters.evaluate(&DOCUMENT, Some("ServicePilot"))),
    }
}

fn template(input: &[u8]) -> String {
    let quoted = Value::String(String::from_utf8_lossy(input).into_owned());
    let file =
        format!("version: 1\nincident_key: $.id\nrules: [{{ name: a, then: trigger }}]\nemit: {{ text: {quoted} }}\n");
    rule_file(file.as_bytes())
}

fn payload(input: &[u8]) -> String {
    match serde_json::from_slice(input) {
        Err(error) => format!("{:?}", error.classify()),
        Ok(payload) => RULES.iter().map(|rules| decided(rules, &payload)).collect::<Vec<_>>().join(", "),
    }
}

/// The first line is the content type where it looks like one.
fn body(input: &[u8]) -> String {
    let line = input.iter().position(|byte| *byte == b'\n').filter(|at| input[..*at].contains(&b'/'));
    let mut headers = HeaderMap::new();
    let mut rest = input;
    if let Some(at) = line
        && let Ok(value) = HeaderValue::from_bytes(&input[..at])
    {
        headers.insert("content-type", value);
        rest = &input[at + 1..];
    }
    let [strict, lenient] = [JsonReading::Strict, JsonReading::Lenient]
        .map(|json| inbound::json(&headers, rest, inbound::Accept { json, form: true, gzip: false }));
    match (strict, lenient) {
        (Ok(strict), lenient) => {
            assert!(strict.repairs.is_empty(), "the strict reading repairs {:?}", strict.repairs);
            assert_eq!(Ok(&strict), lenient.as_ref(), "the lenient reading is another one");
            let value = strict.value;
            let again: Value = serde_json::from_str(&value.to_string()).unwrap();
            assert_eq!(again, value, "what is read is no JSON");
            if line.is_none() {
                // A byte order mark is none of JSON.
                let strict = serde_json::from_slice::<Value>(rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest));
                assert!(
                    strict.is_err() || strict.is_ok_and(|strict| strict == value),
                    "JSON is read otherwise: {value}"
                );
            }
            format!("taken: {}", value.is_object())
        }
        (Err(refusal), Ok(lenient)) => {
            assert!(!lenient.repairs.is_empty(), "taken without a repair, and refused by the strict reading");
            let again: Value = serde_json::from_str(&lenient.value.to_string()).unwrap();
            assert_eq!(again, lenient.value, "what is read is no JSON");
            let inbound::Refusal::NotJson(problem) = &refusal else { panic!("{refusal:?}") };
            assert!(problem.remedy.as_deref().is_some_and(|remedy| remedy.contains("json: lenient")), "{problem:?}");
            format!("repaired: {:?} {refusal:?}", lenient.repairs)
        }
        (Err(strict), Err(lenient)) => {
            for refusal in [&strict, &lenient] {
                if let inbound::Refusal::NotJson(problem) = refusal {
                    assert!(problem.line >= 1 && problem.column >= 1, "{problem:?}");
                }
            }
            format!("{strict:?} {lenient:?}")
        }
    }
}

/// The first line is `traceparent`, each further one a `tracestate`; the whole is also read as what a journal holds.
fn trace(input: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    for (number, line) in input.split(|byte| *byte == b'\n').enumerate() {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(if number == 0 { "traceparent" } else { "tracestate" }, value);
        }
    }
    let read = [TraceContext::of_headers(&headers), TraceContext::of_stored(input)];
    let said = read.map(|context| {
        let Some(context) = context else { return "none".to_owned() };
        assert_eq!(TraceContext::of_stored(context.store(&mut [0; STORED_BYTES_MAX])), Some(context.clone()));
        let mut sent = HeaderMap::new();
        context.put_on(SpanId::new(7), &mut sent);
        let again = TraceContext::of_headers(&sent).expect("what is sent is valid");
        assert_eq!((again.id(), again.state_bytes()), (context.id(), context.state_bytes()));
        assert!(context.state_bytes() <= 512 && sent["traceparent"].len() == 55 && sent.len() <= 2);
        format!("{} {}", context.sender_span().is_some(), sent.contains_key("tracestate"))
    });
    said.join(", ")
}

/// Decides a payload; the same decision must come of being explained, and each body must be JSON.
fn decided(rules: &RuleSet, payload: &Value) -> String {
    let context = Context {
        source: "fuzz",
        received_at: "2025-11-24T07:30:00.000Z",
        json: JsonReading::Lenient,
        repairs: Repairs::NONE,
    };
    let Decision { elements, .. } = rules.decide(payload, context);
    let (explained, traces) = rules.explain(payload, context);
    assert_eq!(elements, explained.elements, "to be explained changes the decision");
    assert_eq!(elements.len(), traces.elements.len());
    assert!(!elements.is_empty(), "nothing is said of the payload");
    let said = elements.iter().take(3).map(|element| match element {
        Element::Event(draft) => {
            assert!(!draft.incident_key.trim().is_empty() && draft.incident_key.len() <= 512);
            let text: &Body = &draft.body;
            assert!(serde_json::from_slice::<Value>(text.bytes()).is_ok(), "the body is no JSON");
            format!("{}", draft.action)
        }
        Element::Ignored { rule } => format!("ignored {}", rule.is_some()),
        Element::Refused { violations, .. } => {
            assert!(!violations.is_empty(), "refused without a reason");
            violations[0].problem.clone()
        }
    });
    said.collect::<Vec<_>>().join("; ")
}

/// What findings say, each of which must be in its text.
fn told(findings: &Findings) -> String {
    assert!(findings.is_empty() == findings.render(true).is_empty());
    let mut said = Vec::new();
    for finding in findings.iter() {
        if let Place::Text { source, span } = &finding.place {
            assert!(source.text.get(span.clone()).is_some(), "{span:?} is no part of {}", source.name);
        }
        said.push(finding.message.clone());
    }
    said.truncate(3);
    said.join("; ")
}

fn source(name: &str, input: &[u8]) -> Arc<Source> {
    Arc::new(Source::new(name.into(), String::from_utf8_lossy(input).into_owned()))
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn shipped(name: &str) -> Vec<u8> {
    fs::read(shipped_folder().join(name)).unwrap()
}

fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

thread_local! {
    /// The shipped files, among which a changed one is put.
    static SCRATCH: RefCell<TempDir> = RefCell::new({
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("rules")).unwrap();
        for name in ["gander.yaml", "callgoose-filters.yaml", "rules/servicepilot.yaml"] {
            fs::copy(shipped_folder().join(name), scratch.path().join(name)).unwrap();
        }
        scratch
    });
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "id": "e1", "servicepilot_event_id": "e1", "state": "CRITICAL", "title": "t", "m": "{\"id\": 1, \"a\": [1]}",
        "a": [{"b": 1, "c": "OK", "id": "i"}, {"b": null, "id": 2}, [1, 2, 3], "x", 0.5, {"a": {"a": {"b": true}}}],
        "b": "é\u{1F600}", "list": ["a", "b"], "t": "2025-11-24T07:30:00Z",
    })
});

/// The shipped rules, and one of every kind of part that reads a payload.
static RULES: LazyLock<[RuleSet; 2]> = LazyLock::new(|| {
    let all = (RULE_FILES.corpus)();
    [&all[1], &all[2]].map(|text| {
        let mut findings = Findings::new();
        let rules = RuleSet::compile(&source("rules.yaml", text), &mut findings);
        rules.unwrap_or_else(|| panic!("{}", findings.render(false)))
    })
});
