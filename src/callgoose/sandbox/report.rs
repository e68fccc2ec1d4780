//! A call to the stand-in as one line for who watches it: what it was, which filter, what became of it.

use std::fmt;

use ::http::StatusCode;

use super::callgoose::SandboxAnswer;
use super::effect::Effect;
use crate::callgoose::filters::Miss;
use crate::clock::WallTime;

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Report {
    pub at: WallTime,
    pub status: StatusCode,
    effects: Vec<Effect>,
    misses: Vec<Miss>,
}

impl Report {
    /// A call that filters were asked about.
    pub(crate) fn of_answer(answer: &SandboxAnswer, at: WallTime) -> Report {
        let (effects, misses) = (answer.effects.clone(), answer.misses.clone());
        Report { at, status: answer.status, effects, misses }
    }

    /// A call that was answered before any filter was asked.
    pub(crate) fn of_status(status: StatusCode, at: WallTime) -> Report {
        Report { at, status, effects: Vec::new(), misses: Vec::new() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.status.as_u16())?;
        match self.effects.as_slice() {
            [] if self.status == StatusCode::ACCEPTED => self.unmatched(f),
            [] => f.write_str(&self.status.canonical_reason().unwrap_or("refused").to_lowercase()),
            [first, rest @ ..] => {
                first.fmt(f)?;
                rest.iter().try_for_each(|effect| write!(f, "; {effect}"))
            }
        }
    }
}

impl Report {
    fn unmatched(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unmatched, nobody is alerted")?;
        match self.misses.as_slice() {
            [] => Ok(()),
            [first] => write!(f, ": {first}"),
            [first, rest @ ..] => write!(f, ": {first} (and {} more)", rest.len()),
        }
    }
}
