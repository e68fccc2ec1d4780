//! The state of deduplication for pruned history: one narrow row for each key whose last event is gone.
//!
//! A start reads them among the events, each in the place of its event, and so restores the state from before. A row is
//! removed when another event sets its key's state, or the key is evicted.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::restored_row::{Read, RestoredRow, shared};
use super::sum::{KeyState, Standing};
use super::values::{self, event, sql};
use super::{Error, RestoredEvent};
use crate::clock::WallTime;
use crate::event::{Damage, EventId, KeyId, Occurrence, Priority, Reason, Settlement, State, UpdateHash};
use crate::journal::dedup::Occurrences;

/// Counts of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStates {
    kept: u64,
    /// An estimate of their size on the volume.
    pub bytes: u64,
    /// The newest event among the rows.
    pub until: EventId,
    /// The position of the sweep for unused rows; none when it is done.
    pub(super) sweep_after: Option<EventId>,
}

impl KeyStates {
    /// The counts before the journal was read.
    pub(super) const UNREAD: KeyStates =
        KeyStates { kept: 0, bytes: 0, until: EventId(0), sweep_after: Some(EventId(0)) };

    pub(super) fn found(&mut self, row: &RestoredRow) {
        self.add(row.id, row.standing.as_ref().map_or(0, |standing| standing.bytes));
        if row.read.is_err() {
            tracing::error!(
                event = row.id.0,
                "the stored state of an incident key is damaged: it and all older ones are forgotten; \
                 the next events of these keys are delivered, even if they are duplicates"
            );
        }
    }

    pub(super) fn add(&mut self, id: EventId, bytes: u64) {
        self.kept += 1;
        self.bytes += bytes;
        self.until = self.until.max(id);
    }

    /// Removed rows count with the average size.
    pub(super) fn remove(&mut self, rows: u64) {
        self.bytes = self.bytes.saturating_sub(self.bytes / self.kept.max(1) * rows);
        self.kept = self.kept.saturating_sub(rows);
    }
}

/// An iterator over the rows in the order of their events; `each` gets what the event's row would have told.
pub(super) struct KeyStateRows<'c> {
    rows: Option<rusqlite::Rows<'c>>,
    next: Option<RestoredRow>,
}

/// The statement for [`KeyStateRows`]; none if the journal has no such rows.
pub(super) fn statement(connection: &Connection) -> Result<Option<rusqlite::Statement<'_>>, rusqlite::Error> {
    // A journal last opened by an earlier version has no such table.
    if !connection.table_exists(None, "key_state")? {
        return Ok(None);
    }
    connection.prepare(&format!("SELECT {COLUMNS} FROM key_state ORDER BY id")).map(Some)
}

impl<'c> KeyStateRows<'c> {
    pub(super) fn new(
        statement: Option<&'c mut rusqlite::Statement<'_>>,
        sources: &mut HashSet<Arc<str>>,
    ) -> Result<KeyStateRows<'c>, Error> {
        let rows = statement.map(|statement| statement.query([])).transpose()?;
        let mut reading = KeyStateRows { rows, next: None };
        reading.go_on(sources)?;
        Ok(reading)
    }

    /// The next row, if its event is before this one; with none, any next row.
    pub(super) fn before(
        &mut self,
        id: Option<EventId>,
        sources: &mut HashSet<Arc<str>>,
    ) -> Result<Option<RestoredRow>, Error> {
        match &self.next {
            Some(next) if id.is_none_or(|id| next.id < id) => {}
            _ => return Ok(None),
        }
        let found = self.next.take();
        self.go_on(sources)?;
        Ok(found)
    }

    fn go_on(&mut self, sources: &mut HashSet<Arc<str>>) -> Result<(), Error> {
        if let Some(rows) = &mut self.rows
            && let Some(row) = rows.next()?
        {
            let source = shared(row.get_ref(1)?.as_str().unwrap_or_default(), sources);
            let id = event(row.get(0)?);
            let read = restored(row, &source).map(Read::Event);
            let bytes = KeyState::read(row).map_or(0, |state| state.bytes());
            let standing = Some(Standing::new(State::Delivered, bytes));
            self.next = Some(RestoredRow { id, source, read, standing, is_event: false });
        }
        Ok(())
    }
}

fn restored(row: &Row<'_>, source: &Arc<str>) -> Result<RestoredEvent, Damage> {
    let state = KeyState::read(row)?;
    let occurrence = |text: Option<&str>| text.map(|text| Occurrence(Arc::from(text)));
    Ok(RestoredEvent {
        id: state.id,
        source: Arc::clone(source),
        key: KeyId::new(state.source, state.incident_key),
        action: values::action(state.action).ok_or(Damage::Row)?,
        priority: Priority::default(),
        acknowledged_at: WallTime(state.received_at),
        state: State::Delivered,
        outcome: state.outcome.map(str::parse).transpose().map_err(|_| Damage::Row)?,
        update: UpdateHash(state.update_hash.cast_unsigned()),
        occurrences: Occurrences { last: occurrence(state.occurrence), past: occurrence(state.past_occurrence) },
        reopening: false,
        tried: None,
    })
}

/// The settlement of a pruned event whose key's state is kept.
pub(super) fn settlement(connection: &Connection, id: EventId) -> Result<Option<Settlement>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM key_state WHERE id = ?1"))?;
    let mut rows = statement.query([sql(id)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(KeyState::read(row).ok().map(|state| Settlement {
        id,
        state: State::Delivered,
        outcome: state.outcome.and_then(|word| word.parse().ok()),
        reason: state.reason.map(Reason::read),
        attempts: state.attempts,
        at: WallTime(state.settled_at.unwrap_or(0)),
    }))
}

/// The columns of a summary, in its order.
pub(super) const SUMMARY: &str =
    "id, source, action, incident_key, 'delivered', outcome, reason, rule, received_at, attempts, NULL";
/// The columns in the order of [`KeyState::read`].
pub(super) const COLUMNS: &str = "id, source, incident_key, action, rule, received_at, update_hash, occurrence, \
                                  past_occurrence, outcome, reason, attempts, settled_at, sum";
