//! The lines of the tap about what the recorder wrote: taken, repeated, refused, and commanded by a person.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::event::{EventId, State};
use crate::journal::recorder::Recorded;
use crate::journal::request::{Commanded, Entry};
use crate::tap::{DUPLICATE, TapLine};

pub(super) fn of_recorded(recorded: &Recorded, source: &Arc<str>, at: WallTime) -> TapLine {
    let Recorded { entry, receipt } = recorded;
    let (id, source) = (Some(receipt.id()), Some(Arc::clone(source)));
    let (state, id, of) = match entry {
        Entry::Event { .. } if receipt.is_duplicate() => (DUPLICATE, None, id),
        Entry::Event { .. } => (State::Queued.as_str(), id, None),
        Entry::Refused { .. } => (State::Refused.as_str(), id, None),
    };
    let line = TapLine { id, of, source, ..TapLine::new(state, at) };
    match entry {
        Entry::Refused { reason, .. } => TapLine { reason: Some((*reason).to_owned()), ..line },
        Entry::Event { draft, .. } => TapLine {
            action: Some(draft.action.as_str()),
            incident_key: Some(draft.incident_key.as_str().into()),
            rule: Some(Arc::clone(&draft.rule)),
            ..line
        },
    }
}

/// The line about a command for the event `of`; none where it was declined.
pub(super) fn of_commanded(of: EventId, commanded: &Commanded, at: WallTime) -> Option<TapLine> {
    match commanded {
        Commanded::Replayed { id, source, action, incident_key } => Some(TapLine {
            id: Some(*id),
            source: Some(Arc::clone(source)),
            action: Some(action.as_str()),
            incident_key: Some(incident_key.as_str().into()),
            ..TapLine::new(State::Queued.as_str(), at)
        }),
        Commanded::Discarded { source } => Some(TapLine {
            id: Some(of),
            source: Some(Arc::clone(source)),
            reason: Some("discarded".to_owned()),
            ..TapLine::new(State::Ended.as_str(), at)
        }),
        Commanded::Declined(_) => None,
    }
}
