//! The relay's readiness in lines for a person: what is not as it should be, since when, and what to do.

use serde_json::Value;

use super::terminal::plain;

/// The entries of a readiness: what is not as it should be.
pub(crate) fn degraded(readiness: &Value) -> &[Value] {
    readiness["degraded"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// An entry in two lines: `upstream_auth since 2026-01-02 03:04 UTC (401): unauthorized`, and its remedy.
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

/// A time of the API to the minute: `2026-01-02 03:04 UTC`.
pub(crate) fn minute(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(day), Some("T"), Some(minute)) => format!("{day} {minute} UTC"),
        _ => time.to_owned(),
    }
}
