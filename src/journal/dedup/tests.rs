use proptest::prelude::*;

use super::*;
use crate::clock::WallTime;

const WINDOW: Duration = Duration::from_secs(600);
const SETTINGS: Settings = Settings { window: WINDOW, remind: true, max_keys: 100 };
const KEY: KeyId = KeyId(7);

/// One step of a story about one key, with the second at which it happens.
enum Step {
    Trigger(u64, DedupDecision),
    /// A trigger whose `update_on` values hash to the second number.
    Changed(u64, u64, DedupDecision),
    Resolve(u64, DedupDecision),
    /// The last event taken was delivered.
    Delivered,
    /// The last event taken had no effect.
    Lost,
}
use Step::{Changed, Delivered, Lost, Resolve, Trigger};

const OPENING: DedupDecision = DedupDecision::Take(AcceptReason::Opening);
const REOPENING: DedupDecision = DedupDecision::Take(AcceptReason::Reopening);
const UPDATE: DedupDecision = DedupDecision::Take(AcceptReason::Update);
const REMINDER: DedupDecision = DedupDecision::Take(AcceptReason::Reminder);
const CLOSING: DedupDecision = DedupDecision::Take(AcceptReason::Closing);
const CLOSING_UNKNOWN: DedupDecision = DedupDecision::Take(AcceptReason::ClosingUnknown);

/// A duplicate of the `of`th event taken, from 1.
const fn duplicate(of: u64, why: DuplicateReason) -> DedupDecision {
    DedupDecision::Duplicate { of: EventId(of), why }
}

/// This many milliseconds after 2025-11-24T16:00:00Z.
fn at(millis: i64) -> Now {
    Now { monotonic: Monotonic(millis), wall: WallTime(1_764_000_000_000 + millis) }
}

/// Takes an arrival that is new.
fn take(dedup: &mut Dedup, arrival: Arrival<'_>, id: u64, now: Now) {
    if let DedupDecision::Take(_) = dedup.decide(arrival, now) {
        let Arrival { key, action, update, .. } = arrival;
        let occurrences = dedup.occurrences_after(arrival);
        dedup.take(Taken { id: EventId(id), key, action, update, occurrences }, now.monotonic);
    }
}

fn play(sentence: &str, settings: Settings, story: Vec<Step>) {
    let mut dedup = Dedup::new(settings);
    let mut taken = 0;
    for (number, step) in story.into_iter().enumerate() {
        let (second, action, update, expected) = match step {
            Trigger(second, expected) => (second, Action::Trigger, 0, expected),
            Changed(second, update, expected) => (second, Action::Trigger, update, expected),
            Resolve(second, expected) => (second, Action::Resolve, 0, expected),
            Delivered => {
                dedup.settle(KEY, EventId(taken), Effect::Confirmed);
                continue;
            }
            Lost => {
                dedup.settle(KEY, EventId(taken), Effect::None);
                continue;
            }
        };
        let now = at(i64::try_from(second * 1_000).unwrap());
        let arrival = Arrival { key: KEY, action, update: UpdateHash(update), occurrence: None };
        let decision = dedup.decide(arrival, now);
        assert_eq!(decision, expected, "{sentence}: step {}", number + 1);
        if matches!(decision, DedupDecision::Take(_)) {
            taken += 1;
            take(&mut dedup, arrival, taken, now);
        }
    }
}

#[test]
fn decisions_by_story() {
    let silent = Settings { remind: false, ..SETTINGS };
    let (window, waiting) = (DuplicateReason::WithinWindow, DuplicateReason::StillWaiting);
    for (sentence, settings, story) in [
        (
            "a repeated trigger is a duplicate within the window, delivered or not",
            SETTINGS,
            vec![Trigger(0, OPENING), Trigger(1, duplicate(1, waiting)), Delivered, Trigger(599, duplicate(1, window))],
        ),
        (
            "trigger, resolve, trigger within the window is three events",
            SETTINGS,
            vec![Trigger(0, OPENING), Resolve(1, CLOSING), Trigger(2, REOPENING)],
        ),
        (
            "a repeated resolve is a duplicate within the window and forwarded after it",
            SETTINGS,
            vec![
                Trigger(0, OPENING),
                Resolve(1, CLOSING),
                Delivered,
                Resolve(2, duplicate(2, window)),
                Resolve(601, CLOSING_UNKNOWN),
            ],
        ),
        (
            "a resolve for an unknown key is forwarded",
            SETTINGS,
            vec![Resolve(0, CLOSING_UNKNOWN), Resolve(1, duplicate(1, waiting))],
        ),
        (
            "a trigger with other values is an update, even while the one before waits",
            SETTINGS,
            vec![
                Changed(0, 1, OPENING),
                Changed(1, 2, UPDATE),
                Changed(2, 2, duplicate(2, waiting)),
                Changed(3, 1, UPDATE),
            ],
        ),
        (
            "a resolve resets the comparison of values",
            SETTINGS,
            vec![
                Changed(0, 1, OPENING),
                Resolve(1, CLOSING),
                Changed(2, 2, REOPENING),
                Changed(3, 2, duplicate(3, waiting)),
            ],
        ),
        (
            "after the window a repeat is a reminder and opens a new window",
            SETTINGS,
            vec![
                Trigger(0, OPENING),
                Delivered,
                Trigger(600, REMINDER),
                Delivered,
                Trigger(1199, duplicate(2, window)),
                Trigger(1200, REMINDER),
            ],
        ),
        (
            "without reminders an open incident's repeats are duplicates for ever",
            silent,
            vec![Trigger(0, OPENING), Delivered, Trigger(9_999, duplicate(1, DuplicateReason::NoReminders))],
        ),
        (
            "while a trigger waits no reminder piles up behind it",
            SETTINGS,
            vec![Trigger(0, OPENING), Trigger(601, duplicate(1, waiting)), Trigger(9_999, duplicate(1, waiting))],
        ),
        (
            "an event without effect makes its key unknown, so the next trigger pages",
            SETTINGS,
            vec![Trigger(0, OPENING), Lost, Trigger(1, OPENING)],
        ),
        (
            "a resolve without effect makes its key unknown, so the next resolve is sent",
            SETTINGS,
            vec![Resolve(0, CLOSING_UNKNOWN), Lost, Resolve(1, CLOSING_UNKNOWN)],
        ),
    ] {
        play(sentence, settings, story);
    }
}

#[test]
fn an_earlier_event_without_effect_leaves_what_a_later_one_said() {
    let mut dedup = Dedup::new(SETTINGS);
    let arrival = |action| Arrival { key: KEY, action, update: UpdateHash(0), occurrence: None };
    take(&mut dedup, arrival(Action::Trigger), 1, at(0));
    take(&mut dedup, arrival(Action::Resolve), 2, at(0));
    dedup.settle(KEY, EventId(1), Effect::None);
    assert_eq!(dedup.decide(arrival(Action::Resolve), at(1)), duplicate(2, DuplicateReason::StillWaiting));
}

/// Occurrences "a" and then "b"; a resolve that names none, taken while both wait; then they die.
#[test]
fn what_a_key_knows_of_occurrences_is_restored_with_it() {
    let (first, second) = (Occurrence("[\"a\"]".into()), Occurrence("[\"b\"]".into()));
    let arrival = |action, occurrence| Arrival { key: KEY, action, update: UpdateHash(0), occurrence };
    let mut live = Dedup::new(SETTINGS);
    let mut rows: Vec<Taken> = Vec::new();
    let story = [(Action::Trigger, Some(&first)), (Action::Trigger, Some(&second)), (Action::Resolve, None)];
    for (id, (action, named)) in (1..).zip(story) {
        let occurrences = live.occurrences_after(arrival(action, named));
        rows.push(Taken { id: EventId(id), key: KEY, action, update: UpdateHash(0), occurrences });
        take(&mut live, arrival(action, named), id, at(0));
    }
    for row in &rows[..2] {
        live.settle(KEY, row.id, Effect::None);
    }
    let mut restored = Dedup::new(SETTINGS);
    for row in rows {
        let (id, dies) = (row.id, row.action == Action::Trigger);
        restored.take(row, Monotonic(0));
        if dies {
            restored.settle(KEY, id, Effect::None);
        }
    }
    for dedup in [live, restored] {
        for late in [&first, &second] {
            let decision = dedup.decide(arrival(Action::Trigger, Some(late)), at(1));
            assert_eq!(decision, duplicate(3, DuplicateReason::PastOccurrence), "{late:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_comes_together_is_foreseen_as_it_is_taken(
        before in prop::collection::vec(arrivals(), 0..4),
        together in prop::collection::vec(arrivals(), 0..8),
        later in 0_i64..700_000,
    ) {
        let mut dedup = Dedup::new(SETTINGS);
        for (number, expected) in before.iter().enumerate() {
            take(&mut dedup, expected.arrival(), number as u64 + 1, at(0));
        }
        let now = at(later);
        let foreseen = dedup.preview(together.iter().map(Given::arrival), now);
        prop_assert_eq!(foreseen.len(), together.len());
        // The number encodes the arrival's index.
        for (place, (given, preview)) in together.iter().zip(foreseen).enumerate() {
            prop_assert_eq!(dedup.keys.get(given.arrival().key).is_some(), preview.known.is_some());
            let decision = dedup.decide(given.arrival(), now);
            take(&mut dedup, given.arrival(), 100 + place as u64, now);
            match (decision, preview.decision) {
                (DedupDecision::Take(reason), DedupDecision::Take(foreseen)) => prop_assert_eq!(reason, foreseen),
                (DedupDecision::Duplicate { of, why }, DedupDecision::Duplicate { of: known, why: foreseen }) => {
                    prop_assert_eq!(why, foreseen);
                    let rests_on = preview.rests_on.map_or(known.0, |place| 100 + place as u64);
                    prop_assert_eq!(of.0, rests_on);
                }
                (other, decision) => prop_assert!(false, "{other:?} where {decision:?} was foreseen"),
            }
        }
    }
}

/// An arrival that owns its occurrence.
#[derive(Clone, Debug)]
struct Given {
    key: KeyId,
    action: Action,
    update: UpdateHash,
    occurrence: Option<Occurrence>,
}

impl Given {
    fn arrival(&self) -> Arrival<'_> {
        let Given { key, action, update, occurrence } = self;
        Arrival { key: *key, action: *action, update: *update, occurrence: occurrence.as_ref() }
    }
}

fn arrivals() -> impl Strategy<Value = Given> {
    let occurrence = prop::option::of((1..3).prop_map(|number| Occurrence(format!("[{number}]").into())));
    (0_u128..2, any::<bool>(), 0_u64..2, occurrence).prop_map(|(key, trigger, update, occurrence)| Given {
        key: KeyId(key),
        action: if trigger { Action::Trigger } else { Action::Resolve },
        update: UpdateHash(update),
        occurrence,
    })
}

#[test]
fn keys_do_not_touch_each_other() {
    let mut dedup = Dedup::new(SETTINGS);
    let arrival = |key| Arrival { key, action: Action::Trigger, update: UpdateHash(0), occurrence: None };
    take(&mut dedup, arrival(KeyId(1)), 1, at(0));
    assert_eq!(dedup.decide(arrival(KeyId(2)), at(1)), OPENING);
}

#[test]
fn occurrences_by_story() {
    let time = |time: &str| Occurrence(format!("[\"{time}\"]").into());
    let (first, second) = (time("2025-11-24T07:30:00Z"), time("2025-11-24T09:00:00+01:00"));
    let (one, other) = (Occurrence(r#"["outage-a"]"#.into()), Occurrence(r#"["outage-b"]"#.into()));
    let past = |of| duplicate(of, DuplicateReason::PastOccurrence);
    // The claim, and the steps: action, occurrence, decision.
    let stories = [
        (
            "a late copy of a resolve does not close the newer incident",
            vec![
                (Action::Trigger, &first, OPENING),
                (Action::Resolve, &first, CLOSING),
                (Action::Trigger, &second, REOPENING),
                (Action::Resolve, &first, past(3)),
                (Action::Trigger, &first, past(3)),
                (Action::Resolve, &second, CLOSING),
            ],
        ),
        (
            "a late copy of a trigger does not reopen what was resolved",
            vec![
                (Action::Trigger, &first, OPENING),
                (Action::Resolve, &first, CLOSING),
                (Action::Trigger, &first, past(2)),
            ],
        ),
        (
            "occurrences without an order are told apart by name: a late resolve closes nothing newer",
            vec![
                (Action::Trigger, &one, OPENING),
                (Action::Resolve, &one, CLOSING),
                (Action::Trigger, &other, REOPENING),
                (Action::Resolve, &one, past(3)),
                (Action::Trigger, &one, past(3)),
                (Action::Resolve, &other, CLOSING),
                (Action::Trigger, &one, past(4)),
            ],
        ),
        (
            "a newer occurrence of an open key is delivered",
            vec![(Action::Trigger, &first, OPENING), (Action::Trigger, &second, REOPENING)],
        ),
    ];
    for (sentence, story) in stories {
        let mut dedup = Dedup::new(SETTINGS);
        let mut taken = 0;
        for (number, (action, occurrence, expected)) in story.into_iter().enumerate() {
            let arrival = Arrival { key: KEY, action, update: UpdateHash(0), occurrence: Some(occurrence) };
            // Long after every window: occurrences do not go by time of arrival.
            let now = at(i64::try_from(number).unwrap() * 10_000_000);
            let decision = dedup.decide(arrival, now);
            assert_eq!(decision, expected, "{sentence}: step {}", number + 1);
            if matches!(decision, DedupDecision::Take(_)) {
                taken += 1;
                take(&mut dedup, arrival, taken, now);
                dedup.settle(KEY, EventId(taken), Effect::Confirmed);
            }
        }
    }
}

/// A sender whose clock was once years ahead must not block its key.
#[test]
fn an_occurrence_in_the_future_does_not_shut_its_key() {
    let ahead = Occurrence(r#"["2099-01-01T00:00:00Z"]"#.into());
    let first = Occurrence(r#"["2025-11-24T15:00:00Z"]"#.into());
    let second = Occurrence(r#"["2025-11-24T15:30:00Z"]"#.into());
    let mut dedup = Dedup::new(SETTINGS);
    for (id, (action, occurrence, expected)) in (1..).zip([
        (Action::Trigger, &ahead, OPENING),
        (Action::Resolve, &first, CLOSING),
        (Action::Trigger, &second, REOPENING),
        (Action::Resolve, &ahead, CLOSING),
        (Action::Trigger, &second, duplicate(4, DuplicateReason::PastOccurrence)),
        (Action::Trigger, &first, REOPENING),
    ]) {
        let arrival = Arrival { key: KEY, action, update: UpdateHash(0), occurrence: Some(occurrence) };
        assert_eq!(dedup.decide(arrival, at(0)), expected, "step {id}");
        take(&mut dedup, arrival, id, at(0));
    }
}

#[test]
fn an_event_has_effect_where_the_upstream_holds_it() {
    let (confirmed, without) = (Some(Effect::Confirmed), Some(Effect::None));
    for (state, outcome, ending) in [
        (State::Queued, None, None),
        (State::Delivered, None, confirmed),
        (State::Delivered, Some(Outcome::Created), confirmed),
        (State::Delivered, Some(Outcome::Resolved), confirmed),
        (State::Delivered, Some(Outcome::Duplicate), confirmed),
        (State::Delivered, Some(Outcome::Accepted), confirmed),
        (State::Delivered, Some(Outcome::NotResolved), without),
        (State::Delivered, Some(Outcome::Unmatched), without),
        (State::Dead, None, without),
        (State::Ended, None, without),
        (State::Refused, None, without),
    ] {
        assert_eq!(Effect::of(state, outcome), ending, "{state} {outcome:?}");
    }
}

#[test]
fn a_key_rests_on_the_event_that_was_taken_last() {
    let mut dedup = Dedup::new(SETTINGS);
    let arrival = |action| Arrival { key: KEY, action, update: UpdateHash(0), occurrence: None };
    assert_eq!((dedup.last(KEY), dedup.rests_on(KEY, EventId(1))), (None, false));
    take(&mut dedup, arrival(Action::Trigger), 1, at(0));
    assert!(dedup.rests_on(KEY, EventId(1)));
    take(&mut dedup, arrival(Action::Resolve), 2, at(0));
    assert!(!dedup.rests_on(KEY, EventId(1)) && dedup.rests_on(KEY, EventId(2)));
    assert_eq!(dedup.last(KEY), Some(EventId(2)));
    dedup.settle(KEY, EventId(2), Effect::None);
    assert_eq!((dedup.last(KEY), dedup.rests_on(KEY, EventId(2))), (None, false));
}

#[test]
fn open_incidents_are_told_newest_first_and_what_was_evicted_is_counted_once() {
    let mut dedup = Dedup::new(Settings { max_keys: 3, ..SETTINGS });
    let arrival = |key, action| Arrival { key: KeyId(key), action, update: UpdateHash(0), occurrence: None };
    assert!(dedup.is_empty() && !dedup.has_evicted());
    for (id, key, action) in
        [(1, 1, Action::Trigger), (2, 2, Action::Trigger), (3, 3, Action::Trigger), (4, 2, Action::Resolve)]
    {
        take(&mut dedup, arrival(key, action), id, at(0));
    }
    assert_eq!((dedup.open(9), dedup.open(1)), (vec![EventId(3), EventId(1)], vec![EventId(3)]));
    assert_eq!((dedup.len(), dedup.is_empty(), dedup.has_evicted()), (3, false, false));
    take(&mut dedup, arrival(4, Action::Trigger), 5, at(0));
    take(&mut dedup, arrival(5, Action::Trigger), 6, at(0));
    assert_eq!(dedup.open(9), [EventId(6), EventId(5), EventId(3)]);
    assert_eq!(dedup.take_evicted_counts(), Evicted { resolved: 1, open: 1 });
    assert_eq!(dedup.take_evicted_counts(), Evicted::default());
    assert!(dedup.has_evicted(), "that stays true");
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let repeats = [
        DuplicateReason::WithinWindow,
        DuplicateReason::StillWaiting,
        DuplicateReason::NoReminders,
        DuplicateReason::PastOccurrence,
    ];
    let words: std::collections::BTreeSet<_> =
        AcceptReason::ALL.map(AcceptReason::as_str).into_iter().chain(repeats.map(DuplicateReason::as_str)).collect();
    assert_eq!(words.len(), AcceptReason::ALL.len() + repeats.len());
    assert!(words.iter().all(|word| !word.is_empty()));
}
