//! A call to the stand-in as one line for who watches it: what it was, which filter, what became of it.

use std::fmt;

use ::http::{Method, StatusCode};

use super::callgoose::{SandboxAnswer, Unread};
use super::effect::Effect;
use crate::callgoose::filters::Miss;
use crate::clock::WallTime;

/// A call that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub at: WallTime,
    pub status: StatusCode,
    effects: Vec<Effect>,
    misses: Vec<Miss>,
    unread: Option<Unread>,
    /// The method and path that were asked for, where nothing is.
    wrong_path: Option<String>,
}

impl Report {
    /// A call that filters were asked about.
    pub(crate) fn of_answer(answer: &SandboxAnswer, at: WallTime) -> Report {
        let (effects, misses) = (answer.effects.clone(), answer.misses.clone());
        Report { effects, misses, unread: answer.unread, ..Report::of_status(answer.status, at) }
    }

    /// A request for what is not there. Its query may hold a token, and is not told.
    pub(crate) fn of_wrong_path(method: &Method, path: &str, at: WallTime) -> Report {
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        let wrong_path = Some(format!("{method} {path}"));
        Report { wrong_path, ..Report::of_status(StatusCode::NOT_FOUND, at) }
    }

    /// A call that was answered before any filter was asked.
    pub(crate) fn of_status(status: StatusCode, at: WallTime) -> Report {
        Report { at, status, effects: Vec::new(), misses: Vec::new(), unread: None, wrong_path: None }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.status.as_u16())?;
        if let Some(asked) = &self.wrong_path {
            return write!(f, "not found: {asked}; calls go to POST /sqibs-api/v1/process");
        }
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
        match self.unread {
            Some(Unread::NotJson) => return f.write_str(": the body is not JSON"),
            Some(Unread::Empty) => {
                return f.write_str(": the body is empty, or its Content-Type is neither JSON nor text");
            }
            None => {}
        }
        match self.misses.as_slice() {
            [] => Ok(()),
            [first] => write!(f, ": {first}"),
            [first, rest @ ..] => write!(f, ": {first} (and {} more)", rest.len()),
        }
    }
}

/// More than any path of Callgoose has.
const PATH_CHARS_MAX: usize = 100;
