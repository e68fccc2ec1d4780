//! Who may look at the operator's face, and what it tells whom.

use http::Method;
use serde_json::Value;

use crate::relay::{Answer, Relay, Setup, within};
use crate::upstream::{Reply, Upstream};

const ADMIN_TOKEN: &str = "admin-canary-51c0";

/// Asks `path` with these headers.
async fn ask(relay: &Relay, path: &str, headers: &[(&str, &str)]) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", relay.ports().1);
    relay.client.send(Method::GET, &url, headers, String::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_show_the_token_learns_whether_it_lives_and_is_ready_and_no_more() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let admin = format!("address: '{address}', insecure: true, token: {ADMIN_TOKEN}");
            let relay = Relay::start(&upstream, &Setup { admin: Some(admin), ..Setup::default() }).await;
            let right = format!("Bearer {ADMIN_TOKEN}");
            let basic = format!("Basic {ADMIN_TOKEN}");
            let longer = format!("{right}x");
            for shown in [None, Some("Bearer wrong"), Some("Bearer"), Some(&*basic), Some(&*longer)] {
                let headers: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
                for path in ["/metrics", "/api/v1/events", "/api/v1/events/1", "/api/v1/incidents", "/api/v1/status"] {
                    let answer = ask(&relay, path, &headers).await;
                    assert_eq!(answer.status, 401, "{address} {path} with {shown:?}");
                    assert!(answer.json["detail"].as_str().unwrap().contains("Bearer TOKEN"), "{answer:?}");
                }
                assert_eq!(ask(&relay, "/healthz", &headers).await.status, 200, "{address} with {shown:?}");
                let ready = ask(&relay, "/readyz", &headers).await;
                assert_eq!((ready.status.as_u16(), keys(&ready.json)), (200, vec!["ready"]), "no details: {ready:?}");
            }
            let headers = [("authorization", &*right)];
            assert_eq!(ask(&relay, "/api/v1/status", &headers).await.status, 200);
            let ready = ask(&relay, "/readyz", &headers).await;
            assert!(keys(&ready.json).contains(&"degraded"), "{ready:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_in_a_browser_is_turned_away() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let own = format!("http://127.0.0.1:{}", relay.ports().1);
        for (header, status) in [
            (("origin", &*own), 200),
            (("origin", "http://evil.example"), 403),
            (("origin", "http://127.0.0.1:1"), 403),
            (("origin", "null"), 403),
            (("sec-fetch-site", "same-origin"), 200),
            (("sec-fetch-site", "none"), 200),
            (("sec-fetch-site", "same-site"), 403),
            (("sec-fetch-site", "cross-site"), 403),
            (("host", "localhost"), 200),
            (("host", "evil.example"), 403),
            (("host", "localhost:abc"), 403),
        ] {
            for path in ["/healthz", "/readyz", "/metrics", "/api/v1/events"] {
                assert_eq!(ask(&relay, path, &[header]).await.status, status, "{path} with {header:?}");
            }
        }
        let ready = ask(&relay, "/readyz", &[]).await;
        assert!(keys(&ready.json).contains(&"degraded"), "on loopback without a token details are shown: {ready:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_not_understood_is_refused_instead_of_half_followed() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        for (query, said) in [
            ("events?colour=red", "no `colour`"),
            ("events?stat=dead", "did you mean `state`?"),
            ("events?limit=1&key-contains=x", "did you mean `key_contains`?"),
            ("events?search=", "`search` takes a text"),
            ("incidents?source=x", "nothing in its query"),
            ("status?x", "nothing in its query"),
            ("events/1?x=y", "nothing in its query"),
            ("events?state=ded", "queued, delivered, dead, refused, ended"),
            ("events?outcome=fine", "created, resolved"),
            ("events?after=x", "`next`"),
            ("events?limit=0", "`limit`"),
            ("events?limit=-1", "limit"),
            ("events?limit=many", "limit"),
        ] {
            let answer = ask(&relay, &format!("/api/v1/{query}"), &[]).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{query}: {answer:?}");
        }
        assert_eq!(ask(&relay, "/api/v1/events?limit=1&state=dead", &[]).await.status, 200);
        assert_eq!(ask(&relay, "/api/v1/none", &[]).await.status, 404);
    })
    .await;
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}
