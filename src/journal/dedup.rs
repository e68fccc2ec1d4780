//! Deduplication: a state machine per incident key, which tells new events from repeated ones.
//!
//! A key is unknown, open or resolved. What changes its state is always worth delivering, however quickly it
//! follows: trigger, resolve, trigger within the window is three events, because a flapping service must page
//! again. What only repeats the state is a duplicate within the window and a reminder after it.
//!
//! The state is a fold over the events that were taken and how they ended, so the journal can restore it. It is
//! bounded; an evicted key can only page once more.

mod key_table;
mod occurrence;

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::{Monotonic, Now};
use crate::event::{Action, EventId, KeyId, Occurrence, Outcome, State, UpdateHash};

pub(crate) use key_table::Evicted;
use key_table::KeyTable;
pub use key_table::Occurrences;
use occurrence::{Age, compare};

/// The `dedup` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub window: Duration,
    pub remind: bool,
    pub max_keys: usize,
}

/// The states of all incident keys, and the decision about each arrival.
#[derive(Debug)]
pub struct Dedup {
    settings: Settings,
    keys: KeyTable,
}

/// An event that arrived and was not accepted yet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub key: KeyId,
    pub action: Action,
    pub update: UpdateHash,
    pub occurrence: Option<&'a Occurrence>,
}

/// The decision about an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupDecision {
    /// Worth delivering.
    Take(AcceptReason),
    /// Repeats event `of`.
    Duplicate { of: EventId, why: DuplicateReason },
}

/// The decision that an arrival would get and the state of its key after it, for the dry run of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub decision: DedupDecision,
    /// The state of its key afterwards; none for an unknown key.
    pub known: Option<KeyState>,
    /// The index, among the previewed arrivals, of the one that set the key's state: it has no event number yet.
    pub rests_on: Option<usize>,
    /// The time of the preview.
    pub now: Monotonic,
}

/// Why an event is worth delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptReason {
    /// A trigger for a key that is not known.
    Opening,
    /// A trigger after a resolve.
    Reopening,
    /// A trigger for an open incident whose `update_on` values changed.
    Update,
    /// A trigger for an open incident, after the window.
    Reminder,
    /// A resolve for an open incident.
    Closing,
    /// A resolve for a key that is not known, or whose last resolve is longer ago than the window: the relay may
    /// be new, the incident not.
    ClosingUnknown,
    /// A person had it replayed, without a check for duplicates.
    Replay,
}

/// Why an event is a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateReason {
    /// An equal event was taken within the window.
    WithinWindow,
    /// An equal event still waits for delivery: an outage must not pile up reminders.
    StillWaiting,
    /// The incident is open and `remind` is off.
    NoReminders,
    /// A late copy of an occurrence that was resolved already, or that a newer one replaced.
    PastOccurrence,
}

/// The effect that a settled event had at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The upstream accepted it.
    Confirmed,
    /// Dead, discarded, stale, `unmatched` or `not_resolved`: the upstream holds nothing of it.
    None,
}

/// An event that was taken, as deduplication needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: EventId,
    pub key: KeyId,
    pub action: Action,
    pub update: UpdateHash,
    /// The occurrences that its key knows after it.
    pub occurrences: Occurrences,
}

/// The state of one incident key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The last action taken: open after a trigger, resolved after a resolve.
    pub last_action: Action,
    /// The event that was taken last.
    pub last: EventId,
    /// When it was taken.
    pub taken: Monotonic,
    /// True while it waits for delivery.
    pub waiting: bool,
    /// The `update_on` values of the last trigger.
    pub update: UpdateHash,
    pub occurrences: Occurrences,
}

impl Dedup {
    pub fn new(settings: Settings) -> Dedup {
        Dedup { settings, keys: KeyTable::new(settings.max_keys) }
    }

    /// Decides about an arrival. Changes nothing.
    pub fn decide(&self, arrival: Arrival<'_>, now: Now) -> DedupDecision {
        decide(self.keys.get(arrival.key).as_ref(), arrival, self.settings, now)
    }

    /// Decides about arrivals that come one after the other, and returns the state of their keys. Changes nothing.
    pub fn preview<'a>(&self, arrivals: impl IntoIterator<Item = Arrival<'a>>, now: Now) -> Vec<Preview> {
        let mut taken: HashMap<KeyId, (usize, KeyState)> = HashMap::new();
        let one = |(place, arrival): (usize, Arrival<'_>)| {
            let (rests_on, known) = match taken.get(&arrival.key) {
                Some((place, state)) => (Some(*place), Some(state.clone())),
                None => (None, self.keys.get(arrival.key)),
            };
            let decision = decide(known.as_ref(), arrival, self.settings, now);
            if let DedupDecision::Take(_) = decision {
                let state = arrival.taken(known.as_ref(), now.monotonic);
                taken.insert(arrival.key, (place, state));
            }
            Preview { decision, known, rests_on, now: now.monotonic }
        };
        arrivals.into_iter().enumerate().map(one).collect()
    }

    /// The occurrences that an arrival's key knows once it is taken. Each event repeats them, because earlier events may be
    /// pruned, or settle so late that the journal can't tell which of them set the state.
    pub fn occurrences_after(&self, arrival: Arrival<'_>) -> Occurrences {
        arrival.occurrences(self.keys.occurrences(arrival.key))
    }

    /// Takes an event that is not settled yet.
    pub fn take(&mut self, event: Taken, at: Monotonic) {
        let Taken { id, key, action, update, occurrences } = event;
        self.keys.put(key, KeyState { last_action: action, last: id, taken: at, waiting: true, update, occurrences });
    }

    /// Applies a settlement. An event without effect makes its key unknown, if nothing was taken for the key since.
    pub fn settle(&mut self, key: KeyId, id: EventId, effect: Effect) {
        if self.keys.last(key) != Some(id) {
            return;
        }
        match effect {
            Effect::Confirmed => self.keys.set_delivered(key),
            Effect::None => self.keys.remove(key),
        }
    }

    /// Evicts every key: a damaged event may have belonged to any of them.
    pub fn evict_all(&mut self) {
        self.keys.evict_all();
    }

    /// Returns true if `id` is the event that set its key's state, so that the journal must keep it.
    pub fn rests_on(&self, key: KeyId, id: EventId) -> bool {
        self.keys.last(key) == Some(id)
    }

    /// The event that was taken last for a key; none for a key that is not known.
    pub fn last(&self, key: KeyId) -> Option<EventId> {
        self.keys.last(key)
    }

    /// The last event that was taken for a key, and what it asked for.
    pub fn last_action(&self, key: KeyId) -> Option<(EventId, Action)> {
        self.keys.last_action(key)
    }

    /// Returns true if the last event that was taken for a key is a trigger.
    pub fn is_open(&self, key: KeyId) -> bool {
        self.keys.last_action(key).is_some_and(|(_, action)| action == Action::Trigger)
    }

    /// Returns true if a key was ever evicted: then an unknown key may have delivered events.
    pub fn has_evicted(&self) -> bool {
        self.keys.has_evicted()
    }

    /// The triggers of open incidents, newest first.
    pub fn open(&self, limit: usize) -> Vec<EventId> {
        self.keys.open(limit)
    }

    /// The number of open incidents, with those whose trigger waits.
    pub fn open_len(&self) -> usize {
        self.keys.open_len()
    }

    /// The number of open incidents whose last trigger waits for delivery.
    pub fn open_waiting(&self) -> usize {
        self.keys.open_waiting()
    }

    /// The number of known keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Evicts at most `most` keys whose last event is not newer than `until`, oldest and resolved ones first.
    pub fn evict_oldest(&mut self, until: EventId, most: usize) -> usize {
        (0..most).take_while(|_| self.keys.evict_oldest_until(until)).count()
    }

    /// Takes the list of last events of keys that were evicted to stay within `max_keys`.
    pub fn take_evicted(&mut self) -> Vec<EventId> {
        self.keys.take_evicted()
    }

    /// Takes the counts of keys that were evicted to stay within `max_keys`.
    pub fn take_evicted_counts(&mut self) -> Evicted {
        self.keys.take_evicted_counts()
    }
}

impl Arrival<'_> {
    /// The state of the key once the arrival is taken, still without its number.
    fn taken(&self, before: Option<&KeyState>, now: Monotonic) -> KeyState {
        KeyState {
            last_action: self.action,
            last: UNNUMBERED,
            taken: now,
            waiting: true,
            update: self.update,
            occurrences: self.occurrences(before.map(|state| state.occurrences.clone()).unwrap_or_default()),
        }
    }

    fn occurrences(&self, before: Occurrences) -> Occurrences {
        match self.occurrence {
            Some(named) if before.last.as_ref() != Some(named) => {
                Occurrences { last: Some(named.clone()), past: before.last }
            }
            _ => before,
        }
    }
}

/// Decides from one key's state, the arrival, the settings and the time; pure.
fn decide(state: Option<&KeyState>, arrival: Arrival<'_>, settings: Settings, now: Now) -> DedupDecision {
    let Some(state) = state else {
        return DedupDecision::Take(match arrival.action {
            Action::Trigger => AcceptReason::Opening,
            Action::Resolve => AcceptReason::ClosingUnknown,
        });
    };
    let duplicate = |why| DedupDecision::Duplicate { of: state.last, why };
    let age = match (arrival.occurrence, &state.occurrences.past) {
        // A copy of the resolved occurrence is late, also where the two can't be ordered.
        (Some(arrival), Some(past)) if arrival == past => Age::Older,
        _ => compare(arrival.occurrence, state.occurrences.last.as_ref(), now.wall),
    };
    let within_window = now.monotonic.since(state.taken) < settings.window;
    match (state.last_action, arrival.action) {
        (Action::Resolve, Action::Trigger) => match age {
            Age::Same | Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer | Age::Unknown => DedupDecision::Take(AcceptReason::Reopening),
        },
        (Action::Trigger, Action::Resolve) => match age {
            Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Same | Age::Newer | Age::Unknown => DedupDecision::Take(AcceptReason::Closing),
        },
        (Action::Trigger, Action::Trigger) => match age {
            Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer => DedupDecision::Take(AcceptReason::Reopening),
            Age::Same | Age::Unknown if state.update != arrival.update => DedupDecision::Take(AcceptReason::Update),
            Age::Same | Age::Unknown if state.waiting => duplicate(DuplicateReason::StillWaiting),
            Age::Same | Age::Unknown if within_window => duplicate(DuplicateReason::WithinWindow),
            Age::Same | Age::Unknown if settings.remind => DedupDecision::Take(AcceptReason::Reminder),
            Age::Same | Age::Unknown => duplicate(DuplicateReason::NoReminders),
        },
        (Action::Resolve, Action::Resolve) => match age {
            Age::Same | Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer => DedupDecision::Take(AcceptReason::ClosingUnknown),
            Age::Unknown if state.waiting => duplicate(DuplicateReason::StillWaiting),
            Age::Unknown if within_window => duplicate(DuplicateReason::WithinWindow),
            Age::Unknown => DedupDecision::Take(AcceptReason::ClosingUnknown),
        },
    }
}

impl Effect {
    /// None while the event waits.
    pub fn of(state: State, outcome: Option<Outcome>) -> Option<Effect> {
        match state {
            State::Queued => None,
            State::Delivered if outcome.is_some_and(Outcome::leaves_key_unknown) => Some(Effect::None),
            State::Delivered => Some(Effect::Confirmed),
            State::Dead | State::Ended | State::Refused => Some(Effect::None),
        }
    }
}

impl AcceptReason {
    pub const ALL: [AcceptReason; 7] = [
        AcceptReason::Opening,
        AcceptReason::Reopening,
        AcceptReason::Update,
        AcceptReason::Reminder,
        AcceptReason::Closing,
        AcceptReason::ClosingUnknown,
        AcceptReason::Replay,
    ];

    /// The word that the journal and the API use.
    pub fn as_str(self) -> &'static str {
        match self {
            AcceptReason::Opening => "opening",
            AcceptReason::Reopening => "reopening",
            AcceptReason::Update => "update",
            AcceptReason::Reminder => "reminder",
            AcceptReason::Closing => "closing",
            AcceptReason::ClosingUnknown => "closing_unknown",
            AcceptReason::Replay => "replay",
        }
    }
}

impl DuplicateReason {
    /// The word that logs and answers use.
    pub fn as_str(self) -> &'static str {
        match self {
            DuplicateReason::WithinWindow => "within_window",
            DuplicateReason::StillWaiting => "still_waiting",
            DuplicateReason::NoReminders => "no_reminders",
            DuplicateReason::PastOccurrence => "past_occurrence",
        }
    }
}

/// Placeholder for an event's number until it has one.
const UNNUMBERED: EventId = EventId(0);

#[cfg(test)]
mod tests;
