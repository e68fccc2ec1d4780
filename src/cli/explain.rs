//! `gander explain`: why a payload is decided as it is, for a person or a program.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::terminal::{Terminal, plain};
use super::{ConfigArguments, Exit, input};
use crate::config::{self, Secrets};
use crate::event::{Draft, Violation};
use crate::rules::{ConditionTrace, Context, Decision, Element, ElementTrace, RuleSet, Seen};
use crate::time::WallTime;

/// Show why a payload is decided as it is
///
/// Every validation, rule and condition with the value that was seen, then the body that would be sent. Reads only the
/// source's rules from the configuration: no secret is needed, no relay has to run, and nothing is sent.
///
/// Exit codes: 0 whatever the verdict; 2 the rules or the payload can't be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander explain --source servicepilot alert.json\n  \
                        gander explain --source servicepilot --json < alert.json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The source whose rules decide
    #[arg(short, long, value_name = "NAME")]
    source: String,
    /// The payload, JSON [default: standard input, as for `-`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object: {"verdict", "events", "errors", "trace"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    match explained(arguments, terminal) {
        Ok(()) => Exit::Fine,
        Err(exit) => exit,
    }
}

fn explained(arguments: &Arguments, terminal: &mut Terminal) -> Result<(), Exit> {
    let inputs = arguments.config.inputs(Secrets::Optional, terminal)?;
    let rules = config::load_rules(&inputs, &arguments.source).map_err(|failure| {
        terminal.say_failure(&failure);
        Exit::CouldNotRun
    })?;
    let mut could_not = |problem: String| {
        terminal.say(&format!("error: {problem}"));
        Exit::CouldNotRun
    };
    let payload = input::read(arguments.file.as_deref()).map_err(&mut could_not)?;
    let payload: Value =
        serde_json::from_slice(&payload).map_err(|error| could_not(format!("the payload is no JSON: {error}")))?;
    let format = if arguments.json { Format::Json } else { Format::Text { colour: terminal.colour() } };
    let received_at = WallTime::now().rfc3339();
    let context = Context { source: &arguments.source, received_at: &received_at };
    // The terminal remembers what can't be written.
    let _ = explain(&rules, &payload, context, format, terminal);
    Ok(())
}

/// How the explanation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A tree to read.
    Text { colour: bool },
    /// One object for a program.
    Json,
}

/// Writes how `rules` decide `payload`.
pub fn explain(
    rules: &RuleSet,
    payload: &Value,
    context: Context<'_>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let (decision, traces) = rules.explain(payload, context);
    match format {
        Format::Json => writeln!(out, "{:#}", object(&decision, &traces))?,
        Format::Text { colour } => out.write_all(text(&decision, &traces, colour).as_bytes())?,
    }
    out.flush()
}

fn object(decision: &Decision, traces: &[ElementTrace]) -> Value {
    let events: Vec<Value> = decision
        .elements
        .iter()
        .enumerate()
        .filter_map(|(index, element)| match element {
            Element::Event(draft) => Some(json!({
                "index": index,
                "action": draft.action.as_str(),
                "rule": &*draft.rule,
                "incident_key": draft.incident_key,
                "body": draft.body.value(),
            })),
            _ => None,
        })
        .collect();
    let errors: Vec<&Violation> = decision.elements.iter().flat_map(violations).collect();
    let mut object = json!({ "verdict": decision.verdict(), "events": events, "errors": errors, "trace": traces });
    if let Some(warning) = template_warning(decision) {
        object["warnings"] = json!([warning]);
    }
    object
}

fn violations(element: &Element) -> &[Violation] {
    match element {
        Element::Refused { violations, .. } => violations,
        _ => &[],
    }
}

fn template_warning(decision: &Decision) -> Option<String> {
    let failures = &decision.template_failures;
    let first = failures.first.as_ref()?;
    Some(format!("{} templates failed and rendered empty, the first: {first}", failures.count))
}

fn text(decision: &Decision, traces: &[ElementTrace], colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    for (element, trace) in decision.elements.iter().zip(traces) {
        if decision.batch {
            page.heading(&format!("element {}", trace.index));
        }
        page.element(element, trace);
        page.text.push('\n');
    }
    if decision.batch {
        let count = |which: fn(&Element) -> bool| decision.elements.iter().filter(|element| which(element)).count();
        page.line(&format!(
            "{} elements: {} events, {} ignored, {} refused",
            decision.elements.len(),
            count(|element| matches!(element, Element::Event(_))),
            count(|element| matches!(element, Element::Ignored { .. })),
            count(|element| matches!(element, Element::Refused { .. })),
        ));
    }
    if let Some(warning) = template_warning(decision) {
        page.line(&plain(&format!("warning: {warning}")));
    }
    page.text
}

/// The text as it grows.
struct Page {
    text: String,
    colour: bool,
}

/// One line of the tree: a path or rule, what is asked of it, what was seen.
struct Row {
    depth: usize,
    /// None: it was not asked.
    holds: Option<bool>,
    name: String,
    asks: String,
    seen: String,
}

impl Page {
    fn element(&mut self, element: &Element, trace: &ElementTrace) {
        if !trace.validations.is_empty() {
            self.heading("validate");
            let rows = trace.validations.iter().map(|validation| Row {
                depth: 0,
                holds: Some(validation.holds),
                name: validation.path.clone(),
                asks: validation.checks.join(", "),
                seen: seen(&validation.seen),
            });
            self.rows(&rows.collect::<Vec<_>>());
        }
        if !trace.rules.is_empty() {
            self.heading("rules");
            let mut rows = Vec::new();
            for rule in &trace.rules {
                let holds = match rule.verdict {
                    "matched" => Some(true),
                    "not matched" | "unreadable" => Some(false),
                    _ => None,
                };
                let always = if rule.when.is_none() && holds == Some(true) { ", always" } else { "" };
                let name = format!("{} → {}", rule.name, rule.then);
                rows.push(Row {
                    depth: 0,
                    holds,
                    name,
                    asks: format!("{}{always}", rule.verdict),
                    seen: String::new(),
                });
                rule.when.iter().for_each(|condition| condition_rows(condition, 1, &mut rows));
            }
            self.rows(&rows);
        }
        match element {
            Element::Event(draft) => self.event(draft),
            Element::Ignored { rule } => {
                self.heading("ignored");
                match rule {
                    Some(rule) => self.line(&format!("  by the rule {rule}")),
                    None => self.line("  no rule matches, and `otherwise` is ignore"),
                }
            }
            Element::Refused { violations, .. } => {
                self.heading("refused");
                for violation in violations {
                    let found = violation.found.as_ref().map_or_else(String::new, |found| format!(" (found: {found})"));
                    let line = plain(&format!("  {}  {}{found}", violation.path, violation.problem));
                    let line = self.painted(&line, RED);
                    self.line(&line);
                }
            }
        }
    }

    fn event(&mut self, draft: &Draft) {
        self.heading("event");
        self.line(&format!("  action        {}", draft.action));
        self.line(&format!("  incident_key  {}", plain(&draft.incident_key)));
        if let Some(occurrence) = &draft.occurrence {
            self.line(&format!("  occurrence    {}", plain(&occurrence.0)));
        }
        self.line("  body");
        for line in format!("{:#}", draft.body.value()).lines() {
            // JSON escapes some of what moves a cursor, not all.
            self.line(&format!("    {}", plain(line)));
        }
    }

    /// Rows with their columns aligned.
    fn rows(&mut self, rows: &[Row]) {
        let width = |of: fn(&Row) -> usize| rows.iter().map(of).filter(|width| *width <= COLUMN_MAX).max().unwrap_or(0);
        let names = width(|row| row.depth * INDENT + row.name.chars().count());
        let asks = width(|row| if row.seen.is_empty() { 0 } else { row.asks.chars().count() });
        for row in rows {
            let (mark, colour) = match row.holds {
                Some(true) => ("✓", GREEN),
                Some(false) => ("✗", RED),
                None => ("·", DIM),
            };
            let indent = row.depth * INDENT;
            let rest =
                format!("{:<names$}  {:<asks$}  {}", row.name, row.asks, row.seen, names = names - indent.min(names));
            let line = format!("  {:indent$}{} {}", "", self.painted(mark, colour), rest.trim_end());
            self.line(&line);
        }
    }

    fn heading(&mut self, text: &str) {
        let heading = self.painted(text, BOLD);
        self.line(&heading);
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn painted(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn condition_rows(condition: &ConditionTrace, depth: usize, rows: &mut Vec<Row>) {
    match condition {
        ConditionTrace::Combined { combine, holds, conditions } => {
            let (name, asks) = ((*combine).to_owned(), String::new());
            rows.push(Row { depth, holds: Some(*holds), name, asks, seen: String::new() });
            conditions.iter().for_each(|condition| condition_rows(condition, depth + 1, rows));
        }
        ConditionTrace::Test { path, operators, every, seen: nodes, holds, .. } => rows.push(Row {
            depth,
            holds: Some(*holds),
            name: path.clone(),
            asks: format!("{}{}", if *every { "every " } else { "" }, operators.join(", ")),
            seen: seen(nodes),
        }),
    }
}

/// What a path found, with the reason where that is more than "not what was asked".
fn seen(nodes: &[Seen]) -> String {
    let nodes = nodes.iter().map(|node| {
        let value = match &node.value {
            None => node.kind.to_owned(),
            Some(Value::String(text)) if node.kind != "string" => text.clone(),
            Some(value) => value.to_string(),
        };
        match &node.why {
            Some(why) if !why.starts_with("not ") => format!("{value} ({why})"),
            _ => value,
        }
    });
    plain(&nodes.collect::<Vec<_>>().join(", "))
}

const INDENT: usize = 2;
/// A wider cell is written as it is and does not push the others to the right.
const COLUMN_MAX: usize = 60;
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";
const BOLD: &str = "1";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::document::{Findings, Source};

    const RULES: &str = "
version: 1
validate: [{ path: $.id, required: true, type: string }]
incident_key: $.id
rules:
  - { name: problem, when: { path: $.state, contains_word: [BAD, WORSE] }, then: trigger }
  - { name: recovery, when: { all: [{ path: $.state, equals: GOOD }, { not: { path: $.n, gt: 5 } }] }, then: resolve }
  - { name: rest, then: ignore }
";

    fn explained(yaml: &str, payload: &Value, format: Format) -> String {
        let source = Arc::new(Source { name: "rules.yaml".into(), text: yaml.into() });
        let rules = RuleSet::compile(&source, &mut Findings::new()).unwrap();
        let mut out = Vec::new();
        explain(&rules, payload, Context { source: "s", received_at: "t" }, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_person_sees_every_rule_with_what_it_saw() {
        let text = explained(RULES, &json!({"id": "x", "state": "GOOD", "n": "7 %"}), Format::Text { colour: false });
        assert_eq!(
            text,
            r#"validate
  ✓ $.id  required, type string  "x"
rules
  ✗ problem → trigger   not matched
    ✗ $.state           contains_word [BAD, WORSE]  "GOOD"
  ✓ recovery → resolve  matched
    ✓ all
      ✓ $.state         equals 'GOOD'               "GOOD"
      ✓ not
        ✗ $.n           gt 5                        "7 %" (gt reads numbers, this text is none)
  · rest → ignore       not reached
event
  action        resolve
  incident_key  x
  body
    {
      "id": "x",
      "state": "GOOD",
      "n": "7 %"
    }

"#
        );
    }

    #[test]
    fn a_person_sees_why_it_is_refused() {
        let text = explained(RULES, &json!({"id": 5}), Format::Text { colour: true });
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
            let text = explained(&yaml, &payload, Format::Text { colour: false });
            let moves = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(moves), "{text:?}");
            assert!(text.lines().all(|line| !line.starts_with("31m")), "{text}");
        }
    }

    #[test]
    fn a_program_gets_one_object() {
        let yaml = format!("split: $[*]{RULES}");
        let payload = json!([{"id": "a", "state": "BAD"}, {}, {"id": "c"}]);
        let object: Value = serde_json::from_str(&explained(&yaml, &payload, Format::Json)).unwrap();
        let names: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(names, ["verdict", "events", "errors", "trace"]);
        assert_eq!(object["verdict"], "events");
        assert_eq!(
            object["events"],
            json!([{"index": 0, "action": "trigger", "rule": "problem", "incident_key": "a", "body": payload[0]}])
        );
        assert_eq!(object["errors"], json!([{"path": "$.id", "problem": "is required and missing", "found": null}]));
        let verdicts: Vec<&Value> =
            object["trace"].as_array().unwrap().iter().map(|element| &element["verdict"]).collect();
        assert_eq!(verdicts, ["event", "refused", "ignored"]);
    }
}
