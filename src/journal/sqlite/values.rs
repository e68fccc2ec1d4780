//! Conversions between the values of columns and of the program.

use crate::event::{Action, EventId, Priority};

/// SQLite's integers are signed; event numbers stay far below the sign.
pub(super) fn sql(id: EventId) -> i64 {
    id.0.cast_signed()
}

pub(super) fn event(id: i64) -> EventId {
    EventId(id.cast_unsigned())
}

/// NULL stands for normal.
pub(super) fn priority(word: Option<&str>) -> Priority {
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

pub(super) fn action(word: &str) -> Option<Action> {
    [Action::Trigger, Action::Resolve].into_iter().find(|action| action.as_str() == word)
}
