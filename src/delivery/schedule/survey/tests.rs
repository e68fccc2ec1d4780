use std::num::NonZeroU32;

use super::*;
use crate::callgoose::answer::{Trouble, Verdict};
use crate::delivery::breaker;
use crate::delivery::retry::RetryState;
use crate::delivery::schedule::{Delivery, Limits, Step};
use crate::delivery::staleness::StaleDecision;
use crate::event::{Action, KeyId, Outcome, Priority, Queued, Superseded};

const DONE: Verdict = Verdict::Done(Outcome::Created);

fn schedule(concurrency: usize) -> Schedule {
    let many = NonZeroU32::new(1_000_000).unwrap();
    let breaker =
        breaker::Settings { failures: 1_000_000, open: Duration::from_secs(10), pause: Duration::from_secs(60) };
    let (per_second, burst, unsettled) = (many, many, 1_000);
    Schedule::new(Limits { concurrency, per_second, burst, unsettled, breaker, superseded: Superseded::Send })
}

fn queued(id: u64, key: u128, source: u16) -> Queued {
    Queued {
        id: EventId(id),
        key: KeyId(key),
        source: SourceId(source),
        action: Action::Trigger,
        priority: Priority::Normal,
        reopening: false,
        continues: false,
        acknowledged: Monotonic(0),
    }
}

fn start(schedule: &mut Schedule, now: i64) -> Delivery {
    match schedule.next(Monotonic(now), |_, _| StaleDecision::Send) {
        Step::Start(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

fn whole(schedule: &Schedule, source: Option<SourceId>, keys_max: usize, now: i64) -> Survey {
    let mut survey = Survey::new(source, keys_max);
    while !schedule.survey(&mut survey, Monotonic(now)) {}
    survey
}

fn shown(survey: &Survey) -> Vec<(u64, Standing, usize, u32)> {
    survey.keys().map(|key| (key.first.0, key.standing, key.events, key.attempts)).collect()
}

#[test]
fn events_are_counted_by_source_and_by_what_their_keys_wait_for() {
    let mut schedule = schedule(1);
    for (id, key, source) in [(1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 3, 1), (5, 4, 1)] {
        schedule.enqueue(&queued(id, key, source), Monotonic(0));
    }
    let failed = start(&mut schedule, 0);
    assert_eq!(failed.event.id, EventId(1));
    let survey = whole(&schedule, None, 10, 0);
    let called = &survey.sources[&SourceId(0)];
    assert_eq!((called.events(Standing::UnderWay), called.calls), (2, 1), "a key with all its events, and its call");
    schedule.call_ended(&failed, Verdict::Again(Trouble::Connect), None, Monotonic(0));
    assert_eq!(whole(&schedule, None, 10, 0).sources[&SourceId(0)].events(Standing::Settling), 2);
    let retry = RetryState { attempts: 1, since: Monotonic(0), resends: 0, answered: None };
    schedule.again(failed.key, retry, Monotonic(60_000));
    schedule.hold_key(KeyId(4), Monotonic(0));
    let survey = whole(&schedule, None, 10, 0);
    let counts = |source: u16| {
        let counts = &survey.sources[&SourceId(source)];
        (counts.keys, counts.oldest, counts.waiting(), Standing::ALL.map(|standing| counts.events(standing)))
    };
    assert_eq!(counts(0), (2, Some(EventId(1)), 3, [1, 0, 0, 2, 0, 0, 0]));
    assert_eq!(counts(1), (2, Some(EventId(4)), 2, [1, 0, 0, 0, 1, 0, 0]));
    assert_eq!(
        shown(&survey),
        [
            (1, Standing::Backoff, 2, 1),
            (3, Standing::Fresh, 1, 0),
            (4, Standing::Fresh, 1, 0),
            (5, Standing::Held, 1, 0)
        ]
    );
    assert_eq!(survey.lanes()[0], (Lane::Fresh, 2, Some(Duration::from_secs(2))), "one began");
}

#[test]
fn keys_that_fail_are_shown_before_older_ones_and_no_more_than_asked_for() {
    let mut schedule = schedule(1);
    for id in 1..=50 {
        schedule.enqueue(&queued(id, u128::from(id), 0), Monotonic(0));
    }
    let retry = RetryState { attempts: 3, since: Monotonic(0), resends: 0, answered: None };
    schedule.enqueue_tried(&queued(60, 60, 1), retry, Monotonic(9_000));
    let survey = whole(&schedule, None, 3, 0);
    assert_eq!(shown(&survey), [(60, Standing::Backoff, 1, 3), (1, Standing::Fresh, 1, 0), (2, Standing::Fresh, 1, 0)]);
    assert_eq!(shown(&whole(&schedule, Some(SourceId(1)), 3, 0)), [(60, Standing::Backoff, 1, 3)]);
}

#[test]
fn a_long_queue_is_counted_in_parts_and_keys_that_are_gone_are_not_counted() {
    let mut schedule = schedule(1);
    let keys = u64::from(KEYS_AT_ONCE) * 2;
    for id in 1..=keys {
        schedule.enqueue(&queued(id, u128::from(id), 0), Monotonic(0));
    }
    let first = start(&mut schedule, 0);
    schedule.call_ended(&first, DONE, None, Monotonic(0));
    schedule.settled(first.key, true, Monotonic(0));
    let mut survey = Survey::new(None, 1);
    assert!(!schedule.survey(&mut survey, Monotonic(0)));
    let part = survey.sources[&SourceId(0)].waiting();
    assert!(part <= KEYS_AT_ONCE as usize, "{part}");
    assert!(schedule.survey(&mut survey, Monotonic(0)));
    let counts = &survey.sources[&SourceId(0)];
    assert_eq!((counts.keys as u64, counts.waiting() as u64), (keys - 1, keys - 1));
}

#[test]
fn a_source_has_a_time_to_drain_once_something_of_it_ends() {
    let mut schedule = schedule(1);
    for id in 1..=11 {
        schedule.enqueue(&queued(id, u128::from(id), (id % 2) as u16), Monotonic(0));
    }
    let drain = |schedule: &Schedule, source, now| whole(schedule, None, 1, now).sources[&SourceId(source)].drain_time;
    assert_eq!((drain(&schedule, 0, 0), drain(&schedule, 1, 0)), (None, None), "nothing is delivered yet");
    let first = start(&mut schedule, 0);
    schedule.call_ended(&first, DONE, None, Monotonic(0));
    schedule.settled(first.key, true, Monotonic(0));
    let (source, other) = (first.event.source.0, 1 - first.event.source.0);
    let left = if source == 1 { 5 } else { 4 };
    assert_eq!(drain(&schedule, source, 1_000), Some(Duration::from_secs(left)));
    assert_eq!(drain(&schedule, other, 1_000), None);
    schedule.hold_key(KeyId(u128::from(first.event.id.0) + 2), Monotonic(1_000));
    assert_eq!(drain(&schedule, source, 1_000), Some(Duration::from_secs(left - 1)), "without what a person holds");
    schedule.hold_source(SourceId(source), Monotonic(1_000));
    assert_eq!(drain(&schedule, source, 1_000), None, "a person holds it");
}
