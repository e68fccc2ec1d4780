//! A regular expression with the price of a search.
//!
//! The crate `regex` never backtracks: a search takes time by the length of the text. Nearly always a byte costs a
//! nanosecond. A pattern that can be in very many states at once (`(a|b)*a(a|b){200}`) costs as much as a look at each
//! of its places, for every byte; its price says so.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange};
use regex_syntax::hir::translate::Translator;

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    weight: u64,
}

/// A pattern with one group, which takes a part out of a text.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pattern: Pattern,
    /// The cost of a byte of a match, as bytes that are compared: to tell groups apart takes a look at each of its places.
    weight: u64,
}

/// The reason why a regular expression can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegexError {
    pub(super) message: String,
    /// Its place in the pattern, in bytes.
    pub(super) range: Range<usize>,
}

impl Pattern {
    /// Compiles a pattern of a rule file's own operators.
    pub(super) fn of_rule(pattern: &str, any_case: bool) -> Result<Pattern, RegexError> {
        compile(pattern, RegexBuilder::new(pattern).case_insensitive(any_case), RULE_BYTES_MAX)
    }

    /// Compiles a pattern of JSONPath's `match()` and `search()` (I-Regexp, RFC 9485), in which `.` is neither line feed
    /// nor carriage return. Anything else that `regex` takes, as `\d` and anchors, is taken too. `whole` for `match()`,
    /// which must match the text from end to end.
    pub(super) fn of_path(pattern: &str, whole: bool) -> Result<Pattern, RegexError> {
        let enclosed = if whole { format!(r"\A(?:{pattern})\z") } else { pattern.to_owned() };
        compile(pattern, RegexBuilder::new(&enclosed).crlf(true), PATH_BYTES_MAX)
    }

    /// Wraps a pattern that looks for any of some literal words: there are as many states as letters, but it begins with
    /// each word.
    pub(super) fn of_words(regex: Regex, words: usize) -> Pattern {
        Pattern { regex, weight: WEIGHT * (1 + words as u64 / WORDS_PER_LOOK) }
    }

    /// The cost of a search through the text, as bytes that are compared.
    pub(super) fn cost(&self, text: &str) -> u64 {
        (text.len() as u64).saturating_mul(self.weight)
    }

    /// Tells whether it matches somewhere in the text. [`super::budget::Budget::search`] pays for it.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl Capture {
    /// Compiles a pattern of a rule file. Its groups, which must be one, are for the caller to count.
    pub(super) fn of_rule(pattern: &str) -> Result<Capture, RegexError> {
        let compiled = Pattern::of_rule(pattern, false)?;
        let (places, _) = Parser::new().parse(pattern).map_or((0, 0), |read| size(&read));
        let weight = places.saturating_mul(CHARACTER_BYTES_MAX * WEIGHT);
        Ok(Capture { pattern: compiled, weight })
    }

    /// The number of its groups, without those that only hold parts together.
    pub(super) fn groups(&self) -> usize {
        self.pattern.regex.captures_len() - 1
    }

    /// The part of the text that the group of the first match takes. [`Budget::capture`](super::budget::Budget::capture)
    /// pays for it: `pay` is asked before each of the two searches.
    pub(super) fn find(&self, text: &str, pay: impl Fn(u64) -> bool) -> Option<Range<usize>> {
        if !pay(self.pattern.cost(text)) {
            return None;
        }
        let whole = self.pattern.regex.find(text)?;
        if !pay((whole.len() as u64).saturating_mul(self.weight)) {
            return None;
        }
        let captures = self.pattern.regex.captures_at(text, whole.start())?;
        captures.get(1).map(|group| group.range())
    }

    pub(super) fn as_str(&self) -> &str {
        self.pattern.as_str()
    }
}

/// Reads a pattern alone, so that an unbalanced `)` closes no group around it, and compiles what was built of it.
fn compile(pattern: &str, builder: &mut RegexBuilder, bytes_max: usize) -> Result<Pattern, RegexError> {
    let error = |message: String, span: regex_syntax::ast::Span| {
        let range = span.start.offset..span.end.offset;
        // Something that is missing has no length; the character behind it can be marked.
        let next = pattern[range.start..].chars().next().map_or(0, char::len_utf8);
        let range = if range.is_empty() { range.start..range.start + next } else { range };
        RegexError { message, range }
    };
    let read = Parser::new().parse(pattern).map_err(|found| error(found.kind().to_string(), *found.span()))?;
    Translator::new().translate(pattern, &read).map_err(|found| error(found.kind().to_string(), *found.span()))?;
    let (places, broad) = size(&read);
    let looks = if broad <= BROAD_MAX { 1 } else { places.saturating_mul(CHARACTER_BYTES_MAX) };
    let regex = builder.size_limit(bytes_max).dfa_size_limit(bytes_max).build().map_err(|_| RegexError {
        message: format!("compiled it would take more than {} KiB", bytes_max / 1024),
        range: 0..pattern.len(),
    })?;
    Ok(Pattern { regex, weight: looks.saturating_mul(WEIGHT) })
}

/// The places of a match, counted repetitions written out, and those among them that take one of many characters or are
/// a choice: each can double the number of states.
fn size(ast: &Ast) -> (u64, u64) {
    let sum = |parts: &[Ast]| {
        let add = |(places, broad): (u64, u64), part: (u64, u64)| {
            (places.saturating_add(part.0), broad.saturating_add(part.1))
        };
        parts.iter().map(size).fold((0, 0), add)
    };
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) | Ast::Literal(_) => (1, 0),
        Ast::Dot(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => (1, 1),
        Ast::Group(group) => size(&group.ast),
        Ast::Concat(concat) => sum(&concat.asts),
        Ast::Alternation(alternation) => {
            let (places, broad) = sum(&alternation.asts);
            (places, broad.max(1))
        }
        Ast::Repetition(repetition) => {
            let times = match &repetition.op.kind {
                RepetitionKind::Range(RepetitionRange::Exactly(times) | RepetitionRange::AtLeast(times))
                | RepetitionKind::Range(RepetitionRange::Bounded(_, times)) => u64::from(*times).max(1),
                RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 1,
            };
            let (places, broad) = size(&repetition.ast);
            let choice = u64::from(!matches!(*repetition.ast, Ast::Literal(_)));
            (places.saturating_mul(times), broad.max(choice).saturating_mul(times))
        }
    }
}

/// The most that one pattern of a rule may take. `\w{1000}` takes more; any sensible one takes a hundredth.
const RULE_BYTES_MAX: usize = 1024 * 1024;
/// The most that a pattern of a path may take. A payload may bring its own (`match(@.a, $.pattern)`), so this also bounds
/// what a sender can cause.
const PATH_BYTES_MAX: usize = 256 * 1024;
/// 2^8 states for each place are made once and remembered.
const BROAD_MAX: u64 = 8;
/// A character that is not ASCII is matched byte by byte.
const CHARACTER_BYTES_MAX: u64 = 4;
const WORDS_PER_LOOK: u64 = 64;
/// A byte that is searched costs as much as some that are compared: two nanoseconds.
const WEIGHT: u64 = 4;
