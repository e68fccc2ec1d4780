//! A call to the stand-in as one line for who watches it: what it was, which filter, what became of it.

use std::fmt;
use std::sync::Arc;

use ::http::StatusCode;

use super::callgoose::Answer;
use crate::callgoose::filters::{Closing, Miss, Opening};
use crate::clock::WallTime;

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Report {
    pub at: WallTime,
    pub status: StatusCode,
    effects: Vec<Effect>,
    misses: Vec<Miss>,
}

/// What a call did in one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    service: Arc<str>,
    /// The number of the trigger filter, counted from 1; none for the resolve filter.
    trigger_filter: Option<usize>,
    /// The value that the incident is mapped with.
    key: Option<String>,
    /// Empty for a resolve.
    title: String,
    pub(super) happened: Happened,
}

/// What became of an incident; the number is the incident's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Created(u64),
    /// It was open already.
    StillOpen(u64),
    Resolved(u64),
    NoneOpen,
    /// The same call was made a moment ago.
    RepeatedCall,
}

impl Effect {
    pub(super) fn of_opening(service: &Arc<str>, opening: &Opening) -> Effect {
        Effect {
            service: Arc::clone(service),
            trigger_filter: Some(opening.filter),
            key: opening.key.clone(),
            title: opening.title.chars().take(TITLE_CHARS_MAX).collect(),
            happened: Happened::RepeatedCall,
        }
    }

    pub(super) fn of_closing(service: &Arc<str>, closing: &Closing) -> Effect {
        Effect {
            service: Arc::clone(service),
            trigger_filter: None,
            key: closing.key.clone(),
            title: String::new(),
            happened: Happened::NoneOpen,
        }
    }
}

impl Report {
    /// A call that filters were asked about.
    pub(crate) fn of_answer(answer: &Answer, at: WallTime) -> Report {
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

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.happened {
            Happened::Created(id) => write!(f, "created incident {id}")?,
            Happened::StillOpen(id) => write!(f, "duplicate: incident {id} is open")?,
            Happened::Resolved(id) => write!(f, "resolved incident {id}")?,
            Happened::NoneOpen => f.write_str("not resolved: no such incident is open")?,
            Happened::RepeatedCall => f.write_str("duplicate of a call a moment ago")?,
        }
        match &self.key {
            Some(key) => write!(f, " ({})", key.chars().take(KEY_CHARS_MAX).collect::<String>())?,
            None => f.write_str(" (mapped with nothing)")?,
        }
        match self.trigger_filter {
            Some(filter) => write!(f, ", trigger filter {filter} of {}: {}", self.service, self.title),
            None => write!(f, ", resolve filter of {}", self.service),
        }
    }
}

/// A line stays a line.
const TITLE_CHARS_MAX: usize = 80;
const KEY_CHARS_MAX: usize = 80;
