//! The settlement of an event: how it ended, as it is on disk.

use std::borrow::Cow;
use std::fmt;

use super::{EventId, Outcome, State};
use crate::clock::WallTime;

/// How an event ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub id: EventId,
    pub state: State,
    /// What the upstream did; none where it was never reached or its answer was no delivery.
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub attempts: u32,
    pub at: WallTime,
}

/// Why an event ended without delivery; that it was stale, where it was delivered with a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The upstream will never take it; with the word for its answer.
    Rejected(Cow<'static, str>),
    /// It was tried for `give_up_after`; with the word for what kept it the last time.
    TooOld(Cow<'static, str>),
    /// It waited for longer than `delivery.stale.trigger`.
    Stale,
    /// Later events of its key undo it.
    Superseded,
    /// A person discarded it.
    Discarded,
    /// A person had it replayed.
    Replayed,
    /// It is not what was written.
    Damaged(Damage),
    /// Any other, as its row says it.
    Other(Cow<'static, str>),
}

/// Why a row or a body is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// What was decided of the event, or of whom it came.
    Row,
    /// Whether it is still to be delivered, or how it ended.
    State,
    /// What is to be sent, or what came.
    Body,
    /// The body is not there.
    NoBody,
    /// The row is not there.
    NoRow,
}

impl Settlement {
    /// Whether the event could not be sent since it is not what was written.
    pub fn is_damaged(&self) -> bool {
        matches!(self.reason, Some(Reason::Damaged(_)))
    }
}

impl Reason {
    /// The word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Reason::Rejected(_) => "rejected",
            Reason::TooOld(_) => "too_old",
            Reason::Stale => "stale",
            Reason::Superseded => "superseded",
            Reason::Discarded => "discarded",
            Reason::Replayed => "replayed",
            Reason::Damaged(_) => "damaged",
            Reason::Other(_) => "other",
        }
    }

    /// Reads a reason as a row has it.
    pub fn read(text: &str) -> Reason {
        let word = |text: &str| Cow::Owned(text.to_owned());
        match text.split_once(": ") {
            Some(("rejected", trouble)) => return Reason::Rejected(word(trouble)),
            Some(("too_old", trouble)) => return Reason::TooOld(word(trouble)),
            _ => {}
        }
        match text {
            "stale" => Reason::Stale,
            "superseded" => Reason::Superseded,
            "discarded" => Reason::Discarded,
            "replayed" => Reason::Replayed,
            text => Damage::ALL
                .into_iter()
                .find(|damage| damage.reason() == text)
                .map_or_else(|| Reason::Other(word(text)), Reason::Damaged),
        }
    }
}

/// As a row has it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rejected(trouble) | Reason::TooOld(trouble) => write!(f, "{}: {trouble}", self.label()),
            Reason::Stale | Reason::Superseded | Reason::Discarded | Reason::Replayed => f.write_str(self.label()),
            Reason::Damaged(damage) => f.write_str(damage.reason()),
            Reason::Other(text) => f.write_str(text),
        }
    }
}

impl Damage {
    const ALL: [Damage; 5] = [Damage::Row, Damage::State, Damage::Body, Damage::NoBody, Damage::NoRow];

    /// The word that logs and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Damage::Row => "row",
            Damage::State => "state",
            Damage::Body => "body",
            Damage::NoBody => "no_body",
            Damage::NoRow => "no_row",
        }
    }

    /// The reason with which an event becomes a dead letter.
    pub fn reason(self) -> &'static str {
        match self {
            Damage::Row => "damaged: its row is not what was written",
            Damage::State => "damaged: whether it was delivered is not what was written",
            Damage::Body => "damaged: its body is not what was written",
            Damage::NoBody => "damaged: its body could not be read",
            Damage::NoRow => "damaged: only its body could be read",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_was_written() {
        let damaged = Damage::ALL.into_iter().map(Reason::Damaged);
        let others = [
            Reason::Rejected("payload".into()),
            Reason::TooOld("connect".into()),
            Reason::Stale,
            Reason::Superseded,
            Reason::Discarded,
            Reason::Other("damaged: as a later version says it".into()),
            Reason::Replayed,
            Reason::Other("its end was not written".into()),
        ];
        for reason in damaged.chain(others) {
            assert_eq!(Reason::read(&reason.to_string()), reason);
        }
    }
}
