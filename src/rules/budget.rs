//! The work that one decision may still do: steps of about the same time, which all its paths and comparisons take from
//! one store. The clock is not asked, so that the same payload is always decided alike.
//!
//! A step is a node that is looked at, some ten nanoseconds. What costs more takes more: bytes that are compared, hashed
//! or searched, patterns by what their search can cost, patterns that the payload brings by compiling them.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::pattern::{Capture, Pattern};

/// The steps that one decision may still take. All its paths and comparisons draw on it.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    brought: RefCell<Option<Brought>>,
}

/// The last pattern that a payload brought, for `match(@.a, $.pattern)` over many nodes. One that is none matches nothing.
#[derive(Debug)]
struct Brought {
    text: String,
    whole: bool,
    compiled: Option<Pattern>,
}

impl Budget {
    pub fn new(steps: u64) -> Budget {
        Budget { left: Cell::new(steps), brought: RefCell::new(None) }
    }

    /// Takes `steps`; false once there are not enough, from then on for ever.
    pub fn spend(&self, steps: u64) -> bool {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                left > 0
            }
            None => {
                self.left.set(0);
                false
            }
        }
    }

    /// Leaves nothing.
    pub(super) fn end(&self) {
        self.left.set(0);
    }

    /// Takes the price of running through so many bytes, in comparing, hashing or searching.
    pub fn spend_bytes(&self, bytes: u64) -> bool {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    /// Looks for a pattern in a text. Without enough steps for that, it does not match.
    pub(super) fn search(&self, pattern: &Pattern, text: &str) -> bool {
        self.spend_bytes(pattern.cost(text)) && pattern.is_match(text)
    }

    /// Takes out of a text what a pattern's group matches. Without enough steps for that, nothing.
    pub(super) fn capture(&self, capture: &Capture, text: &str) -> Option<Range<usize>> {
        capture.find(text, |bytes| self.spend_bytes(bytes))
    }

    pub fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }

    /// Looks for a pattern that the payload brought. Compiling it costs by its length, and the sender chose
    /// it; but the next node mostly brings the same.
    pub(super) fn matches(&self, pattern: &str, whole: bool, text: &str) -> bool {
        let mut brought = self.brought.borrow_mut();
        let known = brought.take().filter(|last| last.whole == whole && last.text == pattern);
        if pattern.len() > PATTERN_BYTES_MAX {
            self.end();
            return false;
        }
        if known.is_none() && !self.spend(REGEX_STEPS + REGEX_STEPS_PER_BYTE * pattern.len() as u64) {
            return false;
        }
        let last = brought.insert(known.unwrap_or_else(|| Brought {
            text: pattern.to_owned(),
            whole,
            compiled: Pattern::of_path(pattern, whole).ok(),
        }));
        last.compiled.as_ref().is_some_and(|compiled| self.search(compiled, text))
    }
}

/// Bytes are run through many times faster than nodes.
pub(super) const BYTES_PER_STEP: u64 = 64;
/// The price of compiling a pattern out of the payload, beside its length: up to two milliseconds, as for `\w{20}`.
const REGEX_STEPS: u64 = 20_000;
/// A byte of a pattern can stand for a class of Unicode, whose table is gone through.
const REGEX_STEPS_PER_BYTE: u64 = 100;
/// The length that a path's own pattern could have. Under a longer one nothing is decided.
const PATTERN_BYTES_MAX: usize = 4_096;
