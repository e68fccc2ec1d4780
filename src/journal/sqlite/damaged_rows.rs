//! Turns rows whose checksum does not match into dead letters in place: they are visible and never sent.

use rusqlite::params;
use rusqlite::types::{Value, ValueRef};

use super::sum::{NO_SUM, STANDING, STANDING_READ, Standing};
use super::values::sql;
use super::{Damaged, Error, Journal};
use crate::clock::WallTime;
use crate::event::{Damage, EventId, Outcome, State};

impl Journal {
    /// Makes dead letters of rows, all or none. A finished event stays finished, with the damage as its reason.
    pub fn make_dead_letters(&mut self, damaged: &[Damaged], now: WallTime) -> Result<(), Error> {
        // A row with an altered indexed column can't be updated while the index has the old value.
        self.connection.execute_batch("BEGIN IMMEDIATE; REINDEX event")?;
        let mut totals = self.totals.clone();
        let done = damaged.iter().try_for_each(|row| {
            let standing = self.make_dead_letter(*row, now)?;
            totals.add(&self.source_of(row.id)?, standing.state, standing.bytes);
            Ok(())
        });
        if let Err(error) = done.and_then(|()| Ok(self.connection.execute_batch("COMMIT")?)) {
            // The recorder reopens a connection that fails here too.
            let _ = self.connection.execute_batch("ROLLBACK");
            return Err(error);
        }
        self.totals = totals;
        Ok(())
    }

    fn make_dead_letter(&self, damaged: Damaged, now: WallTime) -> Result<Standing, Error> {
        let Damaged { id, damage } = damaged;
        let before = self.standing_of_damaged(id)?;
        self.make_readable(id)?;
        let after = Standing {
            state: if before.state == State::Queued { State::Dead } else { before.state },
            reason: Some(damage.reason().to_owned()),
            settled_at: before.settled_at.or(Some(now.0)),
            ..before
        };
        // If the decision is in doubt, the checksum becomes one that never matches.
        let sum = (damage == Damage::Row).then_some(NO_SUM);
        self.connection
            .prepare_cached(
                "UPDATE event SET state = ?2, outcome = ?3, reason = ?4, attempts = ?5, settled_at = ?6, tried_since = ?7, \
                 retry_at = ?8, bytes = ?9, state_sum = ?10, sum = coalesce(?11, sum), tried_ms = ?12, asked_ms = ?13 \
                 WHERE id = ?1",
            )?
            .execute(params![
                sql(id),
                after.state.as_str(),
                after.outcome.map(Outcome::as_str),
                after.reason,
                after.attempts,
                after.settled_at,
                after.tried_since,
                after.retry_at,
                after.bytes,
                after.sum(id),
                sum,
                after.tried_ms,
                after.asked_ms
            ])?;
        Ok(after)
    }

    /// The last valid state, or that of an event that was never tried.
    fn standing_of_damaged(&self, id: EventId) -> Result<Standing, Error> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {STANDING}, (SELECT coalesce(length(raw), 0) + coalesce(length(body), 0) \
             + coalesce(length(element), 0) FROM content WHERE content.id = event.id) FROM event WHERE id = ?1"
        ))?;
        let mut rows = statement.query([sql(id)])?;
        // The full scan found it, but its number does not: the tree above it is damaged.
        let Some(row) = rows.next()? else {
            return Err(Error::Damaged(format!("event {id} is not found by its number")));
        };
        Ok(match Standing::read(row, 0, id) {
            Ok(standing) => standing,
            Err(_) => Standing::new(State::Queued, row.get(STANDING_READ).unwrap_or(0)),
        })
    }

    /// Gives each column its type in the schema, so that readers need not handle damage.
    fn make_readable(&self, id: EventId) -> Result<(), Error> {
        for (column, kind) in COLUMNS {
            let mut statement = self.connection.prepare_cached(&format!("SELECT {column} FROM event WHERE id = ?1"))?;
            let readable = statement.query_row([sql(id)], |row| Ok(kind.readable(row.get_ref(0)?)))?;
            if let Some(value) = readable {
                self.connection
                    .execute(&format!("UPDATE event SET {column} = ?2 WHERE id = ?1"), params![sql(id), value])?;
            }
        }
        Ok(())
    }
}

/// The type of a column.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
}

impl Kind {
    /// The replacement for a value of another type.
    fn readable(self, value: ValueRef<'_>) -> Option<Value> {
        match (self, value) {
            (_, ValueRef::Null) | (Kind::Number, ValueRef::Integer(_)) => None,
            (Kind::Text, ValueRef::Text(text)) if std::str::from_utf8(text).is_ok() => None,
            (Kind::Text, ValueRef::Text(text) | ValueRef::Blob(text)) => {
                Some(Value::Text(String::from_utf8_lossy(text).into_owned()))
            }
            (Kind::Text, _) => Some(Value::Text(String::new())),
            (Kind::Number, _) => Some(Value::Integer(0)),
        }
    }
}

/// The columns that are not rewritten with [`Standing`].
const COLUMNS: [(&str, Kind); 16] = [
    ("source", Kind::Text),
    ("action", Kind::Text),
    ("incident_key", Kind::Text),
    ("rule", Kind::Text),
    ("novelty", Kind::Text),
    ("received_at", Kind::Number),
    ("request", Kind::Text),
    ("update_hash", Kind::Number),
    ("occurrence", Kind::Text),
    ("past_occurrence", Kind::Text),
    ("replay_of", Kind::Number),
    ("charset", Kind::Text),
    ("priority", Kind::Text),
    ("sender_request", Kind::Text),
    ("raw_in", Kind::Number),
    ("duplicates", Kind::Number),
];

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::sum::FIXED;
    use super::*;
    use crate::event::{Action, Occurrence, Priority, Settlement, UpdateHash};
    use crate::journal::Shares;
    use crate::journal::dedup::Occurrences;
    use crate::journal::fact::{NewEvent, NewRefusal, Raw};
    use crate::journal::known::Blob;
    use crate::journal::request::StoredRetry;
    use crate::journal::sqlite::{Config, Filter, Found, Lock, Reader, Sendable};
    use crate::journal::state::RestoredEvent;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    struct Fixture {
        journal: Journal,
        lock: Lock,
    }

    fn config(directory: &Path) -> Config {
        Config {
            data_dir: directory.to_owned(),
            max_events: 100,
            max_bytes: 1 << 20,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 3,
            shares: Shares::default(),
            reserve: None,
        }
    }

    impl Fixture {
        fn open(directory: &Path) -> (Fixture, Vec<RestoredEvent>, Vec<Damaged>) {
            let lock = Lock::take(directory).unwrap();
            let mut journal = Journal::open(&config(directory), &lock, NOW).unwrap();
            let mut events = Vec::new();
            let damaged = journal
                .restore(|found| match found {
                    Found::Event(event) => events.push(event),
                    Found::Damaged(_) => {}
                })
                .unwrap();
            (Fixture { journal, lock }, events, damaged)
        }

        /// Three events of one key; the first was delivered, the second tried.
        fn with_three_events(directory: &Path) -> (Fixture, [EventId; 3]) {
            let (mut fixture, ..) = Fixture::open(directory);
            let mut batch = fixture.journal.begin().unwrap();
            let occurrences =
                Occurrences { last: Some(Occurrence("[2]".into())), past: Some(Occurrence("[1]".into())) };
            let ids = [b"{\"n\":1}", b"{\"n\":2}", b"{\"n\":3}"].map(|body| {
                let event = NewEvent {
                    source: "servicepilot",
                    action: Action::Trigger,
                    incident_key: "key",
                    rule: "problem",
                    priority: Priority::High,
                    novelty: "opening",
                    acknowledged_at: NOW,
                    request: "01REQUEST",
                    sender_request: None,
                    trace: None,
                    raw: Raw::Bytes(b"{}"),
                    charset: None,
                    body,
                    update: UpdateHash(7),
                    occurrences: occurrences.clone(),
                    follows: None,
                    replay_of: Some(EventId(1)),
                };
                batch.append(event).unwrap()
            });
            batch
                .settle(&Settlement {
                    id: ids[0],
                    state: State::Delivered,
                    outcome: Some(Outcome::Created),
                    reason: None,
                    attempts: 1,
                    at: NOW,
                })
                .unwrap();
            batch
                .store_retry(
                    ids[1],
                    StoredRetry {
                        attempts: 2,
                        age: Duration::from_secs(9),
                        retry_at: WallTime(NOW.0 + 60_000),
                        asked: None,
                    },
                    NOW,
                )
                .unwrap();
            batch.commit().unwrap();
            (fixture, ids)
        }

        /// Changes the file behind SQLite's back, as a failing disk does.
        fn alter(&self, statement: &str) {
            self.journal
                .connection
                .execute_batch(&format!("DROP TRIGGER IF EXISTS event_unsummed; {statement}"))
                .unwrap();
        }
    }

    /// Alters the second of three events and starts again.
    fn after(alteration: &str) -> (tempfile::TempDir, Fixture, [EventId; 3], Vec<RestoredEvent>, Vec<Damaged>) {
        let directory = tempfile::tempdir().unwrap();
        let (fixture, ids) = Fixture::with_three_events(directory.path());
        fixture.alter(&alteration.replace("?1", &ids[1].to_string()));
        drop(fixture);
        let (fixture, events, damaged) = Fixture::open(directory.path());
        (directory, fixture, ids, events, damaged)
    }

    #[test]
    fn a_row_that_was_altered_is_found_and_becomes_a_dead_letter_that_is_never_sent() {
        for (altered, damage) in [
            ("source = 'servicepiloT'", Damage::Row),
            ("source = x'ff00'", Damage::Row),
            ("action = 'resolve'", Damage::Row),
            ("action = 'trigges'", Damage::Row),
            ("action = NULL", Damage::Row),
            ("incident_key = 'kex'", Damage::Row),
            ("incident_key = CAST(x'6bff79' AS TEXT)", Damage::Row),
            ("rule = 'problen'", Damage::Row),
            ("novelty = 'reopening'", Damage::Row),
            ("received_at = received_at + 1", Damage::Row),
            ("received_at = 'then'", Damage::Row),
            ("request = '02REQUEST'", Damage::Row),
            ("update_hash = 6", Damage::Row),
            ("occurrence = '[3]'", Damage::Row),
            ("past_occurrence = NULL", Damage::Row),
            ("replay_of = 3", Damage::Row),
            ("charset = 'latin1'", Damage::Row),
            ("priority = 'low'", Damage::Row),
            ("sender_request = 'x'", Damage::Row),
            ("sum = sum + 1", Damage::Row),
            ("state = 'delivered'", Damage::State),
            ("state = 'queuee'", Damage::State),
            ("outcome = 'created'", Damage::State),
            ("attempts = 3", Damage::State),
            ("attempts = -1", Damage::State),
            ("attempts = 4294967296", Damage::State),
            ("tried_since = 1", Damage::State),
            ("tried_ms = 1", Damage::State),
            ("asked_ms = 1", Damage::State),
            ("retry_at = 9223372036854775807", Damage::State),
            ("bytes = 9223372036854775807", Damage::State),
            ("bytes = -1", Damage::State),
            ("state_sum = 'x'", Damage::State),
        ] {
            let (directory, mut fixture, ids, events, damaged) =
                after(&format!("UPDATE event SET {altered} WHERE id = ?1"));
            assert_eq!(damaged, [Damaged { id: ids[1], damage }], "{altered}");
            assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [ids[0], ids[2]], "{altered}");
            fixture.journal.make_dead_letters(&damaged, NOW).unwrap();
            let totals = fixture.journal.totals();
            assert_eq!((totals.queued, totals.dead), (1, 1), "{altered}");

            let reader = Reader::open(directory.path()).unwrap();
            let filter = Filter { states: vec![State::Dead], limit: 10, ..Filter::default() };
            let dead = reader.list(&filter).unwrap().events;
            assert_eq!(dead.len(), 1, "{altered}");
            assert_eq!(dead[0].reason.as_deref(), Some(damage.reason()), "{altered}");
            assert!(reader.details(ids[1]).unwrap().is_some(), "{altered}");
            // The decision stays in doubt; whether it was delivered is for a person to judge.
            let sendable = reader.outgoing(ids[1]).unwrap();
            assert_eq!(sendable == Sendable::Damaged(damage), damage == Damage::Row, "{altered}: {sendable:?}");
            drop(fixture);
            // It is logged once, and counts as a dead letter.
            let (fixture, _, damaged) = Fixture::open(directory.path());
            assert_eq!(damaged, [], "{altered}");
            assert_eq!(fixture.journal.totals(), totals, "{altered}");
        }
    }

    #[test]
    fn a_finished_event_that_was_altered_stays_finished() {
        let directory = tempfile::tempdir().unwrap();
        let (fixture, ids) = Fixture::with_three_events(directory.path());
        fixture.alter(&format!("UPDATE event SET incident_key = 'kex' WHERE id = {}", ids[0]));
        drop(fixture);
        let (mut fixture, _, damaged) = Fixture::open(directory.path());
        fixture.journal.make_dead_letters(&damaged, NOW).unwrap();
        let details = Reader::open(directory.path()).unwrap().details(ids[0]).unwrap().unwrap();
        assert_eq!((&*details.summary.state, details.summary.outcome.as_deref()), ("delivered", Some("created")));
        assert_eq!(details.summary.reason.as_deref(), Some(Damage::Row.reason()));
    }

    #[test]
    fn a_body_that_was_altered_or_is_anothers_is_never_sent_nor_replayed() {
        for (altered, damage) in [
            ("UPDATE content SET body = x'7b7d' WHERE id = ?1", Damage::Body),
            ("UPDATE content SET body = CAST(body AS TEXT) || ' ' WHERE id = ?1", Damage::Body),
            ("UPDATE content SET body = NULL WHERE id = ?1", Damage::NoBody),
            ("UPDATE content SET sum = sum + 1 WHERE id = ?1", Damage::Body),
            ("DELETE FROM content WHERE id = ?1", Damage::NoBody),
            // Another event's, with its checksum.
            (
                "UPDATE content SET (body, sum) = (SELECT body, sum FROM content WHERE id = ?1 + 1) WHERE id = ?1",
                Damage::Body,
            ),
        ] {
            let (directory, mut fixture, ids, _, damaged) = after(altered);
            assert_eq!(damaged, [], "bodies are read when they are sent");
            let reader = Reader::open(directory.path()).unwrap();
            assert_eq!(reader.outgoing(ids[1]).unwrap(), Sendable::Damaged(damage), "{altered}");
            assert!(matches!(reader.outgoing(ids[2]).unwrap(), Sendable::Sound(_)), "{altered}");
            let batch = fixture.journal.begin().unwrap();
            let body = batch.body(ids[1]).unwrap();
            assert_eq!(matches!(body, Blob::Gone), altered.starts_with("DELETE"), "{altered}");
            assert!(!matches!(body, Blob::Sound(_)), "{altered}");
        }
    }

    #[test]
    fn a_refused_payload_that_was_altered_is_not_decided_again() {
        for altered in [
            "UPDATE content SET element = '{\"n\":2}'",
            "UPDATE content SET body = '[]'",
            "UPDATE event SET source = 'other'",
            "UPDATE content SET raw = '[1,2]'",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (mut fixture, ..) = Fixture::open(directory.path());
            let mut batch = fixture.journal.begin().unwrap();
            let refusal = NewRefusal {
                source: "servicepilot",
                received_at: NOW,
                request: "01REQUEST",
                sender_request: None,
                trace: None,
                raw: Raw::Bytes(b"[1]"),
                charset: None,
                element: Some(b"{\"n\":1}"),
                reason: "validation",
                errors: b"[{}]".into(),
            };
            let id = batch.refuse(refusal).unwrap();
            batch.commit().unwrap();
            let reader = Reader::open(directory.path()).unwrap();
            assert!(reader.refused(id).unwrap().unwrap().raw.is_some());
            fixture.alter(altered);
            let payload = reader.refused(id).unwrap();
            assert!(payload.is_none_or(|payload| payload.raw.is_none()), "{altered}");
        }
    }

    #[test]
    fn an_end_that_the_version_before_wrote_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let (fixture, ids) = Fixture::with_three_events(directory.path());
        fixture
            .journal
            .connection
            .execute(
                "UPDATE event SET state = ?2, outcome = ?3, reason = ?4, attempts = ?5, settled_at = ?6 WHERE id = ?1",
                params![sql(ids[1]), "delivered", "created", None::<String>, 3, NOW.0],
            )
            .unwrap();
        drop(fixture);
        let (_fixture, events, damaged) = Fixture::open(directory.path());
        assert_eq!(damaged, []);
        assert_eq!(events[1].state, State::Delivered);
    }

    #[test]
    fn every_column_of_an_event_has_a_part_in_a_checksum_or_is_known_to_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let (fixture, ..) = Fixture::open(directory.path());
        let mut statement = fixture.journal.connection.prepare("SELECT name FROM pragma_table_info('event')").unwrap();
        let names: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let asked = format!("{FIXED}, {STANDING}");
        let read: Vec<&str> = asked.split(", ").map(|name| name.trim_start_matches("event.")).collect();
        let without: Vec<&str> = names.iter().map(String::as_str).filter(|name| !read.contains(name)).collect();
        // A count for people; the place of the raw body, whose own checksum includes its request; the later event, which
        // a person may override; and the trace, which no event waits for.
        assert_eq!(without, ["duplicates", "raw_in", "later", "trace"]);
    }

    #[test]
    fn a_row_that_its_number_does_not_lead_to_is_no_matter_of_that_row() {
        let directory = tempfile::tempdir().unwrap();
        let (mut fixture, ids) = Fixture::with_three_events(directory.path());
        let missing = Damaged { id: EventId(ids[2].0 + 1), damage: Damage::Row };
        assert!(matches!(fixture.journal.make_dead_letters(&[missing], NOW), Err(Error::Damaged(_))));
        assert!(fixture.lock.directory().exists());
    }
}
