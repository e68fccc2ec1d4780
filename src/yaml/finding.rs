//! Findings: what is wrong or doubtful in a file, and their one look on a terminal.

use std::sync::Arc;

use serde_json::json;

use super::{Key, Node, Place, Source, conceal, snippet};

/// An error keeps the program from starting; a warning does not; a note is only worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// One thing to mend: where, what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What kind of finding it is, for a program: lower case with hyphens, the same in every version.
    pub code: &'static str,
    pub place: Place,
    /// The key's dotted path from the top of the file, as `sources.servicepilot.auth[0]`; empty for the file itself.
    pub path: String,
    /// What was found and what was expected, in one sentence.
    pub message: String,
    /// The remedy, where there is one to name.
    pub help: Option<String>,
}

/// All findings of a reading, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    findings: Vec<Finding>,
    /// What no finding may show, whatever it is about.
    concealed: Vec<Place>,
    /// Whether the values of keys that nobody knows may be secrets.
    discreet: bool,
}

impl Findings {
    pub fn new() -> Findings {
        Findings::default()
    }

    /// Findings of a file that may hold secrets: the value of an unknown key is not shown either, for it may be a
    /// secret at a mistyped key.
    pub fn discreet() -> Findings {
        Findings { discreet: true, ..Findings::default() }
    }

    /// Adds an error; the returned finding takes the help.
    pub fn error(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, place, path.into(), message.into())
    }

    /// Adds a warning; the returned finding takes the help.
    pub fn warning(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, place, path.into(), message.into())
    }

    /// Adds a note; the returned finding takes the help.
    pub fn note(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Note, place, path.into(), message.into())
    }

    fn push(&mut self, severity: Severity, place: Place, path: String, message: String) -> &mut Finding {
        self.findings.push(Finding { severity, code: severity.code(), place, path, message, help: None });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// None yet, about the same file: what is concealed here is concealed there.
    pub fn apart(&self) -> Findings {
        Findings { findings: Vec::new(), concealed: self.concealed.clone(), discreet: self.discreet }
    }

    pub fn extend(&mut self, other: Findings) {
        self.findings.extend(other.findings);
        self.concealed.extend(other.concealed);
    }

    /// Puts them in the order of the files that they are about, as these were first spoken of, and of the lines in each;
    /// what is in no file comes last.
    pub fn sort(&mut self) {
        let mut files: Vec<Arc<Source>> = Vec::new();
        for finding in &self.findings {
            if let Place::Text { source, .. } = &finding.place
                && !files.iter().any(|file| Arc::ptr_eq(file, source))
            {
                files.push(Arc::clone(source));
            }
        }
        self.findings.sort_by_key(|finding| match &finding.place {
            Place::Text { source, span } => {
                (files.iter().position(|file| Arc::ptr_eq(file, source)).unwrap_or(usize::MAX), span.start)
            }
            _ => (usize::MAX, 0),
        });
    }

    /// Keeps what stands at `place` out of everything that is rendered, for it may be a secret.
    pub fn conceal(&mut self, place: Place) {
        if matches!(place, Place::Text { .. }) {
            self.concealed.push(place);
        }
    }

    /// Whether the file may hold secrets.
    pub(super) fn is_discreet(&self) -> bool {
        self.discreet
    }

    /// Conceals what stands at a key that nobody knows, where the file may hold secrets, and the key itself unless it
    /// looks like one.
    pub(super) fn conceal_unknown(&mut self, key: &Key, node: &Node, known: &[&'static str]) {
        if !self.discreet {
            return;
        }
        conceal::values(node, self);
        let plain = key.name.len() <= 32 && key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !plain && nearest(&key.name, known.iter().copied()).is_none() {
            self.conceal(key.place.clone());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether there is nothing but notes.
    pub fn is_fine(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// Everything for a person: one block a finding, with the line shown and a caret under the exact part.
    pub fn render(&self, colour: bool) -> String {
        let shown = self.findings.iter().take(SHOWN_MAX);
        let mut blocks: Vec<String> =
            shown.map(|finding| snippet::render(finding, &self.concealed, colour) + "\n").collect();
        blocks.extend(self.not_shown().map(|text| text + "\n"));
        blocks.join("\n")
    }

    /// Everything for a log: one line a finding, `FILE:LINE:COLUMN: PATH: MESSAGE (HELP)`.
    pub fn lines(&self) -> Vec<String> {
        self.findings.iter().take(SHOWN_MAX).map(|finding| finding.line(&self.concealed)).collect()
    }

    /// The errors alone, likewise.
    pub fn error_lines(&self) -> Vec<String> {
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        errors.take(SHOWN_MAX).map(|finding| finding.line(&self.concealed)).collect()
    }

    /// Everything for an editor or CI: a list of `{severity, code, file, line, column, end_line, end_column, path, message,
    /// help}`; lines and columns from 1, the end is the column behind the last.
    pub fn to_json(&self) -> serde_json::Value {
        let shown = self.findings.iter().take(SHOWN_MAX).map(|finding| finding.to_json(&self.concealed));
        shown.chain(self.not_shown().map(|text| json!({ "severity": "error", "message": text }))).collect()
    }

    fn not_shown(&self) -> Option<String> {
        let more = self.findings.len().saturating_sub(SHOWN_MAX);
        (more > 0).then(|| format!("{more} more findings are not shown"))
    }
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }

    /// The code of a finding that has none of its own.
    fn code(self) -> &'static str {
        match self {
            Severity::Error => "invalid-value",
            Severity::Warning => "doubtful",
            Severity::Note => "note",
        }
    }
}

impl Finding {
    /// Says what kind of finding it is.
    pub fn code(&mut self, code: &'static str) -> &mut Finding {
        self.code = code;
        self
    }

    /// Names the remedy.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Finding {
        self.help = Some(help.into());
        self
    }

    /// Names the nearest of `names` as the remedy, if one is near, else all of them.
    pub fn suggest<'a>(&mut self, found: &str, names: impl IntoIterator<Item = &'a str>) -> &mut Finding {
        let names: Vec<&str> = names.into_iter().collect();
        let help = match nearest(found, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("valid here: {}", names.join(", ")),
        };
        self.help(help)
    }

    /// Path and message in one line.
    pub(super) fn title(&self, concealed: &[Place]) -> String {
        let message = snippet::masked(&self.message, concealed);
        let path = snippet::masked(&self.path, concealed);
        if path.is_empty() { message } else { format!("{path}: {message}") }
    }

    fn line(&self, concealed: &[Place]) -> String {
        let place = match (&self.place, self.place.line_column()) {
            (Place::Text { source, .. }, Some((line, column))) => format!("{}:{line}:{column}: ", source.name),
            (Place::Environment(name), _) => format!("environment variable {name}: "),
            (Place::Flag(flag), _) => format!("{flag}: "),
            _ => String::new(),
        };
        let help = self.help.as_ref().map_or(String::new(), |help| format!(" ({})", snippet::masked(help, concealed)));
        format!("{place}{}{help}", self.title(concealed))
    }

    fn to_json(&self, concealed: &[Place]) -> serde_json::Value {
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
            "path": snippet::masked(&self.path, concealed),
            "message": snippet::masked(&self.message, concealed),
            "help": self.help.as_ref().map(|help| snippet::masked(help, concealed)),
        })
    }
}

/// The name among `names` that a typing mistake would turn into `found`, if any is near enough.
pub fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = found.to_lowercase().replace('-', "_");
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(folded.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Nobody reads more at once, and each one costs a look through the file for its line.
const SHOWN_MAX: usize = 500;
