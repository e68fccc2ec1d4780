//! Fair turns between sources, charged by the time that their calls hold slots: a source that floods or hangs delays
//! another's alert by one turn.

use std::time::Duration;

use super::alternation::{Alternation, Side};
use super::lanes::{Choice, Lane, Lanes};
use super::queues::{KeySlot, Queues};
use crate::clock::Monotonic;
use crate::delivery::breaker::{CallKind, Waiting};
use crate::event::SourceId;

/// All sources with their waiting keys.
#[derive(Debug)]
pub(super) struct Turns {
    sources: Vec<Source>,
    /// The maximum number of concurrent calls, of all sources.
    slots: usize,
    retries: Alternation,
    retries_in_flight: usize,
    turn: u64,
}

/// One source.
#[derive(Debug, Default)]
struct Source {
    lanes: Lanes,
    in_flight: usize,
    /// The slot time of its finished calls, in milliseconds, relative to other sources.
    charge: i64,
    /// The sum of the start times of its calls under way.
    started: i64,
    /// The number of its last turn.
    turn: u64,
    held: bool,
    /// The last time at which it had an event to send.
    seen: Option<Monotonic>,
}

/// A source and its next key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) source: SourceId,
    pub(super) choice: Choice,
    retries: Alternation,
}

impl Turns {
    pub(super) fn new(slots: usize) -> Turns {
        Turns { sources: Vec::new(), slots, retries: Alternation::one_in(4), retries_in_flight: 0, turn: 0 }
    }

    /// Adds a key that may go: its first event was never tried, or its attempts are unknown.
    pub(super) fn insert(&mut self, key: KeySlot, queues: &mut Queues, is_next: bool, now: Monotonic) {
        self.join(queues.source(key), now).lanes.insert(key, queues, is_next, now);
    }

    /// Adds a key that may go again.
    pub(super) fn insert_retry(&mut self, key: KeySlot, queues: &mut Queues, now: Monotonic) {
        self.join(queues.source(key), now).lanes.insert_retry(key, queues);
    }

    /// Removes a key that may not go for now, even if its source never had any.
    pub(super) fn remove(&mut self, key: KeySlot, queues: &mut Queues) {
        if let Some(source) = self.sources.get_mut(usize::from(queues.source(key).0)) {
            source.lanes.remove(key, queues);
        }
    }

    /// Moves ageing keys to the backlog.
    pub(super) fn age(&mut self, queues: &mut Queues, now: Monotonic) {
        self.sources.iter_mut().for_each(|source| source.lanes.age(queues, now));
    }

    /// The kinds of calls that could start now.
    pub(super) fn waiting(&self, now: Monotonic) -> Waiting {
        let most = self.slots_at_most(now);
        let any = |kind| self.sources.iter().any(|source| source.may(kind, most));
        let untried = any(CallKind::Untried);
        Waiting { untried, tried: self.retry_fits(untried) && any(CallKind::Tried) }
    }

    /// Chooses the next key; a probe is of this kind.
    pub(super) fn choose(&self, probe: Option<CallKind>, queues: &Queues, now: Monotonic) -> Option<Turn> {
        let mut retries = self.retries;
        let Waiting { untried, tried } = self.waiting(now);
        let kind = match probe {
            Some(kind) => kind,
            None => match retries.choose(untried, tried)? {
                Side::Preferred => CallKind::Untried,
                Side::Other => CallKind::Tried,
            },
        };
        let first = |slots| {
            let candidates = self.sources.iter().enumerate().filter(|(_, source)| source.may(kind, slots));
            candidates.min_by_key(|(_, source)| (source.charge_at(now), source.turn))
        };
        // While others wait no source holds more than half of the slots.
        let (number, source) = first(self.slots.div_ceil(2)).or_else(|| first(self.slots_at_most(now)))?;
        let choice = match kind {
            CallKind::Untried => source.lanes.untried(queues, probe.is_some(), now)?,
            CallKind::Tried => source.lanes.retry()?,
        };
        Some(Turn { source: SourceId(u16::try_from(number).ok()?), choice, retries })
    }

    /// Takes the chosen key without a call.
    pub(super) fn take(&mut self, turn: Turn, queues: &mut Queues) {
        self.source(turn.source).lanes.take(turn.choice, queues);
    }

    /// Takes the chosen key and starts its call.
    pub(super) fn start(&mut self, turn: Turn, queues: &mut Queues, now: Monotonic) {
        self.take(turn, queues);
        self.retries = turn.retries;
        self.retries_in_flight += usize::from(turn.choice.lane == Lane::Retry);
        self.turn += 1;
        let number = self.turn;
        let source = self.source(turn.source);
        source.turn = number;
        source.in_flight += 1;
        source.started += now.0;
    }

    /// Ends a call of this source that started at `started`.
    pub(super) fn end(&mut self, source: SourceId, lane: Lane, started: Monotonic, now: Monotonic) {
        self.retries_in_flight -= usize::from(lane == Lane::Retry);
        let source = self.source(source);
        source.in_flight -= 1;
        source.started -= started.0;
        source.charge += now.0 - started.0;
    }

    /// Notes a failed attempt of a fresh event of this source.
    pub(super) fn failed(&mut self, source: SourceId, now: Monotonic) {
        self.source(source).lanes.failed(now);
    }

    /// Holds a source back.
    pub(super) fn hold(&mut self, source: SourceId, now: Monotonic) {
        self.join(source, now).held = true;
    }

    /// Releases a source. It gets no credit for the time of the hold.
    pub(super) fn release(&mut self, source: SourceId, now: Monotonic) {
        let least = self.least_charge(now);
        let source = self.join(source, now);
        source.charge = least.map_or(source.charge, |least| source.charge.max(least));
        source.held = false;
    }

    /// The number of events in a lane.
    pub(super) fn events(&self, lane: Lane) -> usize {
        self.sources.iter().map(|source| source.lanes.waiting(lane)).sum()
    }

    /// Returns true if a retry may start: retries get at most a quarter of the slots and at least one; the only slot
    /// just if nothing else waits.
    fn retry_fits(&self, untried: bool) -> bool {
        match self.slots {
            0 | 1 => !untried,
            slots => self.retries_in_flight < (slots / 4).max(1),
        }
    }

    /// The slots that one source may hold. If another source sent something in the last minutes, an eighth stays free:
    /// if all calls hang, an alert of the other would wait for a whole timeout.
    fn slots_at_most(&self, now: Monotonic) -> usize {
        let recent = |source: &&Source| source.seen.is_some_and(|seen| now.since(seen) < SEEN_RECENTLY);
        let sources = self.sources.iter().filter(recent).count();
        if sources > 1 { self.slots - self.slots / 8 } else { self.slots }
    }

    /// Adds a source that had nothing to send. It gets no credit for its idle time.
    fn join(&mut self, source: SourceId, now: Monotonic) -> &mut Source {
        let number = usize::from(source.0);
        if self.sources.len() <= number {
            self.sources.resize_with(number + 1, Source::default);
        }
        if self.sources[number].is_idle()
            && let Some(least) = self.least_charge(now)
        {
            let charge = &mut self.sources[number].charge;
            *charge = (*charge).max(least);
        }
        self.sources[number].seen = Some(now);
        &mut self.sources[number]
    }

    /// The lowest charge among the sources that have something to send.
    fn least_charge(&self, now: Monotonic) -> Option<i64> {
        let busy = self.sources.iter().filter(|source| !source.held && !source.is_idle());
        busy.map(|source| source.charge_at(now)).min()
    }

    fn source(&mut self, source: SourceId) -> &mut Source {
        &mut self.sources[usize::from(source.0)]
    }
}

impl Source {
    /// Returns true if it has an event of this kind to send, and holds fewer than `slots` slots.
    fn may(&self, kind: CallKind, slots: usize) -> bool {
        !self.held
            && self.in_flight < slots
            && match kind {
                CallKind::Untried => self.lanes.has_untried(),
                CallKind::Tried => self.lanes.has_retry(),
            }
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.lanes.has_untried() && !self.lanes.has_retry()
    }

    fn charge_at(&self, now: Monotonic) -> i64 {
        let under_way = i64::try_from(self.in_flight).unwrap_or(i64::MAX).saturating_mul(now.0) - self.started;
        self.charge.saturating_add(under_way)
    }
}

/// A source that sent nothing for so long leaves its slots to others.
const SEEN_RECENTLY: Duration = Duration::from_secs(600);
