//! Renders findings for a person, a log or a program.

use serde_json::json;

use super::{Finding, Findings, Place, Severity, snippet};

impl Findings {
    /// Everything for a person: one block a finding, with the line shown and a caret under the exact part.
    pub fn render(&self, colour: bool) -> String {
        let shown = self.findings.iter().take(SHOWN_MAX);
        let mut blocks: Vec<String> = shown.map(|finding| snippet::render(finding, colour) + "\n").collect();
        blocks.extend(self.not_shown().map(|text| text + "\n"));
        blocks.join("\n")
    }

    /// Everything for a log: one line a finding, `FILE:LINE:COLUMN: PATH: MESSAGE (HELP)`.
    pub fn lines(&self) -> Vec<String> {
        self.findings.iter().take(SHOWN_MAX).map(|finding| finding.line()).collect()
    }

    /// The errors alone, in such lines.
    pub fn error_lines(&self) -> Vec<String> {
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        errors.take(SHOWN_MAX).map(|finding| finding.line()).collect()
    }

    /// Everything for an editor or CI: a list of `{severity, code, file, line, column, end_line, end_column, path, message,
    /// help}`; lines and columns from 1, the end is the column behind the last.
    pub fn to_json(&self) -> serde_json::Value {
        let shown = self.findings.iter().take(SHOWN_MAX).map(|finding| finding.to_json());
        shown.chain(self.not_shown().map(|text| json!({ "severity": "error", "message": text }))).collect()
    }

    fn not_shown(&self) -> Option<String> {
        let more = self.findings.len().saturating_sub(SHOWN_MAX);
        (more > 0).then(|| format!("{more} more findings are not shown"))
    }
}

impl Finding {
    fn line(&self) -> String {
        let place = match (&self.place, self.place.line_column()) {
            (Place::Text { source, .. }, Some((line, column))) => format!("{}:{line}:{column}: ", source.name),
            (Place::Environment(name), _) => format!("environment variable {name}: "),
            (Place::Flag(flag), _) => format!("{flag}: "),
            _ => String::new(),
        };
        let help = self.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{place}{}{help}", snippet::title(self))
    }

    fn to_json(&self) -> serde_json::Value {
        let (line, column) = self.place.line_column().unzip();
        let (end_line, end_column) = self.place.end_line_column().unzip();
        let file = match &self.place {
            Place::Text { source, .. } => Some(source.name.clone()),
            Place::Environment(name) => Some(format!("${name}")),
            Place::Flag(flag) => Some(flag.clone()),
            Place::Default => None,
        };
        json!({
            "severity": self.severity.as_str(),
            "code": self.code,
            "file": file,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "path": self.path,
            "message": self.message,
            "help": self.help,
        })
    }
}

/// Nobody reads more at once, and each one costs a look through the file for its line.
const SHOWN_MAX: usize = 500;
