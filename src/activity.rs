//! The activity of each source since the start, in a few numbers and times, for status and page.
//!
//! The metrics count the same by more labels, for those who keep a history.

mod refused_senders;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::WallTime;
use crate::event::{Outcome, Settlement, State};

use refused_senders::RefusedSenders;

pub(crate) use refused_senders::{RefusedSender, SenderRefusal};

/// The activity of all sources. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sources: Mutex<BTreeMap<Arc<str>, SourceActivity>>,
    refused_senders: Mutex<RefusedSenders>,
}

/// The activity of one source since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceActivity {
    /// Events that were made durable.
    pub taken: u64,
    pub duplicate: u64,
    pub ignored: u64,
    /// Requests and elements that were refused.
    pub refused: u64,
    /// Events that the upstream answered, unmatched ones among them.
    pub delivered: u64,
    pub unmatched: u64,
    /// Recoveries of which the upstream knew no open incident.
    pub not_resolved: u64,
    /// When an event last came, be it a duplicate.
    pub last_event: Option<WallTime>,
    pub last_delivered: Option<WallTime>,
    pub last_not_resolved: Option<WallTime>,
    /// When something was last refused, and the word for it.
    pub last_refused: Option<(WallTime, &'static str)>,
    /// The last one of an authenticated sender, which no stranger's request hides.
    pub last_refused_sender: Option<(WallTime, &'static str)>,
}

impl Activity {
    pub fn taken(&self, source: &Arc<str>, at: WallTime) {
        self.note(source, |activity| {
            activity.taken += 1;
            activity.last_event = Some(at);
        });
    }

    pub fn duplicate(&self, source: &Arc<str>, at: WallTime) {
        self.note(source, |activity| {
            activity.duplicate += 1;
            activity.last_event = Some(at);
        });
    }

    pub fn ignored(&self, source: &Arc<str>) {
        self.note(source, |activity| activity.ignored += 1);
    }

    /// Counts a request or an element that is refused. `authenticated`: its sender showed a valid credential.
    pub fn refused(&self, source: &Arc<str>, reason: &'static str, authenticated: bool, at: WallTime) {
        self.note(source, |activity| {
            activity.refused += 1;
            activity.last_refused = Some((at, reason));
            if authenticated {
                activity.last_refused_sender = activity.last_refused;
            }
        });
    }

    /// Notes `count` refusals of an authenticated sender. Returns true if they are the first ones after a while.
    pub fn sender_refused(&self, source: &Arc<str>, refusal: SenderRefusal, count: u64, at: WallTime) -> bool {
        self.refused_senders().note(source, refusal, count, at, Instant::now())
    }

    /// The authenticated senders that are refused now.
    pub fn senders_refused(&self) -> Vec<RefusedSender> {
        self.refused_senders().now(Instant::now())
    }

    /// Notes an event that was delivered. How others ended is not counted: what waits for a person is kept.
    pub fn settled(&self, source: &Arc<str>, settlement: &Settlement) {
        if settlement.state == State::Delivered {
            self.note(source, |activity| {
                activity.delivered += 1;
                activity.unmatched += u64::from(settlement.outcome == Some(Outcome::Unmatched));
                activity.last_delivered = Some(settlement.at);
                if settlement.outcome == Some(Outcome::NotResolved) {
                    activity.not_resolved += 1;
                    activity.last_not_resolved = Some(settlement.at);
                }
            });
        }
    }

    /// As it is now; nothing where a source did nothing.
    pub fn of(&self, source: &str) -> SourceActivity {
        self.sources().get(source).cloned().unwrap_or_default()
    }

    /// All sources together.
    pub fn total(&self) -> SourceActivity {
        self.sources().values().fold(SourceActivity::default(), |total, one| SourceActivity {
            taken: total.taken + one.taken,
            duplicate: total.duplicate + one.duplicate,
            ignored: total.ignored + one.ignored,
            refused: total.refused + one.refused,
            delivered: total.delivered + one.delivered,
            unmatched: total.unmatched + one.unmatched,
            not_resolved: total.not_resolved + one.not_resolved,
            last_event: total.last_event.max(one.last_event),
            last_delivered: total.last_delivered.max(one.last_delivered),
            last_not_resolved: total.last_not_resolved.max(one.last_not_resolved),
            last_refused: total.last_refused.max(one.last_refused),
            last_refused_sender: total.last_refused_sender.max(one.last_refused_sender),
        })
    }

    fn note(&self, source: &Arc<str>, change: impl FnOnce(&mut SourceActivity)) {
        let mut sources = self.sources();
        if let Some(activity) = sources.get_mut(source) {
            return change(activity);
        }
        // As many as are configured, and some that the journal knows from before.
        if sources.len() < SOURCES_MAX {
            change(sources.entry(Arc::clone(source)).or_default());
        }
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, SourceActivity>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused_senders(&self) -> MutexGuard<'_, RefusedSenders> {
        self.0.refused_senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SOURCES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    #[test]
    fn each_source_has_its_own_numbers_and_all_of_them_make_the_total() {
        let activity = Activity::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        activity.taken(&a, WallTime(1));
        activity.taken(&b, WallTime(3));
        activity.duplicate(&a, WallTime(2));
        activity.ignored(&a);
        activity.refused(&b, "not_json", true, WallTime(4));
        activity.refused(&b, "not_authenticated", false, WallTime(5));
        for (state, outcome, at) in [
            (State::Delivered, Some(Outcome::Created), 5),
            (State::Delivered, Some(Outcome::Unmatched), 6),
            (State::Delivered, Some(Outcome::NotResolved), 7),
            (State::Dead, None, 8),
        ] {
            let id = EventId(1);
            activity.settled(&a, &Settlement { id, state, outcome, reason: None, attempts: 1, at: WallTime(at) });
        }
        let of_a = SourceActivity {
            taken: 1,
            duplicate: 1,
            ignored: 1,
            delivered: 3,
            unmatched: 1,
            not_resolved: 1,
            last_event: Some(WallTime(2)),
            last_delivered: Some(WallTime(7)),
            last_not_resolved: Some(WallTime(7)),
            ..SourceActivity::default()
        };
        assert_eq!(activity.of("a"), of_a);
        let total = SourceActivity {
            taken: 2,
            refused: 2,
            last_event: Some(WallTime(3)),
            last_refused: Some((WallTime(5), "not_authenticated")),
            last_refused_sender: Some((WallTime(4), "not_json")),
            ..of_a
        };
        assert_eq!(activity.total(), total);
        assert_eq!(activity.of("c"), SourceActivity::default());
    }
}
