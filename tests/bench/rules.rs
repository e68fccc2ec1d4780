//! Measures deciding an event by the number of rules, and reading it by `json`, in instructions: no other work
//! on the machine changes them.
//!
//! Each figure is the difference of two runs under valgrind, over few and over many events, so that loading the rules
//! and starting the process have no part in it.

use std::process::{Command, ExitStatus};
use std::sync::Arc;

use clap::Args;
use gander::exports::inbound::{self, Accept};
use gander::exports::lenient_json::{JsonReading, Repairs};
use gander::exports::rules::{Context, Element, RuleSet};
use gander::exports::yaml::{Findings, Source};

use crate::Result;

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Numbers of rules; each is compared with the first
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    rules: Vec<usize>,
    /// Events by which two runs differ
    #[arg(long, default_value_t = 1_000)]
    events: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Decided {
    #[arg(long)]
    shape: usize,
    #[arg(long)]
    rules: usize,
    #[arg(long)]
    events: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Read {
    #[arg(long)]
    lenient: bool,
    #[arg(long)]
    events: usize,
}

/// The ways in which the rules of a file tell events apart; `#` is the rule's number. The event matches the last but one.
const SHAPES: [(&str, &str); 4] = [
    ("one path", "{ path: $.service, equals: service-# }"),
    ("any case", "{ path: $.service, equals: SERVICE-#, ignore_case: true }"),
    ("among others", "{ all: [{ path: $.state, equals: CRITICAL }, { path: $.service, one_of: [service-#, s-#] }] }"),
    ("without an index", "{ path: $.service, ends_with: e-# }"),
];

pub(crate) fn measure(plan: &Plan) -> Result<()> {
    println!("Instructions to decide an event that matches the last rule but one; to load the file, for each rule.\n");
    println!("| rules told apart by | rules | an event | to {} rules | a rule's load |", plan.rules[0]);
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut broken = Vec::new();
    for (shape, (name, _)) in SHAPES.iter().enumerate() {
        let mut first = None;
        for rules in &plan.rules {
            let loaded = to_decide(shape, *rules, 0)?;
            let event = (to_decide(shape, *rules, plan.events)? - loaded) / plan.events as f64;
            let empty = to_decide(shape, 2, 0)?;
            let ratio = event / *first.get_or_insert(event);
            let load = (loaded - empty) / (rules - 2).max(1) as f64;
            println!("| {name} | {rules} | {event:.0} | {ratio:.2} | {load:.0} |");
            if shape < SHAPES.len() - 1 && ratio > RATIO_MAX {
                broken.push(format!("{name}: {rules} rules cost {ratio:.2} times as much"));
            }
        }
    }
    println!("\nInstructions to read an event that is JSON.\n");
    println!("| `json` | an event | to strict |");
    println!("| --- | ---: | ---: |");
    let mut strict = None;
    for (name, flag) in [("strict", None), ("lenient", Some("--lenient"))] {
        let read = |events: usize| {
            let events = events.to_string();
            instructions(["read", "--events", &events].into_iter().chain(flag))
        };
        let event = (read(plan.events)? - read(0)?) / plan.events as f64;
        let ratio = event / *strict.get_or_insert(event);
        println!("| {name} | {event:.0} | {ratio:.3} |");
        if ratio > LENIENT_RATIO_MAX {
            broken.push(format!("json: {name} costs {ratio:.3} times as much as strict"));
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

/// The instructions of a process that decides so many events by so many rules.
fn to_decide(shape: usize, rules: usize, events: usize) -> Result<f64> {
    let [shape, rules, events] = [shape, rules, events].map(|number| number.to_string());
    instructions(["decide", "--shape", &shape, "--rules", &rules, "--events", &events])
}

/// The instructions of this program with these arguments.
fn instructions<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output()
        .map_err(|error| format!("valgrind can't be run ({error}): install the package valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split(" refs:").nth(1)).map(|count| count.trim().replace(',', ""));
    match (output.status, counted) {
        (status, Some(counted)) if ExitStatus::success(&status) => Ok(counted.parse()?),
        (status, _) => Err(format!("valgrind ended with {status}:\n{said}").into()),
    }
}

/// What is measured: reads the events.
pub(crate) fn read(read: &Read) -> Result<()> {
    let body = serde_json::json!({
        "servicepilot_event_id": "e-1",
        "state": "CRITICAL",
        "title": "Disk nearly full: C:\\ on Gerät 1\n",
        "values": [1, 2.5, null, true],
        "labels": { "service": "service-1", "url": "https://example.org/a?b=c" },
    });
    let body = body.to_string();
    let json = if read.lenient { JsonReading::Lenient } else { JsonReading::Strict };
    let accept = Accept { json, ..Accept::default() };
    let headers = http::HeaderMap::new();
    for _ in 0..read.events {
        let decoded = inbound::json(&headers, std::hint::black_box(body.as_bytes()), accept);
        std::hint::black_box(decoded.map_err(|refusal| format!("refused: {refusal:?}"))?);
    }
    Ok(())
}

/// What is measured: loads the rules and decides the events.
pub(crate) fn decide(decided: &Decided) -> Result<()> {
    let when = SHAPES.get(decided.shape).ok_or("there is no such shape")?.1;
    let mut text = "version: 1\nincident_key: $.servicepilot_event_id\nrules:\n".to_owned();
    for rule in 0..decided.rules {
        let when = when.replace('#', &rule.to_string());
        text.push_str(&format!("  - {{ name: rule-{rule}, when: {when}, then: trigger }}\n"));
    }
    let mut findings = Findings::new();
    let source = Arc::new(Source::new("rules.yaml".into(), text));
    let rules = RuleSet::compile(&source, &mut findings).ok_or_else(|| findings.render(false))?;
    let expected = decided.rules.saturating_sub(2);
    let payload = serde_json::json!({
        "servicepilot_event_id": "e-1",
        "state": "CRITICAL",
        "title": "Disk nearly full",
        "service": format!("service-{expected}"),
    });
    let context = Context {
        source: "servicepilot",
        received_at: "2025-11-24T07:30:00.000Z",
        json: JsonReading::Strict,
        repairs: Repairs::NONE,
    };
    for _ in 0..decided.events {
        match rules.decide(&payload, context).elements.as_slice() {
            [Element::Event(event)] if event.rule.as_ref() == format!("rule-{expected}") => {}
            other => return Err(format!("decided otherwise: {other:?}").into()),
        }
    }
    Ok(())
}

/// What a thousand rules may cost beside ten.
const RATIO_MAX: f64 = 2.0;
/// What strict JSON takes costs a lenient source no more, but for the noise of hash maps.
const LENIENT_RATIO_MAX: f64 = 1.01;
