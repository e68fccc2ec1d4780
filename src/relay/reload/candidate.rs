//! A candidate for the next configuration: the files are read and compiled, and the tests beside the rules run, with no
//! effect yet.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::authoring::lint;
use crate::authoring::rule_tests::{self, Difference, TestReport};
use crate::callgoose::filters::FiltersBeside;
use crate::clock::WallTime;
use crate::config::{self, Failure, FileStamps, Inputs, Loaded, SettingsTree, Snapshot};
use crate::inbound::RulesBySource;
use crate::rules::RuleSet;
use crate::self_check;
use crate::tls::{self, ClientTls, RenewedClient};
use crate::yaml::Findings;

/// The files that were read, and the configuration or its errors.
pub(super) struct Candidate {
    pub(super) files: FileStamps,
    pub(super) result: Result<Usable, Vec<String>>,
}

/// A valid configuration.
pub(super) struct Usable {
    pub(super) rules: RulesBySource,
    /// New certificates that differ from those in use.
    pub(super) renewed: Vec<(Arc<tls::Served>, tls::Renewed)>,
    /// Likewise those for the upstream.
    pub(super) renewed_out: Vec<(Arc<ClientTls>, RenewedClient)>,
    /// None: it is off.
    pub(super) self_check: Option<self_check::Settings>,
    pub(super) settings: SettingsTree,
    pub(super) filters: FiltersBeside,
    /// The number of tests that passed.
    pub(super) tests: usize,
    pub(super) warnings: Vec<String>,
}

/// The results of the tests beside rules.
#[derive(Default)]
struct Tested {
    passed: usize,
    /// The errors, each in a line.
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// Reads a candidate; also the certificates of the listeners `served` and of the `clients`.
pub(super) fn read<'a>(
    inputs: &Inputs,
    served: &[Arc<tls::Served>],
    clients: impl Iterator<Item = &'a Arc<ClientTls>>,
) -> Candidate {
    let (loaded, snapshot) = config::read(inputs);
    let Snapshot { mut files, rules, settings, .. } = snapshot;
    let mut tested = Tested::default();
    for (path, rules) in &rules {
        for name in rule_tests::names_beside(path) {
            files.note(&name);
        }
        tested.beside(path, rules, &mut files);
    }
    let result = match loaded {
        Err(Failure::Unreadable(unreadable)) => Err(vec![unreadable.to_string()]),
        Err(Failure::Invalid(findings)) => {
            let mut problems = findings.error_lines();
            problems.append(&mut tested.problems);
            Err(problems)
        }
        Ok(Loaded { shadow, .. }) if shadow.has_errors() || !tested.problems.is_empty() => {
            let mut problems = shadow.error_lines();
            problems.append(&mut tested.problems);
            Err(problems)
        }
        Ok(Loaded { config, mut warnings, shadow }) => {
            warnings.extend(shadow);
            warnings.extend(lint::self_check_beside(&config));
            let (renewed, renewed_out) = match renewed(served).and_then(|renewed| Ok((renewed, renewed_out(clients)?)))
            {
                Ok(renewed) => renewed,
                Err(error) => return Candidate { files, result: Err(vec![error.to_string()]) },
            };
            let rules = config.sources.iter().map(|source| (Arc::clone(&source.name), source.rules.clone()));
            let mut warnings = warnings.lines();
            warnings.append(&mut tested.warnings);
            let (rules, filters, tests) = (rules.collect(), config.filters, tested.passed);
            let self_check = config.self_check.map(|section| section.settings);
            Ok(Usable { rules, renewed, renewed_out, self_check, settings, filters, tests, warnings })
        }
    };
    Candidate { files, result: result.map_err(bounded) }
}

/// Adds the files that the tests beside a rule file read.
pub(in crate::relay) fn note_named(rules: &Path, files: &mut FileStamps) {
    if let Some(source) = rule_tests::beside(rules).and_then(|beside| config::read_source(&beside).ok()) {
        let _ = rule_tests::read(&source, None, files, &mut Findings::new());
    }
}

/// The certificates that differ from those in use; an error in one refuses all of them.
fn renewed(served: &[Arc<tls::Served>]) -> Result<Vec<(Arc<tls::Served>, tls::Renewed)>, tls::Error> {
    let now = WallTime::now();
    let read = served.iter().map(|served| Ok(served.read_again(now)?.map(|renewed| (Arc::clone(served), renewed))));
    read.filter_map(Result::transpose).collect()
}

fn renewed_out<'a>(
    clients: impl Iterator<Item = &'a Arc<ClientTls>>,
) -> Result<Vec<(Arc<ClientTls>, RenewedClient)>, tls::Error> {
    let read = clients.map(|client| Ok(client.read_again()?.map(|renewed| (Arc::clone(client), renewed))));
    read.filter_map(Result::transpose).collect()
}

impl Tested {
    /// Runs the tests beside a rule file on its compiled rules; without tests there are no errors.
    fn beside(&mut self, path: &Path, rules: &RuleSet, files: &mut FileStamps) {
        let Some(beside) = rule_tests::beside(path) else {
            return;
        };
        let source = match config::read_source(&beside) {
            Ok(source) => source,
            Err(unreadable) => return self.problems.push(unreadable.to_string()),
        };
        let mut findings = Findings::new();
        let tests = rule_tests::read(&source, None, files, &mut findings);
        self.problems.append(&mut findings.error_lines());
        let Some(tests) = tests.filter(|_| !findings.has_errors()) else {
            return;
        };
        if !is_same_file(&tests.rules, path) {
            let mut findings = Findings::new();
            let message =
                format!("these tests stand beside {} and are of other rules: they are not run", path.display());
            findings.warning(tests.rules_place, "rules", message);
            return self.warnings.append(&mut findings.lines());
        }
        for report in tests.play(rules) {
            match failed(&source.name, &report) {
                Some(problem) => self.problems.push(problem),
                None => self.passed += 1,
            }
        }
    }
}

/// The line for a failed test; none for one that passed.
fn failed(file: &str, report: &TestReport) -> Option<String> {
    let Difference { at, line, expected, found } = report.differences.first()?;
    let name = &report.name;
    let more = match report.differences.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Some(format!("{file}:{line}: the test `{name}` fails: {at}: expected {expected}, found {found}{more}"))
}

/// Returns true if two paths lead to the same file, through any links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Limits the errors for the log and the status, in case a file is wrong from end to end.
fn bounded(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("{more} more are not shown"));
    }
    problems
}

const PROBLEMS_MAX: usize = 20;
