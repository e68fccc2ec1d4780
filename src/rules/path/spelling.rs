//! How a path is spelled: refuses what the parser reads otherwise than it looks, and says of what the parser
//! refuses what was probably meant.

use std::ops::Range;

use super::PathError;

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

/// What to say of a path that the parser refused, at `position` if it told one.
pub(super) fn explain(text: &str, position: Option<usize>) -> PathError {
    let position = position.filter(|position| text.is_char_boundary(*position)).unwrap_or(text.len());
    let range = position..position + first_length(&text[position..]);
    let message = match text[position..].chars().next() {
        Some(c) => format!("this is no RFC 9535 path: `{c}` is not expected here"),
        None => "this is no RFC 9535 path: it ends too early".to_owned(),
    };
    let (help, place) = meaning(text, position);
    error(message, place.unwrap_or(range), help)
}

fn tokens(text: &str) -> Result<(), PathError> {
    let mut depth = 0_usize;
    let mut rest = 1;
    let mut after_dot = false;
    while let Some(c) = text[rest..].chars().next() {
        let here = rest;
        rest += c.len_utf8();
        match c {
            '\'' | '"' => rest = end_of_string(text, here),
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
                rest = here + number_length(&text[here..]);
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
            Some(word_meaning(written, word)),
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

fn word_meaning(name: &str, word: &str) -> String {
    match word.to_lowercase().as_str() {
        "in" | "nin" | "anyof" | "noneof" | "subsetof" => format!(
            "RFC 9535 has no operator `{word}`: compare one by one, `@.{name} == 'a' || @.{name} == 'b'`, or use `one_of` in a rule"
        ),
        "like" | "contains" | "regex" | "matches" | "startswith" | "endswith" => {
            format!("RFC 9535 has no operator `{word}`: write `search(@.{name}, 'pattern')`")
        }
        "and" => "RFC 9535 writes `&&`".into(),
        "or" => "RFC 9535 writes `||`".into(),
        "is" | "eq" => "RFC 9535 writes `==`".into(),
        "ne" | "not" => "RFC 9535 writes `!=`, or `!` before a test".into(),
        "gt" | "lt" | "gte" | "lte" | "ge" | "le" => "RFC 9535 writes `>`, `<`, `>=`, `<=`".into(),
        _ => format!("a name with a blank is quoted: `['{name} {word}']`"),
    }
}

/// The likely meaning of a path that stops making sense at `position`, and where that is better shown.
fn meaning(text: &str, position: usize) -> (Option<String>, Option<Range<usize>>) {
    let said = |help: &str| Some(help.to_owned());
    let bare = blanked(text);
    if let Some(at) = bare.find("=~") {
        return (said("RFC 9535 has no `=~`: write `match(@.name, 'pattern')` or `search(…)`"), Some(at..at + 2));
    }
    if let Some(at) = bare.find("===") {
        return (said("RFC 9535 writes `==`"), Some(at..at + 3));
    }
    if let Some(at) = bare.find("<>") {
        return (said("RFC 9535 writes `!=`"), Some(at..at + 2));
    }
    if let Some(at) = lone(&bare, b'=', b"=!<>") {
        return (said("RFC 9535 compares with `==`"), Some(at..at + 1));
    }
    if let Some(at) = lone(&bare, b'&', b"") {
        return (said("RFC 9535 writes `&&`"), Some(at..at + 1));
    }
    if let Some(at) = lone(&bare, b'|', b"") {
        return (said("RFC 9535 writes `||`"), Some(at..at + 1));
    }
    for (word, help) in
        [(" and ", "RFC 9535 writes `&&`"), (" or ", "RFC 9535 writes `||`"), (" not ", "RFC 9535 writes `!`")]
    {
        if let Some(at) = bare.find(word) {
            return (said(help), Some(at + 1..at + word.len() - 1));
        }
    }
    if let Some(at) = bare.find("[@").or_else(|| bare.find("[!")) {
        return (said("a filter begins with `?`: `[?@.name == 'x']`"), Some(at..at + 2));
    }
    if let Some((name, range)) = unquoted(&bare, text) {
        return (Some(format!("a name in brackets is quoted: `['{name}']`")), Some(range));
    }
    if let Some((digits, range)) = dotted_index(&bare) {
        return (Some(format!("an index is written `[{digits}]`")), Some(range));
    }
    if text[position..].starts_with(['=', '!', '<', '>']) {
        return (
            said(
                "only a path to one node can be compared: no `*`, `..`, slice, list or filter in it; a nested filter reads several, `[?@.items[?@ == 1]]`",
            ),
            None,
        );
    }
    if bare.contains("()") {
        return (said("RFC 9535's functions stand inside filters: `[?length(@.items) > 0]`"), None);
    }
    let opened = bare.matches(['[', '(']).count();
    let closed = bare.matches([']', ')']).count();
    if opened > closed {
        return (said("a bracket, parenthesis or quote is not closed"), None);
    }
    if bare.ends_with('.') {
        return (said("a name is missing after the dot"), Some(text.len() - 1..text.len()));
    }
    if text.matches('$').count() > 0 && text.starts_with("$$$") {
        return (said("`$` is the element, `$$` the whole payload"), Some(0..3));
    }
    if !text[..position].contains(['.', '[']) && text.len() > 1 && !text.starts_with("$$") {
        return (Some(format!("`$.{}`?", text[1..].trim_start_matches(is_blank))), None);
    }
    (None, None)
}

/// The text with the content of its string literals blanked, byte for byte.
fn blanked(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let end = if c == '\'' || c == '"' { end_of_string(text, at) } else { at + c.len_utf8() };
        match c {
            '\'' | '"' => bare.extend(std::iter::repeat_n('\'', end - at)),
            _ => bare.push(c),
        }
        at = end;
    }
    bare
}

/// Where `sign` stands alone, neither doubled nor after one of `before`.
fn lone(text: &str, sign: u8, before: &[u8]) -> Option<usize> {
    let bytes = text.as_bytes();
    let at = |index: Option<usize>| index.and_then(|index| bytes.get(index)).copied();
    (0..bytes.len()).find(|index| {
        let previous = at(index.checked_sub(1));
        bytes[*index] == sign
            && previous != Some(sign)
            && at(Some(index + 1)) != Some(sign)
            && !previous.is_some_and(|previous| before.contains(&previous))
    })
}

/// A bracket with a bare word in it.
fn unquoted<'a>(bare: &str, text: &'a str) -> Option<(&'a str, Range<usize>)> {
    bare.match_indices('[').find_map(|(at, _)| {
        let inside = &bare[at + 1..at + 1 + bare[at + 1..].find(']')?];
        let is_word = inside.starts_with(is_name_first)
            && inside.chars().all(|c| is_name_first(c) || c.is_ascii_digit() || c == '-');
        is_word.then(|| (&text[at + 1..at + 1 + inside.len()], at + 1..at + 1 + inside.len()))
    })
}

/// A dot with digits behind it that is no number's.
fn dotted_index(bare: &str) -> Option<(String, Range<usize>)> {
    bare.match_indices('.').find_map(|(at, _)| {
        let after_digit = bare[..at].ends_with(|c: char| c.is_ascii_digit());
        let digits: String = bare[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let end = at + 1 + digits.len();
        (!digits.is_empty() && !after_digit).then_some((digits, at..end))
    })
}

/// The byte after a string literal that begins at `start`; the end of the text if it is not closed.
fn end_of_string(text: &str, start: usize) -> usize {
    let mut characters = text[start..].char_indices();
    let Some((_, quote)) = characters.next() else {
        return text.len();
    };
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                characters.next();
            }
            _ if c == quote => return start + at + 1,
            _ => {}
        }
    }
    text.len()
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !is_name_first(c) && !c.is_ascii_digit()).unwrap_or(text.len())
}

/// A number's length. A dot that no digit follows is not its own.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let whole = digits(text);
    match text[whole..].strip_prefix('.') {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => whole + 1 + digits(fraction),
        _ => whole,
    }
}

fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

fn is_name_first(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
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
