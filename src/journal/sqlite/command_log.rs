//! The commands of people: who did what, when, and to which events. Written by the commit that carries a command out.

use std::sync::Arc;

use rusqlite::{Row, params};
use serde::Serialize;

use super::batch::Batch;
use super::values::shown;
use super::{Error, Reader};
use crate::clock::WallTime;
use crate::event::{EventId, HoldTarget};

/// Who gave a command, and with which request. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOrigin {
    /// The relay's own id of the request; what one request asks for is one row.
    pub request_id: Arc<str>,
    /// The way by which the person was let in, and the address of the connection.
    pub by: Arc<str>,
    /// The filter that chose the events, as JSON; none where each was named.
    pub selection: Option<Arc<str>>,
}

/// A command that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct NewCommand<'a> {
    pub at: WallTime,
    /// `replay`, `discard`, `hold` or `release`.
    pub command: &'a str,
    pub origin: &'a CommandOrigin,
    pub on: CommandTarget<'a>,
}

/// The events, or the key or source, that a command was about.
#[derive(Clone, Copy, Debug)]
pub enum CommandTarget<'a> {
    Events(&'a [EventId]),
    Held(&'a HoldTarget),
}

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
    /// Events that it was carried out for.
    pub count: u64,
    pub events: Vec<String>,
}

/// A page of commands, newest first, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandPage {
    pub commands: Vec<CommandRecord>,
    pub next: Option<String>,
}

impl Batch<'_> {
    /// Notes a command that this batch carries out. Events of the request that was noted last are added to its row.
    pub fn note_command(&mut self, new: NewCommand<'_>) -> Result<(), Error> {
        let NewCommand { at, command, origin, on } = new;
        let CommandOrigin { request_id, by, selection } = origin;
        let (events, held) = match on {
            CommandTarget::Events([]) => return Ok(()),
            CommandTarget::Events(events) => (events, None),
            CommandTarget::Held(target) => (&[][..], Some(target)),
        };
        let listed: String = events.iter().map(|event| format!("{event},")).collect();
        let added = self
            .prepare(
                "UPDATE command_log SET count = count + ?1, events = events || ?2 \
                 WHERE id = (SELECT max(id) FROM command_log) AND request = ?3 AND command = ?4",
            )?
            .execute(params![events.len(), listed, &**request_id, command])?;
        if added > 0 {
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
            // A filter that was cut off would be another one.
            selection.as_deref().filter(|selection| selection.len() <= TEXT_BYTES_MAX),
            held.map(|target| shortened(&target.source)),
            held.and_then(|target| target.incident_key.as_deref()).map(shortened),
            events.len(),
            format!(",{listed}"),
        ])?;
        self.prepare("DELETE FROM command_log WHERE id <= (SELECT max(id) FROM command_log) - ?1")?
            .execute([COMMANDS_KEPT])?;
        Ok(())
    }
}

impl Reader {
    /// The newest commands before the one with the number `after`; with `event` only those that were about it.
    pub fn commands(&self, event: Option<EventId>, after: Option<u64>, limit: usize) -> Result<CommandPage, Error> {
        self.with(|connection| {
            // A journal last opened by an earlier version has no such table.
            if !connection.table_exists(None, "command_log")? {
                return Ok(CommandPage { commands: Vec::new(), next: None });
            }
            let after = after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX);
            let event = event.map(|event| format!(",{event},"));
            let mut commands = connection
                .prepare_cached(
                    "SELECT id, at, command, given_by, request, selection, source, incident_key, count, events \
                     FROM command_log WHERE id < ?1 AND (?2 IS NULL OR instr(events, ?2) > 0) ORDER BY id DESC LIMIT ?3",
                )?
                .query_map(params![after, event, limit.saturating_add(1)], record)?
                .collect::<Result<Vec<_>, _>>()?;
            let more = commands.len() > limit;
            commands.truncate(limit);
            let next = commands.last().filter(|_| more).map(|last| last.id.clone());
            Ok(CommandPage { commands, next })
        })
    }
}

fn record(row: &Row<'_>) -> Result<CommandRecord, rusqlite::Error> {
    let text = |column| Ok::<_, rusqlite::Error>(shown(row, column)?.unwrap_or_default());
    let events = text(9)?;
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

/// Years of what a person does by hand; a sweep over a million events fills it.
const COMMANDS_KEPT: i64 = 10_000;
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
        let events: Vec<EventId> = events.iter().map(|id| EventId(*id)).collect();
        let mut batch = journal.begin().unwrap();
        let on = CommandTarget::Events(&events);
        batch.note_command(NewCommand { at: WallTime(1_000), command, origin: &origin(request), on }).unwrap();
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
    fn what_one_request_asks_for_is_one_row_and_is_found_by_each_of_its_events() {
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
    fn only_the_newest_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let mut batch = journal.begin().unwrap();
        for number in 0..COMMANDS_KEPT + 10 {
            let (origin, event) = (origin(&number.to_string()), [EventId(1)]);
            let on = CommandTarget::Events(&event);
            batch.note_command(NewCommand { at: WallTime(0), command: "discard", origin: &origin, on }).unwrap();
        }
        batch.commit().unwrap();
        let reader = Reader::open(directory.path()).unwrap();
        let kept = usize::try_from(COMMANDS_KEPT).unwrap();
        let page = reader.commands(None, None, kept + 1).unwrap();
        assert_eq!(page.commands.len(), kept);
        assert_eq!(page.commands[0].request_id, (COMMANDS_KEPT + 9).to_string());
    }
}
