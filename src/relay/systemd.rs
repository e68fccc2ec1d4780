//! Tells systemd, or whatever else understands sd_notify(3), how the relay is. Without one nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::journal::recorder::{Health, Recorder};

/// Events are taken.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("taking events")]);
}

/// The configuration is read again; [`ready`] ends it.
pub(crate) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// No more events are taken.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing requests and calls under way")]);
}

/// Feeds the watchdog (`WatchdogSec=`) for as long as the recorder's thread answers, and while it says what keeps it from
/// taking events: a disk that hangs, and a journal that is being repaired, a new start would not better. Never returns
/// where there is none.
pub(crate) async fn feed_watchdog(recorder: Recorder) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let every = (limit / FEEDS).max(Duration::from_millis(1));
    loop {
        let answers = tokio::time::timeout(every, answers(&recorder)).await.is_ok();
        if answers || recorder.health() != Health::Taking {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(every).await;
    }
}

/// Returns once the recorder's thread has answered. A queue that is full just now is asked again.
async fn answers(recorder: &Recorder) {
    while recorder.tally(Vec::new()).await.is_none() {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}

/// Meals within the limit: one slow answer is borne.
const FEEDS: u32 = 4;
const ASK_AGAIN: Duration = Duration::from_millis(100);
