//! Deduplication as a state machine per incident key, not a cache of hashes: what is new, and what was said already.
//!
//! A key is unknown, open or resolved. What changes its state is always worth delivering, however quickly it
//! follows: trigger, resolve, trigger within the window is three events, because a flapping service must page
//! again. What only repeats the state is a duplicate within the window and a reminder after it.
//!
//! The state is a fold over the events that were taken and how they ended, so the journal can restore it. It is
//! bounded; a forgotten key can only page once more.

mod key_table;
mod occurrence;

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::{Monotonic, Now};
use crate::event::{Action, EventId, KeyId, Occurrence, Outcome, State, UpdateHash};

use key_table::KeyTable;
pub use key_table::{Evicted, Occurrences};
use occurrence::{Age, compare};

/// The `dedup` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub window: Duration,
    pub remind: bool,
    pub max_keys: usize,
}

/// What every incident key's state is, and what an arrival is by it.
#[derive(Debug)]
pub struct Dedup {
    settings: Settings,
    keys: KeyTable,
}

/// What is asked of deduplication: an event that came and was not taken yet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub key: KeyId,
    pub action: Action,
    pub update: UpdateHash,
    pub occurrence: Option<&'a Occurrence>,
}

/// What an arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Worth delivering.
    Take(AcceptReason),
    /// Says what `of` said.
    Duplicate { of: EventId, why: DuplicateReason },
}

/// What an arrival would be, and why, for a person who asks before it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub decision: Decision,
    /// What would be known of its key then; none for a key that is not known.
    pub known: Option<KeyState>,
    /// The place of the arrival, among those asked for together, that its key rests on then: it has no number yet, and
    /// what is said of an event is said of it.
    pub rests_on: Option<usize>,
    /// When that was so.
    pub now: Monotonic,
}

/// What became of an arrival that was decided and, where it is new, written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Taken { id: EventId, novelty: AcceptReason },
    Duplicate { of: EventId, why: DuplicateReason },
}

/// Why an event is worth delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptReason {
    /// A trigger for a key that is not known.
    Opening,
    /// A trigger after a resolve.
    Reopening,
    /// A trigger for an open incident, with other `update_on` values.
    Update,
    /// A trigger for an open incident, after the window.
    Reminder,
    /// A resolve for an open incident.
    Closing,
    /// A resolve for a key that is not known, or whose last resolve is longer ago than the window: the relay may
    /// be new, the incident not.
    ClosingUnknown,
    /// A person had it replayed: nobody asked whether it is new.
    Replay,
}

/// Why an event is a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateReason {
    /// The same was taken within the window.
    WithinWindow,
    /// The same still waits for delivery: an outage must not pile up reminders.
    StillWaiting,
    /// The incident is open and `remind` is off.
    NoReminders,
    /// A late copy of an occurrence that was resolved already, or that a newer one replaced.
    PastOccurrence,
}

/// The effect at the upstream of an event that was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The upstream has it.
    Confirmed,
    /// Dead, discarded, stale, `unmatched` or `not_resolved`: the upstream holds nothing of it.
    None,
}

/// An event as the journal keeps it for deduplication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: EventId,
    pub key: KeyId,
    pub action: Action,
    pub update: UpdateHash,
    pub state: State,
    pub outcome: Option<Outcome>,
    /// What its key knew with it.
    pub occurrences: Occurrences,
}

/// One incident key's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The last action taken: open after a trigger, resolved after a resolve.
    pub last_action: Action,
    /// The event that was taken last.
    pub last: EventId,
    /// When it was taken.
    pub taken: Monotonic,
    /// Whether it still waits for delivery.
    pub waiting: bool,
    /// The `update_on` values of the last trigger.
    pub update: UpdateHash,
    pub occurrences: Occurrences,
}

impl Dedup {
    pub fn new(settings: Settings) -> Dedup {
        Dedup { settings, keys: KeyTable::new(settings.max_keys) }
    }

    /// What this arrival is. Changes nothing.
    pub fn decide(&self, arrival: Arrival<'_>, now: Now) -> Decision {
        decide(self.keys.get(arrival.key).as_ref(), arrival, self.settings, now)
    }

    /// What arrivals would be that come together, one after the other, and what is known of their keys. Changes nothing.
    pub fn preview<'a>(&self, arrivals: impl IntoIterator<Item = Arrival<'a>>, now: Now) -> Vec<Preview> {
        let mut taken: HashMap<KeyId, (usize, KeyState)> = HashMap::new();
        let one = |(place, arrival): (usize, Arrival<'_>)| {
            let (rests_on, known) = match taken.get(&arrival.key) {
                Some((place, state)) => (Some(*place), Some(state.clone())),
                None => (None, self.keys.get(arrival.key)),
            };
            let decision = decide(known.as_ref(), arrival, self.settings, now);
            if let Decision::Take(_) = decision {
                let state = arrival.taken(known.as_ref(), now.monotonic);
                taken.insert(arrival.key, (place, state));
            }
            Preview { decision, known, rests_on, now: now.monotonic }
        };
        arrivals.into_iter().enumerate().map(one).collect()
    }

    /// Decides, and takes what is new: `append` writes it with the occurrences that its key then knows, and tells its
    /// number. One step, so that nothing is known that was not written and nothing written that is not known. An event
    /// carries on what its key knew, because the events before it may be pruned, or end so late that the journal no
    /// longer tells which of them the key was resting on. With `force`, which a person may use, nothing is a duplicate.
    pub fn admit<E>(
        &mut self,
        arrival: Arrival<'_>,
        now: Now,
        force: bool,
        append: impl FnOnce(AcceptReason, &Occurrences) -> Result<EventId, E>,
    ) -> Result<Admission, E> {
        let novelty = match self.decide(arrival, now) {
            Decision::Take(novelty) => novelty,
            Decision::Duplicate { .. } if force => AcceptReason::Replay,
            Decision::Duplicate { of, why } => return Ok(Admission::Duplicate { of, why }),
        };
        let id = self.take(arrival, now.monotonic, |occurrences| append(novelty, occurrences))?;
        Ok(Admission::Taken { id, novelty })
    }

    /// Takes an event without asking whether it is new.
    pub fn take<E>(
        &mut self,
        arrival: Arrival<'_>,
        now: Monotonic,
        append: impl FnOnce(&Occurrences) -> Result<EventId, E>,
    ) -> Result<EventId, E> {
        let mut state = arrival.taken(self.keys.get(arrival.key).as_ref(), now);
        state.last = append(&state.occurrences)?;
        let last = state.last;
        self.keys.put(arrival.key, state);
        Ok(last)
    }

    /// An event was settled. If nothing was taken for its key since, one that had no effect makes the key unknown.
    pub fn settle(&mut self, key: KeyId, id: EventId, effect: Effect) {
        if self.keys.last(key) != Some(id) {
            return;
        }
        match effect {
            Effect::Confirmed => self.keys.set_delivered(key),
            Effect::None => self.keys.remove(key),
        }
    }

    /// Takes an event that the journal kept, and settles it if it ended. Told every event in the order of their
    /// numbers, deduplication is where it was.
    pub fn recall(&mut self, row: Row, taken: Monotonic) {
        let Row { id, key, action, update, state, outcome, occurrences } = row;
        self.keys.put(key, KeyState { last_action: action, last: id, taken, waiting: true, update, occurrences });
        if let Some(effect) = Effect::of(state, outcome) {
            self.settle(key, id, effect);
        }
    }

    /// Forgets every key: an event was found that may have been of any of them.
    pub fn forget_all(&mut self) {
        self.keys.forget_all();
    }

    /// Whether `id` is the event that its key's state rests on, so that the journal must keep it.
    pub fn rests_on(&self, key: KeyId, id: EventId) -> bool {
        self.keys.last(key) == Some(id)
    }

    /// The event that was taken last for a key; none for a key that is not known.
    pub fn last(&self, key: KeyId) -> Option<EventId> {
        self.keys.last(key)
    }

    /// Whether a trigger was the last event that was taken for a key.
    pub fn is_open(&self, key: KeyId) -> bool {
        self.keys.get(key).is_some_and(|state| state.last_action == Action::Trigger)
    }

    /// Whether a key was ever forgotten, for want of room or of certainty: then a key that is not known may have delivered events.
    pub fn has_forgotten(&self) -> bool {
        self.keys.has_forgotten()
    }

    /// The triggers on which open incidents rest, newest first.
    pub fn open(&self, limit: usize) -> Vec<EventId> {
        self.keys.open(limit)
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the oldest keys, at most so many, of those whose last event is not newer than this one: resolved ones first.
    pub fn forget_oldest(&mut self, until: EventId, most: usize) -> usize {
        (0..most).take_while(|_| self.keys.forget_oldest_until(until)).count()
    }

    /// The last events of keys that were forgotten for want of room since this was last asked.
    pub fn take_forgotten(&mut self) -> Vec<EventId> {
        self.keys.take_forgotten()
    }

    /// How many keys were forgotten to stay within `max_keys`, since this was last asked.
    pub fn forgotten(&mut self) -> Evicted {
        self.keys.forgotten()
    }
}

impl Arrival<'_> {
    /// The state of its key once it is taken, but for the number that it gets.
    fn taken(&self, before: Option<&KeyState>, now: Monotonic) -> KeyState {
        let before = before.map(|state| state.occurrences.clone()).unwrap_or_default();
        let occurrences = match self.occurrence {
            Some(named) if before.last.as_ref() != Some(named) => {
                Occurrences { last: Some(named.clone()), past: before.last }
            }
            _ => before,
        };
        KeyState {
            last_action: self.action,
            last: UNNUMBERED,
            taken: now,
            waiting: true,
            update: self.update,
            occurrences,
        }
    }
}

/// The decision itself: a pure function of one key's state, the arrival, the settings and the time.
fn decide(state: Option<&KeyState>, arrival: Arrival<'_>, settings: Settings, now: Now) -> Decision {
    let Some(state) = state else {
        return Decision::Take(match arrival.action {
            Action::Trigger => AcceptReason::Opening,
            Action::Resolve => AcceptReason::ClosingUnknown,
        });
    };
    let duplicate = |why| Decision::Duplicate { of: state.last, why };
    let age = match (arrival.occurrence, &state.occurrences.past) {
        // Without an order between them the one before is at least known by name.
        (Some(arrival), Some(past)) if arrival == past => Age::Older,
        _ => compare(arrival.occurrence, state.occurrences.last.as_ref(), now.wall),
    };
    let within_window = now.monotonic.since(state.taken) < settings.window;
    match (state.last_action, arrival.action) {
        (Action::Resolve, Action::Trigger) => match age {
            Age::Same | Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer | Age::Unknown => Decision::Take(AcceptReason::Reopening),
        },
        (Action::Trigger, Action::Resolve) => match age {
            Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Same | Age::Newer | Age::Unknown => Decision::Take(AcceptReason::Closing),
        },
        (Action::Trigger, Action::Trigger) => match age {
            Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer => Decision::Take(AcceptReason::Reopening),
            Age::Same | Age::Unknown if state.update != arrival.update => Decision::Take(AcceptReason::Update),
            Age::Same | Age::Unknown if state.waiting => duplicate(DuplicateReason::StillWaiting),
            Age::Same | Age::Unknown if within_window => duplicate(DuplicateReason::WithinWindow),
            Age::Same | Age::Unknown if settings.remind => Decision::Take(AcceptReason::Reminder),
            Age::Same | Age::Unknown => duplicate(DuplicateReason::NoReminders),
        },
        (Action::Resolve, Action::Resolve) => match age {
            Age::Same | Age::Older => duplicate(DuplicateReason::PastOccurrence),
            Age::Newer => Decision::Take(AcceptReason::ClosingUnknown),
            Age::Unknown if state.waiting => duplicate(DuplicateReason::StillWaiting),
            Age::Unknown if within_window => duplicate(DuplicateReason::WithinWindow),
            Age::Unknown => Decision::Take(AcceptReason::ClosingUnknown),
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

/// What stands for an event's number until it has one.
const UNNUMBERED: EventId = EventId(0);

#[cfg(test)]
mod tests;
