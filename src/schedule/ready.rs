//! The keys whose first event may go now, in their order. After a start, or in an outage, a million keys in a row wait
//! that were named one after another: they are kept as the runs that they are.

use std::collections::VecDeque;

use super::KeySlot;

/// Keys in line, each at most once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The first and the last name of each run.
    runs: VecDeque<(u32, u32)>,
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn push_back(&mut self, KeySlot(key): KeySlot) {
        match self.runs.back_mut() {
            Some((_, last)) if last.checked_add(1) == Some(key) => *last = key,
            _ => self.runs.push_back((key, key)),
        }
    }

    pub(super) fn push_front(&mut self, KeySlot(key): KeySlot) {
        match self.runs.front_mut() {
            Some((first, _)) if key.checked_add(1) == Some(*first) => *first = key,
            _ => self.runs.push_front((key, key)),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<KeySlot> {
        let key = self.iter().next()?;
        self.remove(key);
        Some(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = KeySlot> {
        self.runs.iter().flat_map(|(first, last)| (*first..=*last).map(KeySlot))
    }

    /// Takes a key out of the line, wherever it stands.
    pub(super) fn remove(&mut self, KeySlot(key): KeySlot) {
        let Some(at) = self.runs.iter().position(|(first, last)| (*first..=*last).contains(&key)) else {
            return;
        };
        let (first, last) = self.runs[at];
        match (first == key, last == key) {
            (true, true) => drop(self.runs.remove(at)),
            (true, false) => self.runs[at].0 = key + 1,
            (false, true) => self.runs[at].1 = key - 1,
            (false, false) => {
                self.runs[at].1 = key - 1;
                self.runs.insert(at + 1, (key + 1, last));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_keys_in_a_row_take_no_room() {
        let mut ready = Ready::default();
        (0..1_000_000).for_each(|key| ready.push_back(KeySlot(key)));
        assert_eq!(ready.runs.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn the_line_is_that_of_a_plain_queue(steps in proptest::collection::vec((0_u8..4, 0_u32..12), 1..200)) {
            let (mut ready, mut model) = (Ready::default(), VecDeque::new());
            for (step, name) in steps {
                let key = KeySlot(name);
                let waits = model.contains(&key);
                match step {
                    0 if !waits => {
                        ready.push_back(key);
                        model.push_back(key);
                    }
                    1 if !waits => {
                        ready.push_front(key);
                        model.push_front(key);
                    }
                    2 => proptest::prop_assert_eq!(ready.pop_front(), model.pop_front()),
                    _ => {
                        ready.remove(key);
                        model.retain(|waiting| *waiting != key);
                    }
                }
                proptest::prop_assert!(ready.iter().eq(model.iter().copied()));
                proptest::prop_assert_eq!(ready.is_empty(), model.is_empty());
            }
        }
    }
}
