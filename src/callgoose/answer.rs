//! The meaning of the upstream's answers: the only place that maps its statuses and bodies.
//!
//! A success is decided by the body. Callgoose answers 202 when no filter matched, so that nobody was alerted; a
//! captive portal answers 200 with a page. Neither is a delivery.

mod said;
mod trouble;

use std::borrow::Cow;

use crate::event::{Action, Outcome};

use said::{Part, Reading, Said};

pub(crate) use trouble::HandshakeFault;
pub use trouble::Trouble;

/// The classification of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream accepted the call, with this outcome.
    Done(Outcome),
    /// The call may succeed later.
    Again(Trouble),
    /// The token, the endpoint or something on the way is wrong, not the event: no event is given up for it.
    Blocked(Trouble),
    /// The upstream will never take this event.
    Rejected(Trouble),
}

/// The body of an answer, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    pub bytes: &'a [u8],
    /// True if the body is incomplete: too long, too slow, or broken off.
    pub cut: bool,
    /// True if the headers declare it as HTML.
    pub page: bool,
}

/// Classifies an answer. Only for a 2xx does the body matter; a truncated body does not change the class.
pub fn judge(action: Action, status: u16, body: Body<'_>) -> Verdict {
    match status {
        200..=299 => read(action, status, body),
        408 | 425 | 429 | 503 => Verdict::Again(Trouble::Busy),
        500..=599 => Verdict::Again(Trouble::ServerError),
        401 | 403 => Verdict::Blocked(Trouble::Unauthorized),
        407 => Verdict::Blocked(Trouble::ProxyUnauthorized),
        300..=399 | 404 | 405 | 410 | 414 => Verdict::Blocked(Trouble::Endpoint),
        400..=499 => Verdict::Rejected(Trouble::Payload),
        // No other status is final (RFC 9110, section 15).
        _ => Verdict::Again(Trouble::ServerError),
    }
}

/// The verdict on a call without an answer. A token that can't be sent is as wrong as one that is refused, and time alone
/// fixes neither a certificate nor what a proxy allows.
pub(crate) fn judge_failure(trouble: Trouble) -> Verdict {
    match trouble {
        Trouble::Unauthorized | Trouble::ProxyUnauthorized | Trouble::ProxyRefused | Trouble::ProxyCertificate => {
            Verdict::Blocked(trouble)
        }
        Trouble::Tls(problem) if problem.is_lasting() => Verdict::Blocked(trouble),
        _ => Verdict::Again(trouble),
    }
}

/// The outcome by the body of a 2xx. A truncated one is accepted as far as it goes: after a retry the body would be
/// just as long.
fn read(action: Action, status: u16, body: Body<'_>) -> Verdict {
    let text = in_utf8(body.bytes);
    if text.trim_ascii().is_empty() {
        let page = body.cut && body.page;
        return if page { Verdict::Blocked(Trouble::NotJson) } else { Verdict::Done(Outcome::Accepted) };
    }
    let (said, accepted) = match said::read(&text) {
        Reading::Json(said) => (said, true),
        // A proxy may also truncate a body and declare it complete: its beginning still counts.
        Reading::Beginning(said) => (said, body.cut),
        Reading::NotJson => return Verdict::Blocked(Trouble::NotJson),
    };
    match outcome(action, status, said) {
        Some(outcome) => Verdict::Done(outcome),
        None if accepted => Verdict::Done(Outcome::Accepted),
        None => Verdict::Blocked(Trouble::NotJson),
    }
}

/// The outcome that the body states; none if it states none, or not yet.
fn outcome(action: Action, status: u16, said: Said) -> Option<Outcome> {
    let (part, done) = match action {
        Action::Trigger => (said.triggered, Outcome::Created),
        Action::Resolve => (said.resolved, Outcome::Resolved),
    };
    let Part { done: is_done, duplicate, whole } = part;
    match (is_done, duplicate) {
        (Some(true), _) => Some(done),
        (None, None) => None,
        // Several services may answer one call, and one that did it is enough: the missing part may still state it.
        (None, _) | (_, None) if !whole => None,
        (_, Some(true)) => Some(Outcome::Duplicate),
        _ if action == Action::Resolve && status != 202 => Some(Outcome::NotResolved),
        _ => Some(Outcome::Unmatched),
    }
}

/// The text in UTF-8 without a byte order mark, which a JSON parser may ignore (RFC 8259, section 8.1).
fn in_utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let utf16 = |text: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>()
    };
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Cow::Borrowed(text),
        [0xff, 0xfe, text @ ..] => Cow::Owned(utf16(text, u16::from_le_bytes).into_bytes()),
        [0xfe, 0xff, text @ ..] => Cow::Owned(utf16(text, u16::from_be_bytes).into_bytes()),
        text => Cow::Borrowed(text),
    }
}

impl Verdict {
    /// The reason why the call failed, if it did.
    pub fn trouble(self) -> Option<Trouble> {
        match self {
            Verdict::Done(_) => None,
            Verdict::Again(trouble) | Verdict::Blocked(trouble) | Verdict::Rejected(trouble) => Some(trouble),
        }
    }

    /// The word of the outcome or the trouble, for metrics and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Done(outcome) => outcome.as_str(),
            Verdict::Again(trouble) | Verdict::Blocked(trouble) | Verdict::Rejected(trouble) => trouble.as_str(),
        }
    }
}

impl<'a> Body<'a> {
    /// A complete body.
    pub fn whole(bytes: &'a [u8]) -> Body<'a> {
        Body { bytes, cut: false, page: false }
    }
}

#[cfg(test)]
mod tests {
    use super::trouble::Attribution;
    use super::*;
    use Action::{Resolve, Trigger};
    use Outcome::{Accepted, Created, Duplicate, NotResolved, Resolved, Unmatched};

    const CREATED: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}}"#;
    const RESOLVED: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":true},"triggered":{"duplicate":false,"created":false}}"#;
    const NEITHER: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":false}}"#;
    const TWICE: &str =
        r#"{"id":"1","resolved":{"duplicate":true,"resolved":false},"triggered":{"duplicate":true,"created":false}}"#;
    const BOTH: &str =
        r#"{"id":"1","resolved":{"duplicate":true,"resolved":true},"triggered":{"duplicate":true,"created":true}}"#;

    #[test]
    fn a_call_without_an_answer_is_made_again_unless_only_a_person_can_mend_it() {
        for trouble in [Trouble::Dns, Trouble::Connect, Trouble::Proxy, Trouble::Reset, Trouble::Timeout] {
            assert_eq!(judge_failure(trouble), Verdict::Again(trouble));
        }
        assert_eq!(
            judge_failure(Trouble::Tls(HandshakeFault::Other)),
            Verdict::Again(Trouble::Tls(HandshakeFault::Other))
        );
        for trouble in [
            Trouble::Unauthorized,
            Trouble::ProxyUnauthorized,
            Trouble::ProxyRefused,
            Trouble::ProxyCertificate,
            Trouble::Tls(HandshakeFault::Issuer),
        ] {
            assert_eq!(judge_failure(trouble), Verdict::Blocked(trouble));
        }
    }

    #[test]
    fn only_what_was_not_done_met_a_trouble() {
        for (verdict, trouble, word) in [
            (Verdict::Done(Unmatched), None, "unmatched"),
            (Verdict::Again(Trouble::Busy), Some(Trouble::Busy), "busy"),
            (Verdict::Blocked(Trouble::Endpoint), Some(Trouble::Endpoint), "endpoint"),
            (Verdict::Rejected(Trouble::Payload), Some(Trouble::Payload), "payload"),
        ] {
            assert_eq!((verdict.trouble(), verdict.as_str()), (trouble, word), "{verdict:?}");
        }
    }

    #[test]
    fn an_answer_is_what_its_body_says() {
        for (action, status, body, outcome) in [
            (Trigger, 201, CREATED, Created),
            // A wrong status does not change what was done.
            (Trigger, 202, CREATED, Created),
            (Trigger, 202, NEITHER, Unmatched),
            (Trigger, 200, NEITHER, Unmatched),
            (Trigger, 201, NEITHER, Unmatched),
            (Trigger, 200, RESOLVED, Unmatched),
            (Trigger, 200, TWICE, Duplicate),
            // Several services may answer one call: one that created is enough.
            (Trigger, 201, BOTH, Created),
            (Resolve, 200, RESOLVED, Resolved),
            (Resolve, 200, BOTH, Resolved),
            (Resolve, 200, TWICE, Duplicate),
            (Resolve, 200, NEITHER, NotResolved),
            (Resolve, 202, NEITHER, Unmatched),
            (Resolve, 201, CREATED, NotResolved),
            (Trigger, 200, "", Accepted),
            (Resolve, 204, "  \r\n", Accepted),
            (Trigger, 200, r#"{"id":"1"}"#, Accepted),
            (Trigger, 200, r#"{"triggered":true}"#, Accepted),
            (Trigger, 200, "[]", Accepted),
            (Resolve, 200, r#"{"triggered":{"created":true,"duplicate":false}}"#, Accepted),
        ] {
            assert_eq!(
                judge(action, status, Body::whole(body.as_bytes())),
                Verdict::Done(outcome),
                "{action} {status} {body}"
            );
        }
    }

    #[test]
    fn a_page_is_no_delivery() {
        for body in ["<html>Please log in</html>", "OK", "{\"triggered\":", "{}<p>", "\u{feff}", "\u{feff}<html>"] {
            let expected =
                if body == "\u{feff}" { Verdict::Done(Accepted) } else { Verdict::Blocked(Trouble::NotJson) };
            assert_eq!(judge(Trigger, 200, Body::whole(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn a_byte_order_mark_before_json_says_nothing() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| format!("\u{feff}{CREATED}").encode_utf16().flat_map(unit).collect();
        let bodies: [Vec<u8>; 3] =
            [format!("\u{feff}{CREATED}").into_bytes(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)];
        for body in bodies {
            assert_eq!(judge(Trigger, 201, Body::whole(&body)), Verdict::Done(Created), "{body:?}");
        }
    }

    #[test]
    fn a_body_that_was_cut_off_is_believed_as_far_as_it_goes() {
        let page = Verdict::Blocked(Trouble::NotJson);
        for (sentence, action, body, html, verdict) in [
            ("it says so before its end", Trigger, r#"{"triggered":{"created":true"#, false, Verdict::Done(Created)),
            (
                "also where it is called a page",
                Trigger,
                r#"{"triggered":{"created":true"#,
                true,
                Verdict::Done(Created),
            ),
            (
                "it says all of it",
                Resolve,
                r#"{"resolved":{"duplicate":false,"resolved":true},"x":""#,
                false,
                Verdict::Done(Resolved),
            ),
            (
                "nothing was made, as far as is said",
                Trigger,
                r#"{"triggered":{"created":false,"dupl"#,
                false,
                Verdict::Done(Accepted),
            ),
            (
                "it is a repeat, as far as is said",
                Trigger,
                r#"{"triggered":{"duplicate":true,"#,
                false,
                Verdict::Done(Accepted),
            ),
            ("nothing was made", Trigger, r#"{"triggered":{"created":false},"#, false, Verdict::Done(Unmatched)),
            ("a repeat", Trigger, r#"{"triggered":{"created":false,"duplicate":true"#, false, Verdict::Done(Duplicate)),
            (
                "nothing was found",
                Resolve,
                r#"{"resolved":{"resolved":false,"duplicate":false"#,
                false,
                Verdict::Done(NotResolved),
            ),
            ("it did not come to it", Trigger, r#"{"id":"aaaa"#, false, Verdict::Done(Accepted)),
            ("nothing came", Trigger, "", false, Verdict::Done(Accepted)),
            ("nothing but space came", Trigger, " \r\n", false, Verdict::Done(Accepted)),
            ("nothing came of what is called a page", Trigger, "", true, page),
            ("a page", Trigger, "<!doctype html><html>", false, page),
            ("text", Trigger, "upstream connect error", false, page),
        ] {
            let body = Body { bytes: body.as_bytes(), cut: true, page: html };
            assert_eq!(judge(action, 200, body), verdict, "{sentence}");
        }
    }

    #[test]
    fn what_a_body_that_claims_to_be_whole_said_before_it_stopped_was_said() {
        let body = &CREATED[..CREATED.len() - 1];
        assert_eq!(judge(Trigger, 201, Body::whole(body.as_bytes())), Verdict::Done(Created));
        assert_eq!(judge(Trigger, 201, Body::whole(&body.as_bytes()[..40])), Verdict::Blocked(Trouble::NotJson));
    }

    #[test]
    fn only_the_body_of_a_success_is_asked() {
        for status in (100..200).chain(300..=999) {
            for body in ["", CREATED, "<html>", "{"] {
                let whole = judge(Trigger, status, Body::whole(body.as_bytes()));
                let cut = judge(Trigger, status, Body { bytes: body.as_bytes(), cut: true, page: true });
                assert_eq!((whole, cut), (judge(Trigger, status, Body::whole(b"")), whole), "{status} {body}");
            }
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let class = |status| match judge(Trigger, status, Body::whole(b"")) {
            Verdict::Done(_) => "done",
            Verdict::Again(_) => "again",
            Verdict::Blocked(_) => "blocked",
            Verdict::Rejected(_) => "rejected",
        };
        for status in 100..=999 {
            let expected = match status {
                200..=299 => "done",
                408 | 425 | 429 => "again",
                401 | 403 | 407 | 404 | 405 | 410 | 414 | 300..=399 => "blocked",
                400..=499 => "rejected",
                _ => "again",
            };
            assert_eq!(class(status), expected, "{status}");
        }
    }

    #[test]
    fn every_trouble_has_a_word_of_its_own_a_side_and_a_remedy() {
        use Attribution::{Network, Proxy, Relay, Upstream};
        let troubles = [
            (Trouble::Dns, Network),
            (Trouble::Connect, Network),
            (Trouble::Tls(HandshakeFault::Issuer), Network),
            (Trouble::Reset, Upstream),
            (Trouble::Timeout, Upstream),
            (Trouble::NotJson, Proxy),
            (Trouble::Busy, Upstream),
            (Trouble::ServerError, Upstream),
            (Trouble::Unauthorized, Relay),
            (Trouble::Proxy, Proxy),
            (Trouble::ProxyUnauthorized, Proxy),
            (Trouble::ProxyRefused, Proxy),
            (Trouble::ProxyCertificate, Proxy),
            (Trouble::Endpoint, Relay),
            (Trouble::Payload, Relay),
        ];
        let distinct = |words: &[&str]| {
            assert!(words.iter().all(|word| !word.is_empty()));
            words.iter().collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(troubles.map(|(trouble, _)| trouble.as_str()), Trouble::ALL.map(Trouble::as_str));
        assert_eq!(distinct(&Trouble::ALL.map(Trouble::as_str)), 15);
        assert_eq!(distinct(&[Network, Proxy, Upstream, Relay].map(Attribution::as_str)), 4);
        // What only time fixes has one remedy.
        assert_eq!(distinct(&troubles.map(|(trouble, _)| trouble.remedy())), 12);
        let handshakes = [
            HandshakeFault::Name,
            HandshakeFault::Expired,
            HandshakeFault::NotYetValid,
            HandshakeFault::Issuer,
            HandshakeFault::Certificate,
            HandshakeFault::Version,
            HandshakeFault::ClientCertificate,
            HandshakeFault::Other,
        ];
        assert_eq!(distinct(&handshakes.map(|problem| Trouble::Tls(problem).remedy())), 8);
        assert_eq!(distinct(&handshakes.map(|problem| Trouble::Tls(problem).as_str())), 1);
        for (trouble, side) in troubles {
            assert_eq!(trouble.attribution(), side, "{trouble:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged(
            status in 0_u16..=999,
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            cut: bool,
            page: bool,
        ) {
            let body = Body { bytes: &bytes, cut, page };
            judge(Trigger, status, body);
            judge(Resolve, status, body);
        }

        #[test]
        fn a_body_that_was_cut_off_has_the_outcome_of_the_whole_or_none(
            said in proptest::sample::select(&[CREATED, RESOLVED, NEITHER, TWICE, BOTH]),
            status in proptest::sample::select(&[200, 201, 202]),
            resolve: bool,
            end in 0..200_usize,
        ) {
            let action = if resolve { Resolve } else { Trigger };
            let whole = judge(action, status, Body::whole(said.as_bytes()));
            let bytes = &said.as_bytes()[..end.min(said.len())];
            let cut = judge(action, status, Body { bytes, cut: true, page: false });
            proptest::prop_assert!(cut == whole || bytes.len() < said.len() && cut == Verdict::Done(Accepted));
        }
    }
}
