//! Senders that are refused although they are authenticated: an alert may be in what nobody takes. Told from the first
//! refusal until there was none for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::WallTime;
use crate::event::EventId;

/// The refusals of now, by source and reason.
#[derive(Debug, Default)]
pub(super) struct RefusedSenders(BTreeMap<(Arc<str>, &'static str), Episode>);

/// A refusal of an authenticated sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderRefusal {
    /// The word for metrics and logs.
    pub reason: &'static str,
    /// The status of the answer; in a batch, that of the element.
    pub status: u16,
    pub remedy: &'static str,
    /// The payload, where it is kept; of several the first.
    pub event: Option<EventId>,
}

/// The refusals of one source for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSender {
    pub source: Arc<str>,
    pub since: WallTime,
    /// Requests, and elements of batches.
    pub count: u64,
    pub last: SenderRefusal,
}

#[derive(Debug)]
struct Episode {
    since: WallTime,
    seen: Instant,
    count: u64,
    last: SenderRefusal,
}

impl RefusedSenders {
    /// Notes `count` refusals. Returns true if they are the first ones after a while.
    pub(super) fn note(
        &mut self,
        source: &Arc<str>,
        refusal: SenderRefusal,
        count: u64,
        now: WallTime,
        at: Instant,
    ) -> bool {
        self.0.retain(|_, episode| !episode.is_over(at));
        let known = self.0.len();
        let episode = self.0.entry((Arc::clone(source), refusal.reason)).or_insert(Episode {
            since: now,
            seen: at,
            count: 0,
            last: refusal,
        });
        episode.seen = at;
        episode.count = episode.count.saturating_add(count);
        episode.last = refusal;
        self.0.len() > known
    }

    /// The refusals of now, the last one first.
    pub(super) fn now(&self, at: Instant) -> Vec<RefusedSender> {
        let mut current: Vec<_> = self.0.iter().filter(|(_, episode)| !episode.is_over(at)).collect();
        current.sort_by_key(|(_, episode)| std::cmp::Reverse(episode.seen));
        let told = current.into_iter().map(|((source, _), &Episode { since, count, last, .. })| RefusedSender {
            source: Arc::clone(source),
            since,
            count,
            last,
        });
        told.collect()
    }
}

impl Episode {
    fn is_over(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.seen) >= QUIET_AFTER
    }
}

/// Long enough that whoever asks once in some minutes is told.
const QUIET_AFTER: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: &'static str, event: Option<u64>) -> SenderRefusal {
        SenderRefusal { reason, status: 413, remedy: "mend it", event: event.map(EventId) }
    }

    #[test]
    fn each_source_and_reason_is_new_once_until_it_was_quiet_for_a_while() {
        let (mut senders, start) = (RefusedSenders::default(), Instant::now());
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert!(senders.note(&a, refusal("body_too_large", Some(1)), 1, WallTime(1), at(0)));
        assert!(!senders.note(&a, refusal("body_too_large", Some(2)), 3, WallTime(2), at(10)), "that is known");
        assert!(senders.note(&a, refusal("not_json", None), 1, WallTime(3), at(11)), "another reason");
        assert!(senders.note(&b, refusal("not_json", None), 1, WallTime(4), at(12)), "another source");
        let first = RefusedSender {
            source: Arc::clone(&a),
            since: WallTime(1),
            count: 4,
            last: refusal("body_too_large", Some(2)),
        };
        let now = senders.now(at(24));
        assert_eq!((now.len(), &now[2]), (3, &first), "the last one is told first");
        assert_eq!((&now[0].source, now[0].last.reason), (&b, "not_json"));
        assert_eq!(senders.now(at(25)).len(), 2, "fifteen minutes after the last one");
        assert_eq!(senders.now(at(60)), []);
        assert!(senders.note(&a, refusal("body_too_large", None), 1, WallTime(9), at(60)), "it begins again");
        assert_eq!(senders.now(at(60))[0].since, WallTime(9));
    }
}
