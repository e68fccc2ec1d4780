//! Who may ask: whoever shows the token or the certificate that is asked for, and no other site's page in an operator's
//! browser.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;

use super::State;
use super::problem::problem;
use crate::credential::{Credential, RequestHead};
use crate::secret::Secret;
use crate::server::{Authenticated, ClientCertificate, FailedAttempt, Peer};

/// Lets in whoever shows the certificate and the token that are asked for. Where neither is, the address is loopback, or
/// the operator wrote out that it is not.
pub(super) async fn authenticated(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    if !shows_certificate(request.extensions()) {
        return problem(StatusCode::FORBIDDEN, NO_CERTIFICATE);
    }
    if shows_token(&state, request.headers()) {
        return next.run(request).await;
    }
    let mut response = problem(StatusCode::UNAUTHORIZED, "send the admin token as `Authorization: Bearer TOKEN`");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Marks the answer to whoever shows what is asked for, and the one that refuses a token that is not right, so that guesses
/// are answered slowly. What anybody may ask for is no guess, whatever else a proxy before the page put into the header.
/// Nor is a probe: one that kept a token from before a change would be answered too late, and end the relay.
pub(super) async fn attempts(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let is_shown = shows_token(&state, request.headers());
    let authenticated = is_shown && shows_certificate(request.extensions());
    let guessed = request.headers().contains_key(AUTHORIZATION) && !PROBES.contains(&request.uri().path()) && !is_shown;
    let mut response = next.run(request).await;
    if authenticated {
        response.extensions_mut().insert(Authenticated);
    }
    if guessed && matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        response.extensions_mut().insert(FailedAttempt);
    }
    response
}

/// Lets in whoever shows the certificate that is asked for.
pub(super) async fn certified(request: Request, next: Next) -> Response {
    if !shows_certificate(request.extensions()) {
        return problem(StatusCode::FORBIDDEN, NO_CERTIFICATE);
    }
    next.run(request).await
}

/// A request may see details: it is authenticated, and by more than nothing where the address is not loopback.
pub(super) fn may_see_details(state: &State, request: &Request) -> bool {
    shows_certificate(request.extensions())
        && shows_token(state, request.headers())
        && (state.access.token.is_some() || state.bound.ip().is_loopback())
}

/// A request is of one whom the page and the API let in.
pub(super) fn is_let_in<B>(state: &State, request: &http::Request<B>, peer: &Peer) -> bool {
    peer.certificate != ClientCertificate::Missing && shows_token(state, request.headers())
}

fn shows_certificate(extensions: &Extensions) -> bool {
    extensions.get::<Peer>().is_some_and(|peer| peer.certificate != ClientCertificate::Missing)
}

pub(super) fn shows_token(state: &State, headers: &HeaderMap) -> bool {
    let Some(token) = &state.access.token else {
        return true;
    };
    is_shown(token, headers) || state.sessions.admits(headers, token, Instant::now())
}

fn is_shown(token: &Secret, headers: &HeaderMap) -> bool {
    Credential::Bearer(token.clone()).check_head(&RequestHead::of_headers(headers)).is_ok()
}

/// Who asks, as far as that is known: how they were let in, and the address, as a trusted proxy tells it or the
/// connection has it. Never a secret.
pub(super) fn who(state: &State, request: &Request) -> Arc<str> {
    let peer = request.extensions().get::<Peer>();
    let shown = match &state.access.token {
        Some(token) if is_shown(token, request.headers()) => "token",
        Some(_) => "page session",
        // Neither a header that says so nor a proxy on this machine makes it a person here.
        None if peer.is_some_and(is_local) => "loopback",
        None => "no token",
    };
    let certificate = match peer.map(|peer| peer.certificate) {
        Some(ClientCertificate::Valid) => " and client certificate",
        _ => "",
    };
    let address = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.address.to_canonical().to_string());
    format!("{shown}{certificate}, {address}").into()
}

fn is_local(peer: &Peer) -> bool {
    [peer.connection, peer.address].iter().all(|address| address.to_canonical().is_loopback())
}

/// Refuses what a browser says another site asked for, and a host that may be a rebound name of another site: one that is
/// neither the bound address nor a loopback name, that `admin.hosts` does not name, and that was not given together with
/// the token. A page has no token to show.
pub(super) async fn same_site(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    // Old load balancers name none, and browsers always do.
    if request.version() <= Version::HTTP_10 && host(&request).is_none() && PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Some(host) = permitted_host(&state, &request) else {
        return problem(StatusCode::FORBIDDEN, ANOTHER_HOST);
    };
    let headers = request.headers();
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let cross_site = match origin {
        Some(origin) if !headers.contains_key(SEC_FETCH_SITE) => {
            origin.split_once("://").map_or(origin, |(_, authority)| authority) != host
        }
        _ => is_cross_site(headers),
    };
    if cross_site && !is_visit(&request) {
        return problem(StatusCode::FORBIDDEN, "requests from another site's page are refused");
    }
    next.run(request).await
}

/// A browser says that another site's page asks.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

/// A person follows a link of another site to the page, which that site can neither read nor frame.
fn is_visit(request: &Request) -> bool {
    let says = |name: &str, value: &str| request.headers().get(name).is_some_and(|found| found == value);
    let path = request.uri().path();
    request.method() == Method::GET
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document")
        && !["/api/", "/metrics"].iter().any(|below| path.starts_with(below))
}

/// The host that a request names, if it may.
fn permitted_host(state: &State, request: &Request) -> Option<Authority> {
    let host = host(request).filter(is_whole)?;
    let shows_token = state.access.token.is_some() && shows_token(state, request.headers());
    (shows_token || is_ours(&host, state.bound.ip(), &state.access.hosts)).then_some(host)
}

/// The host that a request names: in HTTP/1.1 by its one Host header, in HTTP/2 by `:authority`.
fn host(request: &Request) -> Option<Authority> {
    let header = || Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok();
    request.uri().authority().cloned().or_else(header)
}

/// The host is a name and perhaps a port, and nothing that looks like one.
fn is_whole(host: &Authority) -> bool {
    let name = host.host();
    let whole = host.port_u16().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    !name.is_empty() && host.as_str() == whole
}

/// The host is one of this listener's, or of those that are configured. Bound to every address, any literal address is: a
/// rebound name is still a name.
fn is_ours(host: &Authority, bound: IpAddr, configured: &[String]) -> bool {
    // A dot at the end only says that the name is whole.
    let name = host.host().strip_suffix('.').unwrap_or(host.host());
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name.eq_ignore_ascii_case("localhost") || configured.iter().any(|known| known.eq_ignore_ascii_case(literal)) {
        return true;
    }
    let is_known = |address: IpAddr| configured.iter().any(|known| known.parse() == Ok(address));
    literal.parse().is_ok_and(|address: IpAddr| {
        address.is_loopback() || address == bound || bound.is_unspecified() || is_known(address)
    })
}

const SEC_FETCH_SITE: &str = "sec-fetch-site";
const NO_CERTIFICATE: &str = "show a client certificate that `admin.tls.client_ca` signed";
/// The paths that tell whether the relay lives and is ready.
pub(super) const PROBES: [&str; 2] = ["/healthz", "/readyz"];
const ANOTHER_HOST: &str = "the Host header names another host than this listener's: list that name in `admin.hosts`, or \
                            send the admin token as `Authorization: Bearer TOKEN`, with which any name will do";

#[cfg(test)]
mod tests {
    use super::*;

    fn host_is_ours(host: &str, bound: IpAddr, configured: &[String]) -> bool {
        Authority::try_from(host).is_ok_and(|host| is_whole(&host) && is_ours(&host, bound, configured))
    }

    #[test]
    fn a_host_is_ours_by_address_loopback_name_or_configuration() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let configured = ["gander.monitoring.svc", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
        for (host, bound, expected) in [
            ("127.0.0.1:9180", local, true),
            ("localhost:9180", local, true),
            ("LOCALHOST", local, true),
            ("localhost.:9180", local, true),
            ("gander.monitoring.svc.", local, true),
            ("localhost..", local, false),
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
            ("gander.monitoring.svc", local, true),
            ("Gander.Monitoring.svc:9180", local, true),
            ("gander.monitoring.svc.evil.com", local, false),
            ("gander.monitoring", local, false),
            ("user@gander.monitoring.svc", local, false),
            ("192.0.2.7:9180", local, true),
            ("192.0.2.8:9180", local, false),
            ("[2001:db8:0::7]:9180", local, true),
        ] {
            assert_eq!(host_is_ours(host, bound, &configured), expected, "{host}");
        }
    }
}
