//! `Prefer: wait=N` (RFC 7240): the time that a sender would like to wait for the upstream's answer.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads the seconds of the first `wait` preference; none where there is none or it is no number. Unknown and malformed
/// preferences are ignored, as the RFC asks.
pub(super) fn wait_seconds(headers: &HeaderMap) -> Option<u64> {
    let mut preferences = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|preference| preference.split(';').next().unwrap_or_default());
    preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let digits = value.trim().trim_matches('"');
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than fit stand for the longest wait there is.
        Some(all_digits.then(|| digits.parse().unwrap_or(u64::MAX)))
    })?
}

/// The header that says that a preference was followed.
pub(super) fn applied(wait: Duration) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()?;
    Some((PREFERENCE_APPLIED, value))
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_counts_and_what_is_malformed_does_not() {
        let rows: &[(&[&str], Option<u64>)] = &[
            (&[], None),
            (&["wait=5"], Some(5)),
            (&["Wait = \"5\""], Some(5)),
            (&["respond-async, wait=10; x=y, wait=20"], Some(10)),
            (&["respond-async", "wait=3"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=99999999999999999999999"], Some(u64::MAX)),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait=soon, wait=4"], None),
            (&["waiting=4"], None),
            (&[",,;=,"], None),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(PREFER, value.parse().unwrap());
            }
            assert_eq!(wait_seconds(&headers), *expected, "{values:?}");
        }
    }
}
