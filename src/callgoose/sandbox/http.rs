//! The stand-in's HTTP: its endpoints, authentication and answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::extract::Query;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde_json::json;
use tokio::time::timeout;

use super::callgoose::SandboxAnswer;
use super::{Call, Incident, Report, Shared};
use crate::clock::Now;
use crate::server::RequestBody;

/// Answers one request.
pub(super) async fn answer(shared: &Shared, request: Request<RequestBody>) -> Response<Bytes> {
    match request.uri().path() {
        "/sqibs-api/v1/process" | "/api/v1/process" | "/v1/process" => call(shared, request).await,
        "/incidents" => incidents(shared, request.method()),
        "/" => plain(StatusCode::OK, WHAT_THIS_IS),
        path => {
            let report = Report::of_wrong_path(request.method(), path, shared.clock.now().wall);
            shared.report(report).await;
            fault(StatusCode::NOT_FOUND, "no such endpoint: POST /sqibs-api/v1/process, GET /incidents")
        }
    }
}

/// Answers a call, once it was reported.
async fn call(shared: &Shared, request: Request<RequestBody>) -> Response<Bytes> {
    let now = shared.clock.now();
    match process(shared, request, now).await {
        Ok(answer) => {
            shared.report(Report::of_answer(&answer, now.wall)).await;
            json_response(answer.status, &answer)
        }
        Err(response) => {
            shared.report(Report::of_status(response.status(), now.wall)).await;
            response
        }
    }
}

async fn process(shared: &Shared, request: Request<RequestBody>, now: Now) -> Result<SandboxAnswer, Response<Bytes>> {
    if request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    let (head, body) = request.into_parts();
    let Some(parameters) = Parameters::of(&head.uri) else {
        return Err(fault(StatusCode::BAD_REQUEST, "the query is not readable"));
    };
    if !shared.available.load(Ordering::Relaxed) {
        return Err(fault(StatusCode::SERVICE_UNAVAILABLE, "unavailable for the moment"));
    }
    if !presented(&head.headers, &parameters).any(|token| shared.token.load().matches(token)) {
        return Err(fault(StatusCode::UNAUTHORIZED, "a valid token is required"));
    }
    // A declared length is refused without reading.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(fault(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE));
    }
    let body = match timeout(BODY_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(fault(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE));
        }
        Ok(Err(_)) => return Err(fault(StatusCode::BAD_REQUEST, "the payload broke off")),
        Err(_) => return Err(fault(StatusCode::REQUEST_TIMEOUT, "the payload took too long")),
    };
    let body = if is_text(&head.headers) { body } else { Bytes::new() };
    let call = Call { body: &body, from: parameters.first("from") };
    let answer = shared.callgoose().process(call, now);
    tracing::debug!(id = answer.id, status = answer.status.as_u16(), "the sandbox answered a call");
    Ok(answer)
}

fn incidents(shared: &Shared, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return not_allowed("GET");
    }
    // Cloned, so that writing JSON does not block calls.
    let incidents: Vec<Incident> = shared.callgoose().incidents().cloned().collect();
    json_response(StatusCode::OK, &json!({ "incidents": incidents }))
}

/// The decoded query parameters, in order.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(uri: &Uri) -> Option<Parameters> {
        Query::try_from_uri(uri).ok().map(|Query(pairs)| Parameters(pairs))
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All tokens in the request, in each of the ways that Callgoose documents.
fn presented<'a>(headers: &'a HeaderMap, parameters: &'a Parameters) -> impl Iterator<Item = &'a [u8]> {
    let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(|value| {
        let (scheme, token) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    });
    let header = headers.get("x-callgoose-auth").map(HeaderValue::as_bytes);
    let query = parameters.first("token").map(str::as_bytes);
    [bearer, header, query].into_iter().flatten()
}

/// Returns true if Callgoose reads a payload of this type; any other, or none, counts as an empty payload.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/") || essence == "application/json" || essence.ends_with("+json")
}

fn not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response = fault(StatusCode::METHOD_NOT_ALLOWED, "this endpoint takes another method");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn fault(status: StatusCode, message: &str) -> Response<Bytes> {
    json_response(status, &json!({ "error": message }))
}

fn json_response(status: StatusCode, value: &impl serde::Serialize) -> Response<Bytes> {
    // Values of this file and of callgoose.rs have string keys only, so serialising them can't fail.
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    respond(status, "application/json", text.into())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const WHAT_THIS_IS: &str = "This is gander's sandbox, a local stand-in for Callgoose. It alerts nobody.\n\
    POST /sqibs-api/v1/process   a call, as Callgoose's API takes it\n\
    GET  /incidents              the incidents it would have opened, the newest last\n";
const TOO_LARGE: &str = "the payload is too large for this stand-in";
const BODY_BYTES_MAX: usize = 1 << 20;
/// The time limit for a whole body.
const BODY_MAX: Duration = Duration::from_secs(10);
