//! The journal as far as a restart can tell: rows that were committed. Kept in memory, because two thousand worlds
//! make half a million commits, and a real sync for each would take an hour. A few worlds have the real journal
//! beside it, which must tell the same.

use std::collections::{BTreeMap, BTreeSet};

use gander::exports::clock::{Now, WallTime};
use gander::exports::event::{Action, EventId, Outcome, Priority, Queued, SourceId, State, UpdateHash};
use gander::exports::journal::StoredRetry;
use gander::exports::journal::dedup::{AcceptReason, Effect, Occurrences};

use crate::files::Files;
use crate::senders::key_id;

/// What survives the process.
#[derive(Debug)]
pub struct Disk {
    rows: BTreeMap<EventId, Row>,
    /// Resolves that ended because nothing of their incident was sent.
    superseded: BTreeSet<EventId>,
    /// Rows of which only what their keys rest on is kept: each goes when its key goes on.
    of_keys: BTreeSet<EventId>,
    /// Whether those on which no key rests were looked for since the journal was opened.
    swept: bool,
    files: Option<Files>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: EventId,
    pub key: usize,
    pub action: Action,
    pub update: UpdateHash,
    pub occurrences: Occurrences,
    /// On which its key's state rested until now.
    pub follows: Option<EventId>,
    pub priority: Priority,
    pub novelty: AcceptReason,
    pub tried: Option<StoredRetry>,
    pub acknowledged_at: WallTime,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub settled_at: WallTime,
}

/// What is to become durable together.
#[derive(Debug)]
pub struct Batch {
    next: EventId,
    pub appended: Vec<Row>,
    pub tried: Vec<(EventId, StoredRetry)>,
    pub settled: Vec<(EventId, State, Option<Outcome>, WallTime)>,
}

impl Disk {
    pub fn new(files: Option<Files>) -> Disk {
        Disk { rows: BTreeMap::new(), superseded: BTreeSet::new(), of_keys: BTreeSet::new(), swept: false, files }
    }

    /// The process starts, or goes on after a fault.
    pub fn opened(&mut self) {
        if let Some(files) = &mut self.files {
            files.check(self.rows.values());
        }
        self.swept = false;
    }

    pub fn begin(&self) -> Batch {
        // The newest row is never removed, so the number after it was never used.
        let next = EventId(self.last().map_or(1, |last| last.0 + 1));
        Batch { next, appended: Vec::new(), tried: Vec::new(), settled: Vec::new() }
    }

    pub fn commit(&mut self, batch: Batch) {
        if let Some(files) = &mut self.files {
            files.commit(&batch);
        }
        for row in batch.appended {
            if row.follows.is_some_and(|before| self.of_keys.remove(&before)) {
                self.rows.retain(|id, _| Some(*id) != row.follows);
            }
            self.rows.insert(row.id, row);
        }
        for (id, tried) in batch.tried {
            if let Some(row) = self.rows.get_mut(&id).filter(|row| row.state == State::Queued) {
                row.tried = Some(tried);
            }
        }
        for (id, state, outcome, at) in batch.settled {
            if let Some(row) = self.rows.get_mut(&id).filter(|row| row.state == State::Queued) {
                (row.state, row.outcome, row.settled_at) = (state, outcome, at);
            }
        }
    }

    pub fn note_superseded(&mut self, id: EventId) {
        self.superseded.insert(id);
    }

    /// As the journal tells it, with what a batch is about to change.
    pub fn may_be_open(&self, key: usize, batch: &Batch) -> bool {
        let rows = self.rows.values().chain(&batch.appended).filter(|row| row.key == key);
        let mut ends = rows.map(|row| {
            let settled = batch.settled.iter().find(|(id, ..)| *id == row.id && row.state == State::Queued);
            let (state, outcome) =
                settled.map_or((row.state, row.outcome), |(_, state, outcome, _)| (*state, *outcome));
            (row, state, outcome)
        });
        let last = ends.rfind(|(_, state, outcome)| {
            let unknown = matches!(outcome, Some(Outcome::Unmatched | Outcome::NotResolved));
            matches!(state, State::Dead | State::Ended) || unknown
        });
        last.is_some_and(|(row, ..)| row.action == Action::Trigger || !self.superseded.contains(&row.id))
    }

    /// Every row, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub fn get(&self, id: EventId) -> Option<&Row> {
        self.rows.get(&id)
    }

    pub fn last(&self) -> Option<EventId> {
        self.rows.last_key_value().map(|(last, _)| *last)
    }

    /// Removes delivered rows that ended before, where `in_order` oldest first up to one that did not; but of those that
    /// `keep` asks for what their keys rest on stays, and none without effect whose key has an older dead letter, since a person may ask to replay that, and
    /// not the newest.
    pub fn prune(&mut self, before: WallTime, in_order: bool, keep: impl Fn(EventId, usize) -> bool) {
        if let Some(files) = &mut self.files {
            files.prune(before, &keep);
        }
        if !std::mem::replace(&mut self.swept, true) {
            let gone = |id: &EventId| self.rows.get(id).is_some_and(|row| !keep(*id, row.key));
            let gone: Vec<EventId> = self.of_keys.iter().copied().filter(gone).collect();
            for id in gone {
                self.of_keys.remove(&id);
                self.rows.remove(&id);
            }
        }
        let newest = self.last();
        let old: Vec<&Row> = self
            .rows
            .values()
            .filter(|row| matches!(row.state, State::Delivered | State::Ended) && Some(row.id) != newest)
            .filter(|row| !self.of_keys.contains(&row.id))
            .take_while(|row| !in_order || row.settled_at < before)
            .filter(|row| row.settled_at < before)
            .filter(|row| {
                Effect::of(row.state, row.outcome) == Some(Effect::Confirmed) || !self.follows_a_dead_letter(row)
            })
            .collect();
        let (rest, old): (Vec<&Row>, Vec<&Row>) = old.into_iter().partition(|row| keep(row.id, row.key));
        let old: Vec<EventId> = old.into_iter().map(|row| row.id).collect();
        self.of_keys.extend(rest.into_iter().map(|row| row.id));
        for id in old {
            self.rows.remove(&id);
        }
    }
}

impl Disk {
    fn follows_a_dead_letter(&self, row: &Row) -> bool {
        self.rows.range(..row.id).any(|(_, older)| older.key == row.key && older.state == State::Dead)
    }
}

impl Row {
    /// As a start finds it.
    pub fn queued(&self, now: Now) -> Queued {
        let Row { id, action, priority, novelty, .. } = *self;
        let (reopening, continues) = (novelty == AcceptReason::Reopening, true);
        let acknowledged = now.monotonic.before(now.wall.since(self.acknowledged_at));
        Queued { id, key: key_id(self.key), source: SourceId(0), action, priority, reopening, continues, acknowledged }
    }
}

impl Batch {
    /// Appends an event as queued; its number is told.
    pub fn append(&mut self, row: Row) -> EventId {
        let id = self.next;
        self.next = EventId(id.0 + 1);
        self.appended.push(Row { id, ..row });
        id
    }

    pub fn store_retry(&mut self, id: EventId, tried: StoredRetry) {
        self.tried.push((id, tried));
    }

    pub fn settle(&mut self, id: EventId, state: State, outcome: Option<Outcome>, at: WallTime) {
        self.settled.push((id, state, outcome, at));
    }

    pub fn is_empty(&self) -> bool {
        self.appended.is_empty() && self.tried.is_empty() && self.settled.is_empty()
    }
}
