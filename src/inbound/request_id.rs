//! The id of a request, made by the relay, and its trace: in its response, its log lines and the journal.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::clock::WallTime;
use crate::trace_context::TraceContext;

/// The ids and the times of a request.
#[derive(Debug)]
pub(super) struct RequestMetadata {
    pub(super) id: Arc<str>,
    /// The `X-Request-Id` that the sender gave, shortened and escaped.
    pub(super) sender_id: Option<Arc<str>>,
    /// The trace that the sender named, else one that begins here.
    pub(super) trace: TraceContext,
    pub(super) received_at: WallTime,
    pub(super) started: Instant,
}

impl RequestMetadata {
    /// For a request that comes now, with these headers where they could be read.
    pub(super) fn now(headers: Option<&HeaderMap>) -> RequestMetadata {
        let (received_at, started) = (WallTime::now(), Instant::now());
        let sender_id = headers.and_then(|headers| headers.get(X_REQUEST_ID)).map(|id| sender_id(id.as_bytes()).into());
        let trace = headers.and_then(TraceContext::of_headers);
        let trace = trace.unwrap_or_else(|| TraceContext::begin(fastrand::u128(..)));
        RequestMetadata { id: request_id(received_at), sender_id, trace, received_at, started }
    }

    /// Puts the id into a response.
    pub(super) fn identify(&self, response: &mut Response<Bytes>) {
        if let Ok(value) = HeaderValue::from_str(&self.id) {
            response.headers_mut().insert(X_REQUEST_ID, value);
        }
    }
}

/// Makes an id of 26 characters: 48 bits of time, so that ids sort as requests came, then 80 random bits.
pub(crate) fn request_id(at: WallTime) -> Arc<str> {
    let millis = u128::from(u64::try_from(at.0).unwrap_or(0)) & ((1 << 48) - 1);
    let random = fastrand::u128(..) & ((1 << 80) - 1);
    let bits = millis << 80 | random;
    let mut text = [0_u8; 26];
    for (index, character) in text.iter_mut().enumerate() {
        let digit = (bits >> (5 * (25 - index))) & 0x1f;
        *character = ALPHABET[usize::try_from(digit).unwrap_or(0)];
    }
    String::from_utf8_lossy(&text).into()
}

/// The time in an id, when its request came; none where the text is no id.
pub(crate) fn request_time(id: &str) -> Option<WallTime> {
    // Ten characters of five bits hold the 48 bits of time and two that are zero.
    let digit = |byte| ALPHABET.iter().position(|letter| *letter == byte).and_then(|digit| i64::try_from(digit).ok());
    let (time, rest) = id.as_bytes().split_at_checked(10)?;
    (rest.len() == 16).then_some(())?;
    time.iter().try_fold(0, |millis, byte| Some(millis << 5 | digit(*byte)?)).map(WallTime)
}

/// Shortens and escapes a sender's own id for the log and the journal, so that it can't forge a line.
pub(crate) fn sender_id(given: &[u8]) -> String {
    given[..given.len().min(SENDER_ID_BYTES_MAX)].escape_ascii().to_string()
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SENDER_ID_BYTES_MAX: usize = 128;
/// Crockford's base 32: no letter looks like a digit, and the order is that of ASCII.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_sort_by_time() {
        let ids: Vec<_> = (0..1_000).map(|at| request_id(WallTime(1_764_000_000_000 + at))).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        let same: std::collections::HashSet<_> = (0..1_000).map(|_| request_id(WallTime(5))).collect();
        assert_eq!(same.len(), 1_000);
        assert!(same.iter().all(|id| id.len() == 26 && id.bytes().all(|byte| ALPHABET.contains(&byte))));
    }

    #[test]
    fn an_id_tells_when_its_request_came() {
        for at in [0, 5, 1_764_000_000_123, (1 << 48) - 1] {
            assert_eq!(request_time(&request_id(WallTime(at))), Some(WallTime(at)));
        }
        for wrong in ["", "01REQUEST", "UUUUUUUUUUUUUUUUUUUUUUUUUU", &"0".repeat(27), "ééééééééééééé"] {
            assert_eq!(request_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_senders_id_forges_no_line_of_the_log() {
        assert_eq!(sender_id(b"abc-123"), "abc-123");
        assert_eq!(sender_id(b"a\tb\"c\xff"), r#"a\tb\"c\xff"#);
        assert!(sender_id(&[b'x'; 1_000]).len() <= SENDER_ID_BYTES_MAX);
        assert_eq!(sender_id(request_id(WallTime(5)).as_bytes()).len(), 26, "ours stays as it is");
    }

    #[test]
    fn a_clock_before_1970_does_no_harm() {
        assert_eq!(request_id(WallTime(-1)).len(), 26);
    }
}
