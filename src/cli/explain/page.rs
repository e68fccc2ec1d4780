//! An explanation for a person: a tree, aligned, coloured on a terminal.

use serde_json::Value;

use super::Explanation;
use crate::advice::decision::{RULES, Row, Section, lacking, missed, path_row, sections};
use crate::advice::filter_verdict::FilterVerdict;
use crate::cli::terminal::{Paint, painted, plain};
use crate::event::{Draft, Priority};
use crate::rules::{Element, ElementTrace, Nearest};
use crate::text::visible;

pub(super) fn text(explanation: &Explanation, colour: bool) -> String {
    let Explanation { decision, trace, .. } = explanation;
    let mut page = Page { text: String::new(), colour, rules: &explanation.rules };
    if let Some(recorded) = &explanation.recorded {
        page.heading("recorded");
        page.line(&format!("  {}", recorded.told()));
    }
    if !explanation.repairs.is_empty() {
        page.heading("repaired");
        explanation.repairs.iter().for_each(|repair| page.line(&format!("  {}", repair.explain())));
    }
    if !trace.payload.is_empty() {
        page.heading("payload");
        page.rows(&trace.payload.iter().map(path_row).collect::<Vec<_>>());
    }
    for (index, (element, trace)) in decision.elements.iter().zip(&trace.elements).enumerate() {
        if decision.batch {
            page.heading(&format!("element {}", trace.index));
        }
        page.element(element, trace);
        if let Some(known) = explanation.known(index) {
            page.known(known);
        }
        if let (Some(sent), Some(callgoose)) = (explanation.sent(index), &explanation.callgoose) {
            page.sent(sent, &callgoose.name);
        }
        page.text.push('\n');
    }
    if decision.batch {
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        page.line(&format!(
            "{}: {}, {} ignored, {} refused",
            counted(decision.elements.len(), "element"),
            counted(explanation.count(|element| matches!(element, Element::Event(_))), "event"),
            explanation.count(|element| matches!(element, Element::Ignored { .. })),
            explanation.count(|element| matches!(element, Element::Refused { .. })),
        ));
    }
    for warning in &explanation.warnings {
        page.line(&plain(&format!("warning: {warning}")));
    }
    page.text
}

/// The text as it grows.
struct Page<'e> {
    text: String,
    colour: bool,
    /// The rule file.
    rules: &'e str,
}

impl Page<'_> {
    fn element(&mut self, element: &Element, trace: &ElementTrace) {
        for Section { heading, rows } in sections(trace) {
            match heading {
                RULES => {
                    let rules = self.painted(self.rules, Paint::Dim);
                    let heading = format!("{}  {rules}", self.painted(RULES, Paint::Bold));
                    self.line(&heading);
                }
                heading => self.heading(heading),
            }
            self.rows(&rows);
        }
        if let Some(nearest) = &trace.nearest {
            self.nearest(nearest);
        }
        if let Some(missed) = missed(trace) {
            self.heading(missed.heading);
            self.rows(&missed.rows);
        }
        match element {
            Element::Event(draft) => self.event(draft),
            Element::Ignored { rule } => {
                self.heading("ignored");
                match rule {
                    Some(rule) => self.line(&format!("  by the rule {}", plain(rule))),
                    None => self.line("  no rule matches, and `otherwise` is ignore"),
                }
            }
            Element::Refused { violations, .. } => {
                self.heading("refused");
                for violation in violations {
                    let found = violation.found.as_deref();
                    let found = found.map_or_else(String::new, |found| format!(" (found: {})", visible(found)));
                    let line = plain(&format!("  {}  {}{found}", violation.path, violation.problem));
                    let line = self.painted(&line, Paint::Red);
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
        if draft.priority != Priority::default() {
            self.line(&format!("  priority      {}", draft.priority));
        }
        self.line("  body");
        for line in format!("{:#}", draft.body.value()).lines() {
            // JSON escapes some of what moves a cursor, not all.
            self.line(&format!("    {}", plain(line)));
        }
    }

    /// The rule that lacked least, and what it lacked.
    fn nearest(&mut self, nearest: &Nearest) {
        self.heading("nearest rule");
        self.line(&format!(
            "  {} ({}:{}) matches if this comes out otherwise:",
            plain(&nearest.rule),
            self.rules,
            nearest.spot.line
        ));
        self.rows(&lacking(nearest));
    }

    /// Deduplication's answer, and what it knows of the key.
    fn known(&mut self, answer: &Value) {
        self.heading("dedup");
        let word = |value: &Value| plain(value.as_str().unwrap_or("-"));
        let event = |number: &Value, index: &Value| match index.as_u64() {
            Some(index) => format!("element {index}"),
            None => format!("event {}", word(number)),
        };
        let why = word(&answer["why"]);
        let line = match answer["decision"].as_str() {
            Some("duplicate") => {
                let of = event(&answer["of"], &answer["of_index"]);
                format!("{} a duplicate of {of}: {why}", self.painted("✗", Paint::Red))
            }
            _ => format!("{} would be taken: {why}", self.painted("✓", Paint::Green)),
        };
        self.line(&format!("  {line}"));
        let known = &answer["known"];
        let line = match known["taken_seconds_ago"].as_u64() {
            None => "the incident key is not known".to_owned(),
            Some(seconds) => {
                let waits = if known["waiting"] == true { ", which waits for delivery" } else { "" };
                let (state, by) = (word(&known["state"]), event(&known["event"], &known["event_index"]));
                match known["event_index"].is_null() {
                    true => format!("the incident key is {state} by {by}, {} ago{waits}", age(seconds)),
                    false => format!("the incident key would be {state} by {by}"),
                }
            }
        };
        self.line(&format!("      {line}"));
    }

    /// The filters' verdict on the event.
    fn sent(&mut self, sent: &FilterVerdict, filters: &str) {
        let filters = self.painted(filters, Paint::Dim);
        let heading = format!("{}  {filters}", self.painted("callgoose", Paint::Bold));
        self.line(&heading);
        let (mark, colour) = if sent.takes_effect() { ("✓", Paint::Green) } else { ("✗", Paint::Red) };
        let mark = self.painted(mark, colour);
        for line in sent.said() {
            self.line(&format!("  {mark} {}", plain(&line)));
        }
        for line in sent.details() {
            self.line(&format!("      {}", plain(&line)));
        }
    }

    /// Rows with their columns aligned.
    fn rows(&mut self, rows: &[Row]) {
        let plain = |row: &Row| Row { name: plain(&row.name), asks: plain(&row.asks), seen: row.seen.clone(), ..*row };
        let rows: Vec<Row> = rows.iter().map(plain).collect();
        let width = |of: fn(&Row) -> usize| rows.iter().map(of).filter(|width| *width <= COLUMN_MAX).max().unwrap_or(0);
        let names = width(|row| row.depth * INDENT + row.name.chars().count());
        let asks = width(|row| if row.seen.is_empty() { 0 } else { row.asks.chars().count() });
        for row in &rows {
            let (mark, colour) = match row.holds {
                Some(true) => ("✓", Paint::Green),
                Some(false) => ("✗", Paint::Red),
                None => ("·", Paint::Dim),
            };
            let indent = row.depth * INDENT;
            let rest =
                format!("{:<names$}  {:<asks$}  {}", row.name, row.asks, row.seen, names = names - indent.min(names));
            let line = format!("  {:indent$}{} {}", "", self.painted(mark, colour), rest.trim_end());
            self.line(&line);
        }
    }

    fn heading(&mut self, text: &str) {
        let heading = self.painted(text, Paint::Bold);
        self.line(&heading);
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn painted(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.colour)
    }
}

/// An age as one says it.
fn age(seconds: u64) -> String {
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, scale)| seconds >= 2 * scale);
    unit.map_or_else(|| format!("{seconds} seconds"), |(unit, scale)| format!("{} {unit}", seconds / scale))
}

const INDENT: usize = 2;
/// A wider cell is written as it is and does not push the others to the right.
const COLUMN_MAX: usize = 60;
