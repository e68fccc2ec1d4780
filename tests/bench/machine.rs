//! The machine that the figures are measured on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use tempfile::TempDir;

use crate::{Result, pki, process};

/// The parts of the machine that a plan uses.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    /// The core of the system under test
    #[arg(long, default_value_t = 0)]
    pub(crate) core: usize,
    /// The core of load and upstream
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// Where the journal is written; must be a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    scratch: PathBuf,
}

impl Machine {
    /// Takes the load's core, and makes a directory for the run, with certificates. Beside it, facts about the machine.
    pub(crate) fn prepare(&self) -> Result<(TempDir, Vec<String>)> {
        fs::create_dir_all(&self.scratch)?;
        let scratch = tempfile::tempdir_in(&self.scratch)?;
        let facts = describe(&self.scratch);
        process::pin_self(self.load_core)?;
        pki::make(scratch.path())?;
        Ok((scratch, facts))
    }
}

/// One line a fact; a fact that can't be had is left out.
fn describe(scratch: &Path) -> Vec<String> {
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
