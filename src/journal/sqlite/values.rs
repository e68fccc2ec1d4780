//! Conversions between the values of columns and of the program.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::event::{Action, EventId, Priority};
use crate::trace_context::TraceContext;

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

/// The trace in a column; none if it is damaged, which stops nothing.
pub(super) fn trace(row: &Row<'_>, column: usize) -> Result<Option<TraceContext>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(stored) => TraceContext::of_stored(stored),
        _ => None,
    })
}

/// The text in a column of a possibly damaged row.
pub(super) fn shown(row: &Row<'_>, column: usize) -> Result<Option<String>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// The bytes in a column.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    Ok(row.get_ref(column)?.as_bytes_or_null().unwrap_or_default().map(<[u8]>::to_vec))
}
