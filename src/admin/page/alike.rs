//! The filter for all events that need the same from a person as one of them does.

use serde_json::{Value, json};

use crate::journal::Summary;

/// Chooses the events of the same source that stand as this one does, for the same reason.
pub(super) fn alike(event: &Summary) -> Value {
    let mut selection = json!({ "state": event.state, "source": event.source });
    if let Some(outcome) = &event.outcome {
        selection["outcome"] = outcome.as_str().into();
    }
    // Of an event without a reason: those without one, and not those that have another.
    selection["reason"] = event.reason.as_deref().unwrap_or_default().into();
    selection
}

/// The same, from this event on.
pub(super) fn alike_from(event: &Summary) -> Value {
    let mut selection = alike(event);
    selection["from"] = event.id.as_str().into();
    selection
}
