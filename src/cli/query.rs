//! `gander query`: each node that a path selects, one JSON value a line.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::terminal::Terminal;
use super::{Exit, Stop, input};
use crate::rules::budget::Budget;
use crate::rules::path::{JsonPath, PathError, Scope};
use crate::yaml::{Findings, Place, Source};

/// Print each node that a JSONPath selects, one JSON value a line
///
/// The path is read as in a rule file (RFC 9535): one that is invalid, or makes no sense, is refused with the reason.
///
/// Exit codes: 0 something was selected; 1 nothing was; 2 the path or the document can't be used, or the answer would
/// take too much work (then nothing is printed).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander query '$.alerts[?@.status == \"firing\"].labels' alert.json\n  \
                        curl -s https://example.org/alert.json | gander query '$..host'")]
pub(crate) struct Arguments {
    /// The path, such as $.alerts[*].status
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
    /// The document, JSON [default: standard input, as for `-`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let document = input::read(arguments.file.as_deref())?;
    match query(&arguments.expression, &document, terminal) {
        Ok(true) => Ok(Exit::Fine),
        Ok(false) => Ok(Exit::No),
        Err(QueryError::Expression(findings)) => Err(Stop::Invalid(findings)),
        Err(error) => Err(Stop::Problem(error.to_string())),
    }
}

/// The reason why a query can't be answered.
#[derive(Debug)]
pub(crate) enum QueryError {
    /// The expression is no path that can be used; shown with a caret under the part that is wrong.
    Expression(Findings),
    /// The document is no JSON, and why.
    Document(String),
    /// The query takes more work than a rule may.
    Work,
    /// The answer can't be written.
    Write(io::Error),
}

/// Writes what `expression` selects in `document`, all of it or nothing. Returns whether that was anything.
pub(crate) fn query(expression: &str, document: &[u8], out: &mut impl Write) -> Result<bool, QueryError> {
    query_within(STEPS_MAX, expression, document, out)
}

fn query_within(steps: u64, expression: &str, document: &[u8], out: &mut impl Write) -> Result<bool, QueryError> {
    let path = JsonPath::parse(expression).map_err(|error| QueryError::Expression(finding(expression, error)))?;
    let document: Value = input::json(document).map_err(QueryError::Document)?;
    let budget = Budget::new(steps);
    let nodes = path.select(Scope { element: &document, root: &document, budget: &budget });
    if budget.is_exhausted() {
        return Err(QueryError::Work);
    }
    let nodes = nodes.as_slice();
    for node in nodes {
        writeln!(out, "{node}").map_err(QueryError::Write)?;
    }
    out.flush().map_err(QueryError::Write)?;
    Ok(!nodes.is_empty())
}

fn finding(expression: &str, error: PathError) -> Findings {
    let source = Arc::new(Source::new("EXPR".into(), expression.into()));
    let mut findings = Findings::new();
    let finding = findings.error(Place::Text { source, span: error.range }, "", error.message);
    if let Some(help) = error.help {
        finding.help(help);
    }
    findings
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Expression(findings) => f.write_str(findings.render(false).trim_end()),
            QueryError::Document(problem) => write!(f, "the document is no JSON: {problem}"),
            QueryError::Work => write!(
                f,
                "this query takes more work on this document than is allowed ({STEPS_MAX} steps), so nothing is printed; \
                 what multiplies the work is `..`, `*` or a search for a pattern inside a filter"
            ),
            QueryError::Write(error) => write!(f, "the answer can't be written: {error}"),
        }
    }
}

impl std::error::Error for QueryError {}

/// A person may ask more of a file at the desk than a rule may of an alert: fifty times as much, some seconds.
const STEPS_MAX: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(expression: &str, document: &str) -> Result<(bool, String), String> {
        let mut out = Vec::new();
        query(expression, document.as_bytes(), &mut out)
            .map(|found| (found, String::from_utf8(out).unwrap()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_node_is_one_line_of_json() {
        let document = r#"{"a": [1, {"b": "x\ny"}, null], "c": 1.10}"#;
        for (expression, expected) in [
            ("$.a[*]", "1\n{\"b\":\"x\\ny\"}\nnull\n"),
            ("$.c", "1.1\n"),
            ("$..b", "\"x\\ny\"\n"),
            ("$$.a[0]", "1\n"),
            ("$", "{\"a\":[1,{\"b\":\"x\\ny\"},null],\"c\":1.1}\n"),
        ] {
            assert_eq!(ask(expression, document), Ok((true, expected.to_owned())), "{expression}");
        }
        assert_eq!(ask("$.none", document), Ok((false, String::new())));
    }

    #[test]
    fn what_takes_too_much_work_prints_nothing() {
        let document = serde_json::to_string(&vec![0; 2_000]).unwrap();
        for (expression, steps) in [("$[?count($..*) > 1]", 100_000), ("$[*]", 1_000), ("$..['a','b','c','d']", 5_000)]
        {
            let mut out = Vec::new();
            let answer = query_within(steps, expression, document.as_bytes(), &mut out);
            assert!(matches!(answer, Err(QueryError::Work)), "{expression}: {answer:?}");
            assert!(out.is_empty(), "{expression} was cut");
        }
        assert_eq!(ask("$[?count($[0]) == 1]", &document).map(|(found, _)| found), Ok(true));
    }

    #[test]
    fn a_bad_expression_is_shown_with_a_caret_and_a_bad_document_with_its_line() {
        let error = ask("$.a[?@.status in ['x']]", "{}").unwrap_err();
        assert!(error.contains("^^") && error.contains("one_of"), "{error}");
        let error = ask("$.a", "{\n\"a\": }").unwrap_err();
        assert!(error.contains("line 2 column 6"), "{error}");
    }
}
