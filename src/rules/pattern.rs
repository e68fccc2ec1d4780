//! A regular expression with what it costs to look for it.
//!
//! The crate `regex` never backtracks: a search takes time by the length of the text. Nearly always a byte costs a
//! nanosecond. A pattern that can be in very many states at once (`(a|b)*a(a|b){200}`) costs as much as a look at each
//! of its parts, for every byte; [`Pattern`] knows which ones these are and says so.

use regex::Regex;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    weight: u64,
}

/// How large a pattern is, its counted repetitions written out.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Places in a match.
    places: u64,
    /// Those among them that take one of many characters, and choices that are repeated: each can double the number of
    /// states.
    broad: u64,
}

impl Pattern {
    /// A regular expression that was compiled from what was read as `hir`.
    pub(super) fn new(regex: Regex, hir: &Hir) -> Pattern {
        let size = size(hir);
        let looks = if size.broad <= BROAD_MAX { 1 } else { size.places };
        Pattern { regex, weight: looks.saturating_mul(WEIGHT) }
    }

    /// One that looks for any of some literal words: there are as many states as letters, but it begins with each word.
    pub(super) fn of_words(regex: Regex, words: usize) -> Pattern {
        Pattern { regex, weight: WEIGHT * (1 + words as u64 / WORDS_PER_LOOK) }
    }

    /// The cost of a search through the text, as bytes that are compared.
    pub(super) fn cost(&self, text: &str) -> u64 {
        (text.len() as u64).saturating_mul(self.weight)
    }

    /// Whether it matches somewhere in the text. Paid for by [`super::budget::Budget::search`].
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

fn size(hir: &Hir) -> Size {
    let sum = |parts: &[Hir]| {
        parts.iter().map(size).fold(Size::default(), |sum, part| Size {
            places: sum.places.saturating_add(part.places),
            broad: sum.broad.saturating_add(part.broad),
        })
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Size { places: 1, broad: 0 },
        HirKind::Literal(literal) => Size { places: literal.0.len() as u64, broad: 0 },
        HirKind::Class(class) => Size { places: CHARACTER_BYTES_MAX, broad: u64::from(!is_one_letter(class)) },
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Concat(parts) => sum(parts),
        HirKind::Alternation(parts) => sum(parts),
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min).max(1));
            let sub = size(&repetition.sub);
            let choice = u64::from(!is_simple(&repetition.sub));
            Size { places: sub.places.saturating_mul(times), broad: sub.broad.max(choice).saturating_mul(times) }
        }
    }
}

/// Whether a class is one letter in any case.
fn is_one_letter(class: &Class) -> bool {
    let Class::Unicode(class) = class else {
        return false;
    };
    let Some(first) = class.ranges().first().map(ClassUnicodeRange::start) else {
        return true;
    };
    let mut letter = ClassUnicode::new([ClassUnicodeRange::new(first, first)]);
    letter.try_case_fold_simple().is_ok() && letter == *class
}

/// Whether there is only one way through a part.
fn is_simple(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => true,
        HirKind::Capture(capture) => is_simple(&capture.sub),
        HirKind::Concat(parts) => parts.iter().all(is_simple),
        HirKind::Alternation(_) | HirKind::Repetition(_) => false,
    }
}

/// 2^8 states for each place are made once and remembered.
const BROAD_MAX: u64 = 8;
/// A character that is not ASCII is matched byte by byte.
const CHARACTER_BYTES_MAX: u64 = 4;
const WORDS_PER_LOOK: u64 = 64;
/// A byte that is searched costs as much as some that are compared: two nanoseconds.
const WEIGHT: u64 = 4;
