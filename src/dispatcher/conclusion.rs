//! What follows from a call, decided purely: another one later, or the end of the event.

use std::time::Duration;

use super::lately::Lately;
use crate::event::Outcome;
use crate::journal::Tried;
use crate::outcome::Verdict;
use crate::retry::{self, Attempt, Circumstances, Death, Next};
use crate::schedule::{Delivery, Schedule, Trial};
use crate::time::{Monotonic, Now, WallTime};

/// A call that ended, as far as the decision is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub delivery: Delivery,
    pub verdict: Verdict,
    pub retry_after: Option<Duration>,
}

/// What follows.
#[derive(Clone, Copy, Debug)]
pub enum Conclusion {
    /// The event is sent again then; `tried` is what a restart needs to go on there.
    Again {
        trial: Trial,
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
    lately: &Lately,
    now: Now,
    random: f64,
) -> Conclusion {
    let Heard { delivery, verdict, retry_after } = heard;
    let running = schedule.gate().running(now.monotonic);
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
    let trial = Trial { attempts, since, resends, answered };
    let tried = Tried {
        attempts,
        since: WallTime(now.wall.0.saturating_sub(millis(running.since(since)))),
        retry_at: WallTime(now.wall.0.saturating_add(millis(at.since(now.monotonic)))),
    };
    Conclusion::Again { trial, at, tried }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
