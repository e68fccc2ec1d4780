//! Shows the progress of long work to a person who waits at a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::cli::terminal::Terminal;

/// A line now and then on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    count: usize,
    shown: bool,
    told: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Progress {
        Progress { what, count: 0, shown: std::io::stderr().is_terminal(), told: Instant::now() }
    }

    pub(super) fn add(&mut self, count: usize, terminal: &mut Terminal) {
        self.count += count;
        if self.shown && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            terminal.say(&format!("{} {} …", self.what, self.count));
        }
    }

    /// The last line, wherever standard error goes.
    pub(super) fn end(&self, terminal: &mut Terminal) {
        terminal.say(&format!("{} {}", self.what, self.count));
    }
}

const EVERY: Duration = Duration::from_secs(1);
