//! The checks, as lines for a person or as a list for a program.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::terminal::{Paint, painted, plain};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// None where nothing was tried.
    pub(super) took: Option<Duration>,
    pub(super) found: Found,
}

/// The finding of a check, and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) text: String,
    /// The remedy, in one line or several.
    pub(super) remedy: Option<String>,
}

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// It works, and is doubtful.
    Warning,
    Failed,
    /// It needs what failed before it, or there is nothing to try.
    NotTried,
}

impl Check {
    pub(super) fn new(name: &'static str, took: Duration, found: Found) -> Check {
        Check { name, took: Some(took), found }
    }

    pub(super) fn not_tried(name: &'static str, why: impl Into<String>) -> Check {
        Check { name, took: None, found: Found::of(Verdict::NotTried, why, None) }
    }

    /// The check in a line, and its remedy below it.
    pub(super) fn lines(&self, colour: bool) -> Vec<String> {
        let Check { name, took, found: Found { verdict, text, remedy } } = self;
        let word = painted(&format!("{:<9}", verdict.as_str()), verdict.paint(), colour);
        let took = took.map(|took| format!("{} ms", took.as_millis())).unwrap_or_default();
        let line = format!("{word}  {name:<14}  {took:>8}  {}", plain(text));
        let remedies = remedy.iter().flat_map(|remedy| remedy.lines());
        let remedies = remedies.map(|remedy| format!("{:11}-> {}", "", plain(remedy)));
        std::iter::once(line.trim_end().to_owned()).chain(remedies).collect()
    }

    fn to_json(&self) -> Value {
        let Check { name, took, found: Found { verdict, text, remedy } } = self;
        json!({
            "check": name,
            "verdict": verdict.key(),
            "took_ms": took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            "found": text,
            "remedy": remedy,
        })
    }
}

impl Found {
    pub(super) fn ok(text: impl Into<String>) -> Found {
        Found::of(Verdict::Ok, text, None)
    }

    pub(super) fn warning(text: impl Into<String>, remedy: impl Into<String>) -> Found {
        Found::of(Verdict::Warning, text, Some(remedy.into()))
    }

    pub(super) fn failed(text: impl Into<String>, remedy: impl Into<String>) -> Found {
        Found::of(Verdict::Failed, text, Some(remedy.into()))
    }

    fn of(verdict: Verdict, text: impl Into<String>, remedy: Option<String>) -> Found {
        Found { verdict, text: text.into(), remedy }
    }
}

impl Verdict {
    /// The word for a person.
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
            Verdict::NotTried => "not tried",
        }
    }

    /// The word for a program.
    fn key(self) -> &'static str {
        match self {
            Verdict::NotTried => "not_tried",
            other => other.as_str(),
        }
    }

    fn paint(self) -> Paint {
        match self {
            Verdict::Ok => Paint::Green,
            Verdict::Warning => Paint::Yellow,
            Verdict::Failed => Paint::Red,
            Verdict::NotTried => Paint::Dim,
        }
    }
}

/// All checks as a JSON list.
pub(super) fn to_json(checks: &[Check]) -> Value {
    checks.iter().map(Check::to_json).collect()
}

/// The exit code. A check that is not tried says nothing by itself: either something failed, or nothing is wrong.
pub(super) fn exit(checks: &[Check]) -> Exit {
    let is_well = |check: &Check| matches!(check.found.verdict, Verdict::Ok | Verdict::NotTried);
    if checks.iter().all(is_well) { Exit::Fine } else { Exit::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::new("configuration", Duration::from_micros(12_600), Found::ok("gander.yaml: 1 source")),
            Check::new("clock", Duration::ZERO, Found::warning("61 s slow\u{1b}[2J", "set it\nkeep it right")),
            Check::new("connect", Duration::from_secs(10), Found::failed("127.0.0.1:1: refused", "check the firewall")),
            Check::not_tried("listen.address", "`connect` failed"),
        ]
    }

    #[test]
    fn each_check_is_a_line_and_its_remedies_stand_below_it() {
        let text: Vec<String> = checks().iter().flat_map(|check| check.lines(false)).collect();
        assert_eq!(
            text,
            [
                "ok         configuration      12 ms  gander.yaml: 1 source",
                "warning    clock               0 ms  61 s slow\\u{1b}[2J",
                "           -> set it",
                "           -> keep it right",
                "failed     connect         10000 ms  127.0.0.1:1: refused",
                "           -> check the firewall",
                "not tried  listen.address            `connect` failed",
            ]
        );
        assert_eq!(
            checks()[2].lines(true)[0],
            "\u{1b}[31mfailed   \u{1b}[0m  connect         10000 ms  127.0.0.1:1: refused"
        );
    }

    #[test]
    fn a_program_gets_a_list_of_the_same() {
        let list = to_json(&checks());
        assert_eq!(
            list[2],
            json!({
                "check": "connect", "verdict": "failed", "took_ms": 10_000, "found": "127.0.0.1:1: refused",
                "remedy": "check the firewall",
            })
        );
        assert_eq!(
            list[3],
            json!({
                "check": "listen.address", "verdict": "not_tried", "took_ms": null, "found": "`connect` failed",
                "remedy": null,
            })
        );
        assert_eq!(list.as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn the_exit_code_says_whether_something_failed_or_is_doubtful() {
        let [fine, doubtful, failed, not_tried] = <[Check; 4]>::try_from(checks()).unwrap();
        for (checks, expected) in [
            (vec![], Exit::Fine),
            (vec![fine.clone(), not_tried], Exit::Fine),
            (vec![fine.clone(), doubtful], Exit::No),
            (vec![failed, fine], Exit::No),
        ] {
            assert_eq!(exit(&checks), expected, "{checks:?}");
        }
    }
}
