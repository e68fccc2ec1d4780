//! How deliveries go as a whole: for readiness, and for the one log line when that changes.

use tokio::sync::watch;

use super::{Called, Context};
use crate::callgoose::answer::{Trouble, Verdict};
use crate::clock::WallTime;
use crate::delivery::breaker::Cause;

/// The state of affairs between the relay and the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Calls go out.
    Fine,
    /// Only probes do.
    Shut { why: Cause, trouble: Trouble, status: Option<u16>, detail: Option<String>, since: WallTime },
}

/// Takes over how a call left the breaker. What is logged is the change: one line at the beginning of an outage, one at
/// its end.
pub(super) fn notice(
    condition: &watch::Sender<Condition>,
    open: Option<Cause>,
    verdict: Verdict,
    called: &Called,
    context: &Context,
    now: WallTime,
) {
    context.metrics.breaker_open.set(i64::from(open == Some(Cause::Failures)));
    context.metrics.paused.set(i64::from(matches!(open, Some(Cause::Pause(_)))));
    let known = condition.borrow().clone();
    if open.is_none() && known == Condition::Fine {
        return;
    }
    let url = context.upstream.shown_url();
    let Some(why) = open else {
        condition.send_replace(Condition::Fine);
        tracing::info!(url, "the upstream answers as it should again; deliveries go on");
        return;
    };
    let trouble = match verdict {
        Verdict::Again(trouble) | Verdict::Blocked(trouble) | Verdict::Rejected(trouble) => trouble,
        Verdict::Done(_) => return,
    };
    let (status, detail) = (called.status(), called.detail());
    let since = match known {
        Condition::Shut { why: known, since, .. } if known == why => Some(since),
        _ => None,
    };
    let now = Condition::Shut { why, trouble, status, detail: detail.clone(), since: since.unwrap_or(now) };
    condition.send_replace(now);
    if since.is_some() {
        return;
    }
    let (reason, fault, remedy) = (trouble.as_str(), trouble.attribution().as_str(), trouble.remedy());
    match why {
        Cause::Failures => tracing::warn!(
            url,
            reason,
            fault,
            status,
            detail,
            remedy,
            "the upstream fails again and again: the breaker is open, one probe at a time goes on; nothing is lost"
        ),
        Cause::Pause(_) => tracing::error!(
            url,
            reason,
            fault,
            status,
            detail,
            remedy,
            "deliveries are paused until this is mended; one probe at a time goes on; nothing is lost"
        ),
    }
}
