//! The next step after a call, with what the schedule knows of the key: a retry, or the settlement.

use std::time::Duration;

use super::recent_triggers::RecentTriggers;
use crate::callgoose::answer::Verdict;
use crate::clock::{Monotonic, Now, WallTime};
use crate::delivery::breaker::FailureOf;
use crate::delivery::retry::{self, Circumstances, NextStep, RetryInputs, RetryState};
use crate::delivery::schedule::{Delivery, Schedule};
use crate::journal::StoredRetry;

/// A finished call with what its answer means.
#[derive(Clone, Copy, Debug)]
pub struct JudgedCall {
    pub delivery: Delivery,
    pub verdict: Verdict,
    /// The owner of the failure, if it failed, as decided by the schedule.
    pub failure: Option<FailureOf>,
    pub retry_after: Option<Duration>,
}

/// Decides the next step. The schedule has been told that the call ended. `random` is uniform in 0..1.
pub fn next_step(
    call: JudgedCall,
    settings: retry::Settings,
    schedule: &Schedule,
    recent: &RecentTriggers,
    now: Now,
    random: f64,
) -> NextStep {
    let JudgedCall { delivery, verdict, failure, retry_after } = call;
    let before = delivery.before;
    let circumstances = Circumstances {
        action: delivery.event.action,
        reopening: delivery.event.reopening,
        never_in_doubt: !is_in_doubt(&delivery),
        opened_recently: before.is_some_and(|retry| retry.resends > 0)
            || recent.opened(delivery.event.key, now.monotonic),
        has_later: schedule.has_later(delivery.key),
    };
    let inputs = RetryInputs {
        before,
        ended: schedule.breaker().running(now.monotonic),
        verdict,
        own_fault: failure == Some(FailureOf::Event),
        retry_after,
        early: retry::may_be_early(verdict, circumstances),
    };
    retry::decide(settings, inputs, now.monotonic, random)
}

/// Returns true if an earlier attempt was not answered, and may have taken effect.
pub(crate) fn is_in_doubt(delivery: &Delivery) -> bool {
    delivery.before.is_some_and(|retry| retry.attempts != retry.resends)
}

/// The state of an event's retries for a restart.
pub fn tried_before(
    retry: RetryState,
    at: Monotonic,
    retry_after: Option<Duration>,
    schedule: &Schedule,
    now: Now,
) -> StoredRetry {
    let wait = at.since(now.monotonic);
    StoredRetry {
        attempts: retry.attempts,
        age: schedule.breaker().running(now.monotonic).since(retry.since),
        retry_at: WallTime(now.wall.0.saturating_add(millis(wait))),
        asked: retry_after.filter(|asked| !asked.is_zero() && retry.answered.is_none()).map(|_| wait),
    }
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
    use crate::delivery::staleness::StaleDecision;
    use crate::event::{Action, EventId, KeyId, Outcome, Priority, Queued, Reason, SourceId, Superseded};

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

    /// The state after `attempts`, of which `resends` were answered; the first ended at this second.
    fn tried(attempts: u32, resends: u32, second: i64) -> Option<RetryState> {
        Some(RetryState { attempts, since: Monotonic(second * 1_000), resends, answered: None })
    }

    /// A schedule with one event whose delivery has begun, after the attempts in `before`.
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
            Some(state) => schedule.enqueue_tried(&event, state, Monotonic(0)),
            None => assert_eq!(schedule.enqueue(&event, Monotonic(0)), None),
        }
        match schedule.next(Monotonic(0), |_, _| StaleDecision::Send) {
            Step::Start(delivery) => (schedule, delivery),
            other => panic!("{other:?}"),
        }
    }

    /// The next step after a delivery's call ended at [`NOW`], and the retry state for a restart.
    fn after(
        action: Action,
        before: Option<RetryState>,
        verdict: Verdict,
        recent: &RecentTriggers,
    ) -> (NextStep, Option<StoredRetry>) {
        let (mut schedule, delivery) = begun(action, before);
        schedule.call_ended(&delivery, verdict, None, NOW.monotonic);
        let judged = JudgedCall { delivery, verdict, failure: None, retry_after: None };
        step(judged, &schedule, recent)
    }

    fn step(judged: JudgedCall, schedule: &Schedule, recent: &RecentTriggers) -> (NextStep, Option<StoredRetry>) {
        let step = next_step(judged, SETTINGS, schedule, recent, NOW, 1.0);
        let tried = match step {
            NextStep::Retry { state, at } => Some(tried_before(state, at, judged.retry_after, schedule, NOW)),
            NextStep::Settle { .. } => None,
        };
        (step, tried)
    }

    fn no_triggers() -> RecentTriggers {
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
            let resends = before.map_or(0, |retry| retry.resends);
            let step = NextStep::Retry {
                state: RetryState { attempts, since: Monotonic(since), resends, answered: None },
                at: Monotonic(1_000_000 + wait),
            };
            let tried = StoredRetry {
                attempts,
                age: Monotonic(1_000_000).since(Monotonic(since)),
                retry_at: WallTime(70_000_000 + wait),
                asked: None,
            };
            assert_eq!(after(Action::Trigger, before, DOWN, &no_triggers()), (step, Some(tried)), "{sentence}");
        }
    }

    #[test]
    fn an_event_is_dead_by_its_age_with_the_attempts_that_it_took() {
        let dead = NextStep::Settle { attempts: 8, result: Err(Reason::TooOld("connect".into())) };
        assert_eq!(after(Action::Trigger, tried(7, 0, 400), DOWN, &no_triggers()).0, dead);
    }

    #[test]
    fn a_pause_makes_no_event_older() {
        let (mut schedule, delivery) = begun(Action::Trigger, tried(1, 0, 400));
        schedule.call_ended(&delivery, DENIED, None, Monotonic(500_000));
        let judged = JudgedCall { delivery, verdict: DOWN, failure: None, retry_after: None };
        let (NextStep::Retry { state, .. }, Some(tried)) = step(judged, &schedule, &no_triggers()) else { panic!() };
        assert_eq!((state.since, tried.age), (Monotonic(400_000), Duration::from_secs(100)));
    }

    #[test]
    fn what_the_upstream_asked_for_is_kept_for_a_restart() {
        for (asked, wait, kept) in [(None, 500, None), (Some(0), 500, None), (Some(40), 44_000, Some(44_000))] {
            let (mut schedule, delivery) = begun(Action::Trigger, None);
            schedule.call_ended(&delivery, DOWN, None, NOW.monotonic);
            let retry_after = asked.map(Duration::from_secs);
            let judged = JudgedCall { delivery, verdict: DOWN, failure: None, retry_after };
            let (_, Some(tried)) = step(judged, &schedule, &no_triggers()) else { panic!() };
            let expected = (WallTime(70_000_000 + wait), kept.map(Duration::from_millis));
            assert_eq!((tried.retry_at, tried.asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn an_end_is_in_doubt_where_an_attempt_before_it_was_not_answered() {
        for (before, in_doubt) in
            [(None, false), (tried(2, 2, 400), false), (tried(2, 1, 400), true), (tried(2, 0, 400), true)]
        {
            assert_eq!(is_in_doubt(&begun(Action::Trigger, before).1), in_doubt, "{before:?}");
        }
    }

    #[test]
    fn a_resolve_that_found_nothing_is_sent_again_where_its_trigger_was_delivered_recently() {
        let mut recent = no_triggers();
        recent.delivered(KeyId(1), Action::Trigger, Outcome::Created, NOW.monotonic);
        for (sentence, before, recent, resends) in [
            ("it was", None, &recent, Some(1)),
            ("it was not", None, &no_triggers(), None),
            ("it was not, and tries before this failed", tried(2, 0, 900), &no_triggers(), None),
            ("it was when this was first sent", tried(1, 1, 900), &no_triggers(), Some(2)),
            ("it was, and this was sent often enough", tried(3, 3, 900), &recent, None),
        ] {
            let attempts = before.map_or(0, |retry| retry.attempts) + 1;
            match (after(Action::Resolve, before, MISSED, recent), resends) {
                ((NextStep::Retry { state, at }, Some(tried)), Some(resends)) => {
                    let answered = Some(Outcome::NotResolved);
                    let since = before.map_or(NOW.monotonic, |retry| retry.since);
                    assert_eq!(state, RetryState { attempts, since, resends, answered }, "{sentence}");
                    assert_eq!((at, tried.retry_at), (Monotonic(1_100_000), WallTime(70_100_000)), "{sentence}");
                }
                ((NextStep::Settle { result: Ok(Outcome::NotResolved), .. }, None), None) => {}
                other => panic!("{sentence}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_asked_for_again_with_an_event_behind_it() {
        let mut recent = no_triggers();
        let (mut schedule, delivery) = begun(Action::Resolve, None);
        recent.delivered(KeyId(1), Action::Trigger, Outcome::Created, NOW.monotonic);
        schedule.call_ended(&delivery, MISSED, None, NOW.monotonic);
        schedule.enqueue(&Queued { id: EventId(2), ..delivery.event }, Monotonic(0));
        let judged = JudgedCall { delivery, verdict: MISSED, failure: None, retry_after: None };
        let settled = NextStep::Settle { attempts: 1, result: Ok(Outcome::NotResolved) };
        assert_eq!(step(judged, &schedule, &recent).0, settled);
    }
}
