//! The API's answers when it can't do what is asked: RFC 9457 problem documents.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::journal::request::Unavailable;
use crate::yaml::nearest;

/// An answer, or the problem document that goes out in its place.
pub(super) type Reply = Result<Response, Response>;

/// The request can't be understood: 400.
pub(super) fn bad_request(detail: impl AsRef<str>) -> Response {
    problem(StatusCode::BAD_REQUEST, detail.as_ref())
}

/// The nearest of the words that there are, in brackets behind one that is none of them.
pub(super) fn meant<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, words).map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default()
}

/// An RFC 9457 problem document.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    problem_with(status, detail, &[])
}

/// One with members of our own.
pub(super) fn problem_with(status: StatusCode, detail: &str, members: &[(&str, Value)]) -> Response {
    document(status, detail, members).map(Body::from)
}

/// The journal takes no command now: 503.
pub(super) fn unavailable(why: Unavailable) -> Response {
    let detail = format!(
        "the journal takes no command now ({}), see /readyz; look at the event before you repeat it",
        why.as_str()
    );
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// One as it goes to the server.
pub(super) fn document(status: StatusCode, detail: &str, members: &[(&str, Value)]) -> http::Response<Bytes> {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    for (name, value) in members {
        body[*name] = value.clone();
    }
    let mut response = http::Response::new(body.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
