//! The settlement of an event: its final state, as stored on disk.

use std::borrow::Cow;
use std::fmt;

use super::{EventId, Outcome, State};
use crate::clock::WallTime;

/// The final state of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub id: EventId,
    pub state: State,
    /// The effect at the upstream; none if there was no answer, or one that was no delivery.
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub attempts: u32,
    pub at: WallTime,
}

/// The reason why an event ended without delivery; or that it was delivered late, with a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The upstream rejected it for good; with the word for its answer.
    Rejected(Cow<'static, str>),
    /// It was tried for `give_up_after`; with the word for the last failure.
    TooOld(Cow<'static, str>),
    /// It waited for longer than `delivery.stale.trigger`.
    Stale,
    /// Later events of its key made it pointless.
    Superseded,
    /// A person discarded it.
    Discarded,
    /// A person had it replayed.
    Replayed,
    /// Its row or body is damaged.
    Damaged(Damage),
    /// Any other reason, as written in its row.
    Other(Cow<'static, str>),
}

/// The damaged part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The event's fixed data, such as its source, key or rule.
    Row,
    /// Its state: queued, or how it ended.
    State,
    /// The body for the upstream, or the raw payload.
    Body,
    /// The body is missing.
    NoBody,
    /// The row is missing.
    NoRow,
}

impl Settlement {
    /// Returns true if the event was not sent because it is damaged.
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

    /// Parses a stored reason.
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

/// Writes the stored form.
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
    pub const ALL: [Damage; 5] = [Damage::Row, Damage::State, Damage::Body, Damage::NoBody, Damage::NoRow];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Damage::Row => "row",
            Damage::State => "state",
            Damage::Body => "body",
            Damage::NoBody => "no_body",
            Damage::NoRow => "no_row",
        }
    }

    /// The reason of the dead letter that a damaged event becomes.
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
