//! Whether and when to try again: a pure function of the attempt, the answer, the age and the time.

use std::time::{Duration, UNIX_EPOCH};

use crate::callgoose::answer::{Trouble, Verdict};
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{Action, Outcome};

/// The `upstream.retry` section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub give_up_after: Duration,
    pub unresolved: Unresolved,
}

/// How often, and over how long, an event is sent again whose answer may only have come too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolved {
    pub attempts: u32,
    pub over: Duration,
}

/// One call that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// Which try of this event it was, from 1.
    pub number: u32,
    /// The time since the first try of this event ended, not counting pauses.
    pub age: Duration,
    pub verdict: Verdict,
    /// Whether others are taken: what keeps this event from being done is then its own.
    pub own_fault: bool,
    /// What the answer's `Retry-After` asks for, read by [`retry_after`].
    pub retry_after: Option<Duration>,
    /// Whether the answer may be another in a while, see [`may_be_early`].
    pub early: bool,
    /// How often the event was sent again for that.
    pub resends: u32,
}

/// What to do with an event after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Delivered(Outcome),
    /// Try it again then.
    Again { at: Monotonic },
    /// It was answered, and is sent again then in the hope of a better answer.
    Resend { at: Monotonic, answered: Outcome },
    /// Keep it as a dead letter.
    Dead(Death),
}

/// Why an event is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The upstream said that it will never take it.
    Rejected,
    /// It was tried for `give_up_after`.
    TooOld,
}

/// Decides what follows from an attempt. `random` is uniform in 0..1 and spreads the retries of many events.
pub fn next(settings: Settings, attempt: Attempt, now: Monotonic, random: f64) -> Next {
    let again = |wait: Duration| Next::Again { at: now.after(wait) };
    let wait = || {
        attempt.retry_after.filter(|asked| !asked.is_zero()).map_or_else(
            || backoff(settings, attempt.number, random),
            // Everyone who was told the same moment would come back in it: a tenth more spreads them.
            |asked| asked.min(RETRY_AFTER_MAX).mul_f64(1.0 + random / 10.0),
        )
    };
    match attempt.verdict {
        Verdict::Done(answered) if attempt.early && attempt.resends < settings.unresolved.attempts => {
            let at = now.after(settings.unresolved.over / settings.unresolved.attempts);
            Next::Resend { at, answered }
        }
        Verdict::Done(outcome) => Next::Delivered(outcome),
        Verdict::Rejected(_) => Next::Dead(Death::Rejected),
        // The token or the endpoint is wrong, not the event: however old it gets, it is not given up for that.
        Verdict::Blocked(_) if !attempt.own_fault => again(wait()),
        Verdict::Again(_) | Verdict::Blocked(_) if attempt.age >= settings.give_up_after => Next::Dead(Death::TooOld),
        Verdict::Again(_) | Verdict::Blocked(_) => again(wait()),
    }
}

/// What is known of an event beside its answer, to tell an answer that came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    pub action: Action,
    /// A trigger that follows a resolve.
    pub reopening: bool,
    /// Every attempt of this event so far was answered: none can have taken effect unseen.
    pub never_in_doubt: bool,
    /// A trigger of the key was delivered within the last minutes.
    pub opened_lately: bool,
    /// A later event of the key waits: it must not wait for a better answer to this one.
    pub has_later: bool,
}

/// Whether the upstream may answer otherwise in a while. It may still be opening the incident that a resolve did not
/// find; and a first trigger after a resolve that it takes for a duplicate fell into its own window for repeats.
pub fn may_be_early(verdict: Verdict, circumstances: Circumstances) -> bool {
    let Circumstances { action, reopening, never_in_doubt, opened_lately, has_later } = circumstances;
    let early = match (action, verdict) {
        (Action::Resolve, Verdict::Done(Outcome::NotResolved)) => opened_lately,
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

/// What is left of a wait that an earlier run of the relay decided on, and that was to end then. The clock may have been
/// turned since: no wait is longer than `max`, or than what the upstream asked for.
pub fn wait_left(settings: Settings, at: WallTime, asked: Option<Duration>, now: WallTime) -> Duration {
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

impl Death {
    pub fn as_str(self) -> &'static str {
        match self {
            Death::Rejected => "rejected",
            Death::TooOld => "too_old",
        }
    }
}

impl Attempt {
    /// What kept it from being done, if something did.
    pub fn trouble(&self) -> Option<Trouble> {
        match self.verdict {
            Verdict::Done(_) => None,
            Verdict::Again(trouble) | Verdict::Blocked(trouble) | Verdict::Rejected(trouble) => Some(trouble),
        }
    }
}

/// An upstream that asks for more is asked again after this: an hour's silence because of one header would be an outage.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Full jitter may draw nearly zero; a try that follows at once only meets the same trouble.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        initial: Duration::from_millis(500),
        factor: 2.0,
        max: Duration::from_secs(60),
        give_up_after: Duration::from_secs(86_400),
        unresolved: Unresolved { attempts: 3, over: Duration::from_secs(300) },
    };
    const DAY: u64 = 86_400_000;

    fn attempt(number: u32, verdict: Verdict) -> Attempt {
        Attempt { number, age: Duration::ZERO, verdict, own_fault: false, retry_after: None, early: false, resends: 0 }
    }

    fn after(number: u32, verdict: Verdict, age_ms: u64, random: f64) -> Next {
        let attempt = Attempt { age: Duration::from_millis(age_ms), ..attempt(number, verdict) };
        next(SETTINGS, attempt, Monotonic(0), random)
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
            assert_eq!(after(number, again, 0, random), Next::Again { at: Monotonic(wait) }, "{number} {random}");
        }
    }

    #[test]
    fn an_event_is_given_up_by_age_unless_the_fault_is_not_its_own() {
        let again = Verdict::Again(Trouble::Connect);
        assert!(matches!(after(9, again, DAY - 1, 1.0), Next::Again { .. }));
        assert_eq!(after(9, again, DAY, 1.0), Next::Dead(Death::TooOld));
        let blocked = Verdict::Blocked(Trouble::Unauthorized);
        assert!(matches!(after(9, blocked, 100 * DAY, 1.0), Next::Again { .. }));
    }

    #[test]
    fn a_rejected_event_is_dead_at_once_and_a_delivered_one_is_delivered_however_old() {
        assert_eq!(after(1, Verdict::Rejected(Trouble::Payload), 0, 1.0), Next::Dead(Death::Rejected));
        assert_eq!(after(9, Verdict::Done(Outcome::Created), 2 * DAY, 1.0), Next::Delivered(Outcome::Created));
    }

    #[test]
    fn retry_after_is_obeyed_up_to_its_ceiling_and_zero_says_nothing() {
        for (asked, random, wait) in [(7, 0.0, 7_000), (7, 1.0, 7_700), (86_400, 0.0, 300_000), (0, 1.0, 500)] {
            let retry_after = Some(Duration::from_secs(asked));
            let attempt = Attempt { retry_after, ..attempt(1, Verdict::Again(Trouble::Busy)) };
            assert_eq!(next(SETTINGS, attempt, Monotonic(0), random), Next::Again { at: Monotonic(wait) }, "{asked}");
        }
    }

    #[test]
    fn an_early_answer_is_asked_for_again_a_few_times_and_then_believed() {
        let early = Attempt { early: true, ..attempt(1, Verdict::Done(Outcome::NotResolved)) };
        for (resends, expected) in [
            (0, Next::Resend { at: Monotonic(100_000), answered: Outcome::NotResolved }),
            (2, Next::Resend { at: Monotonic(100_000), answered: Outcome::NotResolved }),
            (3, Next::Delivered(Outcome::NotResolved)),
        ] {
            assert_eq!(next(SETTINGS, Attempt { resends, ..early }, Monotonic(0), 0.5), expected, "{resends}");
        }
        let never = Settings { unresolved: Unresolved { attempts: 0, over: Duration::ZERO }, ..SETTINGS };
        assert_eq!(next(never, early, Monotonic(0), 0.5), Next::Delivered(Outcome::NotResolved));
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
            opened_lately: true,
            has_later: false,
        };
        let trigger = Circumstances { action: Action::Trigger, reopening: true, opened_lately: false, ..resolve };
        let (missed, repeat) = (Verdict::Done(Outcome::NotResolved), Verdict::Done(Outcome::Duplicate));
        for (sentence, verdict, circumstances, expected) in [
            ("a resolve just behind its trigger", missed, resolve, true),
            ("a resolve of an old incident", missed, Circumstances { opened_lately: false, ..resolve }, false),
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
    fn only_what_was_not_done_met_a_trouble() {
        for (verdict, trouble) in [
            (Verdict::Done(Outcome::Unmatched), None),
            (Verdict::Again(Trouble::Busy), Some(Trouble::Busy)),
            (Verdict::Blocked(Trouble::Endpoint), Some(Trouble::Endpoint)),
            (Verdict::Rejected(Trouble::Payload), Some(Trouble::Payload)),
        ] {
            assert_eq!(attempt(1, verdict).trouble(), trouble, "{verdict:?}");
        }
    }

    #[test]
    fn why_an_event_died_is_told_in_different_words() {
        let (rejected, too_old) = (Death::Rejected.as_str(), Death::TooOld.as_str());
        assert!(rejected != too_old && !rejected.is_empty());
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
