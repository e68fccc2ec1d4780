//! The waiting events of every key: thirty-two bytes a key with its first event, sixteen for each event behind it.

use hashbrown::HashTable;

use crate::event::{Action, EventId, KeyId, Priority, Queued, SourceId};
use crate::time::Monotonic;

/// A key that has events waiting. The slot is its name while it has; then another key may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySlot(pub(super) u32);

#[derive(Debug, Default)]
pub(super) struct Backlog {
    index: HashTable<u32>,
    lines: Slab<Line>,
    queues: Slab<Queue>,
    behind: Slab<Behind>,
}

/// One key and the event of it that is to go first. Of a million keys most have no other.
#[derive(Clone, Debug)]
struct Line {
    /// In quarters: a u128 would align every line to sixteen bytes.
    key: [u32; 4],
    first: Waiting,
    /// The events behind the first.
    queue: u32,
}

/// A key's events behind its first, in their order.
#[derive(Clone, Debug)]
struct Queue {
    first: u32,
    last: u32,
    /// The last resolve among them, so that nobody walks the queue to find one.
    last_resolve: u32,
}

#[derive(Clone, Debug)]
struct Behind {
    event: Waiting,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The event's number and, in the two lowest bits, its action and whether it reopens. In halves, for the alignment.
    tagged: [u32; 2],
    /// When it was acknowledged, in seconds. Rounded up, so that it is not taken for older than it is.
    acknowledged_s: i32,
}

const NONE: u32 = u32::MAX;

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.behind.len()
    }

    /// Appends an event to its key; returns the key if this is its only event.
    pub(super) fn push(&mut self, queued: &Queued) -> Option<KeySlot> {
        let event = Waiting::of(queued);
        if let Some(KeySlot(at)) = self.slot(queued.key) {
            self.push_behind(at, event);
            return None;
        }
        let key = quarters(queued.key);
        let at = self.lines.put(Line { key, first: event, queue: NONE });
        let lines = &self.lines;
        self.index.insert_unique(hash(key), at, |at| hash(lines[*at].key));
        Some(KeySlot(at))
    }

    fn push_behind(&mut self, line: u32, event: Waiting) {
        let at = self.behind.put(Behind { event, next: NONE });
        let last_resolve = if event.action() == Action::Resolve { at } else { NONE };
        if self.lines[line].queue == NONE {
            self.lines[line].queue = self.queues.put(Queue { first: at, last: at, last_resolve });
            return;
        }
        let queue = &mut self.queues[self.lines[line].queue];
        self.behind[queue.last].next = at;
        queue.last = at;
        if last_resolve != NONE {
            queue.last_resolve = last_resolve;
        }
    }

    /// The key's place, if it has events waiting.
    pub(super) fn slot(&self, key: KeyId) -> Option<KeySlot> {
        let key = quarters(key);
        self.index.find(hash(key), |at| self.lines[*at].key == key).map(|at| KeySlot(*at))
    }

    /// The event of this key that is to go first.
    pub(super) fn first(&self, key: KeySlot) -> Queued {
        self.lines[key.0].first.queued(self.key(key))
    }

    /// Whether another event of this key waits behind the first.
    pub(super) fn has_next(&self, key: KeySlot) -> bool {
        self.lines[key.0].queue != NONE
    }

    /// Whether a resolve of this key waits behind the first event.
    pub(super) fn has_resolve_behind(&self, key: KeySlot) -> bool {
        let queue = self.lines[key.0].queue;
        queue != NONE && self.queues[queue].last_resolve != NONE
    }

    pub(super) fn key(&self, key: KeySlot) -> KeyId {
        KeyId(self.lines[key.0].key.iter().fold(0, |key, quarter| key << 32 | u128::from(*quarter)))
    }

    /// Removes a key's first event; returns whether the key has another.
    pub(super) fn pop(&mut self, key: KeySlot) -> bool {
        let at = self.lines[key.0].queue;
        if at != NONE {
            let queue = &mut self.queues[at];
            let first = queue.first;
            let Behind { event, next } = self.behind[first];
            queue.first = next;
            if queue.last_resolve == first {
                queue.last_resolve = NONE;
            }
            self.behind.free(first);
            let line = &mut self.lines[key.0];
            line.first = event;
            if next == NONE {
                line.queue = NONE;
                self.queues.free(at);
            }
            return true;
        }
        let hash = hash(self.lines[key.0].key);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == key.0) {
            entry.remove();
        }
        self.lines.free(key.0);
        if self.index.is_empty() {
            // A backlog that was worked off gives its memory back.
            *self = Backlog::default();
        }
        false
    }
}

impl Waiting {
    fn of(queued: &Queued) -> Waiting {
        let action = u64::from(queued.action == Action::Resolve);
        let tagged = queued.id.0 << 2 | u64::from(queued.reopening) << 1 | action;
        let seconds = queued.acknowledged.0.saturating_add(999).div_euclid(1_000);
        // Sixty-eight years either way.
        let acknowledged_s = seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        Waiting { tagged: [(tagged >> 32) as u32, tagged as u32], acknowledged_s }
    }

    fn action(self) -> Action {
        if self.tagged[1] & 1 == 0 { Action::Trigger } else { Action::Resolve }
    }

    fn queued(self, key: KeyId) -> Queued {
        Queued {
            id: EventId((u64::from(self.tagged[0]) << 32 | u64::from(self.tagged[1])) >> 2),
            key,
            // Order goes by none of these yet.
            source: SourceId::default(),
            priority: Priority::default(),
            continues: false,
            action: self.action(),
            reopening: self.tagged[1] & 2 != 0,
            acknowledged: Monotonic(i64::from(self.acknowledged_s) * 1_000),
        }
    }
}

fn quarters(KeyId(key): KeyId) -> [u32; 4] {
    [(key >> 96) as u32, (key >> 64) as u32, (key >> 32) as u32, key as u32]
}

/// A key is a hash already.
fn hash(key: [u32; 4]) -> u64 {
    u64::from(key[0]) << 32 | u64::from(key[1])
}

/// Things by number; a number that became free is given out again.
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
mod tests {
    use super::*;

    /// They differ in one quarter each.
    const KEYS: [KeyId; 5] = [KeyId(0), KeyId(1), KeyId(1 << 32), KeyId(1 << 64), KeyId(1 << 96)];

    #[test]
    fn a_million_events_are_small() {
        assert_eq!((size_of::<Line>(), size_of::<Behind>(), size_of::<Queue>()), (32, 16, 12));
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
                source: SourceId(0),
                action: Action::Resolve,
                priority: Priority::Normal,
                reopening: true,
                continues: false,
                acknowledged,
            };
            let slot = backlog.push(&event).unwrap();
            assert_eq!(backlog.first(slot), Queued { acknowledged: Monotonic(kept), ..event });
        }
    }

    /// A table in which all of a million keys met in one place would be walked for each event.
    #[test]
    fn keys_that_differ_in_their_first_half_are_spread() {
        let keys = [64, 96].into_iter().flat_map(|shift| (1..500).map(move |number: u128| KeyId(number << shift)));
        let hashes: std::collections::BTreeSet<u64> = keys.map(|key| hash(quarters(key))).collect();
        assert_eq!(hashes.len(), 2 * 499);
    }

    proptest::proptest! {
        /// However events of a few keys come and go, the first of each is known, and what waits behind it.
        #[test]
        fn lines_agree_with_a_model(steps in proptest::collection::vec((0_usize..KEYS.len(), 0_u8..5), 1..80)) {
            let mut backlog = Backlog::default();
            let mut lines: [std::collections::VecDeque<Queued>; KEYS.len()] = Default::default();
            let mut most = 0;
            for (id, (key, step)) in steps.into_iter().enumerate() {
                let line = &mut lines[key];
                if step < 3 {
                    let action = if step < 2 { Action::Trigger } else { Action::Resolve };
                    let (id, key, acknowledged) = (EventId(id as u64), KEYS[key], Monotonic(0));
                    let (source, priority) = (SourceId(0), Priority::Normal);
                    let (reopening, continues) = (step == 1, false);
                    let event = Queued { id, key, source, action, priority, reopening, continues, acknowledged };
                    proptest::prop_assert_eq!(backlog.push(&event).is_some(), line.is_empty());
                    line.push_back(event);
                } else if let Some(slot) = backlog.slot(KEYS[key]) {
                    line.pop_front();
                    proptest::prop_assert_eq!(backlog.pop(slot), !line.is_empty());
                }
                for (key, line) in KEYS.into_iter().zip(&lines) {
                    let slot = backlog.slot(key);
                    let first = slot.map(|slot| backlog.first(slot));
                    proptest::prop_assert_eq!(first, line.front().copied());
                    let later = slot.is_some_and(|slot| backlog.has_next(slot));
                    proptest::prop_assert_eq!(later, line.len() > 1);
                    let resolve = slot.is_some_and(|slot| backlog.has_resolve_behind(slot));
                    let resolve_behind = line.iter().skip(1).any(|event| event.action == Action::Resolve);
                    proptest::prop_assert_eq!(resolve, resolve_behind);
                }
                proptest::prop_assert_eq!(backlog.len(), lines.iter().map(|line| line.len()).sum::<usize>());
                let longest = lines.iter().map(|line| line.len()).max().unwrap_or(0);
                most = most.max(backlog.behind.len());
                let (lines, queues, behind) = (&backlog.lines.items, &backlog.queues.items, &backlog.behind.items);
                proptest::prop_assert!(lines.len() <= KEYS.len() && queues.len() <= KEYS.len(), "slots are used again");
                proptest::prop_assert!(behind.len() <= most, "slots are used again");
                proptest::prop_assert_eq!(backlog.queues.len() > 0, longest > 1);
                let room = lines.capacity() + queues.capacity() + behind.capacity();
                proptest::prop_assert!(backlog.len() > 0 || room == 0, "what was worked off gives its memory back");
            }
        }
    }
}
