//! What was probably meant by a text that is no path: other dialects' operators, calls and scripts, forgotten quotes,
//! dots and brackets. The first part that can't stand where it stands is told, with what to write in its place.

mod values;
mod words;

use std::ops::Range;

use super::PathError;
use super::tokens::{Kind, Token, Within, end_of_text, tokens};

/// What to say of a path that the parser refused, at `position` if it told one.
pub(super) fn explain(text: &str, position: Option<usize>) -> PathError {
    let reading = Reading { text, tokens: &tokens(text) };
    // `$$` is known to be meant; what follows it is what is wrong.
    let first = usize::from(text.starts_with("$$"));
    if let Some(error) = (first..reading.tokens.len()).find_map(|at| reading.problem(at)) {
        return error;
    }
    let position = position.filter(|position| text.is_char_boundary(*position)).unwrap_or(text.len());
    let next = text[position..].chars().next();
    let message = match next {
        Some(c) => format!("this is no RFC 9535 path: `{c}` is not expected here"),
        None => "this is no RFC 9535 path: it ends too early".to_owned(),
    };
    PathError { message, range: position..position + next.map_or(0, char::len_utf8), help: reading.compared(position) }
}

/// What a word in a filter probably means, where a name with a blank in it would be read: `@.status in`.
pub(super) fn of_word(text: &str, word: &Range<usize>) -> Option<String> {
    let tokens = tokens(text);
    let at = tokens.iter().position(|token| token.range.start == word.start)?;
    Reading { text, tokens: &tokens }.operator_word(at)
}

/// What a function that RFC 9535 lacks probably means.
pub(super) fn of_function(text: &str, name: &Range<usize>) -> Option<String> {
    let tokens = tokens(text);
    let at = tokens.iter().position(|token| token.range.start == name.start)?;
    let reading = Reading { text, tokens: &tokens };
    Some(reading.function_meaning(&reading.shown(at).to_lowercase(), at + 1))
}

struct Reading<'a> {
    text: &'a str,
    tokens: &'a [Token],
}

impl<'a> Reading<'a> {
    /// What is wrong with one part, as far as the parts beside it tell.
    fn problem(&self, at: usize) -> Option<PathError> {
        let token = &self.tokens[at];
        let next = self.kind(at + 1);
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        match token.kind {
            Kind::Text => self.quoted(at).or_else(|| self.value_alone(at)),
            Kind::Sign => self.sign(at),
            Kind::Word => self.word(at).or_else(|| self.value_alone(at)),
            Kind::Number => self.number(at).or_else(|| self.value_alone(at)),
            Kind::Dots if token.range.len() > 2 => {
                self.error(at, "at most two dots stand together", "one dot names a child, two anything below")
            }
            Kind::Dots if next.is_none() => self.error(
                at,
                "a name is missing after the two dots",
                "such as `$..host`, or `$..*` for everything below",
            ),
            Kind::Dot if next.is_none() => {
                self.error(at, "a name is missing after the dot", "remove the dot, or name a member")
            }
            Kind::Dot | Kind::Dots if matches!(previous, Some(Kind::Question)) => {
                self.error(at, "a filter reads from the item, `@`", "write `@.name`")
            }
            Kind::Dot if next == Some(Kind::BracketOpen) => {
                self.error(at, "no dot stands before a bracket", "remove it")
            }
            Kind::Dot | Kind::Dots if next == Some(Kind::Text) => self.error(
                at + 1,
                "a quoted name stands in brackets",
                format!("write `[{}]` without the dot", self.shown(at + 1)),
            ),
            Kind::Dot if matches!(next, Some(Kind::Current | Kind::Root)) => self.error(
                at + 1,
                format!("a name can't begin with `{}`", self.shown(at + 1)),
                "a name that has it is quoted: `['@type']`",
            ),
            Kind::BracketOpen => self.bracket(at, previous, next),
            Kind::ParenOpen => self.parenthesis(at, previous),
            Kind::BracketClose | Kind::ParenClose if self.opening(at).is_none() => {
                self.error(at, format!("this `{}` closes nothing", self.shown(at)), "remove it, or open it before")
            }
            Kind::Current if token.within == Within::Nothing => self.error(
                at,
                "`@` is the item that a filter looks at, and this is no filter",
                "a filter is `[?@.name == 'x']`; a path begins with `$`",
            ),
            Kind::Question if token.within == Within::Nothing => {
                self.error(at, "a filter stands in brackets", "such as `[?@.name == 'x']`")
            }
            Kind::Question if matches!(next, None | Some(Kind::BracketClose | Kind::Comma)) => {
                self.error(at, "this filter asks nothing", "such as `[?@.name == 'x']`, or `[*]` for every item")
            }
            Kind::Star => self.star(at, previous, next),
            Kind::Root if token.within == Within::Nothing && at > 0 => {
                self.error(at, "this `$` is one too many", "`$` is the element, `$$` the whole payload")
            }
            Kind::Colon if self.colons_before(at) == 2 => {
                self.error(at, "a slice has three numbers at most", "start, end and step: `[1:5:2]`")
            }
            Kind::Comma => self.comma(at, previous, next),
            Kind::Other => self.other(at),
            _ => None,
        }
    }

    fn bracket(&self, at: usize, previous: Option<Kind>, next: Option<Kind>) -> Option<PathError> {
        if previous == Some(Kind::Sign) && COMPARISONS.contains(&self.shown(at - 1)) {
            let left = self.left_of(at - 1);
            return self.error(
                at,
                "a list can't be compared with",
                format!("compare one by one: `{left} == 'a' || {left} == 'b'`"),
            );
        }
        match next {
            Some(Kind::BracketClose) => self.error_in(
                self.tokens[at].range.start..self.tokens[at + 1].range.end,
                "these brackets select nothing",
                "every item is `[*]`, the first `[0]`, a member `['name']`",
            ),
            Some(Kind::Current) => {
                let range = self.tokens[at].range.start..self.tokens[at + 1].range.end;
                self.error_in(range, "a filter begins with `?`", "write `[?@.name == 'x']`")
            }
            Some(Kind::Sign) if self.shown(at + 1) == "!" => {
                let range = self.tokens[at].range.start..self.tokens[at + 1].range.end;
                self.error_in(range, "a filter begins with `?`", "write `[?!@.name]`")
            }
            Some(Kind::Root) => {
                self.error(at + 1, "a path can't be an index or a name here", "a filter compares: `[?@.id == $.id]`")
            }
            _ if self.is_unclosed(at) => self.error(at, "this bracket is not closed", "a `]` is missing"),
            _ => None,
        }
    }

    fn parenthesis(&self, at: usize, previous: Option<Kind>) -> Option<PathError> {
        if previous == Some(Kind::Sign) && COMPARISONS.contains(&self.shown(at - 1)) {
            return self.error(at, "what is compared stands without parentheses", "remove them");
        }
        if self.kind(at + 1) == Some(Kind::ParenClose) && previous != Some(Kind::Word) {
            return self.error(at, "there is nothing in these parentheses", "such as `[?@.name == 'x']`");
        }
        if self.tokens[at].within == Within::Nothing {
            return self.error(
                at,
                "a parenthesis can't stand here",
                "RFC 9535's functions stand inside filters: `[?length(@.items) > 0]`",
            );
        }
        if self.is_unclosed(at) {
            return self.error(at, "this parenthesis is not closed", "a `)` is missing");
        }
        None
    }

    fn star(&self, at: usize, previous: Option<Kind>, next: Option<Kind>) -> Option<PathError> {
        let joined = matches!(previous, Some(Kind::Word | Kind::Star)) || next == Some(Kind::Star);
        match self.tokens[at].within {
            Within::Filter
                if matches!(previous, Some(Kind::Word | Kind::Number | Kind::BracketClose | Kind::ParenClose)) =>
            {
                self.error(
                    at,
                    "RFC 9535 does not calculate",
                    "compare with the result, or let a template in `emit` calculate",
                )
            }
            _ if joined => self.error(
                at,
                "`*` stands alone: it is no part of a name",
                "`.*` is every child, `..*` everything below",
            ),
            Within::Nothing if matches!(previous, Some(Kind::Root | Kind::BracketClose)) => {
                self.error(at, "a dot is missing before `*`", "write `.*`")
            }
            _ => None,
        }
    }

    fn comma(&self, at: usize, previous: Option<Kind>, next: Option<Kind>) -> Option<PathError> {
        let empty = matches!(previous, Some(Kind::BracketOpen | Kind::ParenOpen | Kind::Comma))
            || matches!(next, Some(Kind::BracketClose | Kind::ParenClose));
        match self.tokens[at].within {
            Within::Nothing => self.error(at, "one path is read here", "several names are selected by `['a', 'b']`"),
            _ if empty => self.error(at, "something is missing beside this comma", "remove it"),
            _ => None,
        }
    }

    fn other(&self, at: usize) -> Option<PathError> {
        let sign = self.shown(at);
        let within = self.tokens[at].within;
        let (message, help) = match sign {
            "+" | "-" | "/" | "%" if within == Within::Filter && self.ends_operand(at) => (
                "RFC 9535 does not calculate".to_owned(),
                "compare with the result, or let a template in `emit` calculate",
            ),
            "/" if within == Within::Filter => {
                ("a pattern is quoted".to_owned(), "write `'…'`; `(?i)` in it ignores case")
            }
            "/" => (format!("`{sign}` is no part of a path"), "members are named by dots: `$.a.b`"),
            "-" if within == Within::Filter => {
                ("`-` stands only before a number".to_owned(), "RFC 9535 does not calculate")
            }
            "{" | "}" if within == Within::Filter => {
                ("an object can't be compared with".to_owned(), "compare its members one by one")
            }
            "{" | "}" => (
                format!("`{sign}` is no part of a path"),
                "a path is `$.name`; a template, `{{ payload.name }}`, stands in `emit`",
            ),
            "^" => ("RFC 9535 has no way up (`^`)".to_owned(), "filter the parent by what is in it: `[?@.child]`"),
            "~" => ("RFC 9535 does not select names (`~`)".to_owned(), "it selects values"),
            "\\" => ("a backslash stands only in quotes".to_owned(), "remove it"),
            _ => {
                let help = format!("a name that has it is quoted: `['a{sign}b']`");
                return self.error(at, format!("`{sign}` is no part of a path"), help);
            }
        };
        self.error(at, message, help)
    }

    /// What to say of a comparison where the parser stopped and no part was found wrong.
    fn compared(&self, position: usize) -> Option<String> {
        self.text[position..].starts_with(['=', '!', '<', '>']).then(|| ONE_NODE.to_owned())
    }

    fn colons_before(&self, at: usize) -> usize {
        let colons = (0..at).rev().take_while(|before| matches!(self.kind(*before), Some(Kind::Colon | Kind::Number)));
        colons.filter(|before| self.kind(*before) == Some(Kind::Colon)).count()
    }

    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn shown(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| &self.text[token.range.clone()])
    }

    fn touches(&self, at: usize) -> bool {
        at.checked_sub(1).is_some_and(|previous| self.tokens[previous].range.end == self.tokens[at].range.start)
    }

    /// Where what encloses this part, or what this part closes, is opened.
    fn opening(&self, at: usize) -> Option<usize> {
        let mut closed = 0_usize;
        for before in (0..at).rev() {
            match self.tokens[before].kind {
                Kind::BracketClose | Kind::ParenClose => closed += 1,
                Kind::BracketOpen | Kind::ParenOpen if closed > 0 => closed -= 1,
                opened @ (Kind::BracketOpen | Kind::ParenOpen) => {
                    let fits = match self.tokens[at].kind {
                        Kind::BracketClose => opened == Kind::BracketOpen,
                        Kind::ParenClose => opened == Kind::ParenOpen,
                        _ => true,
                    };
                    return fits.then_some(before);
                }
                _ => {}
            }
        }
        None
    }

    /// Where what this part opens is closed, if everything between is.
    fn closing(&self, at: usize) -> Option<usize> {
        let mut open = Vec::new();
        for (behind, token) in self.tokens.iter().enumerate().skip(at) {
            match token.kind {
                Kind::BracketOpen => open.push(Kind::BracketClose),
                Kind::ParenOpen => open.push(Kind::ParenClose),
                Kind::BracketClose | Kind::ParenClose => {
                    if open.pop() != Some(token.kind) {
                        return None;
                    }
                    if open.is_empty() {
                        return Some(behind);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whether this part opens what is never closed, and nothing in it does likewise, nor a quote.
    fn is_unclosed(&self, at: usize) -> bool {
        let opens = |at: &usize| matches!(self.tokens[*at].kind, Kind::BracketOpen | Kind::ParenOpen);
        let count = |kind| self.tokens.iter().filter(|token| token.kind == kind).count();
        let quote = self.tokens.iter().rev().find(|token| token.kind == Kind::Text);
        self.closing(at).is_none()
            && !(at + 1..self.tokens.len()).filter(opens).any(|inner| self.closing(inner).is_none())
            && count(Kind::BracketClose) <= count(Kind::BracketOpen)
            && count(Kind::ParenClose) <= count(Kind::ParenOpen)
            && quote.is_none_or(|quote| is_closed(&self.text[quote.range.clone()]))
    }

    /// Whether a value or a path ends right before this part.
    fn ends_operand(&self, at: usize) -> bool {
        let kinds =
            [Kind::Word, Kind::Number, Kind::Text, Kind::BracketClose, Kind::ParenClose, Kind::Current, Kind::Star];
        at.checked_sub(1).and_then(|at| self.kind(at)).is_some_and(|kind| kinds.contains(&kind))
    }

    /// Where the operand begins that ends before this part.
    fn start_of_operand(&self, at: usize) -> usize {
        let mut start = at;
        while let Some(before) = start.checked_sub(1) {
            match self.tokens[before].kind {
                Kind::Question | Kind::ParenOpen | Kind::BracketOpen | Kind::Comma | Kind::Sign => break,
                Kind::BracketClose | Kind::ParenClose => match self.opening(before) {
                    Some(opened) => start = opened,
                    None => break,
                },
                Kind::Current | Kind::Root => return before,
                _ => start = before,
            }
        }
        start
    }

    /// The part behind the operand that begins here.
    fn end_of_operand(&self, at: usize) -> usize {
        let mut end = at;
        while let Some(kind) = self.kind(end) {
            end = match kind {
                Kind::Sign | Kind::Comma | Kind::BracketClose | Kind::ParenClose | Kind::Question => break,
                Kind::BracketOpen | Kind::ParenOpen => match self.closing(end) {
                    Some(closed) => closed + 1,
                    None => break,
                },
                _ => end + 1,
            };
        }
        end
    }

    /// The text of the operand before this part, for showing how to write it.
    fn left_of(&self, at: usize) -> &'a str {
        let start = self.start_of_operand(at);
        match (self.tokens.get(start), at.checked_sub(1).and_then(|last| self.tokens.get(last))) {
            (Some(first), Some(last)) if start < at => &self.text[first.range.start..last.range.end],
            _ => "@.name",
        }
    }

    fn error(&self, at: usize, message: impl Into<String>, help: impl Into<String>) -> Option<PathError> {
        self.error_in(self.tokens[at].range.clone(), message, help)
    }

    fn error_in(&self, range: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Option<PathError> {
        Some(PathError { message: message.into(), range, help: Some(help.into()) })
    }
}

const ONE_NODE: &str =
    "compare a path without `*`, `..`, slice, list or filter; a nested filter reads several, `[?@.items[?@ == 1]]`";
/// Whether the quote that a text begins with is closed at its end.
fn is_closed(text: &str) -> bool {
    let quote = &text[..1];
    text.len() >= 2 && text.ends_with(quote) && end_of_text(&format!("{text}{quote}")) != text.len() + 1
}

const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
