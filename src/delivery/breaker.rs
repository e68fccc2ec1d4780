//! The circuit breaker between the relay and the upstream, and the pause while token, proxy or endpoint is wrong.
//!
//! Both are about the upstream as a whole, never about one event. A failure counts against the upstream only while
//! nothing succeeds; where other events are taken, it is the event's own. While the breaker is open one call at a time
//! goes through as a probe; the first that is answered as it should be closes it, and the number of calls at once grows
//! again from two. It does not survive a restart: a new process asks anew.

use std::time::Duration;

use crate::callgoose::answer::{Trouble, Verdict};
use crate::clock::Monotonic;
use crate::event::EventId;

/// The `upstream.breaker` section, and how often a pause is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open the breaker.
    pub failures: u32,
    /// How long it stays open before a probe, and how long a success speaks for the upstream. Never more than
    /// `retry.max`.
    pub open: Duration,
    /// How long a pause lasts before a probe, at most: the first come sooner. Never more than `retry.max`.
    pub pause: Duration,
}

/// Permits calls, or not.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    state: State,
    /// The last call that the upstream answered as it should.
    succeeded: Option<Success>,
    /// How long pauses that are over have lasted in all.
    paused: Duration,
    /// The kind of call that the next probe is to be, if both wait.
    next_probe: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        streak: Streak,
    },
    /// Closed a moment ago: so many calls at once, twice as many with each success and with each second.
    Recovering {
        streak: Streak,
        calls: usize,
        since: Monotonic,
    },
    Open {
        cause: Cause,
        since: Monotonic,
        probe_at: Monotonic,
        probing: bool,
        /// Probes that failed.
        probes: u32,
        /// The event that failed, where it was only this one: then another may tell at once whether it is the upstream.
        only: Option<EventId>,
    },
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streak {
    failures: u32,
    /// The event that failed, where it was always the same one.
    only: Option<EventId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Success {
    at: Monotonic,
    /// The same moment on the clock that stands still during pauses.
    running: Monotonic,
}

/// Why the breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The upstream fails again and again.
    Failures,
    /// Deliveries are paused: something is wrong that only a person can mend.
    Pause(Trouble),
}

/// A call by what was tried of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The event was never tried.
    Untried,
    /// An earlier attempt failed.
    Tried,
}

/// Which kinds of call could start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub untried: bool,
    pub tried: bool,
}

/// The breaker's word on one more call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Any call may start.
    Call,
    /// One call of this kind, as a probe.
    Probe(Kind),
    /// Not before then.
    NotBefore(Monotonic),
    /// Not until a call under way has ended.
    NotNow,
}

/// A call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub event: EventId,
    pub started: Monotonic,
    /// When the event's first attempt failed, on the clock that stands still during pauses; none on the first attempt.
    pub failing_since: Option<Monotonic>,
    pub probe: bool,
    pub verdict: Verdict,
    /// How long the upstream asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// Whose failure a failed call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureOf {
    /// The upstream's, or of something on the way to it.
    Upstream,
    /// The event's: others are taken.
    Event,
}

impl Breaker {
    pub fn new(settings: Settings) -> Breaker {
        let state = State::Closed { streak: Streak::default() };
        Breaker { settings, state, succeeded: None, paused: Duration::ZERO, next_probe: Kind::Untried }
    }

    /// Asks for one more call while `in_flight` are under way.
    pub fn permit(&self, in_flight: usize, waiting: Waiting, now: Monotonic) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Call,
            State::Recovering { calls, since, .. } => {
                let seconds = now.since(since).as_secs();
                let allowed = calls.saturating_mul(1_usize.checked_shl(seconds.min(63) as u32).unwrap_or(usize::MAX));
                if in_flight < allowed || allowed >= RECOVERED_CALLS {
                    Permit::Call
                } else {
                    Permit::NotBefore(since.after(Duration::from_secs(seconds + 1)))
                }
            }
            State::Open { probing: true, .. } => Permit::NotNow,
            State::Open { probe_at, only, .. } => {
                let untried = waiting.untried.then_some(if only.is_some() { now } else { probe_at });
                let tried = waiting.tried.then_some(probe_at);
                let due = |at: Option<Monotonic>| at.is_some_and(|at| at <= now);
                match (due(untried), due(tried)) {
                    (true, true) => Permit::Probe(self.next_probe),
                    (true, false) => Permit::Probe(Kind::Untried),
                    (false, true) => Permit::Probe(Kind::Tried),
                    (false, false) => untried.into_iter().chain(tried).min().map_or(Permit::NotNow, Permit::NotBefore),
                }
            }
        }
    }

    /// A call starts. Returns whether it is a probe.
    pub fn started(&mut self, kind: Kind) -> bool {
        let State::Open { probing, .. } = &mut self.state else { return false };
        *probing = true;
        self.next_probe = match kind {
            Kind::Untried => Kind::Tried,
            Kind::Tried => Kind::Untried,
        };
        true
    }

    /// Takes in how a call ended; returns whose failure it is, if it failed.
    pub fn record(&mut self, call: Call, now: Monotonic) -> Option<FailureOf> {
        let trouble = match call.verdict {
            // A rejected event is an answer too: the upstream is there and works.
            Verdict::Done(_) | Verdict::Rejected(_) => {
                self.succeed(now);
                return None;
            }
            Verdict::Again(trouble) | Verdict::Blocked(trouble) => trouble,
        };
        let failure = self.failure_of(trouble, &call);
        if call.probe || failure == FailureOf::Upstream {
            self.fail(&call, trouble, now);
        }
        Some(failure)
    }

    /// A call that had started was not made after all; a probe is still owed.
    pub fn not_called(&mut self, probe: bool) {
        if let State::Open { probing, .. } = &mut self.state
            && probe
        {
            *probing = false;
        }
    }

    /// A secret changed: what it was paused for may be mended, so the next call is a probe at once.
    pub fn resume(&mut self, now: Monotonic) {
        if let State::Open { cause: Cause::Pause(_), probe_at, .. } = &mut self.state {
            *probe_at = now;
        }
    }

    /// Why it is open; none while calls go out.
    pub fn open_by(&self) -> Option<Cause> {
        match self.state {
            State::Open { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The time on a clock that stands still during pauses: by it events age.
    pub fn running(&self, now: Monotonic) -> Monotonic {
        let current = match self.state {
            State::Open { cause: Cause::Pause(_), since, .. } => now.since(since),
            _ => Duration::ZERO,
        };
        now.before(self.paused + current)
    }

    /// A network failure is never the event's fault, nor a proxy that wants to know who we are. Anything else is, where
    /// another event was taken shortly before the call, or since this event failed first.
    fn failure_of(&self, trouble: Trouble, call: &Call) -> FailureOf {
        let about_the_way =
            matches!(trouble, Trouble::Dns | Trouble::Connect | Trouble::Tls | Trouble::ProxyUnauthorized);
        let Some(success) = self.succeeded.filter(|_| !about_the_way) else { return FailureOf::Upstream };
        let lately = call.started.since(success.at) < self.settings.open;
        let others_since = call.failing_since.is_some_and(|since| since <= success.running);
        if lately || others_since { FailureOf::Event } else { FailureOf::Upstream }
    }

    fn succeed(&mut self, now: Monotonic) {
        let streak = Streak::default();
        self.state = match self.state {
            State::Closed { .. } => State::Closed { streak },
            State::Recovering { calls, .. } if calls >= RECOVERED_CALLS => State::Closed { streak },
            State::Recovering { calls, since, .. } => State::Recovering { streak, calls: calls * 2, since },
            State::Open { cause, since, .. } => {
                if matches!(cause, Cause::Pause(_)) {
                    self.paused += now.since(since);
                }
                State::Recovering { streak, calls: 2, since: now }
            }
        };
        self.succeeded = Some(Success { at: now, running: self.running(now) });
    }

    fn fail(&mut self, call: &Call, trouble: Trouble, now: Monotonic) {
        let blocked = matches!(call.verdict, Verdict::Blocked(_));
        let cause = if blocked { Cause::Pause(trouble) } else { Cause::Failures };
        match &mut self.state {
            State::Closed { streak } | State::Recovering { streak, .. } => {
                streak.count(call.event);
                let streak = *streak;
                if blocked || streak.failures >= self.settings.failures {
                    let probe_at = now.after(wait(self.settings, cause, 0, call.retry_after));
                    let only = streak.only.filter(|_| call.retry_after.is_none());
                    self.state = State::Open { cause, since: now, probe_at, probing: false, probes: 0, only };
                }
            }
            State::Open { .. } if call.probe => self.open_again(cause, call, now),
            // Only the probe tells anything new: the others were under way when the breaker opened. A refusal does.
            State::Open { cause: known, since, only, .. } => {
                *only = only.filter(|only| *only == call.event);
                if blocked && *known == Cause::Failures {
                    (*known, *since) = (cause, now);
                }
            }
        }
    }

    /// A probe failed. A pause that follows a pause is the same one, whatever it is for; likewise failures.
    fn open_again(&mut self, cause: Cause, call: &Call, now: Monotonic) {
        let State::Open { cause: known, since, probes, only, .. } = self.state else { return };
        let same = matches!(known, Cause::Pause(_)) == matches!(cause, Cause::Pause(_));
        if !same && matches!(known, Cause::Pause(_)) {
            self.paused += now.since(since);
        }
        let (since, probes) = if same { (since, probes.saturating_add(1)) } else { (now, 0) };
        let probe_at = now.after(wait(self.settings, cause, probes, call.retry_after));
        let only = only.filter(|only| *only == call.event && call.retry_after.is_none());
        self.state = State::Open { cause, since, probe_at, probing: false, probes, only };
    }
}

/// How long until the next probe, when so many failed. The first probes of a pause come soon: it may be about one event,
/// where nothing was tried yet that would tell.
fn wait(settings: Settings, cause: Cause, probes: u32, retry_after: Option<Duration>) -> Duration {
    let wait = match cause {
        Cause::Failures => settings.open,
        Cause::Pause(_) => settings.pause.min(FIRST_PROBE.saturating_mul(1 << probes.min(16))),
    };
    retry_after.map_or(wait, |asked| wait.max(asked.min(crate::delivery::retry::RETRY_AFTER_MAX)))
}

impl Streak {
    fn count(&mut self, event: EventId) {
        self.only = match (self.failures, self.only) {
            (0, _) => Some(event),
            (_, only) => only.filter(|only| *only == event),
        };
        self.failures += 1;
    }
}

const FIRST_PROBE: Duration = Duration::from_secs(1);
/// When so many calls at once go well, the upstream is back.
const RECOVERED_CALLS: usize = 64;

#[cfg(test)]
mod tests;
