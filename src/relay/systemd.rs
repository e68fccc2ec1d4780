//! Tells systemd, or whatever else understands sd_notify(3), how the relay is. Without one nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::journal::recorder::Recorder;

/// Events are taken.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("taking events")]);
}

/// The configuration is read again; [`ready`] ends it.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// No more events are taken.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing requests and calls under way")]);
}

/// Feeds the watchdog (`WatchdogSec=`) for as long as the recorder's thread answers. Never returns where there is none.
pub async fn feed_watchdog(recorder: Recorder) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Half of the limit, as sd_watchdog_enabled(3) recommends; the other half is for one slow answer.
    let every = (limit / 2).max(Duration::from_millis(1));
    loop {
        // One that has nothing to tell answers, too.
        if tokio::time::timeout(every, recorder.tally(Vec::new())).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(every).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
