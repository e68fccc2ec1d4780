//! A survey of what waits, for a person who asks: counts by source and by what keys wait for, and the keys that fail or
//! wait longest.
//!
//! It is made in parts of a bounded number of keys, so that a question about a million keys holds up no delivery, and it
//! keeps no more keys than were asked for. Between two parts the queue goes on: of more keys than one part has, the counts
//! are those of a queue in motion. Nothing is counted while nobody asks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::queues::{KeyPosition, KeySlot};
use super::{Lane, Schedule};
use crate::clock::Monotonic;
use crate::event::{EventId, SourceId};

/// The counts so far, and the keys to show.
#[derive(Debug)]
pub struct Survey {
    pub sources: BTreeMap<SourceId, SourceSurvey>,
    /// The source whose keys are shown; none for all.
    source: Option<SourceId>,
    keys_max: usize,
    /// Those that fail first, then by age.
    keys: BTreeMap<(bool, EventId), WaitingKey>,
    /// The time for each lane of all sources, once it is complete.
    lanes: Vec<(Lane, usize, Option<Duration>)>,
    /// The slot at which the next part begins.
    at: u32,
}

/// The events of one source that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSurvey {
    pub keys: usize,
    /// Keys whose first event is being called.
    pub calls: usize,
    /// Events by what their keys wait for, in the order of [`Standing::ALL`].
    events: [usize; Standing::ALL.len()],
    /// The event that waits longest.
    pub oldest: Option<EventId>,
    /// The time until what may go out was sent; none while nobody can tell.
    pub drain_time: Option<Duration>,
}

/// A key with its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingKey {
    pub first: EventId,
    pub standing: Standing,
    /// All events of the key.
    pub events: usize,
    /// Calls of the first event.
    pub attempts: u32,
}

/// The thing that a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its turn, in the fresh lane.
    Fresh,
    /// Its turn, in the backlog.
    Backlog,
    /// Its turn, after its first event failed.
    Retry,
    /// The time of its next attempt.
    Backoff,
    /// A person.
    Held,
    /// The end of a call.
    UnderWay,
    /// The disk.
    Settling,
}

impl Standing {
    pub const ALL: [Standing; 7] = [
        Standing::Fresh,
        Standing::Backlog,
        Standing::Retry,
        Standing::Backoff,
        Standing::Held,
        Standing::UnderWay,
        Standing::Settling,
    ];

    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Fresh => Lane::Fresh.as_str(),
            Standing::Backlog => Lane::Backlog.as_str(),
            Standing::Retry => Lane::Retry.as_str(),
            Standing::Backoff => "backoff",
            Standing::Held => "held",
            Standing::UnderWay => "under_way",
            Standing::Settling => "settling",
        }
    }

    /// Returns true if it goes out without waiting for a time or a person.
    fn is_moving(self) -> bool {
        !matches!(self, Standing::Backoff | Standing::Held)
    }
}

impl Survey {
    /// One that has not begun. It shows at most `keys_max` keys, of this source or of all.
    pub fn new(source: Option<SourceId>, keys_max: usize) -> Survey {
        Survey { sources: BTreeMap::new(), source, keys_max, keys: BTreeMap::new(), lanes: Vec::new(), at: 0 }
    }

    /// The keys to show: those that fail, then those that were never tried, each the oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &WaitingKey> {
        self.keys.values()
    }

    /// Each lane that has a time to drain, with its events and that time.
    pub fn lanes(&self) -> &[(Lane, usize, Option<Duration>)] {
        &self.lanes
    }

    fn note(&mut self, source: SourceId, key: WaitingKey) {
        let counts = self.sources.entry(source).or_default();
        counts.keys += 1;
        counts.calls += usize::from(key.standing == Standing::UnderWay);
        counts.events[key.standing as usize] += key.events;
        counts.oldest = Some(counts.oldest.map_or(key.first, |oldest| oldest.min(key.first)));
        let place = (key.attempts == 0, key.first);
        // Of a million keys nearly all come behind those that are shown already.
        let is_shown =
            self.keys.len() < self.keys_max || self.keys.last_key_value().is_some_and(|(last, _)| place < *last);
        if is_shown && self.source.is_none_or(|wanted| wanted == source) {
            self.keys.insert(place, key);
            if self.keys.len() > self.keys_max {
                self.keys.pop_last();
            }
        }
    }
}

impl SourceSurvey {
    /// All events that wait, with those under way.
    pub fn waiting(&self) -> usize {
        self.events.iter().sum()
    }

    /// The events whose keys wait for this.
    pub fn events(&self, standing: Standing) -> usize {
        self.events[standing as usize]
    }

    /// The events that go out without waiting for a time or a person.
    fn moving(&self) -> usize {
        Standing::ALL.into_iter().filter(|standing| standing.is_moving()).map(|standing| self.events(standing)).sum()
    }
}

impl Schedule {
    /// Adds the next part to a survey. Returns true if it was the last one.
    pub fn survey(&self, survey: &mut Survey, now: Monotonic) -> bool {
        let slots = self.queues.slots();
        let end = survey.at.saturating_add(KEYS_AT_ONCE).min(slots);
        for key in (survey.at..end).map(KeySlot).filter(|key| self.queues.is_waiting(*key)) {
            let standing = standing(self.queues.place(key));
            // A key that waits for its turn in a lane was never tried.
            let is_new = matches!(standing, Standing::Fresh | Standing::Backlog);
            let attempts = if is_new { 0 } else { self.retries.get(&key).map_or(0, |retry| retry.attempts) };
            let (first, events) = (self.queues.first(key).id, self.queues.count(key));
            survey.note(self.queues.source(key), WaitingKey { first, standing, events, attempts });
        }
        survey.at = end;
        if end < slots {
            return false;
        }
        for (source, counts) in &mut survey.sources {
            counts.drain_time = self.source_drain_time(*source, counts, now);
        }
        let lane = |lane| (lane, self.turns.events(lane), self.lane_drain_time(lane, now));
        survey.lanes = Lane::DRAINED.map(lane).to_vec();
        true
    }

    /// The time for the events of one source that wait for no time and no person, by the rate at which its events ended
    /// within the last minute. All others take longer.
    fn source_drain_time(&self, source: SourceId, counts: &SourceSurvey, now: Monotonic) -> Option<Duration> {
        let is_stopped = self.breaker.open_by().is_some() || self.held_sources.contains_key(&source);
        if is_stopped || counts.moving() == 0 {
            return None;
        }
        self.left_by_source.get(&source)?.time_for(counts.moving(), now)
    }
}

fn standing(place: KeyPosition) -> Standing {
    match place {
        KeyPosition::Lane(spot) if spot.is_fresh() => Standing::Fresh,
        KeyPosition::Lane(_) => Standing::Backlog,
        KeyPosition::Retry => Standing::Retry,
        KeyPosition::Backoff => Standing::Backoff,
        KeyPosition::Held => Standing::Held,
        KeyPosition::Called => Standing::UnderWay,
        KeyPosition::Away => Standing::Settling,
    }
}

/// Keys of one part: less than a tenth of a millisecond.
const KEYS_AT_ONCE: u32 = 4_096;

#[cfg(test)]
mod tests;
