//! Counts of the journal's content, overall and by source, and the check of the limits for further events.

use std::collections::HashMap;
use std::sync::Arc;

use super::shares::{LimitUse, Shares};
use crate::event::State;

/// `journal.max_events`, `journal.max_bytes` and the shares of the sources in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_events: u64,
    pub max_bytes: u64,
    pub shares: Shares,
}

/// Counts of the journal's content, for its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub queued: u64,
    pub dead: u64,
    pub refused: u64,
    /// The bytes of payloads, bodies and senders' `tracestate` of all of these.
    pub bytes: u64,
    /// The part of refused payloads.
    pub refused_bytes: u64,
}

/// The totals with each source's part. A batch works on a copy, which replaces the journal's on commit.
#[derive(Clone, Debug, Default)]
pub(super) struct TotalsBySource {
    /// Of all sources, with refused payloads.
    pub(super) all: Totals,
    sources: HashMap<Arc<str>, SourceTotals>,
}

/// The part that counts for a source's share. Refused payloads do not count: they give way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTotals {
    pub queued: u64,
    pub dead: u64,
    /// The bytes of payloads and bodies of both.
    pub bytes: u64,
}

/// The answer to a request for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// `max_events` or `max_bytes` is reached.
    Full,
    /// The source has used its share, and the rest is for others.
    BeyondShare,
}

impl Totals {
    /// The number of events for `max_events`.
    pub fn events(&self) -> u64 {
        self.queued + self.dead + self.refused
    }

    /// The totals without refused payloads, which give way to events.
    pub(super) fn without_refused(&self) -> Totals {
        Totals { refused: 0, refused_bytes: 0, bytes: self.bytes - self.refused_bytes, ..*self }
    }

    pub(super) fn fits(&self, events: u64, bytes: u64, limits: &Limits) -> bool {
        self.events() + events <= limits.max_events && self.bytes.saturating_add(bytes) <= limits.max_bytes
    }

    pub(super) fn add(&mut self, state: State, bytes: u64) {
        match state {
            State::Queued => self.queued += 1,
            State::Dead => self.dead += 1,
            State::Refused => {
                self.refused += 1;
                self.refused_bytes = self.refused_bytes.saturating_add(bytes);
            }
            State::Delivered | State::Ended => return,
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds bytes to an event that counts.
    pub(super) fn grow(&mut self, state: State, bytes: u64) {
        match state {
            State::Refused => self.refused_bytes += bytes,
            State::Queued | State::Dead => {}
            State::Delivered | State::Ended => return,
        }
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, state: State, bytes: u64) {
        match state {
            State::Queued => self.queued = self.queued.saturating_sub(1),
            State::Dead => self.dead = self.dead.saturating_sub(1),
            State::Refused => {
                self.refused = self.refused.saturating_sub(1);
                self.refused_bytes = self.refused_bytes.saturating_sub(bytes);
            }
            State::Delivered | State::Ended => return,
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl TotalsBySource {
    pub(super) fn add(&mut self, source: &str, state: State, bytes: u64) {
        self.all.add(state, bytes);
        match state {
            State::Queued => self.change(source, |held| held.queued += 1),
            State::Dead => self.change(source, |held| held.dead += 1),
            State::Refused | State::Delivered | State::Ended => return,
        }
        self.change(source, |held| held.bytes += bytes);
    }

    pub(super) fn remove(&mut self, source: &str, state: State, bytes: u64) {
        self.all.remove(state, bytes);
        match state {
            State::Queued => self.change(source, |held| held.queued = held.queued.saturating_sub(1)),
            State::Dead => self.change(source, |held| held.dead = held.dead.saturating_sub(1)),
            State::Refused | State::Delivered | State::Ended => return,
        }
        self.change(source, |held| held.bytes = held.bytes.saturating_sub(bytes));
    }

    pub(super) fn remove_refused(&mut self, bytes: u64) {
        self.all.remove(State::Refused, bytes);
    }

    /// Adds bytes that a row took over from a finished one, which did not count.
    pub(super) fn grow(&mut self, source: &str, state: State, bytes: u64) {
        self.all.grow(state, bytes);
        if matches!(state, State::Queued | State::Dead) {
            self.change(source, |held| held.bytes += bytes);
        }
    }

    /// Moves bytes of a refused payload to a queued event or dead letter.
    pub(super) fn take_over_refused(&mut self, source: &str, bytes: u64) {
        self.all.refused_bytes = self.all.refused_bytes.saturating_sub(bytes);
        self.change(source, |held| held.bytes += bytes);
    }

    pub(super) fn of(&self, source: &str) -> SourceTotals {
        self.sources.get(source).copied().unwrap_or_default()
    }

    /// Checks the limits for `events` more of `bytes` bytes in all; with a `source`, also its share. Refused payloads do
    /// not count: they give way.
    pub(super) fn fit(&self, limits: &Limits, source: Option<&str>, events: u64, bytes: u64) -> Fit {
        if !self.all.without_refused().fits(events, bytes, limits) {
            return Fit::Full;
        }
        let beyond = source.is_some_and(|source| !self.admits(limits, source, events, bytes));
        if beyond { Fit::BeyondShare } else { Fit::Fits }
    }

    /// Returns true if a source's share allows this much more.
    pub(super) fn admits(&self, limits: &Limits, source: &str, events: u64, bytes: u64) -> bool {
        let Some(share) = limits.shares.of(source) else {
            return true;
        };
        let others = limits.shares.sources().filter(|other| ***other != *source);
        let with_nothing = others.filter(|other| self.of(other).events() == 0).count() as u64;
        let (own, used) = (self.of(source), self.all.without_refused());
        let room = LimitUse { max: limits.max_events, used: used.events(), own: own.events(), left: with_nothing };
        // The size of another source's first event is unknown: an event as large as this one must fit.
        let left = if with_nothing > 0 { bytes } else { 0 };
        let room_for_bytes = LimitUse { max: limits.max_bytes, used: used.bytes, own: own.bytes, left };
        share.admits(room, events) && share.admits(room_for_bytes, bytes)
    }

    fn change(&mut self, source: &str, change: impl FnOnce(&mut SourceTotals)) {
        match self.sources.get_mut(source) {
            Some(held) => change(held),
            None => {
                let mut held = SourceTotals::default();
                change(&mut held);
                self.sources.insert(Arc::from(source), held);
            }
        }
    }
}

impl SourceTotals {
    /// The number of events for shares of `max_events`.
    pub fn events(&self) -> u64 {
        self.queued + self.dead
    }
}
