//! A table of up to a million incident keys at about sixty bytes each, and the order in which they are evicted.

use std::collections::HashMap;

use hashbrown::HashTable;

use super::KeyState;
use crate::clock::Monotonic;
use crate::event::{Action, EventId, KeyId, Occurrence, UpdateHash};

/// All known keys. Slots live in one vector, found through a table of 32-bit numbers; each stands in one of two
/// lists, resolved or open, ordered by when it was last taken.
#[derive(Debug)]
pub(super) struct KeyTable {
    max: usize,
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: List,
    resolved: List,
    /// Few installations name occurrences, so they are kept beside the slots.
    occurrences: HashMap<u32, Occurrences>,
    evicted: Evicted,
    /// The last events of evicted keys.
    last_of_evicted: Vec<EventId>,
    has_evicted: bool,
}

/// Counts of evicted keys by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    pub resolved: u64,
    pub open: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Two halves, since a u128 would align every slot to sixteen bytes.
    key: [u64; 2],
    /// The last event's number and, in the two lowest bits, its action and a flag while it waits.
    tagged: u64,
    taken: Monotonic,
    update: UpdateHash,
    older: u32,
    newer: u32,
}

/// A linked list through the slots, ordered by when each key was last taken, oldest first.
#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
    /// Those of them whose last event waits for delivery.
    waiting: usize,
}

/// The occurrences known for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// The occurrence of the last event that named one, since the key became known.
    pub last: Option<Occurrence>,
    /// The occurrence before it, which was resolved.
    pub past: Option<Occurrence>,
}

const NONE: u32 = u32::MAX;

impl KeyTable {
    pub(super) fn new(max: usize) -> KeyTable {
        KeyTable {
            max: max.clamp(1, NONE as usize - 1),
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            open: List::EMPTY,
            resolved: List::EMPTY,
            occurrences: HashMap::new(),
            evicted: Evicted::default(),
            last_of_evicted: Vec::new(),
            has_evicted: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn take_evicted_counts(&mut self) -> Evicted {
        std::mem::take(&mut self.evicted)
    }

    pub(super) fn take_evicted(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.last_of_evicted)
    }

    pub(super) fn has_evicted(&self) -> bool {
        self.has_evicted
    }

    pub(super) fn get(&self, key: KeyId) -> Option<KeyState> {
        let at = self.find(key)?;
        let slot = &self.slots[at as usize];
        let occurrences = self.occurrences.get(&at).cloned().unwrap_or_default();
        Some(KeyState {
            last_action: slot.last_action(),
            last: slot.last(),
            taken: slot.taken,
            waiting: slot.waiting(),
            update: slot.update,
            occurrences,
        })
    }

    pub(super) fn last(&self, key: KeyId) -> Option<EventId> {
        self.find(key).map(|at| self.slots[at as usize].last())
    }

    pub(super) fn last_action(&self, key: KeyId) -> Option<(EventId, Action)> {
        self.find(key).map(|at| (self.slots[at as usize].last(), self.slots[at as usize].last_action()))
    }

    pub(super) fn occurrences(&self, key: KeyId) -> Occurrences {
        self.find(key).and_then(|at| self.occurrences.get(&at).cloned()).unwrap_or_default()
    }

    /// The number of keys that are open.
    pub(super) fn open_len(&self) -> usize {
        self.open.len
    }

    /// The number of open keys whose last event waits for delivery.
    pub(super) fn open_waiting(&self) -> usize {
        self.open.waiting
    }

    /// The last events of the keys that are open, newest first.
    pub(super) fn open(&self, limit: usize) -> Vec<EventId> {
        let slots = |at: u32| (at != NONE).then(|| &self.slots[at as usize]);
        std::iter::successors(slots(self.open.newest), |slot| slots(slot.older)).take(limit).map(Slot::last).collect()
    }

    pub(super) fn set_delivered(&mut self, key: KeyId) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        let (action, waited) = (slot.last_action(), usize::from(slot.waiting()));
        slot.tagged &= !WAITING;
        self.list(action).waiting -= waited;
    }

    /// Sets a key's state and makes the key the newest of its list; evicts the oldest key if there are too many.
    pub(super) fn put(&mut self, key: KeyId, state: KeyState) {
        let at = match self.find(key) {
            Some(at) => {
                self.unlink(at);
                at
            }
            None => {
                if self.len() >= self.max {
                    self.evict_oldest();
                }
                self.insert(key)
            }
        };
        let slot = &mut self.slots[at as usize];
        slot.tagged = tagged(state.last, state.last_action, state.waiting);
        slot.taken = state.taken;
        slot.update = state.update;
        match state.occurrences {
            Occurrences { last: None, .. } => self.occurrences.remove(&at),
            occurrences => self.occurrences.insert(at, occurrences),
        };
        self.link_newest(at);
    }

    pub(super) fn remove(&mut self, key: KeyId) {
        let hash = hash(split(key));
        let Ok(entry) = self.index.find_entry(hash, |at| self.slots[*at as usize].key == split(key)) else {
            return;
        };
        let (at, _) = entry.remove();
        self.unlink(at);
        self.occurrences.remove(&at);
        self.free.push(at);
    }

    pub(super) fn evict_all(&mut self) {
        *self = KeyTable { has_evicted: true, ..KeyTable::new(self.max) };
    }

    /// Resolved keys go first: their next event is delivered either way.
    fn evict_oldest(&mut self) {
        self.evict_oldest_until(EventId(u64::MAX));
    }

    /// Evicts the oldest key whose last event is not newer than `until`. Returns true if there was one.
    pub(super) fn evict_oldest_until(&mut self, until: EventId) -> bool {
        let fits = |at: &u32| *at != NONE && self.slots[*at as usize].last() <= until;
        let Some(at) = [self.resolved.oldest, self.open.oldest].into_iter().find(fits) else {
            return false;
        };
        let slot = &self.slots[at as usize];
        let (key, last) = (join(slot.key), slot.last());
        match slot.last_action() {
            Action::Resolve => self.evicted.resolved += 1,
            Action::Trigger => self.evicted.open += 1,
        }
        self.has_evicted = true;
        self.last_of_evicted.push(last);
        self.remove(key);
        true
    }

    fn find(&self, key: KeyId) -> Option<u32> {
        let key = split(key);
        self.index.find(hash(key), |at| self.slots[*at as usize].key == key).copied()
    }

    fn insert(&mut self, key: KeyId) -> u32 {
        let slot = Slot {
            key: split(key),
            tagged: tagged(EventId(0), Action::Trigger, false),
            taken: Monotonic(0),
            update: UpdateHash(0),
            older: NONE,
            newer: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("`max` keeps the number of slots below u32::MAX")
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash(split(key)), at, |at| hash(slots[*at as usize].key));
        at
    }

    fn list(&mut self, action: Action) -> &mut List {
        match action {
            Action::Trigger => &mut self.open,
            Action::Resolve => &mut self.resolved,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        let (action, waiting) = (slot.last_action(), usize::from(slot.waiting()));
        let list = self.list(action);
        let before = list.newest;
        list.newest = at;
        list.len += 1;
        list.waiting += waiting;
        if before == NONE {
            list.oldest = at;
        } else {
            self.slots[before as usize].newer = at;
        }
        self.slots[at as usize].older = before;
        self.slots[at as usize].newer = NONE;
    }

    fn unlink(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        let (older, newer, last_action) = (slot.older, slot.newer, slot.last_action());
        let waiting = usize::from(slot.waiting());
        self.list(last_action).len -= 1;
        self.list(last_action).waiting -= waiting;
        if older == NONE {
            self.list(last_action).oldest = newer;
        } else {
            self.slots[older as usize].newer = newer;
        }
        if newer == NONE {
            self.list(last_action).newest = older;
        } else {
            self.slots[newer as usize].older = older;
        }
    }
}

impl List {
    const EMPTY: List = List { oldest: NONE, newest: NONE, len: 0, waiting: 0 };
}

impl Slot {
    fn last(&self) -> EventId {
        EventId(self.tagged >> 2)
    }

    fn last_action(&self) -> Action {
        if self.tagged & RESOLVE == 0 { Action::Trigger } else { Action::Resolve }
    }

    fn waiting(&self) -> bool {
        self.tagged & WAITING != 0
    }
}

/// Event numbers stay far below 2^62, so two bits are free.
fn tagged(last: EventId, action: Action, waiting: bool) -> u64 {
    let resolve = if action == Action::Resolve { RESOLVE } else { 0 };
    last.0 << 2 | resolve | if waiting { WAITING } else { 0 }
}

const RESOLVE: u64 = 1;
const WAITING: u64 = 2;

fn split(key: KeyId) -> [u64; 2] {
    [(key.0 >> 64) as u64, key.0 as u64]
}

fn join(key: [u64; 2]) -> KeyId {
    KeyId(u128::from(key[0]) << 64 | u128::from(key[1]))
}

/// The key is a cryptographic hash already, so half of it is a good hash.
fn hash(key: [u64; 2]) -> u64 {
    key[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(action: Action, last: u64) -> KeyState {
        KeyState {
            last_action: action,
            last: EventId(last),
            taken: Monotonic(0),
            waiting: false,
            update: UpdateHash(0),
            occurrences: Occurrences::default(),
        }
    }

    #[test]
    fn the_oldest_resolved_key_is_evicted_before_any_open_one() {
        let mut keys = KeyTable::new(3);
        keys.put(KeyId(1), state(Action::Trigger, 1));
        keys.put(KeyId(2), state(Action::Resolve, 2));
        keys.put(KeyId(3), state(Action::Resolve, 3));
        keys.put(KeyId(4), state(Action::Trigger, 4));
        assert_eq!(keys.last(KeyId(2)), None);
        keys.put(KeyId(5), state(Action::Trigger, 5));
        assert_eq!(keys.last(KeyId(3)), None);
        keys.put(KeyId(6), state(Action::Trigger, 6));
        assert_eq!(keys.last(KeyId(1)), None, "then the oldest open one");
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.take_evicted_counts(), Evicted { resolved: 2, open: 1 });
        assert_eq!(keys.take_evicted_counts(), Evicted::default());
    }

    #[test]
    fn of_keys_up_to_an_event_the_oldest_is_evicted_and_no_newer_one() {
        let mut keys = KeyTable::new(9);
        keys.put(KeyId(1), state(Action::Trigger, 1));
        keys.put(KeyId(2), state(Action::Resolve, 5));
        keys.put(KeyId(3), state(Action::Resolve, 6));
        let mut told = Vec::new();
        while keys.evict_oldest_until(EventId(5)) {
            told.extend(keys.take_evicted());
        }
        assert_eq!((told, keys.last(KeyId(3))), (vec![EventId(5), EventId(1)], Some(EventId(6))));
        assert_eq!(keys.take_evicted_counts(), Evicted { resolved: 1, open: 1 });
    }

    #[test]
    fn a_key_taken_again_is_young_again() {
        let mut keys = KeyTable::new(2);
        keys.put(KeyId(1), state(Action::Trigger, 1));
        keys.put(KeyId(2), state(Action::Trigger, 2));
        keys.put(KeyId(1), state(Action::Trigger, 3));
        keys.put(KeyId(3), state(Action::Trigger, 4));
        assert_eq!(keys.last(KeyId(1)), Some(EventId(3)));
        assert_eq!(keys.last(KeyId(2)), None);
    }

    #[test]
    fn a_slot_stays_small() {
        assert_eq!(size_of::<Slot>(), 48);
    }

    /// A million keys with equal hashes would make each look-up a walk through all of them.
    #[test]
    fn keys_that_differ_in_their_first_half_are_spread() {
        let keys = [64, 96].into_iter().flat_map(|shift| (1..500).map(move |number: u128| KeyId(number << shift)));
        let hashes: std::collections::BTreeSet<u64> = keys.map(|key| hash(split(key))).collect();
        assert_eq!(hashes.len(), 2 * 499);
    }

    proptest::proptest! {
        /// After any operations the lists and the index agree with a plain model.
        #[test]
        fn lists_and_index_agree_with_a_model(steps in proptest::collection::vec((0_u8..4, 0_u128..12), 1..200)) {
            let mut keys = KeyTable::new(6);
            // Oldest first.
            let mut model: Vec<(u128, Action, u64)> = Vec::new();
            let mut waiting: std::collections::BTreeSet<u64> = std::collections::BTreeSet::new();
            let mut evicted = Evicted::default();
            // Some differ in one half of the key only.
            let name = |key: u128| KeyId(((key / 4) << 64) | (key % 4));
            for (number, (what, key)) in steps.into_iter().enumerate() {
                let number = number as u64;
                if what == 3 {
                    keys.set_delivered(name(key));
                    waiting.retain(|last| !model.iter().any(|(known, _, number)| *known == key && number == last));
                } else if what == 2 {
                    keys.remove(name(key));
                    model.retain(|(known, ..)| *known != key);
                } else {
                    let action = if what == 0 { Action::Trigger } else { Action::Resolve };
                    let known = model.iter().any(|(known, ..)| *known == key);
                    model.retain(|(known, ..)| *known != key);
                    if !known && model.len() == 6 {
                        let at = model.iter().position(|(_, action, _)| *action == Action::Resolve);
                        *if at.is_some() { &mut evicted.resolved } else { &mut evicted.open } += 1;
                        model.remove(at.unwrap_or(0));
                    }
                    model.push((key, action, number));
                    let waits = !number.is_multiple_of(3);
                    waiting.extend(waits.then_some(number));
                    keys.put(name(key), KeyState { waiting: waits, ..state(action, number) });
                }
                for key in 0..12 {
                    let expected = model.iter().find(|(known, ..)| *known == key).map(|(_, _, last)| EventId(*last));
                    proptest::prop_assert_eq!(keys.last(name(key)), expected);
                }
                proptest::prop_assert_eq!(keys.len(), model.len());
                proptest::prop_assert!(keys.slots.len() <= 6, "slots are used again");
                let open = model.iter().rev().filter(|(_, action, _)| *action == Action::Trigger);
                proptest::prop_assert_eq!(keys.open_len(), open.clone().count());
                let waits = open.clone().filter(|(_, _, last)| waiting.contains(last)).count();
                proptest::prop_assert_eq!(keys.open_waiting(), waits);
                let open: Vec<_> = open.take(4).map(|(_, _, last)| EventId(*last)).collect();
                proptest::prop_assert_eq!(keys.open(4), open);
            }
            proptest::prop_assert_eq!(keys.take_evicted().len() as u64, evicted.resolved + evicted.open);
            proptest::prop_assert_eq!(keys.has_evicted(), evicted != Evicted::default());
            proptest::prop_assert_eq!(keys.take_evicted_counts(), evicted);
        }
    }
}
