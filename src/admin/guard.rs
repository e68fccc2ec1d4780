//! Who may look: the token where one is set, and no other site's page in an operator's browser.

use std::net::IpAddr;

use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::State;
use super::problem::problem;

/// Lets in whoever shows the token, or everyone where none is set: then the address is loopback, or the operator
/// wrote out that it is not.
pub(super) async fn authenticated(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    if shows_token(&state, request.headers()) {
        return next.run(request).await;
    }
    let mut response = problem(StatusCode::UNAUTHORIZED, "send the admin token as `Authorization: Bearer TOKEN`");
    response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
    response
}

/// Whether a request may see details: it shows the token, or none is set and the address is loopback.
pub(super) fn may_see_details(state: &State, headers: &HeaderMap) -> bool {
    match state.token {
        Some(_) => shows_token(state, headers),
        None => state.bound.ip().is_loopback(),
    }
}

fn shows_token(state: &State, headers: &HeaderMap) -> bool {
    let Some(token) = &state.token else {
        return true;
    };
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    match (shown.next().and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' ')), shown.next()) {
        (Some((scheme, presented)), None) if scheme.eq_ignore_ascii_case("bearer") => {
            token.matches(presented.trim().as_bytes())
        }
        _ => false,
    }
}

/// Refuses a `Host` that is neither the bound address nor a loopback name (a rebound name of another site), and
/// what a browser says another site asked for.
pub(super) async fn same_site(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !host_is_ours(headers, state.bound.ip()) {
        return problem(StatusCode::FORBIDDEN, "the Host header names another host than this listener's");
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let cross_site = match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let origin = origin.split_once("://").map_or(origin, |(_, authority)| authority);
            text(HOST.as_str()) != Some(origin)
        }
        (None, None) => false,
    };
    if cross_site {
        return problem(StatusCode::FORBIDDEN, "requests from another site's page are refused");
    }
    next.run(request).await
}

/// Bound to every address, any literal address is ours: a rebound name is still a name.
fn host_is_ours(headers: &HeaderMap, bound: IpAddr) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return false;
    };
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, ""))) => (name, None),
        Some(Some((name, rest))) if rest.starts_with(':') => (name, Some(&rest[1..])),
        Some(_) => return false,
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if port.is_some_and(|port| port.starts_with('+') || port.parse::<u16>().is_err()) {
        return false;
    }
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == bound || bound.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_by_address_or_loopback_name() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        for (host, bound, expected) in [
            ("127.0.0.1:9180", local, true),
            ("localhost:9180", local, true),
            ("LOCALHOST", local, true),
            ("[::1]:9180", local, true),
            ("10.0.0.5:9180", local, false),
            ("10.0.0.5:9180", any, true),
            ("evil.example:9180", any, false),
            ("localhost.evil.example", local, false),
            ("", local, false),
            ("localhost:", local, false),
            ("localhost:abc", local, false),
            ("localhost:+80", local, false),
            ("localhost:99999", local, false),
            ("127.0.0.1:9180.evil.com", local, false),
            ("127.0.0.1:9180:1", local, false),
            ("[::1]", local, true),
            ("[::1].evil.com", local, false),
            ("[::1]:9180.evil.com", local, false),
            ("[::1", local, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            assert_eq!(host_is_ours(&headers, bound), expected, "{host}");
        }
        assert!(!host_is_ours(&HeaderMap::new(), local), "none");
    }
}
