//! Tells whether the relay takes events, and what keeps it from delivering them.

use std::borrow::Cow;

use serde::Serialize;

use super::View;
use crate::activity::{RefusedSender, SenderRefusal};
use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::delivery::breaker::Cause;
use crate::delivery::client::Upstream;
use crate::delivery::dispatcher::{Failing, Stuck, UpstreamStatus};
use crate::event::HoldRecord;
use crate::journal::SourceTotals;
use crate::journal::recorder::{Health, Remark, TurnedAway};
use crate::journal::request::Unavailable;
use crate::self_check::{Failing as CheckFailing, Report};

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    /// Events are taken. They are while the upstream is down: that is what the journal is for.
    pub(super) ready: bool,
    pub(super) degraded: Vec<Degradation>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Degradation {
    pub(super) reason: &'static str,
    pub(super) since: String,
    pub(super) status: Option<u16>,
    /// The side on which deliveries fail, where it is about them.
    pub(super) fault: Option<&'static str>,
    pub(super) detail: Option<String>,
    pub(super) remedy: Cow<'static, str>,
}

pub(super) fn readiness(view: &View) -> Readiness {
    let health = view.recorder.health();
    let upstream = view.upstream_status.borrow().clone();
    // Events are taken by the rules before, so that a reload that failed makes nothing unready.
    let reload: Vec<Degradation> = view.reload.borrow().degradations().collect();
    let (stuck, holds) = (of_stuck(&view.stuck.borrow()), of_holds(&view.recorder.holds()));
    let turned_away = view.recorder.turned_away();
    let degraded =
        [of_health(&health), of_upstream(upstream, &view.upstream), stuck, holds].into_iter().flatten().chain(reload);
    let self_check = view.self_check.borrow().as_ref().and_then(of_self_check);
    let degraded = degraded.chain(self_check).chain(view.certificate_degradations(WallTime::now()));
    let degraded = degraded.chain(view.secret_degradation());
    let remarks = view.recorder.remarks().into_iter().map(of_remark);
    let senders = of_senders(view.recorder.activity().senders_refused());
    let degraded = degraded.chain(turned_away.into_iter().map(of_share)).chain(remarks).chain(senders).collect();
    Readiness { ready: health == Health::Taking && !view.recorder.is_closed(), degraded }
}

fn of_health(health: &Health) -> Option<Degradation> {
    let Health::Refusing { why, detail, since } = health else {
        return None;
    };
    let remedy = match why {
        Unavailable::DiskFull => {
            "make room on the volume of `data_dir`, or give it a larger one; deliveries go on, and events are taken again by themselves"
        }
        Unavailable::Backlog => {
            "see why deliveries do not go on; replay or discard dead letters; or raise `journal.max_events`"
        }
        Unavailable::JournalReplaced => {
            "leave `data_dir` to the relay: it brings its journal back by itself; stop it before anything in there is moved, \
             restored or deleted"
        }
        _ => "check the disk of `data_dir`; events are taken again by themselves once it can be written",
    };
    let detail = Some(format!("{}: {detail}", why.as_str()));
    let reason = if *why == Unavailable::JournalReplaced { why.as_str() } else { "journal" };
    Some(Degradation { reason, since: since.rfc3339(), status: None, fault: None, detail, remedy: remedy.into() })
}

fn of_stuck(stuck: &Stuck) -> Option<Degradation> {
    let (event, Failing { since, trouble, status }) = stuck.first()?;
    let others = match stuck.len() as u64 - 1 + stuck.more {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Some(Degradation {
        reason: "events_failing",
        since: since.rfc3339(),
        status: *status,
        fault: Some(trouble.attribution().as_str()),
        detail: Some(format!("event {event}{others}: {}", trouble.as_str())),
        remedy: "only their own incident keys wait; `gander events show ID` tells what was answered, `gander events discard` \
                 ends one".into(),
    })
}

fn of_holds(holds: &[HoldRecord]) -> Option<Degradation> {
    let first = holds.iter().min_by_key(|hold| hold.since)?;
    let others = match holds.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Some(Degradation {
        reason: "held",
        since: first.since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(format!("a person holds back {}{others}", first.target)),
        remedy: "nothing of it is sent until `gander events release`; `gander events hold` lists what is held".into(),
    })
}

/// Events are taken, and perhaps delivered all the same, so it makes nothing unready.
fn of_self_check(report: &Report) -> Option<Degradation> {
    let CheckFailing { since, failure } = report.failing.as_ref()?;
    Some(Degradation {
        reason: "self_check_failed",
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(format!("source {}: {}", report.source, failure.detail())),
        remedy: failure.remedy().into(),
    })
}

/// Events of other sources are taken, so it makes nothing unready.
fn of_share(turned_away: TurnedAway) -> Degradation {
    let TurnedAway { source, since, totals: SourceTotals { queued, dead, bytes } } = turned_away;
    Degradation {
        reason: Unavailable::SourceShare.as_str(),
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(format!("source {source}: {queued} events queued, {dead} dead letters, {bytes} bytes in all")),
        remedy:
            "this source has its share of the queue and is told 503: find out why it sends so much, or why its events \
                 are not delivered; replay or discard its dead letters; or give it another share by `max_queued`"
                .into(),
    }
}

/// So many that the list stays readable; the last one says how many there are beside.
fn of_senders(mut senders: Vec<RefusedSender>) -> Vec<Degradation> {
    let others = senders.len().saturating_sub(SENDERS_MAX);
    senders.truncate(SENDERS_MAX);
    let mut told: Vec<Degradation> = senders.into_iter().map(of_sender).collect();
    if let Some(detail) = told.last_mut().and_then(|last| last.detail.as_mut()).filter(|_| others > 0) {
        detail.push_str(&format!("; and {others} more, see `gander_requests_refused_total`"));
    }
    told
}

/// An alert may be in what was refused. Others are taken, so it makes nothing unready.
fn of_sender(RefusedSender { source, since, count, last }: RefusedSender) -> Degradation {
    let SenderRefusal { reason, status, remedy, event } = last;
    let kept = event.map_or_else(String::new, |event| format!("; one was kept as event {event}"));
    Degradation {
        reason: "sender_refused",
        since: since.rfc3339(),
        status: Some(status),
        fault: None,
        detail: Some(format!("source {source}: {count} refused, {reason}{kept}")),
        remedy: remedy.into(),
    }
}

fn of_remark(Remark { reason, detail, remedy, since }: Remark) -> Degradation {
    Degradation {
        reason,
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(detail),
        remedy: remedy.into(),
    }
}

fn of_upstream(status: UpstreamStatus, upstream: &Upstream) -> Option<Degradation> {
    let UpstreamStatus::Unavailable { why, trouble, status, detail, since } = status else {
        return None;
    };
    let reason = match why {
        Cause::Failures => "breaker_open",
        Cause::Pause(Trouble::Unauthorized) => "upstream_auth",
        Cause::Pause(Trouble::ProxyUnauthorized | Trouble::ProxyRefused | Trouble::ProxyCertificate) => {
            "upstream_proxy"
        }
        Cause::Pause(Trouble::Tls(_)) => "upstream_tls",
        Cause::Pause(Trouble::NotJson) => "upstream_not_json",
        Cause::Pause(_) => "upstream_endpoint",
    };
    let called = format!("{} at {}", trouble.as_str(), upstream.shown_url());
    let detail = Some(match detail {
        Some(detail) => format!("{called}: {detail}"),
        None => called,
    });
    let fault = Some(trouble.attribution().as_str());
    Some(Degradation { reason, since: since.rfc3339(), status, fault, detail, remedy: upstream.remedy(trouble) })
}

const SENDERS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    #[test]
    fn what_was_kept_of_a_refused_sender_is_told_as_what_was_once() {
        let last = SenderRefusal { reason: "not_json", status: 400, remedy: "mend it", event: Some(EventId(7)) };
        let told = of_sender(RefusedSender { source: "s".into(), since: WallTime(0), count: 3, last });
        // It may have been replayed or pruned since.
        assert_eq!(told.detail.as_deref(), Some("source s: 3 refused, not_json; one was kept as event 7"));
    }

    #[test]
    fn of_many_refused_senders_some_are_told_and_the_rest_is_counted() {
        let sender = |number: usize| RefusedSender {
            source: format!("s{number}").into(),
            since: WallTime(0),
            count: 1,
            last: SenderRefusal { reason: "not_json", status: 400, remedy: "mend it", event: None },
        };
        let told = |number| of_senders((0..number).map(sender).collect());
        let last = |number| told(number).pop().and_then(|entry| entry.detail).unwrap();
        assert_eq!((told(0).len(), told(20).len(), told(25).len()), (0, 20, 20));
        assert_eq!(last(20), "source s19: 1 refused, not_json");
        assert_eq!(last(25), "source s19: 1 refused, not_json; and 5 more, see `gander_requests_refused_total`");
    }
}
