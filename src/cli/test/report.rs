//! The results of rule tests, for a person and for a program.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::authoring::rule_tests::{Difference, TestReport};
use crate::cli::terminal::{Paint, painted, plain};
use crate::rules::{Coverage, Gap, PartKind};
use crate::yaml::Findings;

/// The tests that ran, and their results.
#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
    /// Of each rule file, if it was asked for.
    pub coverage: Vec<RulesCoverage>,
    /// The per cent of each rule file that has to be covered.
    pub coverage_min: usize,
    /// Mistakes in test files, rules and filters. An error keeps its file from running.
    pub findings: Findings,
    /// Files that can't be read, each in a sentence.
    pub unreadable: Vec<String>,
    /// Test files whose events other filters judge than those that were asked for.
    pub own_filters: Vec<String>,
}

/// One test file.
#[derive(Debug)]
pub struct FileReport {
    pub name: String,
    pub tests: Vec<TestReport>,
}

/// The coverage of one rule file by all tests together.
#[derive(Debug)]
pub struct RulesCoverage {
    /// The file itself, by whatever links.
    pub file: PathBuf,
    /// As the first test file names it.
    pub name: String,
    pub coverage: Coverage,
}

impl Report {
    /// 0: all passed · 1: some test failed, or too little is covered · 2: something could not run, or there is no test.
    pub fn exit_code(&self) -> u8 {
        if !self.unreadable.is_empty() || self.findings.has_errors() || self.tests().next().is_none() {
            2
        } else {
            u8::from(self.uncovered().next().is_some() || self.tests().any(|test| !test.passed()))
        }
    }

    /// Rule files of which less is covered than asked for.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &RulesCoverage> {
        self.coverage.iter().filter(|rules| rules.coverage.percent() < self.coverage_min)
    }

    /// Writes the results for a person. Findings and unreadable files are the caller's: they belong to stderr.
    pub fn write(&self, colour: bool, out: &mut impl Write) -> io::Result<()> {
        let painted = |text: &str, paint| painted(text, paint, colour);
        for file in &self.files {
            writeln!(out, "{}", painted(&plain(&file.name), Paint::Bold))?;
            for test in &file.tests {
                if test.passed() {
                    writeln!(out, "  {} {}", painted("✓", Paint::Green), plain(&test.name))?;
                } else {
                    let place = painted(&plain(&format!("{}:{}", file.name, test.line)), Paint::Dim);
                    writeln!(out, "  {} {}  {place}", painted("✗", Paint::Red), plain(&test.name))?;
                }
                for Difference { at, line, expected, found } in &test.differences {
                    writeln!(
                        out,
                        "      {}  {}",
                        plain(at),
                        painted(&plain(&format!("{}:{line}", file.name)), Paint::Dim)
                    )?;
                    writeln!(out, "        expected  {}", painted(&plain(expected), Paint::Green))?;
                    writeln!(out, "        found     {}", painted(&plain(found), Paint::Red))?;
                }
                for warning in &test.warnings {
                    writeln!(out, "      {} {}", painted("warning:", Paint::Yellow), plain(warning))?;
                }
            }
        }
        for rules in &self.coverage {
            self.write_coverage(rules, colour, out)?;
        }
        let count = self.tests().count();
        let failed = self.tests().filter(|test| !test.passed()).count();
        let counted = if count == 1 { "1 test".to_owned() } else { format!("{count} tests") };
        match (count, failed) {
            (0, _) => writeln!(out, "no tests")?,
            (_, 0) => writeln!(out, "{counted} passed")?,
            _ => writeln!(out, "{}", painted(&format!("{failed} of {counted} failed"), Paint::Red))?,
        }
        out.flush()
    }

    /// The results for a program.
    pub fn to_json(&self) -> Value {
        let test = |test: &TestReport| {
            let differences: Vec<Value> = test
                .differences
                .iter()
                .map(|Difference { at, line, expected, found }| {
                    json!({"at": at, "line": line, "expected": expected, "found": found})
                })
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
            "coverage": self.coverage.iter().map(RulesCoverage::to_json).collect::<Value>(),
            "findings": self.findings.to_json(),
            "unreadable": self.unreadable,
        })
    }

    fn write_coverage(&self, rules: &RulesCoverage, colour: bool, out: &mut impl Write) -> io::Result<()> {
        let (shown, all) = rules.coverage.shown();
        let percent = rules.coverage.percent();
        let paint = if percent < self.coverage_min { Paint::Red } else { Paint::Green };
        let percent = painted(&format!("{percent} % covered"), paint, colour);
        writeln!(out, "{}  {percent}, {shown} of {all}", painted(&plain(&rules.name), Paint::Bold, colour))?;
        for gap in rules.coverage.gaps() {
            let place =
                painted(&plain(&format!("{}:{}:{}", rules.name, gap.spot.line, gap.spot.column)), Paint::Dim, colour);
            writeln!(out, "  {} {} {}  {place}", painted("✗", Paint::Red, colour), plain(&subject(&gap)), gap.lack())?;
        }
        Ok(())
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = &TestReport> {
        self.files.iter().flat_map(|file| &file.tests)
    }
}

impl RulesCoverage {
    fn to_json(&self) -> Value {
        let (shown, all) = self.coverage.shown();
        json!({
            "rules": self.name,
            "percent": self.coverage.percent(),
            "covered": shown,
            "of": all,
            "gaps": self.coverage.gaps(),
        })
    }
}

fn subject(gap: &Gap) -> String {
    match gap.kind {
        PartKind::Rule => format!("the rule `{}`", gap.subject),
        PartKind::Condition => format!("the condition `{}`", gap.subject),
        PartKind::Validation => format!("the validation `{}`", gap.subject),
        PartKind::Otherwise => format!("`otherwise: {}`", gap.subject),
    }
}
