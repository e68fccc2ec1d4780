//! The sources take turns, charged by the time that their calls held slots: a flood, or calls that hang, of one source
//! delay another's alert by one turn.

use std::time::Duration;

use super::lanes::{Choice, Lane, Lanes};
use super::queues::{KeySlot, Queues};
use super::share::{Share, Side};
use crate::clock::Monotonic;
use crate::delivery::breaker::{Kind, Waiting};
use crate::event::SourceId;

/// Every source with what it has to send.
#[derive(Debug)]
pub(super) struct Turns {
    sources: Vec<Source>,
    /// Calls under way at once, of all sources.
    slots: usize,
    retries: Share,
    retries_in_flight: usize,
    turn: u64,
}

/// One source.
#[derive(Debug, Default)]
struct Source {
    lanes: Lanes,
    in_flight: usize,
    /// Slot time of its calls that ended, in milliseconds, beside that of the other sources.
    charge: i64,
    /// The starts of its calls under way, added up.
    started: i64,
    /// When it had its last turn.
    turn: u64,
    held: bool,
    /// When an event of it could go last.
    seen: Option<Monotonic>,
}

/// A source and the key of it that may go next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) source: SourceId,
    pub(super) choice: Choice,
    retries: Share,
}

impl Turns {
    pub(super) fn new(slots: usize) -> Turns {
        Turns { sources: Vec::new(), slots, retries: Share::one_in(4), retries_in_flight: 0, turn: 0 }
    }

    /// A key may go: its first event was never tried, or nothing is known of that.
    pub(super) fn insert(&mut self, key: KeySlot, queues: &mut Queues, follows: bool, now: Monotonic) {
        self.join(queues.source(key), now).lanes.insert(key, queues, follows, now);
    }

    /// A key may go again.
    pub(super) fn insert_retry(&mut self, key: KeySlot, queues: &mut Queues, now: Monotonic) {
        self.join(queues.source(key), now).lanes.insert_retry(key, queues);
    }

    /// A key may not go for now. It may be that nothing of its source ever could.
    pub(super) fn remove(&mut self, key: KeySlot, queues: &mut Queues) {
        if let Some(source) = self.sources.get_mut(usize::from(queues.source(key).0)) {
            source.lanes.remove(key, queues);
        }
    }

    /// Keys that get older move to the backlog.
    pub(super) fn age(&mut self, queues: &mut Queues, now: Monotonic) {
        self.sources.iter_mut().for_each(|source| source.lanes.age(queues, now));
    }

    /// The kinds of calls that could start now.
    pub(super) fn waiting(&self, now: Monotonic) -> Waiting {
        let most = self.slots_at_most(now);
        let any = |kind| self.sources.iter().any(|source| source.may(kind, most));
        let untried = any(Kind::Untried);
        Waiting { untried, tried: self.retry_fits(untried) && any(Kind::Tried) }
    }

    /// Whose turn it is; a probe is of this kind.
    pub(super) fn choose(&self, probe: Option<Kind>, queues: &Queues, now: Monotonic) -> Option<Turn> {
        let mut retries = self.retries;
        let Waiting { untried, tried } = self.waiting(now);
        let kind = match probe {
            Some(kind) => kind,
            None => match retries.choose(untried, tried)? {
                Side::Preferred => Kind::Untried,
                Side::Other => Kind::Tried,
            },
        };
        let first = |slots| {
            let candidates = self.sources.iter().enumerate().filter(|(_, source)| source.may(kind, slots));
            candidates.min_by_key(|(_, source)| (source.charge_at(now), source.turn))
        };
        // While others wait no source holds more than half of the slots.
        let (number, source) = first(self.slots.div_ceil(2)).or_else(|| first(self.slots_at_most(now)))?;
        let choice = match kind {
            Kind::Untried => source.lanes.untried(queues, probe.is_some(), now)?,
            Kind::Tried => source.lanes.retry()?,
        };
        Some(Turn { source: SourceId(u16::try_from(number).ok()?), choice, retries })
    }

    /// The chosen key goes without a call.
    pub(super) fn take(&mut self, turn: Turn, queues: &mut Queues) {
        self.source(turn.source).lanes.take(turn.choice, queues);
    }

    /// The chosen key goes, and its call starts.
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

    /// A call of this source that started then has ended.
    pub(super) fn end(&mut self, source: SourceId, lane: Lane, started: Monotonic, now: Monotonic) {
        self.retries_in_flight -= usize::from(lane == Lane::Retry);
        let source = self.source(source);
        source.in_flight -= 1;
        source.started -= started.0;
        source.charge += now.0 - started.0;
    }

    /// An attempt of a fresh event of this source failed.
    pub(super) fn failed(&mut self, source: SourceId, now: Monotonic) {
        self.source(source).lanes.failed(now);
    }

    /// Holds a source back.
    pub(super) fn hold(&mut self, source: SourceId, now: Monotonic) {
        self.join(source, now).held = true;
    }

    /// Goes on with a source. What it did not use meanwhile is not saved up.
    pub(super) fn let_go(&mut self, source: SourceId, now: Monotonic) {
        let least = self.least_charge(now);
        let source = self.join(source, now);
        source.charge = least.map_or(source.charge, |least| source.charge.max(least));
        source.held = false;
    }

    /// How many events wait in a lane.
    pub(super) fn events(&self, lane: Lane) -> usize {
        self.sources.iter().map(|source| source.lanes.waiting(lane)).sum()
    }

    /// Events that failed before get at most a quarter of the slots, and one at least; the only one only where nothing
    /// else waits.
    fn retry_fits(&self, untried: bool) -> bool {
        match self.slots {
            0 | 1 => !untried,
            slots => self.retries_in_flight < (slots / 4).max(1),
        }
    }

    /// The slots that one source may hold. Where another sent something in the last minutes it leaves an eighth: calls
    /// that all hang would keep an alert of the other waiting for as long as a call may take.
    fn slots_at_most(&self, now: Monotonic) -> usize {
        let lately = |source: &&Source| source.seen.is_some_and(|seen| now.since(seen) < SEEN_LATELY);
        let sources = self.sources.iter().filter(lately).count();
        if sources > 1 { self.slots - self.slots / 8 } else { self.slots }
    }

    /// A source that had nothing to send comes in beside the others: what it did not use is not saved up.
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

    /// The charge of the source that comes next among those that have something to send.
    fn least_charge(&self, now: Monotonic) -> Option<i64> {
        let busy = self.sources.iter().filter(|source| !source.held && !source.is_idle());
        busy.map(|source| source.charge_at(now)).min()
    }

    fn source(&mut self, source: SourceId) -> &mut Source {
        &mut self.sources[usize::from(source.0)]
    }
}

impl Source {
    /// It has such an event that may go, and holds fewer slots than these.
    fn may(&self, kind: Kind, slots: usize) -> bool {
        !self.held
            && self.in_flight < slots
            && match kind {
                Kind::Untried => self.lanes.has_untried(),
                Kind::Tried => self.lanes.has_retry(),
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
const SEEN_LATELY: Duration = Duration::from_secs(600);
