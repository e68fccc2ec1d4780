//! Counts of the journal's content.

use crate::event::State;

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

impl Totals {
    /// The number of events for `max_events`.
    pub fn events(&self) -> u64 {
        self.queued + self.dead + self.refused
    }

    /// The totals without refused payloads, which give way to events.
    pub(super) fn without_refused(&self) -> Totals {
        Totals { refused: 0, refused_bytes: 0, bytes: self.bytes - self.refused_bytes, ..*self }
    }

    pub(super) fn fits(&self, events: u64, bytes: u64, max_events: u64, max_bytes: u64) -> bool {
        self.events() + events <= max_events && self.bytes.saturating_add(bytes) <= max_bytes
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
