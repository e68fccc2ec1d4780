//! The waiting events of every key, as lists through one vector: sixteen bytes an event, some thirty a key.

use hashbrown::HashTable;

use crate::event::{Action, EventId, KeyId, Queued};
use crate::time::Monotonic;

/// A key that has events waiting. The slot is its name while it has; then another key may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySlot(u32);

#[derive(Debug, Default)]
pub(super) struct Backlog {
    index: HashTable<u32>,
    keys: Vec<Line>,
    free_keys: Vec<u32>,
    events: Vec<Waiting>,
    free_events: Vec<u32>,
}

/// One key's events, first to last.
#[derive(Clone, Debug)]
struct Line {
    /// In quarters: a u128 would align every line to sixteen bytes.
    key: [u32; 4],
    first: u32,
    last: u32,
    /// The last resolve among them, so that nobody walks the line to find one.
    last_resolve: u32,
}

#[derive(Clone, Debug)]
struct Waiting {
    /// The event's number and, in the two lowest bits, its action and whether it reopens.
    tagged: u64,
    next: u32,
    /// When it was acknowledged, in seconds. Rounded up, so that it is not taken for older than it is.
    acknowledged_s: i32,
}

const NONE: u32 = u32::MAX;

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.events.len() - self.free_events.len()
    }

    /// Appends an event to its key; returns the key if this is its only event.
    pub(super) fn push(&mut self, queued: &Queued) -> Option<KeySlot> {
        let event = self.insert_event(queued);
        let resolve = if queued.action == Action::Resolve { event } else { NONE };
        if let Some(KeySlot(at)) = self.slot(queued.key) {
            let line = &mut self.keys[at as usize];
            self.events[line.last as usize].next = event;
            line.last = event;
            if resolve != NONE {
                line.last_resolve = resolve;
            }
            return None;
        }
        let key = quarters(queued.key);
        let line = Line { key, first: event, last: event, last_resolve: resolve };
        let at = place(&mut self.keys, &mut self.free_keys, line);
        let keys = &self.keys;
        self.index.insert_unique(hash(key), at, |at| hash(keys[*at as usize].key));
        Some(KeySlot(at))
    }

    /// The key's place, if it has events waiting.
    pub(super) fn slot(&self, key: KeyId) -> Option<KeySlot> {
        let key = quarters(key);
        self.index.find(hash(key), |at| self.keys[*at as usize].key == key).map(|at| KeySlot(*at))
    }

    /// The event of this key that is to go first.
    pub(super) fn first(&self, key: KeySlot) -> Queued {
        let Waiting { tagged, acknowledged_s, .. } = self.events[self.keys[key.0 as usize].first as usize];
        Queued {
            id: EventId(tagged >> 2),
            key: self.key(key),
            action: if tagged & 1 == 0 { Action::Trigger } else { Action::Resolve },
            reopening: tagged & 2 != 0,
            acknowledged: Monotonic(i64::from(acknowledged_s) * 1_000),
        }
    }

    /// Whether another event of this key waits behind the first.
    pub(super) fn has_next(&self, key: KeySlot) -> bool {
        let line = &self.keys[key.0 as usize];
        line.first != line.last
    }

    /// Whether a resolve of this key waits behind the first event.
    pub(super) fn has_resolve_behind(&self, key: KeySlot) -> bool {
        let line = &self.keys[key.0 as usize];
        line.last_resolve != NONE && line.last_resolve != line.first
    }

    pub(super) fn key(&self, key: KeySlot) -> KeyId {
        let quarters = self.keys[key.0 as usize].key;
        KeyId(quarters.iter().fold(0, |key, quarter| key << 32 | u128::from(*quarter)))
    }

    /// Removes a key's first event; returns whether the key has another.
    pub(super) fn pop(&mut self, key: KeySlot) -> bool {
        let line = &mut self.keys[key.0 as usize];
        let event = line.first;
        let next = self.events[event as usize].next;
        line.first = next;
        if line.last_resolve == event {
            line.last_resolve = NONE;
        }
        self.free_events.push(event);
        if next != NONE {
            return true;
        }
        let hash = hash(line.key);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == key.0) {
            entry.remove();
        }
        self.free_keys.push(key.0);
        if self.index.is_empty() {
            // A backlog that was worked off gives its memory back.
            *self = Backlog::default();
        }
        false
    }

    fn insert_event(&mut self, queued: &Queued) -> u32 {
        let action = u64::from(queued.action == Action::Resolve);
        let tagged = queued.id.0 << 2 | u64::from(queued.reopening) << 1 | action;
        let seconds = queued.acknowledged.0.saturating_add(999).div_euclid(1_000);
        // Sixty-eight years either way.
        let acknowledged_s = seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        place(&mut self.events, &mut self.free_events, Waiting { tagged, next: NONE, acknowledged_s })
    }
}

fn quarters(KeyId(key): KeyId) -> [u32; 4] {
    [(key >> 96) as u32, (key >> 64) as u32, (key >> 32) as u32, key as u32]
}

/// A key is a hash already.
fn hash(key: [u32; 4]) -> u64 {
    u64::from(key[0]) << 32 | u64::from(key[1])
}

fn place<T>(items: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    if let Some(at) = free.pop() {
        items[at as usize] = item;
        return at;
    }
    items.push(item);
    u32::try_from(items.len() - 1).expect("`journal.max_events` keeps the backlog below u32::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_events_are_small() {
        assert_eq!((size_of::<Waiting>(), size_of::<Line>()), (16, 28));
    }

    #[test]
    fn an_event_is_never_older_than_it_was() {
        for (acknowledged, kept) in
            [(0, 0), (1, 1_000), (7_000, 7_000), (-1, 0), (-7_999, -7_000), (i64::MIN / 2, -2_147_483_648_000)]
        {
            let mut backlog = Backlog::default();
            let acknowledged = Monotonic(acknowledged);
            let event = Queued {
                id: EventId(1 << 45),
                key: KeyId(7 << 90 | 3),
                action: Action::Resolve,
                reopening: true,
                acknowledged,
            };
            let slot = backlog.push(&event).unwrap();
            assert_eq!(backlog.first(slot), Queued { acknowledged: Monotonic(kept), ..event });
        }
    }

    proptest::proptest! {
        /// However events of a few keys come and go, it is known whether a resolve waits behind the first of each.
        #[test]
        fn a_resolve_behind_is_seen(steps in proptest::collection::vec((0_u128..3, 0_u8..5), 1..80)) {
            let mut backlog = Backlog::default();
            let mut lines: [std::collections::VecDeque<Action>; 3] = Default::default();
            for (id, (key, step)) in steps.into_iter().enumerate() {
                let line = &mut lines[key as usize];
                if step < 3 {
                    let action = if step < 2 { Action::Trigger } else { Action::Resolve };
                    let (id, key, acknowledged) = (EventId(id as u64), KeyId(key), Monotonic(0));
                    backlog.push(&Queued { id, key, action, reopening: false, acknowledged });
                    line.push_back(action);
                } else if let Some(slot) = backlog.slot(KeyId(key)) {
                    backlog.pop(slot);
                    line.pop_front();
                }
                for (key, line) in (0..).zip(&lines) {
                    let seen = backlog.slot(KeyId(key)).is_some_and(|slot| backlog.has_resolve_behind(slot));
                    proptest::prop_assert_eq!(seen, line.iter().skip(1).any(|action| *action == Action::Resolve));
                }
            }
        }
    }
}
