//! The relay's readiness in lines for a person: what is not as it should be, since when, and what to do.

use serde_json::Value;

use super::list;
use crate::text::plain;

/// The entries of a readiness: what is not as it should be.
pub(crate) fn degraded(readiness: &Value) -> &[Value] {
    list(readiness, "degraded")
}

/// Advice for a relay that tells only that it is ready.
pub(crate) const NO_DETAILS: &str = "the relay tells the rest to whoever shows its admin token: set the variable or file that \
                                     `admin.token` names to the token in use";

/// An entry in two lines: `held since 2026-01-02 03:04 UTC: a person holds back …`, and its remedy.
pub(crate) fn degradation(entry: &Value) -> [String; 2] {
    let text = |name: &str| plain(entry[name].as_str().unwrap_or_default());
    let mut line = format!("{} since {}", text("reason"), minute(&text("since")));
    if let Some(status) = entry["status"].as_u64() {
        line += &format!(" ({status})");
    }
    if entry["detail"].is_string() {
        line += &format!(": {}", text("detail"));
    }
    [line, format!("-> {}", text("remedy"))]
}

/// The words of an entry on deliveries: why they are paused or fail. None if it is about something else.
pub(crate) fn of_deliveries(entry: &Value) -> Option<String> {
    let said = match entry["reason"].as_str()? {
        "upstream_auth" => "Callgoose refuses the token",
        "upstream_proxy" => "the proxy does not let the calls through",
        "upstream_tls" => "no TLS connection to Callgoose can be made",
        "upstream_not_json" => "a page comes instead of Callgoose's answer",
        "breaker_open" => "Callgoose fails again and again, or can't be reached",
        reason if reason.starts_with("upstream_") => "what answers is not the endpoint that takes events",
        _ => return None,
    };
    let status = entry["status"].as_u64().map_or_else(String::new, |status| format!(" ({status})"));
    let detail = entry["detail"].as_str().map_or_else(String::new, |detail| format!("; {}", plain(detail)));
    Some(format!("{said}{status}{detail}"))
}

/// A time of the API to the minute: `2026-01-02 03:04 UTC`.
pub(crate) fn minute(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(day), Some("T"), Some(minute)) => format!("{day} {minute} UTC"),
        _ => time.to_owned(),
    }
}
