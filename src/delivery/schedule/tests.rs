use std::collections::VecDeque;

use super::*;
use crate::callgoose::answer::Trouble;
use crate::event::{Action, Priority};

fn limits(concurrency: usize, per_second: u32, burst: u32) -> Limits {
    let positive = |number| NonZeroU32::new(number).unwrap();
    let breaker =
        breaker::Settings { failures: 1_000_000, open: Duration::from_secs(10), pause: Duration::from_secs(60) };
    Limits {
        concurrency,
        per_second: positive(per_second),
        burst: positive(burst),
        unsettled: 1_000,
        breaker,
        superseded: Superseded::Send,
    }
}

const DONE: Verdict = Verdict::Done(Outcome::Created);
const DOWN: Verdict = Verdict::Again(Trouble::Connect);

fn tried(attempts: u32) -> RetryState {
    RetryState { attempts, since: Monotonic(0), resends: 0, answered: None }
}

fn wide() -> Schedule {
    Schedule::new(limits(100, 1_000_000, 1_000_000))
}

fn queued(id: u64, key: u128) -> Queued {
    Queued {
        id: EventId(id),
        key: KeyId(key),
        source: SourceId(0),
        action: Action::Trigger,
        priority: Priority::Normal,
        reopening: false,
        continues: false,
        acknowledged: Monotonic(0),
    }
}

/// The decision if nothing is stale.
fn next(schedule: &mut Schedule, now: i64) -> Step {
    schedule.next(Monotonic(now), |_, _| StaleDecision::Send)
}

/// Starts everything that may start at `now`.
fn start(schedule: &mut Schedule, now: i64) -> Vec<Delivery> {
    let mut started = Vec::new();
    while let Step::Start(delivery) = next(schedule, now) {
        started.push(delivery);
    }
    started
}

fn ids(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.event.id.0).collect()
}

#[test]
fn a_key_has_one_event_under_way_and_the_next_follows_when_it_is_settled() {
    let mut schedule = wide();
    for (id, key) in [(1, 1), (2, 1), (3, 2)] {
        schedule.enqueue(&queued(id, key), Monotonic(0));
    }
    let started = start(&mut schedule, 0);
    assert_eq!(ids(&started), [1, 3]);
    schedule.call_ended(&started[0], DONE, None, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [0; 0], "the call ended, its end is not on disk yet");
    schedule.settled(started[0].key, true, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [2]);
}

#[test]
fn a_key_that_backs_off_holds_up_nobody_else_and_keeps_its_order() {
    let mut schedule = wide();
    for (id, key) in [(1, 1), (2, 1), (3, 2)] {
        schedule.enqueue(&queued(id, key), Monotonic(0));
    }
    let started = start(&mut schedule, 0);
    schedule.call_ended(&started[0], DOWN, None, Monotonic(0));
    let state = tried(1);
    schedule.again(started[0].key, state, Monotonic(500));
    schedule.call_ended(&started[1], DONE, None, Monotonic(0));
    schedule.settled(started[1].key, true, Monotonic(0));
    schedule.enqueue(&queued(4, 2), Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 1)), [4]);
    assert_eq!(next(&mut schedule, 1), Step::WaitUntil(Monotonic(500)));
    let again = start(&mut schedule, 500);
    assert_eq!(ids(&again), [1], "the event that failed, not the one behind it");
    assert_eq!(again[0].before, Some(state));
}

#[test]
fn no_more_calls_are_under_way_than_allowed() {
    let mut schedule = Schedule::new(limits(2, 1_000, 1_000));
    for id in 1..=5 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    let started = start(&mut schedule, 0);
    assert_eq!(ids(&started), [1, 2]);
    assert_eq!(next(&mut schedule, 0), Step::Wait);
    schedule.call_ended(&started[0], DONE, None, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [3]);
}

#[test]
fn calls_wait_when_too_many_ends_are_not_on_disk() {
    let mut schedule = Schedule::new(Limits { unsettled: 1, ..limits(9, 1_000, 1_000) });
    for id in 1..=3 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    let started = start(&mut schedule, 0);
    assert_eq!(started.len(), 3);
    schedule.enqueue(&queued(4, 4), Monotonic(0));
    schedule.call_ended(&started[0], DONE, None, Monotonic(0));
    assert_eq!(next(&mut schedule, 0), Step::Wait);
    schedule.settled(started[0].key, true, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [4]);
}

#[test]
fn the_pace_allows_a_burst_and_then_so_many_a_second() {
    let mut schedule = Schedule::new(limits(1_000, 10, 3));
    for id in 1..=20 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    assert_eq!(start(&mut schedule, 0).len(), 3);
    assert_eq!(next(&mut schedule, 0), Step::WaitUntil(Monotonic(100)));
    assert_eq!(start(&mut schedule, 99).len(), 0);
    assert_eq!(start(&mut schedule, 100).len(), 1);
    assert_eq!(start(&mut schedule, 1_100).len(), 3, "no more than a burst is saved up");
    let mut thirds = Schedule::new(limits(1_000, 3, 1));
    for id in 1..=2 {
        thirds.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    assert_eq!(start(&mut thirds, 0).len(), 1);
    assert_eq!(next(&mut thirds, 0), Step::WaitUntil(Monotonic(334)), "not a moment too early");
}

#[test]
fn a_backlog_takes_as_long_as_it_does_at_the_rate_of_the_last_minute() {
    let mut schedule = Schedule::new(limits(1, 20, 40));
    for id in 0..1_220 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    assert_eq!(schedule.drain_time(Monotonic(0)), None, "nobody knows while nothing is delivered");
    for second in 1..=20 {
        let now = Monotonic(second * 1_000);
        let Step::Start(delivery) = next(&mut schedule, now.0) else { panic!("one may start") };
        schedule.call_ended(&delivery, DONE, None, now);
        schedule.settled(delivery.key, true, now);
    }
    let takes = schedule.drain_time(Monotonic(20_000)).unwrap().as_secs();
    assert!((1_100..=1_200).contains(&takes), "one a second, not twenty: {takes} s");
    assert_eq!(schedule.drain_time(Monotonic(100_000)), None);
}

#[test]
fn until_when_the_queue_is_sent_is_not_told_where_a_retry_or_nothing_is_due() {
    let mut schedule = Schedule::new(Limits {
        breaker: breaker::Settings { failures: 2, open: Duration::from_secs(10), pause: Duration::from_secs(60) },
        ..limits(4, 20, 40)
    });
    let told = |schedule: &Schedule, at| {
        let drain = schedule.drain_time(Monotonic(at)).map(|time| time.as_secs());
        (drain, schedule.next_retry().map(|at| at.0))
    };
    assert_eq!(told(&schedule, 0), (Some(0), None), "nothing waits");
    for id in 1..=3 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    let deliveries = start(&mut schedule, 0);
    schedule.call_ended(&deliveries[0], DONE, None, Monotonic(1_000));
    schedule.settled(deliveries[0].key, true, Monotonic(1_000));
    assert_eq!(told(&schedule, 1_000), (Some(2), None), "two are under way");
    let later = |wait| RetryState { attempts: wait, since: Monotonic(1_000), resends: 0, answered: None };
    for (delivery, wait) in deliveries[1..].iter().zip([30, 100]) {
        schedule.call_ended(delivery, Verdict::Done(Outcome::NotResolved), None, Monotonic(1_000));
        schedule.again(delivery.key, later(wait), Monotonic(1_000 + i64::from(wait) * 1_000));
    }
    assert_eq!(told(&schedule, 1_000), (Some(100), Some(31_000)), "the last one waits for 100 s");
    schedule.enqueue(&queued(4, 4), Monotonic(2_000));
    assert_eq!(told(&schedule, 2_000).1, None, "one may go at once");
    schedule.hold_key(KeyId(4), Monotonic(2_000));
    assert_eq!(told(&schedule, 2_000).1, Some(31_000), "and not while it is held");

    let mut down = Schedule::new(Limits {
        breaker: breaker::Settings { failures: 1, open: Duration::from_secs(10), pause: Duration::from_secs(60) },
        ..limits(4, 20, 40)
    });
    down.enqueue(&queued(1, 1), Monotonic(0));
    let Step::Start(delivery) = next(&mut down, 0) else { panic!("one may start") };
    down.call_ended(&delivery, DOWN, None, Monotonic(1_000));
    down.again(delivery.key, later(1), Monotonic(2_000));
    assert_eq!(told(&down, 1_000), (None, None), "the breaker is open");
    let mut held = Schedule::new(limits(4, 20, 40));
    held.hold_key(KeyId(1), Monotonic(0));
    held.enqueue(&queued(1, 1), Monotonic(0));
    assert_eq!(told(&held, 1_000), (None, None), "all of it is held");
}

#[test]
fn an_open_breaker_lets_one_probe_through_the_newest_event_that_was_not_tried() {
    let mut schedule = Schedule::new(Limits {
        breaker: breaker::Settings { failures: 2, open: Duration::from_secs(10), pause: Duration::from_secs(60) },
        ..limits(100, 1_000, 1_000)
    });
    for id in [1, 2] {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    for failed in start(&mut schedule, 0) {
        schedule.call_ended(&failed, DOWN, None, Monotonic(0));
        schedule.again(failed.key, tried(1), Monotonic(1));
    }
    for id in [3, 4, 5] {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    assert_eq!(next(&mut schedule, 5), Step::WaitUntil(Monotonic(10_000)));
    let probes = start(&mut schedule, 10_000);
    assert_eq!((ids(&probes), probes[0].probe), (vec![5], true));
    schedule.call_ended(&probes[0], DONE, None, Monotonic(10_001));
    schedule.settled(probes[0].key, true, Monotonic(10_001));
    assert_eq!(ids(&start(&mut schedule, 10_001)), [4, 3], "recovery allows two at once, and the newest go first");
}

#[test]
fn a_later_event_ends_the_wait_for_a_better_answer_at_once() {
    for fired in [false, true] {
        let mut schedule = wide();
        schedule.enqueue(&queued(1, 1), Monotonic(0));
        let started = start(&mut schedule, 0);
        schedule.call_ended(&started[0], Verdict::Done(Outcome::NotResolved), None, Monotonic(0));
        let waiting = RetryState { answered: Some(Outcome::NotResolved), resends: 1, ..tried(1) };
        schedule.again(started[0].key, waiting, Monotonic(100_000));
        if fired {
            schedule.wake(Monotonic(100_000));
        }
        let unsent = schedule.enqueue(&queued(2, 1), Monotonic(0)).unwrap();
        assert_eq!((unsent.event.id, unsent.result), (EventId(1), Ok(Outcome::NotResolved)));
        assert_eq!(ids(&start(&mut schedule, 200_000)), [0; 0], "its end is not on disk yet");
        schedule.settled(unsent.key.unwrap(), true, Monotonic(0));
        assert_eq!(ids(&start(&mut schedule, 200_000)), [2]);
    }
}

#[test]
fn a_restart_goes_on_where_the_retries_stood() {
    let mut schedule = wide();
    schedule.enqueue_tried(&queued(1, 1), tried(7), Monotonic(5_000));
    schedule.enqueue(&queued(2, 1), Monotonic(0));
    assert_eq!(next(&mut schedule, 0), Step::WaitUntil(Monotonic(5_000)));
    let started = start(&mut schedule, 5_000);
    assert_eq!((ids(&started), started[0].before), (vec![1], Some(tried(7))));
}

#[test]
fn an_event_that_ends_unsent_costs_no_pace_and_its_key_waits_for_the_disk() {
    let mut schedule = Schedule::new(limits(1, 1, 1));
    let resolve = Queued { action: Action::Resolve, ..queued(4, 1) };
    for event in [queued(1, 1), queued(2, 2), queued(3, 1), resolve] {
        schedule.enqueue(&event, Monotonic(0));
    }
    let age = Duration::from_secs(7);
    // The decision for a stale trigger that may end if a resolve waits.
    let decide = |event: &Queued, resolve_waits: bool| match (event.action, resolve_waits) {
        (Action::Trigger, true) => StaleDecision::End,
        (Action::Trigger, false) => StaleDecision::SendMarked { age },
        (Action::Resolve, _) => StaleDecision::Send,
    };
    let end = |schedule: &mut Schedule| match schedule.next(Monotonic(0), decide) {
        Step::Settle(unsent) => unsent,
        other => panic!("{other:?}"),
    };
    let Step::Start(marked) = schedule.next(Monotonic(0), decide) else { panic!("the one call that the pace allows") };
    assert_eq!((marked.event.id, marked.stale), (EventId(2), Some(age)));
    schedule.call_ended(&marked, DONE, None, Monotonic(0));
    schedule.settled(marked.key, true, Monotonic(0));
    let unsent = end(&mut schedule);
    assert_eq!((unsent.event.id, unsent.attempts, unsent.result), (EventId(1), 0, Err(Reason::Stale)));
    assert_eq!(schedule.next(Monotonic(0), decide), Step::Wait, "the end of the first is not on disk yet");
    schedule.settled(unsent.key.unwrap(), true, Monotonic(0));
    let unsent = end(&mut schedule);
    assert_eq!(unsent.event.id, EventId(3));
    schedule.settled(unsent.key.unwrap(), true, Monotonic(0));
    assert_eq!(schedule.next(Monotonic(0), decide), Step::WaitUntil(Monotonic(1_000)), "the pace is for calls");
    let Step::Start(sent) = schedule.next(Monotonic(1_000), decide) else { panic!("the resolve goes out") };
    assert_eq!((sent.event.id, sent.stale), (EventId(4), None));
}

#[test]
fn a_million_that_end_unsent_leave_room_beside_them() {
    let mut schedule = wide();
    for key in 0..1_000 {
        schedule.enqueue(&queued(u64::try_from(key).unwrap() + 1, key), Monotonic(0));
    }
    let end = |schedule: &mut Schedule| match schedule.next(Monotonic(0), |_, _| StaleDecision::End) {
        Step::Settle(unsent) => Some(unsent),
        step => {
            assert_eq!(step, Step::Wait);
            None
        }
    };
    let ends: Vec<_> = std::iter::from_fn(|| end(&mut schedule)).collect();
    assert_eq!(ends.len(), UNSENT_AT_ONCE);
    schedule.settled(ends[0].key.unwrap(), true, Monotonic(0));
    let next = end(&mut schedule).expect("one of them is on disk");
    assert!(ends.iter().all(|ended| ended.event.id != next.event.id), "another one");
    assert_eq!(end(&mut schedule), None);
}

#[test]
fn a_tried_event_that_ends_unsent_is_forgotten_with_its_timer() {
    let mut schedule = wide();
    schedule.enqueue_tried(&queued(1, 1), tried(7), Monotonic(5_000));
    schedule.enqueue(&Queued { action: Action::Resolve, ..queued(2, 1) }, Monotonic(0));
    let Step::Settle(unsent) = schedule.next(Monotonic(5_000), |_, _| StaleDecision::End) else {
        panic!("it was due");
    };
    assert_eq!(unsent.attempts, 7);
    assert!(!schedule.is_quiet());
    schedule.settled(unsent.key.unwrap(), true, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 5_000)), [2]);
}

#[test]
fn a_call_that_was_not_made_is_due_again_and_a_probe_is_still_owed() {
    let mut schedule = Schedule::new(Limits {
        breaker: breaker::Settings { failures: 1, open: Duration::from_secs(10), pause: Duration::from_secs(60) },
        ..limits(1, 1_000, 1_000)
    });
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.not_called(&started[0], Monotonic(50), Monotonic(0));
    assert!(schedule.is_quiet());
    assert_eq!(next(&mut schedule, 0), Step::WaitUntil(Monotonic(50)));
    let again = start(&mut schedule, 50);
    assert_eq!((ids(&again), again[0].before.map(|tried| tried.attempts)), (vec![1], Some(0)));
    schedule.call_ended(&again[0], DOWN, None, Monotonic(50));
    schedule.again(again[0].key, tried(1), Monotonic(60));
    let probes = start(&mut schedule, 10_050);
    assert!(probes[0].probe);
    schedule.not_called(&probes[0], Monotonic(10_060), Monotonic(0));
    let probes = start(&mut schedule, 10_060);
    assert_eq!((probes[0].probe, probes[0].before), (true, Some(tried(1))));
}

#[test]
fn a_changed_secret_ends_the_wait_of_a_pause() {
    let mut schedule = wide();
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.call_ended(&started[0], Verdict::Blocked(Trouble::Unauthorized), None, Monotonic(0));
    schedule.again(started[0].key, tried(1), Monotonic(500));
    assert_eq!(next(&mut schedule, 500), Step::WaitUntil(Monotonic(1_000)));
    schedule.resume(Monotonic(500));
    assert_eq!(ids(&start(&mut schedule, 500)), [1]);
}

#[test]
fn the_timer_of_an_event_that_was_overtaken_wakes_nobody() {
    let mut schedule = wide();
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.call_ended(&started[0], Verdict::Done(Outcome::NotResolved), None, Monotonic(0));
    let waiting = RetryState { answered: Some(Outcome::NotResolved), resends: 1, ..tried(1) };
    schedule.again(started[0].key, waiting, Monotonic(1_000));
    let unsent = schedule.enqueue(&queued(2, 1), Monotonic(0)).unwrap();
    schedule.settled(unsent.key.unwrap(), true, Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.call_ended(&started[0], DOWN, None, Monotonic(0));
    schedule.again(started[0].key, tried(1), Monotonic(5_000));
    assert_eq!(ids(&start(&mut schedule, 1_000)), [0; 0]);
    assert_eq!(next(&mut schedule, 1_000), Step::WaitUntil(Monotonic(5_000)));
    assert_eq!(ids(&start(&mut schedule, 5_000)), [2]);
}

#[test]
fn nothing_overtakes_an_event_that_was_not_answered_or_that_is_under_way_again() {
    for answered in [None, Some(Outcome::NotResolved)] {
        let mut schedule = wide();
        let state = RetryState { answered, ..tried(1) };
        schedule.enqueue_tried(&queued(1, 1), state, Monotonic(5_000));
        if answered.is_none() {
            assert_eq!(schedule.enqueue(&queued(2, 1), Monotonic(0)), None, "it backs off");
        }
        let started = start(&mut schedule, 5_000);
        assert_eq!((ids(&started), started[0].before), (vec![1], Some(state)));
        assert_eq!(schedule.enqueue(&queued(3, 1), Monotonic(0)), None, "it is under way");
    }
}

#[test]
fn what_was_tried_of_an_event_is_not_laid_to_the_next() {
    let mut schedule = wide();
    schedule.enqueue_tried(&queued(1, 1), tried(7), Monotonic(0));
    schedule.enqueue(&queued(2, 1), Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.call_ended(&started[0], DONE, None, Monotonic(0));
    schedule.settled(started[0].key, true, Monotonic(0));
    let started = start(&mut schedule, 0);
    assert_eq!((ids(&started), started[0].before), (vec![2], None));
}

#[test]
fn what_waits_is_counted_until_its_end_is_on_disk() {
    let counts = |schedule: &Schedule| (schedule.len(), schedule.is_empty(), schedule.in_flight(), schedule.is_quiet());
    let mut schedule = wide();
    assert_eq!(counts(&schedule), (0, true, 0, true));
    for (id, key) in [(1, 1), (2, 1), (3, 2)] {
        schedule.enqueue(&queued(id, key), Monotonic(0));
    }
    assert_eq!(counts(&schedule), (3, false, 0, true));
    let started = start(&mut schedule, 0);
    assert_eq!(counts(&schedule), (3, false, 2, false));
    assert_eq!((schedule.has_later(started[0].key), schedule.has_later(started[1].key)), (true, false));
    for delivery in &started {
        schedule.call_ended(delivery, DONE, None, Monotonic(0));
    }
    assert_eq!(counts(&schedule), (3, false, 0, false));
    for delivery in &started {
        schedule.settled(delivery.key, true, Monotonic(0));
    }
    assert_eq!(counts(&schedule), (1, false, 0, true));
}

/// Many keys, each with an event of its own, of a few sources and all priorities.
fn crowd(number: u64) -> Schedule {
    let mut schedule = Schedule::new(limits(16, 1_000_000, 1_000_000));
    for id in 1..=number {
        let (source, priority) = (SourceId(u16::try_from(id % 3).unwrap()), Priority::ALL[(id % 7 % 3) as usize]);
        let acknowledged = Monotonic(if id % 2 == 0 { -1_000_000 } else { 0 });
        let event = Queued { source, priority, acknowledged, ..queued(id, u128::from(id) << 64) };
        schedule.enqueue(&event, Monotonic(0));
    }
    schedule
}

#[test]
fn a_million_events_fit_a_small_sidecar() {
    let number = 100_000;
    let used = allocation_counter::measure(|| drop(std::hint::black_box(crowd(number))));
    let bytes = used.bytes_max / number;
    assert!(bytes < 110, "{bytes} bytes an event, while tables grow");
}

#[test]
fn to_choose_from_a_hundred_thousand_keys_costs_hardly_more_than_from_a_hundred() {
    let cost = |number: u64| {
        let mut schedule = crowd(number);
        let began = std::time::Instant::now();
        for turn in 0..90 {
            let Step::Start(delivery) = next(&mut schedule, turn) else { panic!("one may start") };
            schedule.call_ended(&delivery, DONE, None, Monotonic(turn));
            schedule.settled(delivery.key, true, Monotonic(turn));
        }
        began.elapsed()
    };
    // The fastest of several runs. A walk over all keys would cost a thousand times as much.
    let quickest = |number| (0..5).map(|_| cost(number)).min().unwrap();
    let (few, many) = (quickest(100), quickest(100_000));
    assert!(many < few * 50, "{few:?} and {many:?}");
}

#[test]
fn what_is_held_waits_until_it_is_released_and_holds_up_nothing_else() {
    let mut schedule = wide();
    let other = |id, key| Queued { source: SourceId(1), ..queued(id, key) };
    for event in [queued(1, 1), queued(2, 2), other(3, 3), other(4, 4)] {
        schedule.enqueue(&event, Monotonic(0));
    }
    schedule.hold_key(KeyId(1), Monotonic(0));
    schedule.hold_source(SourceId(1), Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [2]);
    schedule.enqueue(&queued(5, 1), Monotonic(0));
    schedule.enqueue(&other(6, 6), Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [0; 0], "also what comes meanwhile");
    schedule.release_source(SourceId(1), Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [3, 4, 6]);
    schedule.release_key(KeyId(1), Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [1]);
}

#[test]
fn a_key_that_is_held_while_it_backs_off_is_tried_again_when_it_is_released() {
    let mut schedule = wide();
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    let started = start(&mut schedule, 0);
    schedule.hold_key(KeyId(1), Monotonic(0));
    schedule.call_ended(&started[0], DOWN, None, Monotonic(0));
    schedule.again(started[0].key, tried(1), Monotonic(500));
    assert_eq!(ids(&start(&mut schedule, 1_000)), [0; 0]);
    schedule.release_key(KeyId(1), Monotonic(2_000));
    let again = start(&mut schedule, 2_000);
    let before = RetryState { since: Monotonic(2_000), ..tried(1) };
    assert_eq!((ids(&again), again[0].before), (vec![1], Some(before)), "no older for it");
}

#[test]
fn what_was_held_is_no_older_for_it() {
    let tried_since = |since| Some(RetryState { since: Monotonic(since), ..tried(3) });
    for (sentence, began, held, released, since) in [
        ("it failed before", 1_000, 5_000, 105_000, 101_000),
        ("its first failure was told after the hold began", 7_000, 5_000, 105_000, 105_000),
    ] {
        for by_source in [false, true] {
            let mut schedule = wide();
            schedule.enqueue_tried(&queued(1, 1), tried_since(began).unwrap(), Monotonic(8_000));
            schedule.enqueue_tried(
                &Queued { source: SourceId(1), ..queued(2, 2) },
                tried_since(1_000).unwrap(),
                Monotonic(8_000),
            );
            if by_source {
                schedule.hold_source(SourceId(0), Monotonic(held));
                schedule.release_source(SourceId(0), Monotonic(released));
            } else {
                schedule.hold_key(KeyId(1), Monotonic(held));
                schedule.hold_key(KeyId(1), Monotonic(held + 1_000));
                schedule.release_key(KeyId(1), Monotonic(released));
            }
            let mut started = start(&mut schedule, 200_000);
            started.sort_by_key(|delivery| delivery.event.id);
            let before: Vec<Option<RetryState>> = started.iter().map(|delivery| delivery.before).collect();
            assert_eq!(before, [tried_since(since), tried_since(1_000)], "{sentence}, by source {by_source}");
        }
    }
}

#[test]
fn a_source_that_is_released_saved_nothing_up() {
    let mut schedule = Schedule::new(limits(1, 1_000, 1_000));
    let other = |id, key| Queued { source: SourceId(1), ..queued(id, key) };
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    schedule.hold_source(SourceId(1), Monotonic(0));
    for id in 10..20 {
        schedule.enqueue(&other(id, u128::from(id)), Monotonic(0));
    }
    // An hour of calls of the one that is not held.
    for id in 2..40 {
        schedule.enqueue(&queued(id, u128::from(id) + 100), Monotonic(0));
    }
    for call in 0..18 {
        let started = start(&mut schedule, call * 200_000);
        schedule.call_ended(&started[0], DONE, None, Monotonic(call * 200_000 + 199_999));
        schedule.settled(started[0].key, true, Monotonic(call * 200_000 + 199_999));
    }
    schedule.release_source(SourceId(1), Monotonic(3_600_000));
    let mut sources = Vec::new();
    for call in 0..6 {
        let at = 3_600_000 + call * 1_000;
        let started = start(&mut schedule, at);
        sources.push(started[0].event.source.0);
        schedule.call_ended(&started[0], DONE, None, Monotonic(at + 999));
        schedule.settled(started[0].key, true, Monotonic(at + 999));
    }
    assert_eq!(sources.iter().filter(|source| **source == 1).count(), 3, "{sources:?}");
}

#[test]
fn what_is_held_or_backs_off_since_the_start_can_be_taken_out() {
    let mut schedule = wide();
    schedule.hold_key(KeyId(1), Monotonic(0));
    schedule.enqueue(&queued(1, 1), Monotonic(0));
    schedule.enqueue_tried(&queued(2, 2), tried(1), Monotonic(500));
    for (id, key) in [(1, 1), (2, 2)] {
        let Discard::Settle(unsent) = schedule.discard(KeyId(key), EventId(id), Monotonic(0)) else {
            panic!("{id} waits")
        };
        schedule.settled(unsent.key.unwrap(), false, Monotonic(0));
    }
    assert_eq!(ids(&start(&mut schedule, 1_000)), [0; 0]);
    assert!(schedule.is_empty() && schedule.is_quiet());
}

#[test]
fn what_waits_can_be_taken_out_wherever_it_stands() {
    let mut schedule = wide();
    for id in [1, 2, 3] {
        schedule.enqueue(&queued(id, 1), Monotonic(0));
    }
    let Discard::Settle(behind) = schedule.discard(KeyId(1), EventId(2), Monotonic(0)) else { panic!("not the first") };
    assert_eq!((behind.event.id, behind.key, schedule.len()), (EventId(2), None, 2));
    let Discard::Settle(first) = schedule.discard(KeyId(1), EventId(1), Monotonic(0)) else { panic!("it waits") };
    assert_eq!((first.event.id, first.result), (EventId(1), Err(Reason::Discarded)));
    assert_eq!(ids(&start(&mut schedule, 0)), [0; 0], "its end is not on disk yet");
    assert_eq!(schedule.discard(KeyId(1), EventId(1), Monotonic(0)), Discard::UnderWay, "it ends already");
    schedule.settled(first.key.unwrap(), false, Monotonic(0));
    assert_eq!(ids(&start(&mut schedule, 0)), [3]);
    assert_eq!(schedule.discard(KeyId(1), EventId(3), Monotonic(0)), Discard::UnderWay);
    assert_eq!(schedule.discard(KeyId(1), EventId(9), Monotonic(0)), Discard::NotWaiting);
    assert_eq!(schedule.discard(KeyId(9), EventId(3), Monotonic(0)), Discard::NotWaiting);
}

#[test]
fn what_failed_before_gets_a_quarter_of_the_slots() {
    let mut schedule = Schedule::new(limits(16, 1_000, 1_000));
    for id in 1..=40 {
        schedule.enqueue_tried(&queued(id, u128::from(id)), tried(1), Monotonic(0));
    }
    assert_eq!(start(&mut schedule, 0).len(), 4, "also where nothing else waits");
    for id in 41..=60 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(0));
    }
    assert_eq!(start(&mut schedule, 0).len(), 12);
    let mut narrow = Schedule::new(limits(1, 1_000, 1_000));
    narrow.enqueue_tried(&queued(1, 1), tried(1), Monotonic(0));
    narrow.enqueue(&queued(2, 2), Monotonic(0));
    assert_eq!(ids(&start(&mut narrow, 0)), [2], "with one slot only when nothing else waits");
}

proptest::proptest! {
    /// For any order of reports, sources, priorities and holds: each key's events start in order, one at a time, and
    /// all of them do.
    #[test]
    fn every_event_starts_once_and_in_order(
        keys in proptest::collection::vec((0_u128..5, 0_usize..3, proptest::bool::ANY), 1..60),
        fates in proptest::collection::vec(0_u8..4, 200),
    ) {
        let mut schedule = Schedule::new(limits(3, 1_000, 10));
        let mut waiting: std::collections::BTreeMap<u128, VecDeque<u64>> = Default::default();
        let mut fates = fates.into_iter().cycle();
        let mut running: Vec<(u128, Delivery)> = Vec::new();
        let mut held = None;
        let mut now = 0;
        for (id, (key, priority, resolve)) in keys.iter().enumerate() {
            let id = id as u64;
            let (source, priority) = (SourceId(u16::try_from(key % 2).unwrap()), Priority::ALL[*priority]);
            let action = if *resolve { Action::Resolve } else { Action::Trigger };
            schedule.enqueue(&Queued { source, priority, action, ..queued(id, *key) }, Monotonic(0));
            waiting.entry(*key).or_default().push_back(id);
        }
        for _ in 0..100_000 {
            now += 1;
            while let Step::Start(delivery) = next(&mut schedule, now) {
                let (key, ..) = keys[usize::try_from(delivery.event.id.0).unwrap()];
                proptest::prop_assert_eq!(waiting[&key].front(), Some(&delivery.event.id.0));
                proptest::prop_assert!(running.iter().all(|(other, _)| *other != key));
                proptest::prop_assert!(held != Some(KeyId(key)));
                running.push((key, delivery));
                proptest::prop_assert!(running.len() <= 3);
            }
            let Some((key, delivery)) = running.pop() else {
                if schedule.is_empty() { break; }
                if let Some(held) = held.take() {
                    schedule.release_key(held, Monotonic(now));
                }
                continue;
            };
            let fate = fates.next();
            schedule.call_ended(&delivery, if fate == Some(0) { DOWN } else { DONE }, None, Monotonic(now));
            match fate {
                Some(0) => {
                    let attempts = delivery.before.map_or(0, |tried| tried.attempts) + 1;
                    schedule.again(delivery.key, tried(attempts), Monotonic(now + 5));
                }
                _ => {
                    if fate == Some(1) && held.is_none() {
                        held = Some(KeyId(key));
                        schedule.hold_key(KeyId(key), Monotonic(now));
                    }
                    waiting.get_mut(&key).unwrap().pop_front();
                    schedule.settled(delivery.key, true, Monotonic(now));
                }
            }
        }
        proptest::prop_assert!(schedule.is_empty() && schedule.is_quiet());
        proptest::prop_assert!(waiting.values().all(VecDeque::is_empty));
    }
}

#[test]
fn slots_are_left_for_a_source_that_sent_something_recently_and_no_longer() {
    let mut schedule = Schedule::new(limits(16, 1_000, 1_000));
    schedule.enqueue(&Queued { source: SourceId(1), ..queued(1, 1) }, Monotonic(0));
    let other = start(&mut schedule, 0);
    schedule.call_ended(&other[0], DONE, None, Monotonic(10));
    schedule.settled(other[0].key, true, Monotonic(10));
    for id in 2..100 {
        schedule.enqueue(&queued(id, u128::from(id)), Monotonic(20));
    }
    assert_eq!(start(&mut schedule, 30).len(), 14);
    assert_eq!(start(&mut schedule, 600_000).len(), 2, "nobody needs them any more");
}
