//! The page: who may see it, what it shows, and that nothing which came from outside is taken for more than text.

use std::sync::Arc;

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use regex::Regex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::confirmations::{confirm, confirming, webhook};
use crate::relay::{Relay, Setup, TOKEN, payload, within};
use crate::support::client;
use crate::upstream::{Reply, Upstream};

const ADMIN_TOKEN: &str = "admin-canary-51c0";

/// An answer of the admin listener.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(relay: &Relay, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", relay.ports().1);
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client(None, false).request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, text }
}

async fn get(relay: &Relay, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(relay, Method::GET, path, headers, "").await
}

fn with_token() -> Setup {
    Setup { admin: Some(format!("address: '127.0.0.1:0', token: {ADMIN_TOKEN}")), ..Setup::default() }
}

/// The name and value of the cookie that signing in gives.
async fn sign_in(relay: &Relay) -> String {
    let answer = send(relay, Method::POST, "/sign-in", &[], &format!("to=&token={ADMIN_TOKEN}")).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

const VIEWS: [&str; 7] = ["/", "/events", "/queue", "/incidents", "/attention", "/bench", "/connect"];

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_token_once_and_may_then_see_and_command_until_it_signs_out() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(400)).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        let dead = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let event = format!("/events/{}", dead.json["id"].as_str().unwrap());
        for view in VIEWS.into_iter().chain([&*event]) {
            let answer = get(&relay, view, &[]).await;
            assert_eq!(answer.status, 401, "{view}");
            assert!(answer.text.contains("Sign in") && !answer.text.contains("e1"), "{view}: {}", answer.text);
        }
        for wrong in ["", "token=", "token=wrong", "to=x&token=admin-canary-51c", "token=admin-canary-51c0%20"] {
            let answer = send(&relay, Method::POST, "/sign-in", &[], wrong).await;
            assert_eq!((answer.status, answer.header("set-cookie")), (401, ""), "{wrong}");
        }

        let form = format!("to=events%2F7%3Fx%3D1&token={ADMIN_TOKEN}");
        let answer = send(&relay, Method::POST, "/sign-in", &[], &form).await;
        assert_eq!((answer.status, answer.header("location")), (303, "./events/7?x=1"));
        let cookie = answer.header("set-cookie").to_owned();
        for attribute in ["HttpOnly", "SameSite=Strict", "Max-Age=43200"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains(ADMIN_TOKEN) && !answer.text.contains(ADMIN_TOKEN));
        let cookie = ("cookie", cookie.split(';').next().unwrap());
        for view in VIEWS.into_iter().chain([&*event]) {
            let answer = get(&relay, view, &[cookie]).await;
            assert_eq!(answer.status, 200, "{view}");
            assert!(!answer.text.contains(ADMIN_TOKEN), "{view}");
        }

        let discard = format!("/api/v1{event}/discard");
        let json = ("content-type", "application/json");
        for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200)] {
            let headers = [cookie, json, ("sec-fetch-site", site)];
            assert_eq!(send(&relay, Method::POST, &discard, &headers, "{}").await.status, status, "{site}");
        }
        let story = get(&relay, &event, &[cookie]).await.text;
        assert!(story.contains("ended") && story.contains("discarded"), "{story}");

        let answer = send(&relay, Method::POST, "/sign-out", &[cookie], "").await;
        assert_eq!(answer.status, 303);
        assert!(answer.header("set-cookie").contains("Max-Age=0"), "{answer:?}");
        assert_eq!(get(&relay, "/", &[cookie]).await.status, 401, "the session is closed, not only the cookie");
        assert_eq!(get(&relay, "/api/v1/status", &[cookie]).await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_to_sign_in_and_stops_keeps_no_connection() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
        stream.write_all(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nto").await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_is_told_of_commits_and_of_what_is_only_counted() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
        stream.write_all(b"GET /changes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut until = async |word: &str| {
            let mut text = String::new();
            while !text.contains(word) {
                let mut piece = [0; 1_024];
                let read = stream.read(&mut piece).await.unwrap();
                assert_ne!(read, 0, "the stream ended: {text}");
                text.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        };
        until(": nothing new").await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        until("data: changed").await;
        // It comes when nothing changed for a while.
        until(": nothing new").await;
        let turned_away = relay.client.send(Method::POST, &relay.hook("servicepilot"), &[], "{}".into()).await;
        assert_eq!(turned_away.status, 401);
        until("data: changed").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_however_deep_makes_no_page_that_is_much_larger() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let deep =
            format!(r#"{{"state":{}{}{}}}"#, "[".repeat(100), vec!["1234567890"; 60_000].join(","), "]".repeat(100));
        let headers = [("authorization", &*format!("Bearer {TOKEN}"))];
        let refused = relay.client.send(Method::POST, &relay.hook("servicepilot"), &headers, deep).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        let story = get(&relay, &format!("/events/{}", refused.json["id"].as_str().unwrap()), &[]).await;
        assert_eq!(story.status, 200);
        assert!(story.text.len() < 400_000 && story.text.contains("bytes in all"), "{}", story.text.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_signing_in_nobody_is_led_elsewhere() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        for to in [
            "//evil.example",
            "https://evil.example/",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "a\r\nx: y",
        ] {
            let to = percent_encoding::utf8_percent_encode(to, percent_encoding::NON_ALPHANUMERIC);
            let answer = send(&relay, Method::POST, "/sign-in", &[], &format!("to={to}&token={ADMIN_TOKEN}")).await;
            assert_eq!(answer.status, 303, "{to}");
            let location = answer.header("location");
            let rest = location.strip_prefix("./").unwrap_or_else(|| panic!("{to} leads to {location}"));
            assert!(!rest.starts_with(['/', '\\']), "{to} leads to {location}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_page_can_be_read_and_has_no_commands() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(400)).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let dead = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let event = format!("/events/{}", dead.json["id"].as_str().unwrap());
        for view in VIEWS.into_iter().chain([&*event]) {
            let answer = get(&relay, view, &[]).await;
            assert_eq!(answer.status, 200, "{view}");
            assert!(!answer.text.contains("data-post") && !answer.text.contains("data-all"), "{view}");
        }
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(get(&relay, &event, &link).await.status, 200, "a link in a chat leads here");
        for (path, headers) in
            [("/api/v1/events", &link[..]), ("/metrics", &link), (&*event, &link[..1]), (&*event, &link[..2])]
        {
            assert_eq!(get(&relay, path, headers).await.status, 403, "{path} {headers:?}");
        }
        let framed = [link[0], link[1], ("sec-fetch-dest", "iframe")];
        assert_eq!(get(&relay, &event, &framed).await.status, 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_an_event_tells_what_came_what_was_sent_and_each_answer() {
    within(async {
        let answers = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let upstream = Upstream::start(move |_, _| match answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::status(503),
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let taken = relay.post_with(&payload("e1", "CRITICAL"), &[("x-request-id", "chat-77")]).await;
        let id = taken.json["id"].as_str().unwrap().to_owned();
        relay.admin_once(&format!("/api/v1/events/{id}"), |event| event["state"] == "delivered").await;
        relay.post(&payload("e1", "OK")).await;
        let refused = relay.post(&json!({ "servicepilot_event_id": "", "state": "<b>UNHEARD</b>" })).await;

        let story = get(&relay, &format!("/events/{id}"), &[]).await.text;
        for part in [
            "e1",
            "created",
            "Call 1",
            "status 503",
            "Call 2",
            "chat-77",
            "High CPU Usage - e1",
            "What is sent",
            "Other events",
        ] {
            assert!(story.contains(part), "{part}\n{story}");
        }
        let refused = get(&relay, &format!("/events/{}", refused.json["id"].as_str().unwrap()), &[]).await.text;
        assert!(refused.contains("Why it was refused") && refused.contains("&lt;b&gt;UNHEARD"), "{refused}");
        let none = get(&relay, "/events/1", &[]).await;
        assert_eq!(none.status, 404);
        assert!(none.text.contains("No such event"));

        let listed = get(&relay, "/events?state=refused&key_or_title=&search=&since=2h", &[]).await;
        assert_eq!(listed.status, 200);
        assert_eq!(listed.text.matches("href=\"events/").count(), 1, "{}", listed.text);
        let reasons = |reason: &str| format!("/api/v1/events?reason={reason}");
        for (reason, count) in [("unprocessable", 1), ("not_json", 0), ("unproc", 0)] {
            let found = relay.admin(&reasons(reason)).await.json;
            assert_eq!(found["events"].as_array().unwrap().len(), count, "{reason}: {found}");
        }
        let searched = get(&relay, "/events?search=nowhere", &[]).await.text;
        assert!(searched.contains("Looked at 3 events"), "{searched}");
        let wrong = get(&relay, "/events?state=refusd", &[]).await.text;
        assert!(wrong.contains("did you mean") && wrong.contains("refused"), "{wrong}");
        let attention = get(&relay, "/attention", &[]).await.text;
        assert!(attention.contains("1 event of servicepilot"), "{attention}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_bench_tells_how_a_payload_is_decided_and_takes_nothing() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let decide = async |source: &str, payload: &str| {
            let encoded = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
            let form = format!("source={}&payload={}", encoded(source), encoded(payload));
            let answer = send(&relay, Method::POST, "/bench", &[], &form).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.text
        };
        let taken = decide("servicepilot", &payload("e1", "CRITICAL").to_string()).await;
        for part in ["validate", "$.state", "problem → trigger", "<b>trigger</b> of", "High CPU Usage - e1"] {
            assert!(taken.contains(part), "{part}\n{taken}");
        }
        let refused = decide("servicepilot", r#"{"servicepilot_event_id": "e1", "state": "<i>ODD"}"#).await;
        assert!(refused.contains("no rule matches") && refused.contains("&lt;i&gt;ODD"), "{refused}");
        assert!(decide("servicepilot", "{").await.contains("not JSON"));
        assert!(decide("nobody", "{}").await.contains("no such source"));
        assert_eq!(relay.admin("/api/v1/events").await.json["events"], json!([]), "nothing is taken");
        assert_eq!(upstream.calls().len(), 0);

        let event = relay.post(&payload("e2", "CRITICAL")).await.json;
        let bench = get(&relay, &format!("/bench?event={}", event["id"].as_str().unwrap()), &[]).await;
        assert!(bench.status == 200 && bench.text.contains("High CPU Usage - e2"), "{bench:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bench_tells_what_callgooses_filters_make_of_each_event() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = with_filters(&upstream, FILTERS).await;
        let decide = async |payload: Value| {
            let encoded =
                percent_encoding::utf8_percent_encode(&payload.to_string(), percent_encoding::NON_ALPHANUMERIC)
                    .to_string();
            let form = format!("source=servicepilot&payload={encoded}");
            send(&relay, Method::POST, "/bench", &[], &form).await.text
        };
        let opens = decide(payload("e1", "CRITICAL")).await;
        for part in ["service payments: trigger filter 1 opens an incident, urgency high", "mapped with  e1"] {
            assert!(opens.contains(part), "{part}\n{opens}");
        }
        let nothing = decide(payload("e1", "OK")).await;
        assert!(nothing.contains("no resolve filter matches: no incident would be closed"), "{nothing}");
        let bench = get(&relay, "/bench", &[]).await.text;
        assert!(bench.contains("callgoose-filters.yaml"), "{bench}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_are_wrong_are_told_and_keep_no_relay_from_starting() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = with_filters(&upstream, "services: 7\n").await;
        for view in ["/bench", "/connect"] {
            let text = get(&relay, view, &[]).await.text;
            assert!(text.contains("can't be used") && text.contains("callgoose-filters.yaml"), "{view}: {text}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bench_says_that_the_source_of_an_event_is_gone() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let variable = |name: &str, value: &str| (format!("GANDER_SOURCES__OLD__{name}"), value.to_owned());
        let environment = vec![variable("RULES", "rules.yaml"), variable("AUTH", "none")];
        let relay = Relay::start(&upstream, &Setup { environment, ..Setup::default() }).await;
        let headers = [("content-type", "application/json")];
        let body = payload("e1", "CRITICAL").to_string();
        let taken = relay.client.send(Method::POST, &relay.hook("old"), &headers, body).await;
        let id = taken.json["id"].as_str().unwrap().to_owned();
        let known = get(&relay, &format!("/bench?event={id}"), &[]).await.text;
        assert!(known.contains("value=\"old\" selected") && !known.contains("(choose)"), "{known}");
        let relay = Relay::start_in(relay.stop().await, &upstream, &Setup::default()).await;
        let bench = get(&relay, &format!("/bench?event={id}"), &[]).await.text;
        for part in ["is no source of the configuration any more", "(choose)", "High CPU Usage - e1"] {
            assert!(bench.contains(part), "{part}\n{bench}");
        }
        assert!(!bench.contains("value=\"servicepilot\" selected"), "{bench}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_a_sender_is_told_what_to_type_and_never_the_secret() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let connect = get(&relay, "/connect", &[]).await.text;
        let port = relay.ports().0;
        for part in [
            &*format!("https://localhost:{port}/hooks/servicepilot"),
            "Authorization: Bearer TOKEN",
            "application/json",
            "SERVICEPILOT_TOKEN",
            "only senders on this machine",
            "the certificate is self-signed",
            "none since the start",
            "Map Incident With",
            "CRITICAL",
            "Policies → Alert Policies",
        ] {
            assert!(connect.contains(part), "{part}\n{connect}");
        }
        assert!(!connect.contains(TOKEN), "{connect}");

        relay.post(&payload("e1", "CRITICAL")).await;
        while get(&relay, "/connect", &[]).await.text.contains("none since the start") {
            tokio::task::yield_now().await;
        }

        let relay = with_filters(&upstream, FILTERS).await;
        let connect = get(&relay, "/connect", &[]).await.text;
        for part in
            ["Service payments, trigger filter 1", "Urgency", "high", "Service payments, resolve filter", "RECOVERED"]
        {
            assert!(connect.contains(part), "{part}\n{connect}");
        }
        assert!(!connect.contains("filters-canary"), "the token in the filters is not on it: {connect}");

        let open = Setup { source: vec!["allow_from: [127.0.0.0/8]".to_owned()], ..Setup::default() };
        let relay = Relay::start(&upstream, &open).await;
        let connect = get(&relay, "/connect", &[]).await.text;
        assert!(connect.contains("only senders in 127.0.0.0/8"), "{connect}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_commanded_what_is_kept_and_told() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(400)).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        let mut dead = Vec::new();
        for key in ["e1", "e2", "e3"] {
            let answer = relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
            dead.push(answer.json["id"].as_str().unwrap().to_owned());
        }
        let refused = relay.post(&json!({ "servicepilot_event_id": "e9", "state": "ODD" })).await.json;
        let cookie = sign_in(&relay).await;
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let json = ("content-type", "application/json");
        let (by_token, by_page) = ([json, ("authorization", &*bearer)], [json, ("cookie", &*cookie)]);
        let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
            let answer = send(&relay, Method::POST, &format!("/api/v1/events{path}"), headers, body).await;
            assert!([200, 202].contains(&answer.status), "{path}: {answer:?}");
        };
        post(&format!("/{}/discard", dead[0]), &by_page, "{}").await;
        post("/discard", &by_token, r#"{"state":"dead","source":"servicepilot"}"#).await;
        post("/hold", &by_token, r#"{"key":"e7"}"#).await;
        post("/release", &by_page, r#"{"key":"e7"}"#).await;
        // A waiting event is ended by the dispatcher; the command for a refused payload is kept as well.
        post("/hold", &by_token, r#"{"source":"servicepilot"}"#).await;
        let queued = relay.post(&payload("e8", "CRITICAL")).await.json["id"].as_str().unwrap().to_owned();
        post(&format!("/{queued}/discard"), &by_page, "{}").await;
        post(&format!("/{}/discard", refused["id"].as_str().unwrap()), &by_token, "{}").await;
        // Declined: it ended before.
        let again = format!("/api/v1/events/{}/discard", dead[0]);
        assert_eq!(send(&relay, Method::POST, &again, &by_page, "{}").await.status, 409);

        let ask = async |query: &str| -> Value {
            let answer = get(&relay, &format!("/api/v1/commands{query}"), &[("cookie", &cookie)]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            serde_json::from_str(&answer.text).unwrap()
        };
        let all = ask("").await;
        let told: Vec<(&str, u64, &str)> = all["commands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["command"].as_str().unwrap(), one["count"].as_u64().unwrap(), one["by"].as_str().unwrap()))
            .collect();
        let (token, page) = ("token, 127.0.0.1", "page session, 127.0.0.1");
        assert_eq!(
            told,
            [
                ("discard", 1, token),
                ("discard", 1, page),
                ("hold", 0, token),
                ("release", 0, page),
                ("hold", 0, token),
                ("discard", 2, token),
                ("discard", 1, page),
            ]
        );
        let swept = &all["commands"][5];
        assert_eq!((&swept["selection"]["state"], &swept["events"]), (&json!("dead"), &json!([dead[1], dead[2]])));
        assert_eq!(all["commands"][4]["key"], "e7");
        let of_one = ask(&format!("?event={queued}")).await;
        assert_eq!(of_one["commands"].as_array().unwrap().len(), 1, "{of_one}");
        let page_of_two = ask("?limit=2").await;
        assert_eq!(page_of_two["next"], page_of_two["commands"][1]["id"]);
        assert!(!all.to_string().contains(ADMIN_TOKEN));
        let wrong = get(&relay, "/api/v1/commands?evnt=1", &[("cookie", &cookie)]).await;
        assert!(wrong.status == 400 && wrong.text.contains("did you mean `event`?"), "{wrong:?}");

        for (event, by) in [(&dead[0], page), (&dead[1], token), (&queued, page)] {
            let story = get(&relay, &format!("/events/{event}"), &[("cookie", &cookie)]).await.text;
            assert!(story.contains(&format!("<b>Discarded</b> by {by}")), "{event} {by}\n{story}");
        }
        let attention = get(&relay, "/attention", &[("cookie", &cookie)]).await.text;
        assert!(attention.contains("What people did") && attention.contains("2 events with state dead"), "{attention}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_where_only_the_commands_cannot_be_read() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let posted = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await.json;
        let directory = relay.stop().await;
        let journal = rusqlite::Connection::open(directory.path().join("data/journal.db")).unwrap();
        journal.execute_batch("ALTER TABLE command_log RENAME COLUMN given_by TO lost").unwrap();
        drop(journal);
        let relay = Relay::start_in(directory, &upstream, &Setup::default()).await;
        let story = get(&relay, &format!("/events/{}", posted["id"].as_str().unwrap()), &[]).await;
        assert!(story.status == 200 && story.text.contains("Received and on disk"), "{story:?}");
        assert_eq!(get(&relay, "/api/v1/commands", &[]).await.status, 503, "they can't be read");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_reason_commands_its_own_events_only() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        relay.post(&json!({ "servicepilot_event_id": "e9", "state": "ODD" })).await;
        let cookie = sign_in(&relay).await;
        let headers = [("content-type", "application/json"), ("cookie", &*cookie)];
        for (reason, state, count) in [("", "delivered", 1), ("", "refused", 0), ("unprocessable", "refused", 1)] {
            let body = json!({ "state": state, "reason": reason, "dry_run": true }).to_string();
            let plan = send(&relay, Method::POST, "/api/v1/events/replay", &headers, &body).await;
            let plan: Value = serde_json::from_str(&plan.text).unwrap();
            assert_eq!(plan["matching"], count, "{reason:?} of {state}: {plan}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_dead_letter_offers_those_like_it_from_there_on() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(400)).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        let dead = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await.json;
        let id = dead["id"].as_str().unwrap();
        let cookie = sign_in(&relay).await;
        let story = get(&relay, &format!("/events/{id}"), &[("cookie", &cookie)]).await.text;
        let button = story.split("<button ").find(|button| button.contains("Replay from here on")).unwrap();
        let body = button.split("data-body=\"").nth(1).unwrap().split('"').next().unwrap().replace("&quot;", "\"");
        let selection: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&selection["state"], &selection["from"]), (&json!("dead"), &json!(id)), "{selection}");
        // The list that the group leads to has it too.
        let attention = get(&relay, "/attention", &[("cookie", &cookie)]).await.text;
        let all = attention.split("href=\"").find(|link| link.contains(">All of them<")).unwrap();
        let list = all.split('"').next().unwrap().replace("&amp;", "&");
        let list = get(&relay, &format!("/{list}"), &[("cookie", &cookie)]).await;
        assert!(list.status == 200 && list.text.contains(&format!("events/{id}")), "{list:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_outside_is_text_on_every_view() {
    within(async {
        let upstream =
            Upstream::start(|_, _| Reply::json(400, &json!({ "message": "<script>alert('answer')</script>" }))).await;
        let relay = Relay::start(&upstream, &Setup { source: confirming(&[]).source, ..with_token() }).await;
        for naughty in NAUGHTY {
            let mut alert = payload(naughty, "CRITICAL");
            for name in ["title", "description", "host", "service", "severity"] {
                alert[name] = Value::from(naughty);
            }
            let id = if naughty.chars().all(|c| c.is_ascii_graphic() || c == ' ') { naughty } else { "plain" };
            let taken = relay.post_with(&alert, &[("x-request-id", id)]).await.status == 202;
            relay.post(&json!({ "servicepilot_event_id": naughty, "state": naughty })).await;
            // About the trigger, where its key was none that is refused, and about nothing.
            let of_key = if taken { "matched" } else { "unmatched" };
            let mut webhook = webhook("opened", naughty);
            webhook["text"] = Value::from(naughty);
            for (body, result) in [(webhook.to_string(), of_key), (naughty.to_owned(), "unknown_shape")] {
                let answer = confirm(&relay.client, relay.ports().0, TOKEN, &body).await;
                assert_eq!(answer.json["result"], result, "{body}: {answer:?}");
            }
        }
        let key = percent_encoding::utf8_percent_encode(NAUGHTY[0], percent_encoding::NON_ALPHANUMERIC).to_string();
        let cookie = sign_in(&relay).await;
        let cookie = ("cookie", &*cookie);
        while get(&relay, "/api/v1/events?state=queued", &[cookie]).await.text.contains("\"id\"") {
            tokio::task::yield_now().await;
        }
        let events = relay
            .client
            .send(Method::GET, &format!("http://127.0.0.1:{}/api/v1/events", relay.ports().1), &[cookie], String::new())
            .await;
        let ids: Vec<String> = events.json["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| format!("/events/{}", event["id"].as_str().unwrap()))
            .collect();
        assert!(ids.len() > NAUGHTY.len());
        let searches = [
            format!("/events?key_contains={key}"),
            format!("/events?key_or_title={key}"),
            format!("/events?search={key}"),
            format!("/events?source={key}&state={key}"),
        ];
        let tag = Regex::new(r"<([a-z][a-z0-9]*)([^>]*)>").unwrap();
        let attribute = Regex::new(r#"\s([^\s="]+)(?:="([^"]*)")?"#).unwrap();
        for view in VIEWS.map(str::to_owned).iter().chain(&ids).chain(&searches) {
            let answer = get(&relay, view, &[cookie]).await;
            assert!([200, 404].contains(&answer.status), "{view}: {answer:?}");
            assert_eq!(answer.text.matches("<script").count(), 1, "{view}: its own\n{}", answer.text);
            for tag in tag.captures_iter(&answer.text) {
                assert!(TAGS.contains(&&tag[1]), "{view}: {}", &tag[0]);
                for found in attribute.captures_iter(&tag[2]) {
                    let (name, value) = (&found[1], found.get(2).map_or("", |value| value.as_str()));
                    assert!(ATTRIBUTES.contains(&name) || name.starts_with("data-"), "{view}: {}", &tag[0]);
                    let leads = ["href", "src", "action"].contains(&name);
                    let is_ours =
                        !value.starts_with('/') && !value.split(['/', '?', '#']).next().unwrap().contains(':');
                    assert!(!leads || is_ours, "{view}: {}", &tag[0]);
                }
            }
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!((answer.header("cache-control"), answer.header("x-frame-options")), ("no-store", "DENY"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_page_is_small_and_loads_nothing_from_elsewhere() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &with_token()).await;
        let mut bytes = 0;
        // Whoever is to sign in sees them too.
        for asset in ["/style.css", "/script.js", "/icon.svg"] {
            let answer = get(&relay, asset, &[]).await;
            assert_eq!((answer.status, answer.header("x-content-type-options")), (200, "nosniff"), "{asset}");
            let elsewhere = answer.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("//") || asset == "/script.js" && !elsewhere.contains("http"), "{asset}");
            bytes += answer.text.len();
        }
        let cookie = sign_in(&relay).await;
        bytes += get(&relay, "/", &[("cookie", &cookie)]).await.text.len();
        assert!(bytes < 60_000, "{bytes} bytes");
    })
    .await;
}

/// A relay with filters beside its configuration.
async fn with_filters(upstream: &Upstream, filters: &str) -> Relay {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(directory.path().join("callgoose-filters.yaml"), filters).unwrap();
    Relay::start_in(directory, upstream, &Setup::default()).await
}

const FILTERS: &str = "
token: filters-canary-07aa
services:
  - name: payments
    trigger:
      - urgency: high
        keys: [{ key: state, contains: [CRITICAL] }]
        title_from: title
        map_incident_with: servicepilot_event_id
    resolve: { keys: [{ key: state, contains: [RECOVERED] }], incident_mapped_with: servicepilot_event_id }
";

/// The elements that the views are made of.
const TAGS: [&str; 46] = [
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "a",
    "header",
    "img",
    "nav",
    "form",
    "button",
    "main",
    "h1",
    "h2",
    "p",
    "b",
    "code",
    "pre",
    "section",
    "div",
    "span",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "time",
    "label",
    "input",
    "select",
    "option",
    "ol",
    "ul",
    "li",
    "details",
    "summary",
    "noscript",
    "figure",
    "figcaption",
    "svg",
    "path",
    "textarea",
    "h3",
];

/// Their attributes. None holds code or style.
const ATTRIBUTES: [&str; 37] = [
    "lang",
    "charset",
    "name",
    "content",
    "rel",
    "href",
    "src",
    "defer",
    "class",
    "id",
    "tabindex",
    "alt",
    "width",
    "height",
    "method",
    "action",
    "scope",
    "datetime",
    "title",
    "role",
    "type",
    "value",
    "placeholder",
    "autocomplete",
    "selected",
    "open",
    "hidden",
    "aria-label",
    "aria-current",
    "aria-hidden",
    "readonly",
    "viewBox",
    "preserveAspectRatio",
    "d",
    "rows",
    "spellcheck",
    "colspan",
];

/// Texts that would be more than text where they are not escaped.
const NAUGHTY: [&str; 10] = [
    r#""><script>alert(1)</script>"#,
    "<img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\" autofocus onfocus=\"alert(1)",
    "javascript:alert(1)",
    "</pre></main><svg onload=alert(1)>",
    "`<b>`{{7*7}}${7*7}",
    "<!--",
    "&lt;script&gt;",
    "\u{202e}<style>*{display:none}</style>\u{0}",
];
