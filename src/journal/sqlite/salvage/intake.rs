//! Imports rows into a new journal: of several versions of a row the sound one whose event got furthest.
//!
//! A row whose checksum does not match is imported if there is nothing better: the start then makes it a visible dead
//! letter.

use std::collections::HashSet;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::fitting::Extent;
use crate::clock::WallTime;
use crate::event::{Damage, EventId, State};
use crate::journal::sqlite::ID_MAX;
use crate::journal::sqlite::key_state;
use crate::journal::sqlite::pages::Leaf;
use crate::journal::sqlite::sum::{self, FIXED, FIXED_READ, Fixed, KeyState, STANDING, Standing};
use crate::journal::sqlite::values;
use crate::journal::sqlite::values::sql;

/// A journal that imports rows within a transaction.
pub(super) struct Intake<'c> {
    journal: &'c Connection,
    extent: Extent,
    /// The rows with a payload that an unfinished event needs; known once all events are imported.
    raws: Option<HashSet<i64>>,
    now: WallTime,
    /// The columns of an event in the order of a row.
    columns: Vec<String>,
    /// The indexes of [`FIXED`] and [`STANDING`] in a row.
    fixed: Vec<usize>,
    standing: Vec<usize>,
    pub(super) taken: Taken,
}

/// Counts of imported rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// New events.
    pub(super) events: u64,
    /// Events that replaced an earlier version.
    pub(super) versions: u64,
    /// Bodies without an event.
    pub(super) without_row: u64,
    /// Rows that looked like events and could not be decoded.
    pub(super) unreadable: u64,
}

/// The rank of a version of an event: the greater one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    fixed: bool,
    standing: bool,
    stage: u8,
    attempts: u32,
    tried_ms: i64,
}

/// The rank of a version of a body: the greater one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Altered,
    Unsummed,
    Proven,
}

impl Intake<'_> {
    pub(super) fn of(journal: &Connection, extent: Extent, now: WallTime) -> Result<Intake<'_>, rusqlite::Error> {
        let columns = journal
            .prepare("SELECT name FROM pragma_table_info('event') ORDER BY cid")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        let places = |asked: &str| {
            let place = |name: &str| columns.iter().position(|column| name.ends_with(&format!(".{column}")));
            asked.split(", ").map(|name| place(name).unwrap_or(usize::MAX)).collect()
        };
        let (fixed, standing) = (places(FIXED), places(STANDING));
        Ok(Intake { journal, extent, raws: None, now, columns, fixed, standing, taken: Taken::default() })
    }

    /// Imports an event; `row` holds its columns except the first one. `proven`: only if the checksum matches. Returns
    /// true if the row is an event.
    pub(super) fn event(&mut self, id: i64, row: &[ValueRef<'_>], proven: bool) -> Result<bool, rusqlite::Error> {
        let at = |places: &[usize], column: usize| match places.get(column).copied() {
            Some(0) => Some(ValueRef::Integer(id)),
            Some(place) => Some(row.get(place).copied().unwrap_or(ValueRef::Null)),
            None => None,
        };
        let fixed = Fixed::of(|column| at(&self.fixed, column));
        let standing = Standing::of(EventId(id.cast_unsigned()), |column| at(&self.standing, column));
        let has_sum = at(&self.fixed, FIXED_READ - 1) != Some(ValueRef::Null);
        if proven && (!has_sum || fixed.is_err()) || row.len() < COLUMNS_MIN {
            return Ok(false);
        }
        if !(1..=ID_MAX.cast_signed()).contains(&id) || !self.fits(row) {
            self.taken.unreadable += 1;
            return Ok(false);
        }
        let makes_sense = fixed.is_ok_and(|fixed| match fixed.action {
            Some(action) => values::action(action).is_some() && fixed.incident_key.is_some(),
            None => true,
        });
        let rank = Rank::of(makes_sense, standing.as_ref().ok());
        match self.rank(id)? {
            None => {
                self.insert(id, row)?;
                self.taken.events += 1;
            }
            Some(before) if before < rank => {
                self.insert(id, row)?;
                self.taken.versions += 1;
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// Returns true if every column that must not be empty has a value.
    fn fits(&self, row: &[ValueRef<'_>]) -> bool {
        self.columns.iter().enumerate().all(|(place, name)| {
            let is_there = row.get(place).is_some_and(|value| *value != ValueRef::Null);
            is_there || !NEVER_NULL.contains(&name.as_str())
        })
    }

    fn rank(&self, id: i64) -> Result<Option<Rank>, rusqlite::Error> {
        let mut statement =
            self.journal.prepare_cached(&format!("SELECT {FIXED}, {STANDING} FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([id])?;
        Ok(rows.next()?.map(|row| {
            let standing = Standing::read(row, FIXED_READ, EventId(id.cast_unsigned()));
            Rank::of(Fixed::read(row, 0).is_ok(), standing.as_ref().ok())
        }))
    }

    fn insert(&self, id: i64, row: &[ValueRef<'_>]) -> Result<(), rusqlite::Error> {
        let count = row.len().min(self.columns.len());
        let places = vec!["?"; count].join(", ");
        let statement =
            format!("INSERT OR REPLACE INTO event ({}) VALUES ({places})", self.columns[..count].join(", "));
        let values = std::iter::once(ValueRef::Integer(id)).chain(row[1..count].iter().copied());
        self.journal.prepare_cached(&statement)?.execute(params_from_iter(values.map(ToSqlOutput::Borrowed)))?;
        Ok(())
    }

    /// Imports the payload and body of an event. Returns true if the row holds these. All events must be imported
    /// before.
    pub(super) fn content(&mut self, id: i64, row: &[ValueRef<'_>], proven: bool) -> Result<bool, rusqlite::Error> {
        let Some(content) = Content::of(id, row).filter(|content| !proven || content.trust == Trust::Proven) else {
            return Ok(false);
        };
        if !(1..=ID_MAX.cast_signed()).contains(&id) {
            return Ok(false);
        }
        let mut statement =
            self.journal.prepare_cached("SELECT state IN ('delivered', 'ended') FROM event WHERE id = ?1")?;
        match statement.query_row([id], |row| row.get(0)).optional()? {
            Some(true) if self.extent == Extent::Open && !self.is_raw_of_others(id)? => return Ok(true),
            Some(_) => {}
            // Without a checksum nothing proves that this is a body.
            None if content.trust != Trust::Proven => return Ok(true),
            None => self.placeholder(id, &content)?,
        }
        let mut statement =
            self.journal.prepare_cached("SELECT NULL, raw, body, element, sum, raw_sum FROM content WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let before = match rows.next()? {
            Some(row) => {
                let columns = (0..6).map(|column| row.get_ref(column)).collect::<Result<Vec<_>, _>>()?;
                Content::of(id, &columns).map(|before| before.rank())
            }
            None => None,
        };
        drop(rows);
        if before.is_none_or(|before| before < content.rank()) {
            self.journal
                .prepare_cached(
                    "INSERT OR REPLACE INTO content (id, raw, body, element, sum, raw_sum) VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    id,
                    content.raw,
                    content.body.unwrap_or_default(),
                    content.element,
                    content.sum,
                    content.raw_sum
                ])?;
        }
        Ok(true)
    }

    /// Returns true if an unfinished event came in the request whose payload this row holds.
    fn is_raw_of_others(&mut self, id: i64) -> Result<bool, rusqlite::Error> {
        if self.raws.is_none() {
            let mut statement = self.journal.prepare(
                "SELECT DISTINCT raw_in FROM event WHERE state IN ('queued', 'dead', 'refused') AND state <> 'delivered'",
            )?;
            self.raws = Some(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?);
        }
        Ok(self.raws.as_ref().is_some_and(|raws| raws.contains(&id)))
    }

    /// Makes a dead letter for a body whose event could not be read.
    fn placeholder(&mut self, id: i64, content: &Content<'_>) -> Result<(), rusqlite::Error> {
        let bytes = [content.raw, content.body, content.element].into_iter().flatten().map(<[u8]>::len).sum::<usize>();
        let standing = Standing {
            reason: Some(Damage::NoRow.reason().to_owned()),
            settled_at: Some(self.now.0),
            ..Standing::new(State::Dead, bytes as u64)
        };
        self.journal
            .prepare_cached(
                "INSERT INTO event (id, source, state, reason, received_at, settled_at, bytes, request, raw_in, sum, \
                 state_sum) VALUES (?1, '', ?2, ?3, ?4, ?4, ?5, '', ?1, ?6, ?7)",
            )?
            .execute(params![
                id,
                standing.state.as_str(),
                standing.reason,
                self.now.0,
                standing.bytes,
                sum::NO_SUM,
                standing.sum(EventId(id.cast_unsigned()))
            ])?;
        self.taken.without_row += 1;
        Ok(())
    }

    /// Imports the state of a key if its checksum matches: an unknown key can only page once more. Returns true if the
    /// row is one. All events must be imported before.
    pub(super) fn key_state(&self, id: i64, row: &[ValueRef<'_>]) -> Result<bool, rusqlite::Error> {
        let column = |column: usize| match column {
            0 => Some(ValueRef::Integer(id)),
            _ => row.get(column).copied(),
        };
        let has_sum = row.len() == KEY_STATE_COLUMNS && row[KEY_STATE_COLUMNS - 1] != ValueRef::Null;
        if !has_sum || KeyState::of_columns(column).is_err() || !(1..=ID_MAX.cast_signed()).contains(&id) {
            return Ok(false);
        }
        let places = vec!["?"; KEY_STATE_COLUMNS].join(", ");
        let statement = format!(
            "INSERT OR IGNORE INTO key_state ({}) SELECT {places} WHERE NOT EXISTS (SELECT 1 FROM event WHERE id = ?1)",
            key_state::COLUMNS
        );
        let values = (0..KEY_STATE_COLUMNS).filter_map(column).map(ToSqlOutput::Borrowed);
        self.journal.prepare_cached(&statement)?.execute(params_from_iter(values))?;
        Ok(true)
    }

    /// Imports a call; its row has no checksum, so its shape decides.
    pub(super) fn attempt(&self, row: &[ValueRef<'_>]) -> Result<(), rusqlite::Error> {
        let [event @ ValueRef::Integer(_), rest @ ..] = row else {
            return Ok(());
        };
        let looks_like_one = rest.len() == 7
            && rest[..3].iter().all(|value| matches!(value, ValueRef::Integer(_)))
            && matches!(rest[3], ValueRef::Text(_))
            && matches!(rest[4], ValueRef::Integer(_) | ValueRef::Null)
            && matches!(rest[5], ValueRef::Text(_) | ValueRef::Null)
            && matches!(rest[6], ValueRef::Blob(_) | ValueRef::Null);
        if looks_like_one {
            let mut statement = self.journal.prepare_cached(
                "INSERT OR IGNORE INTO attempt SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
                 WHERE EXISTS (SELECT 1 FROM event WHERE id = ?1 AND (?9 OR state NOT IN ('delivered', 'ended')))",
            )?;
            let all = ValueRef::Integer((self.extent == Extent::All).into());
            let values = std::iter::once(event).chain(rest).copied().chain([all]);
            statement.execute(params_from_iter(values.map(ToSqlOutput::Borrowed)))?;
        }
        Ok(())
    }

    /// Imports a hold; its row has no checksum, so its shape decides.
    pub(super) fn hold(&self, row: &[ValueRef<'_>]) -> Result<(), rusqlite::Error> {
        if let [ValueRef::Text(b"key" | b"source"), ValueRef::Text(_), ValueRef::Text(_), ValueRef::Integer(_)] = row {
            let mut statement = self
                .journal
                .prepare_cached("INSERT OR IGNORE INTO hold (kind, source, incident_key, since) VALUES (?, ?, ?, ?)")?;
            statement.execute(params_from_iter(row.iter().copied().map(ToSqlOutput::Borrowed)))?;
        }
        Ok(())
    }

    /// The number of missing events among those that belong on a page: at least one if the range is unknown.
    pub(super) fn missing(&self, leaf: Leaf) -> Result<u64, rusqlite::Error> {
        let (Some(after), Some(until)) = (leaf.after, leaf.until) else {
            return Ok(1);
        };
        let present: i64 = self
            .journal
            .prepare_cached("SELECT count(*) FROM event WHERE id > ?1 AND id <= ?2")?
            .query_row([after, until], |row| row.get(0))?;
        Ok(until.saturating_sub(after).saturating_sub(present).try_into().unwrap_or(0))
    }

    /// Makes dead letters of queued events whose body can't be sent. Returns their number.
    pub(super) fn dead_letter_without_body(&self) -> Result<u64, rusqlite::Error> {
        let mut statement = self.journal.prepare(&format!(
            "SELECT event.id, raw, body, element, {}, raw_sum FROM event \
             LEFT JOIN content ON content.id = event.id WHERE state = 'queued' AND state <> 'delivered'",
            sum::of_event_with_sum("content.sum")
        ))?;
        let mut rows = statement.query([])?;
        let mut buried = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let columns = (0..6).map(|column| row.get_ref(column)).collect::<Result<Vec<_>, _>>()?;
            match Content::of(id, &columns) {
                Some(Content { body: Some(_), trust: Trust::Unsummed | Trust::Proven, .. }) => {}
                Some(Content { body: Some(_), .. }) => buried.push((id, Damage::Body)),
                _ => buried.push((id, Damage::NoBody)),
            }
        }
        drop(rows);
        buried.iter().try_for_each(|(id, damage)| self.bury(*id, *damage))?;
        Ok(buried.len() as u64)
    }

    /// Makes dead letters of queued events whose key has a later attempt: an event is only tried after the one before
    /// it ended, so this is an outdated version of a settled event. Returns their number.
    pub(super) fn dead_letter_outdated(&self) -> Result<u64, rusqlite::Error> {
        let mut statement = self.journal.prepare(&format!("SELECT {FIXED}, {STANDING} FROM event ORDER BY id DESC"))?;
        let mut rows = statement.query([])?;
        let (mut tried, mut buried) = (HashSet::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let (Ok(fixed), Ok(standing)) =
                (Fixed::read(row, 0), Standing::read(row, FIXED_READ, EventId(i64::cast_unsigned(id))))
            else {
                continue;
            };
            let Some(incident_key) = fixed.incident_key else {
                continue;
            };
            let key = crate::event::KeyId::new(fixed.source, incident_key);
            if standing.state == State::Queued && tried.contains(&key) {
                buried.push(id);
            } else if standing.attempts > 0 {
                tried.insert(key);
            }
        }
        drop(rows);
        buried.iter().try_for_each(|id| self.bury(*id, Damage::State))?;
        Ok(buried.len() as u64)
    }

    fn bury(&self, id: i64, damage: Damage) -> Result<(), rusqlite::Error> {
        let event = EventId(id.cast_unsigned());
        let mut statement = self.journal.prepare_cached(&format!("SELECT {STANDING} FROM event WHERE id = ?1"))?;
        let standing = statement.query_row([sql(event)], |row| Ok(Standing::read(row, 0, event)))?;
        // The start makes a dead letter of an altered row.
        let Ok(mut standing) = standing else {
            return Ok(());
        };
        standing.state = State::Dead;
        standing.reason = Some(damage.reason().to_owned());
        standing.settled_at = Some(self.now.0);
        self.journal
            .prepare_cached("UPDATE event SET state = ?2, reason = ?3, settled_at = ?4, state_sum = ?5 WHERE id = ?1")?
            .execute(params![id, standing.state.as_str(), standing.reason, standing.settled_at, standing.sum(event)])?;
        Ok(())
    }
}

impl Rank {
    fn of(fixed: bool, standing: Option<&Standing>) -> Rank {
        let stage = standing.map_or(0, |standing| match standing.state {
            State::Queued | State::Refused => 1,
            State::Dead => 2,
            State::Delivered | State::Ended => 3,
        });
        Rank {
            fixed,
            standing: standing.is_some(),
            stage,
            attempts: standing.map_or(0, |standing| standing.attempts),
            tried_ms: standing.and_then(|standing| standing.tried_ms).unwrap_or(0),
        }
    }
}

/// A row of bodies.
#[derive(Clone, Copy, Debug)]
struct Content<'r> {
    raw: Option<&'r [u8]>,
    body: Option<&'r [u8]>,
    element: Option<&'r [u8]>,
    sum: Option<i64>,
    raw_sum: Option<i64>,
    trust: Trust,
}

impl<'r> Content<'r> {
    /// Decodes a row's columns; none if they are no bodies.
    fn of(id: i64, row: &[ValueRef<'r>]) -> Option<Content<'r>> {
        if !(4..=6).contains(&row.len()) {
            return None;
        }
        let bytes = |column: usize| match row[column] {
            ValueRef::Null => Some(None),
            ValueRef::Blob(bytes) => Some(Some(bytes)),
            _ => None,
        };
        let number = |column: usize| match row.get(column) {
            None | Some(ValueRef::Null) => Some(None),
            Some(ValueRef::Integer(number)) => Some(Some(*number)),
            _ => None,
        };
        let (raw, body, element) = (bytes(1)?, bytes(2)?, bytes(3)?);
        let (sum, raw_sum) = (number(4)?, number(5)?);
        let own = || sum::of_content(EventId(id.cast_unsigned()), body.unwrap_or_default(), element);
        let trust = match sum {
            None => Trust::Unsummed,
            Some(sum) if sum == own() => Trust::Proven,
            Some(_) => Trust::Altered,
        };
        Some(Content { raw, body, element, sum, raw_sum, trust })
    }

    fn rank(&self) -> (Trust, bool, bool) {
        (self.trust, self.body.is_some(), self.raw.is_some())
    }
}

/// The columns of a key's state with its checksum.
const KEY_STATE_COLUMNS: usize = 14;
/// The columns of an event in the first layout.
const COLUMNS_MIN: usize = 23;
const NEVER_NULL: [&str; 8] =
    ["source", "state", "received_at", "attempts", "duplicates", "bytes", "request", "raw_in"];
