//! The reasons why a round of the self check fails, with what a person can do.

use std::time::Duration;

use crate::event::{Action, EventId, Outcome, Settlement, State};
use crate::text::length_of;

/// The reason why a round did not come whole.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The rules don't make the event of the payload that they should.
    Undecided { action: Action, problem: String },
    /// The journal did not take the event; with the word that `/readyz` uses.
    Journal { action: Action, why: &'static str },
    /// The event was not delivered in time. It may still be.
    Timeout { action: Action, after: Duration },
    /// Callgoose answered, without the effect that there should be.
    Outcome { action: Action, event: EventId, outcome: Outcome },
    /// Deduplication took the event for a copy of this one, which had ended before or was of the other action.
    Repeated { action: Action, event: EventId },
    /// The event ended without delivery.
    Ended { action: Action, event: EventId, state: State, reason: Option<String> },
}

impl Failure {
    /// The failure that lies in how an event of the check ended; none where it had its effect.
    pub(super) fn of(action: Action, settlement: &Settlement) -> Option<Failure> {
        let Settlement { id, state, outcome, reason, .. } = settlement;
        if *state != State::Delivered {
            let reason = reason.as_ref().map(ToString::to_string);
            return Some(Failure::Ended { action, event: *id, state: *state, reason });
        }
        match (action, outcome) {
            // The resolve will tell the effect of a trigger that was answered as a duplicate, or without a word.
            (Action::Trigger, Some(Outcome::Created | Outcome::Duplicate | Outcome::Accepted)) => None,
            (Action::Resolve, Some(Outcome::Resolved | Outcome::Duplicate)) => None,
            // A copy ends as the event did that it repeats.
            (_, Some(outcome)) if !outcome.is_of(action) => Some(Failure::Repeated { action, event: *id }),
            (_, outcome) => {
                Some(Failure::Outcome { action, event: *id, outcome: outcome.unwrap_or(Outcome::Accepted) })
            }
        }
    }

    /// The word in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Failure::Undecided { .. } | Failure::Repeated { .. } => "rules",
            Failure::Journal { .. } => "journal",
            Failure::Timeout { .. } => "timeout",
            Failure::Outcome { outcome: Outcome::Unmatched, .. } => "unmatched",
            Failure::Outcome { outcome: Outcome::NotResolved, .. } => "not_resolved",
            Failure::Outcome { .. } => "accepted",
            Failure::Ended { .. } => "ended",
        }
    }

    /// The event of the round and its fault, for a person.
    pub fn detail(&self) -> String {
        match self {
            Failure::Undecided { action, problem } => format!("the {action}: {problem}"),
            Failure::Journal { action, why } => format!("the {action} was not taken: {why}"),
            Failure::Timeout { action, after } => {
                format!("the {action} was not delivered within {}", length_of(*after))
            }
            Failure::Outcome { action, event, outcome } => {
                let what = match outcome {
                    Outcome::Unmatched => "matched no filter at Callgoose",
                    Outcome::NotResolved => "found no open incident at Callgoose",
                    _ => "was answered without a word on what was done",
                };
                format!("the {action}, event {event}, {what}")
            }
            Failure::Repeated { action, event } => {
                format!("the {action} was not sent: it passes for a duplicate of event {event}")
            }
            Failure::Ended { action, event, state, reason: None } => {
                format!("the {action}, event {event}, is {state}")
            }
            Failure::Ended { action, event, state, reason: Some(reason) } => {
                format!("the {action}, event {event}, is {state}: {reason}")
            }
        }
    }

    /// The advice to the person who reads it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Failure::Undecided { .. } => {
                "mend `self_check.trigger` and `self_check.resolve`, or the rules of its source; `gander check` tells what \
                 these make of the payloads"
            }
            Failure::Journal { .. } => {
                "alerts of this source may be refused, too: `/readyz` says what is wrong with the journal, and what to do"
            }
            Failure::Timeout { .. } => {
                "alerts may wait, too: `gander queue` tells for what, and `gander doctor` tries the way to Callgoose"
            }
            Failure::Outcome { outcome: Outcome::Unmatched, .. } => {
                "give the service that takes self checks at Callgoose its Trigger and its Resolve filter: `gander check` says \
                 whether callgoose-filters.yaml has them; and see that the token reaches that service"
            }
            Failure::Outcome { outcome: Outcome::NotResolved, .. } => {
                "Incident Mapped With in the Resolve filter has to name the key that Map Incident With names in the Trigger \
                 filter; close the incident by hand"
            }
            Failure::Repeated { .. } => {
                "let the `occurrence` of the rules be another in each round: in `self_check.trigger` and \
                 `self_check.resolve` the text `$time` stands for the time of the round; `gander check` tells whether it is"
            }
            Failure::Outcome { .. } | Failure::Ended { .. } => "`gander events show ID` has each call and its answer",
        }
    }
}

/// The result of a round that came whole.
pub(crate) const SUCCESS: &str = "success";
/// All results, as metrics count them.
pub(crate) const RESULTS: [&str; 8] =
    [SUCCESS, "rules", "journal", "timeout", "unmatched", "not_resolved", "accepted", "ended"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::event::Reason;

    fn settled(state: State, outcome: Option<Outcome>, reason: Option<Reason>) -> Settlement {
        Settlement { id: EventId(7), state, outcome, reason, attempts: 1, at: WallTime(0) }
    }

    #[test]
    fn each_end_that_is_no_effect_is_a_failure_with_a_word_that_is_counted() {
        let delivered = |outcome| settled(State::Delivered, Some(outcome), None);
        for (action, settlement, told) in [
            (Action::Trigger, delivered(Outcome::Created), None),
            (Action::Trigger, delivered(Outcome::Duplicate), None),
            (Action::Trigger, delivered(Outcome::Accepted), None),
            (
                Action::Trigger,
                delivered(Outcome::Unmatched),
                Some(("unmatched", "the trigger, event 7, matched no filter at Callgoose")),
            ),
            (Action::Resolve, delivered(Outcome::Resolved), None),
            (Action::Resolve, delivered(Outcome::Duplicate), None),
            (
                Action::Resolve,
                delivered(Outcome::NotResolved),
                Some(("not_resolved", "the resolve, event 7, found no open incident at Callgoose")),
            ),
            (
                Action::Resolve,
                delivered(Outcome::Accepted),
                Some(("accepted", "the resolve, event 7, was answered without a word on what was done")),
            ),
            (
                Action::Trigger,
                settled(State::Dead, None, Some(Reason::Rejected("payload".into()))),
                Some(("ended", "the trigger, event 7, is dead: rejected: payload")),
            ),
            (Action::Trigger, settled(State::Ended, None, None), Some(("ended", "the trigger, event 7, is ended"))),
            (
                Action::Trigger,
                delivered(Outcome::Resolved),
                Some(("rules", "the trigger was not sent: it passes for a duplicate of event 7")),
            ),
            (
                Action::Resolve,
                delivered(Outcome::Created),
                Some(("rules", "the resolve was not sent: it passes for a duplicate of event 7")),
            ),
        ] {
            let failure = Failure::of(action, &settlement);
            let found = failure.as_ref().map(|failure| (failure.label(), failure.detail()));
            assert_eq!(found, told.map(|(label, detail)| (label, detail.to_owned())), "{action} {settlement:?}");
            assert!(failure.is_none_or(|failure| RESULTS.contains(&failure.label())));
        }
        let others = [
            Failure::Undecided { action: Action::Trigger, problem: String::new() },
            Failure::Journal { action: Action::Trigger, why: "backlog" },
            Failure::Timeout { action: Action::Trigger, after: Duration::from_secs(300) },
        ];
        assert!(others.iter().all(|failure| RESULTS.contains(&failure.label())));
        // It shows these remedies itself.
        assert!(others.iter().all(|failure| !failure.remedy().contains("gander status")));
    }
}
