//! Whatever a body holds, reading and deciding it takes at most ten times its size in memory.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::rules::{Context, RuleSet};
use crate::yaml::{self, Findings, Source};

/// The most memory that this takes at once.
fn memory(what: impl FnOnce()) -> usize {
    usize::try_from(allocation_counter::measure(what).bytes_max).unwrap()
}

fn reading(json: JsonReading, form: bool, label: &str) -> Reading {
    Reading { json, form, charset: Charset::named(label).unwrap() }
}

/// Bodies of about so many bytes that take much, with their charset.
fn hostile(bytes: usize) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let list = |item: &str| format!("[{}]", vec![item; bytes / (item.len() + 1)].join(","));
    let string = |part: &[u8]| [b"[\"", &*part.repeat(bytes / part.len()), b"\"]"].concat();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    vec![
        ("numbers", "utf-8", list("0").into()),
        ("empty lists", "utf-8", list("[]").into()),
        ("objects", "utf-8", list("{\"a\":0}").into()),
        ("numbers and a comma too many", "utf-8", list("0").replace(']', ",]").into()),
        ("objects and a comma too many", "utf-8", list("{\"a\":0}").replace(']', ",]").into()),
        ("empty lists, each with a comma", "utf-8", list("[0,]").into()),
        ("numbers that are none", "utf-8", list("NaN").into()),
        ("control characters", "utf-8", string(b"\x01")),
        ("control characters, then no JSON", "utf-8", [&*string(b"\x01"), b"x"].concat()),
        ("some control characters", "utf-8", string(b"\x01abcdefg")),
        ("escapes that are none", "utf-8", string(b"\\x")),
        ("halves of characters", "utf-8", string(b"\\ud83d")),
        ("halves that were encoded", "utf-8", string(b"\xed\xa0\xbd\xed\xb8\x80")),
        ("bytes that are no UTF-8", "utf-8", string(b"\x80")),
        (
            "bytes that are no UTF-8 in what is",
            "utf-8",
            string("ü\u{1}".as_bytes()).into_iter().chain(*b"\xff").collect(),
        ),
        ("Windows-1252", "windows-1252", string(b"\x80")),
        ("Windows-1252 with control characters", "windows-1252", string(b"\x80\x01")),
        ("UTF-16", "utf-16le", wide(&list("0")[..bytes / 2])),
        (
            "UTF-16 with objects",
            "utf-16le",
            wide(&format!("{}]", list("{\"a\":0}").get(..bytes / 16 * 8).unwrap().trim_end_matches(','))),
        ),
        ("UTF-16 in other letters", "utf-16le", wide(&format!("[\"{}\"]", "語".repeat(bytes / 2)))),
        ("Shift_JIS", "shift_jis", string(b"\x88\xc0")),
        (
            "a form of many fields",
            "utf-8",
            (0..9_999).map(|n| format!("{n:x}=&")).collect::<String>().repeat(bytes / 52_000).into(),
        ),
        ("a form with one field", "utf-8", format!("a={}", "%41".repeat(bytes / 3)).into()),
        (
            "a form with a field again and again",
            "utf-8",
            format!("a={}&{}", "x".repeat(bytes), "a=&".repeat(9_000)).into(),
        ),
    ]
}

#[test]
fn no_body_takes_more_than_ten_times_its_size_in_any_reading() {
    for bytes in [256 * 1024, 1024 * 1024] {
        for (claim, label, body) in hostile(bytes) {
            for (json, form) in
                [(JsonReading::Strict, false), (JsonReading::Lenient, false), (JsonReading::Lenient, true)]
            {
                let took = memory(|| drop(decode(&body, reading(json, form, label))));
                assert!(took <= 10 * body.len(), "{claim}, {json:?}, forms {form}: {took} for {}", body.len());
            }
        }
    }
}

#[test]
fn what_is_too_dense_is_told_with_its_place_and_what_helps() {
    let body = format!("[\n{}]", vec!["{\"a\":0}"; 40_000].join(",\n"));
    for json in [JsonReading::Strict, JsonReading::Lenient] {
        let told = decode(body.as_bytes(), reading(json, false, "utf-8")).unwrap_err();
        assert!(told.line > 1_000 && told.line < 39_000, "{told:?}");
        assert!(
            told.problem.contains("ten times") && told.remedy.unwrap().contains("fewer alerts"),
            "{}",
            told.problem
        );
        let repaired = body.replace("\n]", ",]").replace("}]", "},]");
        let told = decode(repaired.as_bytes(), reading(JsonReading::Lenient, false, "utf-8")).unwrap_err();
        assert!(told.line > 1_000 && told.problem.contains("ten times"), "{told:?}");
    }
    let told = decode(&[b"[\"", &*b"\x01".repeat(300_000), b"\"]"].concat(), lenient()).unwrap_err();
    assert!(told.problem.contains("repairing"), "{told:?}");
}

fn lenient() -> Reading {
    reading(JsonReading::Lenient, false, "utf-8")
}

/// The payloads of the shipped tests, as senders write them.
fn alerts() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
    let mut alerts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".test.yaml") {
            continue;
        }
        let source = Arc::new(Source::new(name.clone(), std::fs::read_to_string(&path).unwrap()));
        let tree = yaml::parse(&source, &mut Findings::new()).unwrap();
        let yaml::Value::List(tests) = &tree.get("tests").unwrap().value else { panic!("{name}") };
        alerts.extend(tests.iter().filter_map(|test| Some((name.clone(), test.get("payload")?.to_json()))));
    }
    assert!(alerts.len() > 100, "{}", alerts.len());
    alerts
}

#[test]
fn real_alerts_are_taken_alone_and_by_the_hundred() {
    let mut dense = Vec::new();
    for (name, alert) in alerts() {
        let text = alert.to_string();
        let took = memory(|| drop(decode(text.as_bytes(), Reading::default()).unwrap()));
        assert!(took < 100 * 1024, "{name}: {took}");
        // Shortened ones, of a few members, come one by one.
        if text.len() < 250 {
            continue;
        }
        let batch = format!("[{}]", vec![&*text; 300 * 1024 / text.len() + 1].join(","));
        let mut read = None;
        let took = memory(|| read = Some(decode(batch.as_bytes(), Reading::default())));
        let times = took as f64 / batch.len() as f64;
        if read.unwrap().is_err() || times > 9.0 {
            dense.push(format!("{name}: {times:.1} times: {text}"));
        }
    }
    assert!(dense.is_empty(), "{} {}", dense.len(), dense.join("\n"));
}

const INNER: &str =
    "version: 1\nunwrap: $.Message\nsplit: $[*]\nincident_key: $.id\nrules: [ { name: all, then: trigger } ]\n";

fn rules(text: &str) -> RuleSet {
    RuleSet::compile(&Arc::new(Source::new("rules.yaml".into(), text.into())), &mut Findings::new()).unwrap()
}

#[test]
fn a_payload_within_a_payload_has_the_room_that_the_outer_one_leaves() {
    let rules = rules(INNER);
    for bytes in [256 * 1024, 1024 * 1024] {
        let dense = |item: &str| format!("[{}]", vec![item; bytes / (item.len() + 1)].join(","));
        for (claim, inner, other) in [
            ("numbers", dense("0"), json!(null)),
            ("objects", dense("{\"a\":0}"), json!(null)),
            ("objects in half of it", dense("{\"a\":0}"), json!("x".repeat(bytes))),
            ("a comma too many", dense("0").replace(']', ",]"), json!(null)),
            ("control characters", format!("[\"{}\"]", "\u{1}".repeat(bytes)), json!(null)),
            ("both", dense("{\"a\":0}"), json!(vec![json!({"name": "a longer value"}); bytes / 64])),
        ] {
            let body = json!({"Message": inner, "Other": other}).to_string();
            for json in [JsonReading::Strict, JsonReading::Lenient] {
                let took = memory(|| {
                    let Ok(Decoded { value, repairs }) = decode(body.as_bytes(), reading(json, false, "utf-8")) else {
                        return;
                    };
                    let context = Context { source: "s", received_at: "", json, repairs };
                    drop(rules.decide(&value, context));
                });
                assert!(took <= 10 * body.len(), "{claim}, {json:?}: {took} for {}", body.len());
            }
        }
    }
}

#[test]
fn the_elements_of_a_batch_that_is_refused_are_not_built_again() {
    let rules = rules("version: 1\nsplit: $[*]\nincident_key: $.id\nrules: [ { name: all, then: trigger } ]\n");
    let element = json!({"name": "a value", "labels": {"host": "db-1.example", "zone": "eu-central-1"}, "count": 17});
    let body = json!(vec![element; 4_000]).to_string();
    let Decoded { value, repairs } = decode(body.as_bytes(), Reading::default()).unwrap();
    let context = Context { source: "s", received_at: "", json: JsonReading::Strict, repairs };
    let took = memory(|| drop(rules.decide(&value, context)));
    assert!(took < 8 * body.len(), "{took} for {}", body.len());
}
