//! What an answer of the upstream means: the one place that maps its statuses and bodies.
//!
//! A success is what the body says it is. Callgoose answers 202 when no filter matched, which means that nobody
//! was alerted; a captive portal answers 200 with a page. Neither is a delivery that anyone should believe.

use serde::Deserialize;
use serde_json::Value;

use crate::event::{Action, Outcome};

/// An answer, classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream has taken the call and this is what it did.
    Done(Outcome),
    /// The same call may succeed later.
    Again(Trouble),
    /// The token, the endpoint or something on the way is wrong, not the event: no event is given up for it.
    Blocked(Trouble),
    /// The upstream will never take this event.
    Rejected(Trouble),
}

/// What kept a call from being done. The word is the metric label, the log field and the reason in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The name of the upstream's host can't be looked up.
    Dns,
    /// No connection: refused, unreachable, reset while connecting.
    Connect,
    /// The TLS handshake failed: a certificate that is not trusted, or a host that speaks no TLS.
    Tls,
    /// The connection broke after the request was sent; the upstream may have done it or not.
    Reset,
    /// No answer in time; the upstream may have done it or not.
    Timeout,
    /// A 2xx with a page instead of JSON: a captive portal or a block page on the way.
    NotJson,
    /// 408, 425, 429, 503: later.
    Busy,
    /// Another 5xx.
    ServerError,
    /// 401 or 403: the token is missing, wrong or expired.
    Unauthorized,
    /// 407: the proxy on the way wants credentials.
    ProxyUnauthorized,
    /// 3xx, 404, 405, 410, 414: this is not the endpoint.
    Endpoint,
    /// 400, 413, 422 or another 4xx: the event itself is not accepted.
    Payload,
}

/// On whose side the fault lies, as far as can be told from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    Network,
    Proxy,
    Upstream,
    /// The relay's own configuration, or what it was made to send.
    Relay,
}

/// The answer's body as it is documented. What is missing is not said.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Answer {
    triggered: Triggered,
    resolved: Resolved,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Triggered {
    created: Option<bool>,
    duplicate: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Resolved {
    resolved: Option<bool>,
    duplicate: Option<bool>,
}

/// Classifies an answer by status and body.
pub fn judge(action: Action, status: u16, body: &[u8]) -> Verdict {
    match status {
        200..=299 => read(action, status, body),
        408 | 425 | 429 | 503 => Verdict::Again(Trouble::Busy),
        500..=599 => Verdict::Again(Trouble::ServerError),
        401 | 403 => Verdict::Blocked(Trouble::Unauthorized),
        407 => Verdict::Blocked(Trouble::ProxyUnauthorized),
        300..=399 | 404 | 405 | 410 | 414 => Verdict::Blocked(Trouble::Endpoint),
        400..=499 => Verdict::Rejected(Trouble::Payload),
        // Nothing else is a final status (RFC 9110, section 15).
        _ => Verdict::Again(Trouble::ServerError),
    }
}

/// The outcome by the body of a 2xx.
fn read(action: Action, status: u16, body: &[u8]) -> Verdict {
    if body.trim_ascii().is_empty() {
        return Verdict::Done(Outcome::Accepted);
    }
    let Some(Answer { triggered, resolved }) = Answer::of(body) else {
        return Verdict::Blocked(Trouble::NotJson);
    };
    let outcome = match action {
        Action::Trigger => match (triggered.created, triggered.duplicate) {
            (None, None) => Outcome::Accepted,
            (Some(true), _) => Outcome::Created,
            (_, Some(true)) => Outcome::Duplicate,
            _ => Outcome::Unmatched,
        },
        Action::Resolve => match (resolved.resolved, resolved.duplicate) {
            (None, None) => Outcome::Accepted,
            (Some(true), _) => Outcome::Resolved,
            (_, Some(true)) => Outcome::Duplicate,
            _ if status == 202 => Outcome::Unmatched,
            _ => Outcome::NotResolved,
        },
    };
    Verdict::Done(outcome)
}

impl Answer {
    /// Reads what the upstream said; none if it is no JSON.
    fn of(body: &[u8]) -> Option<Answer> {
        // As documented, it is read without building a tree. In a list serde would find a struct's fields by position.
        let documented = if body.contains(&b'[') { None } else { serde_json::from_slice(body).ok() };
        documented.or_else(|| serde_json::from_slice(body).ok().map(|tree| Answer::in_tree(&tree)))
    }

    fn in_tree(tree: &Value) -> Answer {
        let said = |part: &str, word: &str| tree.get(part)?.get(word)?.as_bool();
        Answer {
            triggered: Triggered { created: said("triggered", "created"), duplicate: said("triggered", "duplicate") },
            resolved: Resolved { resolved: said("resolved", "resolved"), duplicate: said("resolved", "duplicate") },
        }
    }
}

impl Trouble {
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Dns => "dns",
            Trouble::Connect => "connect",
            Trouble::Tls => "tls",
            Trouble::Reset => "reset",
            Trouble::Timeout => "timeout",
            Trouble::NotJson => "not_json",
            Trouble::Busy => "busy",
            Trouble::ServerError => "server_error",
            Trouble::Unauthorized => "unauthorized",
            Trouble::ProxyUnauthorized => "proxy_unauthorized",
            Trouble::Endpoint => "endpoint",
            Trouble::Payload => "payload",
        }
    }

    pub fn attribution(self) -> Attribution {
        match self {
            Trouble::Dns | Trouble::Connect | Trouble::Tls => Attribution::Network,
            Trouble::NotJson | Trouble::ProxyUnauthorized => Attribution::Proxy,
            Trouble::Reset | Trouble::Timeout | Trouble::Busy | Trouble::ServerError => Attribution::Upstream,
            Trouble::Unauthorized | Trouble::Endpoint | Trouble::Payload => Attribution::Relay,
        }
    }

    /// What a person can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Trouble::Dns => "check the host name in `upstream.url` and the resolver of this machine",
            Trouble::Connect => "check `upstream.url` and that the firewall lets this machine reach it",
            Trouble::Tls => "check `upstream.tls.ca` and whether something on the way intercepts TLS",
            Trouble::Reset | Trouble::Timeout | Trouble::Busy | Trouble::ServerError => {
                "wait: the upstream is tried again until it answers"
            }
            Trouble::NotJson => {
                "something between here and the upstream answered with a page: check proxy and firewall"
            }
            Trouble::Unauthorized => "check the token in `upstream.authorization` and its scope",
            Trouble::ProxyUnauthorized => "a proxy on the way wants credentials",
            Trouble::Endpoint => "check `upstream.url`: this is not the endpoint that takes events",
            Trouble::Payload => {
                "compare what was sent with what the upstream accepts; then replay or discard the event"
            }
        }
    }
}

impl Attribution {
    pub fn as_str(self) -> &'static str {
        match self {
            Attribution::Network => "network",
            Attribution::Proxy => "proxy",
            Attribution::Upstream => "upstream",
            Attribution::Relay => "relay",
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(judge(action, status, body.as_bytes()), Verdict::Done(outcome), "{action} {status} {body}");
        }
    }

    #[test]
    fn a_page_is_no_delivery() {
        for body in ["<html>Please log in</html>", "OK", "{\"triggered\":", "\u{feff}{}"] {
            assert_eq!(judge(Trigger, 200, body.as_bytes()), Verdict::Blocked(Trouble::NotJson), "{body}");
        }
    }

    #[test]
    fn an_answer_is_read_the_same_with_and_without_a_tree() {
        for body in [
            CREATED,
            BOTH,
            r#"{"triggered":{"created":true,"created":false},"resolved":{}}"#,
            r#"{"triggered":[true,false]}"#,
            r#"[{"created":true},{"resolved":true}]"#,
            r#"[[true,false],[true,false]]"#,
            r#"{"triggered":{"created":"true","duplicate":true}}"#,
            r#"{"triggered":null,"resolved":{"resolved":null}}"#,
            r#"{"triggered":{"created":true},"more":[1]}"#,
            "true",
            "null",
            "7",
            r#""created""#,
        ] {
            let tree: Value = serde_json::from_str(body).unwrap();
            assert_eq!(Answer::of(body.as_bytes()), Some(Answer::in_tree(&tree)), "{body}");
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let class = |status| match judge(Trigger, status, b"") {
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
            (Trouble::Tls, Network),
            (Trouble::Reset, Upstream),
            (Trouble::Timeout, Upstream),
            (Trouble::NotJson, Proxy),
            (Trouble::Busy, Upstream),
            (Trouble::ServerError, Upstream),
            (Trouble::Unauthorized, Relay),
            (Trouble::ProxyUnauthorized, Proxy),
            (Trouble::Endpoint, Relay),
            (Trouble::Payload, Relay),
        ];
        let distinct = |words: &[&str]| {
            assert!(words.iter().all(|word| !word.is_empty()));
            words.iter().collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(distinct(&troubles.map(|(trouble, _)| trouble.as_str())), 12);
        assert_eq!(distinct(&[Network, Proxy, Upstream, Relay].map(Attribution::as_str)), 4);
        // What only time mends has one remedy.
        assert_eq!(distinct(&troubles.map(|(trouble, _)| trouble.remedy())), 9);
        for (trouble, side) in troubles {
            assert_eq!(trouble.attribution(), side, "{trouble:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged(status in 0_u16..=999, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            judge(Trigger, status, &body);
            judge(Resolve, status, &body);
        }
    }
}
