//! The spelling of a path: refuses what the parser reads otherwise than it looks.

use std::ops::Range;

use super::quotes::masked;
use super::{PathError, hints};

/// Looks for what the parser would accept by mistake. A blank inside a shorthand name makes
/// `[?@.status in ['firing']]` a test for a member called `status in`: it never matches, and alerts would be
/// lost in silence.
pub(super) fn check(text: &str) -> Result<(), PathError> {
    if text.len() > PATH_BYTES_MAX {
        return error(format!("a path has at most {PATH_BYTES_MAX} bytes"), 0..text.len(), None);
    }
    if text.is_empty() {
        return error("a path is missing here", 0..0, Some("`$` selects the whole element".into()));
    }
    if !text.starts_with('$') {
        let first = text.chars().next().map_or(0, char::len_utf8);
        return error("a path begins with `$`", 0..first, Some(with_root(text.trim())));
    }
    if text.ends_with(is_blank) {
        return error("a path can't end with a blank", text.trim_end_matches(is_blank).len()..text.len(), None);
    }
    let masked = masked(text).text;
    let mut depth = 0_usize;
    for (at, c) in masked.char_indices() {
        let after = &masked[at + c.len_utf8()..];
        match c {
            '[' if after.starts_with('(') => {
                let help = "scripts are not part of RFC 9535: the last item is `[-1]`, a filter begins with `?`";
                return error("a parenthesis can't stand here", at + 1..at + 2, Some(help.into()));
            }
            '(' | '[' => {
                depth += 1;
                if depth > PATH_DEPTH_MAX {
                    return error(format!("brackets nest at most {PATH_DEPTH_MAX} deep in a path"), at..at + 1, None);
                }
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            '.' if after.starts_with(is_blank) => {
                return error("a blank can't stand after a dot", at..at + 2, Some("remove it".into()));
            }
            '.' if after.starts_with(is_name_first) => shorthand(text, at + 1..at + 1 + name_length(after))?,
            _ => {}
        }
    }
    Ok(())
}

/// The path that a text without `$` probably means.
fn with_root(name: &str) -> String {
    if name.starts_with('$') {
        return "remove the blank before it".to_owned();
    }
    if name.contains("{{") || name.contains('(') {
        return "a path is `$.name`; templates stand in `emit`, functions inside filters".to_owned();
    }
    match name.strip_prefix('/') {
        Some(pointer) => format!("`$.{}`?", pointer.replace('/', ".")),
        None => match name.trim_start_matches('@') {
            rest if rest.is_empty() || rest.starts_with(['.', '[']) => format!("`${rest}`?"),
            rest => format!("`$.{rest}`?"),
        },
    }
}

/// Checks a name after a dot and what follows it.
fn shorthand(text: &str, name: Range<usize>) -> Result<(), PathError> {
    let written = &text[name.clone()];
    if let Some((at, c)) = written.char_indices().find(|(_, c)| is_invisible(*c)) {
        let clean: String = written.chars().filter(|c| !is_invisible(*c)).collect();
        return error(
            format!("an invisible character (U+{:04X}) stands in this name", u32::from(c)),
            name.start + at..name.start + at + c.len_utf8(),
            Some(format!("write `{clean}`, or `['…']` around a name that really has it")),
        );
    }
    let after = &text[name.end..];
    let next = after.trim_start_matches(is_blank);
    if next.len() < after.len() && next.starts_with(is_name) {
        let word = text.len() - next.len()..text.len() - next.len() + name_length(next);
        let called = format!("{written} {}", &text[word.clone()]);
        let help =
            hints::at(text, word.start).unwrap_or_else(|| format!("a name with a blank is quoted: `['{called}']`"));
        return error(
            format!("a name can't hold a blank: this would ask for a member called `{called}`"),
            word,
            Some(help),
        );
    }
    if after.starts_with('-') {
        let end = name.end + after.find(|c| !is_name(c) && c != '-').unwrap_or(after.len());
        let help = format!("replace `.{0}` with `['{0}']`", &text[name.start..end]);
        return error("a name with `-` has to be quoted", name.start..end, Some(help));
    }
    Ok(())
}

fn name_length(text: &str) -> usize {
    text.find(|c| !is_name(c)).unwrap_or(text.len())
}

fn is_name_first(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    is_name_first(c) || c.is_ascii_digit()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Blanks and marks that a name gets by copying it from a web page.
fn is_invisible(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}' | '\u{2060}' | '\u{FEFF}')
}

fn error(message: impl Into<String>, range: Range<usize>, help: Option<String>) -> Result<(), PathError> {
    Err(PathError { message: message.into(), range, help })
}

/// A path longer than a screenful is a mistake.
const PATH_BYTES_MAX: usize = 4_096;
/// The parser backtracks at every level; here a refusal still comes at once.
const PATH_DEPTH_MAX: usize = 10;
