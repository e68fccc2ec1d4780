//! The real journal beside the model of it: it is written the same, and after a kill or a fault it is opened anew
//! and must tell the same.

use std::time::Duration;

use gander::exports::clock::WallTime;
use gander::exports::event::{EventId, KeyId, Reason, Settlement};
use gander::exports::journal::Shares;
use gander::exports::journal::{self, Found, Journal, Lock, NewEvent, Raw, RestoredEvent};
use tempfile::TempDir;

use crate::disk::{Batch, Row, Settled};
use crate::senders::SOURCE;

#[derive(Debug)]
pub struct Files {
    lock: Lock,
    /// None only while it is opened anew.
    journal: Option<Journal>,
    /// Removed when the world ends.
    _directory: TempDir,
}

impl Files {
    pub fn new() -> Files {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let mut files = Files { lock, journal: None, _directory: directory };
        files.open();
        files
    }

    pub fn commit(&mut self, model: &Batch) {
        let mut batch = self.journal.as_mut().unwrap().begin().unwrap();
        for row in &model.appended {
            let id = batch.append(NewEvent {
                source: SOURCE,
                action: row.action,
                incident_key: &row.key.to_string(),
                rule: "rule",
                priority: row.priority,
                novelty: row.novelty.as_str(),
                acknowledged_at: row.acknowledged_at,
                request: "request",
                sender_request: None,
                trace: None,
                raw: Raw::Bytes(b"{}"),
                charset: None,
                body: b"{}",
                update: row.update,
                occurrences: row.occurrences.clone(),
                follows: row.follows,
                replay_of: None,
            });
            assert_eq!(id.unwrap(), row.id);
        }
        for (id, tried) in &model.tried {
            batch.store_retry(*id, *tried, WallTime(0)).unwrap();
        }
        for settled in &model.settled {
            let Settled { id, state, outcome, superseded, at } = *settled;
            let reason = superseded.then_some(Reason::Superseded);
            batch.settle(&Settlement { id, state, outcome, reason, attempts: 1, at }).unwrap();
        }
        for last in &model.forgotten {
            batch.drop_key_state(*last).unwrap();
        }
        batch.commit().unwrap();
    }

    pub fn prune(&mut self, before: WallTime, keep: impl Fn(EventId, usize) -> bool) {
        let mut batch = self.journal.as_mut().unwrap().begin().unwrap();
        batch.prune(Some(before), 100, |id, _, key| keep(id, key.parse().unwrap())).unwrap();
        batch.commit().unwrap();
    }

    /// What a start finds is what the model holds.
    pub fn check<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) {
        let found = self.open();
        let key = |row: &Row| KeyId::new(SOURCE, &row.key.to_string());
        let expected: Vec<RestoredEvent> = rows.map(|row| RestoredEvent { key: key(row), ..row.restored() }).collect();
        assert_eq!(found, expected, "the journal tells something else than it was told");
    }

    fn open(&mut self) -> Vec<RestoredEvent> {
        self.journal = None;
        let config = journal::Config {
            data_dir: self.lock.directory().to_owned(),
            max_events: 1_000_000,
            max_bytes: 1 << 40,
            keep_delivered: Duration::ZERO,
            keep_refused: 0,
            shares: Shares::default(),
            reserve: None,
        };
        // The model's numbers start at 1.
        let journal = self.journal.insert(Journal::open(&config, &self.lock, WallTime(1)).unwrap());
        let mut found = Vec::new();
        let damaged = journal.restore(|row| match row {
            Found::Event(event) => found.push(event),
            Found::Damaged(id) => panic!("event {id} is damaged"),
        });
        assert_eq!(damaged.unwrap(), []);
        found
    }
}
