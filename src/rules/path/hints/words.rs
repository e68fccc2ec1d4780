//! Words that can't stand where they stand: operators and functions of other dialects, names without quotes or `@`.

use super::{COMPARISONS, Reading};
use crate::rules::path::PathError;
use crate::rules::path::tokens::{Kind, Within};

impl Reading<'_> {
    pub(super) fn word(&self, at: usize) -> Option<PathError> {
        let token = &self.tokens[at];
        let word = self.shown(at);
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        let called = self.kind(at + 1) == Some(Kind::ParenOpen) && self.touches(at + 1);
        if matches!(previous, Some(Kind::Dot | Kind::Dots)) {
            return if called { self.method(at) } else { None };
        }
        if matches!(previous, Some(Kind::Root | Kind::Current)) && self.touches(at) {
            let sign = if at == 2 && self.text.starts_with("$$") { "$$" } else { self.shown(at - 1) };
            return self.error(at, format!("a dot is missing after `{sign}`"), format!("write `{sign}.{word}`"));
        }
        match token.within {
            Within::Nothing => match previous {
                Some(Kind::Star) => self.error(
                    at,
                    "`*` stands alone: it is no part of a name",
                    "a filter looks for names' values, `[?search(@, 'x')]`",
                ),
                Some(Kind::BracketClose) => {
                    self.error(at, "a dot is missing before this name", format!("write `.{word}`"))
                }
                _ => None,
            },
            Within::Selectors if called => {
                let help = match word.to_lowercase().as_str() {
                    "last" => "the last item is `[-1]`",
                    "first" => "the first item is `[0]`",
                    _ => "functions stand inside filters: `[?length(@.items) > 0]`",
                };
                self.error(at, format!("`{word}()` can't stand here"), help)
            }
            Within::Selectors => {
                let bracket = &self.text[token.range.start..];
                let end = bracket.find([',', ']', '\'', '"', '[']).unwrap_or(bracket.len());
                let name = bracket[..end].trim_end();
                let range = token.range.start..token.range.start + name.len();
                self.error_in(range, "a name in brackets is quoted", format!("write `'{name}'`"))
            }
            Within::Filter => self.filter_word(at, called),
        }
    }

    fn filter_word(&self, at: usize, called: bool) -> Option<PathError> {
        let word = self.shown(at);
        let lower = word.to_lowercase();
        if matches!(word, "true" | "false" | "null") && !called {
            return None;
        }
        if let Some(help) = self.operator_word(at) {
            return self.error(at, format!("`{word}` is no operator here"), help);
        }
        if called && FUNCTIONS.iter().any(|(name, _)| *name == word) {
            return self.arity(at);
        }
        if called {
            return self.error(
                at,
                format!("RFC 9535 has no function `{word}()`"),
                self.function_meaning(&lower, at + 1),
            );
        }
        if FUNCTIONS.iter().any(|(name, _)| *name == word) {
            let help = format!("write `{word}(…)`, without a blank before the parenthesis");
            return self.error(at, format!("`{word}` is a function, and its parentheses are missing"), help);
        }
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        let exact = match lower.as_str() {
            "true" | "false" | "null" => Some(lower.as_str()),
            "nil" | "none" | "undefined" => Some("null"),
            _ => None,
        };
        if let Some(exact) = exact {
            return self.error(at, format!("`{word}` is no value"), format!("write `{exact}`"));
        }
        match previous {
            Some(Kind::Sign) if COMPARISONS.contains(&self.shown(at - 1)) => {
                self.error(at, "a text is quoted", format!("write `'{word}'`, or `@.{word}` for a member"))
            }
            Some(Kind::Question | Kind::ParenOpen | Kind::Sign | Kind::Comma) => {
                self.error(at, "a filter reads from the item, `@`", format!("write `@.{word}`"))
            }
            _ => self.error(at, format!("`{word}` can't stand here"), "two tests are joined by `&&` or `||`"),
        }
    }

    /// What a word means that stands where an operator would, in a filter.
    pub(super) fn operator_word(&self, at: usize) -> Option<String> {
        let word = self.shown(at);
        let previous = at.checked_sub(1).and_then(|at| self.kind(at));
        let is_first = matches!(previous, None | Some(Kind::Question | Kind::ParenOpen | Kind::Comma | Kind::Sign));
        if self.tokens[at].within != Within::Filter {
            return None;
        }
        let lower = word.to_lowercase();
        if is_first {
            return (lower == "not").then(|| "RFC 9535 writes `!` before a test: `!@.name`, `!(…)`".into());
        }
        let left = self.left_of(at);
        // `@.status not in ['a']` is one operator.
        let behind = self.tokens.get(at + 1).map_or("", |token| &self.text[token.range.clone()]).to_lowercase();
        Some(match lower.as_str() {
            "in" if left.starts_with(['\'', '"']) => {
                let right = self.text[self.tokens[at].range.end..].trim_start();
                let end = right.find([']', ' ', ')', '&', '|']).unwrap_or(right.len());
                format!(
                    "RFC 9535 has no operator `in`: a nested filter looks into a list, `{}[?@ == {left}]`",
                    &right[..end]
                )
            }
            "not" if behind == "in" => one_by_one("not in", left, "!=", "&&"),
            "nin" | "noneof" | "none_of" => one_by_one(word, left, "!=", "&&"),
            "in" | "anyof" | "any_of" | "subsetof" | "subset_of" => one_by_one(word, left, "==", "||"),
            "like" | "regex" | "matches" | "contains" | "startswith" | "starts_with" | "endswith" | "ends_with" => {
                format!("RFC 9535 has no operator `{word}`: write `search({left}, 'pattern')`")
            }
            "and" => "RFC 9535 writes `&&`".into(),
            "or" => "RFC 9535 writes `||`".into(),
            "is" | "eq" | "equals" => "RFC 9535 writes `==`".into(),
            "ne" | "not" => "RFC 9535 writes `!=`, or `!` before a test".into(),
            "gt" | "lt" | "gte" | "lte" | "ge" | "le" => "RFC 9535 writes `>`, `<`, `>=`, `<=`".into(),
            "size" | "length" => format!("RFC 9535 has no operator `{word}`: write `length({left}) == …`"),
            "empty" => format!("RFC 9535 has no operator `{word}`: write `length({left}) == 0`"),
            "exists" => format!("a path alone asks whether it selects something: `[?{left}]`"),
            _ => return None,
        })
    }

    /// A call after a dot: `@.tags.length()`.
    fn method(&self, at: usize) -> Option<PathError> {
        let word = self.shown(at);
        let lower = word.to_lowercase();
        let range = self.tokens[at].range.start..self.tokens[at + 1].range.end;
        let message = format!("RFC 9535 has no call after a dot, `.{word}()`");
        let help = match self.tokens[at].within {
            Within::Filter => self.meaning_of_call(&lower, self.left_of(at - 1)),
            _ => "its functions stand inside filters: `[?length(@.items) > 0]`".to_owned(),
        };
        self.error_in(range, message, help)
    }

    /// What a call means by its name and its first argument, which begins behind the parenthesis at `open`.
    pub(super) fn function_meaning(&self, name: &str, open: usize) -> String {
        let end = self.end_of_operand(open + 1);
        match (self.tokens.get(open + 1), self.tokens.get(end - 1)) {
            (Some(first), Some(last)) if end > open + 1 => {
                self.meaning_of_call(name, &self.text[first.range.start..last.range.end])
            }
            _ => self.meaning_of_call(name, "@.name"),
        }
    }

    fn meaning_of_call(&self, name: &str, left: &str) -> String {
        match name {
            "length" | "size" | "len" => format!("write `length({left})`"),
            "count" => format!("write `count({left})`"),
            "contains" | "includes" | "startswith" | "starts_with" | "endswith" | "ends_with" | "matches" | "regex"
            | "test" | "like" => format!("write `search({left}, 'pattern')`"),
            "exists" | "empty" => format!("a path alone asks whether it selects something: `[?{left}]`, `[?!{left}]`"),
            "in" | "nin" | "none_of" | "any_of" | "subset_of" => one_by_one(name, left, "==", "||"),
            _ => "its functions are length, count, value, match and search".into(),
        }
    }

    /// Whether a function of RFC 9535 has as many arguments as it takes.
    fn arity(&self, at: usize) -> Option<PathError> {
        let (name, takes) = FUNCTIONS.iter().find(|(name, _)| *name == self.shown(at))?;
        let close = self.closing(at + 1)?;
        let empty = close == at + 2;
        let commas = (at + 2..close)
            .filter(|comma| self.kind(*comma) == Some(Kind::Comma) && self.opening(*comma) == Some(at + 1));
        let given = if empty { 0 } else { commas.count() + 1 };
        let range = self.tokens[at].range.start..self.tokens[close].range.end;
        if given != *takes {
            let message =
                format!("`{name}()` takes {}, not {given}", if *takes == 1 { "one argument" } else { "two arguments" });
            let help = match *takes {
                1 => format!("such as `{name}(@.items)`"),
                _ => format!("a value and a pattern: `{name}(@.name, 'pattern')`; `(?i)` in a pattern ignores case"),
            };
            return self.error_in(range, message, help);
        }
        let literal = matches!(self.kind(at + 2), Some(Kind::Text | Kind::Number)) && close == at + 3;
        if literal && matches!(*name, "count" | "value") {
            return self.error(at + 2, format!("`{name}()` takes a path"), format!("such as `{name}(@.items[*])`"));
        }
        None
    }
}

fn one_by_one(word: &str, left: &str, comparison: &str, join: &str) -> String {
    format!(
        "RFC 9535 has no operator `{word}`: compare one by one, `{left} {comparison} 'a' {join} {left} {comparison} 'b'`, or use `one_of` in a rule"
    )
}

/// RFC 9535's functions, with how many arguments they take.
const FUNCTIONS: [(&str, usize); 5] = [("length", 1), ("count", 1), ("value", 1), ("match", 2), ("search", 2)];
