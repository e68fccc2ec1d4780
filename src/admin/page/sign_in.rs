//! Asks a browser's person for the admin token, once.

use std::time::{Duration, Instant};

use axum::extract::{Request, State as Extract};
use axum::http::header::{LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use maud::html;

use super::fields::Fields;
use super::html as response;
use super::layout::document;
use crate::admin::State;
use crate::admin::body::body;
use crate::admin::guard::{is_cross_site, shows_token};
use crate::admin::sessions::SESSION_MAX;
use crate::server::{FailedAttempt, Peer};

/// Lets in whoever showed the token to this page before, and asks others for it.
pub(super) async fn required(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    if shows_token(&state, request.headers()) {
        return next.run(request).await;
    }
    let root = if request.uri().path().matches('/').count() > 1 { "../" } else { "./" };
    // A browser sends the cookie only with what this page asks for: it is to ask for itself.
    if is_cross_site(request.headers()) {
        return ask_again(root);
    }
    let to = request.uri().path_and_query().map_or("", |to| to.as_str()).trim_start_matches('/');
    form(to, root, None)
}

/// A document that asks for itself again: with a link of another site a browser sends no cookie, with this it does.
fn ask_again(root: &str) -> Response {
    let again = html! {
        meta http-equiv="refresh" content="0";
        link rel="icon" href={ (root) "icon.svg" };
    };
    response(StatusCode::OK, again)
}

/// `POST /sign-in`: opens a session for whoever gives the token, and leads to where the form was shown.
pub(super) async fn sign_in(Extract(state): Extract<State>, request: Request) -> Response {
    let Some(token) = &state.access.token else { return found("./", None) };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address.to_canonical().to_string());
    let fields = match body(request, FORM_BYTES_MAX, FORM_TIMEOUT).await {
        Ok(body) => Fields::of_form(&body),
        Err(problem) => return problem,
    };
    let field = |name: &str| fields.get(name).unwrap_or_default();
    let to = field("to");
    if !token.matches(field("token").as_bytes()) {
        if let Some(suppressed) = state.sessions.permit_line(Instant::now()) {
            tracing::warn!(peer, suppressed, "somebody gave a wrong admin token on the page");
        }
        let mut again = form(to, "./", Some("This is not the admin token."));
        again.extensions_mut().insert(FailedAttempt);
        return again;
    }
    tracing::info!(peer, "somebody signed in on the page");
    let opened = state.sessions.open(token, Instant::now());
    let cookie = opened.and_then(|value| state.sessions.set_cookie(&value, SESSION_MAX, state.is_tls));
    // It begins with `./`, so that it leads to this page and nowhere else.
    found(&format!("./{}", to.trim_start_matches(['/', '\\'])), cookie)
}

/// `POST /sign-out`.
pub(super) async fn sign_out(Extract(state): Extract<State>, request: Request) -> Response {
    state.sessions.close(request.headers());
    found("./", state.sessions.set_cookie("", Duration::ZERO, state.is_tls))
}

/// The form that asks for the token; `to` is the view that was asked for, `root` the way from there to `/`.
fn form(to: &str, root: &str, problem: Option<&str>) -> Response {
    let main = html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { section.sentence.bad role="alert" { p { (problem) } } }
        form.sign-in method="post" action={ (root) "sign-in" } {
            // Password managers keep a password by a name.
            input.hidden type="text" name="name" value="gander" autocomplete="username" readonly tabindex="-1" aria-hidden="true";
            label { "Admin token" input type="password" name="token" required autofocus autocomplete="current-password"; }
            input type="hidden" name="to" value=(to);
            button { "Sign in" }
        }
        p.dim { "The token is what " code { "admin.token" } " of the relay's configuration names." }
    };
    let mut response = response(StatusCode::UNAUTHORIZED, document("Sign in", root, false, &html! {}, &main));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn found(to: &str, cookie: Option<HeaderValue>) -> Response {
    let mut response = response(StatusCode::SEE_OTHER, html! { a href=(to) { "Go on" } });
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("./"));
    response.headers_mut().insert(LOCATION, to);
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

const FORM_BYTES_MAX: usize = 8 * 1024;

/// Whoever sends the form has shown nothing yet, and a browser sends it at once.
const FORM_TIMEOUT: Duration = Duration::from_secs(2);
