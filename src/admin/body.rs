//! Reads what a POST brings.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use http_body_util::LengthLimitError;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::State;
use super::guard::may_see_details;
use super::problem::problem;

/// The members of a JSON object. One that is there twice is refused: a command must mean one thing.
pub(super) struct Members(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name.clone(), value).is_some() {
                        return Err(serde::de::Error::custom(format!("`{name}` is there twice")));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Reads a JSON body, of one who may see events.
pub(super) async fn json_body(state: &State, request: Request, bytes_max: usize) -> Result<Bytes, Response> {
    if !may_see_details(state, &request) {
        return Err(problem(StatusCode::FORBIDDEN, "commands off loopback need an `admin.token`"));
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "a command is sent with the header `Content-Type: application/json`";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    body(request, bytes_max, BODY_TIMEOUT).await
}

/// Reads a body, of at most so many bytes and for so long only.
pub(super) async fn body(request: Request, bytes_max: usize, longest: Duration) -> Result<Bytes, Response> {
    match tokio::time::timeout(longest, axum::body::to_bytes(request.into_body(), bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if !error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            Err(problem(StatusCode::BAD_REQUEST, "the body of the request ended early, or its chunks are malformed"))
        }
        Ok(Err(_)) => {
            let detail = format!("the body of this request is at most {} KiB", bytes_max / 1024);
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail))
        }
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body of the request did not arrive in time")),
    }
}

/// For what somebody sends who was let in.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
