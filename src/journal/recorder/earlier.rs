//! The events that an earlier copy of the same message became.

use crate::event::{Action, EventId, KeyId, Reason, Settlement};
use crate::journal::dedup::Effect;

/// An event of a message that its sender sends again under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub key: KeyId,
    pub action: Action,
    pub event: EventId,
}

/// Returns true if an event that ended so leaves nothing for its message to do: the upstream holds it, or later events
/// of its key made it pointless. One that still waits, without a settlement, does so too.
pub(super) fn stands(settlement: Option<&Settlement>) -> bool {
    settlement.is_none_or(|Settlement { state, outcome, reason, .. }| {
        Effect::of(*state, *outcome) == Some(Effect::Confirmed) || *reason == Some(Reason::Superseded)
    })
}
