//! The queue that a start takes over from the run before: events with their retries, recent triggers, holds.

use crate::clock::Now;
use crate::delivery::retry::{self, RetryState};
use crate::delivery::schedule::Schedule;
use crate::event::{HoldRecord, Queued, SourceNames};
use crate::journal::{self, Delivered, Reader, StoredRetry};

use super::queue_commands::set_hold;
use super::recent_triggers::RecentTriggers;

/// Puts an event that was queued before this start into the schedule, where its retries stood.
pub fn restore(schedule: &mut Schedule, event: &Queued, tried: Option<StoredRetry>, retry: retry::Settings, now: Now) {
    let Some(StoredRetry { attempts, age, retry_at, asked }) = tried else {
        schedule.enqueue(event, now.monotonic);
        return;
    };
    let state = RetryState { attempts, since: now.monotonic.before(age), resends: 0, answered: None };
    let wait = retry::wait_left(retry, retry_at, asked, now.wall);
    schedule.enqueue_tried(event, state, now.monotonic.after(wait));
}

/// The keys that had a trigger delivered shortly before this start.
pub(crate) fn recent_triggers(
    reader: &Reader,
    retry: retry::Settings,
    now: Now,
) -> Result<RecentTriggers, journal::Error> {
    let within = retry.unresolved.over;
    let mut recent = RecentTriggers::new(within);
    for Delivered { key, action, outcome, at } in reader.delivered_since(now.wall.before(within))? {
        recent.delivered(key, action, outcome, now.monotonic.before(now.wall.since(at)));
    }
    Ok(recent)
}

/// Holds back what was held back before this start.
pub(crate) fn restore_holds(schedule: &mut Schedule, holds: &[HoldRecord], sources: &SourceNames, now: Now) {
    for HoldRecord { target, .. } in holds {
        set_hold(schedule, target, true, sources, now.monotonic);
    }
}
