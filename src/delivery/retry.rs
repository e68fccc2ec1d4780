//! The retry decision: a pure function of the attempt, the answer, the age and the time.

use std::time::{Duration, UNIX_EPOCH};

use crate::callgoose::answer::Verdict;
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{Action, Outcome, Reason};

/// The `upstream.retry` section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub give_up_after: Duration,
    pub unresolved: Unresolved,
}

/// The limits for sending an event again after an answer that may have come too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolved {
    pub attempts: u32,
    pub over: Duration,
}

/// The attempts at one event so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryState {
    /// The number of finished attempts.
    pub attempts: u32,
    /// When the first of them ended, on the clock that stops during pauses.
    pub since: Monotonic,
    /// The number of times that it was sent again after an answer.
    pub resends: u32,
    /// The answer, if the event is only sent again for a better one: a later event of its key does not wait for that.
    pub answered: Option<Outcome>,
}

/// The inputs of the retry decision: a finished call, and the state of its event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RetryInputs {
    /// None on the first attempt.
    pub before: Option<RetryState>,
    /// When it ended, on the clock that stops during pauses.
    pub ended: Monotonic,
    pub verdict: Verdict,
    /// True if other events succeed: then the failure is this event's own.
    pub own_fault: bool,
    /// The wait that the answer's `Retry-After` asks for, read by [`retry_after`].
    pub retry_after: Option<Duration>,
    /// True if the answer may improve later, see [`may_be_early`].
    pub early: bool,
}

/// The decision after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Call again at `at`; with `state.answered`, only for a better answer.
    Retry { state: RetryState, at: Monotonic },
    /// Settle as delivered, or given up for a reason.
    Settle { attempts: u32, result: Result<Outcome, Reason> },
}

/// Decides the next step after an attempt. `random` is uniform in 0..1 and spreads the retries of many events.
pub(crate) fn decide(settings: Settings, inputs: RetryInputs, now: Monotonic, random: f64) -> NextStep {
    let state = inputs.state();
    let settle = |result| NextStep::Settle { attempts: state.attempts, result };
    let retry = || {
        let wait = inputs.retry_after.filter(|asked| !asked.is_zero()).map_or_else(
            || backoff(settings, state.attempts, random),
            // Everyone with the same `Retry-After` would return at once: up to a tenth more spreads them.
            |asked| asked.min(RETRY_AFTER_MAX).mul_f64(1.0 + random / 10.0),
        );
        NextStep::Retry { state, at: now.after(wait) }
    };
    match inputs.verdict {
        Verdict::Done(answered) if inputs.early && state.resends < settings.unresolved.attempts => {
            let at = now.after(settings.unresolved.over / settings.unresolved.attempts);
            let state = RetryState { resends: state.resends + 1, answered: Some(answered), ..state };
            NextStep::Retry { state, at }
        }
        Verdict::Done(outcome) => settle(Ok(outcome)),
        Verdict::Rejected(trouble) => settle(Err(Reason::Rejected(trouble.as_str().into()))),
        // The token or the endpoint is wrong, not the event: it is never given up for that, however old.
        Verdict::Blocked(_) if !inputs.own_fault => retry(),
        Verdict::Again(trouble) | Verdict::Blocked(trouble)
            if inputs.ended.since(state.since) >= settings.give_up_after =>
        {
            settle(Err(Reason::TooOld(trouble.as_str().into())))
        }
        Verdict::Again(_) | Verdict::Blocked(_) => retry(),
    }
}

/// Facts beside the answer that show if it came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    pub action: Action,
    /// A trigger that follows a resolve.
    pub reopening: bool,
    /// Every attempt of this event so far was answered: none can have taken effect unnoticed.
    pub never_in_doubt: bool,
    /// A trigger of the key was delivered within the last minutes.
    pub opened_recently: bool,
    /// A later event of the key waits: it must not wait for a better answer to this one.
    pub has_later: bool,
}

/// Returns true if the upstream may answer differently later. It may still be opening the incident that a resolve did
/// not find; and a first trigger after a resolve, answered as a duplicate, fell into its own duplicate window.
pub(crate) fn may_be_early(verdict: Verdict, circumstances: Circumstances) -> bool {
    let Circumstances { action, reopening, never_in_doubt, opened_recently, has_later } = circumstances;
    let early = match (action, verdict) {
        (Action::Resolve, Verdict::Done(Outcome::NotResolved)) => opened_recently,
        (Action::Trigger, Verdict::Done(Outcome::Duplicate)) => reopening && never_in_doubt,
        _ => false,
    };
    early && !has_later
}

/// Exponential backoff with full jitter: anything up to `initial * factor^(number-1)`, capped by `max`.
fn backoff(settings: Settings, number: u32, random: f64) -> Duration {
    let exponent = i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX);
    let ceiling = settings.initial.as_secs_f64() * settings.factor.powi(exponent);
    let ceiling =
        if ceiling.is_finite() { ceiling.min(settings.max.as_secs_f64()) } else { settings.max.as_secs_f64() };
    Duration::from_secs_f64(ceiling * random).max(BACKOFF_MIN)
}

/// The rest of a wait that an earlier run of the relay decided on, until `at`. The clock may have changed since: no
/// wait is longer than `max`, or than the upstream asked for.
pub(crate) fn wait_left(settings: Settings, at: WallTime, asked: Option<Duration>, now: WallTime) -> Duration {
    at.since(now).min(asked.unwrap_or(settings.max))
}

/// Reads a `Retry-After` (RFC 9110, section 10.2.3): seconds, or an HTTP date. None if it is neither.
pub fn retry_after(value: &str, now: Now) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs));
    }
    let at = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let wall = Duration::from_millis(u64::try_from(now.wall.0).unwrap_or(0));
    Some(at.saturating_sub(wall))
}

impl RetryInputs {
    /// The attempts at its event, including this one.
    fn state(&self) -> RetryState {
        match self.before {
            Some(before) if before.attempts > 0 => {
                RetryState { attempts: before.attempts + 1, answered: None, ..before }
            }
            _ => RetryState { attempts: 1, since: self.ended, resends: 0, answered: None },
        }
    }
}

/// The longest wait that an upstream can ask for: an hour's silence because of one header would be an outage.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Full jitter may draw nearly zero; an immediate retry only meets the same problem.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callgoose::answer::Trouble;

    const SETTINGS: Settings = Settings {
        initial: Duration::from_millis(500),
        factor: 2.0,
        max: Duration::from_secs(60),
        give_up_after: Duration::from_secs(86_400),
        unresolved: Unresolved { attempts: 3, over: Duration::from_secs(300) },
    };
    const DAY: i64 = 86_400_000;

    /// The attempt of this number, which ends at 0.
    fn attempt(number: u32, verdict: Verdict) -> RetryInputs {
        let before = RetryState { attempts: number - 1, since: Monotonic(0), resends: 0, answered: None };
        RetryInputs {
            before: Some(before),
            ended: Monotonic(0),
            verdict,
            own_fault: false,
            retry_after: None,
            early: false,
        }
    }

    /// The next step after the attempt of this number, at this age.
    fn after(number: u32, verdict: Verdict, age_ms: i64, random: f64) -> NextStep {
        let attempt = RetryInputs { ended: Monotonic(age_ms), ..attempt(number, verdict) };
        decide(SETTINGS, attempt, Monotonic(0), random)
    }

    fn retry(attempts: u32, wait: i64) -> NextStep {
        let state = RetryState { attempts, since: Monotonic(0), resends: 0, answered: None };
        NextStep::Retry { state, at: Monotonic(wait) }
    }

    #[test]
    fn the_wait_doubles_up_to_its_ceiling_and_is_drawn_from_zero() {
        let again = Verdict::Again(Trouble::Connect);
        for (number, random, wait) in [
            (1, 1.0, 500),
            (2, 1.0, 1_000),
            (3, 1.0, 2_000),
            (7, 1.0, 32_000),
            (8, 1.0, 60_000),
            (10_000, 1.0, 60_000),
            (u32::MAX, 1.0, 60_000),
            (3, 0.5, 1_000),
            (3, 0.0, 10),
        ] {
            assert_eq!(after(number, again, 0, random), retry(number, wait), "{number} {random}");
        }
    }

    #[test]
    fn an_event_is_given_up_by_age_unless_the_fault_is_not_its_own() {
        let again = Verdict::Again(Trouble::Connect);
        assert!(matches!(after(9, again, DAY - 1, 1.0), NextStep::Retry { .. }));
        let too_old = NextStep::Settle { attempts: 9, result: Err(Reason::TooOld("connect".into())) };
        assert_eq!(after(9, again, DAY, 1.0), too_old);
        let blocked = Verdict::Blocked(Trouble::Unauthorized);
        assert!(matches!(after(9, blocked, 100 * DAY, 1.0), NextStep::Retry { .. }));
    }

    #[test]
    fn a_rejected_event_is_dead_at_once_and_a_delivered_one_is_delivered_however_old() {
        let rejected = NextStep::Settle { attempts: 1, result: Err(Reason::Rejected("payload".into())) };
        assert_eq!(after(1, Verdict::Rejected(Trouble::Payload), 0, 1.0), rejected);
        let created = NextStep::Settle { attempts: 9, result: Ok(Outcome::Created) };
        assert_eq!(after(9, Verdict::Done(Outcome::Created), 2 * DAY, 1.0), created);
    }

    #[test]
    fn retry_after_is_obeyed_up_to_its_ceiling_and_zero_says_nothing() {
        for (asked, random, wait) in [(7, 0.0, 7_000), (7, 1.0, 7_700), (86_400, 0.0, 300_000), (0, 1.0, 500)] {
            let retry_after = Some(Duration::from_secs(asked));
            let attempt = RetryInputs { retry_after, ..attempt(1, Verdict::Again(Trouble::Busy)) };
            assert_eq!(decide(SETTINGS, attempt, Monotonic(0), random), retry(1, wait), "{asked}");
        }
    }

    #[test]
    fn an_early_answer_is_asked_for_again_a_few_times_and_then_believed() {
        let missed = Outcome::NotResolved;
        let early = |resends| {
            let before = RetryState { attempts: resends, since: Monotonic(0), resends, answered: None };
            RetryInputs { before: Some(before), early: true, ..attempt(1, Verdict::Done(missed)) }
        };
        let settle = |attempts| NextStep::Settle { attempts, result: Ok(missed) };
        for resends in [0, 2] {
            let again = resends + 1;
            let state = RetryState { attempts: again, since: Monotonic(0), resends: again, answered: Some(missed) };
            let resend = NextStep::Retry { state, at: Monotonic(100_000) };
            assert_eq!(decide(SETTINGS, early(resends), Monotonic(0), 0.5), resend, "{resends}");
        }
        assert_eq!(decide(SETTINGS, early(3), Monotonic(0), 0.5), settle(4));
        let never = Settings { unresolved: Unresolved { attempts: 0, over: Duration::ZERO }, ..SETTINGS };
        assert_eq!(decide(never, early(0), Monotonic(0), 0.5), settle(1));
    }

    #[test]
    fn a_wait_that_is_taken_up_again_is_no_longer_than_it_was_whatever_became_of_the_clock() {
        let now = WallTime(1_000_000_000);
        for (sentence, at, asked, left) in [
            ("the clock went on", 20, None, 20),
            ("it is over", -1, None, 0),
            ("the clock was turned on by days", -200_000, Some(120), 0),
            ("the clock was turned back by days", 864_000, None, 60),
            ("the upstream asked for more than `max`", 100, Some(120), 100),
            ("it did, and the clock was turned back by days", 864_000, Some(120), 120),
            ("it asked for less, and the clock was turned back by days", 864_000, Some(7), 7),
        ] {
            let left_now = wait_left(SETTINGS, WallTime(now.0 + at * 1_000), asked.map(Duration::from_secs), now);
            assert_eq!(left_now, Duration::from_secs(left), "{sentence}");
        }
    }

    #[test]
    fn answers_that_may_be_early() {
        let resolve = Circumstances {
            action: Action::Resolve,
            reopening: false,
            never_in_doubt: true,
            opened_recently: true,
            has_later: false,
        };
        let trigger = Circumstances { action: Action::Trigger, reopening: true, opened_recently: false, ..resolve };
        let (missed, repeat) = (Verdict::Done(Outcome::NotResolved), Verdict::Done(Outcome::Duplicate));
        for (sentence, verdict, circumstances, expected) in [
            ("a resolve just behind its trigger", missed, resolve, true),
            ("a resolve of an old incident", missed, Circumstances { opened_recently: false, ..resolve }, false),
            ("a resolve with an event behind it", missed, Circumstances { has_later: true, ..resolve }, false),
            ("a resolve that was done", Verdict::Done(Outcome::Resolved), resolve, false),
            ("a resolve that matched no filter", Verdict::Done(Outcome::Unmatched), resolve, false),
            ("a first trigger after a resolve, taken for a repeat", repeat, trigger, true),
            ("the same, perhaps delivered before", repeat, Circumstances { never_in_doubt: false, ..trigger }, false),
            ("a reminder, taken for a repeat", repeat, Circumstances { reopening: false, ..trigger }, false),
            ("a trigger with its resolve behind it", repeat, Circumstances { has_later: true, ..trigger }, false),
        ] {
            assert_eq!(may_be_early(verdict, circumstances), expected, "{sentence}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 1994-11-06T08:49:37Z, the date of RFC 9110's examples.
        let now = Now { monotonic: Monotonic(0), wall: WallTime(784_111_777_000) };
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value:?}");
        }
    }
}
