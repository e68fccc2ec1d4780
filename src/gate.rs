//! Whether calls may go out at all: the circuit breaker, and the pause while token, proxy or endpoint is wrong.
//!
//! Both are about the upstream as a whole, never about one event. While the gate is shut one call at a time goes
//! through as a probe; the first that is answered as it should be opens it, and the number of calls at once grows
//! again from one. Neither survives a restart: a new process asks anew.

use std::time::Duration;

use crate::outcome::{Trouble, Verdict};
use crate::time::Monotonic;

/// The `upstream.breaker` section, and how often a pause is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consecutive failures that open the breaker.
    pub failures: u32,
    /// How long it stays open before a probe. Never more than `retry.max`.
    pub open: Duration,
    /// How long a pause lasts before a probe. Never more than `retry.max`.
    pub pause: Duration,
}

/// Lets calls through, or not.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: Settings,
    state: State,
    /// How long pauses that are over have lasted in all.
    paused: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With the number of failures since the last success.
    Open {
        failures: u32,
    },
    /// Opened again a moment ago: so many calls at once.
    Recovering {
        calls: usize,
    },
    Shut {
        why: Shut,
        since: Monotonic,
        probe_at: Monotonic,
        probing: bool,
    },
}

/// Why the gate is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The breaker: the upstream is down.
    Breaker,
    /// Something that only a person can mend.
    Pause(Trouble),
}

/// Whether one more call may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Granted,
    /// Not before then.
    NotBefore(Monotonic),
    /// Not until a call under way has ended.
    NotNow,
}

impl Gate {
    pub fn new(settings: Settings) -> Gate {
        Gate { settings, state: State::Open { failures: 0 }, paused: Duration::ZERO }
    }

    /// Whether one more call may start while `in_flight` are under way.
    pub fn ask(&self, in_flight: usize, now: Monotonic) -> Leave {
        match self.state {
            State::Open { .. } => Leave::Granted,
            State::Recovering { calls } if in_flight < calls => Leave::Granted,
            State::Recovering { .. } | State::Shut { probing: true, .. } => Leave::NotNow,
            State::Shut { probe_at, .. } if now < probe_at => Leave::NotBefore(probe_at),
            State::Shut { .. } => Leave::Granted,
        }
    }

    /// A call starts. Returns whether it is the probe of a shut gate.
    pub fn started(&mut self) -> bool {
        match &mut self.state {
            State::Shut { probing, .. } => {
                *probing = true;
                true
            }
            _ => false,
        }
    }

    /// A call ended so; `probe` is what [`Gate::started`] said of it.
    pub fn heard(&mut self, verdict: Verdict, probe: bool, now: Monotonic) {
        match verdict {
            // A rejected event is an answer too: the upstream is there and works.
            Verdict::Done(_) | Verdict::Rejected(_) => self.succeeded(now),
            Verdict::Blocked(trouble) => self.shut(Shut::Pause(trouble), probe, now),
            Verdict::Again(_) => self.failed(probe, now),
        }
    }

    /// A call that had started was not made after all; a probe is still owed.
    pub fn not_called(&mut self, probe: bool) {
        if let State::Shut { probing, .. } = &mut self.state
            && probe
        {
            *probing = false;
        }
    }

    /// A secret changed: what it was paused for may be mended, so the next call is a probe at once.
    pub fn resume(&mut self, now: Monotonic) {
        if let State::Shut { why: Shut::Pause(_), probe_at, .. } = &mut self.state {
            *probe_at = now;
        }
    }

    /// Why it is shut; none while calls go out.
    pub fn shut_by(&self) -> Option<Shut> {
        match self.state {
            State::Shut { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The time on a clock that stands still during pauses: by it events age.
    pub fn running(&self, now: Monotonic) -> Monotonic {
        let current = match self.state {
            State::Shut { why: Shut::Pause(_), since, .. } => now.since(since),
            _ => Duration::ZERO,
        };
        now.before(self.paused + current)
    }

    fn succeeded(&mut self, now: Monotonic) {
        self.state = match self.state {
            State::Open { .. } => State::Open { failures: 0 },
            State::Recovering { calls } if calls >= RECOVERED_CALLS => State::Open { failures: 0 },
            State::Recovering { calls } => State::Recovering { calls: calls * 2 },
            State::Shut { why, since, .. } => {
                if matches!(why, Shut::Pause(_)) {
                    self.paused += now.since(since);
                }
                State::Recovering { calls: 2 }
            }
        };
    }

    fn failed(&mut self, probe: bool, now: Monotonic) {
        match &mut self.state {
            State::Open { failures } => {
                *failures += 1;
                if *failures >= self.settings.failures {
                    self.shut(Shut::Breaker, false, now);
                }
            }
            State::Recovering { .. } => self.shut(Shut::Breaker, false, now),
            // Only the probe tells anything new: the others were under way when the gate was shut.
            State::Shut { .. } if !probe => {}
            State::Shut { .. } => self.shut(Shut::Breaker, true, now),
        }
    }

    fn shut(&mut self, why: Shut, probe: bool, now: Monotonic) {
        let wait = match why {
            Shut::Breaker => self.settings.open,
            Shut::Pause(_) => self.settings.pause,
        };
        let (since, probing) = match self.state {
            // A straggler that meets the same trouble changes neither its beginning nor the probe under way.
            State::Shut { why: known, since, probe_at, probing } if !probe => {
                if known == why || matches!(known, Shut::Pause(_)) {
                    self.state = State::Shut { why: known, since, probe_at, probing };
                    return;
                }
                (now, probing)
            }
            State::Shut { why: known, since, .. } => {
                if matches!(known, Shut::Pause(_)) && matches!(why, Shut::Breaker) {
                    self.paused += now.since(since);
                }
                (if kind(known) == kind(why) { since } else { now }, false)
            }
            _ => (now, false),
        };
        self.state = State::Shut { why, since, probe_at: now.after(wait), probing };
    }
}

fn kind(why: Shut) -> bool {
    matches!(why, Shut::Pause(_))
}

/// When so many calls at once go well, the upstream is back.
const RECOVERED_CALLS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;

    const SETTINGS: Settings = Settings { failures: 3, open: Duration::from_secs(10), pause: Duration::from_secs(60) };
    const DONE: Verdict = Verdict::Done(Outcome::Created);
    const DOWN: Verdict = Verdict::Again(Trouble::Connect);
    const DENIED: Verdict = Verdict::Blocked(Trouble::Unauthorized);

    fn at(second: i64) -> Monotonic {
        Monotonic(second * 1_000)
    }

    fn after(verdicts: &[Verdict]) -> Gate {
        let mut gate = Gate::new(SETTINGS);
        for verdict in verdicts {
            gate.heard(*verdict, false, at(0));
        }
        gate
    }

    #[test]
    fn consecutive_failures_open_the_breaker_and_a_success_between_them_does_not() {
        assert_eq!(after(&[DOWN, DOWN]).shut_by(), None);
        assert_eq!(after(&[DOWN, DOWN, DONE, DOWN, DOWN]).shut_by(), None);
        assert_eq!(after(&[DOWN, DOWN, Verdict::Rejected(Trouble::Payload), DOWN, DOWN]).shut_by(), None);
        assert_eq!(after(&[DOWN, DOWN, DOWN]).shut_by(), Some(Shut::Breaker));
    }

    #[test]
    fn one_probe_goes_at_a_time() {
        let mut gate = after(&[DOWN; 3]);
        assert_eq!(gate.ask(0, at(9)), Leave::NotBefore(at(10)));
        assert_eq!(gate.ask(0, at(10)), Leave::Granted);
        assert!(gate.started());
        assert_eq!(gate.ask(1, at(11)), Leave::NotNow);
        gate.heard(DOWN, true, at(12));
        assert_eq!(gate.ask(0, at(21)), Leave::NotBefore(at(22)));
    }

    #[test]
    fn stragglers_do_not_put_the_probe_off() {
        let mut gate = after(&[DOWN; 3]);
        gate.heard(DOWN, false, at(9));
        assert_eq!(gate.ask(0, at(10)), Leave::Granted);
        gate.started();
        gate.heard(DOWN, false, at(11));
        assert_eq!(gate.ask(1, at(30)), Leave::NotNow, "the probe is still under way");
    }

    #[test]
    fn recovery_ramps_up() {
        let mut gate = after(&[DOWN; 3]);
        gate.started();
        gate.heard(DONE, true, at(10));
        assert_eq!(gate.shut_by(), None);
        assert_eq!((gate.ask(1, at(10)), gate.ask(2, at(10))), (Leave::Granted, Leave::NotNow));
        gate.heard(DONE, false, at(10));
        assert_eq!((gate.ask(3, at(10)), gate.ask(4, at(10))), (Leave::Granted, Leave::NotNow));
        gate.heard(DOWN, false, at(11));
        assert_eq!(gate.shut_by(), Some(Shut::Breaker), "one failure while it recovers is enough");
    }

    #[test]
    fn one_denial_pauses_and_a_changed_secret_probes_at_once() {
        let mut gate = after(&[DENIED]);
        assert_eq!(gate.shut_by(), Some(Shut::Pause(Trouble::Unauthorized)));
        assert_eq!(gate.ask(0, at(59)), Leave::NotBefore(at(60)));
        gate.resume(at(5));
        assert_eq!(gate.ask(0, at(5)), Leave::Granted);
        gate.started();
        gate.heard(DONE, true, at(6));
        assert_eq!(gate.shut_by(), None);
    }

    #[test]
    fn time_stands_still_during_a_pause_and_not_while_the_breaker_is_open() {
        let mut gate = after(&[DENIED]);
        assert_eq!(gate.running(at(50)), at(0));
        gate.started();
        gate.heard(DENIED, true, at(60));
        assert_eq!(gate.running(at(100)), at(0), "a failed probe does not end the pause");
        gate.started();
        gate.heard(DONE, true, at(120));
        assert_eq!(gate.running(at(130)), at(10));

        let mut gate = after(&[DOWN; 3]);
        assert_eq!(gate.running(at(50)), at(50));
        gate.started();
        gate.heard(DENIED, true, at(60));
        assert_eq!(gate.running(at(70)), at(60), "the breaker gave way to a pause");
        gate.started();
        gate.heard(DOWN, true, at(80));
        assert_eq!(gate.running(at(90)), at(70), "and the pause to the breaker");
        gate.started();
        gate.heard(DOWN, true, at(100));
        assert_eq!(gate.running(at(110)), at(90), "a failed probe of the breaker stops no clock");
    }

    #[test]
    fn recovery_doubles_the_calls_at_once_until_the_upstream_is_back() {
        let mut gate = after(&[DOWN; 3]);
        gate.started();
        gate.heard(DONE, true, at(10));
        for calls in [2, 4, 8, 16, 32, 64] {
            assert_eq!((gate.ask(calls - 1, at(10)), gate.ask(calls, at(10))), (Leave::Granted, Leave::NotNow));
            gate.heard(DONE, false, at(10));
        }
        assert_eq!(gate.ask(1_000, at(10)), Leave::Granted);
        gate.heard(DOWN, false, at(11));
        assert_eq!(gate.shut_by(), None, "one failure is none again");
    }

    #[test]
    fn a_probe_that_was_not_made_is_still_owed() {
        let mut gate = after(&[DOWN; 3]);
        gate.started();
        gate.not_called(false);
        assert_eq!(gate.ask(1, at(10)), Leave::NotNow, "that was another call");
        gate.not_called(true);
        assert_eq!(gate.ask(0, at(10)), Leave::Granted);
    }

    #[test]
    fn a_changed_secret_does_not_hurry_the_breaker() {
        let mut gate = after(&[DOWN; 3]);
        gate.resume(at(5));
        assert_eq!(gate.ask(0, at(5)), Leave::NotBefore(at(10)));
    }

    #[test]
    fn a_straggler_turns_the_breaker_into_a_pause_and_a_pause_into_nothing_else() {
        let elsewhere = Verdict::Blocked(Trouble::Endpoint);
        let pause = Shut::Pause(Trouble::Unauthorized);
        // What shut the gate at 0, what the straggler met at 5, and then: why it is shut, when it is probed, and the
        // running time at 20.
        for (sentence, shut, straggler, why, probe_at, running) in [
            ("one more failure is nothing new", DOWN, DOWN, Shut::Breaker, 10, 20),
            ("a denial is", DOWN, DENIED, pause, 65, 5),
            ("one more denial is not", DENIED, DENIED, pause, 60, 0),
            ("nor another trouble of that kind", DENIED, elsewhere, pause, 60, 0),
            ("nor a failure", DENIED, DOWN, pause, 60, 0),
        ] {
            for probing in [false, true] {
                let mut gate = after(&[shut; 3]);
                if probing {
                    gate.started();
                }
                gate.heard(straggler, false, at(5));
                let leave = if probing { Leave::NotNow } else { Leave::NotBefore(at(probe_at)) };
                assert_eq!((gate.shut_by(), gate.ask(0, at(6))), (Some(why), leave), "{sentence}, probing {probing}");
                assert_eq!(gate.running(at(20)), at(running), "{sentence}, probing {probing}");
            }
        }
    }

    #[test]
    fn a_probe_that_meets_another_trouble_tells_it_and_the_pause_goes_on() {
        let mut gate = after(&[DENIED]);
        gate.started();
        gate.heard(Verdict::Blocked(Trouble::Endpoint), true, at(60));
        assert_eq!(gate.shut_by(), Some(Shut::Pause(Trouble::Endpoint)));
        assert_eq!(gate.ask(0, at(119)), Leave::NotBefore(at(120)));
        assert_eq!(gate.running(at(119)), at(0));
    }
}
