//! Processes pinned to a core, and what `/proc` says of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Result;

/// A process on one core. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts `program` on `core`. What it prints to standard error is shown.
    pub(crate) fn start(
        core: usize,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let mut child = Command::new("taskset")
            .args(["--cpu-list", &core.to_string()])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset could not be started: {error}"))?;
        let lines = child.stdout.take().map(BufReader::new);
        Ok(Process { child, lines })
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if let Some(lines) = &mut self.lines {
            lines.read_line(&mut line)?;
        }
        if line.is_empty() { Err("the process ended without a word".into()) } else { Ok(line.trim().to_owned()) }
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(&self.child.id().to_string())
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    pub(crate) fn resident_peak_kib(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Bytes that it caused to be written to a disk.
    pub(crate) fn written_bytes(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        Ok(number_after(&io, "write_bytes:").ok_or("no write_bytes in io")?)
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(number_after(&status, name).ok_or_else(|| format!("no {name} in status"))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves this process, which only waits and polls, to the core of the load.
pub(crate) fn pin_self(core: usize) -> Result<()> {
    let done = Command::new("taskset")
        .args(["--cpu-list", "--pid", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("this needs taskset (Debian: util-linux): {error}"))?;
    if done.success() { Ok(()) } else { Err(format!("core {core} can't be had; see --core and --load-core").into()) }
}

/// User and system time of all threads of process `id` (or `self`), those that ended included.
pub(crate) fn cpu_seconds(id: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the name in parentheses, which may hold anything; the state is the third.
    let after_name = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).ok_or("stat is short").map(|text| text.parse::<f64>());
    Ok((ticks(14)?? + ticks(15)??) / TICKS_PER_SECOND)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `getconf CLK_TCK`; 100 on every Linux that matters, whatever its kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
