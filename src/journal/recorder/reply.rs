//! The replies to requests, after their commit.

use super::{Recorded, Tally};
use crate::event::EventId;
use crate::journal::dedup::Preview;
use crate::journal::request::{Commanded, Confirmed, Declined, HoldChange, Unavailable};

/// The reply to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Recorded(Vec<Recorded>),
    Confirmed(Confirmed),
    Commanded(Vec<Commanded>),
    HoldChange(HoldChange),
    Open(Vec<EventId>),
    Previews(Vec<Preview>),
    Tally(Tally),
    Declined(Declined),
    Unavailable(Unavailable),
}

/// The reason why a refused payload was not replaced. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReplaced {
    Declined(Declined),
    Unavailable(Unavailable),
}

impl Reply {
    pub(super) fn recorded(self) -> Result<Vec<Recorded>, Unavailable> {
        match self {
            Reply::Recorded(recorded) => Ok(recorded),
            other => Err(other.unavailable()),
        }
    }

    pub(super) fn confirmed(self) -> Result<Confirmed, Unavailable> {
        match self {
            Reply::Confirmed(confirmed) => Ok(confirmed),
            other => Err(other.unavailable()),
        }
    }

    pub(super) fn commanded(self) -> Result<Vec<Commanded>, Unavailable> {
        match self {
            Reply::Commanded(commanded) => Ok(commanded),
            other => Err(other.unavailable()),
        }
    }

    pub(super) fn hold_change(self) -> Result<HoldChange, Unavailable> {
        match self {
            Reply::HoldChange(change) => Ok(change),
            other => Err(other.unavailable()),
        }
    }

    pub(super) fn replaced(self) -> Result<Vec<Recorded>, NotReplaced> {
        match self {
            Reply::Recorded(recorded) => Ok(recorded),
            Reply::Declined(why) => Err(NotReplaced::Declined(why)),
            other => Err(NotReplaced::Unavailable(other.unavailable())),
        }
    }

    pub(super) fn open(self) -> Option<Vec<EventId>> {
        if let Reply::Open(ids) = self { Some(ids) } else { None }
    }

    pub(super) fn previews(self) -> Option<Vec<Preview>> {
        if let Reply::Previews(previews) = self { Some(previews) } else { None }
    }

    pub(super) fn tally(self) -> Option<Tally> {
        if let Reply::Tally(tally) = self { Some(tally) } else { None }
    }

    /// The reason of a refusal. A reply to another request can't come; who got one must not believe anything of it.
    fn unavailable(self) -> Unavailable {
        if let Reply::Unavailable(why) = self { why } else { Unavailable::JournalFault }
    }
}
