//! The regular expressions of JSONPath's `match()` and `search()` (I-Regexp, RFC 9485), by the crate `regex`.
//!
//! What `regex` takes beyond I-Regexp (`\d`, anchors) is taken too.

use regex::RegexBuilder;

use crate::rules::pattern::Pattern;

/// Compiles a pattern; `whole` for `match()`, which must match the text from end to end.
pub(super) fn compile(pattern: &str, whole: bool) -> Result<Pattern, String> {
    // Checked alone first: an unbalanced `)` must not close the group around it.
    let read = regex_syntax::Parser::new().parse(pattern).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it can't be read".to_owned(),
    })?;
    let pattern = dots(pattern);
    let pattern = if whole { format!(r"\A(?:{pattern})\z") } else { pattern };
    RegexBuilder::new(&pattern)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map(|regex| Pattern::new(regex, &read))
        .map_err(|_| format!("compiled it would take more than {REGEX_BYTES_MAX} bytes"))
}

/// I-Regexp's `.` is neither line feed nor carriage return; `regex`'s is only no line feed.
fn dots(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut escaped = false;
    let mut in_class = false;
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '.' if !in_class => {
                translated.push_str(r"[^\n\r]");
                continue;
            }
            _ => {}
        }
        translated.push(c);
    }
    translated
}

/// A payload may bring its own pattern (`match(@.a, $.pattern)`), so this also bounds what a sender can cause.
const REGEX_BYTES_MAX: usize = 256 * 1024;
