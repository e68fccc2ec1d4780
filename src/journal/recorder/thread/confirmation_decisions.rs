//! Keeps confirmations, each with the event that it is about.

use crate::event::{EventId, KeyId};
use crate::journal::recorder::{Confirmation, Confirmed, Unavailable};
use crate::journal::{self, NewConfirmation, RAW_BYTES_KEPT};

use super::batch_decisions::BatchDecisions;

impl BatchDecisions<'_> {
    /// Keeps a confirmation. Where the volume is nearly full it is refused before any event: nobody is alerted by it.
    pub(super) fn confirm(
        &mut self,
        confirmation: &Confirmation,
    ) -> Result<Result<Confirmed, Unavailable>, journal::Error> {
        let Confirmation { source, request_id, received_at, raw, told, .. } = confirmation;
        let footprint = journal::footprint(1, raw.len().min(RAW_BYTES_KEPT) as u64);
        if self.refusing || self.space.is_short() || !self.space.takes(footprint) {
            return Ok(Err(Unavailable::DiskFull));
        }
        let about = self.confirmed_event(confirmation)?;
        let id = self.batch.keep_confirmation(NewConfirmation {
            received_at: *received_at,
            source,
            request: request_id,
            told,
            about,
            raw,
        })?;
        self.space.promise(footprint);
        self.wrote = true;
        Ok(Ok(Confirmed { id, event: about.map(|(event, _)| event) }))
    }

    /// The event that a confirmation is about, with its source: of several sources that know the key, the newest.
    fn confirmed_event<'c>(
        &self,
        Confirmation { told, of, .. }: &'c Confirmation,
    ) -> Result<Option<(EventId, &'c str)>, journal::Error> {
        let Some(key) = &told.incident_key else { return Ok(None) };
        let mut about: Option<(EventId, &str)> = None;
        for source in of.iter() {
            // A call that was given up may have opened an incident all the same.
            let last = self.dedup.last(KeyId::new(source, key)).max(self.batch.last_without_effect(source, key)?);
            let Some(last) = last else { continue };
            if let Some(event) = self.batch.confirmed_event(told.action, (source, key), last)? {
                about = about.max(Some((event, &**source)));
            }
        }
        Ok(about)
    }
}
