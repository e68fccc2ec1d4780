//! Reads every row, to restore deduplication and the queue from.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::restored_row::{Read, RestoredRow, shared};
use super::sum::{FIXED, FIXED_READ, Fixed, STANDING, Standing};
use super::values::{action, event, priority};
use super::{Error, RestoredEvent, key_state, schema};
use crate::clock::WallTime;
use crate::event::{Damage, KeyId, Occurrence, Priority, State, UpdateHash};
use crate::journal::dedup::{AcceptReason, Occurrences};
use crate::journal::request::StoredRetry;

/// Reads every row, oldest first, with the states of keys whose last event is pruned in the place of that event.
pub(super) fn restore(connection: &Connection, mut each: impl FnMut(RestoredRow)) -> Result<(), Error> {
    let columns = schema::of_event(connection, &format!("{FIXED}, {STANDING}"))?;
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM event ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut sources = HashSet::new();
    let mut of_keys = key_state::statement(connection)?;
    let mut keys = key_state::KeyStateRows::new(of_keys.as_mut(), &mut sources)?;
    while let Some(row) = rows.next()? {
        let id = event(row.get(0)?);
        while let Some(before) = keys.before(Some(id), &mut sources)? {
            each(before);
        }
        let source = shared(row.get_ref(1)?.as_str().unwrap_or_default(), &mut sources);
        let standing = Standing::read(row, FIXED_READ, id);
        let read = standing.as_ref().map_err(|damage| *damage).and_then(|standing| restored(row, standing, &source));
        each(RestoredRow { id, source, read, standing: standing.ok(), is_event: true });
    }
    while let Some(last) = keys.before(None, &mut sources)? {
        each(last);
    }
    Ok(())
}

fn restored(row: &Row<'_>, standing: &Standing, source: &Arc<str>) -> Result<Read, Damage> {
    let fixed = Fixed::read(row, 0)?;
    let Some(word) = fixed.action else {
        return Ok(Read::Refused);
    };
    let occurrence = |text: Option<&str>| text.map(|text| Occurrence(Arc::from(text)));
    let is_queued = standing.state == State::Queued;
    Ok(Read::Event(RestoredEvent {
        id: fixed.id,
        key: KeyId::new(fixed.source, fixed.incident_key.ok_or(Damage::Row)?),
        source: Arc::clone(source),
        action: action(word).ok_or(Damage::Row)?,
        priority: if is_queued { priority(fixed.priority) } else { Priority::default() },
        acknowledged_at: WallTime(fixed.received_at),
        state: standing.state,
        outcome: standing.outcome,
        update: UpdateHash(fixed.update_hash.unwrap_or(0).cast_unsigned()),
        occurrences: Occurrences { last: occurrence(fixed.occurrence), past: occurrence(fixed.past_occurrence) },
        reopening: is_queued && fixed.novelty == Some(AcceptReason::Reopening.as_str()),
        tried: match (standing.state, standing.retry_at) {
            (State::Queued, Some(retry_at)) => Some(StoredRetry {
                attempts: standing.attempts,
                age: duration(standing.tried_ms.unwrap_or(0)),
                retry_at: WallTime(retry_at),
                asked: standing.asked_ms.map(duration),
            }),
            _ => None,
        },
    }))
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
