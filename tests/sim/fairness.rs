//! Nobody waits for somebody else's trouble: the shipped schedule, breaker and retry with the shipped settings, in
//! virtual time, beside events that fail, hang or are refused, beside floods and beside backlogs.
//!
//! ```sh
//! cargo test --test sim fair -- --nocapture   # prints how long healthy alerts waited
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use gander::exports::callgoose::answer::{Trouble, Verdict};
use gander::exports::clock::{Monotonic, Now, WallTime};
use gander::exports::delivery::breaker;
use gander::exports::delivery::dispatcher::{JudgedCall, RecentTriggers, next_step};
use gander::exports::delivery::retry;
use gander::exports::delivery::retry::NextStep;
use gander::exports::delivery::schedule::{Delivery, Limits, Schedule, Step, ToSettle};
use gander::exports::delivery::staleness::StaleDecision;
use gander::exports::event::{Action, EventId, KeyId, Outcome, Priority, Queued, SourceId, Superseded};

/// What the upstream makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is taken after fifty milliseconds.
    Taken,
    /// It is answered 500.
    Fails,
    /// It is never answered.
    Hangs,
    /// It is answered 403.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Alert {
    source: u16,
    key: u64,
    action: Action,
    /// Milliseconds; what lies before the beginning was found waiting.
    at: i64,
    fate: Fate,
    /// Whether its wait is looked at.
    watched: bool,
    priority: Priority,
}

/// Alerts, in the order in which they come.
#[derive(Default)]
struct Story(Vec<Alert>);

impl Story {
    /// So many alerts of a source at once, each of a key of its own.
    fn flood(mut self, source: u16, number: usize, at: i64, fate: Fate) -> Story {
        for _ in 0..number {
            self.push(Alert { watched: false, ..alert(source, at, fate) });
        }
        self
    }

    /// So many a second for so many seconds; `fate` by their number.
    fn steady(mut self, source: u16, per_second: i64, seconds: i64, fate: impl Fn(i64) -> Fate) -> Story {
        for number in 0..per_second * seconds {
            let fate = fate(number);
            self.push(Alert { watched: fate == Fate::Taken, ..alert(source, number * 1_000 / per_second, fate) });
        }
        self
    }

    fn push(&mut self, alert: Alert) -> u64 {
        let key = self.0.len() as u64 + 1;
        self.0.push(Alert { key, ..alert });
        key
    }

    /// Runs to the end; returns how long each watched alert waited until it was taken, sorted; milliseconds.
    fn waits(self, seconds: i64) -> Vec<i64> {
        let World { mut waits, .. } = World::run(self, seconds * 1_000);
        waits.sort_unstable();
        waits
    }
}

fn alert(source: u16, at: i64, fate: Fate) -> Alert {
    Alert { source, key: 0, action: Action::Trigger, at, fate, watched: true, priority: Priority::Normal }
}

struct World {
    schedule: Schedule,
    recent_triggers: RecentTriggers,
    alerts: Vec<Alert>,
    calls: BinaryHeap<Reverse<(i64, u64)>>,
    under_way: std::collections::HashMap<u64, Delivery>,
    number: u64,
    rng: Rng,
    waits: Vec<i64>,
    /// When each alert was taken.
    taken: Vec<Option<i64>>,
}

impl World {
    fn run(mut story: Story, until: i64) -> World {
        story.0.sort_by_key(|alert| alert.at);
        let alerts = story.0;
        let mut world = World {
            schedule: Schedule::new(LIMITS),
            recent_triggers: RecentTriggers::new(SETTINGS.unresolved.over),
            calls: BinaryHeap::new(),
            under_way: Default::default(),
            number: 0,
            rng: Rng::with_seed(7),
            waits: Vec::new(),
            taken: vec![None; alerts.len()],
            alerts,
        };
        let (mut time, mut next) = (0, 0);
        while time <= until {
            while world.alerts.get(next).is_some_and(|alert| alert.at <= time) {
                world.arrive(next, time);
                next += 1;
            }
            while let Some(Reverse((at, number))) = world.calls.peek().copied()
                && at <= time
            {
                world.calls.pop();
                world.end(number, time);
            }
            let wake = world.start(time);
            let arrival = world.alerts.get(next).map(|alert| alert.at);
            let end = world.calls.peek().map(|Reverse((at, _))| *at);
            let Some(soonest) = [wake, arrival, end].into_iter().flatten().min() else { break };
            time = soonest.max(time + 1);
        }
        world.alerts.truncate(next);
        for (index, alert) in world.alerts.iter().enumerate().filter(|(_, alert)| alert.watched) {
            let (came, taken) = (alert.at.max(0), world.taken[index]);
            world.waits.push(taken.unwrap_or(until) - came);
        }
        world
    }

    fn arrive(&mut self, index: usize, time: i64) {
        let Alert { source, key, action, at, priority, .. } = self.alerts[index];
        let event = Queued {
            id: EventId(index as u64),
            key: KeyId(u128::from(key) << 64 | u128::from(key)),
            source: SourceId(source),
            action,
            priority,
            reopening: false,
            continues: false,
            acknowledged: Monotonic(at),
        };
        if let Some(overtaken) = self.schedule.enqueue(&event, Monotonic(time)) {
            self.schedule.settled(overtaken.key.expect("the first of its key"), true, Monotonic(time));
        }
    }

    fn start(&mut self, time: i64) -> Option<i64> {
        loop {
            match self.schedule.next(Monotonic(time), |_, _| StaleDecision::Send) {
                Step::Start(delivery) => {
                    let took = match self.alerts[usize::try_from(delivery.event.id.0).unwrap()].fate {
                        Fate::Hangs => TIMEOUT,
                        Fate::Taken | Fate::Fails | Fate::Refused => 50,
                    };
                    self.number += 1;
                    self.under_way.insert(self.number, delivery);
                    self.calls.push(Reverse((time + took, self.number)));
                    assert!(self.under_way.len() <= LIMITS.concurrency);
                }
                Step::Settle(ToSettle { key, .. }) => {
                    self.schedule.settled(key.expect("the first of its key"), true, Monotonic(time));
                }
                Step::WaitUntil(at) => return Some(at.0),
                Step::Wait => return None,
            }
        }
    }

    fn end(&mut self, number: u64, time: i64) {
        let Some(delivery) = self.under_way.remove(&number) else { return };
        let index = usize::try_from(delivery.event.id.0).unwrap();
        let verdict = match (self.alerts[index].fate, delivery.event.action) {
            (Fate::Taken, Action::Trigger) => Verdict::Done(Outcome::Created),
            (Fate::Taken, Action::Resolve) => Verdict::Done(Outcome::Resolved),
            (Fate::Fails, _) => Verdict::Again(Trouble::ServerError),
            (Fate::Hangs, _) => Verdict::Again(Trouble::Timeout),
            (Fate::Refused, _) => Verdict::Blocked(Trouble::Unauthorized),
        };
        let now = Now { monotonic: Monotonic(time), wall: WallTime(time) };
        let failure = self.schedule.call_ended(&delivery, verdict, None, now.monotonic);
        let ended = JudgedCall { delivery, verdict, failure, retry_after: None };
        match next_step(ended, SETTINGS, &self.schedule, &self.recent_triggers, now, self.rng.f64()) {
            NextStep::Retry { state, at } => self.schedule.again(delivery.key, state, at),
            NextStep::Settle { result: Ok(outcome), .. } => {
                let Queued { key, action, .. } = delivery.event;
                self.recent_triggers.delivered(key, action, outcome, now.monotonic);
                self.taken[index] = Some(time);
                self.schedule.settled(delivery.key, true, now.monotonic);
            }
            NextStep::Settle { result: Err(_), .. } => self.schedule.settled(delivery.key, true, now.monotonic),
        }
    }
}

/// Prints how long healthy alerts waited, and holds them to the promise.
#[track_caller]
fn healthy(what: &str, waits: &[i64], worst_max: i64) {
    healthy_half(what, waits, 1_000, worst_max);
}

#[track_caller]
fn healthy_half(what: &str, waits: &[i64], p50_max: i64, worst_max: i64) {
    let (p50, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("{what}: {} alerts, p50 {p50} ms, worst {worst} ms", waits.len());
    assert!(p50 < p50_max, "{what}: half of the healthy alerts wait longer than {p50} ms");
    assert!(worst <= worst_max, "{what}: a healthy alert waits {worst} ms");
}

#[test]
fn a_healthy_alert_is_fair_beside_events_that_always_fail() {
    for number in [12, 120, 700] {
        let story = Story::default().flood(0, number, 0, Fate::Fails).steady(0, 1, 210, |_| Fate::Taken);
        healthy(&format!("beside {number} that always fail"), &story.waits(260), PROMISED);
    }
    let story = Story::default().steady(0, 5, 300, |number| if number % 10 == 3 { Fate::Fails } else { Fate::Taken });
    healthy("one in ten always fails", &story.waits(400), PROMISED);
}

#[test]
fn a_healthy_alert_is_fair_beside_events_that_hang() {
    for before in [0, 30] {
        let story = Story::default().steady(0, 1, 210, |_| Fate::Taken).flood(0, 20, before * 1_000, Fate::Hangs);
        healthy(&format!("beside 20 that hang, from second {before}"), &story.waits(260), PROMISED);
    }
    let story = Story::default().steady(0, 5, 200, |_| Fate::Hangs).steady(1, 1, 200, |_| Fate::Taken);
    healthy("every first attempt of another source hangs", &story.waits(260), PROMISED);
}

#[test]
fn a_healthy_alert_is_fair_beside_a_storm_of_its_own_source_that_hangs_or_is_refused() {
    for (what, fate) in [("hang", Fate::Hangs), ("answered 403", Fate::Refused), ("answered 500", Fate::Fails)] {
        for number in [120, 700] {
            for before in [0, 4_000] {
                let story = Story::default().steady(0, 4, 60, |_| Fate::Taken).flood(0, number, before, fate);
                let what = format!("beside {number} of its own source that {what}, from {before} ms");
                let waits = story.waits(400);
                // Calls that hang hold every slot until they end: no slot stays idle.
                let p50_max = if fate == Fate::Hangs { TIMEOUT / 2 } else { 1_000 };
                healthy_half(&what, &waits, p50_max, PROMISED);
            }
        }
    }
}

#[test]
fn a_healthy_alert_is_fair_beside_events_that_are_refused() {
    for number in [1, 3] {
        for before in [0, 30] {
            let story =
                Story::default().steady(0, 1, 210, |_| Fate::Taken).flood(0, number, before * 1_000, Fate::Refused);
            healthy(&format!("beside {number} answered 403, from second {before}"), &story.waits(260), PROMISED);
        }
    }
    // Few alerts, far apart: what is refused is tried again and again between them.
    let mut story = Story::default().flood(0, 1, 0, Fate::Refused);
    for number in 1..100 {
        story.push(alert(0, number * 300_000, Fate::Taken));
    }
    healthy("one answered 403 beside an alert in five minutes", &story.waits(30_000), PROMISED);
}

#[test]
fn a_fresh_alert_is_fair_beside_the_flood_of_another_source() {
    for number in [600, 20_000] {
        let story = Story::default().flood(0, number, 0, Fate::Taken).steady(1, 1, 200, |_| Fate::Taken);
        healthy(&format!("beside {number} of another source"), &story.waits(210), 2_000);
    }
    let story =
        Story::default()
            .flood(0, 20_000, 0, Fate::Taken)
            .flood(1, 20_000, 0, Fate::Taken)
            .steady(2, 1, 200, |_| Fate::Taken);
    healthy("beside two flooding sources", &story.waits(210), 2_000);
}

#[test]
fn a_fresh_alert_is_fair_beside_all_that_waits() {
    for (what, age) in [("of last night", -36_000_000), ("of this moment", 0)] {
        let story = Story::default().flood(0, 50_000, age, Fate::Taken).steady(0, 1, 200, |_| Fate::Taken);
        healthy(&format!("beside 50,000 {what}"), &story.waits(210), 2_000);
    }
}

#[test]
fn a_resolve_goes_directly_after_its_trigger() {
    for (what, age) in [("of last night", -36_000_000), ("of this moment", 0)] {
        let mut story = Story::default();
        for _ in 0..25_000 {
            let key = story.push(Alert { watched: false, ..alert(0, age, Fate::Taken) });
            let resolve = Alert { key, action: Action::Resolve, watched: false, ..alert(0, age, Fate::Taken) };
            story.0.push(resolve);
        }
        let world = World::run(story, 600_000);
        let mut opened = std::collections::HashMap::new();
        let mut gaps = Vec::new();
        for (alert, taken) in world.alerts.iter().zip(&world.taken) {
            match (alert.action, *taken, opened.get(&alert.key)) {
                (Action::Trigger, Some(at), _) => drop(opened.insert(alert.key, at)),
                (Action::Resolve, Some(at), Some(opened)) => gaps.push(at - opened),
                _ => {}
            }
        }
        gaps.sort_unstable();
        assert!(gaps.len() > 5_000, "{}", gaps.len());
        healthy(&format!("resolves after their triggers, 25,000 pairs {what}"), &gaps, 2_000);
    }
}

#[test]
fn the_resolve_of_a_delivered_trigger_is_fair_beside_all_that_waits() {
    for (what, age) in [("of last night", -36_000_000), ("of this moment", 0)] {
        let mut story = Story::default().flood(0, 50_000, age, Fate::Taken);
        // Their triggers were delivered before the beginning.
        for number in 0..100 {
            story.push(Alert { action: Action::Resolve, ..alert(0, number * 1_000, Fate::Taken) });
        }
        healthy(&format!("resolves of delivered triggers beside 50,000 {what}"), &story.waits(150), 2_000);
    }
}

#[test]
fn under_overload_half_of_the_alerts_are_fair() {
    let story = Story::default().steady(0, 24, 1_200, |_| Fate::Taken);
    let waits = story.waits(1_500);
    let late = waits.iter().filter(|wait| **wait > 60_000).count();
    println!("{late} of {} waited longer than a minute", waits.len());
    healthy("at 120 % of the pace for 20 minutes", &waits, i64::MAX);
}

#[test]
fn priority_is_fair_to_what_has_little_of_it() {
    let mut story = Story::default();
    for number in 0..6_000 {
        let priority = Priority::ALL[number % 3];
        story.push(Alert { priority, watched: false, ..alert(0, 0, Fate::Taken) });
    }
    let world = World::run(story, 60_000);
    let taken = |priority| {
        let of = |(alert, taken): &(&Alert, &Option<i64>)| alert.priority == priority && taken.is_some();
        world.alerts.iter().zip(&world.taken).filter(of).count()
    };
    let (high, normal, low) = (taken(Priority::High), taken(Priority::Normal), taken(Priority::Low));
    let all = high + normal + low;
    assert!(high > all * 7 / 10 && low >= all / 11 && normal >= all / 13, "{high} {normal} {low}");
}

const SETTINGS: retry::Settings = retry::Settings {
    initial: Duration::from_millis(500),
    factor: 2.0,
    max: Duration::from_secs(60),
    give_up_after: Duration::from_secs(86_400),
    unresolved: retry::Unresolved { attempts: 3, over: Duration::from_secs(300) },
};
const LIMITS: Limits = Limits {
    concurrency: 16,
    per_second: NonZeroU32::new(20).unwrap(),
    burst: NonZeroU32::new(40).unwrap(),
    unsettled: 10_000,
    breaker: breaker::Settings { failures: 5, open: Duration::from_secs(10), pause: Duration::from_secs(10) },
    superseded: Superseded::Send,
};
const TIMEOUT: i64 = 10_000;
/// The call's timeout and two seconds.
const PROMISED: i64 = TIMEOUT + 2_000;
