//! The recorder's part: its core decides what waits as one batch; here it is committed, or fails, and everyone is
//! answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use gander::exports::clock::WallTime;
use gander::exports::delivery::schedule::KeySlot;
use gander::exports::event::{EventId, KeyId, Outcome, Queued, Settlement, SourceNames, State};
use gander::exports::journal::decide::{Accepted, EntryNumber, Owed};
use gander::exports::journal::dedup::Dedup;
use gander::exports::journal::known::{Known, Question, questions};
use gander::exports::journal::recorder::core::{Core, Due};
use gander::exports::journal::request::{Request, Settle, Submission};
use gander::exports::journal::state::RecorderState;
use gander::exports::journal::{AttemptRecord, Limits, Shares, StoredRetry};

use super::{Step, World};
use crate::disk::Batch;
use crate::ledger::Broken;
use crate::plan::{Plan, Without};
use crate::senders::{SOURCE, key_id};

/// What stands between the recorder's core and the others.
#[derive(Debug, Default)]
pub(super) struct Desk {
    inbox: Vec<Message>,
    /// Whether it is about to take what waits.
    called: bool,
    open: Option<Open>,
    /// The journal can't be written.
    failing: bool,
    /// Events on their way to the dispatcher.
    fresh: VecDeque<Vec<(usize, Queued)>>,
    /// Requests that were not answered.
    pub(super) waiting: BTreeSet<usize>,
    /// The keys whose events are being settled, with their places in the schedule.
    settling: BTreeMap<EventId, (usize, KeySlot)>,
}

/// A request to the recorder, and of a sender which one it is.
#[derive(Debug)]
struct Message {
    request: Request,
    of_sender: Option<usize>,
}

/// A batch that was decided and is not on disk yet.
#[derive(Debug)]
struct Open {
    batch: Batch,
    messages: Vec<Message>,
    due: Due,
}

/// The recorder's core on what was restored.
pub(super) fn new_core(dedup: Dedup, plan: &Plan, last: Option<EventId>) -> Core {
    let limits = Limits { max_events: u64::MAX / 2, max_bytes: u64::MAX / 2, shares: Shares::default() };
    let state = RecorderState::new(dedup, Vec::new(), limits);
    Core::new(state, plan.limits.superseded, Arc::new(SourceNames::default()), last.unwrap_or(EventId(0)))
}

impl Desk {
    pub(super) fn settle(&mut self, settle: Settle) {
        self.inbox.push(Message { request: Request::Settle(settle), of_sender: None });
    }

    pub(super) fn attempted(&mut self, id: EventId, tried: StoredRetry) {
        let attempt = AttemptRecord {
            event: id,
            number: tried.attempts,
            started_at: WallTime(0),
            took: std::time::Duration::ZERO,
            result: "connect",
            status: None,
            detail: None,
            answer: Vec::new(),
        };
        self.inbox.push(Message { request: Request::Attempt(attempt, tried), of_sender: None });
    }

    /// An event's settlement is on its way.
    pub(super) fn settling(&mut self, id: EventId, key: usize, slot: KeySlot) {
        self.settling.insert(id, (key, slot));
    }

    /// Whether the state holds nothing that is not on disk.
    pub(super) fn is_clean(&self) -> bool {
        self.open.is_none() && !self.failing
    }
}

impl World {
    /// A request of a sender reaches the recorder.
    pub(super) fn submit(&mut self, request: usize) {
        let arbitrary = self.without == Without::Deduplication;
        let mut entries = Vec::new();
        for element in &self.requests[request].elements {
            let key = if arbitrary { KeyId(self.rng.u128(..)) } else { key_id(element.key) };
            entries.push(element.entry(key));
        }
        let submission = Submission {
            source: SOURCE.into(),
            request_id: "request".into(),
            sender_request_id: None,
            trace: None,
            received_at: self.now().wall,
            raw: Bytes::from_static(b"{}"),
            charset: None,
            entries,
            wait_for_settlement: false,
            earlier: Arc::default(),
        };
        let desk = &mut self.relay().desk;
        desk.waiting.insert(request);
        desk.inbox.push(Message { request: Request::Record(submission), of_sender: Some(request) });
    }

    /// The recorder has something to do; it comes when it is done with what it does.
    pub(super) fn call_recorder(&mut self) {
        let desk = &mut self.relay().desk;
        if desk.called || desk.open.is_some() || desk.inbox.is_empty() {
            return;
        }
        desk.called = true;
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::Decide);
    }

    /// Decides everything that waits, as one batch.
    pub(super) fn decide(&mut self) -> Result<(), Broken> {
        let desk = &mut self.relay().desk;
        desk.called = false;
        let messages = std::mem::take(&mut desk.inbox);
        if desk.failing {
            self.refuse(messages);
            return Ok(());
        }
        let requests: Vec<&Request> = messages.iter().map(|message| &message.request).collect();
        let (batch, due) = self.decided(&requests);
        self.check_decisions(&messages, &due)?;
        let mut open = Open { batch, messages, due };
        if open.batch.is_empty() {
            self.pay(open);
            return Ok(());
        }
        if self.without == Without::CommitFirst {
            self.answer_senders(&mut open);
        }
        self.relay().desk.open = Some(open);
        let wait = if self.rng.u32(0..20) == 0 { self.rng.i64(0..800) } else { self.rng.i64(0..6) };
        self.soon(wait, Step::Commit);
        Ok(())
    }

    /// The decisions of the core about these requests, with what the disk tells it.
    fn decided(&mut self, requests: &[&Request]) -> (Batch, Due) {
        let (now, next) = (self.now(), self.disk.next());
        let relay = self.relay.as_mut().expect("the relay lives");
        let mut known = Known::default();
        for question in questions(requests.iter().copied(), &relay.core.state, relay.core.ends_superseded()) {
            if let Question::MayBeOpen { key, incident_key, .. } = question
                && self.disk.may_be_open(incident_key.parse().unwrap())
            {
                known.may_be_open.insert(key);
            }
        }
        relay.core.state.set_next(next);
        let (facts, due) = relay.core.decide(&known, requests.iter().copied(), now);
        (Batch::of(&facts), due)
    }

    /// Holds the decisions against the promises.
    fn check_decisions(&mut self, messages: &[Message], due: &Due) -> Result<(), Broken> {
        for (message, owed) in messages.iter().zip(&due.owed) {
            match (&message.request, message.of_sender, owed) {
                (Request::Record(_), Some(request), Owed::Recorded(numbers)) => {
                    for (element, number) in self.requests[request].elements.clone().iter().zip(numbers) {
                        self.ledger.decided(element, *number, self.time)?;
                        self.note(|| format!("{element:?}: {number:?}"));
                    }
                }
                (Request::Settle(settle), ..) => self.check_end(&settle.settlement)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_end(&mut self, settlement: &Settlement) -> Result<(), Broken> {
        let Settlement { id, state, outcome, .. } = *settlement;
        let Some((key, _)) = self.relay().desk.settling.get(&id).copied() else {
            return Ok(());
        };
        self.ledger.settled(key, id, state, outcome)
    }

    pub(super) fn commit(&mut self) -> Result<(), Broken> {
        let Some(open) = self.relay().desk.open.take() else {
            return Ok(());
        };
        if self.troubled() && self.rng.f64() < self.plan.fault {
            self.ledger.seen.faults += 1;
            // A commit that is reported as failed may have reached the disk after all.
            let reached = self.rng.bool();
            self.note(|| format!("the commit fails, on disk: {reached}"));
            if reached {
                self.disk.commit(open.batch);
            }
            let relay = self.relay();
            relay.core.failed();
            relay.desk.failing = true;
            self.refuse(open.messages);
            self.soon(HEAL_INTERVAL, Step::Heal);
            return Ok(());
        }
        self.disk.commit(open.batch);
        self.ledger.committed();
        self.pay(Open { batch: Batch::default(), ..open });
        if self.rng.u32(0..8) == 0 {
            let keep = i64::try_from(self.plan.keep_delivered.as_millis()).unwrap();
            let before = WallTime(self.now().wall.0 - keep);
            let (in_order, keeps) = (self.without != Without::PruningInOrder, self.without != Without::KeptRows);
            if let Some(relay) = &self.relay {
                self.disk.prune(before, in_order, |id, key| keeps && relay.rests_on(key, id));
            }
        }
        if self.rng.u32(0..16) == 0 {
            self.compare()?;
        }
        Ok(())
    }

    /// Everything is on disk, or nothing had to be: says so to everyone.
    fn pay(&mut self, mut open: Open) {
        self.relay().core.committed(&open.due);
        let fresh = std::mem::take(&mut open.due.accepted);
        if !fresh.is_empty() {
            self.give(fresh);
        }
        self.answer_senders(&mut open);
        self.tell_ends(&open.due.settled);
        self.call_recorder();
    }

    fn answer_senders(&mut self, open: &mut Open) {
        let answers: Vec<(usize, Vec<EntryNumber>)> = open
            .messages
            .iter()
            .zip(&mut open.due.owed)
            .filter_map(|(message, owed)| match (message.of_sender, std::mem::replace(owed, Owed::Nothing)) {
                (Some(request), Owed::Recorded(numbers)) => Some((request, numbers)),
                _ => None,
            })
            .collect();
        for (request, receipts) in answers {
            let wait = self.rng.i64(0..4);
            self.soon(wait, Step::Answer { request, receipts });
        }
    }

    /// The schedule hears which settlements are on disk.
    fn tell_ends(&mut self, settled: &[Settlement]) {
        if self.without == Without::SettlingFirst {
            return;
        }
        for settlement in settled {
            if let Some((key, slot)) = self.relay().desk.settling.remove(&settlement.id) {
                let wait = self.rng.i64(0..4);
                self.soon(wait, Step::Release { key, slot, done: is_done(settlement) });
            }
        }
    }

    /// While nothing can be written senders are refused and ends are held.
    fn refuse(&mut self, messages: Vec<Message>) {
        for Message { request, of_sender } in messages {
            let refused = self.relay().core.hold(request);
            if let (Some(_), Some(request)) = (refused, of_sender) {
                let wait = self.rng.i64(0..4);
                self.soon(wait, Step::Refuse { request });
            }
        }
    }

    /// Goes on from what is on disk, writes what was held, and hands over what reached the disk unnoticed.
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.disk.opened();
        self.ledger.restored(&self.disk)?;
        let now = self.now();
        let queued: Vec<_> =
            self.disk.rows().filter(|row| row.state == State::Queued).map(|row| row.queued(now)).collect();
        let found: Vec<Accepted> = queued.into_iter().filter_map(|event| self.relay().core.found(event, now)).collect();
        if self.without != Without::Rollback {
            let dedup = self.restored_dedup();
            let state = new_core(dedup, &self.plan, None).state;
            self.relay().core.state = state;
        }
        let held = self.relay().core.held(usize::MAX);
        let requests: Vec<&Request> = held.iter().collect();
        let (batch, due) = self.decided(&requests);
        for settlement in &due.settled {
            self.check_end(settlement)?;
        }
        if self.troubled() && self.rng.f64() < self.plan.fault {
            self.soon(HEAL_INTERVAL, Step::Heal);
            return Ok(());
        }
        self.disk.commit(batch);
        self.ledger.committed();
        self.relay().core.held_written(held.len());
        self.relay().desk.failing = false;
        self.tell_ends(&due.settled);
        if let Some(last) = self.disk.last() {
            self.relay().core.handed_over(last);
        }
        if !found.is_empty() {
            self.give(found);
        }
        self.call_recorder();
        Ok(())
    }

    fn give(&mut self, fresh: Vec<Accepted>) {
        let fresh = fresh.into_iter().map(|accepted| {
            let key = self.disk.get(accepted.event.id).map_or(0, |row| row.key);
            (key, Queued { key: key_id(key), ..accepted.event })
        });
        let fresh = fresh.collect();
        self.relay().desk.fresh.push_back(fresh);
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::HandOver);
    }

    pub(super) fn hand_over(&mut self) -> Result<(), Broken> {
        let fresh = self.relay().desk.fresh.pop_front().unwrap_or_default();
        self.enqueue(fresh)
    }
}

/// The upstream did what the event asked.
pub(super) fn is_done(settlement: &Settlement) -> bool {
    settlement.state == State::Delivered && settlement.outcome != Some(Outcome::Unmatched)
}

const HEAL_INTERVAL: i64 = 1_000;
