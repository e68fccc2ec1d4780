//! Makes room for events.

use super::Batch;
use crate::journal::sqlite::Error;
use crate::journal::sqlite::source_totals::Fit;

impl Batch<'_> {
    /// Checks if there is room, after what this batch holds already, for `events` more of `bytes` bytes in all; with a
    /// `source`, also within its share. Refused payloads are removed for them, oldest first, unless even that would not
    /// suffice.
    pub fn make_room(&mut self, source: Option<&str>, events: u64, bytes: u64) -> Result<Fit, Error> {
        let config = &self.journal.config;
        let (max_events, max_bytes) = (config.max_events, config.max_bytes);
        if !self.totals.all.without_refused().fits(events, bytes, max_events, max_bytes) {
            return Ok(Fit::Full);
        }
        if source.is_some_and(|source| !self.totals.admits(config, source, events, bytes)) {
            return Ok(Fit::BeyondShare);
        }
        while !self.totals.all.fits(events, bytes, max_events, max_bytes) {
            if !self.drop_oldest_refused()? {
                return Ok(Fit::Full);
            }
        }
        Ok(Fit::Fits)
    }
}
