//! Follows events of a running relay to their ends, and tells meanwhile what keeps them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Stop;
use super::admin_client::Relay;
use super::terminal::{Terminal, plain};
use crate::advice::{Advice, Beside, left_waiting, of_event, of_queued};
use crate::clock::WallTime;

/// Events that are followed until a time.
#[derive(Debug)]
pub(super) struct Follow<'r> {
    relay: &'r Relay,
    until: Instant,
    /// Advice that was given already: one cause may keep many events.
    told: BTreeSet<String>,
}

impl Follow<'_> {
    pub(super) fn new(relay: &Relay, until: Instant) -> Follow<'_> {
        Follow { relay, until, told: BTreeSet::new() }
    }

    /// The event when it has ended; when the time is up, as it is.
    pub(super) fn end_of(&mut self, id: &str, terminal: &mut Terminal) -> Result<Value, Stop> {
        let mut ask = self.until.min(Instant::now() + SOON);
        loop {
            let gone = || format!("event {} is not kept any more", plain(id));
            let event = self.relay.event(id)?.ok_or_else(gone)?;
            if event["state"] != "queued" {
                return Ok(event);
            }
            if Instant::now() >= ask {
                ask = Instant::now() + ASK;
                self.tell(&of_queued(&event, &self.relay.readiness()?, WallTime::now()), terminal);
            }
            if Instant::now() >= self.until {
                terminal.say(&left_waiting(&event, &self.relay.readiness()?, WallTime::now()));
                return Ok(event);
            }
            std::thread::sleep(POLL);
        }
    }

    fn tell(&mut self, advice: &Advice, terminal: &mut Terminal) {
        if self.told.insert(advice.remedy.clone().unwrap_or_default()) {
            advice.lines().iter().for_each(|line| terminal.say(&format!("  {line}")));
        }
    }
}

/// Says why an event ended as it did, and what to do, below the line on it.
pub(super) fn advise(event: &Value, terminal: &mut Terminal) {
    let advice = of_event(event, None, Beside::Line);
    advice.iter().flat_map(Advice::lines).for_each(|line| terminal.say(&format!("  {line}")));
}

const POLL: Duration = Duration::from_millis(250);
/// Most events are on their way by then.
const SOON: Duration = Duration::from_millis(500);
/// Between two looks at what keeps an event.
const ASK: Duration = Duration::from_secs(2);
