//! Rule tests: a payload for the rules, and what must become of it.
//!
//! [`read`] takes a `*.test.yaml` and the files that it names, apart from its rules; [`TestFile::play`] is pure and
//! runs it against compiled rules, with a clock of its own and the relay's own deduplication. Events count as delivered
//! the moment they are taken; with sandbox filters they are judged by the stand-in for Callgoose, and end as it answers.
//! Nothing is printed here: `gander test` shows what differs, a reload refuses rules by it.

mod compare;
mod play;
mod read;

use std::path::{Path, PathBuf};

pub(crate) use self::read::{TestFile, read};
use crate::event::{Draft, Outcome};
use crate::rules::{Coverage, RuleSet};

/// One test; it passed if nothing differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReport {
    pub name: String,
    /// Where it begins in its file.
    pub line: usize,
    pub differences: Vec<Difference>,
    /// Warnings for a person, although nothing differs.
    pub warnings: Vec<String>,
}

/// One thing that is not as the test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, as `events[0].body.state`.
    pub at: String,
    /// Where that, or what is nearest to it, stands in its file.
    pub line: usize,
    pub expected: String,
    pub found: String,
}

/// An event of a test, and what became of it.
#[derive(Debug)]
struct Played<'a> {
    draft: &'a Draft,
    /// `queued` or `duplicate`.
    status: &'static str,
    /// Why it is a duplicate.
    why: Option<String>,
    /// The answer of the stand-in; none without filters, and for a duplicate, which is not sent.
    outcome: Option<Outcome>,
    /// Why no filter matched.
    misses: Vec<String>,
}

impl TestFile {
    /// Runs every test in its order against `rules`.
    pub(crate) fn play(&self, rules: &RuleSet) -> Vec<TestReport> {
        play::file(self, rules, None)
    }

    /// Runs every test, and adds to `coverage` what they show of `rules`.
    pub(crate) fn play_covering(&self, rules: &RuleSet, coverage: &mut Coverage) -> Vec<TestReport> {
        play::file(self, rules, Some(coverage))
    }
}

impl TestReport {
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// The test file beside a rule file, if it has one: `servicepilot.test.yaml` beside `servicepilot.yaml`. One that can't
/// be read is there all the same.
pub(crate) fn beside(rules: &Path) -> Option<PathBuf> {
    names_beside(rules).into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// The places where such a file would be.
pub(crate) fn names_beside(rules: &Path) -> [PathBuf; 2] {
    ENDINGS.map(|ending| rules.with_extension(&ending[1..]))
}

/// Tells by its name a file that holds rule tests.
pub(crate) fn is_test_file(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];
