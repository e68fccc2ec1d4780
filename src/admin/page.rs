//! The page at `/`: how things are, what came, and what became of it, for a person with a browser.
//!
//! The server renders all of it, and it can be read without scripts. The script keeps it up to date, tells times as the
//! reader's clock does, and sends commands to the API. Links are relative, so that it works below any path of a proxy.

mod alike;
mod assets;
mod attention;
mod bench;
pub(super) mod changes;
mod command_list;
mod confirmations;
mod connect;
mod decided;
mod events;
mod fields;
mod incidents;
mod layout;
mod overview;
mod parts;
mod plots;
mod queue;
mod sign_in;
mod story;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::Markup;

use super::{State, guard};

/// The views, for those who may see events, and what everybody may ask for: stylesheet, script, sign-in.
pub(super) fn routes(state: &State) -> Router<State> {
    let views = Router::new()
        .route("/", get(overview::view))
        .route("/events", get(events::view))
        .route("/events/{id}", get(story::view))
        .route("/queue", get(queue::view))
        .route("/incidents", get(incidents::view))
        .route("/attention", get(attention::view))
        .route("/bench", get(bench::view).post(bench::decide))
        .route("/connect", get(connect::view))
        .route("/changes", get(changes::changes))
        .route_layer(middleware::from_fn_with_state(state.clone(), sign_in::required));
    let open = Router::new()
        .route("/style.css", get(assets::style))
        .route("/script.js", get(assets::script))
        .route("/icon.svg", get(assets::icon))
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out));
    views.merge(open).route_layer(middleware::from_fn(guard::certified))
}

/// A view as it is sent. Nothing of it is kept by a browser or a proxy, and it loads nothing from anywhere else.
fn html(status: StatusCode, markup: Markup) -> Response {
    let headers: HeaderMap = HEADERS
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .chain([(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))])
        .collect();
    (status, headers, markup.into_string()).into_response()
}

const HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];
