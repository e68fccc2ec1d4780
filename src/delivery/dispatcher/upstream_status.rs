//! The status of the upstream for readiness, and the log line when it changes.

use tokio::sync::watch;

use super::{Context, FinishedCall};
use crate::callgoose::answer::{Trouble, Verdict};
use crate::clock::WallTime;
use crate::delivery::breaker::Cause;

/// The status of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamStatus {
    /// Calls go out.
    Answering { since: WallTime },
    /// The breaker is open: only probes go out.
    Unavailable { why: Cause, trouble: Trouble, status: Option<u16>, detail: Option<String>, since: WallTime },
}

/// Updates the status after a call. Only changes are logged: one line at the beginning of an outage, one at its end.
pub(super) fn update(
    status: &watch::Sender<UpstreamStatus>,
    open: Option<Cause>,
    verdict: Verdict,
    called: &FinishedCall,
    context: &Context,
    now: WallTime,
) {
    context.metrics.delivery.breaker_open.set(i64::from(open == Some(Cause::Failures)));
    context.metrics.delivery.paused.set(i64::from(matches!(open, Some(Cause::Pause(_)))));
    let known = status.borrow().clone();
    if open.is_none() && matches!(known, UpstreamStatus::Answering { .. }) {
        return;
    }
    let url = context.upstream.shown_url();
    let Some(why) = open else {
        status.send_replace(UpstreamStatus::Answering { since: now });
        tracing::info!(url, "the upstream answers correctly again; deliveries go on");
        return;
    };
    let Some(trouble) = verdict.trouble() else { return };
    let (code, detail) = (called.status(), called.detail());
    let since = match known {
        UpstreamStatus::Unavailable { why: known, since, .. } if known == why => Some(since),
        _ => None,
    };
    let now =
        UpstreamStatus::Unavailable { why, trouble, status: code, detail: detail.clone(), since: since.unwrap_or(now) };
    status.send_replace(now);
    if since.is_some() {
        return;
    }
    let (reason, fault, remedy) = (trouble.as_str(), trouble.attribution().as_str(), context.upstream.remedy(trouble));
    match why {
        Cause::Failures => tracing::warn!(
            url,
            reason,
            fault,
            status = code,
            detail,
            %remedy,
            "the upstream keeps failing: the breaker is open, one probe at a time goes on; nothing is lost"
        ),
        Cause::Pause(_) => tracing::error!(
            url,
            reason,
            fault,
            status = code,
            detail,
            %remedy,
            "deliveries are paused until this is fixed; one probe at a time goes on; nothing is lost"
        ),
    }
}
