//! Keeps the state of a key when its last event is pruned, and drops it when it is replaced.

use rusqlite::params;

use super::Batch;
use crate::event::EventId;
use crate::journal::sqlite::Error;
use crate::journal::sqlite::key_state::KeyStates;
use crate::journal::sqlite::sum::{FIXED, FIXED_READ, Fixed, KeyState, STANDING, Standing};
use crate::journal::sqlite::values::{event, sql};

impl Batch<'_> {
    /// Stores a key's state in place of a delivered event. Returns false for a damaged row, whose state is not kept.
    pub(in crate::journal::sqlite) fn keep_key_state(&mut self, id: EventId) -> Result<bool, Error> {
        let columns = format!("{}, {}", FIXED, STANDING);
        let mut statement = self.prepare(&format!("SELECT {columns} FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(false);
        };
        let (Ok(fixed), Ok(standing)) = (Fixed::read(row, 0), Standing::read(row, FIXED_READ, id)) else {
            return Ok(false);
        };
        let Some(state) = KeyState::of(&fixed, &standing) else {
            return Ok(false);
        };
        self.insert_key_state(&state)?;
        let bytes = state.bytes();
        drop(rows);
        drop(statement);
        self.key_states.add(id, bytes);
        Ok(true)
    }

    fn insert_key_state(&self, state: &KeyState<'_>) -> Result<(), Error> {
        self.prepare(
            "INSERT OR REPLACE INTO key_state (id, source, incident_key, action, rule, received_at, update_hash, \
             occurrence, past_occurrence, outcome, reason, attempts, settled_at, sum) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            sql(state.id),
            state.source,
            state.incident_key,
            state.action,
            state.rule,
            state.received_at,
            state.update_hash,
            state.occurrence,
            state.past_occurrence,
            state.outcome,
            state.reason,
            state.attempts,
            state.settled_at,
            state.sum()
        ])?;
        Ok(())
    }

    /// Drops the state that this event set, since it was replaced.
    pub fn drop_key_state(&mut self, id: EventId) -> Result<(), Error> {
        // Most events never had such a row.
        if id <= self.key_states.until {
            let dropped = self.prepare("DELETE FROM key_state WHERE id = ?1")?.execute([sql(id)])?;
            self.key_states.remove(dropped as u64);
        }
        Ok(())
    }

    /// Drops rows that no key needs, once after a start and before anything is pruned. There are some after
    /// `dedup.max_keys` was reduced, or after damage. Returns true if there may be more.
    pub(in crate::journal::sqlite) fn sweep_key_states(
        &mut self,
        keep: &mut impl FnMut(EventId, &str, &str) -> bool,
    ) -> Result<bool, Error> {
        let Some(after) = self.key_states.sweep_after else {
            return Ok(false);
        };
        let (mut seen, mut last, mut drop) = (0, after, Vec::new());
        {
            let mut statement =
                self.prepare("SELECT id, source, incident_key FROM key_state WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let mut rows = statement.query(params![sql(after), SWEPT_AT_ONCE])?;
            while let Some(row) = rows.next()? {
                (seen, last) = (seen + 1, event(row.get(0)?));
                let rests = match (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str()) {
                    (Ok(source), Ok(key)) => keep(last, source, key),
                    _ => false,
                };
                if !rests {
                    drop.push(last);
                }
            }
        }
        for id in drop {
            self.drop_key_state(id)?;
        }
        let more = seen == SWEPT_AT_ONCE;
        self.key_states.sweep_after = more.then_some(last);
        Ok(more)
    }

    /// The counts of stored key states.
    pub fn key_states(&self) -> KeyStates {
        self.key_states
    }
}

/// Rows checked in one batch: some milliseconds.
const SWEPT_AT_ONCE: usize = 1_000;
