//! The one look of a finding on a terminal: title, place, the line with a caret, help.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::{Finding, Place, Severity, Source};

/// One finding for a person. Of the file, only the line where it begins is shown, without what `concealed` covers.
pub(super) fn render(finding: &Finding, concealed: &[Place], colour: bool) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Note => Level::NOTE,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(title(finding, concealed)));
    let mut excerpt = None;
    match &finding.place {
        Place::Text { source, span } => {
            let excerpt = excerpt.insert(Excerpt::of(source, span.clone(), concealed));
            group = group.element(
                Snippet::source(excerpt.text.as_str())
                    .path(source.name.as_str())
                    .line_start(excerpt.line)
                    .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
            );
        }
        Place::Environment(name) => group = group.element(Origin::path(format!("environment variable {name}"))),
        Place::Flag(flag) => group = group.element(Origin::path(format!("command line, {flag}"))),
        Place::Default => {}
    }
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(&masked(help, concealed))));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let rendered = renderer.render(&[group]);
    match excerpt {
        // What is shown is not always the whole line; the column named is the file's.
        Some(Excerpt { line, column, text, span, .. }) => {
            let shown = text[..span.start].chars().count() + 1;
            rendered.replacen(&format!(":{line}:{shown}"), &format!(":{line}:{column}"), 1)
        }
        None => rendered,
    }
}

/// Path and message in one line.
pub(super) fn title(finding: &Finding, concealed: &[Place]) -> String {
    let message = masked(&finding.message, concealed);
    let path = masked(&finding.path, concealed);
    if path.is_empty() { message } else { format!("{path}: {message}") }
}

/// `text` without any secret that it may quote. What is too short to be one would garble every message.
pub(super) fn masked(text: &str, concealed: &[Place]) -> String {
    let mut text = text.to_owned();
    for place in concealed {
        let Place::Text { source, span } = place else {
            continue;
        };
        // A text over several lines is folded into one where a message quotes it.
        for line in source.text.get(span.clone()).unwrap_or_default().lines() {
            let secret = line.trim().trim_matches(['"', '\'']);
            if secret.len() >= QUOTED_SECRET_MIN {
                text = text.replace(secret, MASK);
            }
        }
    }
    text
}

/// One line of a file, as it may be shown.
struct Excerpt {
    text: String,
    /// From 1, in the file.
    line: usize,
    /// From 1, in characters, in the file.
    column: usize,
    /// What the finding is about, within `text`.
    span: Range<usize>,
}

impl Excerpt {
    fn of(source: &Source, span: Range<usize>, concealed: &[Place]) -> Excerpt {
        let text = &source.text;
        let start = floor(text, span.start);
        let (line, column) = source.line_column(start).unwrap_or((1, 1));
        let line_start = source.line_start(line);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.clamp(line_start, line_end);
        let end = floor(text, span.end).clamp(start, line_end);
        // Of a very long line, what stands around the start.
        let window = floor(text, start.saturating_sub(WINDOW)).max(line_start)
            ..floor(text, end.min(start + WINDOW) + WINDOW).min(line_end);
        let end = end.min(window.end);
        let hidden = hidden(source, &window, concealed);
        let (shown, span) = mask(text, &window, start..end, &hidden);
        Excerpt { text: shown, line, column, span }
    }
}

/// The concealed parts of `window`, in order and without overlaps.
fn hidden(source: &Source, window: &Range<usize>, concealed: &[Place]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = concealed
        .iter()
        .filter_map(|place| match place {
            Place::Text { source: other, span } if std::ptr::eq(&**other, source) || **other == *source => {
                let part =
                    floor(&source.text, span.start).max(window.start)..floor(&source.text, span.end).min(window.end);
                (part.start < part.end).then_some(part)
            }
            _ => None,
        })
        .collect();
    parts.sort_by_key(|part| part.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => joined.push(part),
        }
    }
    joined
}

/// The window's text with a mask for each hidden part, and where `span` lies in it. A mask has one length
/// whatever it hides.
fn mask(text: &str, window: &Range<usize>, span: Range<usize>, hidden: &[Range<usize>]) -> (String, Range<usize>) {
    let mut shown = String::new();
    let mut at = window.start;
    let (mut start, mut end) = (None, None);
    for part in hidden.iter().cloned().chain(std::iter::once(window.end..window.end)) {
        for (position, found) in [(span.start, &mut start), (span.end, &mut end)] {
            if found.is_none() && position <= part.start {
                *found = Some(shown.len() + position - at);
            }
        }
        shown.push_str(&text[at..part.start]);
        at = part.end;
        if part.is_empty() {
            continue;
        }
        let masked_from = shown.len();
        shown.push_str(MASK);
        if start.is_none() && span.start < part.end {
            start = Some(masked_from);
        }
        if end.is_none() && span.end <= part.end {
            end = Some(shown.len());
        }
    }
    let start = start.unwrap_or(shown.len());
    let end = end.unwrap_or(shown.len()).max(start);
    (shown, start..end)
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Stands for what is not shown.
const MASK: &str = "[hidden]";
/// Bytes shown before and behind the finding on a line that is longer than any terminal.
const WINDOW: usize = 400;
/// Shorter texts are not looked for in messages.
const QUOTED_SECRET_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Findings;
    use super::*;

    fn place(source: &Arc<Source>, part: &str) -> Place {
        let start = source.text.find(part).unwrap();
        Place::Text { source: Arc::clone(source), span: start..start + part.len() }
    }

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source::new("gander.yaml".into(), text.into()))
    }

    #[test]
    fn one_line_is_shown_with_a_caret_under_the_part() {
        let source = source("a: 1\nlisten: { adress: x }\nb: 2\n");
        let mut findings = Findings::new();
        findings
            .error(place(&source, "adress"), "listen.adress", "unknown key `adress`")
            .suggest("adress", ["address", "tls"]);
        assert_eq!(
            findings.render(false),
            "error: listen.adress: unknown key `adress`\n \
             --> gander.yaml:2:11\n  \
               |\n\
             2 | listen: { adress: x }\n  \
               |           ^^^^^^\n  \
               |\n  \
               = help: did you mean `address`?\n"
        );
    }

    #[test]
    fn what_is_concealed_is_shown_by_no_finding_and_moves_no_column() {
        let source = source("x: { bearer: 'hunter2hunter2', wrong: 1 } # é\n");
        let mut findings = Findings::new();
        findings.error(place(&source, "wrong"), "x.wrong", "unknown, beside hunter2hunter2").help("not hunter2hunter2");
        findings.warning(place(&source, "'hunter2hunter2'"), "x.bearer", "written out");
        findings.error(place(&source, "hunter2"), "", "within it");
        findings.conceal(place(&source, "'hunter2hunter2'"));
        let text = findings.render(false);
        assert!(!text.contains("hunter2") && !findings.to_json().to_string().contains("hunter2"), "{text}");
        assert!(text.contains("gander.yaml:1:32"), "{text}");
        assert!(text.contains("1 | x: { bearer: [hidden], wrong: 1 } # é\n  |                        ^^^^^"), "{text}");
        assert!(text.contains("1 | x: { bearer: [hidden], wrong: 1 } # é\n  |              ^^^^^^^^"), "{text}");
    }

    #[test]
    fn a_secret_over_several_lines_is_concealed_on_each() {
        let source = source("a: \"one\n  two\" oops\n");
        let mut findings = Findings::new();
        findings.conceal(place(&source, "\"one\n  two\""));
        findings.error(place(&source, "oops"), "", "here");
        let text = findings.render(false);
        assert!(text.contains("[hidden] oops") && !text.contains("two"), "{text}");
    }

    #[test]
    fn of_a_very_long_line_only_the_surroundings_are_shown() {
        let source = source(&format!("a: {}X{}\n", "é".repeat(5_000), "y".repeat(5_000)));
        let mut findings = Findings::new();
        findings.error(place(&source, "X"), "", "here");
        let text = findings.render(false);
        assert!(text.contains("gander.yaml:1:5004") && text.len() < 3_000, "{text}");
    }

    #[test]
    fn control_characters_reach_no_terminal() {
        let source = source("a: \u{1b}[31mred\n");
        let mut findings = Findings::new();
        findings.error(place(&source, "red"), "", "found `\u{1b}[31m`").help("not \u{1b}[31m");
        assert!(!findings.render(false).contains('\u{1b}'));
    }

    #[test]
    fn a_place_outside_of_files_is_named() {
        let mut findings = Findings::new();
        findings.error(Place::Environment("GANDER_LISTEN__ADDRESS".into()), "listen.address", "wrong");
        let text = findings.render(false);
        assert!(text.contains("--> environment variable GANDER_LISTEN__ADDRESS"), "{text}");
    }
}
