//! Commands on kept events: replay, discard, hold, and the reasons to decline them.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::event::{Action, EventId, Outcome, State};

/// Who gave a command, and with which request. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOrigin {
    /// The relay's own id of the request, the first one of a sweep.
    pub request_id: Arc<str>,
    /// The way by which the person was let in, and the address of the connection.
    pub by: Arc<str>,
    /// The filter that chose the events, as JSON; none where each was named.
    pub selection: Option<Arc<str>>,
}

/// A command for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Append it anew at the end of its key. `force`: also if a later event of the key was taken.
    Replay { force: bool },
    /// End a dead letter or a refused payload for good. The dispatcher ends queued events.
    Discard,
}

impl Command {
    /// The word in the API, the log and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Replay { .. } => "replay",
            Command::Discard => "discard",
        }
    }
}

/// The result of a command. Unless declined, it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commanded {
    Replayed {
        /// The number of the new event.
        id: EventId,
        source: Arc<str>,
        action: Action,
        incident_key: String,
    },
    Discarded {
        source: Arc<str>,
    },
    Declined(Declined),
}

/// The result of a command to add or release a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldChange {
    Changed,
    /// Nothing to do: the hold existed already, or there was none.
    AsItWas,
    /// [`HOLDS_MAX`] are in force.
    TooMany,
}

/// The reason why a command was not carried out. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// No event with this number is kept.
    NotKept,
    /// The event is kept, but its body was pruned with history.
    Pruned,
    /// Its checksum does not match, so it is never sent.
    Damaged,
    /// The event is queued, or being delivered now; with the time of its next call, where that is to come.
    Waiting { next: Option<WallTime> },
    /// The event was delivered: there is nothing to discard.
    Delivered,
    /// The event ended before, or was replayed.
    Ended,
    /// A person discarded it.
    Discarded,
    /// A refused payload: only the rules can make an event of it.
    Undecided,
    /// It was replayed before; with the newest of its replays.
    Replayed(Replay),
    /// A later event of its key was taken: this one.
    LaterEvent(EventId),
    /// Keys were evicted, and too many events came since to tell whether one was of this key.
    LaterUnknown,
    /// `journal.max_events` or `max_bytes` leaves no room.
    Backlog,
    /// The volume of `data_dir` does not.
    DiskFull,
}

/// The newest replay of an event, or of its replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    pub id: EventId,
    pub state: State,
    pub outcome: Option<Outcome>,
}

impl Declined {
    /// The word in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Declined::NotKept => "not_kept",
            Declined::Pruned => "pruned",
            Declined::Damaged => "damaged",
            Declined::Waiting { .. } => "waiting",
            Declined::Delivered => "delivered",
            Declined::Ended => "ended",
            Declined::Discarded => "discarded",
            Declined::Undecided => "undecided",
            Declined::Replayed(_) => "replayed",
            Declined::LaterEvent(_) => "later_event",
            Declined::LaterUnknown => "later_unknown",
            Declined::Backlog => "backlog",
            Declined::DiskFull => "disk_full",
        }
    }

    /// An explanation for the person who gave the command, with what to do.
    pub fn explain(self) -> String {
        match self {
            Declined::NotKept => "no such event is kept; history is kept for `journal.keep_delivered`".to_owned(),
            Declined::Pruned => "the event's body is not kept any more; the sender must send it again".to_owned(),
            Declined::Damaged => {
                "its checksum does not match, so it can only be discarded; the sender must send it again".to_owned()
            }
            Declined::Waiting { next: None } => {
                "the event waits to be delivered, or is being delivered now: it goes out by itself, and can be replayed \
                 when it has ended"
                    .to_owned()
            }
            Declined::Waiting { next: Some(next) } => format!(
                "the event still waits, and is sent again by itself: its next attempt is due at {}; it can be replayed \
                 when it has ended",
                next.to_second()
            ),
            Declined::Delivered => "the event was delivered; there is nothing to discard".to_owned(),
            Declined::Ended => "it ended before; `events show` gives the reason; `force` replays it anyway".to_owned(),
            Declined::Discarded => "a person discarded it; `force` replays it anyway".to_owned(),
            Declined::Undecided => "it was refused, so it is replayed through the rules".to_owned(),
            Declined::Replayed(replay) => explain_replay(replay),
            Declined::LaterEvent(later) => format!(
                "event {later} of the same incident key was taken later: after it an old trigger could open an incident \
                 that nobody closes, an old resolve close a new one; `force` replays it anyway"
            ),
            Declined::LaterUnknown => "more keys are in use than `dedup.max_keys`, and too many events came since to \
                                       tell whether one was of the same incident key; `force` replays it anyway"
                .to_owned(),
            Declined::Backlog => {
                "`journal.max_events` or `journal.max_bytes` leaves no room for it; discard what is not \
                                  needed, or raise the limit"
                    .to_owned()
            }
            Declined::DiskFull => "the volume of `data_dir` has no room for it; see /readyz".to_owned(),
        }
    }
}

/// The outcome of an earlier replay; where that did not help, the replay itself can be replayed.
fn explain_replay(Replay { id, state, outcome }: Replay) -> String {
    let stands = match outcome {
        Some(outcome) => format!("{state}, {outcome}"),
        None => state.to_string(),
    };
    let what_to_do = match (state, outcome) {
        (State::Queued, _) => ", and goes out by itself",
        (State::Delivered, Some(Outcome::Unmatched | Outcome::NotResolved)) | (State::Dead, _) => {
            "; replay that one instead"
        }
        _ => "",
    };
    format!("already replayed as {id}: {stands}{what_to_do}")
}

/// More holds than a person can keep track of.
pub(crate) const HOLDS_MAX: usize = 1_000;
