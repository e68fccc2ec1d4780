//! Metrics of the relay itself: its version, configuration, certificates, and faults.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use super::labels::{CertificateLabels, ResultLabel};
use super::registration::Registration;
use super::{Metrics, epoch_seconds};
use crate::clock::WallTime;
use crate::version::{COMMIT, VERSION};

/// The metrics of the relay itself.
#[derive(Debug)]
pub(super) struct RelayMetrics {
    log_lines_dropped: Counter,
    panics: Counter,
    secret_files_unreadable: Gauge,
    certificate_expiry: Family<CertificateLabels, Gauge<f64, AtomicU64>>,
    reloads: Family<ResultLabel, Counter>,
    reload_successful: Gauge,
    reload_succeeded_at: Gauge<f64, AtomicU64>,
}

impl RelayMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> RelayMetrics {
        all.0.register(
            "build",
            "The running version, and the commit that it was built from",
            Info::new(vec![("version", VERSION), ("commit", COMMIT)]),
        );
        RelayMetrics {
            log_lines_dropped: all.count(
                "log_lines_dropped",
                "Log lines dropped, because the log could not be written or was not read fast enough",
            ),
            panics: all.count("panics", "Panics of a task or thread: faults of this program"),
            secret_files_unreadable: all.count(
                "secret_files_unreadable",
                "Secret files that can't be read; the values that were read before are used on",
            ),
            certificate_expiry: all.seconds(
                "certificate_expiry_timestamp",
                "Time at which the first certificate of a file in use expires, since 1970",
            ),
            reloads: all.count("config_reloads", "Reloads of the configuration, by result"),
            reload_successful: all.count(
                "config_last_reload_successful",
                "1 if the configuration that was read last is in force, 0 if it could not be used",
            ),
            reload_succeeded_at: all.seconds(
                "config_last_reload_success_timestamp",
                "Time at which the configuration in force was read, since 1970",
            ),
        }
    }

    /// Shows the series whose labels are this program's words, with 0.
    pub(super) fn show(&self) {
        [SUCCESS, FAILURE].into_iter().for_each(|result| drop(self.reloads.get_or_create(&ResultLabel { result })));
    }
}

impl Metrics {
    /// Sets the time at which the certificate in a file expires, which this section or key names.
    pub fn certificate_expires(&self, section: &'static str, file: &Path, at: WallTime) {
        let labels = CertificateLabels { section, file: file.display().to_string() };
        self.relay.certificate_expiry.get_or_create(&labels).set(epoch_seconds(at));
    }

    /// Sets the number of secret files that can't be read.
    pub fn secret_files_unreadable(&self, files: usize) {
        self.relay.secret_files_unreadable.set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    /// Takes over the counts of the whole process: dropped log lines and panics.
    pub fn process_counted(&self, log_lines_dropped: u64, panics: u64) {
        // The log and the panic hook count by themselves, since they exist before and without any metric.
        self.relay.log_lines_dropped.inner().store(log_lines_dropped, Ordering::Relaxed);
        self.relay.panics.inner().store(panics, Ordering::Relaxed);
    }

    /// Records that the configuration of the start is in force.
    pub fn configured(&self, at: WallTime) {
        self.relay.reload_successful.set(1);
        self.relay.reload_succeeded_at.set(epoch_seconds(at));
    }

    /// Records a reload; after a failed one the previous configuration stays in force.
    pub fn reloaded(&self, success: bool, at: WallTime) {
        let result = if success { SUCCESS } else { FAILURE };
        self.relay.reloads.get_or_create(&ResultLabel { result }).inc();
        self.relay.reload_successful.set(i64::from(success));
        if success {
            self.relay.reload_succeeded_at.set(epoch_seconds(at));
        }
    }
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
