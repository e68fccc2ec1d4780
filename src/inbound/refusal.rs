//! Refusals: the one place that maps the reason why a request is not taken to a status, a label and a text.
//!
//! The response is an RFC 9457 problem document. It says how to fix the request, and nothing of who may send with which
//! credentials.

use std::fmt;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::activity::SenderRefusal;
use crate::event::{EventId, Violation};
use crate::inbound::auth::Denied;
use crate::inbound::limits::{Exceeded, OverLimit};
use crate::journal::request::Unavailable;
use crate::rules::shortened;
use crate::server::{BadHead, FailedAttempt};

/// A request that is refused as a whole, and the id under which its payload is kept, if it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) kept: Option<EventId>,
}

/// A reason to answer a whole request with an error. After a fault of the journal an event may be kept, and a repeat is
/// then a duplicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Head(BadHead),
    UnknownSource,
    NotPost {
        /// The source answers GET and HEAD.
        probes: bool,
    },
    AddressNotAllowed,
    CertificateNotAllowed,
    NotAuthenticated(Denied),
    OverLimit(Exceeded),
    ContentEncoding {
        /// The source takes gzip.
        gzip: bool,
    },
    ContentType {
        /// The source takes forms.
        forms: bool,
        /// It is one.
        is_form: bool,
        /// The body begins like gzip.
        looks_packed: bool,
    },
    Charset,
    BodyTooLarge {
        bytes_max: usize,
    },
    BodyTimeout,
    /// The body ended early, or its chunks are malformed.
    BodyBroken,
    /// The memory set aside for bodies is full.
    BodiesFull,
    /// The bodies of this source take its share of that memory.
    SourceBodies,
    /// The memory for bodies that only a signature will tell the sender of is full.
    UnverifiedBodies,
    /// The reason why such a body was not read. Anybody may have sent it.
    Unverified(Box<Refusal>),
    /// The bodies of this sender's address take the most of that memory, and this one gave way.
    AddressBodies,
    NotJson(NotJson),
    Unavailable(Unavailable),
}

/// The place where a body stops being JSON, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJson {
    pub problem: String,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// Sentences on what helps, where that is known.
    pub remedy: Option<String>,
    /// The key of the source with which it would be taken.
    pub taken_by: Option<TakenBy>,
}

/// A key of a source that makes it take a body which is no strict JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBy {
    /// `json: lenient`
    Lenient,
    /// `accept: [json, form]`
    Forms,
}

impl NotJson {
    /// A problem at this line and column, of which nothing is known that helps.
    pub(super) fn at(problem: impl Into<String>, line: usize, column: usize) -> NotJson {
        NotJson { problem: problem.into(), line, column, remedy: None, taken_by: None }
    }

    /// Adds the key with which the source would take it, and a sentence on that.
    pub(super) fn taken_by(self, key: TakenBy, sentence: &str) -> NotJson {
        NotJson { taken_by: Some(key), ..self.with_remedy(sentence) }
    }

    /// Adds a sentence on what helps.
    pub(super) fn with_remedy(mut self, sentence: &str) -> NotJson {
        let remedy = self.remedy.get_or_insert_default();
        if !remedy.is_empty() {
            remedy.push(' ');
        }
        remedy.push_str(sentence);
        self
    }
}

/// `expected value (line 3, column 14).`, and what helps.
impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotJson { problem, line, column, remedy, .. } = self;
        write!(f, "{problem} (line {line}, column {column}).")?;
        remedy.iter().try_for_each(|remedy| write!(f, " {remedy}"))
    }
}

/// A problem document (RFC 9457), with Gander's own members.
#[derive(Serialize)]
pub(super) struct Problem<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) title: &'static str,
    pub(super) status: u16,
    pub(super) detail: &'a str,
    pub(super) request_id: &'a str,
    /// The id under which the refused payload is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<usize>,
}

impl Refusal {
    /// The labels of requests that name no known source.
    pub(super) fn labels_without_source() -> impl Iterator<Item = &'static str> {
        BadHead::LABELS.into_iter().chain(["unknown_source"])
    }

    /// The labels of requests to a source, and of their elements.
    pub(super) fn labels_of_source() -> impl Iterator<Item = &'static str> {
        OF_SOURCE.into_iter().chain(Unavailable::ALL.into_iter().map(Unavailable::as_str))
    }

    /// The refusal of a body that could not be read, where only a signature of it would have told its sender.
    pub(super) fn of_unverified(self) -> Refusal {
        match self {
            Refusal::BodiesFull | Refusal::SourceBodies => Refusal::UnverifiedBodies,
            other => Refusal::Unverified(Box::new(other)),
        }
    }

    /// The word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Unverified(refusal) => refusal.label(),
            Refusal::UnverifiedBodies => "unverified_bodies",
            Refusal::Head(head) => head.label(),
            Refusal::UnknownSource => "unknown_source",
            Refusal::NotPost { .. } => "method",
            Refusal::AddressNotAllowed => "address",
            Refusal::CertificateNotAllowed => "certificate",
            Refusal::NotAuthenticated(_) => "not_authenticated",
            Refusal::OverLimit(_) => "rate_limit",
            Refusal::ContentEncoding { .. } => "content_encoding",
            Refusal::ContentType { .. } => "content_type",
            Refusal::Charset => "charset",
            Refusal::BodyTooLarge { .. } => BODY_TOO_LARGE,
            Refusal::BodyTimeout => "body_timeout",
            Refusal::BodyBroken => "body_broken",
            Refusal::BodiesFull => "bodies_full",
            Refusal::SourceBodies => "source_bodies",
            Refusal::AddressBodies => "address_bodies",
            Refusal::NotJson(_) => NOT_JSON,
            Refusal::Unavailable(why) => why.as_str(),
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Unverified(refusal) => refusal.status(),
            Refusal::Head(head) => head.status(),
            Refusal::BodyBroken | Refusal::NotJson(_) => StatusCode::BAD_REQUEST,
            Refusal::NotAuthenticated(_) => StatusCode::UNAUTHORIZED,
            Refusal::AddressNotAllowed | Refusal::CertificateNotAllowed => StatusCode::FORBIDDEN,
            Refusal::UnknownSource => StatusCode::NOT_FOUND,
            Refusal::NotPost { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::ContentEncoding { .. } | Refusal::ContentType { .. } | Refusal::Charset => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Refusal::OverLimit(Exceeded { answer: OverLimit::TooManyRequests, .. }) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::OverLimit(_)
            | Refusal::BodiesFull
            | Refusal::SourceBodies
            | Refusal::UnverifiedBodies
            | Refusal::AddressBodies
            | Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The seconds after which the sender may send the request again.
    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Refusal::Unverified(refusal) => refusal.retry_after_seconds(),
            Refusal::OverLimit(exceeded) => Some(exceeded.retry_after_seconds),
            // A burst is over at once; a full disk needs a person, a long backlog needs time.
            Refusal::BodiesFull
            | Refusal::SourceBodies
            | Refusal::UnverifiedBodies
            | Refusal::AddressBodies
            | Refusal::Unavailable(Unavailable::Overload) => Some(1),
            Refusal::Unavailable(Unavailable::Stopping | Unavailable::JournalFault | Unavailable::JournalReplaced) => {
                Some(5)
            }
            Refusal::Unavailable(Unavailable::DiskFull | Unavailable::Backlog | Unavailable::SourceShare) => Some(15),
            _ => None,
        }
    }

    /// The name of the problem. Address and certificate share one: the response does not tell which was wrong.
    fn kind(&self) -> &'static str {
        match self {
            Refusal::AddressNotAllowed | Refusal::CertificateNotAllowed => "forbidden",
            other => other.label(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Refusal::Unverified(refusal) => refusal.detail(),
            Refusal::UnverifiedBodies => "Too many signed requests arrive at once. Try again.".to_owned(),
            Refusal::Head(head) => head.detail().to_owned(),
            Refusal::UnknownSource => {
                "There is no such source here. Webhooks are posted to /hooks/SOURCE, where SOURCE \
                                       is a name from the `sources` section of the configuration."
                    .to_owned()
            }
            Refusal::NotPost { .. } => "Webhooks are sent by POST.".to_owned(),
            Refusal::AddressNotAllowed | Refusal::CertificateNotAllowed => "This sender may not post here.".to_owned(),
            Refusal::NotAuthenticated(_) => "The request carries no valid credentials for this source.".to_owned(),
            Refusal::OverLimit(_) => "This source sends more than its `rate_limit` allows.".to_owned(),
            Refusal::ContentEncoding { gzip: true } => "Send the body uncompressed, or as gzip.".to_owned(),
            Refusal::ContentEncoding { gzip: false } => {
                "Send the body uncompressed, without a Content-Encoding header. \
                                                         A source with `accept_encoding: [gzip]` takes gzip."
                    .to_owned()
            }
            Refusal::ContentType { looks_packed: true, .. } => format!("The body looks like gzip. {PACKED}"),
            Refusal::ContentType { forms, is_form, .. } => {
                let form = match (forms, is_form) {
                    (true, _) => " This source takes forms too (`application/x-www-form-urlencoded`).",
                    (false, true) => " A source with `accept: [json, form]` takes forms.",
                    (false, false) => "",
                };
                format!(
                    "Send the header `Content-Type: application/json` (once), or none; any type that ends in `+json` and \
                     any `text/…` will do too.{form}"
                )
            }
            Refusal::Charset => "The charset in the Content-Type header is not known here. Send UTF-8 and the header \
                                 `Content-Type: application/json`."
                .to_owned(),
            Refusal::BodyTooLarge { bytes_max } => format!(
                "The body is larger than {bytes_max} bytes, the `listen.max_body` of this relay: raise it, or send fewer \
                 alerts at once."
            ),
            Refusal::BodyTimeout => "The body did not arrive in time.".to_owned(),
            Refusal::BodyBroken => "The body ended early, or its chunks are malformed.".to_owned(),
            Refusal::BodiesFull => "Too many large requests arrive at once. Try again.".to_owned(),
            Refusal::SourceBodies => "Too many large requests of this source arrive at once. Try again.".to_owned(),
            Refusal::AddressBodies => {
                "The memory for large requests is short, this sender's address uses most of it, and of its requests this \
                 one came slowest or last. Try again."
                    .to_owned()
            }
            Refusal::NotJson(not_json) => format!("The body is not JSON: {not_json}"),
            Refusal::Unavailable(why) => match why {
                Unavailable::Backlog => "The queue is at its limit (`journal.max_events`, `journal.max_bytes`).",
                Unavailable::SourceShare => {
                    "This source has its share of the queue (`max_queued`); the rest is for the other sources."
                }
                Unavailable::DiskFull => "The disk that holds the journal is full.",
                Unavailable::JournalFault => "The journal could not be written; the event may or may not be kept.",
                Unavailable::JournalReplaced => {
                    "Another program changed the journal's files; the event may or may not be kept."
                }
                Unavailable::Overload => "More requests wait than the relay can write. Try again.",
                Unavailable::Stopping => "The relay is stopping.",
            }
            .to_owned(),
        }
    }

    /// The refusal by the headers, once the body is known that came with them.
    pub(super) fn of_body(self, looks_packed: bool) -> Refusal {
        match self {
            Refusal::ContentType { forms, is_form, .. } => Refusal::ContentType { forms, is_form, looks_packed },
            other => other,
        }
    }

    /// The connection must end with the response, because nobody can tell where the next request begins.
    fn ends_connection(&self) -> bool {
        if let Refusal::Unverified(refusal) = self {
            return refusal.ends_connection();
        }
        matches!(
            self,
            Refusal::Head(_)
                | Refusal::BodyBroken
                | Refusal::BodyTimeout
                | Refusal::AddressBodies
                | Refusal::BodyTooLarge { .. }
        )
    }

    /// The remedy for a person; none where the sender is not authenticated, or is told to try again.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Refusal::BodyTooLarge { .. } => {
                Some("raise `listen.max_body`, or let the sender send fewer alerts at once")
            }
            Refusal::ContentType { looks_packed: true, .. } => Some(
                "let the sender name what it sends, `Content-Encoding: gzip`, and the source take it, `accept_encoding: [gzip]`; \
                 `gander events replay` then takes what is kept",
            ),
            Refusal::ContentType { is_form: true, .. } => Some(
                "if it is JSON, let the sender name it so, `Content-Type: application/json`; if it is a form, let the \
                 source take forms, `accept: [json, form]`; `gander events replay` then takes what is kept",
            ),
            Refusal::ContentEncoding { .. } => Some(
                "let the sender post uncompressed, or as gzip to a source with `accept_encoding: [gzip]`; `gander events \
                 replay` then takes what is kept, if it is gzip",
            ),
            Refusal::ContentType { .. } | Refusal::Charset => Some(
                "let the sender post UTF-8 with `Content-Type: application/json`; `gander events replay` takes what is \
                 kept, if it is JSON",
            ),
            Refusal::NotJson(not_json) => Some(match not_json.taken_by {
                Some(TakenBy::Lenient) => {
                    "fix the sender's template, or write `json: lenient` for the source; `gander events replay` then takes \
                     what is kept"
                }
                Some(TakenBy::Forms) => {
                    "let the source take forms, `accept: [json, form]`; `gander events replay` then takes what is kept"
                }
                None => {
                    "fix the sender's template; what is kept: `gander events list --state refused`, `gander events show ID \
                     --raw` into a file, correct it, `gander events replay ID --payload FILE`"
                }
            }),
            Refusal::OverLimit(Exceeded { answer: OverLimit::TooManyRequests, .. }) => {
                Some("find out why this source sends so much, or raise its `rate_limit`; nothing of it is kept")
            }
            Refusal::BodyBroken => {
                Some("look at the network or proxy between the sender and here; nothing of it is kept")
            }
            _ => None,
        }
    }

    /// The sender showed a valid credential before it was refused.
    pub(super) fn is_authenticated(&self) -> bool {
        !matches!(
            self,
            Refusal::Head(_)
                | Refusal::UnknownSource
                | Refusal::NotPost { .. }
                | Refusal::AddressNotAllowed
                | Refusal::CertificateNotAllowed
                | Refusal::NotAuthenticated(_)
                | Refusal::UnverifiedBodies
                | Refusal::Unverified(_)
        )
    }

    /// Present where an authenticated sender is refused for what it sent.
    fn of_sender(&self, event: Option<EventId>) -> Option<SenderRefusal> {
        let (reason, status) = (self.label(), self.status().as_u16());
        self.remedy().map(|remedy| SenderRefusal { reason, status, remedy, event })
    }

    /// Kept with the payload, for the list of events. Of the headers nothing else is.
    pub(super) fn violations(&self, headers: &HeaderMap) -> Vec<Violation> {
        let (problem, found) = match self {
            Refusal::BodyTooLarge { bytes_max } => {
                (format!("is larger than {bytes_max} bytes, the `listen.max_body`; this is its beginning"), None)
            }
            Refusal::ContentType { .. } => {
                ("came with a Content-Type that is not accepted".to_owned(), shown(headers, &CONTENT_TYPE))
            }
            Refusal::Charset => ("came with a charset that is not known".to_owned(), shown(headers, &CONTENT_TYPE)),
            Refusal::ContentEncoding { .. } => {
                ("came with a Content-Encoding that is not accepted".to_owned(), shown(headers, &CONTENT_ENCODING))
            }
            Refusal::NotJson(not_json) => return vec![not_json.clone().into()],
            _ => return Vec::new(),
        };
        vec![Violation { path: "$".to_owned(), problem, found }]
    }
}

/// The value of a header, shortened.
fn shown(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| shortened(&String::from_utf8_lossy(value.as_bytes())))
}

/// A payload, or an element of one, that the rules refused.
pub(super) fn unprocessable(event: EventId) -> SenderRefusal {
    SenderRefusal {
        reason: UNPROCESSABLE,
        status: StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
        remedy: "`gander events list --state refused` tells why: fix the rules, then `gander events replay`; or fix the \
                 sender's template",
        event: Some(event),
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, kept: None }
    }
}

impl Refused {
    /// Present where an authenticated sender is refused for what it sent.
    pub(super) fn of_sender(&self) -> Option<SenderRefusal> {
        self.refusal.of_sender(self.kept)
    }

    fn detail(&self) -> String {
        let detail = self.refusal.detail();
        match (self.kept, &self.refusal) {
            (None, _) => detail,
            (Some(_), Refusal::BodyTooLarge { .. }) => format!("{detail} Its beginning is kept."),
            (Some(_), _) => format!("{detail} It is kept as it came."),
        }
    }

    /// The response, but for the header with the request id.
    pub(super) fn response(&self, request_id: &str) -> Response<Bytes> {
        let refusal = &self.refusal;
        let status = refusal.status();
        let not_json = match refusal {
            Refusal::NotJson(not_json) => Some(not_json),
            _ => None,
        };
        let detail = self.detail();
        let problem = Problem {
            kind: problem_type(refusal.kind()),
            title: status.canonical_reason().unwrap_or("Refused"),
            status: status.as_u16(),
            detail: &detail,
            request_id,
            id: self.kept,
            line: not_json.map(|not_json| not_json.line),
            column: not_json.map(|not_json| not_json.column),
        };
        let mut response = Response::new(to_json(&problem));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = refusal.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match refusal {
            Refusal::NotPost { probes } => {
                let allowed = if *probes { "POST, GET, HEAD" } else { "POST" };
                drop(headers.insert(ALLOW, HeaderValue::from_static(allowed)));
            }
            Refusal::NotAuthenticated(_) => {
                // Both, whatever the source takes: a sender that waits for its challenge finds it, and learns nothing.
                for challenge in CHALLENGES {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            Refusal::ContentType { .. } | Refusal::Charset => {
                let taken = match refusal {
                    Refusal::ContentType { forms: true, .. } => "application/json, application/x-www-form-urlencoded",
                    _ => "application/json",
                };
                drop(headers.insert(ACCEPT, HeaderValue::from_static(taken)));
            }
            Refusal::ContentEncoding { gzip } => {
                let taken = if *gzip { "gzip, identity" } else { "identity" };
                drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(taken)));
            }
            _ => {}
        }
        // Who shows nothing guesses nothing.
        if matches!(refusal, Refusal::NotAuthenticated(denied) if *denied != Denied::Missing) {
            response.extensions_mut().insert(FailedAttempt);
        }
        if refusal.ends_connection() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The `type` member for a kind of problem.
pub(super) fn problem_type(kind: &str) -> String {
    format!("urn:problem-type:gander:{kind}")
}

/// Serialises the body of a response. The values are this program's own structs, whose keys are strings.
pub(super) fn to_json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// The remedy where a body looks like gzip, and its headers do not say so.
pub(super) const PACKED: &str = "Send `Content-Encoding: gzip` with it, to a source with `accept_encoding: [gzip]`.";

/// The ways to show credentials that HTTP knows.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"gander\"", "Basic realm=\"gander\", charset=\"UTF-8\""];

pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The label of a payload, or of an element of one, that the rules refused.
pub(super) const UNPROCESSABLE: &str = "unprocessable";
/// The label of a body that is not JSON.
pub(super) const NOT_JSON: &str = "not_json";
/// The label of a body of which only the beginning was read.
pub(super) const BODY_TOO_LARGE: &str = "body_too_large";

/// The labels of bodies that are kept and that nobody could read, or that nobody read.
pub(super) const UNREAD: [&str; 5] = [NOT_JSON, BODY_TOO_LARGE, "content_type", "charset", "content_encoding"];

/// The labels of requests to a source, but for those that the journal does not take.
const OF_SOURCE: [&str; 16] = [
    "method",
    "address",
    "certificate",
    "not_authenticated",
    "rate_limit",
    "content_encoding",
    "content_type",
    "charset",
    BODY_TOO_LARGE,
    "body_timeout",
    "body_broken",
    "bodies_full",
    "source_bodies",
    "unverified_bodies",
    "address_bodies",
    NOT_JSON,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn over(answer: OverLimit) -> Refusal {
        Refusal::OverLimit(Exceeded { answer, retry_after_seconds: 7 })
    }

    fn body_of(response: &Response<Bytes>) -> serde_json::Value {
        serde_json::from_slice(response.body()).unwrap()
    }

    /// A refusal with its status and the headers beside the content type.
    type Row = (Refusal, u16, &'static [(&'static str, &'static str)]);

    /// One for each reason at least.
    fn rows() -> Vec<Row> {
        let not_json = NotJson::at("expected value", 3, 14);
        let not_json = Refusal::NotJson(not_json);
        vec![
            (Refusal::Head(BadHead::Framing("two lengths")), 400, &[("connection", "close")]),
            (not_json, 400, &[]),
            (Refusal::Head(BadHead::TooLarge), 431, &[("connection", "close")]),
            (Refusal::Head(BadHead::TargetTooLong), 414, &[("connection", "close")]),
            (Refusal::BodyBroken, 400, &[("connection", "close")]),
            (
                Refusal::NotAuthenticated(Denied::Wrong),
                401,
                &[("www-authenticate", CHALLENGES[0]), ("www-authenticate", CHALLENGES[1])],
            ),
            (Refusal::AddressNotAllowed, 403, &[]),
            (Refusal::CertificateNotAllowed, 403, &[]),
            (Refusal::UnknownSource, 404, &[]),
            (Refusal::NotPost { probes: false }, 405, &[("allow", "POST")]),
            (Refusal::NotPost { probes: true }, 405, &[("allow", "POST, GET, HEAD")]),
            (Refusal::BodyTimeout, 408, &[("connection", "close")]),
            (Refusal::BodyTooLarge { bytes_max: 9 }, 413, &[("connection", "close")]),
            (
                Refusal::ContentType { forms: false, is_form: true, looks_packed: false },
                415,
                &[("accept", "application/json")],
            ),
            (
                Refusal::ContentType { forms: true, is_form: false, looks_packed: false },
                415,
                &[("accept", "application/json, application/x-www-form-urlencoded")],
            ),
            (Refusal::Charset, 415, &[("accept", "application/json")]),
            (Refusal::ContentEncoding { gzip: false }, 415, &[("accept-encoding", "identity")]),
            (Refusal::ContentEncoding { gzip: true }, 415, &[("accept-encoding", "gzip, identity")]),
            (over(OverLimit::TooManyRequests), 429, &[("retry-after", "7")]),
            (over(OverLimit::ServiceUnavailable), 503, &[("retry-after", "7")]),
            (Refusal::BodiesFull, 503, &[("retry-after", "1")]),
            (Refusal::SourceBodies, 503, &[("retry-after", "1")]),
            (Refusal::SourceBodies.of_unverified(), 503, &[("retry-after", "1")]),
            (Refusal::BodyTimeout.of_unverified(), 408, &[("connection", "close")]),
            (Refusal::BodyTooLarge { bytes_max: 9 }.of_unverified(), 413, &[("connection", "close")]),
            (Refusal::AddressBodies, 503, &[("retry-after", "1"), ("connection", "close")]),
            (Refusal::AddressBodies.of_unverified(), 503, &[("retry-after", "1"), ("connection", "close")]),
            (Refusal::Unavailable(Unavailable::Backlog), 503, &[("retry-after", "15")]),
            (Refusal::Unavailable(Unavailable::SourceShare), 503, &[("retry-after", "15")]),
            (Refusal::Unavailable(Unavailable::DiskFull), 503, &[("retry-after", "15")]),
            (Refusal::Unavailable(Unavailable::JournalFault), 503, &[("retry-after", "5")]),
            (Refusal::Unavailable(Unavailable::JournalReplaced), 503, &[("retry-after", "5")]),
            (Refusal::Unavailable(Unavailable::Overload), 503, &[("retry-after", "1")]),
            (Refusal::Unavailable(Unavailable::Stopping), 503, &[("retry-after", "5")]),
        ]
    }

    #[test]
    fn each_reason_has_its_status_and_headers() {
        let rows = rows();
        let labels: BTreeSet<&str> = rows.iter().map(|(refusal, ..)| refusal.label()).collect();
        let known = Refusal::labels_without_source().chain(Refusal::labels_of_source());
        assert_eq!(labels, known.collect(), "each is counted from the start");
        for (refusal, status, headers) in &rows {
            let response = Refused::from(refusal.clone()).response("01J");
            assert_eq!(response.status(), *status, "{refusal:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            for (name, value) in *headers {
                assert!(response.headers().get_all(*name).iter().any(|shown| shown == value), "{refusal:?}: {name}");
            }
            assert_eq!(response.headers().len(), 1 + headers.len(), "{refusal:?}: {:?}", response.headers());
            let body = body_of(&response);
            assert_eq!(body["status"], *status);
            assert_eq!(body["request_id"], "01J");
            assert!(body["type"].as_str().unwrap().starts_with("urn:problem-type:gander:"));
            assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty());
        }
    }

    /// The reasons in the page's table, each with its code: `401, 403` stand beside the groups `a; b, c`.
    fn documented() -> BTreeSet<(String, u16)> {
        let (_, table) = PAGE.split_once("| code | `reason` |\n").unwrap();
        let mut found = BTreeSet::new();
        for row in table.lines().skip(1).take_while(|row| row.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').collect();
            let groups: Vec<&str> = cells[2].split(';').collect();
            for (index, code) in codes(cells[1]).into_iter().enumerate() {
                // One group alone is that of all codes.
                let group = groups.get(index).unwrap_or(&groups[0]);
                found.extend(group.split('`').skip(1).step_by(2).map(|reason| (reason.to_owned(), code)));
            }
        }
        found
    }

    fn codes(cell: &str) -> Vec<u16> {
        cell.split(',').filter_map(|code| code.trim().parse().ok()).collect()
    }

    #[test]
    fn the_page_has_each_reason_with_its_code_and_no_other() {
        let known = rows().into_iter().map(|(refusal, status, _)| (refusal.label().to_owned(), status));
        let known: BTreeSet<_> = known.chain([(UNPROCESSABLE.to_owned(), 422)]).collect();
        assert_eq!(documented(), known);
        let (_, table) = PAGE.split_once("| code | meaning |\n").unwrap();
        let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
        let answered: BTreeSet<u16> = rows.flat_map(|row| codes(row.split('|').nth(1).unwrap())).collect();
        let refused: BTreeSet<u16> = known.into_iter().map(|(_, status)| status).collect();
        assert_eq!(answered.difference(&refused).collect::<Vec<_>>(), [&200, &202], "what is no refusal");
        assert!(refused.is_subset(&answered), "{refused:?} {answered:?}");
    }

    /// The page for those who operate it.
    const PAGE: &str = include_str!("../../config/MONITORING.md");

    /// A sender that sends it again later loses nothing.
    #[test]
    fn a_person_is_told_of_what_a_sender_gives_up_on() {
        let not_json = NotJson::at("expected value", 3, 14);
        for (refusal, told) in [
            (Refusal::NotJson(not_json), Some(400)),
            (Refusal::BodyBroken, Some(400)),
            (Refusal::BodyTimeout, None),
            (Refusal::BodyTooLarge { bytes_max: 9 }, Some(413)),
            (Refusal::ContentType { forms: false, is_form: false, looks_packed: false }, Some(415)),
            (Refusal::Charset, Some(415)),
            (Refusal::ContentEncoding { gzip: false }, Some(415)),
            (over(OverLimit::TooManyRequests), Some(429)),
            (over(OverLimit::ServiceUnavailable), None),
            (Refusal::BodiesFull, None),
            (Refusal::SourceBodies, None),
            (Refusal::BodiesFull.of_unverified(), None),
            (Refusal::BodyBroken.of_unverified(), None),
            (Refusal::BodyTooLarge { bytes_max: 9 }.of_unverified(), None),
            (Refusal::AddressBodies, None),
            (Refusal::Unavailable(Unavailable::Backlog), None),
            (Refusal::NotAuthenticated(Denied::Wrong), None),
        ] {
            assert_eq!(refusal.of_sender(None).map(|told| told.status), told, "{refusal:?}");
        }
    }

    /// A source that is lenient already is not told to become so.
    #[test]
    fn a_person_is_told_of_a_key_only_where_it_helps() {
        let bare = NotJson::at("expected value", 3, 14);
        let rows: &[(NotJson, &[&str], &[&str])] = &[
            (bare.clone(), &["--raw", "--payload FILE"], &["lenient", "accept"]),
            (bare.clone().taken_by(TakenBy::Lenient, "It would."), &["`json: lenient`"], &["--payload", "accept"]),
            (bare.taken_by(TakenBy::Forms, "It would."), &["`accept: [json, form]`"], &["lenient"]),
        ];
        for (not_json, named, unnamed) in rows {
            let told = Refusal::NotJson(not_json.clone()).of_sender(None).unwrap().remedy;
            assert!(named.iter().all(|words| told.contains(words)), "{told}");
            assert!(!unnamed.iter().any(|words| told.contains(words)), "{told}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_answered_with_its_place() {
        let at = NotJson::at("expected value", 3, 14);
        let refused = Refused { refusal: Refusal::NotJson(at), kept: Some(EventId(9)) };
        let body = body_of(&refused.response("x"));
        assert_eq!((body["line"].as_u64(), body["column"].as_u64()), (Some(3), Some(14)));
        assert_eq!(body["id"], "9", "as which it is kept");
    }

    #[test]
    fn a_wrong_credential_is_answered_as_none() {
        let [missing, wrong, repeated] = [Denied::Missing, Denied::Wrong, Denied::Repeated].map(|denied| {
            let response = Refused::from(Refusal::NotAuthenticated(denied)).response("x");
            (response.status(), response.headers().clone(), response.body().clone())
        });
        assert!(missing == wrong && wrong == repeated);
    }

    #[test]
    fn address_and_certificate_are_answered_alike() {
        let [address, certificate] = [Refusal::AddressNotAllowed, Refusal::CertificateNotAllowed]
            .map(|refusal| body_of(&Refused::from(refusal).response("x")));
        assert_eq!(address, certificate);
    }
}
