//! A finding as a terminal shows it: title, place, the line with a caret, help.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::{Finding, Place, Severity, Source, redact};

/// Renders one finding for a person. Of the file, only the line where it begins is shown.
pub(super) fn render(finding: &Finding, colour: bool) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Note => Level::NOTE,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(title(finding)));
    let mut excerpt = None;
    let file;
    match &finding.place {
        Place::Text { source, span } => {
            file = normalize_untrusted_str(&source.name);
            let excerpt = excerpt.insert(Excerpt::of(source, span.clone(), &finding.path));
            group = group.element(
                Snippet::source(excerpt.text.as_str())
                    .path(file.as_str())
                    .line_start(excerpt.line)
                    .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
            );
        }
        Place::Environment(name) => group = group.element(Origin::path(format!("environment variable {name}"))),
        Place::Flag(flag) => group = group.element(Origin::path(format!("command line, {flag}"))),
        Place::Default => {}
    }
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let rendered = renderer.render(&[group]);
    match excerpt {
        // What is shown is not always the whole line; the column named is the file's.
        Some(Excerpt { line, column, text, span }) => {
            let shown = text[..span.start].chars().count() + 1;
            rendered.replacen(&format!(":{line}:{shown}"), &format!(":{line}:{column}"), 1)
        }
        None => rendered,
    }
}

/// Path and message in one line.
pub(super) fn title(finding: &Finding) -> String {
    let Finding { path, message, .. } = finding;
    if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
}

/// One line of a file, as it may be shown.
struct Excerpt {
    text: String,
    /// From 1, in the file.
    line: usize,
    /// From 1, in characters, in the file.
    column: usize,
    /// The part that the finding is about, within `text`.
    span: Range<usize>,
}

impl Excerpt {
    fn of(source: &Source, span: Range<usize>, path: &str) -> Excerpt {
        let text = &source.text;
        let start = floor(text, span.start);
        let (line, column) = source.line_column(start).unwrap_or((1, 1));
        let line_start = source.line_start(line);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let whole = text[line_start..line_end].trim_end_matches('\r');
        let start = start.saturating_sub(line_start).min(whole.len());
        let end = floor(whole, span.end.saturating_sub(line_start)).max(start);
        if source.private {
            // Lines that an alias repeats stand elsewhere: then only the path tells. Its last key is the line's own.
            let within = path.rsplit_once('.').is_some_and(|(outer, _)| redact::is_sensitive(outer));
            let within = within || redact::is_within_secret(&text[..line_start], whole);
            let length = redact::shown_length(whole, within);
            if length < whole.trim_end().len() {
                let text = format!("{}{}", &whole[..length], redact::MASK);
                let marked = start.min(length)..if end > length { text.len() } else { end };
                return Excerpt { span: marked, text, line, column };
            }
        }
        // Of a very long line, what stands around the start.
        let from = floor(whole, start.saturating_sub(WINDOW));
        let to = floor(whole, end.min(start + WINDOW) + WINDOW);
        Excerpt { text: whole[from..to].to_owned(), line, column, span: start - from..end.min(to) - from }
    }
}

/// Bytes shown before and behind the finding on a line that is longer than any terminal.
const WINDOW: usize = 400;

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

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
    fn of_a_file_with_secrets_keys_are_shown_and_values_are_not() {
        let text = "x: { max: 1, bearer: 'hunter2hunter2', wrong: 1 } # é\n";
        let source = Arc::new(Source::new("gander.yaml".into(), text.into()).as_private());
        let mut findings = Findings::new();
        findings.error(place(&source, "max"), "x.max", "before it");
        findings.warning(place(&source, "'hunter2hunter2'"), "x.bearer", "written out");
        findings.error(place(&source, "ter2"), "", "within it");
        findings.error(place(&source, "wrong"), "x.wrong", "behind it");
        let text = findings.render(false);
        assert!(!text.contains("ter2") && text.contains("gander.yaml:1:40"), "{text}");
        assert!(text.contains("1 | x: { max: 1, bearer: [hidden]\n  |      ^^^"), "{text}");
        let masked = "1 | x: { max: 1, bearer: [hidden]\n  |                      ^^^^^^^^\n";
        assert_eq!(text.matches(masked).count(), 3, "{text}");
    }

    #[test]
    fn a_comment_is_hidden_with_the_secret_before_it() {
        for (line, shown) in [
            ("token: hunter2  # from the vault", "token: [hidden]"),
            ("port: 1 # was hunter2", "port: 1 [hidden]"),
            ("token: x  # old password: hunter3", "token: [hidden]"),
        ] {
            let source = Arc::new(Source::new("gander.yaml".into(), format!("{line}\n")).as_private());
            let mut findings = Findings::new();
            findings.error(place(&source, line.split(':').next().unwrap()), "", "here");
            let text = findings.render(false);
            assert!(text.contains(&format!("1 | {shown}\n")) && !text.contains("hunter"), "{line}: {text}");
        }
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
        let source = Arc::new(Source::new("\u{1b}[31m.yaml".into(), "a: \u{1b}[31mred\n".into()));
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
