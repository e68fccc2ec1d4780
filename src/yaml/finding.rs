//! Findings: what is wrong or doubtful in a file.

use std::sync::Arc;

use super::{Place, Source};

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
    /// The kind of finding, for a program: lower case with hyphens, the same in every version.
    pub code: &'static str,
    pub place: Place,
    /// The key's dotted path from the top of the file, as `sources.servicepilot.auth[0]`; empty for the file itself.
    pub path: String,
    /// One sentence: what was expected and what was found.
    pub message: String,
    /// The remedy, where there is one to name.
    pub help: Option<String>,
}

/// All findings of a reading, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub(super) findings: Vec<Finding>,
}

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

    /// Adds a note; the returned finding takes the help.
    pub fn note(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Note, place, path.into(), message.into())
    }

    fn push(&mut self, severity: Severity, place: Place, path: String, message: String) -> &mut Finding {
        self.findings.push(Finding { severity, code: severity.code(), place, path, message, help: None });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    pub fn extend(&mut self, other: Findings) {
        self.findings.extend(other.findings);
    }

    /// Sorts by severity, within it by file, in the order in which files were first named, and by line; what is in no file
    /// comes last.
    pub fn sort(&mut self) {
        let mut files: Vec<Arc<Source>> = Vec::new();
        for finding in &self.findings {
            if let Place::Text { source, .. } = &finding.place
                && !files.iter().any(|file| Arc::ptr_eq(file, source))
            {
                files.push(Arc::clone(source));
            }
        }
        self.findings.sort_by_key(|finding| {
            let (file, start) = match &finding.place {
                Place::Text { source, span } => {
                    (files.iter().position(|file| Arc::ptr_eq(file, source)).unwrap_or(usize::MAX), span.start)
                }
                _ => (usize::MAX, 0),
            };
            (finding.severity, file, start)
        });
    }

    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// There is nothing but notes.
    pub fn is_fine(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
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
}

/// The name among `names` that a typing mistake would turn into `found`, if any is near enough.
pub(crate) fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = found.to_lowercase().replace('-', "_");
    let length = folded.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let most = (name.len().max(folded.len()) / 3).max(1);
            // Each missing character is a mistake: most names are told apart without a look at the rest.
            if name.chars().count().abs_diff(length) > most {
                return None;
            }
            let distance = strsim::damerau_levenshtein(&folded, &name.to_lowercase());
            (distance <= most).then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
