//! Findings: what is wrong or doubtful in a file, and their one look on a terminal.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

use super::{Place, Source};

/// An error keeps the program from starting; a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing to mend: where, what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
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
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn new() -> Findings {
        Findings::default()
    }

    /// Adds an error; the returned finding takes the help.
    pub fn error(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, place, path.into(), message.into())
    }

    /// Adds a warning; the returned finding takes the help.
    pub fn warning(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, place, path.into(), message.into())
    }

    fn push(&mut self, severity: Severity, place: Place, path: String, message: String) -> &mut Finding {
        self.0.push(Finding { severity, place, path, message, help: None });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub fn extend(&mut self, other: Findings) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Everything for a person: one block a finding, with the line shown and a caret under the exact part.
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|finding| finding.render(colour) + "\n").collect::<Vec<_>>().join("\n")
    }

    /// Everything for an editor or CI: a list of `{severity, file, line, column, path, message, help}`.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(Finding::to_json).collect()
    }
}

impl Finding {
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

    fn title(&self) -> String {
        match (self.path.is_empty(), &self.place) {
            (true, _) => self.message.clone(),
            (false, _) => format!("{}: {}", self.path, self.message),
        }
    }

    /// The finding as a person reads it.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = self.title();
        let mut group = Group::with_title(level.primary_title(&title));
        let origin;
        match &self.place {
            Place::Text { source, span } => {
                group = group.element(snippet(source, span.clone()));
            }
            Place::Environment(name) => {
                origin = format!("environment variable {name}");
                group = group.element(Origin::path(&origin));
            }
            Place::Flag(flag) => {
                origin = format!("command line, {flag}");
                group = group.element(Origin::path(&origin));
            }
            Place::Default => {}
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    fn to_json(&self) -> serde_json::Value {
        let (line, column) = match self.place.line_column() {
            Some((line, column)) => (Some(line), Some(column)),
            None => (None, None),
        };
        let file = match &self.place {
            Place::Text { source, .. } => Some(source.name.clone()),
            Place::Environment(name) => Some(format!("${name}")),
            Place::Flag(flag) => Some(flag.clone()),
            Place::Default => None,
        };
        json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "file": file,
            "line": line,
            "column": column,
            "path": self.path,
            "message": self.message,
            "help": self.help,
        })
    }
}

fn snippet(source: &Source, span: std::ops::Range<usize>) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(&source.text).path(&source.name).line_start(1).annotation(AnnotationKind::Primary.span(span))
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
