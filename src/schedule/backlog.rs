//! The waiting events of every key, as lists through one vector: sixteen bytes an event, thirty a key.

use hashbrown::HashTable;

use crate::event::{Action, EventId, KeyId, Queued};

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
    /// Two halves: a u128 would align every line to sixteen bytes.
    key: [u64; 2],
    first: u32,
    last: u32,
}

#[derive(Clone, Debug)]
struct Waiting {
    /// The event's number and, in the two lowest bits, its action and whether it reopens.
    tagged: u64,
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.events.len() - self.free_events.len()
    }

    /// Appends an event to its key; returns the key if this is its only event.
    pub(super) fn push(&mut self, queued: &Queued) -> Option<KeySlot> {
        let event = self.insert_event(queued);
        let key = [(queued.key.0 >> 64) as u64, queued.key.0 as u64];
        if let Some(at) = self.index.find(key[0], |at| self.keys[*at as usize].key == key) {
            let line = &mut self.keys[*at as usize];
            self.events[line.last as usize].next = event;
            line.last = event;
            return None;
        }
        let line = Line { key, first: event, last: event };
        let at = place(&mut self.keys, &mut self.free_keys, line);
        let keys = &self.keys;
        self.index.insert_unique(key[0], at, |at| keys[*at as usize].key[0]);
        Some(KeySlot(at))
    }

    /// The key's place, if it has events waiting.
    pub(super) fn slot(&self, key: KeyId) -> Option<KeySlot> {
        let key = [(key.0 >> 64) as u64, key.0 as u64];
        self.index.find(key[0], |at| self.keys[*at as usize].key == key).map(|at| KeySlot(*at))
    }

    /// The event of this key that is to go first.
    pub(super) fn first(&self, key: KeySlot) -> Queued {
        let tagged = self.events[self.keys[key.0 as usize].first as usize].tagged;
        Queued {
            id: EventId(tagged >> 2),
            key: self.key(key),
            action: if tagged & 1 == 0 { Action::Trigger } else { Action::Resolve },
            reopening: tagged & 2 != 0,
        }
    }

    /// Whether another event of this key waits behind the first.
    pub(super) fn has_next(&self, key: KeySlot) -> bool {
        let line = &self.keys[key.0 as usize];
        line.first != line.last
    }

    pub(super) fn key(&self, key: KeySlot) -> KeyId {
        let [high, low] = self.keys[key.0 as usize].key;
        KeyId(u128::from(high) << 64 | u128::from(low))
    }

    /// Removes a key's first event; returns whether the key has another.
    pub(super) fn pop(&mut self, key: KeySlot) -> bool {
        let line = &mut self.keys[key.0 as usize];
        let event = line.first;
        let next = self.events[event as usize].next;
        line.first = next;
        self.free_events.push(event);
        if next != NONE {
            return true;
        }
        let hash = line.key[0];
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
        place(&mut self.events, &mut self.free_events, Waiting { tagged, next: NONE })
    }
}

fn place<T>(items: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    if let Some(at) = free.pop() {
        items[at as usize] = item;
        return at;
    }
    items.push(item);
    u32::try_from(items.len() - 1).expect("`journal.max_events` keeps the backlog below u32::MAX")
}
