//! The confirmations of Callgoose's outgoing webhooks, each as it came, with the event that it is about.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::batch::Batch;
use super::event_list::Summary;
use super::values::{action, bytes, event, shown, sql};
use super::{Error, Reader};
use crate::callgoose::confirmation::{Candidate, IncidentAction, Relation, relate};
use crate::clock::WallTime;
use crate::event::{Action, EventId};
use crate::journal::decide::RAW_BYTES_KEPT;
use crate::journal::fact::NewConfirmation;

/// A confirmation, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfirmationRecord {
    pub id: String,
    pub received_at: String,
    /// The source through which it came.
    pub source: String,
    pub request_id: String,
    /// `matched`, `unmatched` or `unknown_shape`.
    pub result: String,
    /// `opened`, `closed`, or nothing that is known.
    pub action: Option<String>,
    pub incident_key: Option<String>,
    /// The event that it is about.
    pub event: Option<String>,
    /// The length of what came.
    pub bytes: u64,
    /// The body, or its beginning. What is no UTF-8 in it is replaced.
    pub raw: String,
}

/// A page of confirmations, newest first, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfirmationPage {
    pub confirmations: Vec<ConfirmationRecord>,
    pub next: Option<String>,
}

/// A choice of confirmations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfirmationFilter {
    pub event: Option<EventId>,
    pub result: Option<Relation>,
    /// Only older ones than the one with this number.
    pub after: Option<u64>,
    pub limit: usize,
}

/// The last word of Callgoose on an open incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastConfirmation {
    pub id: String,
    /// `opened` or `closed`.
    pub action: String,
    pub received_at: String,
}

/// The confirmation of an open incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IncidentConfirmation {
    By(LastConfirmation),
    /// None came, although openings before it were confirmed.
    Missing,
    /// None came, and none need come.
    #[default]
    Unknown,
}

impl Batch<'_> {
    /// The newest event of a key that ended without an effect: deduplication does not know it any more.
    pub fn last_without_effect(&self, source: &str, incident_key: &str) -> Result<Option<EventId>, Error> {
        let last: Option<i64> = self
            .prepare(
                "SELECT id FROM event INDEXED BY event_without_effect WHERE incident_key = ?1 AND source = ?2 \
                 AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) ORDER BY id DESC LIMIT 1",
            )?
            .query_row([incident_key, source], |row| row.get(0))
            .optional()?;
        Ok(last.map(event))
    }

    /// The events that a confirmation may be about, among those of a key up to `last`, newest first: up to the one that it
    /// is about, or all. It looks at the newest rows before that only: an event that is farther from its confirmation is an
    /// old one.
    pub(super) fn candidates_of_key(
        &self,
        told: Option<IncidentAction>,
        (source, incident_key): (&str, &str),
        last: EventId,
        all: bool,
    ) -> Result<Vec<Candidate>, Error> {
        let mut statement = self.prepare(
            "SELECT id, action, \
             EXISTS (SELECT 1 FROM confirmation WHERE confirmation.event = recent.id AND confirmation.action = 'opened'), \
             EXISTS (SELECT 1 FROM confirmation WHERE confirmation.event = recent.id AND confirmation.action = 'closed') \
             FROM (SELECT id, action, source, incident_key FROM event WHERE id <= ?1 ORDER BY id DESC LIMIT ?4) AS recent \
             WHERE source = ?2 AND incident_key = ?3",
        )?;
        let mut rows = statement.query_map(params![sql(last), source, incident_key, ROWS_SEARCHED], |row| {
            let of = row.get_ref(1)?.as_str().ok().and_then(action).unwrap_or(Action::Trigger);
            Ok(Candidate { id: event(row.get(0)?), action: of, opened: row.get(2)?, closed: row.get(3)? })
        })?;
        let mut candidates = Vec::new();
        relate(told, rows.by_ref().inspect(|row| candidates.extend(row.as_ref().ok())))?;
        if all {
            candidates.extend(rows.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(candidates)
    }

    /// The number of the next confirmation.
    pub fn next_confirmation(&self) -> Result<u64, Error> {
        let last: i64 =
            self.prepare("SELECT coalesce(max(id), 0) FROM confirmation")?.query_row([], |row| row.get(0))?;
        Ok(last.cast_unsigned() + 1)
    }

    /// Keeps a confirmation. Beyond the limits the oldest are removed.
    pub fn keep_confirmation(&mut self, id: u64, new: NewConfirmation<'_>) -> Result<(), Error> {
        let NewConfirmation { received_at, source, request, told, about, raw } = new;
        self.prepare(
            "INSERT INTO confirmation (id, received_at, source, request, result, action, incident_key, event, event_source, \
             bytes, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            id.cast_signed(),
            received_at.0,
            source,
            request,
            Relation::of(told, about.map(|(event, _)| event)).as_str(),
            told.action.map(IncidentAction::as_str),
            told.incident_key,
            about.map(|(event, _)| sql(event)),
            about.map(|(_, source)| source),
            raw.len(),
            &raw[..raw.len().min(RAW_BYTES_KEPT)],
        ])?;
        if let Some((event, _)) = about {
            self.trim_confirmations_of(event)?;
        }
        if id.cast_signed() % TRIMMED_EVERY == 0 {
            self.trim_confirmations()?;
        }
        Ok(())
    }

    /// Removes the oldest confirmations beyond the limits. Those that are about no event have a limit of their own, so that
    /// they push out none that a story shows.
    fn trim_confirmations(&self) -> Result<(), Error> {
        let share = self.journal.limits.max_bytes / CONFIRMATIONS_SHARE / RAW_BYTES_KEPT as u64;
        let related = i64::try_from(share).unwrap_or(i64::MAX).clamp(RELATED_KEPT_MIN, RELATED_KEPT);
        for (which, kept) in [("event IS NULL", UNRELATED_KEPT.min(related)), ("event IS NOT NULL", related)] {
            self.prepare(&format!(
                "DELETE FROM confirmation WHERE {which} AND id <= \
                 (SELECT id FROM confirmation WHERE {which} ORDER BY id DESC LIMIT 1 OFFSET ?1)"
            ))?
            .execute([kept])?;
        }
        Ok(())
    }

    /// Removes the oldest confirmations of an event beyond its limit, so that the batch which drops the event has not much
    /// to drop with it. The first of each action stays: by it later ones are related.
    fn trim_confirmations_of(&self, event: EventId) -> Result<(), Error> {
        self.prepare(
            "DELETE FROM confirmation WHERE id IN \
             (SELECT id FROM confirmation WHERE event = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2) \
             AND id NOT IN (SELECT min(id) FROM confirmation WHERE event = ?1 GROUP BY action)",
        )?
        .execute(params![sql(event), KEPT_OF_EVENT])?;
        Ok(())
    }

    /// Removes the confirmations that are about an event, with the rest of its history. Returns their number.
    pub(super) fn drop_confirmations_of(&self, event: EventId) -> Result<usize, Error> {
        Ok(self.prepare("DELETE FROM confirmation WHERE event = ?1")?.execute([sql(event)])?)
    }

    /// Removes some of the oldest confirmations that came before a time and are about no event.
    pub(super) fn drop_unrelated_confirmations(&self, before: i64) -> Result<usize, Error> {
        let dropped = self
            .prepare(
                "DELETE FROM confirmation WHERE id IN (SELECT id FROM confirmation WHERE event IS NULL AND received_at < ?1 \
                 ORDER BY id LIMIT ?2)",
            )?
            .execute([before, DROPPED_AT_ONCE])?;
        Ok(dropped)
    }
}

impl Reader {
    /// The newest confirmations that are chosen.
    pub fn confirmations(&self, filter: ConfirmationFilter) -> Result<ConfirmationPage, Error> {
        let ConfirmationFilter { event, result, after, limit } = filter;
        self.with(|connection| {
            if !connection.table_exists(None, "confirmation")? {
                return Ok(ConfirmationPage { confirmations: Vec::new(), next: None });
            }
            let after = after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX);
            let which = if event.is_some() { "event = ?2" } else { "?2 IS NULL" };
            let mut statement = connection.prepare_cached(&format!(
                "SELECT id, received_at, source, request, result, action, incident_key, event, bytes, raw FROM confirmation \
                 WHERE {which} AND id < ?1 AND (?3 IS NULL OR result = ?3) ORDER BY id DESC LIMIT ?4"
            ))?;
            let limit_and_one = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let values = params![after, event.map(sql), result.map(Relation::as_str), limit_and_one];
            let mut confirmations = statement.query_map(values, record)?.collect::<Result<Vec<_>, _>>()?;
            let more = confirmations.len() > limit;
            confirmations.truncate(limit);
            let next = confirmations.last().filter(|_| more).map(|last| last.id.clone());
            Ok(ConfirmationPage { confirmations, next })
        })
    }

    /// The confirmation of each of these open incidents, which rest on these triggers.
    ///
    /// Where the trigger is a reminder or an update, the incident was opened before it. One that was created without a
    /// confirmation lacks it only if such ones came before.
    pub fn confirmed(&self, open: &[Summary]) -> Result<Vec<IncidentConfirmation>, Error> {
        self.with(|connection| {
            if open.is_empty() || !connection.table_exists(None, "confirmation")? {
                return Ok(vec![IncidentConfirmation::default(); open.len()]);
            }
            let first: Option<i64> = connection
                .prepare_cached(
                    "SELECT received_at FROM confirmation WHERE event IS NOT NULL AND action = 'opened' ORDER BY id LIMIT 1",
                )?
                .query_row([], |row| row.get(0))
                .optional()?;
            let Some(first) = first else { return Ok(vec![IncidentConfirmation::default(); open.len()]) };
            let mut statement = connection.prepare_cached(
                "SELECT confirmation.id, confirmation.action, confirmation.received_at FROM confirmation \
                 JOIN event ON event.id = ?3 \
                 WHERE confirmation.incident_key = ?1 AND event_source = ?2 AND confirmation.event IS NOT NULL \
                 AND confirmation.action IS NOT NULL \
                 AND (confirmation.event >= ?3 OR event.novelty IN ('reminder', 'update')) \
                 ORDER BY confirmation.id DESC LIMIT 1",
            )?;
            let confirmed = |incident: &Summary| {
                let id = incident.id.parse::<EventId>().unwrap_or(EventId(0));
                let last = statement
                    .query_row(params![incident.incident_key, incident.source, sql(id)], |row| {
                        Ok(LastConfirmation {
                            id: shown(row, 0)?.unwrap_or_default(),
                            action: shown(row, 1)?.unwrap_or_default(),
                            received_at: WallTime(row.get(2).unwrap_or(0)).rfc3339(),
                        })
                    })
                    .optional()?;
                let came_after = WallTime::parse_rfc3339(&incident.received_at).is_some_and(|came| came.0 > first);
                Ok(match last {
                    Some(last) => IncidentConfirmation::By(last),
                    None if came_after && incident.outcome.as_deref() == Some("created") => IncidentConfirmation::Missing,
                    None => IncidentConfirmation::Unknown,
                })
            };
            open.iter().map(confirmed).collect()
        })
    }
}

fn record(row: &Row<'_>) -> Result<ConfirmationRecord, rusqlite::Error> {
    let text = |column| Ok::<_, rusqlite::Error>(shown(row, column)?.unwrap_or_default());
    let raw = bytes(row, 9)?.unwrap_or_default();
    Ok(ConfirmationRecord {
        id: text(0)?,
        received_at: WallTime(row.get(1).unwrap_or(0)).rfc3339(),
        source: text(2)?,
        request_id: text(3)?,
        result: text(4)?,
        action: shown(row, 5)?,
        incident_key: shown(row, 6)?,
        event: shown(row, 7)?,
        bytes: row.get(8).unwrap_or(0),
        raw: String::from_utf8_lossy(&raw).into_owned(),
    })
}

/// Confirmations about events that are kept, at most; fewer where `journal.max_bytes` is small.
const RELATED_KEPT: i64 = 10_000;
const RELATED_KEPT_MIN: i64 = 100;
/// The newest of one event that are kept: many times what opening and closing an incident makes Callgoose send.
const KEPT_OF_EVENT: i64 = 32;
/// The part of `journal.max_bytes` that they may take, if each is as long as one can be.
const CONFIRMATIONS_SHARE: u64 = 16;
/// Others that are kept: enough to see what Callgoose sends.
const UNRELATED_KEPT: i64 = 1_000;
/// So many may come beyond the limits before the oldest go, since counting costs something.
const TRIMMED_EVERY: i64 = 64;
/// Removed by one round of pruning, so that no sender waits for long.
const DROPPED_AT_ONCE: i64 = 100;
/// The rows among which the event is looked for.
const ROWS_SEARCHED: i64 = 1_000;

#[cfg(test)]
mod tests;
