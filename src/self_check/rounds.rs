//! The rounds of the self check as a state machine: the next step at any time, and what comes of each end.
//!
//! A round that has a trigger in the journal goes on until its resolve has ended, however long that takes: no other round
//! begins before, so that no trigger is forgotten.

use std::time::Duration;

use super::Failure;
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{Action, EventId, Settlement};

/// One round after another.
#[derive(Debug)]
pub(crate) struct Rounds {
    every: Duration,
    limit: Duration,
    phase: Phase,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is to be done before then.
    Wait(Monotonic),
    /// Submit the event of the round that began then.
    Submit { action: Action, started: WallTime },
    /// Wait for the end of what was submitted, until then: its silence is to be told.
    Follow { until: Monotonic },
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle {
        due: Monotonic,
    },
    Running(Round),
    /// The journal did not take the resolve: it is submitted again at `due`, since its trigger may have opened an incident.
    Postponed {
        round: Round,
        due: Monotonic,
    },
}

#[derive(Clone, Copy, Debug)]
struct Round {
    started: Now,
    /// The event that is its turn.
    action: Action,
    submitted: bool,
    /// The event is a duplicate of one that was there before.
    repeats: bool,
    /// The event that its trigger is, once that has ended.
    trigger: Option<EventId>,
    /// Its silence is told then.
    overdue_at: Monotonic,
    /// It clears away a trigger that a round before left: its own is a duplicate of that, and took no way to measure.
    clears: bool,
}

impl Rounds {
    pub(crate) fn new(every: Duration, limit: Duration, due: Monotonic) -> Rounds {
        Rounds { every, limit, phase: Phase::Idle { due } }
    }

    /// Lets the time pass: begins a round that is due. Returns the failure of a round that has lasted for longer than the
    /// limit, and again whenever as much time has passed as another round would have taken.
    pub(crate) fn elapse(&mut self, now: Now) -> Option<Failure> {
        match &mut self.phase {
            Phase::Idle { due } if now.monotonic >= *due => {
                self.phase = Phase::Running(Round::starting(now, self.limit));
            }
            Phase::Postponed { round, due } if now.monotonic >= *due => self.phase = Phase::Running(*round),
            Phase::Running(round) if now.monotonic >= round.overdue_at => {
                round.overdue_at = now.monotonic.after(self.limit.max(self.every));
                return Some(Failure::Timeout { action: round.action, after: self.limit });
            }
            Phase::Idle { .. } | Phase::Postponed { .. } | Phase::Running(_) => {}
        }
        None
    }

    /// True while no round is under way, so that nothing is left to be resolved.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    /// The next step, after [`Rounds::elapse`].
    pub(crate) fn step(&self) -> Step {
        match self.phase {
            Phase::Idle { due } | Phase::Postponed { due, .. } => Step::Wait(due),
            Phase::Running(Round { submitted: false, action, started, .. }) => {
                Step::Submit { action, started: started.wall }
            }
            Phase::Running(Round { overdue_at, .. }) => Step::Follow { until: overdue_at },
        }
    }

    /// The event is in the journal. `repeats`: it is a duplicate of one that was there before.
    pub(crate) fn submitted(&mut self, repeats: bool) {
        if let Phase::Running(round) = &mut self.phase {
            round.submitted = true;
            round.repeats = repeats;
        }
    }

    /// The event is not in the journal: without a trigger the round is over, and a resolve is submitted again.
    pub(crate) fn not_taken(&mut self, now: Now) {
        let Phase::Running(round) = self.phase else {
            return;
        };
        self.phase = match round.action {
            Action::Trigger => self.until_next(round, now),
            Action::Resolve => {
                let due = now.monotonic.after(self.every);
                let round = Round { submitted: false, overdue_at: due.after(self.limit), ..round };
                Phase::Postponed { round, due }
            }
        };
    }

    /// Nobody will tell how the event ends, for this reason. Returns the failure of the round.
    pub(crate) fn lost(&mut self, why: &'static str, now: Now) -> Option<Failure> {
        let Phase::Running(Round { action, .. }) = self.phase else {
            return None;
        };
        self.not_taken(now);
        Some(Failure::Journal { action, why })
    }

    /// The event has ended. Returns how long the round took, or why it failed; none if it goes on or proved nothing.
    pub(crate) fn settled(&mut self, settlement: &Settlement, now: Now) -> Option<Result<Duration, Failure>> {
        let Phase::Running(round) = self.phase else {
            return None;
        };
        let stands_for_old = round.repeats && settlement.at < round.started.wall;
        let stands_for_trigger = round.repeats && round.trigger == Some(settlement.id);
        // Nothing was sent, and nothing would be in the next round.
        let repeated = round.action == Action::Resolve && (stands_for_old || stands_for_trigger);
        let repeated = repeated.then_some(Failure::Repeated { action: round.action, event: settlement.id });
        if let Some(failure) = repeated.or_else(|| Failure::of(round.action, settlement)) {
            self.phase = self.until_next(round, now);
            return Some(Err(failure));
        }
        match round.action {
            Action::Trigger => {
                let (trigger, clears) = (Some(settlement.id), round.repeats);
                let round = Round { action: Action::Resolve, submitted: false, trigger, clears, ..round };
                self.phase = Phase::Running(round);
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
    fn starting(now: Now, limit: Duration) -> Round {
        let overdue_at = now.monotonic.after(limit);
        Round {
            started: now,
            action: Action::Trigger,
            submitted: false,
            repeats: false,
            trigger: None,
            overdue_at,
            clears: false,
        }
    }
}

/// Before the round that follows one that cleared away: whatever makes it clear again and again must not make it busy.
const CLEARED_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Outcome, State};

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

    fn follow(seconds: i64) -> Step {
        Step::Follow { until: Monotonic(seconds * 1_000) }
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
        rounds.submitted(false);
        if action == Action::Resolve {
            assert_eq!(rounds.settled(&delivered(Outcome::Created, 1), at(1)), None);
            assert_eq!(step(&mut rounds, 1), (submit(Action::Resolve, 0), None));
            rounds.submitted(false);
        }
        rounds
    }

    #[test]
    fn a_round_is_a_trigger_and_its_resolve_and_the_next_begins_when_it_is_due() {
        let mut rounds = submitted(Action::Resolve);
        assert_eq!(step(&mut rounds, 1), (follow(300), None));
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
        rounds.not_taken(at(1));
        assert!(rounds.is_idle(), "nothing is there to resolve");
        assert_eq!(step(&mut rounds, 2), (wait(900), None), "what was not taken is not pressed");
    }

    #[test]
    fn a_resolve_that_was_not_taken_is_submitted_again_before_any_other_trigger() {
        let mut rounds = submitted(Action::Trigger);
        rounds.settled(&delivered(Outcome::Created, 1), at(1));
        for seconds in [1, 901, 1_801] {
            assert_eq!(step(&mut rounds, seconds), (submit(Action::Resolve, 0), None));
            rounds.not_taken(at(seconds));
            assert!(!rounds.is_idle(), "its trigger is open");
            assert_eq!(step(&mut rounds, seconds + 899), (wait(seconds + 900), None), "nobody is pressed");
        }
        assert_eq!(step(&mut rounds, 2_701), (submit(Action::Resolve, 0), None));
        rounds.submitted(false);
        assert_eq!(step(&mut rounds, 2_702), (follow(3_001), None), "and it has its time");
        assert!(matches!(rounds.settled(&delivered(Outcome::Resolved, 2_703), at(2_703)), Some(Ok(_))));
        assert!(rounds.is_idle());
    }

    #[test]
    fn an_end_that_nobody_tells_is_told_of_the_event_that_it_is_about() {
        for action in Action::ALL {
            let mut rounds = submitted(action);
            assert_eq!(rounds.lost("stopping", at(2)), Some(Failure::Journal { action, why: "stopping" }));
            assert_eq!(rounds.is_idle(), action == Action::Trigger);
        }
    }

    #[test]
    fn silence_beyond_the_limit_is_told_once_for_each_round_that_could_have_been_and_what_waits_is_followed() {
        for action in Action::ALL {
            let mut rounds = submitted(action);
            assert_eq!(step(&mut rounds, 299), (follow(300), None));
            assert_eq!(step(&mut rounds, 300), (follow(1_200), Some("timeout")));
            assert_eq!(step(&mut rounds, 301), (follow(1_200), None));
            assert_eq!(step(&mut rounds, 1_200), (follow(2_100), Some("timeout")));
            assert!(!rounds.is_idle(), "no other round begins: it would forget what waits");
        }
        // Delivered late, it is resolved at once, and the round is whole.
        let mut rounds = submitted(Action::Trigger);
        step(&mut rounds, 300);
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 600), at(600)), None);
        assert_eq!(step(&mut rounds, 600), (submit(Action::Resolve, 0), None));
        rounds.submitted(false);
        let ended = rounds.settled(&delivered(Outcome::Resolved, 1_000), at(1_000));
        assert_eq!(ended, Some(Ok(Duration::from_secs(1_000))));
        assert_eq!(step(&mut rounds, 1_000).0, submit(Action::Trigger, 1_000));
    }

    #[test]
    fn no_round_begins_within_another() {
        let mut longer = Rounds::new(LIMIT, EVERY, Monotonic(0));
        step(&mut longer, 0);
        longer.submitted(false);
        assert_eq!(step(&mut longer, 600), (follow(900), None));
        assert_eq!(step(&mut longer, 900), (follow(1_800), Some("timeout")));
    }

    #[test]
    fn a_round_that_only_clears_away_counts_for_nothing_and_is_followed_by_another() {
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 10);
        rounds.submitted(true);
        // The trigger repeats one that was delivered before the round began.
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 5), at(10)), None);
        step(&mut rounds, 10);
        rounds.submitted(false);
        assert_eq!(rounds.settled(&delivered(Outcome::Resolved, 11), at(11)), None);
        assert_eq!(step(&mut rounds, 11), (wait(12), None));
        assert_eq!(step(&mut rounds, 12), (submit(Action::Trigger, 12), None));
    }

    #[test]
    fn a_round_whose_trigger_was_on_its_way_before_it_began_is_not_measured() {
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 10);
        rounds.submitted(true);
        // That of the process before waited, and was delivered within this round.
        assert_eq!(rounds.settled(&delivered(Outcome::Created, 11), at(11)), None);
        step(&mut rounds, 11);
        rounds.submitted(false);
        assert_eq!(rounds.settled(&delivered(Outcome::Resolved, 12), at(12)), None);
        assert_eq!(step(&mut rounds, 13), (submit(Action::Trigger, 13), None));
    }

    #[test]
    fn a_round_of_which_nothing_was_sent_fails() {
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 10);
        rounds.submitted(true);
        assert_eq!(rounds.settled(&delivered(Outcome::Duplicate, 5), at(10)), None);
        step(&mut rounds, 10);
        rounds.submitted(true);
        let repeated = Failure::Repeated { action: Action::Resolve, event: EventId(1) };
        assert_eq!(rounds.settled(&delivered(Outcome::Duplicate, 5), at(10)), Some(Err(repeated)));
        assert_eq!(step(&mut rounds, 11), (wait(910), None));

        // Nor was a resolve that stands for its own trigger.
        let mut rounds = submitted(Action::Trigger);
        rounds.settled(&delivered(Outcome::Accepted, 1), at(1));
        rounds.submitted(true);
        let repeated = Failure::Repeated { action: Action::Resolve, event: EventId(1) };
        assert_eq!(rounds.settled(&delivered(Outcome::Accepted, 1), at(1)), Some(Err(repeated)));

        // One that was sent counts, also where the clock was set back meanwhile.
        let mut rounds = Rounds::new(EVERY, LIMIT, Monotonic(0));
        step(&mut rounds, 10);
        rounds.submitted(false);
        rounds.settled(&delivered(Outcome::Created, 5), at(11));
        step(&mut rounds, 11);
        rounds.submitted(false);
        assert!(matches!(rounds.settled(&delivered(Outcome::Resolved, 6), at(12)), Some(Ok(_))));
    }
}
