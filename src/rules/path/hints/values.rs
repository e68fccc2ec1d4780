//! Quoted texts, numbers and signs that can't be read, and comparisons that can't be made.

use super::{ONE_NODE, Reading, is_closed};
use crate::rules::path::PathError;
use crate::rules::path::tokens::{Kind, Within};

impl Reading<'_> {
    pub(super) fn quoted(&self, at: usize) -> Option<PathError> {
        let range = &self.tokens[at].range;
        let text = self.shown(at);
        let quote = &text[..1];
        if !is_closed(text) {
            return self.error(at, "this quote is not closed", format!("a {quote} is missing at the end"));
        }
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        if matches!(previous, Some(Kind::Text | Kind::Number)) {
            return self.error(
                at,
                "something is missing before this",
                "selectors are separated by commas, tests joined by `&&` or `||`",
            );
        }
        let inside = &text[1..text.len() - 1];
        if let Some((place, c)) = inside.char_indices().find(|(_, c)| c.is_ascii_control() && *c != '\u{7f}') {
            let start = range.start + 1 + place;
            let message = "a line break or control character can't stand in quotes";
            return self.error_in(start..start + 1, message, format!("write `{}`", c.escape_default()));
        }
        let mut characters = inside.char_indices();
        while let Some((place, c)) = characters.next() {
            if c != '\\' {
                continue;
            }
            let escaped = characters.next().map_or(' ', |(_, c)| c);
            let start = range.start + 1 + place;
            match escaped {
                'b' | 'f' | 'n' | 'r' | 't' | '/' | '\\' => {}
                '\'' | '"' if quote.starts_with(escaped) => {}
                '\'' | '"' => {
                    return self.error_in(
                        start..start + 2,
                        format!("`{escaped}` needs no backslash here"),
                        "remove the backslash",
                    );
                }
                'u' => {
                    let digits = &inside[place + 2..];
                    let hex =
                        |from: usize| digits.get(from..from + 4).and_then(|four| u16::from_str_radix(four, 16).ok());
                    let message = match hex(0) {
                        None => "four hexadecimal digits follow `\\u`",
                        Some(0xdc00..=0xdfff) => "this is the second half of a character, without its first",
                        Some(0xd800..=0xdbff) => match digits[4..].strip_prefix("\\u").and_then(|_| hex(6)) {
                            Some(0xdc00..=0xdfff) => {
                                // The second half belongs to this one.
                                characters.nth(5);
                                continue;
                            }
                            _ => "this is the first half of a character, without its second",
                        },
                        Some(_) => continue,
                    };
                    let end = digits.char_indices().nth(4).map_or(digits.len(), |(end, _)| end);
                    return self.error_in(start..start + 2 + end, message, "write the character itself");
                }
                other => {
                    let end = start + 1 + other.len_utf8();
                    let help = format!("a backslash itself is written twice: `\\\\{other}`");
                    return self.error_in(start..end, format!("`\\{other}` is no escape"), help);
                }
            }
        }
        None
    }

    pub(super) fn sign(&self, at: usize) -> Option<PathError> {
        let sign = self.shown(at);
        let left = self.left_of(at);
        let say = |help: String| self.error(at, format!("RFC 9535 has no `{sign}`"), help);
        match sign {
            "=~" | "~=" => say(format!("write `search({left}, 'pattern')`, or `match(…)` for the whole text")),
            "!~" => say(format!("write `!search({left}, 'pattern')`")),
            "=" | "===" => say("write `==`".into()),
            "!==" | "<>" => say("write `!=`".into()),
            "=>" => say("write `>=`".into()),
            "=<" => say("write `<=`".into()),
            "&" if self.tokens[at].within == Within::Filter => say("write `&&`".into()),
            "|" if self.tokens[at].within == Within::Filter => say("write `||`".into()),
            "|" | "||" | "&" | "&&" if self.tokens[at].within == Within::Nothing => {
                say("one path is read here; several names are selected by `['a', 'b']`".into())
            }
            "&&" | "||"
                if matches!(self.kind(at + 1), None | Some(Kind::BracketClose | Kind::ParenClose | Kind::Sign))
                    && self.shown(at + 1) != "!" =>
            {
                self.error(at, format!("a test is missing behind `{sign}`"), "such as `@.a == 1 && @.b == 2`")
            }
            "&&" | "||" if !self.ends_operand(at) => {
                self.error(at, format!("a test is missing before `{sign}`"), "such as `@.a == 1 && @.b == 2`")
            }
            "==" | "!=" | "<" | "<=" | ">" | ">=" => self.comparison(at),
            _ => None,
        }
    }

    /// A comparison whose sides can't be compared.
    fn comparison(&self, at: usize) -> Option<PathError> {
        let next = self.kind(at + 1);
        if matches!(next, None | Some(Kind::BracketClose | Kind::ParenClose | Kind::Comma)) {
            return self.error(at, "something to compare with is missing behind this", "such as `@.name == 'x'`");
        }
        if matches!(at.checked_sub(1).and_then(|at| self.kind(at)), None | Some(Kind::Question | Kind::ParenOpen)) {
            return self.error(
                at,
                "something to compare is missing before this",
                "such as `@.name == 'x'`, or `@ == 'x'` for the item itself",
            );
        }
        let start = self.start_of_operand(at);
        if let Some(open) = self.opening(at)
            && self.kind(open) == Some(Kind::ParenOpen)
            && open.checked_sub(1).and_then(|name| self.kind(name)) == Some(Kind::Word)
        {
            return self.error(at, "an argument is a value or a path, no comparison", "compare the function's result");
        }
        let called = self.text.get(self.tokens[start].range.clone()).unwrap_or_default();
        if matches!(called, "match" | "search") && self.kind(start + 1) == Some(Kind::ParenOpen) {
            return self.error(
                start,
                format!("`{called}()` is true or false and can't be compared"),
                format!("write it alone: `[?{called}(@.name, 'pattern')]`"),
            );
        }
        if start.checked_sub(1).is_some_and(|not| self.shown(not) == "!") {
            return self.error(
                start - 1,
                "`!` can't stand before a comparison",
                "compare with the opposite sign, or write `!(…)` around it",
            );
        }
        let is_path = |start: usize| matches!(self.kind(start), Some(Kind::Current | Kind::Root));
        let end = self.end_of_operand(at + 1);
        for (first, last) in [(start, at), (at + 1, end)] {
            let several = (first..last).find(|at| {
                matches!(self.kind(*at), Some(Kind::Star | Kind::Dots | Kind::Colon | Kind::Comma | Kind::Question))
            });
            if is_path(first) && several.is_some() {
                let range = self.tokens[first].range.start..self.tokens[last - 1].range.end;
                return self.error_in(
                    range,
                    "only a path to one node can be compared, and this may select several",
                    ONE_NODE,
                );
            }
        }
        None
    }

    pub(super) fn number(&self, at: usize) -> Option<PathError> {
        let number = self.shown(at);
        let within = self.tokens[at].within;
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        let digits = number.trim_start_matches('-');
        let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        if matches!(previous, Some(Kind::Dot | Kind::Dots)) {
            let range = self.tokens[at - 1].range.start..self.tokens[at].range.end;
            let name = self.kind(at + 1) == Some(Kind::Word) && self.touches(at + 1);
            let help = if name {
                "a name that begins with a digit is quoted: `['1a']`".to_owned()
            } else {
                format!("an index is written `[{number}]`")
            };
            return self.error_in(range, "a name can't begin with a digit", help);
        }
        if matches!(previous, Some(Kind::Number | Kind::Text)) {
            return self.error(at, "a comma is missing before this", "selectors are separated by commas: `[0, 1]`");
        }
        let zeros = digits.len() - digits.trim_start_matches('0').len();
        if zeros > 0 && digits[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let rest = &digits[zeros.min(digits.len() - 1)..];
            let rest = if rest.starts_with(|c: char| c.is_ascii_digit()) { rest } else { &digits[zeros - 1..] };
            return self.error(at, "a number has no leading zeros", format!("write `{rest}`"));
        }
        if within == Within::Selectors {
            if number == "-0" {
                return self.error(at, "an index can't be `-0`", "the first item is `[0]`, the last `[-1]`");
            }
            if !is_whole {
                return self.error(
                    at,
                    "an index or a step is a whole number",
                    "without fraction and exponent, such as `[1]`",
                );
            }
        }
        if is_whole && digits.parse::<u64>().map_or(true, |value| value > INTEGER_MAX) {
            let help = match within {
                Within::Filter => {
                    format!("with a fraction or an exponent it is taken as what JSON makes of it: `{number}.0`")
                }
                _ => "no array is as long".to_owned(),
            };
            let message = format!("whole numbers beyond ±{INTEGER_MAX} are not exact in JSON");
            return self.error(at, message, help);
        }
        None
    }

    /// A value that stands in a filter without being compared.
    pub(super) fn value_alone(&self, at: usize) -> Option<PathError> {
        let before = matches!(self.kind(at.checked_sub(1)?), Some(Kind::Question))
            || ["&&", "||", "!"].contains(&self.shown(at - 1));
        let behind = match self.kind(at + 1) {
            None | Some(Kind::BracketClose) => true,
            Some(Kind::Sign) => ["&&", "||"].contains(&self.shown(at + 1)),
            _ => false,
        };
        if self.tokens[at].within != Within::Filter || !before || !behind {
            return None;
        }
        self.error(at, "a value alone asks nothing", format!("compare it: `@.name == {}`", self.shown(at)))
    }
}

/// 2^53 - 1: RFC 9535 keeps to what every implementation of JSON can hold exactly (I-JSON, RFC 7493).
const INTEGER_MAX: u64 = 9_007_199_254_740_991;
