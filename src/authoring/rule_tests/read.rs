//! Reading a test file: which rules, filters, tests and what they expect.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::callgoose::filters::Filters;
use crate::config::{FileStamps, read_bytes, read_source};
use crate::event::{Action, Outcome, Priority};
use crate::inbound::{Accept, Decoded, NotJson, TakenBy, read_payload};
use crate::journal::dedup;
use crate::lenient_json::{JsonReading, Repairs};
use crate::rules::RuleSet;
use crate::yaml::fields::{ANY_DURATION, each, string};
use crate::yaml::{Fields, Findings, Node, Place, Source, Value, parse};

/// A test file, ready to be played.
#[derive(Debug)]
pub(crate) struct TestFile {
    /// The path of the rules that it tests.
    pub rules: PathBuf,
    /// Where it names them.
    pub rules_place: Place,
    /// The source's name, for templates.
    pub(super) source: String,
    /// The reading of its JSON, strict or lenient.
    pub(super) json: JsonReading,
    /// The text of the filters, checked: the stand-in begins anew with each `fresh: true`.
    pub(super) filters: Option<Arc<Source>>,
    /// It names them itself.
    pub names_filters: bool,
    pub(super) dedup: dedup::Settings,
    pub(super) tests: Vec<Test>,
}

#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) line: usize,
    /// The time since the test before it.
    pub(super) after: Duration,
    /// Nothing is remembered of the tests before it.
    pub(super) fresh: bool,
    pub(super) payload: Decoded,
    pub(super) expect: Expect,
    /// Where all that stands.
    pub(super) expect_node: Node,
}

/// The expectation of a test; what it does not name is not looked at.
#[derive(Debug, Default)]
pub(super) struct Expect {
    pub(super) verdict: Option<&'static str>,
    pub(super) events: Option<Vec<ExpectedEvent>>,
    pub(super) errors: Option<Vec<ExpectedError>>,
}

#[derive(Debug, Default)]
pub(super) struct ExpectedEvent {
    pub(super) action: Option<Action>,
    pub(super) rule: Option<String>,
    pub(super) incident_key: Option<String>,
    pub(super) priority: Option<Priority>,
    pub(super) status: Option<&'static str>,
    pub(super) outcome: Option<Outcome>,
    /// A subset.
    pub(super) body: Option<Json>,
    /// The whole.
    pub(super) body_exact: Option<Json>,
}

#[derive(Debug)]
pub(super) struct ExpectedError {
    pub(super) path: String,
    /// A part of the sentence.
    pub(super) problem: Option<String>,
}

impl TestFile {
    /// Compiles the rules that it names.
    pub(crate) fn compile_rules(&self, findings: &mut Findings) -> Option<RuleSet> {
        match read_source(&self.rules) {
            Ok(source) => RuleSet::compile(&source, findings),
            Err(unreadable) => {
                findings.error(self.rules_place.clone(), "rules", unreadable.to_string()).help(RELATIVE);
                None
            }
        }
    }

    /// The payloads that an event is expected of, each with its test's number and the place where it says so.
    pub(crate) fn alerts(&self) -> impl Iterator<Item = (usize, &Json, &Place)> {
        let alerts = self.tests.iter().enumerate().filter(|(_, test)| test.expect.is_event());
        alerts.map(|(index, test)| (index, &test.payload.value, &test.expect_node.place))
    }
}

impl Expect {
    fn is_event(&self) -> bool {
        self.verdict == Some("events") || self.events.as_ref().is_some_and(|events| !events.is_empty())
    }
}

/// Reads a test file, and the payloads and filters that it names; paths in it are relative to it. `filters` judge its
/// events where it names none of its own; `files` notes what is read. With an error among the findings it is not to be
/// played.
pub(crate) fn read(
    source: &Arc<Source>,
    filters: Option<&Arc<Source>>,
    files: &mut FileStamps,
    findings: &mut Findings,
) -> Option<TestFile> {
    let folder = Path::new(&source.name).parent().unwrap_or(Path::new(""));
    let node = parse(source, findings)?;
    if node.get("tests").is_none() && matches!(node.get("rules").map(|rules| &rules.value), Some(Value::List(_))) {
        findings
            .error(node.key_place("rules"), "", "this is a rule file, not one of tests")
            .help("its tests stand in a file of their own, beside it with the ending `.test.yaml`");
        return None;
    }
    let mut fields = Fields::of(&node, "", findings)?;
    let rules_node = fields.require("rules", findings);
    let rules = rules_node.and_then(|node| {
        let name = string(node, "rules", findings)?;
        Some((folder.join(name), node.place.clone()))
    });
    let own_filters = fields.take_some("filters").and_then(|node| {
        let name = string(node, "filters", findings)?;
        let path = folder.join(name);
        files.note(&path);
        match read_source(&path) {
            Ok(source) => Some(source),
            Err(unreadable) => {
                findings.error(node.place.clone(), "filters", unreadable.to_string()).help(RELATIVE);
                None
            }
        }
    });
    let names_filters = own_filters.is_some();
    let filters = own_filters.or_else(|| filters.cloned());
    if let Some(filters) = &filters {
        let mut found = Findings::new();
        let _ = Filters::read(filters, &mut found);
        findings.extend(found);
    }
    let dedup = settings(&mut fields, findings);
    let name = fields.string("source", findings);
    let json = fields.choice("json", &JsonReading::CHOICES, findings).unwrap_or_default();
    let tests_node = fields.require("tests", findings);
    fields.finish(findings);
    let mut beside = Beside { folder, filters: filters.is_some(), json, files };
    let tests = tests_node.map(|node| tests(node, &mut beside, findings)).unwrap_or_default();
    let (rules, rules_place) = rules?;
    let stem = rules.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let source = name.or(stem).unwrap_or_default();
    Some(TestFile { rules, rules_place, source, json, filters, names_filters, dedup, tests })
}

fn settings(fields: &mut Fields<'_>, findings: &mut Findings) -> dedup::Settings {
    let mut settings = dedup::Settings { window: WINDOW, remind: true, max_keys: KEYS_MAX };
    if let Some(mut section) = fields.section("dedup", findings) {
        settings.window = section.duration_within("window", ANY_DURATION, findings).unwrap_or(settings.window);
        settings.remind = section.boolean("remind", findings).unwrap_or(settings.remind);
        section.finish(findings);
    }
    settings
}

/// The context in which a test is read.
struct Beside<'a> {
    folder: &'a Path,
    /// Filters judge the events.
    filters: bool,
    json: JsonReading,
    files: &'a mut FileStamps,
}

fn tests(node: &Node, beside: &mut Beside<'_>, findings: &mut Findings) -> Vec<Test> {
    let Value::List(items) = &node.value else {
        findings.error(node.place.clone(), "tests", format!("expected a list of tests, found {}", node.kind()));
        return Vec::new();
    };
    if items.is_empty() {
        findings.error(node.place.clone(), "tests", "there is no test here");
    }
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut tests = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(fields) = Fields::of(item, format!("tests[{index}]"), findings) else {
            continue;
        };
        let Some(test) = test(fields, beside, findings) else {
            continue;
        };
        if let (Some(line), Some(name)) = (lines.get(&test.name), item.get("name")) {
            let message = format!("`{}` is the name of the test in line {line} too", test.name);
            findings
                .warning(name.place.clone(), format!("tests[{index}].name"), message)
                .help("a report tells tests apart by their names");
        }
        lines.entry(test.name.clone()).or_insert(test.line);
        tests.push(test);
    }
    tests
}

fn test(mut fields: Fields<'_>, beside: &mut Beside<'_>, findings: &mut Findings) -> Option<Test> {
    let line = fields.place().line_column().map_or(0, |(line, _)| line);
    let name = fields.require("name", findings);
    let name = name.and_then(|node| {
        let name = string(node, &fields.path_of("name"), findings)?;
        if name.trim().is_empty() {
            findings.error(node.place.clone(), fields.path_of("name"), "a test's name can't be blank");
        }
        Some(name)
    });
    let after = fields.duration_within("after", ANY_DURATION, findings).unwrap_or_default();
    let fresh = fields.boolean("fresh", findings).unwrap_or(false);
    let payload = fields.take("payload");
    let payload_file = fields.take_some("payload_file");
    let payload = match (payload, payload_file) {
        (Some(node), None) => Some(Decoded { value: node.to_json(), repairs: Repairs::NONE }),
        (None, Some(node)) => payload_of(node, &fields.path_of("payload_file"), beside, findings),
        (given, _) => {
            let problem = match given {
                Some(_) => "`payload` and `payload_file` exclude each other",
                None => "a test needs a `payload` or a `payload_file`",
            };
            findings.error(fields.place(), fields.path(), problem);
            None
        }
    };
    let expected = fields.require("expect", findings);
    let expect = expected.and_then(|node| {
        let fields = Fields::of(node, fields.path_of("expect"), findings)?;
        Some(expect(fields, beside.filters, findings))
    });
    fields.finish(findings);
    Some(Test { name: name?, line, after, fresh, payload: payload?, expect: expect?, expect_node: expected?.clone() })
}

fn payload_of(node: &Node, at: &str, beside: &mut Beside<'_>, findings: &mut Findings) -> Option<Decoded> {
    let name = string(node, at, findings)?;
    let path = beside.folder.join(&name);
    beside.files.note(&path);
    let bytes = match read_bytes(&path, PAYLOAD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(unreadable) => {
            findings.error(node.place.clone(), at, unreadable.to_string()).help(RELATIVE);
            return None;
        }
    };
    // Rules don't know which of the two their source takes.
    match read_payload(&bytes, None, Accept { json: beside.json, form: true, ..Accept::default() }) {
        Ok(decoded) => Some(decoded),
        Err(NotJson { problem, line, column, taken_by, .. }) => {
            let message = format!("{name} is no JSON: {problem} at line {line} column {column}");
            let finding = findings.error(node.place.clone(), at, message);
            if taken_by == Some(TakenBy::Lenient) {
                finding.help("`json: lenient` at the top of this file reads it as a source with that key does");
            }
            None
        }
    }
}

fn expect(mut fields: Fields<'_>, filters: bool, findings: &mut Findings) -> Expect {
    let mut found = Findings::new();
    let mut expect = Expect { verdict: fields.choice("verdict", &VERDICTS, &mut found), ..Expect::default() };
    if let Some(node) = fields.take_some("events") {
        let at = fields.path_of("events");
        let items = list(node, &at, &mut found);
        expect.events = items.map(|items| each(items, &at, |item, at| event(item, at, filters, &mut found)));
    }
    if let Some(node) = fields.take_some("errors") {
        let at = fields.path_of("errors");
        let items = list(node, &at, &mut found);
        expect.errors = items.map(|items| each(items, &at, |item, at| error(item, at, &mut found)));
    }
    let Expect { verdict, events, errors } = &expect;
    let is_empty = verdict.is_none() && events.is_none() && errors.is_none();
    if is_empty && !found.has_errors() && fields.unknown().next().is_none() {
        found
            .error(fields.place(), fields.path(), "this expects nothing, and a test that can't fail tests nothing")
            .help("name `verdict`, `events` or `errors`");
    }
    let some = |wanted: Option<usize>| wanted.map(|count| count > 0);
    let (events, errors) = (some(events.as_ref().map(Vec::len)), some(errors.as_ref().map(Vec::len)));
    let excluded = match (*verdict, events, errors) {
        (Some("events"), Some(false), _) => {
            Some("`events` means that there is an event, and `events: []` that there is none")
        }
        (Some("ignored" | "refused"), Some(true), _) => Some("`ignored` and `refused` mean that there is no event"),
        (Some("ignored"), _, Some(true)) => Some("`ignored` means that there is no error"),
        _ => None,
    };
    if let (Some(excluded), false) = (excluded, found.has_errors()) {
        found
            .error(fields.place(), fields.path(), format!("no payload passes this test: the verdict {excluded}"))
            .help("name one of the two, or fix the other");
    }
    findings.extend(found);
    fields.finish(findings);
    expect
}

fn event(node: &Node, at: &str, filters: bool, findings: &mut Findings) -> Option<ExpectedEvent> {
    let mut fields = Fields::of(node, at, findings)?;
    let outcomes: Vec<(&'static str, Outcome)> =
        Outcome::ALL.iter().map(|outcome| (outcome.as_str(), *outcome)).collect();
    let priorities = Priority::ALL.map(|priority| (priority.as_str(), priority));
    let event = ExpectedEvent {
        action: fields.choice("action", &ACTIONS, findings),
        rule: fields.string("rule", findings),
        incident_key: fields.string("incident_key", findings),
        priority: fields.choice("priority", &priorities, findings),
        status: fields.choice("status", &STATUSES, findings),
        outcome: fields.choice("outcome", &outcomes, findings),
        body: fields.take("body").map(Node::to_json),
        body_exact: fields.take("body_exact").map(Node::to_json),
    };
    if event.outcome.is_some() && !filters {
        findings
            .error(fields.place(), fields.path_of("outcome"), "without sandbox filters nothing tells an outcome")
            .help("name them at the top of this file, `filters: FILE`, or on the command line");
    }
    if event.body.is_some() && event.body_exact.is_some() {
        findings.error(fields.place(), fields.path(), "`body` and `body_exact` exclude each other");
    }
    fields.finish(findings);
    Some(event)
}

fn error(node: &Node, at: &str, findings: &mut Findings) -> Option<ExpectedError> {
    let mut fields = Fields::of(node, at, findings)?;
    let path = fields.require("path", findings);
    let path = path.and_then(|node| string(node, &fields.path_of("path"), findings));
    let problem = fields.string("problem", findings);
    fields.finish(findings);
    Some(ExpectedError { path: path?, problem })
}

fn list<'a>(node: &'a Node, at: &str, findings: &mut Findings) -> Option<&'a [Node]> {
    if let Value::List(items) = &node.value {
        return Some(items);
    }
    findings.error(node.place.clone(), at, format!("expected a list, found {}", node.kind()));
    None
}

const VERDICTS: [(&str, &str); 3] = [("events", "events"), ("ignored", "ignored"), ("refused", "refused")];
const STATUSES: [(&str, &str); 2] = [("queued", "queued"), ("duplicate", "duplicate")];
const ACTIONS: [(&str, Action); 2] = [("trigger", Action::Trigger), ("resolve", Action::Resolve)];
/// The largest `listen.max_body`, which no payload exceeds.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// The remedy where a file that is named can't be read.
const RELATIVE: &str = "the path is relative to this file";
/// The relay's own default.
const WINDOW: Duration = Duration::from_secs(600);
/// More than any file of tests has.
const KEYS_MAX: usize = 100_000;
