//! `gander test`: finds rule tests, runs them and shows what differs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::terminal::Terminal;
use crate::config;
use crate::document::{Findings, Source};
use crate::rule_tests::{self, Difference, TestFile, TestReport};
use crate::rules::RuleSet;

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
    let filters = arguments.filters.as_deref().map(config::read_source).transpose();
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

/// Runs the tests of files and of folders (each `*.test.yaml` in them). `filters` judge the events of every file
/// that names no filters of its own.
pub fn test(paths: &[PathBuf], filters: Option<&Arc<Source>>) -> Report {
    let mut report = Report::default();
    for path in discover(paths, &mut report.unreadable) {
        let source = match config::read_source(&path) {
            Ok(source) => source,
            Err(unreadable) => {
                report.unreadable.push(unreadable.to_string());
                continue;
            }
        };
        let mut findings = Findings::new();
        let tests = rule_tests::read(&source, filters, &mut findings);
        let rules = tests.as_ref().and_then(|tests| rules(tests, &mut findings));
        let usable = !findings.has_errors();
        report.findings.extend(findings);
        if let (true, Some(tests), Some(rules)) = (usable, tests, rules) {
            report.files.push(FileReport { name: source.name.clone(), tests: tests.play(&rules) });
        }
    }
    report
}

/// The rules that a test file names.
fn rules(tests: &TestFile, findings: &mut Findings) -> Option<RuleSet> {
    match config::read_source(&tests.rules) {
        Ok(source) => RuleSet::compile(&source, findings),
        Err(unreadable) => {
            findings
                .error(tests.rules_place.clone(), "rules", unreadable.to_string())
                .help("the path is relative to this file");
            None
        }
    }
}

impl Report {
    /// 0: all passed · 1: some test failed · 2: something could not run, or there is no test.
    pub fn exit_code(&self) -> u8 {
        if !self.unreadable.is_empty() || self.findings.has_errors() || self.tests().next().is_none() {
            2
        } else {
            u8::from(self.tests().any(|test| !test.passed()))
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
                if test.passed() {
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
        let failed = self.tests().filter(|test| !test.passed()).count();
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
                "passed": test.passed(),
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
        } else if rule_tests::is_test_file(&name) {
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
