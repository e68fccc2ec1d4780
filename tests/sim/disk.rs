//! The journal as far as a restart can tell: rows that were committed. Kept in memory, because two thousand worlds
//! make half a million commits, and a real sync for each would take an hour. A few worlds have the real journal
//! beside it, which must tell the same.

use std::collections::{BTreeMap, BTreeSet};

use gander::exports::clock::{Now, WallTime};
use gander::exports::event::{Action, EventId, Outcome, Priority, Queued, Reason, SourceId, State, UpdateHash};
use gander::exports::journal::dedup::{AcceptReason, Effect, Occurrences};
use gander::exports::journal::fact::Fact;
use gander::exports::journal::{RestoredEvent, StoredRetry};

use crate::files::Files;
use crate::senders::key_id;

/// What survives the process.
#[derive(Debug)]
pub struct Disk {
    rows: BTreeMap<EventId, Row>,
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
    /// It ended because nothing of its incident was sent.
    pub superseded: bool,
    pub settled_at: WallTime,
}

/// What is to become durable together.
#[derive(Debug, Default)]
pub struct Batch {
    pub appended: Vec<Row>,
    pub tried: Vec<(EventId, StoredRetry)>,
    pub settled: Vec<Settled>,
    /// Events on which keys rested that are forgotten.
    pub forgotten: Vec<EventId>,
}

/// The end of an event.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub id: EventId,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub superseded: bool,
    pub at: WallTime,
}

impl Disk {
    pub fn new(files: Option<Files>) -> Disk {
        Disk { rows: BTreeMap::new(), of_keys: BTreeSet::new(), swept: false, files }
    }

    /// The process starts, or goes on after a fault.
    pub fn opened(&mut self) {
        if let Some(files) = &mut self.files {
            files.check(self.rows.values());
        }
        self.swept = false;
    }

    /// The number of the next event. The newest row is never removed, so the one after it was never used.
    pub fn next(&self) -> EventId {
        EventId(self.last().map_or(1, |last| last.0 + 1))
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
        for Settled { id, state, outcome, superseded, at } in batch.settled {
            if let Some(row) = self.rows.get_mut(&id).filter(|row| row.state == State::Queued) {
                (row.state, row.outcome, row.superseded, row.settled_at) = (state, outcome, superseded, at);
            }
        }
        for id in batch.forgotten {
            if self.of_keys.remove(&id) {
                self.rows.remove(&id);
            }
        }
    }

    /// As the journal tells it.
    pub fn may_be_open(&self, key: usize) -> bool {
        let last = self.rows.values().filter(|row| row.key == key).rfind(|row| {
            let unknown = matches!(row.outcome, Some(Outcome::Unmatched | Outcome::NotResolved));
            matches!(row.state, State::Dead | State::Ended) || unknown
        });
        last.is_some_and(|row| row.action == Action::Trigger || !row.superseded)
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

impl Row {
    /// As a start reads it.
    pub fn restored(&self) -> RestoredEvent {
        let queued = self.state == State::Queued;
        RestoredEvent {
            id: self.id,
            source: crate::senders::SOURCE.into(),
            key: key_id(self.key),
            action: self.action,
            // What only a delivery needs is not told of what needs none.
            priority: if queued { self.priority } else { Priority::default() },
            acknowledged_at: self.acknowledged_at,
            state: self.state,
            outcome: self.outcome.filter(|_| self.state == State::Delivered),
            update: self.update,
            occurrences: self.occurrences.clone(),
            reopening: queued && self.novelty == AcceptReason::Reopening,
            tried: self.tried.filter(|_| queued),
        }
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        let Batch { appended, tried, settled, forgotten } = self;
        appended.is_empty() && tried.is_empty() && settled.is_empty() && forgotten.is_empty()
    }

    /// The rows of facts, as far as a restart can tell them.
    pub fn of(facts: &[Fact<'_>]) -> Batch {
        let mut batch = Batch::default();
        for fact in facts {
            match fact {
                Fact::Taken { id, event, .. } => batch.appended.push(Row {
                    id: *id,
                    key: event.incident_key.parse().unwrap(),
                    action: event.action,
                    update: event.update,
                    occurrences: event.occurrences.clone(),
                    follows: event.follows,
                    priority: event.priority,
                    novelty: AcceptReason::ALL.into_iter().find(|reason| reason.as_str() == event.novelty).unwrap(),
                    tried: None,
                    acknowledged_at: event.acknowledged_at,
                    state: State::Queued,
                    outcome: None,
                    superseded: false,
                    settled_at: event.acknowledged_at,
                }),
                Fact::Tried { event, retry, .. } => batch.tried.push((*event, *retry)),
                Fact::Settled { settlement, .. } => batch.settled.push(Settled {
                    id: settlement.id,
                    state: settlement.state,
                    outcome: settlement.outcome,
                    superseded: settlement.reason == Some(Reason::Superseded),
                    at: settlement.at,
                }),
                Fact::Forgotten(last) => batch.forgotten.push(*last),
                Fact::Repeated { .. } => {}
                other => panic!("nobody asks for {other:?} here"),
            }
        }
        batch
    }
}
