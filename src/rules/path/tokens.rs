//! The parts of a text that is no path, for saying what was probably meant. Nothing is refused here.

use std::ops::Range;

/// One part, with its place in bytes and what it stands in. Blanks are no parts.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
    pub(super) within: Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `$`
    Root,
    /// `@`
    Current,
    Dot,
    /// Two dots or more.
    Dots,
    BracketOpen,
    BracketClose,
    ParenOpen,
    ParenClose,
    Question,
    Star,
    Comma,
    Colon,
    /// One of [`SIGNS`].
    Sign,
    Word,
    Number,
    /// A quoted text, closed or not.
    Text,
    /// A character that means nothing in a path.
    Other,
}

/// What a part stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Nothing,
    /// Brackets, before or without a `?`.
    Selectors,
    /// A filter, after its `?`.
    Filter,
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    // What is open, and what stands in it.
    let mut open: Vec<(Kind, Within)> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if is_blank(c) {
            at += 1;
            continue;
        }
        let previous = tokens.last().map(|token| token.kind);
        let (kind, length) = read(c, rest, previous);
        match kind {
            Kind::BracketClose | Kind::ParenClose => {
                open.pop();
            }
            Kind::Comma => {
                // A new selector begins; in parentheses, a new argument.
                if let Some((Kind::BracketOpen, innermost)) = open.last_mut() {
                    *innermost = Within::Selectors;
                }
            }
            Kind::Question => {
                if let Some((_, innermost)) = open.last_mut() {
                    *innermost = Within::Filter;
                }
            }
            _ => {}
        }
        let within = open.last().map_or(Within::Nothing, |(_, within)| *within);
        tokens.push(Token { kind, range: at..at + length, within });
        match kind {
            Kind::BracketOpen => open.push((kind, Within::Selectors)),
            Kind::ParenOpen => open.push((kind, within)),
            _ => {}
        }
        at += length;
    }
    tokens
}

fn read(c: char, rest: &str, previous: Option<Kind>) -> (Kind, usize) {
    let single = |kind| (kind, c.len_utf8());
    match c {
        '$' => single(Kind::Root),
        '@' => single(Kind::Current),
        '[' => single(Kind::BracketOpen),
        ']' => single(Kind::BracketClose),
        '(' => single(Kind::ParenOpen),
        ')' => single(Kind::ParenClose),
        '?' => single(Kind::Question),
        '*' => single(Kind::Star),
        ',' => single(Kind::Comma),
        ':' => single(Kind::Colon),
        '.' => match rest.len() - rest.trim_start_matches('.').len() {
            1 => (Kind::Dot, 1),
            dots => (Kind::Dots, dots),
        },
        '\'' | '"' => (Kind::Text, end_of_text(rest)),
        _ if is_name_first(c) => (Kind::Word, name_length(rest)),
        _ if c.is_ascii_digit() || c == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            // After a dot it is an index in the manner of other languages: `.0.1` are two.
            let after_dot = matches!(previous, Some(Kind::Dot | Kind::Dots));
            (Kind::Number, number_length(rest, after_dot))
        }
        _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => (Kind::Sign, sign.len()),
            None => single(Kind::Other),
        },
    }
}

/// The length of a quoted text that `text` begins with; all of it where the quote is not closed.
pub(super) fn end_of_text(text: &str) -> usize {
    let mut characters = text.char_indices();
    let Some((_, quote)) = characters.next() else {
        return 0;
    };
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                characters.next();
            }
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

pub(super) fn name_length(text: &str) -> usize {
    text.find(|c: char| !is_name_first(c) && !c.is_ascii_digit()).unwrap_or(text.len())
}

/// The length of a number: a dot or an `e` that no digit follows is not its own.
pub(super) fn number_length(text: &str, whole: bool) -> usize {
    let digits = |at: usize| text[at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |length| at + length);
    let mut end = digits(usize::from(text.starts_with('-')));
    if whole {
        return end;
    }
    if text[end..].starts_with('.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        if digits(end + 1 + sign) > end + 1 + sign {
            end = digits(end + 1 + sign);
        }
    }
    end
}

pub(super) fn is_name_first(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Signs of RFC 9535 and of what is written in their place, the longer ones first.
const SIGNS: [&str; 20] = [
    "===", "!==", "=~", "~=", "!~", "==", "!=", "<>", "<=", ">=", "=<", "=>", "&&", "||", "<", ">", "=", "&", "|", "!",
];
