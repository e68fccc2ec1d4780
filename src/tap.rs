//! The tap: a live stream of what becomes of requests and events, for people who watch.
//!
//! Whoever tells of something never waits for those who watch: telling writes into a ring of a fixed size, and a follower
//! that reads too slowly misses lines and learns how many. Nothing is built or kept while nobody follows. It has lines of
//! its own, and not only the journal's change feed (`Recorder::commits`), because much of what it tells is in no
//! journal: duplicates, what is ignored, and refusals that are only counted.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::clock::WallTime;
use crate::event::{EventId, State};

/// The place where lines are told and followed. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Tap {
    lines: broadcast::Sender<Arc<TapLine>>,
    places: Arc<Semaphore>,
}

/// One thing that happened to an event or a request, with what a list of events shows of it. What is not known, or does
/// not apply, is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TapLine {
    /// RFC 3339.
    pub at: String,
    pub state: &'static str,
    /// The event, or the payload that is kept; none for what is only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// The event that a duplicate repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub source: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub incident_key: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub rule: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The time from the acknowledgement to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
}

/// One who follows, with a place among the few that there are.
#[derive(Debug)]
pub struct Follower {
    lines: broadcast::Receiver<Arc<TapLine>>,
    _place: OwnedSemaphorePermit,
}

/// A message for a follower.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Line(Arc<TapLine>),
    /// So many lines came while it did not read.
    Missed(u64),
}

impl Default for Tap {
    fn default() -> Tap {
        let (lines, _) = broadcast::channel(LINES_MAX);
        Tap { lines, places: Arc::new(Semaphore::new(FOLLOWERS_MAX)) }
    }
}

impl Tap {
    /// Tells all who follow. Returns at once.
    pub fn tell(&self, line: impl FnOnce() -> TapLine) {
        if self.lines.receiver_count() > 0 {
            // Fails where the last one has just gone.
            let _ = self.lines.send(Arc::new(line()));
        }
    }

    /// Follows from now on; none where [`FOLLOWERS_MAX`] do already.
    pub fn follow(&self) -> Option<Follower> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Follower { lines: self.lines.subscribe(), _place: place })
    }
}

impl TapLine {
    /// A line of which no more is known than its state and time.
    pub fn new(state: &'static str, at: WallTime) -> TapLine {
        TapLine {
            at: at.rfc3339(),
            state,
            id: None,
            of: None,
            source: None,
            action: None,
            incident_key: None,
            rule: None,
            outcome: None,
            reason: None,
            attempts: None,
            age_seconds: None,
        }
    }
}

fn text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

impl Follower {
    /// Waits for the next; none once nothing can be told any more.
    pub async fn next(&mut self) -> Option<Told> {
        match self.lines.recv().await {
            Ok(line) => Some(Told::Line(line)),
            Err(RecvError::Lagged(missed)) => Some(Told::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The state of a payload or element that a rule, or `otherwise`, ignored. It is no event.
pub(crate) const IGNORED: &str = "ignored";
/// The state of a repeat of a known event. It is no event of its own.
pub(crate) const DUPLICATE: &str = "duplicate";
/// The words that `state` takes: those of events, and those of what is only counted.
pub(crate) const STATES: [&str; 7] = [
    State::Queued.as_str(),
    State::Delivered.as_str(),
    State::Dead.as_str(),
    State::Refused.as_str(),
    State::Ended.as_str(),
    DUPLICATE,
    IGNORED,
];
/// Lines kept for a follower that reads slowly.
const LINES_MAX: usize = 1_024;
/// More than there are people who watch.
pub(crate) const FOLLOWERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64) -> TapLine {
        TapLine { id: Some(EventId(id)), ..TapLine::new(State::Queued.as_str(), WallTime(1_764_000_000_000)) }
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_how_much_was_missed_and_goes_on() {
        let tap = Tap::default();
        let mut follower = tap.follow().unwrap();
        let count = LINES_MAX as u64 + 5;
        (0..count).for_each(|id| tap.tell(|| line(id)));
        assert_eq!(follower.next().await, Some(Told::Missed(5)));
        assert_eq!(follower.next().await, Some(Told::Line(Arc::new(line(5)))));
    }

    #[tokio::test]
    async fn nothing_is_made_while_nobody_follows() {
        let tap = Tap::default();
        tap.tell(|| panic!("nobody hears this"));
        let mut follower = tap.follow().unwrap();
        tap.tell(|| line(7));
        assert_eq!(follower.next().await, Some(Told::Line(Arc::new(line(7)))), "and nothing from before");
    }

    #[test]
    fn only_a_few_follow_at_once_and_who_goes_makes_room() {
        let tap = Tap::default();
        let mut followers: Vec<Follower> = (0..FOLLOWERS_MAX).map(|_| tap.follow().unwrap()).collect();
        assert!(tap.follow().is_none());
        followers.pop();
        assert!(tap.follow().is_some());
    }

    #[test]
    fn a_line_holds_what_is_known_and_nothing_else() {
        let json = serde_json::to_value(TapLine { outcome: Some("created"), ..line(7) }).unwrap();
        let expected = serde_json::json!({
            "at": "2025-11-24T16:00:00.000Z", "state": "queued", "id": "7", "outcome": "created",
        });
        assert_eq!(json, expected);
    }
}
