//! What follows from a call, decided purely: another one later, or the end of the event.

use std::time::Duration;

use super::recent_triggers::RecentTriggers;
use crate::callgoose::answer::Verdict;
use crate::clock::{Monotonic, Now, WallTime};
use crate::delivery::breaker::Fault;
use crate::delivery::retry::{self, Attempt, Circumstances, Death, Next};
use crate::delivery::schedule::{Delivery, RetryState, Schedule};
use crate::event::Outcome;
use crate::journal::Tried;

/// A call that ended, as far as the decision is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub delivery: Delivery,
    pub verdict: Verdict,
    /// Whose fault it is, where it failed, as the schedule said.
    pub fault: Option<Fault>,
    pub retry_after: Option<Duration>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The event is sent again then; `tried` is what a restart needs to go on there.
    Again {
        trial: RetryState,
        at: Monotonic,
        tried: Tried,
    },
    /// `in_doubt`: an earlier attempt may have taken effect unseen.
    Delivered {
        attempts: u32,
        outcome: Outcome,
        in_doubt: bool,
    },
    Dead {
        attempts: u32,
        death: Death,
    },
}

/// Decides; the schedule was told already that the call ended. `random` is uniform in 0..1.
pub fn conclude(
    heard: Heard,
    settings: retry::Settings,
    schedule: &Schedule,
    lately: &RecentTriggers,
    now: Now,
    random: f64,
) -> Conclusion {
    let Heard { delivery, verdict, fault, retry_after } = heard;
    let running = schedule.breaker().running(now.monotonic);
    let before = delivery.before;
    let never_in_doubt = before.is_none_or(|trial| trial.attempts == trial.resends);
    let circumstances = Circumstances {
        action: delivery.event.action,
        reopening: delivery.event.reopening,
        never_in_doubt,
        opened_lately: before.is_some_and(|trial| trial.resends > 0)
            || lately.opened(delivery.event.key, now.monotonic),
        has_later: schedule.has_later(delivery.key),
    };
    let since = before.filter(|trial| trial.attempts > 0).map_or(running, |trial| trial.since);
    let attempt = Attempt {
        number: before.map_or(0, |trial| trial.attempts) + 1,
        age: running.since(since),
        verdict,
        own_fault: fault == Some(Fault::Event),
        retry_after,
        early: retry::may_be_early(verdict, circumstances),
        resends: before.map_or(0, |trial| trial.resends),
    };
    let attempts = attempt.number;
    let (at, answered) = match retry::next(settings, attempt, now.monotonic, random) {
        Next::Again { at } => (at, None),
        Next::Resend { at, answered } => (at, Some(answered)),
        Next::Delivered(outcome) => return Conclusion::Delivered { attempts, outcome, in_doubt: !never_in_doubt },
        Next::Dead(death) => return Conclusion::Dead { attempts, death },
    };
    let resends = attempt.resends + u32::from(answered.is_some());
    let trial = RetryState { attempts, since, resends, answered };
    let wait = at.since(now.monotonic);
    let tried = Tried {
        attempts,
        age: running.since(since),
        retry_at: WallTime(now.wall.0.saturating_add(millis(wait))),
        asked: retry_after.filter(|asked| !asked.is_zero() && answered.is_none()).map(|_| wait),
    };
    Conclusion::Again { trial, at, tried }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::callgoose::answer::Trouble;
    use crate::delivery::breaker;
    use crate::delivery::retry::Unresolved;
    use crate::delivery::schedule::{Limits, Step};
    use crate::delivery::staleness::Decision;
    use crate::event::{Action, EventId, KeyId, Priority, Queued, SourceId, Superseded};

    const SETTINGS: retry::Settings = retry::Settings {
        initial: Duration::from_millis(500),
        factor: 2.0,
        max: Duration::from_secs(60),
        give_up_after: Duration::from_secs(600),
        unresolved: Unresolved { attempts: 3, over: Duration::from_secs(300) },
    };
    const NOW: Now = Now { monotonic: Monotonic(1_000_000), wall: WallTime(70_000_000) };
    const DOWN: Verdict = Verdict::Again(Trouble::Connect);
    const DENIED: Verdict = Verdict::Blocked(Trouble::Unauthorized);
    const MISSED: Verdict = Verdict::Done(Outcome::NotResolved);

    /// Some attempts of which so many were answered, the first of which ended at this second.
    fn tried(attempts: u32, resends: u32, second: i64) -> Option<RetryState> {
        Some(RetryState { attempts, since: Monotonic(second * 1_000), resends, answered: None })
    }

    /// A schedule with one event, whose delivery has begun and was preceded by this.
    fn begun(action: Action, before: Option<RetryState>) -> (Schedule, Delivery) {
        let one = NonZeroU32::MIN;
        let breaker = breaker::Settings { failures: 9, open: Duration::from_secs(10), pause: Duration::from_secs(60) };
        let mut schedule = Schedule::new(Limits {
            concurrency: 1,
            per_second: one,
            burst: one,
            unsettled: 9,
            breaker,
            superseded: Superseded::Send,
        });
        let event = Queued {
            id: EventId(1),
            key: KeyId(1),
            source: SourceId(0),
            action,
            priority: Priority::Normal,
            reopening: false,
            continues: false,
            acknowledged: Monotonic(0),
        };
        match before {
            Some(trial) => schedule.enqueue_tried(&event, trial, Monotonic(0)),
            None => assert_eq!(schedule.enqueue(&event, Monotonic(0)), None),
        }
        match schedule.next(Monotonic(0), |_, _| Decision::Send) {
            Step::Start(delivery) => (schedule, delivery),
            other => panic!("{other:?}"),
        }
    }

    /// What follows when the call of a delivery that was preceded by this ends so, at [`NOW`].
    fn after(action: Action, before: Option<RetryState>, verdict: Verdict, lately: &RecentTriggers) -> Conclusion {
        let (mut schedule, delivery) = begun(action, before);
        schedule.ended(&delivery, verdict, None, NOW.monotonic);
        conclude(Heard { delivery, verdict, fault: None, retry_after: None }, SETTINGS, &schedule, lately, NOW, 1.0)
    }

    fn nothing_lately() -> RecentTriggers {
        RecentTriggers::new(SETTINGS.unresolved.over)
    }

    #[test]
    fn an_event_ages_from_its_first_failure_and_a_restart_goes_on_with_that_age() {
        for (sentence, before, attempts, since, wait) in [
            ("the first failure is the beginning", None, 1, 1_000_000, 500),
            ("so it is where no call was made before", tried(0, 0, 7), 1, 1_000_000, 500),
            ("a later one keeps it", tried(1, 0, 960), 2, 960_000, 1_000),
            ("however many there were", tried(4, 1, 500), 5, 500_000, 8_000),
        ] {
            let resends = before.map_or(0, |trial| trial.resends);
            let expected = Conclusion::Again {
                trial: RetryState { attempts, since: Monotonic(since), resends, answered: None },
                at: Monotonic(1_000_000 + wait),
                tried: Tried {
                    attempts,
                    age: Monotonic(1_000_000).since(Monotonic(since)),
                    retry_at: WallTime(70_000_000 + wait),
                    asked: None,
                },
            };
            assert_eq!(after(Action::Trigger, before, DOWN, &nothing_lately()), expected, "{sentence}");
        }
    }

    #[test]
    fn an_event_is_dead_by_its_age_with_the_attempts_that_it_took() {
        let dead = Conclusion::Dead { attempts: 8, death: Death::TooOld };
        assert_eq!(after(Action::Trigger, tried(7, 0, 400), DOWN, &nothing_lately()), dead);
    }

    #[test]
    fn a_pause_makes_no_event_older() {
        let (mut schedule, delivery) = begun(Action::Trigger, tried(1, 0, 400));
        schedule.ended(&delivery, DENIED, None, Monotonic(500_000));
        let heard = Heard { delivery, verdict: DOWN, fault: None, retry_after: None };
        let conclusion = conclude(heard, SETTINGS, &schedule, &nothing_lately(), NOW, 1.0);
        let Conclusion::Again { trial, tried, .. } = conclusion else { panic!("{conclusion:?}") };
        assert_eq!((trial.since, tried.age), (Monotonic(400_000), Duration::from_secs(100)));
    }

    #[test]
    fn what_the_upstream_asked_for_is_kept_for_a_restart() {
        for (asked, wait, kept) in [(None, 500, None), (Some(0), 500, None), (Some(40), 44_000, Some(44_000))] {
            let (mut schedule, delivery) = begun(Action::Trigger, None);
            schedule.ended(&delivery, DOWN, None, NOW.monotonic);
            let heard = Heard { delivery, verdict: DOWN, fault: None, retry_after: asked.map(Duration::from_secs) };
            let conclusion = conclude(heard, SETTINGS, &schedule, &nothing_lately(), NOW, 1.0);
            let Conclusion::Again { tried, .. } = conclusion else { panic!("{conclusion:?}") };
            let expected = (WallTime(70_000_000 + wait), kept.map(Duration::from_millis));
            assert_eq!((tried.retry_at, tried.asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn an_end_is_in_doubt_where_an_attempt_before_it_was_not_answered() {
        for (before, attempts, in_doubt) in
            [(None, 1, false), (tried(2, 2, 400), 3, false), (tried(2, 1, 400), 3, true), (tried(2, 0, 400), 3, true)]
        {
            let expected = Conclusion::Delivered { attempts, outcome: Outcome::Created, in_doubt };
            let created = Verdict::Done(Outcome::Created);
            assert_eq!(after(Action::Trigger, before, created, &nothing_lately()), expected, "{before:?}");
        }
    }

    #[test]
    fn a_resolve_that_found_nothing_is_sent_again_where_its_trigger_was_delivered_lately() {
        let mut lately = nothing_lately();
        let (_, trigger) = begun(Action::Trigger, None);
        lately.delivered(&trigger.event, Outcome::Created, NOW.monotonic);
        for (sentence, before, lately, resends) in [
            ("it was", None, &lately, Some(1)),
            ("it was not", None, &nothing_lately(), None),
            ("it was not, and tries before this failed", tried(2, 0, 900), &nothing_lately(), None),
            ("it was when this was first sent", tried(1, 1, 900), &nothing_lately(), Some(2)),
            ("it was, and this was sent often enough", tried(3, 3, 900), &lately, None),
        ] {
            let attempts = before.map_or(0, |trial| trial.attempts) + 1;
            let conclusion = after(Action::Resolve, before, MISSED, lately);
            match (conclusion, resends) {
                (Conclusion::Again { trial, at, tried }, Some(resends)) => {
                    let answered = Some(Outcome::NotResolved);
                    let since = before.map_or(NOW.monotonic, |trial| trial.since);
                    assert_eq!(trial, RetryState { attempts, since, resends, answered }, "{sentence}");
                    assert_eq!((at, tried.retry_at), (Monotonic(1_100_000), WallTime(70_100_000)), "{sentence}");
                }
                (Conclusion::Delivered { outcome: Outcome::NotResolved, .. }, None) => {}
                other => panic!("{sentence}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_asked_for_again_with_an_event_behind_it() {
        let mut lately = nothing_lately();
        let (mut schedule, delivery) = begun(Action::Resolve, None);
        lately.delivered(&Queued { action: Action::Trigger, ..delivery.event }, Outcome::Created, NOW.monotonic);
        schedule.ended(&delivery, MISSED, None, NOW.monotonic);
        schedule.enqueue(&Queued { id: EventId(2), ..delivery.event }, Monotonic(0));
        let conclusion = conclude(
            Heard { delivery, verdict: MISSED, fault: None, retry_after: None },
            SETTINGS,
            &schedule,
            &lately,
            NOW,
            1.0,
        );
        let delivered = Conclusion::Delivered { attempts: 1, outcome: Outcome::NotResolved, in_doubt: false };
        assert_eq!(conclusion, delivered);
    }
}
