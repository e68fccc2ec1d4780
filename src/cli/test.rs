//! `gander test`: finds rule tests, runs them and tells what differs.

mod junit;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;

pub use self::report::{FileReport, Report, RulesCoverage};
use super::terminal::{Terminal, plain};
use super::{ConfigFile, Exit, Stop};
use crate::authoring::rule_tests::{self, TestFile};
use crate::config;
use crate::rules::{Coverage, RuleSet};
use crate::yaml::{Findings, Source};

/// Run rule tests and print what differs
///
/// Runs the tests of files and of folders (every *.test.yaml in them), each file with its own virtual clock and
/// deduplication. With sandbox filters, which a test file may name itself, events are judged by the stand-in for
/// Callgoose too.
///
/// Coverage lists, for each rule file, the rules that decided nothing, the conditions that never held or never failed, and
/// the validations that never refused: they could be removed, and no test would fail.
///
/// Exit codes: 0 all passed; 1 some failed, or less is covered than asked for; 2 something could not run, or there is no
/// test.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander test\n  gander test config/rules --coverage\n  \
                        gander test rules/ --junit report.xml --coverage-min 90\n  \
                        gander test rules/disk.test.yaml --name 'resolve'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Test files and folders [default: rules/ beside the configuration]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Sandbox filters that judge the events of test files which name none
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
    /// Report only tests with this text in their name; the others run too, because the tests of a file follow on each other
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// List the rules, conditions and validations that no test reached or that no test would miss
    #[arg(long)]
    coverage: bool,
    /// The same, and exit with 1 where less of a rule file is covered
    #[arg(long, value_name = "PERCENT", value_parser = RangedU64ValueParser::<usize>::new().range(0..=100))]
    coverage_min: Option<usize>,
    /// Write a JUnit report for CI too; `-` is standard output, in place of the results
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print one JSON object: {"passed", "files", "coverage", "findings", "unreadable"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let filters = arguments.filters.as_deref().map(config::read_source).transpose()?;
    let selection = Selection {
        name: arguments.name.as_deref(),
        coverage: arguments.coverage || arguments.coverage_min.is_some(),
        coverage_min: arguments.coverage_min.unwrap_or(0),
    };
    let beside;
    let paths = match arguments.paths.as_slice() {
        [] => {
            beside = arguments.config.locate()?.with_file_name(FOLDER);
            std::slice::from_ref(&beside)
        }
        paths => paths,
    };
    let report = run(paths, filters.as_ref(), selection);
    let xml_only = arguments.junit.as_deref().is_some_and(|file| file.as_os_str() == "-");
    if arguments.json && !xml_only {
        terminal.print(&report.to_json().to_string());
    } else {
        for problem in &report.unreadable {
            terminal.say_error(problem);
        }
        terminal.say_findings(&report.findings);
        for file in &report.own_filters {
            terminal.say(&format!("note: {} names filters of its own: --filters judges nothing of it", plain(file)));
        }
        if !xml_only {
            // The terminal remembers what can't be written.
            let _ = report.write(terminal.colour(), terminal);
        }
    }
    if let Some(file) = &arguments.junit {
        let written = junit::write(&report, file, terminal);
        written.map_err(|error| format!("can't write {}: {error}", file.display()))?;
    }
    Ok(match report.exit_code() {
        0 => Exit::Fine,
        1 => Exit::No,
        _ => Exit::CouldNotRun,
    })
}

/// The part of the tests that is reported.
#[derive(Clone, Copy, Debug, Default)]
struct Selection<'a> {
    /// A part of the names.
    name: Option<&'a str>,
    coverage: bool,
    /// In per cent.
    coverage_min: usize,
}

/// Runs the tests of files and of folders (each `*.test.yaml` in them). `filters` judge the events of every file
/// that names no filters of its own.
pub fn test(paths: &[PathBuf], filters: Option<&Arc<Source>>) -> Report {
    run(paths, filters, Selection::default())
}

fn run(paths: &[PathBuf], filters: Option<&Arc<Source>>, selection: Selection<'_>) -> Report {
    let mut report = Report { coverage_min: selection.coverage_min, ..Report::default() };
    for path in discover(paths, &mut report.unreadable) {
        let source = match config::read_source(&path) {
            Ok(source) => source,
            Err(unreadable) => {
                report.unreadable.push(unreadable.to_string());
                continue;
            }
        };
        let mut findings = Findings::new();
        let tests = rule_tests::read(&source, filters, &mut config::FileStamps::default(), &mut findings);
        let rules = tests.as_ref().and_then(|tests| tests.compile_rules(&mut findings));
        let usable = !findings.has_errors();
        report.findings.extend(findings);
        let (true, Some(tests), Some(rules)) = (usable, tests, rules) else {
            continue;
        };
        if filters.is_some() && tests.names_filters {
            report.own_filters.push(source.name.clone());
        }
        let mut played = match selection.coverage {
            true => tests.play_covering(&rules, report.coverage_of(&tests, &rules)),
            false => tests.play(&rules),
        };
        played.retain(|test| selection.name.is_none_or(|part| test.name.contains(part)));
        if !played.is_empty() || selection.name.is_none() {
            report.files.push(FileReport { name: source.name.clone(), tests: played });
        }
    }
    let all_read = report.unreadable.is_empty() && !report.findings.has_errors();
    if let (Some(part), [], true) = (selection.name, report.files.as_slice(), all_read) {
        report.unreadable.push(format!("no test has `{part}` in its name"));
    }
    report
}

impl Report {
    /// The coverage of these rules, by this test file and by others.
    fn coverage_of(&mut self, tests: &TestFile, rules: &RuleSet) -> &mut Coverage {
        let file = fs::canonicalize(&tests.rules).unwrap_or_else(|_| tests.rules.clone());
        let index = self.coverage.iter().position(|known| known.file == file).unwrap_or_else(|| {
            let name = tests.rules.display().to_string();
            self.coverage.push(RulesCoverage { file, name, coverage: Coverage::of(rules) });
            self.coverage.len() - 1
        });
        &mut self.coverage[index].coverage
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

/// The folder beside a configuration in which tests are looked for when no path is named.
const FOLDER: &str = "rules";

#[cfg(test)]
mod tests;
