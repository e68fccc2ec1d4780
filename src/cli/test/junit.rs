//! The JUnit report that CI servers read: a suite for each test file, a case for each test.
//!
//! There is no standard; these are the elements and attributes that Jenkins, GitLab and GitHub's reporters have in
//! common. What keeps files from running stands in a suite of its own, as errors.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::BytesText;

use super::report::{FileReport, Report};
use crate::authoring::rule_tests::{Difference, TestReport};

/// Writes the report into a file, or `-`, standard output.
pub(super) fn write(report: &Report, file: &Path, output: &mut impl Write) -> io::Result<()> {
    let xml = render(report)?;
    if file.as_os_str() == "-" { output.write_all(&xml) } else { fs::write(file, xml) }
}

fn render(report: &Report) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(XML.to_vec(), b' ', 2);
    let errors = errors(report);
    let failed = report.tests().filter(|test| !test.passed()).count();
    xml.create_element("testsuites")
        .with_attribute(("name", "gander test"))
        .with_attribute(("tests", count(report.tests().count() + errors.len()).as_str()))
        .with_attribute(("failures", count(failed).as_str()))
        .with_attribute(("errors", count(errors.len()).as_str()))
        .write_inner_content(|xml| {
            report.files.iter().try_for_each(|file| suite(file, xml))?;
            if errors.is_empty() { Ok(()) } else { could_not_run(&errors, xml) }
        })?;
    let mut xml = xml.into_inner();
    xml.push(b'\n');
    Ok(xml)
}

fn suite(file: &FileReport, xml: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let failed = file.tests.iter().filter(|test| !test.passed()).count();
    xml.create_element("testsuite")
        .with_attribute(("name", allowed(&file.name).as_str()))
        .with_attribute(("tests", count(file.tests.len()).as_str()))
        .with_attribute(("failures", count(failed).as_str()))
        .with_attribute(("errors", "0"))
        .write_inner_content(|xml| file.tests.iter().try_for_each(|test| case(file, test, xml)))?;
    Ok(())
}

fn case(file: &FileReport, test: &TestReport, xml: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let (name, file_name) = (allowed(&test.name), allowed(&file.name));
    let element = xml
        .create_element("testcase")
        .with_attribute(("name", name.as_str()))
        .with_attribute(("classname", file_name.as_str()))
        .with_attribute(("file", file_name.as_str()))
        .with_attribute(("line", count(test.line).as_str()));
    if test.passed() && test.warnings.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|xml| {
        if let Some(first) = test.differences.first() {
            let more = match test.differences.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let lines = test.differences.iter().map(|one| format!("{}:{}: {}", file.name, one.line, told(one)));
            let text = allowed(&lines.collect::<Vec<_>>().join("\n"));
            xml.create_element("failure")
                .with_attribute(("type", "difference"))
                .with_attribute(("message", allowed(&format!("{}{more}", told(first))).as_str()))
                .write_text_content(BytesText::new(&text))?;
        }
        if !test.warnings.is_empty() {
            let warnings = allowed(&test.warnings.join("\n"));
            xml.create_element("system-err").write_text_content(BytesText::new(&warnings))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn could_not_run(errors: &[String], xml: &mut Writer<Vec<u8>>) -> io::Result<()> {
    xml.create_element("testsuite")
        .with_attribute(("name", "what could not run"))
        .with_attribute(("tests", count(errors.len()).as_str()))
        .with_attribute(("failures", "0"))
        .with_attribute(("errors", count(errors.len()).as_str()))
        .write_inner_content(|xml| {
            for error in errors {
                let error = allowed(error);
                xml.create_element("testcase")
                    .with_attribute(("name", error.as_str()))
                    .with_attribute(("classname", "gander test"))
                    .write_inner_content(|xml| {
                        let element = xml.create_element("error").with_attribute(("type", "could not run"));
                        element.with_attribute(("message", error.as_str())).write_empty()?;
                        Ok(())
                    })?;
            }
            Ok(())
        })?;
    Ok(())
}

fn told(difference: &Difference) -> String {
    let Difference { at, expected, found, .. } = difference;
    format!("{at}: expected {expected}, found {found}")
}

/// Lines on what keeps tests from running, and on too little coverage: a report that looks fine must mean exit code 0.
fn errors(report: &Report) -> Vec<String> {
    let unreadable = report.unreadable.iter().cloned();
    let findings = report.findings.error_lines();
    let uncovered = report.uncovered().map(|rules| {
        let (name, percent) = (&rules.name, rules.coverage.percent());
        format!("{name}: {percent} % covered, at least {} % is asked for", report.coverage_min)
    });
    let nothing = (report.exit_code() == 2 && report.unreadable.is_empty() && findings.is_empty())
        .then(|| "there is no test".to_owned());
    unreadable.chain(findings.iter().cloned()).chain(uncovered).chain(nothing).collect()
}

fn count(count: usize) -> String {
    count.to_string()
}

/// XML 1.0 has no way to write most control characters (section 2.2, Char).
fn allowed(text: &str) -> String {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    text.chars().map(|c| if allowed(&c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

const XML: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test::tests::run_file;

    #[test]
    fn every_test_is_a_case_and_what_differs_is_a_failure() {
        let report = run_file(
            "rules: rules.yaml
tests:
  - { name: \"a <b> \\\"c\\\" \\a\", payload: { id: e1, state: BAD }, expect: { verdict: events } }
  - { name: d, payload: { id: e2, state: BAD },
      expect: { events: [{ rule: other, action: resolve }] } }
",
        );
        let xml = String::from_utf8(render(&report).unwrap()).unwrap();
        for part in [
            "<testsuites name=\"gander test\" tests=\"2\" failures=\"1\" errors=\"0\">",
            "name=\"a &lt;b&gt; &quot;c&quot; \u{fffd}\"",
            "line=\"3\"/>",
            "<failure type=\"difference\" message=\"events[0].action: expected resolve, found trigger (and 1 more)\">",
            ":5: events[0].rule: expected other, found problem; no rule is named `other`</failure>",
        ] {
            assert!(xml.contains(part), "{part}\n{xml}");
        }
        assert_eq!(elements(&xml), ["testsuites", "testsuite", "testcase", "testcase", "failure"]);
    }

    #[test]
    fn what_could_not_run_is_an_error() {
        let report = run_file("rules: rules.yaml\ntests:\n  - { name: a }\n");
        let xml = String::from_utf8(render(&report).unwrap()).unwrap();
        assert!(xml.contains("errors=\"2\""), "{xml}");
        assert!(xml.contains("needs a `payload`"), "{xml}");
        assert_eq!(report.exit_code(), 2);
        let nothing = String::from_utf8(render(&Report::default()).unwrap()).unwrap();
        assert!(nothing.contains("there is no test"), "{nothing}");
    }

    /// The names of the elements, in the order in which they begin, as another reader sees them.
    fn elements(xml: &str) -> Vec<String> {
        use quick_xml::events::Event;
        let mut reader = quick_xml::Reader::from_str(xml);
        let mut names = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Start(element) | Event::Empty(element) => {
                    names.push(element.name().as_ref().to_owned());
                }
                Event::Eof => return names,
                _ => {}
            }
        }
    }
}
