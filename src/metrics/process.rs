//! The metrics of the process, under the names that all Prometheus clients give them. Read from the system at each scrape.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::WallTime;

/// Reads the metrics of this process.
#[derive(Debug)]
pub(super) struct Process {
    started_at: WallTime,
}

impl Process {
    /// For a process that starts now.
    pub(super) fn starting(now: WallTime) -> Process {
        Process { started_at: now }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        let help = "CPU time used by the process, in user and system mode.";
        let kind = cpu.metric_type();
        cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), kind)?)?;

        // What the system does not tell is left out.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let gauges = [
            ("process_open_fds", "Open file descriptors of the process.", None, open_files()),
            (
                "process_max_fds",
                "File descriptors that the process may open.",
                None,
                getrlimit(Resource::Nofile).current,
            ),
            ("process_resident_memory", "Memory of the process in RAM.", Some(Unit::Bytes), bytes(&status, "VmRSS:")),
            ("process_virtual_memory", "Address space of the process.", Some(Unit::Bytes), bytes(&status, "VmSize:")),
        ];
        for (name, help, unit, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        let start = ConstGauge::new(super::epoch_seconds(self.started_at));
        let (help, kind) = ("Time at which the process started, since 1970.", start.metric_type());
        start.encode(encoder.encode_descriptor("process_start_time", help, Some(&Unit::Seconds), kind)?)
    }
}

fn open_files() -> Option<u64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is that of the list.
    u64::try_from(listed).ok()?.checked_sub(1)
}

/// The value of a line of `/proc/PID/status` that is given in kB.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_or_left_out() {
        let status = "Name:\tgander\nVmSize:\t  123456 kB\nVmRSS:\t      42 kB\n";
        assert_eq!(bytes(status, "VmSize:"), Some(123_456 * 1_024));
        assert_eq!(bytes(status, "VmRSS:"), Some(42 * 1_024));
        assert_eq!((bytes(status, "VmSwap:"), bytes("VmRSS:\t1 MB", "VmRSS:")), (None, None));
    }

    #[test]
    fn each_open_file_is_counted() {
        let before = open_files().unwrap();
        // More than the tests beside this one close meanwhile.
        let files: Vec<_> = (0..200).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let open = open_files().unwrap();
        assert!(open > before + 100, "{before} {open}");
        drop(files);
    }
}
