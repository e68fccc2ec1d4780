//! The recorder's part: decides and appends what waits as one batch, commits, and answers everyone.

use std::collections::{BTreeSet, VecDeque};

use gander::exports::clock::WallTime;
use gander::exports::delivery::schedule::KeySlot;
use gander::exports::event::{Action, EventId, Outcome, Priority, Queued, SourceId, State, UpdateHash};
use gander::exports::journal::StoredRetry;
use gander::exports::journal::dedup::{AcceptReason, DedupResult, Effect, Occurrences};

use super::{Step, World};
use crate::disk::{Batch, Row};
use crate::ledger::Broken;
use crate::plan::Without;
use crate::senders::key_id;

/// What the recorder holds in memory.
#[derive(Debug, Default)]
pub(super) struct Desk {
    inbox: Vec<Message>,
    /// Whether it is about to take what waits.
    called: bool,
    open: Option<Open>,
    /// The journal can't be written; ends that were reported meanwhile are held.
    fault: Option<Vec<Settle>>,
    /// The newest event that the dispatcher was given.
    pub(super) handed_over: Option<EventId>,
    /// Events on their way to the dispatcher.
    fresh: VecDeque<Vec<(usize, Queued)>>,
    /// Requests that were not answered.
    pub(super) waiting: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Record(usize),
    Attempt(EventId, StoredRetry),
    Settle(Settle),
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settle {
    pub(super) key: usize,
    pub(super) slot: KeySlot,
    pub(super) id: EventId,
    pub(super) state: State,
    pub(super) outcome: Option<Outcome>,
}

impl Settle {
    /// The upstream did what the event asked.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Delivered && self.outcome != Some(Outcome::Unmatched)
    }
}

/// What a sender is told of one element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    /// The event, or the one that it copies.
    pub(super) id: EventId,
}

/// A batch that was decided and is not on disk yet.
#[derive(Debug)]
struct Open {
    batch: Batch,
    messages: Vec<Message>,
    receipts: Vec<Vec<Receipt>>,
    fresh: Vec<(usize, Queued)>,
}

impl Desk {
    pub(super) fn submit(&mut self, request: usize) {
        self.waiting.insert(request);
        self.inbox.push(Message::Record(request));
    }

    pub(super) fn settle(&mut self, settle: Settle) {
        self.inbox.push(Message::Settle(settle));
    }

    pub(super) fn attempted(&mut self, id: EventId, tried: StoredRetry) {
        self.inbox.push(Message::Attempt(id, tried));
    }

    /// Whether deduplication holds nothing that is not on disk.
    pub(super) fn is_clean(&self) -> bool {
        self.open.is_none() && self.fault.is_none()
    }
}

impl World {
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
        if self.relay().desk.fault.is_some() {
            self.refuse(messages);
            return Ok(());
        }
        let mut open = Open { batch: self.disk.begin(), messages: Vec::new(), receipts: Vec::new(), fresh: Vec::new() };
        for message in &messages {
            match message {
                Message::Record(request) => self.record(*request, &mut open)?,
                Message::Attempt(id, tried) => open.batch.store_retry(*id, *tried),
                Message::Settle(settle) => self.write_end(*settle, &mut open.batch)?,
            }
        }
        open.messages = messages;
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

    fn record(&mut self, request: usize, open: &mut Open) -> Result<(), Broken> {
        let now = self.now();
        let without = self.without;
        let mut receipts = Vec::new();
        for element in self.requests[request].elements.clone() {
            let named = element.named();
            let arrival = element.arrival(named.as_ref());
            let follows = self.relay().dedup.last(key_id(element.key));
            let mut append = |novelty, occurrences: &Occurrences| {
                Ok::<_, Broken>(open.batch.append(Row {
                    id: EventId(0),
                    key: element.key,
                    action: element.action,
                    update: UpdateHash(element.update),
                    occurrences: occurrences.clone(),
                    follows,
                    priority: priority(element.key),
                    novelty,
                    tried: None,
                    acknowledged_at: now.wall,
                    state: State::Queued,
                    outcome: None,
                    settled_at: now.wall,
                }))
            };
            let dedup = &mut self.relay().dedup;
            let known_open = element.action == Action::Trigger && dedup.is_open(key_id(element.key));
            let admission = if without == Without::Deduplication {
                let id =
                    dedup.take(arrival, now.monotonic, |occurrences| append(AcceptReason::Opening, occurrences))?;
                DedupResult::Taken { id, reason: AcceptReason::Opening }
            } else {
                dedup.admit(arrival, now, false, append)?
            };
            self.ledger.decided(&element, admission, self.time)?;
            self.note(|| format!("{element:?}: {admission:?}"));
            receipts.push(match admission {
                DedupResult::Taken { id, reason } => {
                    let evicted = self.relay().dedup.has_evicted();
                    let loose =
                        reason == AcceptReason::Opening && (evicted || self.disk.may_be_open(element.key, &open.batch));
                    let (reopening, continues) = (reason == AcceptReason::Reopening, known_open || loose);
                    let (source, priority) = (SourceId(0), priority(element.key));
                    let (key, action) = (key_id(element.key), element.action);
                    let acknowledged = now.monotonic;
                    let queued = Queued { id, key, source, action, priority, reopening, continues, acknowledged };
                    open.fresh.push((element.key, queued));
                    Receipt { id }
                }
                DedupResult::Duplicate { of, .. } => Receipt { id: of },
            });
        }
        open.receipts.push(receipts);
        Ok(())
    }

    fn write_end(&mut self, settle: Settle, batch: &mut Batch) -> Result<(), Broken> {
        self.ledger.settled(settle.key, settle.id, settle.state, settle.outcome)?;
        batch.settle(settle.id, settle.state, settle.outcome, self.now().wall);
        if self.without != Without::Endings
            && let Some(ending) = Effect::of(settle.state, settle.outcome)
        {
            self.relay().dedup.settle(key_id(settle.key), settle.id, ending);
        }
        Ok(())
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
            self.relay().desk.fault = Some(Vec::new());
            self.refuse(open.messages);
            self.soon(HEAL_INTERVAL, Step::Heal);
            return Ok(());
        }
        self.disk.commit(open.batch);
        self.ledger.committed();
        self.pay(Open { batch: self.disk.begin(), ..open });
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
        if let Some((_, last)) = open.fresh.last() {
            self.relay().desk.handed_over = Some(last.id);
            self.give(std::mem::take(&mut open.fresh));
        }
        self.answer_senders(&mut open);
        for message in &open.messages {
            if let Message::Settle(settle) = message {
                self.tell_end(*settle);
            }
        }
        self.call_recorder();
    }

    fn answer_senders(&mut self, open: &mut Open) {
        let requests = open.messages.iter().filter_map(|message| match message {
            Message::Record(request) => Some(*request),
            Message::Attempt(..) | Message::Settle(_) => None,
        });
        for (request, receipts) in requests.zip(std::mem::take(&mut open.receipts)).collect::<Vec<_>>() {
            let wait = self.rng.i64(0..4);
            self.soon(wait, Step::Answer { request, receipts });
        }
    }

    fn tell_end(&mut self, settle: Settle) {
        if self.without != Without::SettlingFirst {
            let wait = self.rng.i64(0..4);
            self.soon(wait, Step::Release { key: settle.key, slot: settle.slot, done: settle.is_done() });
        }
    }

    /// While nothing can be written senders are refused and ends are held.
    fn refuse(&mut self, messages: Vec<Message>) {
        for message in messages {
            match message {
                Message::Record(request) => {
                    let wait = self.rng.i64(0..4);
                    self.soon(wait, Step::Refuse { request });
                }
                // A lost line of this record loses no event.
                Message::Attempt(..) => {}
                Message::Settle(settle) => {
                    if let Some(held) = &mut self.relay().desk.fault {
                        held.push(settle);
                    }
                }
            }
        }
    }

    /// Goes on from what is on disk, writes what was held, and hands over what reached the disk unnoticed.
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.disk.opened();
        self.ledger.restored(&self.disk)?;
        let known = self.relay().desk.handed_over;
        let now = self.now();
        let found: Vec<_> = self
            .disk
            .rows()
            .filter(|row| Some(row.id) > known && row.state == State::Queued)
            .map(|row| (row.key, Queued { acknowledged: now.monotonic, ..row.queued(now) }))
            .collect();
        if self.without != Without::Rollback {
            let dedup = self.restored_dedup();
            self.relay().dedup = dedup;
        }
        let mut batch = self.disk.begin();
        let held = self.relay().desk.fault.clone().unwrap_or_default();
        for settle in &held {
            self.write_end(*settle, &mut batch)?;
        }
        if self.troubled() && self.rng.f64() < self.plan.fault {
            self.soon(HEAL_INTERVAL, Step::Heal);
            return Ok(());
        }
        self.disk.commit(batch);
        self.ledger.committed();
        self.relay().desk.fault = None;
        for settle in held {
            self.tell_end(settle);
        }
        self.relay().desk.handed_over = self.disk.last();
        if !found.is_empty() {
            self.give(found);
        }
        self.call_recorder();
        Ok(())
    }

    fn give(&mut self, fresh: Vec<(usize, Queued)>) {
        self.relay().desk.fresh.push_back(fresh);
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::HandOver);
    }

    pub(super) fn hand_over(&mut self) -> Result<(), Broken> {
        let fresh = self.relay().desk.fresh.pop_front().unwrap_or_default();
        self.enqueue(fresh)
    }
}

const HEAL_INTERVAL: i64 = 1_000;

/// Every key has one, and each is there.
fn priority(key: usize) -> Priority {
    Priority::ALL[key % Priority::ALL.len()]
}
