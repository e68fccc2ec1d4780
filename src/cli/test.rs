//! `gander test`: runs rule tests at the desk, with a clock of their own and the relay's own deduplication.
//!
//! A test gives a payload to the rules and says what must become of it. Events count as delivered the moment they
//! are taken; with sandbox filters they are judged by the stand-in for Callgoose, and end as it answers.

mod compare;
mod play;
mod read;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::terminal::Terminal;
use crate::document::{Findings, Source};

/// Run rule tests and print what differs
///
/// Runs the tests of files and of folders (every *.test.yaml in them), each file with its own virtual clock and
/// deduplication. With sandbox filters, which a test file may name itself, events are judged by the stand-in for
/// Callgoose too.
///
/// Exit codes: 0 all passed; 1 some failed; 2 something could not run, or there is no test.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Test files and folders
    #[arg(value_name = "PATH", default_value = FOLDER)]
    paths: Vec<PathBuf>,
    /// Sandbox filters that judge the events of test files which name none
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
    /// Print one JSON object: {"passed", "files", "findings", "unreadable"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    let filters = arguments.filters.as_deref().map(crate::config::read_source).transpose();
    let filters = match filters {
        Ok(filters) => filters,
        Err(unreadable) => {
            terminal.say(&format!("error: {unreadable}"));
            return Exit::CouldNotRun;
        }
    };
    let report = test(&arguments.paths, filters.as_ref());
    if arguments.json {
        terminal.print(&report.to_json().to_string());
    } else {
        for problem in &report.unreadable {
            terminal.say(&format!("error: {problem}"));
        }
        if !report.findings.is_empty() {
            terminal.say(&report.findings.render(terminal.colour_for_errors()));
        }
        // The terminal remembers what can't be written.
        let _ = report.write(terminal.colour(), terminal);
    }
    match report.exit_code() {
        0 => Exit::Fine,
        1 => Exit::No,
        _ => Exit::CouldNotRun,
    }
}

/// What ran and what came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
    /// Mistakes in test files, rules and filters. An error keeps its file from running.
    pub findings: Findings,
    /// Files that can't be read, each in a sentence.
    pub unreadable: Vec<String>,
}

/// One test file.
#[derive(Debug)]
pub struct FileReport {
    pub name: String,
    pub tests: Vec<TestReport>,
}

/// One test; it passed if nothing differs.
#[derive(Debug)]
pub struct TestReport {
    pub name: String,
    /// Where it begins in its file.
    pub line: usize,
    pub differences: Vec<Difference>,
    /// What a person should know although nothing differs.
    pub warnings: Vec<String>,
}

/// One thing that is not as the test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, as `events[0].body.state`.
    pub at: String,
    pub expected: String,
    pub found: String,
}

/// Runs the tests of files and of folders (each `*.test.yaml` in them). `filters` judge the events of every file
/// that names no filters of its own.
pub fn test(paths: &[PathBuf], filters: Option<&Arc<Source>>) -> Report {
    let mut report = Report::default();
    for path in discover(paths, &mut report.unreadable) {
        let Some(source) = load(&path, &mut report.unreadable) else {
            continue;
        };
        let mut findings = Findings::new();
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = read::file(&source, folder, filters, &mut findings, &mut report.unreadable);
        let usable = !findings.has_errors();
        report.findings.extend(findings);
        if let Some(file) = read.filter(|_| usable) {
            report.files.push(FileReport { name: source.name.clone(), tests: play::file(&file) });
        }
    }
    report
}

impl Report {
    /// 0: all passed · 1: some test failed · 2: something could not run, or there is no test.
    pub fn exit_code(&self) -> u8 {
        if !self.unreadable.is_empty() || self.findings.has_errors() || self.tests().next().is_none() {
            2
        } else {
            u8::from(self.tests().any(|test| !test.differences.is_empty()))
        }
    }

    /// Writes the results for a person. Findings and unreadable files are the caller's: they belong to stderr.
    pub fn write(&self, colour: bool, out: &mut impl Write) -> io::Result<()> {
        let painted = |text: &str, code: &str| match colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        for file in &self.files {
            writeln!(out, "{}", painted(&file.name, BOLD))?;
            for test in &file.tests {
                if test.differences.is_empty() {
                    writeln!(out, "  {} {}", painted("✓", GREEN), test.name)?;
                } else {
                    writeln!(out, "  {} {} (line {})", painted("✗", RED), test.name, test.line)?;
                }
                for Difference { at, expected, found } in &test.differences {
                    writeln!(out, "      {at}")?;
                    writeln!(out, "        expected  {}", painted(expected, GREEN))?;
                    writeln!(out, "        found     {}", painted(found, RED))?;
                }
                for warning in &test.warnings {
                    writeln!(out, "      {} {warning}", painted("warning:", YELLOW))?;
                }
            }
        }
        let count = self.tests().count();
        let failed = self.tests().filter(|test| !test.differences.is_empty()).count();
        let counted = if count == 1 { "1 test".to_owned() } else { format!("{count} tests") };
        match (count, failed) {
            (0, _) => writeln!(out, "no tests")?,
            (_, 0) => writeln!(out, "{counted} passed")?,
            _ => writeln!(out, "{}", painted(&format!("{failed} of {counted} failed"), RED))?,
        }
        out.flush()
    }

    /// The results for a program.
    pub fn to_json(&self) -> Value {
        let test = |test: &TestReport| {
            let differences: Vec<Value> = test
                .differences
                .iter()
                .map(|Difference { at, expected, found }| json!({"at": at, "expected": expected, "found": found}))
                .collect();
            json!({
                "name": test.name,
                "line": test.line,
                "passed": test.differences.is_empty(),
                "differences": differences,
                "warnings": test.warnings,
            })
        };
        let file =
            |file: &FileReport| json!({"file": file.name, "tests": file.tests.iter().map(test).collect::<Value>()});
        json!({
            "passed": self.exit_code() == 0,
            "files": self.files.iter().map(file).collect::<Value>(),
            "findings": self.findings.to_json(),
            "unreadable": self.unreadable,
        })
    }

    fn tests(&self) -> impl Iterator<Item = &TestReport> {
        self.files.iter().flat_map(|file| &file.tests)
    }
}

/// A file's text; a sentence for the reader where there is none.
fn load(path: &Path, unreadable: &mut Vec<String>) -> Option<Arc<Source>> {
    match fs::read_to_string(path) {
        Ok(text) => Some(Arc::new(Source { name: path.display().to_string(), text })),
        Err(error) => {
            unreadable.push(format!("{} can't be read: {error}", path.display()));
            None
        }
    }
}

/// The test files among files and folders, in the order named, those of a folder by name.
fn discover(paths: &[PathBuf], unreadable: &mut Vec<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            descend(path, &mut found, unreadable);
            found[before..].sort();
            if found.len() == before {
                unreadable.push(format!("there is no *.test.yaml in {}", path.display()));
            }
        } else {
            found.push(path.clone());
        }
    }
    found
}

fn descend(folder: &Path, found: &mut Vec<PathBuf>, unreadable: &mut Vec<String>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            unreadable.push(format!("{} can't be read: {error}", folder.display()));
            return;
        }
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // A link to a folder could lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !name.starts_with('.') && name != "target" {
                descend(&path, found, unreadable);
            }
        } else if name.ends_with(".test.yaml") || name.ends_with(".test.yml") {
            found.push(path);
        }
    }
}

/// Where tests are looked for when no path is named.
pub const FOLDER: &str = "config/rules";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";

#[cfg(test)]
mod tests;
