//! Publishes the state of the journal for health, metrics and API.

use std::sync::Arc;
use std::time::Instant;

use super::RecorderThread;
use crate::journal::recorder::{Health, TurnedAway};
use crate::journal::request::Unavailable;

impl RecorderThread {
    /// Publishes the state for health, metrics and API.
    pub(super) fn publish_state(&mut self) {
        if self.fault.is_none() {
            let refusing = self.refusing();
            let (since, taking) = (self.parts.clock.now().wall, refusing.is_none());
            self.health.send_if_modified(|health| {
                let before = match health {
                    Health::Taking => None,
                    Health::Refusing { why, .. } => Some(*why),
                };
                if before == refusing.as_ref().map(|(why, _)| *why) {
                    return false;
                }
                *health = match refusing {
                    None => Health::Taking,
                    Some((why, detail)) => {
                        tracing::error!(
                            reason = why.as_str(),
                            detail,
                            "new events are refused with 503 until there is room"
                        );
                        Health::Refusing { why, detail, since }
                    }
                };
                if taking {
                    tracing::info!("events are taken again");
                }
                true
            });
        }
        self.publish_turned_away();
        let metrics = &self.parts.metrics;
        for (source, held) in self.journal.totals_by_source() {
            metrics.source_uses(source, held.events(), held.bytes);
        }
        self.remarks.log(&self.journal, self.parts.clock.now().wall);
        let totals = self.journal.totals();
        metrics.journal.used.set(self.journal.used());
        metrics.journal.database_bytes.set(i64::try_from(self.journal.database_bytes()).unwrap_or(i64::MAX));
        metrics.journal.log_bytes.set(i64::try_from(self.journal.log_bytes()).unwrap_or(i64::MAX));
        metrics.journal.queue_events.set(i64::try_from(totals.queued).unwrap_or(i64::MAX));
        metrics.journal.dead_letters.set(i64::try_from(totals.dead).unwrap_or(i64::MAX));
        metrics.journal.dedup_keys.set(i64::try_from(self.core.state.dedup.len()).unwrap_or(i64::MAX));
        metrics.journal.holds.set(i64::try_from(self.holds.borrow().len()).unwrap_or(i64::MAX));
        metrics.journal.writable.set(i64::from(self.fault.is_none()));
        metrics.journal.reserve.set(i64::from(self.shortage.space.has_reserve()));
        metrics.journal.volume_free.set(i64::try_from(self.shortage.space.free()).unwrap_or(i64::MAX));
        metrics.journal.volume_size.set(i64::try_from(self.shortage.space.size()).unwrap_or(i64::MAX));
        let evicted = self.core.state.dedup.take_evicted_counts();
        metrics.keys_evicted(evicted.resolved, evicted.open);
        // Last: senders are answered, and whoever is woken sees all of the above.
        self.publish_commits();
    }

    /// Wakes whoever waits for a change of an event, if there was a commit since.
    pub(super) fn publish_commits(&mut self) {
        let committed = self.committed;
        self.commits.send_if_modified(|known| std::mem::replace(known, committed) != committed);
    }

    /// Publishes the holds in force, if a commit changed them.
    pub(super) fn publish_holds(&mut self) {
        let holds = &self.core.state.holds;
        self.holds.send_if_modified(|known| std::mem::replace(known, Arc::clone(holds)) != *holds);
    }

    /// Publishes the sources that have used up their share.
    pub(super) fn publish_turned_away(&mut self) {
        let (journal, turning_away) = (&self.journal, &mut self.turning_away);
        if turning_away.is_empty() && self.turned_away.borrow().is_empty() {
            return;
        }
        for source in turning_away.over(Instant::now(), |source| journal.admits_more_of(source)) {
            tracing::info!(source = &*source, "this source has room in the queue again; its events are taken");
        }
        let turned_away = turning_away.sources().map(|(source, since)| {
            let (source, totals) = (Arc::clone(source), journal.totals_of(source));
            TurnedAway { source, since, totals }
        });
        self.turned_away.send_replace(turned_away.collect());
    }

    /// The reason for refusing new events while the journal can be written; none if they are taken.
    fn refusing(&self) -> Option<(Unavailable, String)> {
        if self.shortage.refusing {
            let detail = format!("the volume of `data_dir` has no room for new events: {}", self.shortage.space);
            return Some((Unavailable::DiskFull, detail));
        }
        let detail = "`journal.max_events` or `journal.max_bytes` is reached".to_owned();
        self.journal.is_full().then_some((Unavailable::Backlog, detail))
    }
}
