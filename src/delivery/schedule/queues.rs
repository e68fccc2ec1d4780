//! The waiting events of every key: thirty-six bytes for a key with its first event, sixteen for each further event.

use hashbrown::HashTable;

use crate::clock::Monotonic;
use crate::event::{Action, EventId, KeyId, Pending, Priority, Queued, SourceId};

/// A handle for a key with waiting events. It is reused for another key later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySlot(pub(super) u32);

/// All keys with their waiting events, in order.
#[derive(Debug, Default)]
pub(super) struct Queues {
    index: HashTable<u32>,
    keys: Slab<KeyQueue>,
    tails: Slab<Tail>,
    tail_events: Slab<TailEvent>,
}

/// A key and its first event. Of a million keys most have just one.
#[derive(Clone, Debug)]
struct KeyQueue {
    /// Four parts: a u128 would align every key to sixteen bytes.
    key: [u32; 4],
    first: WaitingEvent,
    /// The events after the first.
    tail: u32,
    source: SourceId,
    place: KeyPosition,
}

/// The position of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyPosition {
    /// None: its first event is being settled.
    Away,
    /// A call of its first event is under way.
    Called,
    /// Its first event failed and waits for its retry.
    Backoff,
    /// In a lane of its source.
    Lane(Spot),
    /// Among the keys of its source whose retry is due.
    Retry,
    /// A person holds it.
    Held,
}

/// A position in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// Its resolve follows its trigger directly.
    NextFresh,
    NextBacklog,
    Fresh(Priority),
    /// The incident is open: its newest event is a trigger.
    Open(Priority),
    /// The incident is over: its newest event is a resolve.
    Over(Priority),
}

impl Spot {
    /// Returns true if the key goes directly after its previous event.
    pub(super) fn is_next(self) -> bool {
        matches!(self, Spot::NextFresh | Spot::NextBacklog)
    }

    pub(super) fn is_fresh(self) -> bool {
        matches!(self, Spot::NextFresh | Spot::Fresh(_))
    }
}

/// The events of a key after its first, in order.
#[derive(Clone, Debug)]
struct Tail {
    first: u32,
    last: u32,
    /// The last resolve among them, found without a walk through the queue.
    last_resolve: u32,
    count: u32,
    /// The number of events with high and with normal priority.
    high: u32,
    normal: u32,
}

#[derive(Clone, Debug)]
struct TailEvent {
    event: WaitingEvent,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct WaitingEvent {
    /// The event's number and, in the five lowest bits, its other properties. Two halves, for the alignment.
    tagged: [u32; 2],
    /// The time of acknowledgement in seconds, rounded up, so that the event does not look older than it is.
    acknowledged_s: i32,
}

const NONE: u32 = u32::MAX;

impl Queues {
    /// The number of events of all keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.tail_events.len()
    }

    /// The events of all keys, in no order.
    pub(super) fn events(&self) -> impl Iterator<Item = Pending> {
        self.index.iter().flat_map(move |at| {
            let source = self.keys[*at].source;
            let first = self.keys[*at].first;
            let mut next = self.tail(KeySlot(*at)).map_or(NONE, |tail| tail.first);
            let behind = std::iter::from_fn(move || {
                if next == NONE {
                    return None;
                }
                let TailEvent { event, next: after } = self.tail_events[next];
                next = after;
                Some(event)
            });
            let waits = move |event: WaitingEvent| Pending {
                event: event.id(),
                source,
                action: event.action(),
                priority: event.priority(),
            };
            std::iter::once(first).chain(behind).map(waits)
        })
    }

    /// Appends an event to its key; returns the key, and true if this is its only event.
    pub(super) fn push(&mut self, queued: &Queued) -> (KeySlot, bool) {
        let event = WaitingEvent::of(queued);
        if let Some(KeySlot(at)) = self.slot(queued.key) {
            self.push_behind(at, event);
            return (KeySlot(at), false);
        }
        let key = quarters(queued.key);
        let (source, place) = (queued.source, KeyPosition::Away);
        let at = self.keys.put(KeyQueue { key, first: event, tail: NONE, source, place });
        let keys = &self.keys;
        self.index.insert_unique(hash(key), at, |at| hash(keys[*at].key));
        (KeySlot(at), true)
    }

    fn push_behind(&mut self, key: u32, event: WaitingEvent) {
        let at = self.tail_events.put(TailEvent { event, next: NONE });
        if self.keys[key].tail == NONE {
            let empty = Tail { first: at, last: at, last_resolve: NONE, count: 0, high: 0, normal: 0 };
            self.keys[key].tail = self.tails.put(empty);
        } else {
            let last = self.tails[self.keys[key].tail].last;
            self.tail_events[last].next = at;
        }
        let tail = &mut self.tails[self.keys[key].tail];
        tail.last = at;
        tail.count(event.priority(), 1);
        if event.action() == Action::Resolve {
            tail.last_resolve = at;
        }
    }

    /// The number of handles; not all of them are in use.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.keys.items.len()).unwrap_or(u32::MAX)
    }

    /// Returns true if this handle is in use.
    pub(super) fn is_waiting(&self, key: KeySlot) -> bool {
        self.keys[key.0].first.tagged != UNUSED
    }

    /// The key's handle, if it has waiting events.
    pub(super) fn slot(&self, key: KeyId) -> Option<KeySlot> {
        let key = quarters(key);
        self.index.find(hash(key), |at| self.keys[*at].key == key).map(|at| KeySlot(*at))
    }

    /// The first event of this key.
    pub(super) fn first(&self, key: KeySlot) -> Queued {
        self.queued(key, self.keys[key.0].first)
    }

    /// The last event of this key.
    pub(super) fn newest(&self, key: KeySlot) -> Queued {
        let event = self.tail(key).map_or(self.keys[key.0].first, |tail| self.tail_events[tail.last].event);
        self.queued(key, event)
    }

    /// The number of events of this key.
    pub(super) fn count(&self, key: KeySlot) -> usize {
        1 + self.tail(key).map_or(0, |tail| tail.count as usize)
    }

    /// The highest priority among the events of this key.
    pub(super) fn priority(&self, key: KeySlot) -> Priority {
        let behind = match self.tail(key) {
            Some(tail) if tail.high > 0 => Priority::High,
            Some(tail) if tail.normal > 0 => Priority::Normal,
            _ => Priority::Low,
        };
        behind.min(self.keys[key.0].first.priority())
    }

    /// Returns true if this key has a second event.
    pub(super) fn has_next(&self, key: KeySlot) -> bool {
        self.keys[key.0].tail != NONE
    }

    /// Returns true if a resolve of this key waits after the first event.
    pub(super) fn has_resolve_behind(&self, key: KeySlot) -> bool {
        self.tail(key).is_some_and(|tail| tail.last_resolve != NONE)
    }

    /// Returns true if later events cancel the key's first event, which was never tried: a resolve cancels its trigger,
    /// and is itself cancelled if nothing of its incident was sent.
    pub(super) fn is_undone(&self, key: KeySlot) -> bool {
        let first = self.keys[key.0].first;
        match first.action() {
            Action::Trigger => self.has_resolve_behind(key),
            Action::Resolve => first.has(MARKED),
        }
    }

    pub(super) fn source(&self, key: KeySlot) -> SourceId {
        self.keys[key.0].source
    }

    pub(super) fn place(&self, key: KeySlot) -> KeyPosition {
        self.keys[key.0].place
    }

    pub(super) fn put(&mut self, key: KeySlot, place: KeyPosition) {
        self.keys[key.0].place = place;
    }

    /// Removes a key's settled first event; returns true if the key has another. `done`: the upstream did what the
    /// event asked. After a trigger, and after a resolve that was not done, the incident may be open.
    pub(super) fn pop(&mut self, key: KeySlot, done: bool) -> bool {
        let open = !done || self.keys[key.0].first.action() == Action::Trigger;
        self.remove_first(key, open)
    }

    /// Removes a key's first event. `open`: the incident may be open after it, so that the next trigger continues it.
    fn remove_first(&mut self, key: KeySlot, open: bool) -> bool {
        let at = self.keys[key.0].tail;
        if at != NONE {
            let first = self.tails[at].first;
            let TailEvent { event, next } = self.tail_events[first];
            self.unlink(key.0, first, NONE, next, event);
            let first = &mut self.keys[key.0].first;
            *first = event;
            if event.action() == Action::Trigger {
                first.set(CONTINUES, open);
            }
            return true;
        }
        let hash = hash(self.keys[key.0].key);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == key.0) {
            entry.remove();
        }
        self.keys[key.0].first.tagged = UNUSED;
        self.keys.free(key.0);
        if self.index.is_empty() {
            // An empty queue frees its memory.
            *self = Queues::default();
        }
        false
    }

    /// Removes a key's cancelled first event. The next event inherits its role: after a new incident's first trigger,
    /// the next trigger is the first one, and a resolve has nothing to close.
    pub(super) fn pop_undone(&mut self, key: KeySlot) -> bool {
        let undone = self.keys[key.0].first;
        let trigger = undone.action() == Action::Trigger;
        let open = trigger && undone.has(CONTINUES);
        let has_next = self.remove_first(key, open);
        if has_next && trigger && !open {
            let next = &mut self.keys[key.0].first;
            if next.action() == Action::Resolve {
                next.set(MARKED, true);
            }
        }
        has_next
    }

    /// Removes an event after the first of its key.
    pub(super) fn remove_behind(&mut self, key: KeySlot, id: EventId) -> Option<Queued> {
        let (mut before, mut at) = (NONE, self.tail(key)?.first);
        while at != NONE {
            let TailEvent { event, next } = self.tail_events[at];
            if event.id() == id {
                self.unlink(key.0, at, before, next, event);
                return Some(self.queued(key, event));
            }
            (before, at) = (at, next);
        }
        None
    }

    /// Removes one event from a key's tail; `before` and `next` are its neighbours there.
    fn unlink(&mut self, key: u32, at: u32, before: u32, next: u32, event: WaitingEvent) {
        let number = self.keys[key].tail;
        if before != NONE {
            self.tail_events[before].next = next;
        }
        self.tail_events.free(at);
        let tail = &mut self.tails[number];
        tail.count(event.priority(), -1);
        if before == NONE {
            tail.first = next;
        }
        if next == NONE {
            tail.last = before;
        }
        if tail.first == NONE {
            self.keys[key].tail = NONE;
            self.tails.free(number);
        } else if tail.last_resolve == at {
            // The last resolve was removed: there is none before the first event, but there may be one before this
            // event.
            let first = tail.first;
            let last_resolve = if before == NONE { NONE } else { self.last_resolve_from(first) };
            self.tails[number].last_resolve = last_resolve;
        }
    }

    fn last_resolve_from(&self, first: u32) -> u32 {
        let (mut found, mut at) = (NONE, first);
        while at != NONE {
            if self.tail_events[at].event.action() == Action::Resolve {
                found = at;
            }
            at = self.tail_events[at].next;
        }
        found
    }

    fn tail(&self, key: KeySlot) -> Option<&Tail> {
        let at = self.keys[key.0].tail;
        (at != NONE).then(|| &self.tails[at])
    }

    fn queued(&self, key: KeySlot, event: WaitingEvent) -> Queued {
        let KeyQueue { key, source, .. } = &self.keys[key.0];
        let key = KeyId(key.iter().fold(0, |key, quarter| key << 32 | u128::from(*quarter)));
        let reopening = event.action() == Action::Trigger && event.has(MARKED);
        Queued {
            id: event.id(),
            key,
            source: *source,
            action: event.action(),
            priority: event.priority(),
            reopening,
            continues: event.has(CONTINUES),
            acknowledged: Monotonic(i64::from(event.acknowledged_s) * 1_000),
        }
    }
}

impl Tail {
    fn count(&mut self, priority: Priority, change: i32) {
        self.count = self.count.wrapping_add_signed(change);
        match priority {
            Priority::High => self.high = self.high.wrapping_add_signed(change),
            Priority::Normal => self.normal = self.normal.wrapping_add_signed(change),
            Priority::Low => {}
        }
    }
}

impl WaitingEvent {
    fn of(queued: &Queued) -> WaitingEvent {
        let Queued { id, action, priority, reopening, continues, acknowledged, .. } = *queued;
        let flag = |set: bool, flag: u32| if set { u64::from(flag) } else { 0 };
        let flags = flag(action == Action::Resolve, RESOLVE)
            | flag(reopening && action == Action::Trigger, MARKED)
            | flag(continues, CONTINUES);
        let tagged = id.0 << TAG_BITS | (priority as u64) << PRIORITY_SHIFT | flags;
        let seconds = acknowledged.0.saturating_add(999).div_euclid(1_000);
        // Sixty-eight years in both directions.
        let acknowledged_s = seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        WaitingEvent { tagged: [(tagged >> 32) as u32, tagged as u32], acknowledged_s }
    }

    fn id(self) -> EventId {
        EventId((u64::from(self.tagged[0]) << 32 | u64::from(self.tagged[1])) >> TAG_BITS)
    }

    fn action(self) -> Action {
        if self.has(RESOLVE) { Action::Resolve } else { Action::Trigger }
    }

    fn priority(self) -> Priority {
        Priority::ALL[(self.tagged[1] >> PRIORITY_SHIFT & 3) as usize]
    }

    fn has(self, flag: u32) -> bool {
        self.tagged[1] & flag != 0
    }

    fn set(&mut self, flag: u32, value: bool) {
        if value { self.tagged[1] |= flag } else { self.tagged[1] &= !flag }
    }
}

/// A resolve.
const RESOLVE: u32 = 1;
/// A trigger: it follows a resolve. A resolve: nothing of its incident was sent.
const MARKED: u32 = 2;
/// A trigger that repeats or updates an open incident.
const CONTINUES: u32 = 4;
/// Of a key without events; no event has the number 0.
const UNUSED: [u32; 2] = [0, 0];
const PRIORITY_SHIFT: u32 = 3;
const TAG_BITS: u32 = 5;

fn quarters(KeyId(key): KeyId) -> [u32; 4] {
    [(key >> 96) as u32, (key >> 64) as u32, (key >> 32) as u32, key as u32]
}

/// A key is a hash already.
fn hash(key: [u32; 4]) -> u64 {
    u64::from(key[0]) << 32 | u64::from(key[1])
}

/// Items by number; numbers of removed items are reused.
#[derive(Debug)]
struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    fn put(&mut self, item: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self[at] = item;
            return at;
        }
        self.items.push(item);
        u32::try_from(self.items.len() - 1).expect("`journal.max_events` keeps the backlog below u32::MAX")
    }

    fn free(&mut self, at: u32) {
        self.free.push(at);
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.items[at as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.items[at as usize]
    }
}

#[cfg(test)]
mod tests;
