//! The effect of a call to the stand-in in one service.

use std::fmt;
use std::sync::Arc;

use crate::callgoose::filters::{Closing, Opening};

/// The effect of a call in one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    service: Arc<str>,
    /// The number of the trigger filter, counted from 1; none for the resolve filter.
    trigger_filter: Option<usize>,
    /// The value that the incident is mapped with.
    key: Option<String>,
    /// Empty for a resolve.
    title: String,
    pub(super) happened: Happened,
}

/// The fate of an incident; the number is the incident's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Created(u64),
    /// It was open already.
    StillOpen(u64),
    Resolved(u64),
    NoneOpen,
    /// An equal call was made a moment ago.
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
