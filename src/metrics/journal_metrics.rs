//! Metrics of the journal: what is kept, its files, and the volume that they are on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::Metrics;
use super::labels::{PhaseLabel, SourceLabel};
use super::registration::{FAST_SECONDS, Registration};
use super::timing::Timing;

/// The metrics of the journal.
#[derive(Debug)]
pub struct JournalMetrics {
    source_events: Family<SourceLabel, Gauge>,
    source_bytes: Family<SourceLabel, Gauge>,
    evicted: Family<PhaseLabel, Counter>,
    commit: Timing,
    /// Events acknowledged and not yet settled.
    pub queue_events: Gauge,
    /// Dead letters that wait for a person.
    pub dead_letters: Gauge,
    /// Incident keys that deduplication remembers.
    pub dedup_keys: Gauge,
    /// Keys and sources on hold.
    pub holds: Gauge,
    /// 1 while the journal can be written, else 0.
    pub writable: Gauge,
    /// The part of `journal.max_events` or `max_bytes` in use, whichever is greater.
    pub used: Gauge<f64, AtomicU64>,
    /// The length of the journal's database.
    pub database_bytes: Gauge,
    /// The length of the journal's log.
    pub log_bytes: Gauge,
    /// 1 while `journal.reserve` is held, else 0.
    pub reserve: Gauge,
    /// The free space on the volume of `data_dir`.
    pub volume_free: Gauge,
    /// The size of that volume.
    pub volume_size: Gauge,
}

impl JournalMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> JournalMetrics {
        JournalMetrics {
            source_events: all.count(
                "queue_source_events",
                "Events that count against a source's share: those that wait for delivery, and dead letters",
            ),
            source_bytes: all
                .count("queue_source_bytes", "Payloads and bodies of the events that count against a source's share"),
            evicted: all
                .count("dedup_keys_forgotten", "Incident keys forgotten because dedup.max_keys was reached, by phase"),
            commit: Timing::new(all.histogram("journal_commit", "Time of one synced journal commit", FAST_SECONDS)),
            queue_events: all.count("queue_events", "Events that wait for delivery"),
            dead_letters: all
                .count("dead_letters", "Events that were given up and wait until a person replays or discards them"),
            dedup_keys: all.count("dedup_keys", "Incident keys that deduplication remembers"),
            holds: all.count("holds", "Incident keys and sources that a person holds back"),
            writable: all.count("journal_writable", "1 while the journal can be written, else 0"),
            used: all.with_unit(
                "journal_used",
                "Part of journal.max_events or journal.max_bytes, whichever is greater, that waiting events and dead \
                 letters use",
                Unit::Other("ratio".to_owned()),
                Gauge::default(),
            ),
            database_bytes: all.bytes("journal_database", "Size of the journal's database"),
            log_bytes: all.bytes("journal_log", "Size of the journal's write-ahead log"),
            reserve: all
                .count("journal_reserve", "1 while journal.reserve is held, 0 while the disk is too full for it"),
            volume_free: all.bytes("journal_volume_free", "Free space on the volume of data_dir, without the reserve"),
            volume_size: all.bytes("journal_volume_size", "Size of the volume of data_dir"),
        }
    }

    /// Shows the series whose labels are this program's words, with 0.
    pub(super) fn show(&self) {
        PHASES.into_iter().for_each(|phase| drop(self.evicted.get_or_create(&PhaseLabel { phase })));
    }

    /// Shows the series of a configured source, with 0.
    pub(super) fn show_source(&self, source: &Arc<str>) {
        let labels = SourceLabel::of(source);
        drop((self.source_events.get_or_create(&labels), self.source_bytes.get_or_create(&labels)));
    }
}

impl Metrics {
    /// Sets what a source uses of the shared limits.
    pub fn source_uses(&self, source: &Arc<str>, events: u64, bytes: u64) {
        let labels = SourceLabel::of(source);
        for (gauge, value) in [(&self.journal.source_events, events), (&self.journal.source_bytes, bytes)] {
            gauge.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// Counts incident keys that deduplication forgot while they were resolved, and while they were open.
    pub fn keys_evicted(&self, resolved: u64, open: u64) {
        for (phase, count) in PHASES.into_iter().zip([resolved, open]) {
            self.journal.evicted.get_or_create(&PhaseLabel { phase }).inc_by(count);
        }
    }

    pub fn committed(&self, took: Duration) {
        self.journal.commit.observe(took);
    }
}

/// The phases of keys that are evicted.
const PHASES: [&str; 2] = ["resolved", "open"];
