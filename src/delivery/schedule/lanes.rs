//! The keys of one source that may go now, in two lanes and a queue of retries.
//!
//! The fresh lane has the keys with current news: their newest event is young, and is a trigger or the resolve of a
//! delivered trigger. All others are the backlog. A choice changes nothing until it is taken.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::alternation::{Alternation, Side};
use super::queues::{KeyPosition, KeySlot, Queues, Spot};
use crate::clock::Monotonic;
use crate::event::{Action, EventId};

/// A queue of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    Fresh,
    Backlog,
    /// Keys whose first event failed and is due for a retry.
    Retry,
}

impl Lane {
    pub const ALL: [Lane; 3] = [Lane::Fresh, Lane::Backlog, Lane::Retry];
    /// Those that have a time to drain.
    pub const DRAINED: [Lane; 2] = [Lane::Fresh, Lane::Backlog];

    /// The word in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Fresh => "fresh",
            Lane::Backlog => "backlog",
            Lane::Retry => "retry",
        }
    }
}

/// The keys of one source that may go.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Resolves that follow their trigger directly.
    next_fresh: VecDeque<KeySlot>,
    next_backlog: VecDeque<KeySlot>,
    fresh: ByPriority,
    open: ByPriority,
    over: ByPriority,
    retries: VecDeque<KeySlot>,
    fresh_events: usize,
    backlog_events: usize,
    shares: Shares,
    /// The last failure of a fresh event's attempt.
    failed_at: Option<Monotonic>,
}

/// Keys by priority, ordered by their newest event.
type ByPriority = [BTreeSet<(EventId, KeySlot)>; 3];

/// The turns within a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    backlog: Alternation,
    fresh: Priorities,
    open: Priorities,
    over: Priorities,
    /// In the fresh lane: the oldest, and now and then the newest.
    newest: Alternation,
    /// In the fresh lane while attempts fail: the newest, and now and then the oldest.
    oldest_fresh: Alternation,
    /// In the backlog: open incidents, and now and then closed ones.
    ended: Alternation,
    /// In the backlog: newest and oldest in turn.
    oldest: Alternation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Priorities {
    low: Alternation,
    normal: Alternation,
}

/// A key that may go next, and the turns after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) key: KeySlot,
    pub(super) lane: Lane,
    shares: Shares,
}

impl Lanes {
    /// Inserts a key in the lane of its events; `is_next`: its trigger was delivered a moment ago.
    pub(super) fn insert(&mut self, key: KeySlot, queues: &mut Queues, is_next: bool, now: Monotonic) {
        let spot = spot(key, queues, is_next, now);
        queues.put(key, KeyPosition::Lane(spot));
        let newest = (queues.newest(key).id, key);
        match spot {
            Spot::NextFresh => self.next_fresh.push_back(key),
            Spot::NextBacklog => self.next_backlog.push_back(key),
            Spot::Fresh(priority) => drop(self.fresh[priority as usize].insert(newest)),
            Spot::Open(priority) => drop(self.open[priority as usize].insert(newest)),
            Spot::Over(priority) => drop(self.over[priority as usize].insert(newest)),
        }
        *self.events(spot) += queues.count(key);
    }

    /// Appends a key whose first event is due for a retry.
    pub(super) fn insert_retry(&mut self, key: KeySlot, queues: &mut Queues) {
        queues.put(key, KeyPosition::Retry);
        self.retries.push_back(key);
    }

    /// Removes a key from its lane.
    pub(super) fn remove(&mut self, key: KeySlot, queues: &mut Queues) {
        let newest = (queues.newest(key).id, key);
        let unlist = |line: &mut VecDeque<KeySlot>| line.retain(|other| *other != key);
        match queues.place(key) {
            KeyPosition::Lane(spot) => {
                *self.events(spot) -= queues.count(key);
                match spot {
                    Spot::NextFresh => unlist(&mut self.next_fresh),
                    Spot::NextBacklog => unlist(&mut self.next_backlog),
                    Spot::Fresh(priority) => drop(self.fresh[priority as usize].remove(&newest)),
                    Spot::Open(priority) => drop(self.open[priority as usize].remove(&newest)),
                    Spot::Over(priority) => drop(self.over[priority as usize].remove(&newest)),
                }
            }
            KeyPosition::Retry if self.retries.front() == Some(&key) => drop(self.retries.pop_front()),
            KeyPosition::Retry => unlist(&mut self.retries),
            KeyPosition::Away | KeyPosition::Called | KeyPosition::Backoff | KeyPosition::Held => {}
        }
        queues.put(key, KeyPosition::Away);
    }

    /// Notes a failed attempt of a fresh event.
    pub(super) fn failed(&mut self, now: Monotonic) {
        self.failed_at = Some(now);
    }

    /// Moves keys that are no longer fresh to the backlog, a few at a time.
    pub(super) fn age(&mut self, queues: &mut Queues, now: Monotonic) {
        for _ in 0..AGED_AT_ONCE {
            let old = self.fresh.iter().filter_map(BTreeSet::first).find(|(_, key)| !is_young(*key, queues, now));
            let Some((_, key)) = old.copied() else { return };
            self.remove(key, queues);
            self.insert(key, queues, false, now);
        }
    }

    /// The next key among those whose first event was never tried. `newest`: take the newest fresh one, as a probe.
    pub(super) fn untried(&self, queues: &Queues, newest: bool, now: Monotonic) -> Option<Choice> {
        let mut shares = self.shares;
        let backlog = !self.next_backlog.is_empty() || some(&self.open) || some(&self.over);
        let fresh = !self.next_fresh.is_empty() || some(&self.fresh);
        let (key, lane) = match shares.backlog.choose(fresh, backlog)? {
            Side::Preferred => (self.fresh_key(queues, &mut shares, newest, now)?, Lane::Fresh),
            Side::Other => (self.backlog_key(&mut shares)?, Lane::Backlog),
        };
        Some(Choice { key, lane, shares })
    }

    /// The key whose retry is due first.
    pub(super) fn retry(&self) -> Option<Choice> {
        let key = *self.retries.front()?;
        Some(Choice { key, lane: Lane::Retry, shares: self.shares })
    }

    /// Takes the chosen key out of its lane.
    pub(super) fn take(&mut self, choice: Choice, queues: &mut Queues) {
        self.shares = choice.shares;
        self.remove(choice.key, queues);
    }

    pub(super) fn has_untried(&self) -> bool {
        self.fresh_events > 0 || self.backlog_events > 0
    }

    pub(super) fn has_retry(&self) -> bool {
        !self.retries.is_empty()
    }

    /// The number of events in a lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::Fresh => self.fresh_events,
            Lane::Backlog => self.backlog_events,
            Lane::Retry => self.retries.len(),
        }
    }

    /// Chooses oldest first, and now and then the newest. While attempts fail, newest first and now and then the
    /// oldest: a storm of alerts that fail or hang must not block one that would succeed. Once the oldest waited too
    /// long, newest first: then some alerts are on time instead of all late.
    fn fresh_key(&self, queues: &Queues, shares: &mut Shares, newest: bool, now: Monotonic) -> Option<KeySlot> {
        if let Some(key) = self.next_fresh.front() {
            return Some(*key);
        }
        let keys = shares.fresh.choose(&self.fresh)?;
        let (_, oldest) = keys.first()?;
        let late = now.since(queues.newest(*oldest).acknowledged) >= ON_TIME;
        let failing = self.failed_at.is_some_and(|failed| now.since(failed) < FAILING);
        let newest = newest
            || late
            || match failing {
                true => shares.oldest_fresh.choose(true, true) == Some(Side::Preferred),
                false => shares.newest.choose(true, true) == Some(Side::Other),
            };
        let (_, key) = if newest { keys.last()? } else { keys.first()? };
        Some(*key)
    }

    /// Chooses open incidents before closed ones; newest and oldest in turn.
    fn backlog_key(&self, shares: &mut Shares) -> Option<KeySlot> {
        if let Some(key) = self.next_backlog.front() {
            return Some(*key);
        }
        let keys = match shares.ended.choose(some(&self.open), some(&self.over))? {
            Side::Preferred => shares.open.choose(&self.open),
            Side::Other => shares.over.choose(&self.over),
        }?;
        let (_, key) = match shares.oldest.choose(true, true)? {
            Side::Preferred => keys.last()?,
            Side::Other => keys.first()?,
        };
        Some(*key)
    }

    fn events(&mut self, spot: Spot) -> &mut usize {
        match spot {
            Spot::NextFresh | Spot::Fresh(_) => &mut self.fresh_events,
            Spot::NextBacklog | Spot::Open(_) | Spot::Over(_) => &mut self.backlog_events,
        }
    }
}

impl Priorities {
    fn choose<'k>(&mut self, keys: &'k ByPriority) -> Option<&'k BTreeSet<(EventId, KeySlot)>> {
        let [high, normal, low] = keys;
        match self.low.choose(!high.is_empty() || !normal.is_empty(), !low.is_empty())? {
            Side::Other => Some(low),
            Side::Preferred => match self.normal.choose(!high.is_empty(), !normal.is_empty())? {
                Side::Preferred => Some(high),
                Side::Other => Some(normal),
            },
        }
    }
}

impl Default for Shares {
    fn default() -> Shares {
        let priorities = Priorities { low: Alternation::one_in(10), normal: Alternation::one_in(10) };
        Shares {
            backlog: Alternation::one_in(4),
            fresh: priorities,
            open: priorities,
            over: priorities,
            newest: Alternation::one_in(4),
            oldest_fresh: Alternation::one_in(16),
            ended: Alternation::one_in(10),
            oldest: Alternation::one_in(2),
        }
    }
}

fn spot(key: KeySlot, queues: &Queues, is_next: bool, now: Monotonic) -> Spot {
    let (newest, priority) = (queues.newest(key), queues.priority(key));
    let trigger = newest.action == Action::Trigger;
    // A resolve that waits alone closes a delivered trigger, which is not in the queue.
    let fresh = is_young(key, queues, now) && (trigger || !queues.has_next(key));
    match (is_next && queues.first(key).action == Action::Resolve, fresh) {
        (true, true) => Spot::NextFresh,
        (true, false) => Spot::NextBacklog,
        (false, true) => Spot::Fresh(priority),
        (false, false) if trigger => Spot::Open(priority),
        (false, false) => Spot::Over(priority),
    }
}

fn is_young(key: KeySlot, queues: &Queues, now: Monotonic) -> bool {
    now.since(queues.newest(key).acknowledged) < FRESH
}

fn some(keys: &ByPriority) -> bool {
    keys.iter().any(|keys| !keys.is_empty())
}

/// An older alert is not news.
const FRESH: Duration = Duration::from_secs(300);
/// While fresh alerts wait no longer than this, they go in order.
const ON_TIME: Duration = Duration::from_secs(60);
/// For so long after a failure the newest go first.
const FAILING: Duration = Duration::from_secs(60);
/// A storm of five minutes ago is not moved in one step.
const AGED_AT_ONCE: usize = 64;
