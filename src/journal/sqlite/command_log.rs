//! The commands of people: who did what, when, and to which events. Written by the commit that carries a command out.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::batch::Batch;
use super::values::{shown, sql};
use super::{Error, Reader};
use crate::clock::WallTime;
use crate::event::{EventId, HoldRecord, HoldTarget};
use crate::journal::fact::{CommandTarget, NewCommand};
use crate::journal::request::CommandOrigin;

/// A command, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandRecord {
    pub id: String,
    pub at: String,
    pub command: String,
    pub by: String,
    pub request_id: String,
    /// The filter, where one chose the events.
    pub selection: Option<serde_json::Value>,
    /// The target of a hold or a release.
    pub source: Option<String>,
    pub key: Option<String>,
    /// All events that it was carried out for.
    pub count: u64,
    /// The first [`EVENTS_LISTED`] of them.
    pub events: Vec<String>,
}

/// A page of commands, newest first, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandPage {
    pub commands: Vec<CommandRecord>,
    pub next: Option<String>,
}

impl Batch<'_> {
    /// Notes a command that this batch carries out. Events of one request share a row; so do those of a sweep, which takes
    /// a request for each page.
    pub fn note_command(&mut self, new: &NewCommand<'_>) -> Result<(), Error> {
        let NewCommand { at, command, origin, on } = new;
        let CommandOrigin { request_id, by, selection } = origin;
        let (events, held) = match on {
            CommandTarget::Events(events) if events.is_empty() => return Ok(()),
            CommandTarget::Events(events) => (&**events, None),
            CommandTarget::Held(target) => (&[][..], Some(*target)),
        };
        // A filter that was cut off would be another one.
        let selection = selection.as_deref().filter(|selection| selection.len() <= TEXT_BYTES_MAX);
        let listed = |room: usize| events.iter().take(room).map(|event| format!("{event},")).collect::<String>();
        let row: Option<(i64, usize)> = self
            .prepare(
                "SELECT id, count FROM command_log WHERE id > (SELECT max(id) FROM command_log) - ?1 AND command = ?2 \
                 AND given_by = ?3 AND selection IS ?4 AND (?4 IS NOT NULL OR request = ?5) AND source IS NULL \
                 AND at > ?6 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(
                params![
                    ROWS_SEARCHED,
                    command,
                    shortened(by),
                    selection,
                    &**request_id,
                    at.0.saturating_sub(SWEEP_MILLIS_MAX)
                ],
                // A count that was altered stops no command.
                |row| Ok((row.get(0)?, row.get(1).unwrap_or(EVENTS_LISTED))),
            )
            .optional()?;
        if let Some((row, count)) = row {
            let listed = listed(EVENTS_LISTED.saturating_sub(count));
            self.prepare("UPDATE command_log SET count = count + ?2, events = events || ?3 WHERE id = ?1")?
                .execute(params![row, events.len(), listed])?;
            return Ok(());
        }
        self.prepare(
            "INSERT INTO command_log (at, command, request, given_by, selection, source, incident_key, count, events) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            at.0,
            command,
            &**request_id,
            shortened(by),
            selection,
            held.map(|target| shortened(&target.source)),
            held.and_then(|target| target.incident_key.as_deref()).map(shortened),
            events.len(),
            format!(",{}", listed(EVENTS_LISTED)),
        ])?;
        self.prepare("DELETE FROM command_log WHERE id <= (SELECT max(id) FROM command_log) - ?1")?
            .execute([COMMANDS_KEPT])?;
        Ok(())
    }
}

impl Batch<'_> {
    /// Removes what a commit noted that failed and reached the disk nevertheless: the hold or release of each target that
    /// is stored otherwise than it is in force, as the person was told.
    pub fn drop_undone_holds(&mut self, in_force: &[HoldRecord]) -> Result<(), Error> {
        let stored = self.journal.holds()?;
        let lacks = |holds: &[HoldRecord], target: &HoldTarget| !holds.iter().any(|held| held.target == *target);
        let undone = stored.iter().filter(|held| lacks(in_force, &held.target)).map(|held| (&held.target, "hold"));
        let kept = in_force.iter().filter(|held| lacks(&stored, &held.target)).map(|held| (&held.target, "release"));
        for (target, command) in undone.chain(kept) {
            let key = target.incident_key.as_deref().map(shortened);
            self.prepare(
                "DELETE FROM command_log WHERE command = ?3 AND id = \
                 (SELECT max(id) FROM command_log WHERE source = ?1 AND incident_key IS ?2)",
            )?
            .execute(params![shortened(&target.source), key, command])?;
        }
        Ok(())
    }
}

impl Reader {
    /// The newest commands before the one with the number `after`; with `event` only those that list it.
    pub fn commands(&self, event: Option<EventId>, after: Option<u64>, limit: usize) -> Result<CommandPage, Error> {
        self.with(|connection| {
            // A journal last opened by an earlier version has no such table.
            if !connection.table_exists(None, "command_log")? {
                return Ok(CommandPage { commands: Vec::new(), next: None });
            }
            let after = after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX);
            // The page of an event asks at each change: nothing older than the event, or its sweep, is looked at.
            let since = event.map_or(Ok(i64::MIN), |event| received_at(connection, event))?;
            let since = since.saturating_sub(SWEEP_MILLIS_MAX);
            let named = event.map(|event| format!(",{event},"));
            let mut statement = connection.prepare_cached(
                "SELECT id, at, command, given_by, request, selection, source, incident_key, count, events \
                 FROM command_log WHERE id < ?1 ORDER BY id DESC",
            )?;
            let (mut rows, mut commands) = (statement.query([after])?, Vec::new());
            while commands.len() <= limit
                && let Some(row) = rows.next()?
            {
                if row.get::<_, i64>(1).is_ok_and(|at| at < since) {
                    break;
                }
                let is_named = |named: &String| Ok::<_, rusqlite::Error>(events_of(row)?.contains(named.as_str()));
                if named.as_ref().map_or(Ok(true), is_named)? {
                    commands.push(record(row)?);
                }
            }
            let more = commands.len() > limit;
            commands.truncate(limit);
            let next = commands.last().filter(|_| more).map(|last| last.id.clone());
            Ok(CommandPage { commands, next })
        })
    }
}

/// When an event came; the beginning of time for one that is not kept.
fn received_at(connection: &Connection, event: EventId) -> Result<i64, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT received_at FROM event WHERE id = ?1")?;
    let received_at = statement.query_row([sql(event)], |row| Ok(row.get(0).unwrap_or(i64::MIN))).optional()?;
    Ok(received_at.unwrap_or(i64::MIN))
}

/// The column that lists events, each number between two commas.
fn events_of(row: &Row<'_>) -> Result<String, rusqlite::Error> {
    Ok(shown(row, 9)?.unwrap_or_default())
}

fn record(row: &Row<'_>) -> Result<CommandRecord, rusqlite::Error> {
    let text = |column| Ok::<_, rusqlite::Error>(shown(row, column)?.unwrap_or_default());
    let events = events_of(row)?;
    Ok(CommandRecord {
        id: text(0)?,
        at: WallTime(row.get(1).unwrap_or(0)).rfc3339(),
        command: text(2)?,
        by: text(3)?,
        request_id: text(4)?,
        selection: shown(row, 5)?.and_then(|selection| serde_json::from_str(&selection).ok()),
        source: shown(row, 6)?,
        key: shown(row, 7)?,
        count: row.get(8).unwrap_or(0),
        events: events.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
    })
}

fn shortened(text: &str) -> &str {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Years of commands by hand.
const COMMANDS_KEPT: i64 = 10_000;
/// Events that a row lists: more than a person reads; the others are counted.
const EVENTS_LISTED: usize = 100;
/// A sweep over a million events takes minutes. A longer one begins another row.
const SWEEP_MILLIS_MAX: i64 = 10 * 60 * 1_000;
/// The newest rows among which that of a sweep is looked for: others command meanwhile, but not so often.
const ROWS_SEARCHED: i64 = 100;
/// An incident key has at most half of it.
const TEXT_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{Config, Journal, Lock, Shares};

    fn origin(request: &str) -> CommandOrigin {
        CommandOrigin { request_id: request.into(), by: "token, 10.0.0.7".into(), selection: None }
    }

    fn note(journal: &mut Journal, request: &str, command: &str, events: &[u64]) {
        note_by(journal, &origin(request), 1_000, command, events);
    }

    fn note_by(journal: &mut Journal, origin: &CommandOrigin, at: i64, command: &str, events: &[u64]) {
        let events: Vec<EventId> = events.iter().map(|id| EventId(*id)).collect();
        let mut batch = journal.begin().unwrap();
        let on = CommandTarget::Events(events);
        batch.note_command(&NewCommand { at: WallTime(at), command, origin, on }).unwrap();
        batch.commit().unwrap();
    }

    fn journal(directory: &std::path::Path) -> Journal {
        let config = Config {
            data_dir: directory.to_owned(),
            max_events: 100,
            max_bytes: 1 << 20,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 10,
            shares: Shares::default(),
            reserve: None,
        };
        Journal::open(&config, &Lock::take(directory).unwrap(), WallTime(0)).unwrap()
    }

    #[test]
    fn events_of_one_request_share_a_row_and_it_is_found_by_each_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        note(&mut journal, "01A", "replay", &[7, 12]);
        note(&mut journal, "01A", "replay", &[13]);
        note(&mut journal, "01B", "discard", &[12]);
        note(&mut journal, "01C", "discard", &[]);
        let reader = Reader::open(directory.path()).unwrap();
        let rows = |event: Option<u64>| -> Vec<(String, u64)> {
            let page = reader.commands(event.map(EventId), None, 10).unwrap();
            page.commands.into_iter().map(|one| (one.request_id, one.count)).collect()
        };
        let [a, b] = [("01A".to_owned(), 3), ("01B".to_owned(), 1)];
        assert_eq!(rows(None), [b.clone(), a.clone()], "newest first, and none for what did nothing");
        assert_eq!(rows(Some(12)), [b, a.clone()]);
        assert_eq!(rows(Some(13)), [a]);
        assert_eq!(rows(Some(1)), [], "a number within another one is none of them");
        let page = reader.commands(None, None, 1).unwrap();
        assert_eq!(page.next.as_deref(), Some("2"));
        let rest = reader.commands(None, Some(2), 1).unwrap();
        assert_eq!((rest.commands[0].events.join(" "), rest.next), ("7 12 13".to_owned(), None));
    }

    #[test]
    fn a_sweep_is_one_row_whose_text_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let by = |request: &str, by: &str, state: &str| CommandOrigin {
            by: by.into(),
            selection: Some(format!("{{\"state\":\"{state}\"}}").into()),
            ..origin(request)
        };
        note(&mut journal, "01X", "discard", &[1]);
        for page in 0..500_u64 {
            let events: Vec<u64> = (0..100).map(|event| 1_000 + page * 100 + event).collect();
            note_by(&mut journal, &by(&format!("01P{page}"), "one", "dead"), 1_000, "discard", &events);
        }
        // Between its pages others command too.
        note_by(&mut journal, &by("01Y", "another", "dead"), 1_000, "discard", &[2]);
        note_by(&mut journal, &by("01Z", "one", "queued"), 1_000, "discard", &[3]);
        note_by(&mut journal, &by("01R", "one", "dead"), 1_000, "replay", &[4]);
        note_by(&mut journal, &by("01P500", "one", "dead"), 1_000, "discard", &[60_000]);
        note_by(&mut journal, &by("01N", "one", "dead"), 1_000 + SWEEP_MILLIS_MAX, "discard", &[5]);
        let page = Reader::open(directory.path()).unwrap().commands(None, None, 10).unwrap();
        let told: Vec<(&str, u64)> = page.commands.iter().map(|one| (&*one.request_id, one.count)).collect();
        assert_eq!(told, [("01N", 1), ("01R", 1), ("01Z", 1), ("01Y", 1), ("01P0", 50_001), ("01X", 1)]);
        let listed: Vec<String> = (1_000..1_100).map(|event| event.to_string()).collect();
        assert_eq!(page.commands[4].events, listed, "the first of them");
    }

    #[test]
    fn a_search_for_an_event_ends_where_the_commands_are_older_than_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let received_at = 10 * SWEEP_MILLIS_MAX;
        journal.execute(&format!(
            "INSERT INTO event (id, source, state, received_at, bytes, request, raw_in) \
             VALUES (7, 's', 'dead', {received_at}, 0, '01', 7)"
        ));
        for (request, at) in [("01A", 0), ("01B", received_at - SWEEP_MILLIS_MAX), ("01C", received_at + 1)] {
            note_by(&mut journal, &origin(request), at, "discard", &[7, 8]);
        }
        let reader = Reader::open(directory.path()).unwrap();
        let found = |event: u64| -> Vec<String> {
            let page = reader.commands(Some(EventId(event)), None, 10).unwrap();
            page.commands.into_iter().map(|one| one.request_id).collect()
        };
        assert_eq!(found(7), ["01C", "01B"], "with a sweep that was under way when it came");
        assert_eq!(found(8), ["01C", "01B", "01A"], "of one that is not kept, all");
    }

    #[test]
    fn only_the_newest_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let mut batch = journal.begin().unwrap();
        for number in 0..COMMANDS_KEPT + 10 {
            let (origin, on) = (origin(&number.to_string()), CommandTarget::Events(vec![EventId(1)]));
            batch.note_command(&NewCommand { at: WallTime(0), command: "discard", origin: &origin, on }).unwrap();
        }
        batch.commit().unwrap();
        let reader = Reader::open(directory.path()).unwrap();
        let kept = usize::try_from(COMMANDS_KEPT).unwrap();
        let page = reader.commands(None, None, kept + 1).unwrap();
        assert_eq!(page.commands.len(), kept);
        assert_eq!(page.commands[0].request_id, (COMMANDS_KEPT + 9).to_string());
    }
}
