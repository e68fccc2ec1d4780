//! The circuit breaker between the relay and the upstream, and the pause while token, proxy, certificate or endpoint is
//! wrong.
//!
//! Both concern the upstream as a whole, never one event. A failure counts against the upstream only while nothing
//! succeeds; if other events succeed, it is the event's own. While the breaker is open one call at a time goes through
//! as a probe; the first success closes it, and the number of concurrent calls grows again from two. The state does not
//! survive a restart: a new process tries again.

use std::time::Duration;

use crate::callgoose::answer::{Trouble, Verdict};
use crate::clock::Monotonic;
use crate::event::EventId;

/// The `upstream.breaker` section, and the interval of probes in a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consecutive failures that open the breaker.
    pub failures: u32,
    /// The time that it stays open before a probe, and for which a success counts for the upstream. At most
    /// `retry.max`.
    pub open: Duration,
    /// The longest wait before a probe in a pause: the first ones come sooner. At most `retry.max`.
    pub pause: Duration,
}

/// The circuit breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    state: State,
    /// The last successful call.
    succeeded: Option<Success>,
    /// The total time of past pauses.
    paused: Duration,
    /// The kind of call for the next probe, if both wait.
    next_probe: CallKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        streak: Streak,
    },
    /// Closed a moment ago: this many concurrent calls, doubled by each success and each second.
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
        /// The number of failed probes.
        probes: u32,
        /// The event that failed, if it was only this one: then another event can tell whether it is the upstream.
        only: Option<EventId>,
    },
}

/// Consecutive failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streak {
    failures: u32,
    /// The event that failed, if it was always the same.
    only: Option<EventId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Success {
    at: Monotonic,
    /// That moment on the clock that stops during pauses.
    running: Monotonic,
}

/// The reason why the breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Repeated failures of the upstream.
    Failures,
    /// Deliveries are paused: a person must fix something.
    Pause(Trouble),
}

/// The kind of a call, by its event's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// The event was never tried.
    Untried,
    /// An earlier attempt failed.
    Tried,
}

/// The kinds of calls that could start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub untried: bool,
    pub tried: bool,
}

/// The breaker's answer to a request for one more call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Any call may start.
    Call,
    /// One call of this kind, as a probe.
    Probe(CallKind),
    /// No call before this time.
    NotBefore(Monotonic),
    /// No call until one under way has ended.
    NotNow,
}

/// A finished call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub event: EventId,
    pub started: Monotonic,
    /// When the event's first attempt failed, on the clock that stops during pauses; none on the first attempt.
    pub failing_since: Option<Monotonic>,
    pub probe: bool,
    pub verdict: Verdict,
    /// The wait that the upstream asked for.
    pub retry_after: Option<Duration>,
}

/// The owner of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureOf {
    /// The upstream, or something on the way to it.
    Upstream,
    /// The event: others succeed.
    Event,
}

impl Breaker {
    pub fn new(settings: Settings) -> Breaker {
        let state = State::Closed { streak: Streak::default() };
        Breaker { settings, state, succeeded: None, paused: Duration::ZERO, next_probe: CallKind::Untried }
    }

    /// Requests one more call while `in_flight` are under way.
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
                    (true, false) => Permit::Probe(CallKind::Untried),
                    (false, true) => Permit::Probe(CallKind::Tried),
                    (false, false) => untried.into_iter().chain(tried).min().map_or(Permit::NotNow, Permit::NotBefore),
                }
            }
        }
    }

    /// Notes the start of a call. Returns true if it is a probe.
    pub fn started(&mut self, kind: CallKind) -> bool {
        let State::Open { probing, .. } = &mut self.state else { return false };
        *probing = true;
        self.next_probe = match kind {
            CallKind::Untried => CallKind::Tried,
            CallKind::Tried => CallKind::Untried,
        };
        true
    }

    /// Records a finished call; returns the owner of the failure, if it failed.
    pub fn record(&mut self, call: Call, now: Monotonic) -> Option<FailureOf> {
        let trouble = match call.verdict {
            // A rejected event is an answer too: the upstream works.
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

    /// Notes that a started call was not made; a probe is still due.
    pub fn not_called(&mut self, probe: bool) {
        if let State::Open { probing, .. } = &mut self.state
            && probe
        {
            *probing = false;
        }
    }

    /// Probes at once after a secret changed: the reason of the pause may be fixed.
    pub fn resume(&mut self, now: Monotonic) {
        if let State::Open { cause: Cause::Pause(_), probe_at, .. } = &mut self.state {
            *probe_at = now;
        }
    }

    /// The reason why it is open; none while calls go out.
    pub fn open_by(&self) -> Option<Cause> {
        match self.state {
            State::Open { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The time on a clock that stops during pauses, by which events age.
    pub fn running(&self, now: Monotonic) -> Monotonic {
        let current = match self.state {
            State::Open { cause: Cause::Pause(_), since, .. } => now.since(since),
            _ => Duration::ZERO,
        };
        now.before(self.paused + current)
    }

    /// The owner of a failure. A network error or a proxy's is never the event's fault. Any other failure is, if another
    /// event succeeded shortly before the call, or since this event first failed.
    fn failure_of(&self, trouble: Trouble, call: &Call) -> FailureOf {
        let about_the_way = matches!(
            trouble,
            Trouble::Dns
                | Trouble::Connect
                | Trouble::Tls(_)
                | Trouble::Proxy
                | Trouble::ProxyUnauthorized
                | Trouble::ProxyRefused
                | Trouble::ProxyCertificate
        );
        let Some(success) = self.succeeded.filter(|_| !about_the_way) else { return FailureOf::Upstream };
        let is_recent = call.started.since(success.at) < self.settings.open;
        let others_since = call.failing_since.is_some_and(|since| since <= success.running);
        if is_recent || others_since { FailureOf::Event } else { FailureOf::Upstream }
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
            // Only the probe is news, since other calls started before the breaker opened. A refusal is news too.
            State::Open { cause: known, since, only, .. } => {
                *only = only.filter(|only| *only == call.event);
                if blocked && *known == Cause::Failures {
                    (*known, *since) = (cause, now);
                }
            }
        }
    }

    /// Notes a failed probe. Consecutive pauses count as one, whatever their reasons; likewise failures.
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

/// The wait before the next probe, after `probes` failed ones. The first probes of a pause come soon: the problem may
/// be one event, and no other was tried yet.
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
/// Once so many concurrent calls succeed, the upstream is back.
const RECOVERED_CALLS: usize = 64;

#[cfg(test)]
mod tests;
