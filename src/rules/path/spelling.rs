//! How a path is spelled: refuses what the parser reads otherwise than it looks.

use std::ops::Range;

use super::tokens::{end_of_text, is_blank, is_name_first, name_length, number_length};
use super::{PathError, hints};

/// Looks for what the parser would accept by mistake. A blank inside a shorthand name makes
/// `[?@.status in ['firing']]` a test for a member called `status in`: it never matches, and alerts would be
/// lost in silence.
pub(super) fn check(text: &str) -> Result<(), PathError> {
    if text.len() > PATH_BYTES_MAX {
        return Err(error(format!("a path has at most {PATH_BYTES_MAX} bytes"), 0..text.len(), None));
    }
    if text.is_empty() {
        return Err(error("a path is missing here".into(), 0..0, Some("`$` selects the whole element".into())));
    }
    if !text.starts_with('$') {
        let name = text.trim();
        let help = if name.starts_with('$') {
            "remove the blank before it".to_owned()
        } else if name.starts_with(['.', '[']) {
            format!("`${name}`?")
        } else if let Some(rest) = name.strip_prefix('@') {
            format!("`@` is the item that a filter looks at; `${rest}`?")
        } else if name.contains("{{") {
            "a template stands in `emit`; a path is `$.name`".to_owned()
        } else if name.contains('(') {
            "RFC 9535's functions stand inside filters: `$[?length(@.items) > 0]`".to_owned()
        } else if let Some(pointer) = name.strip_prefix('/') {
            format!("`$.{}`?", pointer.replace('/', "."))
        } else {
            format!("`$.{name}`?")
        };
        return Err(error("a path begins with `$`".into(), 0..first_length(text), Some(help)));
    }
    if text.ends_with(is_blank) {
        let end = text.trim_end_matches(is_blank).len();
        return Err(error("a path can't end with a blank".into(), end..text.len(), Some("remove it".into())));
    }
    tokens(text)
}

fn tokens(text: &str) -> Result<(), PathError> {
    let mut depth = 0_usize;
    let mut rest = 1;
    let mut after_dot = false;
    while let Some(c) = text[rest..].chars().next() {
        let here = rest;
        rest += c.len_utf8();
        match c {
            '\'' | '"' => rest = here + end_of_text(&text[here..]),
            '[' if text[rest..].starts_with('(') => {
                let help = "scripts are not part of RFC 9535: the last item is `[-1]`, a filter begins with `?`";
                return Err(error("a parenthesis can't stand here".into(), rest..rest + 1, Some(help.into())));
            }
            '(' | '[' => {
                depth += 1;
                if depth > PATH_DEPTH_MAX {
                    let message = format!("brackets nest at most {PATH_DEPTH_MAX} deep in a path");
                    return Err(error(message, here..rest, None));
                }
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            '.' if text[rest..].starts_with(is_blank) => {
                return Err(error("a blank can't stand after a dot".into(), here..rest + 1, Some("remove it".into())));
            }
            _ if is_name_first(c) => {
                rest = here + name_length(&text[here..]);
                if after_dot {
                    shorthand(text, here..rest)?;
                }
            }
            _ if c.is_ascii_digit() => {
                rest = here + number_length(&text[here..], false);
            }
            _ => {}
        }
        after_dot = c == '.';
    }
    Ok(())
}

/// Checks a name after a dot and what follows it.
fn shorthand(text: &str, name: Range<usize>) -> Result<(), PathError> {
    let written = &text[name.clone()];
    if let Some((at, c)) = written.char_indices().find(|(_, c)| is_invisible(*c)) {
        let clean: String = written.chars().filter(|c| !is_invisible(*c)).collect();
        return Err(error(
            format!("an invisible character (U+{:04X}) stands in this name", u32::from(c)),
            name.start + at..name.start + at + c.len_utf8(),
            Some(format!("write `{clean}`, or `['…']` around a name that really has it")),
        ));
    }
    let after = &text[name.end..];
    let gap = after.len() - after.trim_start_matches(is_blank).len();
    let next = &after[gap..];
    if gap > 0 && next.starts_with(|c: char| is_name_first(c) || c.is_ascii_digit()) {
        let word_at = name.end + gap;
        let word = &text[word_at..word_at + name_length(next).max(1)];
        return Err(error(
            format!("a name can't hold a blank: this would ask for a member called `{written} {word}`"),
            word_at..word_at + word.len(),
            hints::of_word(text, &(word_at..word_at + word.len()))
                .or_else(|| Some(format!("a name with a blank is quoted: `['{written} {word}']`"))),
        ));
    }
    if gap == 0 && next.starts_with('-') {
        let end =
            name.end + next.find(|c: char| !is_name_first(c) && !c.is_ascii_digit() && c != '-').unwrap_or(next.len());
        return Err(error(
            "a name with `-` has to be quoted".into(),
            name.start..end,
            Some(format!("replace `.{0}` with `['{0}']`", &text[name.start..end])),
        ));
    }
    Ok(())
}

fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// Blanks and marks that a name gets by copying it from a web page.
fn is_invisible(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}' | '\u{2060}' | '\u{FEFF}')
}

fn error(message: String, range: Range<usize>, help: Option<String>) -> PathError {
    PathError { message, range, help }
}

/// A path longer than a screenful is a mistake.
const PATH_BYTES_MAX: usize = 4_096;
/// The parser backtracks at every level; here a refusal still comes at once.
const PATH_DEPTH_MAX: usize = 10;
