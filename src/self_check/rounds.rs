//! The rounds of the self check as a state machine: the next step at any time, and what comes of each end.

use std::time::Duration;

use super::Failure;
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{Action, Settlement};

/// One round after another.
#[derive(Debug)]
pub struct Rounds {
    every: Duration,
    limit: Duration,
    phase: Phase,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No round is under way: wait until then.
    Wait(Monotonic),
    /// Submit the event of the round that began then.
    Submit { action: Action, started: WallTime },
    /// Wait for the end of what was submitted, until then. `overdue`: the round has failed already.
    Follow { until: Monotonic, overdue: bool },
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle { due: Monotonic },
    Running(Round),
}

#[derive(Clone, Copy, Debug)]
struct Round {
    started: Now,
    /// The event that is its turn.
    action: Action,
    submitted: bool,
    /// It took longer than the limit, which was told.
    overdue: bool,
    /// It clears away what a round before left: its events stand for ones that ended before it began.
    clears: bool,
}

impl Rounds {
    pub fn new(every: Duration, limit: Duration, due: Monotonic) -> Rounds {
        Rounds { every, limit, phase: Phase::Idle { due } }
    }

    /// Lets the time pass: begins a round that is due, and gives one up for the next. Returns the failure of a round that
    /// has just become overdue.
    pub fn elapse(&mut self, now: Now) -> Option<Failure> {
        match &mut self.phase {
            Phase::Idle { due } if now.monotonic >= *due => self.phase = Phase::Running(Round::starting(now)),
            Phase::Idle { .. } => {}
            Phase::Running(round) if round.overdue => {
                if now.monotonic >= round.started.monotonic.after(self.limit.max(self.every)) {
                    self.phase = Phase::Running(Round::starting(now));
                }
            }
            Phase::Running(round) if now.monotonic >= round.started.monotonic.after(self.limit) => {
                round.overdue = true;
                return Some(Failure::Timeout { action: round.action, after: self.limit });
            }
            Phase::Running(_) => {}
        }
        None
    }

    /// The next step, after [`Rounds::elapse`].
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Idle { due } => Step::Wait(due),
            Phase::Running(Round { submitted: false, action, started, .. }) => {
                Step::Submit { action, started: started.wall }
            }
            Phase::Running(Round { started, overdue, .. }) => {
                let most = if overdue { self.limit.max(self.every) } else { self.limit };
                Step::Follow { until: started.monotonic.after(most), overdue }
            }
        }
    }

    /// The event is in the journal.
    pub fn submitted(&mut self) {
        if let Phase::Running(round) = &mut self.phase {
            round.submitted = true;
        }
    }

    /// The event is not in the journal, or nobody will tell how it ends: the round is over.
    pub fn failed(&mut self, now: Now) {
        if let Phase::Running(round) = self.phase {
            self.phase = self.until_next(round, now);
        }
    }

    /// The event has ended. Returns how long the round took, or why it failed; none if it goes on or proved nothing.
    pub fn settled(&mut self, settlement: &Settlement, now: Now) -> Option<Result<Duration, Failure>> {
        let Phase::Running(mut round) = self.phase else {
            return None;
        };
        if let Some(failure) = Failure::of(round.action, settlement) {
            self.phase = self.until_next(round, now);
            return Some(Err(failure));
        }
        round.clears |= settlement.at < round.started.wall;
        match round.action {
            Action::Trigger => {
                self.phase = Phase::Running(Round { action: Action::Resolve, submitted: false, ..round });
                None
            }
            Action::Resolve if round.clears => {
                self.phase = Phase::Idle { due: now.monotonic.after(CLEARED_PAUSE.min(self.every)) };
                None
            }
            Action::Resolve => {
                self.phase = self.until_next(round, now);
                Some(Ok(now.monotonic.since(round.started.monotonic)))
            }
        }
    }

    fn until_next(&self, round: Round, now: Now) -> Phase {
        Phase::Idle { due: round.started.monotonic.after(self.every).max(now.monotonic) }
    }
}

impl Round {
    fn starting(now: Now) -> Round {
        Round { started: now, action: Action::Trigger, submitted: false, overdue: false, clears: false }
    }
}

/// Before the round that follows one that cleared away: whatever makes it clear again and again must not make it busy.
const CLEARED_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Outcome, State};

    const EVERY: Duration = Duration::from_secs(900);
    const LIMIT: Duration = Duration::from_secs(300);

    /// Seconds since the start of the clock, whose wall time began at 0.
    fn at(seconds: i64) -> Now {
        Now { monotonic: Monotonic(seconds * 1_000), wall: WallTime(seconds * 1_000) }
    }

    fn delivered(outcome: Outcome, seconds: i64) -> Settlement {
        let (id, state, at) = (EventId(1), State::Delivered, WallTime(seconds * 1_000));
        Settlement { id, state, outcome: Some(outcome), reason: None, attempts: 1, at }
    }

    fn wait(seconds: i64) -> Step {
        Step::Wait(Monotonic(seconds * 1_000))
    }

    fn follow(seconds: i64, overdue: bool) -> Step {
        Step::Follow { until: Monotonic(seconds * 1_000), overdue }
    }

    fn submit(action: Action, seconds: i64) -> Step {
        Step::Submit { action, started: WallTime(seconds * 1_000) }
    }

    /// Lets the time come, and returns the step with the word of a failure.
    fn step(rounds: &mut Rounds, seconds: i64) -> (Step, Option<&'static str>) {
        let failure = rounds.elapse(at(seconds)).map(|failure| failure.label());
        (rounds.step(), failure)
    }

    /// A round that began at 0 and whose event of this action is in the journal.
    fn submitted(action: Action) -> Rounds {
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        assert_eq!(step(&mut rounds, 0), (submit(Action::Trigger, 0), None));
        rounds.submitted();
        if action == Action::Resolve {
            assert_eq!(rounds.settled(&delivered(Outcome::Created, 1), at(1)), None);
            assert_eq!(step(&mut rounds, 1), (submit(Action::Resolve, 0), None));
            rounds.submitted();
        }
        rounds
    }

    #[test]
    fn a_round_is_a_trigger_and_its_resolve_and_the_next_begins_when_it_is_due() {
        let mut rounds = submitted(Action::Resolve);
        assert_eq!(step(&mut rounds, 1), (follow(300, false), None));
        let ended = rounds.settled(&delivered(Outcome::Resolved, 3), at(3));
        assert_eq!(ended, Some(Ok(Duration::from_secs(3))));
        assert_eq!(step(&mut rounds, 899), (wait(900), None));
        assert_eq!(step(&mut rounds, 900), (submit(Action::Trigger, 900), None));
    }

    #[test]
    fn another_end_fails_the_round_and_the_next_begins_when_it_is_due() {
        for (action, outcome, label) in [
            (Action::Trigger, Outcome::Unmatched, "unmatched"),
            (Action::Resolve, Outcome::Unmatched, "unmatched"),
            (Action::Resolve, Outcome::NotResolved, "not_resolved"),
        ] {
            let mut rounds = submitted(action);
            let ended = rounds.settled(&delivered(outcome, 2), at(2));
            assert_eq!(ended.map(|ended| ended.map_err(|failure| failure.label())), Some(Err(label)));
            assert_eq!(step(&mut rounds, 3), (wait(900), None));
        }
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 0);
        rounds.failed(at(1));
        assert_eq!(step(&mut rounds, 2), (wait(900), None), "what was not taken is not pressed");
    }

    #[test]
    fn silence_beyond_the_limit_is_told_once_and_what_waits_is_still_followed() {
        for action in Action::ALL {
            let mut rounds = submitted(action);
            assert_eq!(step(&mut rounds, 299), (follow(300, false), None));
            assert_eq!(step(&mut rounds, 300), (follow(900, true), Some("timeout")));
            assert_eq!(step(&mut rounds, 301), (follow(900, true), None));
        }
        // Delivered late, it is resolved at once, and the round is whole.
        let mut rounds = submitted(Action::Trigger);
        step(&mut rounds, 300);
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 600), at(600)), None);
        assert_eq!(step(&mut rounds, 600), (submit(Action::Resolve, 0), None));
        rounds.submitted();
        let ended = rounds.settled(&delivered(Outcome::Resolved, 1_000), at(1_000));
        assert_eq!(ended, Some(Ok(Duration::from_secs(1_000))));
        assert_eq!(step(&mut rounds, 1_000).0, submit(Action::Trigger, 1_000));
    }

    #[test]
    fn a_round_without_an_end_gives_way_to_the_next() {
        let mut rounds = submitted(Action::Trigger);
        step(&mut rounds, 300);
        assert_eq!(step(&mut rounds, 900), (submit(Action::Trigger, 900), None));
        rounds.submitted();
        // Its trigger is a duplicate of the one that waits: that is delivered within this round.
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 950), at(950)), None);
        assert_eq!(step(&mut rounds, 950), (submit(Action::Resolve, 900), None));

        let mut longer = Rounds::new(LIMIT, EVERY, Monotonic(0));
        step(&mut longer, 0);
        longer.submitted();
        assert_eq!(step(&mut longer, 600), (follow(900, false), None), "no round begins within another");
        assert_eq!(step(&mut longer, 900).1, Some("timeout"));
        assert_eq!(step(&mut longer, 900), (submit(Action::Trigger, 900), None));
    }

    #[test]
    fn a_round_that_only_clears_away_counts_for_nothing_and_is_followed_by_another() {
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 10);
        rounds.submitted();
        // The trigger repeats one that was delivered before the round began.
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 5), at(10)), None);
        step(&mut rounds, 10);
        rounds.submitted();
        assert_eq!(rounds.settled(&delivered(Outcome::Resolved, 11), at(11)), None);
        assert_eq!(step(&mut rounds, 11), (wait(12), None));
        assert_eq!(step(&mut rounds, 12), (submit(Action::Trigger, 12), None));
    }
}
