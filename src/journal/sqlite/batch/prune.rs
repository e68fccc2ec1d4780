//! Removing finished events and old refused payloads, and handing a raw body on to the next row that refers to it.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::Batch;
use crate::clock::WallTime;
use crate::event::{EventId, State};
use crate::journal::sqlite::Error;
use crate::journal::sqlite::values::{event, sql};

/// The result of a round of pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Events that were removed, or lost their content.
    pub events: usize,
    /// True if there may be more to remove now.
    pub more: bool,
}

impl Batch<'_> {
    /// Removes at most a given number of finished events that are older than `before`, or the oldest ones if `before`
    /// is none. If `keep` returns true, because an event set its key's state, that state is kept. The newest row always
    /// stays.
    ///
    /// It stops at the first finished event that is young: if the clock was turned back, a later event of its key may
    /// look older, and without that one a restart would restore the state of the earlier event.
    pub fn prune(
        &mut self,
        before: Option<WallTime>,
        most: usize,
        mut keep: impl FnMut(EventId, &str, &str) -> bool,
    ) -> Result<Pruned, Error> {
        if self.sweep_key_states(&mut keep)? {
            return Ok(Pruned { events: 0, more: true });
        }
        // Each round takes some, and there is a round a minute at least. What is fresh a person may need, to write the paths.
        if let Some(before) = before {
            self.drop_unrelated_confirmations(before.0)?;
        }
        let before = before.map_or(i64::MAX, |at| at.0);
        let (mut last, mut ended, mut found) = (self.journal.prune_after, false, Vec::new());
        {
            let mut statement = self.prepare(
                "SELECT id, received_at, source, incident_key, state IN ('delivered', 'ended'), coalesce(settled_at, 0), \
                 state = 'delivered' AND coalesce(outcome, '') NOT IN ('unmatched', 'not_resolved') \
                 FROM event WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![sql(last), sql(self.newest()), LOOKED_AT_AT_ONCE])?;
            while found.len() < most {
                let Some(row) = rows.next()? else {
                    break;
                };
                // A later event can't have ended earlier.
                let finished = row.get(4)?;
                if row.get::<_, i64>(1)? >= before || finished && row.get::<_, i64>(5)? >= before {
                    ended = true;
                    break;
                }
                last = event(row.get(0)?);
                if finished {
                    let key: Option<String> = row.get(3)?;
                    found.push((last, row.get::<_, String>(2)?, key.unwrap_or_default(), row.get::<_, bool>(6)?));
                }
            }
        }
        ended |= last == self.journal.prune_after;
        let (mut events, mut later) = (0, HashMap::new());
        for (id, source, key, had_effect) in &found {
            let lost_content = self.drop_content(*id)?;
            let follows_dead = self.follows_a_dead_letter(*id, source, key)?;
            if follows_dead && *had_effect {
                later.insert((source, key), *id);
            }
            // After a dead letter, an event that left its key unknown is looked up by itself.
            let goes = (!follows_dead || *had_effect) && (!keep(*id, source, key) || self.keep_key_state(*id)?);
            if goes {
                self.prepare("DELETE FROM event WHERE id = ?1")?.execute([sql(*id)])?;
            }
            // A row that has to stay is met again in each round, and does not count.
            events += usize::from(goes || lost_content);
        }
        // Only the newest one, since each is written to every dead letter of its key.
        for ((source, key), id) in later {
            self.note_later(id, source, key)?;
        }
        // The next round starts from the beginning: rows that had to stay may be removable by then.
        self.journal.prune_after = if ended { EventId(0) } else { last };
        Ok(Pruned { events, more: !ended })
    }

    /// Removes everything of a finished event but its row. Returns true if there was anything.
    fn drop_content(&mut self, id: EventId) -> Result<bool, Error> {
        if self.prepare("SELECT 1 FROM content WHERE id = ?1")?.exists([sql(id)])? {
            self.move_raw(id)?;
        }
        let mut dropped = 0;
        for statement in [
            "DELETE FROM content WHERE id = ?1",
            "DELETE FROM attempt WHERE event = ?1",
            "DELETE FROM difference WHERE event = ?1",
        ] {
            dropped += self.prepare(statement)?.execute([sql(id)])?;
        }
        dropped += self.drop_confirmations_of(id)?;
        Ok(dropped > 0)
    }

    /// Removes the oldest refused payloads beyond `keep_refused`. Called once a request is written whole, since its
    /// rows refer to each other.
    pub fn trim_refused(&mut self) -> Result<(), Error> {
        while self.totals.all.refused > self.journal.config.keep_refused
            || self.totals.all.refused_bytes > self.journal.limits.max_bytes / REFUSED_SHARE
        {
            if !self.drop_oldest_refused()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes at most `most` of the oldest refused payloads. Returns their number.
    pub fn drop_refused(&mut self, most: usize) -> Result<usize, Error> {
        for dropped in 0..most {
            if !self.drop_oldest_refused()? {
                return Ok(dropped);
            }
        }
        Ok(most)
    }

    pub(super) fn drop_oldest_refused(&mut self) -> Result<bool, Error> {
        let oldest: Option<(i64, u64)> = self
            .prepare("SELECT id, bytes FROM event WHERE state = 'refused' AND state <> 'delivered' AND id < ?1 ORDER BY id LIMIT 1")?
            .query_row([sql(self.newest())], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, mut bytes)) = oldest else {
            return Ok(false);
        };
        bytes = bytes.saturating_sub(self.move_raw(event(id))?);
        self.prepare("DELETE FROM content WHERE id = ?1")?.execute([id])?;
        self.prepare("DELETE FROM event WHERE id = ?1")?.execute([id])?;
        self.totals.remove_refused(bytes);
        Ok(true)
    }

    /// Before a row with its request's raw body is removed, moves that body to the newest row of the request that is
    /// still queued, dead or refused. Returns the number of bytes moved.
    ///
    /// Not to the next oldest: that one is removed soon after, and each move updates all rows that refer to it.
    fn move_raw(&mut self, id: EventId) -> Result<u64, Error> {
        let Some(holder) = self.holder(id)? else {
            return Ok(0);
        };
        self.prepare(
            "UPDATE content SET (raw, raw_sum) = (SELECT raw, raw_sum FROM content WHERE id = ?1) WHERE id = ?2",
        )?
        .execute(params![sql(id), sql(holder.id)])?;
        self.prepare("UPDATE event SET raw_in = ?2 WHERE id >= ?3 AND id <= ?4 AND raw_in = ?1")?.execute(params![
            sql(id),
            sql(holder.id),
            sql(holder.first),
            sql(holder.last)
        ])?;
        self.change_bytes(holder.id, |held| held.saturating_add(holder.bytes))?;
        self.change_bytes(id, |held| held.saturating_sub(holder.bytes))?;
        let source = self.journal.source_of(holder.id)?;
        // The bytes of a finished row are not counted, so they are new to the totals only then.
        if holder.of_finished {
            self.totals.grow(&source, holder.state, holder.bytes);
        } else if holder.state != State::Refused {
            self.totals.take_over_refused(&source, holder.bytes);
        }
        Ok(holder.bytes)
    }

    fn holder(&self, id: EventId) -> Result<Option<RawHolder>, Error> {
        let own: Option<(bool, i64, String)> = self
            .prepare("SELECT state IN ('delivered', 'ended'), raw_in, request FROM event WHERE id = ?1")?
            .query_row([sql(id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((of_finished, _, request)) = own.filter(|(_, raw_in, _)| *raw_in == sql(id)) else {
            return Ok(None);
        };
        let (mut first, mut last, mut newest) = (id, id, None);
        // The rows of a request are neighbours, so the search ends at the first row of another request.
        for beside in [
            "SELECT id, state, raw_in, request FROM event WHERE id > ?1 ORDER BY id",
            "SELECT id, state, raw_in, request FROM event WHERE id < ?1 ORDER BY id DESC",
        ] {
            let mut statement = self.prepare(beside)?;
            let mut rows = statement.query([sql(id)])?;
            while let Some(row) = rows.next()? {
                if row.get_ref(3)?.as_str() != Ok(request.as_str()) {
                    break;
                }
                if row.get::<_, i64>(2)? != sql(id) {
                    continue;
                }
                let other = event(row.get(0)?);
                (first, last) = (first.min(other), last.max(other));
                let state = match row.get_ref(1)?.as_str() {
                    Ok("queued") => State::Queued,
                    Ok("dead") => State::Dead,
                    Ok("refused") => State::Refused,
                    _ => continue,
                };
                if newest.is_none_or(|(newest, _)| other > newest) {
                    newest = Some((other, state));
                }
            }
        }
        let Some((holder, state)) = newest else {
            return Ok(None);
        };
        let bytes = self
            .prepare("SELECT coalesce(length(raw), 0) FROM content WHERE id = ?1")?
            .query_row([sql(id)], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        Ok(Some(RawHolder { id: holder, state, first, last, bytes, of_finished }))
    }
}

/// The row that gets a request's raw body next.
struct RawHolder {
    id: EventId,
    state: State,
    /// The first and the last row that refer to the previous holder.
    first: EventId,
    last: EventId,
    bytes: u64,
    /// True if the previous holder was finished, and so not counted.
    of_finished: bool,
}

/// The part of `max_bytes` for refused payloads: a sender of nonsense must not crowd out alerts.
const REFUSED_SHARE: u64 = 16;
/// Rows that one round of pruning looks at.
const LOOKED_AT_AT_ONCE: i64 = 1_000;
