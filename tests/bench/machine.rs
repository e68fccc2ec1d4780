//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

/// One line a fact; a fact that can't be had is left out.
pub(crate) fn describe(scratch: &Path) -> Vec<String> {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next().map(str::to_owned));
    let facts = [
        processor.map(|model| format!("processor: {model}, {cores} core(s) visible to this run")),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()
            .map(|release| format!("kernel: Linux {}", release.trim())),
        output("rustc", &["--version"]).map(|version| format!("compiler: {version}")),
        output("df", &["--output=source,fstype", &scratch.display().to_string()])
            .and_then(|text| text.lines().last().map(|line| format!("journal on: {line}"))),
        load.map(|load| format!("load average before the run: {load} (above 0.5 somebody else is working here)")),
    ];
    facts.into_iter().flatten().collect()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
