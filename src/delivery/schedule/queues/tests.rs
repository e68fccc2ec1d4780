use std::collections::VecDeque;

use super::*;

/// Keys that differ in one quarter each.
const KEYS: [KeyId; 5] = [KeyId(0), KeyId(1), KeyId(1 << 32), KeyId(1 << 64), KeyId(1 << 96)];

fn event(id: u64, key: KeyId, action: Action) -> Queued {
    Queued {
        id: EventId(id),
        key,
        source: SourceId(3),
        action,
        priority: Priority::Normal,
        reopening: false,
        continues: false,
        acknowledged: Monotonic(0),
    }
}

#[test]
fn a_million_events_are_small() {
    assert_eq!((size_of::<KeyQueue>(), size_of::<TailEvent>(), size_of::<Tail>()), (36, 16, 24));
}

#[test]
fn an_event_is_kept_as_it_was_and_never_older() {
    for (acknowledged, kept) in
        [(0, 0), (1, 1_000), (7_000, 7_000), (-1, 0), (-7_999, -7_000), (i64::MIN / 2, -2_147_483_648_000)]
    {
        for priority in Priority::ALL {
            for (action, reopening, continues) in [
                (Action::Resolve, false, false),
                (Action::Trigger, true, false),
                (Action::Trigger, false, true),
                (Action::Trigger, false, false),
            ] {
                let mut queues = Queues::default();
                let acknowledged = Monotonic(acknowledged);
                let event = Queued {
                    priority,
                    reopening,
                    continues,
                    acknowledged,
                    ..event(1 << 45, KeyId(7 << 90 | 3), action)
                };
                let (slot, _) = queues.push(&event);
                assert_eq!(queues.first(slot), Queued { acknowledged: Monotonic(kept), ..event });
            }
        }
    }
}

/// A million keys with equal hashes would make each look-up a walk through all of them.
#[test]
fn keys_that_differ_in_their_first_half_are_spread() {
    let keys = [64, 96].into_iter().flat_map(|shift| (1..500).map(move |number: u128| KeyId(number << shift)));
    let hashes: std::collections::BTreeSet<u64> = keys.map(|key| hash(quarters(key))).collect();
    assert_eq!(hashes.len(), 2 * 499);
}

#[test]
fn what_follows_an_undone_trigger_stands_for_it() {
    use Action::{Resolve, Trigger};
    // Actions of one key, true if the first continues an open incident, and those that end unsent in turn.
    for (sentence, actions, continues, undone) in [
        ("a trigger alone is sent", vec![Trigger], false, 0),
        ("an update is no end", vec![Trigger, Trigger], false, 0),
        ("a pair ends", vec![Trigger, Resolve], false, 2),
        ("with its update", vec![Trigger, Trigger, Resolve], false, 3),
        ("of three the last is sent", vec![Trigger, Resolve, Trigger], false, 2),
        ("of an open incident the resolve is sent", vec![Trigger, Resolve], true, 1),
        ("a resolve goes first", vec![Resolve, Trigger, Resolve], false, 0),
        ("two pairs end", vec![Trigger, Resolve, Trigger, Resolve], false, 4),
    ] {
        let mut queues = Queues::default();
        let mut slot = KeySlot(0);
        for (id, action) in (1..).zip(&actions) {
            let continues = *action == Trigger && (continues || id > 1 && actions[0] == Trigger && id == 2);
            (slot, _) = queues.push(&Queued { continues, ..event(id, KEYS[1], *action) });
        }
        let mut ended = 0;
        while queues.slot(KEYS[1]).is_some() && queues.is_undone(slot) {
            queues.pop_undone(slot);
            ended += 1;
        }
        assert_eq!(ended, undone, "{sentence}");
    }
}

proptest::proptest! {
    /// For any sequence of events of a few keys, the first event of each key and those after it are known.
    #[test]
    fn queues_agree_with_a_model(
        steps in proptest::collection::vec((0_usize..KEYS.len(), 0_u8..7, 0_usize..3), 1..80),
    ) {
        let mut queues = Queues::default();
        let mut model: [VecDeque<Queued>; KEYS.len()] = Default::default();
        let mut most = 0;
        for (id, (key, step, choice)) in steps.into_iter().enumerate() {
            let waiting = &mut model[key];
            let slot = queues.slot(KEYS[key]);
            match (step, slot) {
                (0..=3, _) => {
                    let action = if step < 2 { Action::Trigger } else { Action::Resolve };
                    let priority = Priority::ALL[choice];
                    let event = Queued { priority, reopening: step == 1, ..event(id as u64, KEYS[key], action) };
                    proptest::prop_assert_eq!(queues.push(&event).1, waiting.is_empty());
                    waiting.push_back(event);
                }
                (4, Some(slot)) if waiting.len() > 1 => {
                    let at = 1 + choice % (waiting.len() - 1);
                    let removed = waiting.remove(at);
                    proptest::prop_assert_eq!(queues.remove_behind(slot, removed.unwrap().id), removed);
                }
                (_, Some(slot)) => {
                    let first = waiting.pop_front();
                    proptest::prop_assert_eq!(queues.pop(slot, true), !waiting.is_empty());
                    if let Some(next) = waiting.front_mut().filter(|next| next.action == Action::Trigger) {
                        next.continues = first.is_some_and(|first| first.action == Action::Trigger);
                    }
                }
                (_, None) => {}
            }
            for (key, waiting) in KEYS.into_iter().zip(&model) {
                let slot = queues.slot(key);
                proptest::prop_assert_eq!(slot.map(|slot| queues.first(slot)), waiting.front().copied());
                proptest::prop_assert_eq!(slot.map(|slot| queues.newest(slot)), waiting.back().copied());
                proptest::prop_assert_eq!(slot.map_or(0, |slot| queues.count(slot)), waiting.len());
                let highest = waiting.iter().map(|event| event.priority).min();
                proptest::prop_assert_eq!(slot.map(|slot| queues.priority(slot)), highest);
                let later = slot.is_some_and(|slot| queues.has_next(slot));
                proptest::prop_assert_eq!(later, waiting.len() > 1);
                let resolve = slot.is_some_and(|slot| queues.has_resolve_behind(slot));
                let resolve_behind = waiting.iter().skip(1).any(|event| event.action == Action::Resolve);
                proptest::prop_assert_eq!(resolve, resolve_behind);
            }
            proptest::prop_assert_eq!(queues.len(), model.iter().map(VecDeque::len).sum::<usize>());
            let longest = model.iter().map(VecDeque::len).max().unwrap_or(0);
            most = most.max(queues.tail_events.len());
            let (keys, tails, tail_events) = (&queues.keys.items, &queues.tails.items, &queues.tail_events.items);
            proptest::prop_assert!(keys.len() <= KEYS.len() && tails.len() <= KEYS.len(), "slots are used again");
            proptest::prop_assert!(tail_events.len() <= most, "slots are used again");
            proptest::prop_assert_eq!(queues.tails.len() > 0, longest > 1);
            let room = keys.capacity() + tails.capacity() + tail_events.capacity();
            proptest::prop_assert!(queues.len() > 0 || room == 0, "what was worked off gives its memory back");
        }
    }
}
