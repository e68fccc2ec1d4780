//! Sources that take what strict JSON refuses, and what helps where they are strict.

use std::process::{Command, Stdio};

use gander::exports::lenient_json::JsonReading;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::commands;
use crate::relay::{self, Relay, payload, within};
use crate::support::{Setup, TOKEN, rules, source};
use crate::upstream::{Reply, Upstream};

const RAW_LINE_BREAK: &[u8] = b"{\"id\":\"rn\",\"state\":\"CRITICAL\",\"title\":\"Event\r\nid: 30d0\"}";
const NAN: &[u8] = b"{\"id\":\"n\",\"state\":\"CRITICAL\",\"value\":NaN}";
const LATIN_1: &[u8] = b"{\"id\":\"lat\",\"state\":\"CRITICAL\",\"title\":\"St\xf6rung auf Ger\xe4t\"}";
const QUOTE: &[u8] = b"{\"id\":\"q\",\"state\":\"CRITICAL\",\"title\":\"expected \"200\" got 502\"}";

#[tokio::test]
async fn a_lenient_source_takes_what_a_strict_one_refuses_with_the_remedy() {
    let mut setup = Setup::new();
    let mut lenient = source("lenient");
    lenient.accept.json = JsonReading::Lenient;
    // Rules in the shadow see what the rules in force see.
    lenient.rules.shadow = Some(rules("version: 1\nrules: [{ name: a, then: ignore }]").live);
    setup.sources.push(lenient);
    let edge = setup.start().await;
    let to_lenient = || {
        let uri = edge.url("/hooks/lenient");
        http::Request::builder().method("POST").uri(uri).header("authorization", format!("Bearer {TOKEN}"))
    };
    let rows: &[(&[u8], usize, &[&str], &str)] = &[
        (
            RAW_LINE_BREAK,
            45,
            &["control character", "With `json: lenient` the source would take it"],
            "control_character",
        ),
        (NAN, 38, &["`NaN` is no number", "With `json: lenient` the source would take it"], "not_a_number"),
        (LATIN_1, 43, &["not UTF-8", "name the charset", "; charset=windows-1252`", "`json: lenient`"], "windows_1252"),
    ];
    for (body, column, words, repair) in rows {
        let strict = edge.send(edge.post(), *body).await;
        assert_eq!((strict.status, &strict.body["column"]), (400, &json!(column)), "{strict:?}");
        let detail = strict.body["detail"].as_str().unwrap();
        assert!(
            words.iter().all(|word| detail.contains(word)) && detail.ends_with("It is kept as it came."),
            "{detail}"
        );
        assert_eq!(edge.kept(&strict.body["id"]).summary.state, "refused");

        let taken = edge.send(to_lenient(), *body).await;
        assert_eq!((taken.status, taken.body["status"].as_str()), (202, Some("queued")), "{taken:?}");
        let kept = edge.kept(&taken.body["id"]);
        let raw =
            kept.received_hex.map_or(kept.received.unwrap_or_default().into_bytes(), |hex| hex::decode(hex).unwrap());
        assert_eq!(raw, *body, "it is kept as it came");
        let repaired = |source: &str| {
            edge.metric(&format!("gander_payloads_repaired_total{{source=\"{source}\",repair=\"{repair}\"}}"))
        };
        assert_eq!((repaired("lenient").as_str(), repaired("servicepilot").as_str()), ("1", "0"), "{repair}");
    }
    for request in [edge.post(), to_lenient()] {
        let refused = edge.send(request, QUOTE).await;
        assert_eq!((refused.status, &refused.body["line"], &refused.body["column"]), (400, &json!(1), &json!(49)));
        assert!(!refused.body["detail"].as_str().unwrap().contains("lenient"), "{refused:?}");
        assert_eq!(edge.kept(&refused.body["id"]).received.unwrap().as_bytes(), QUOTE);
    }
    let shadow = || edge.metric("gander_shadow_decisions_total{source=\"lenient\",result=\"differs\"}");
    tokio::time::timeout(crate::support::PATIENCE, async {
        while shadow() != "3" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("each is decided again");
}

/// Posts bytes as ServicePilot would.
async fn post(relay: &Relay, body: &[u8]) -> relay::Answer {
    let bearer = format!("Bearer {}", relay::TOKEN);
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=10")];
    relay.client.send_bytes(Method::POST, &relay.hook("servicepilot"), &headers, body.to_vec()).await
}

/// Runs a command beside a relay: its exit code, what it wrote, what it said.
async fn gander(relay: &Relay, arguments: &[&str]) -> (i32, Vec<u8>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.current_dir(relay.directory.path()).env_clear().args(arguments).stdin(Stdio::null());
    command.args(["--config", "gander.yaml", "--set"]).arg(format!("admin.address=127.0.0.1:{}", relay.ports().1));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

async fn told(relay: &Relay, arguments: &[&str]) -> String {
    String::from_utf8(gander(relay, arguments).await.1).unwrap()
}

fn id(answer: &relay::Answer) -> String {
    answer.json["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// A problem whose title is as its template left it.
fn alert(key: &str, title: &[u8]) -> Vec<u8> {
    let (before, after) = (format!("{{\"servicepilot_event_id\":\"{key}\",\"state\":\"CRITICAL\",\"title\":\""), "\"}");
    [before.as_bytes(), title, after.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_repaired_is_sent_and_shown_with_the_event() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let setup = relay::Setup { source: vec!["json: lenient".into()], ..relay::Setup::default() };
        let relay = Relay::start(&upstream, &setup).await;
        let body = alert("e1", b"St\xf6rung\nC:\\Platte voll");
        let taken = post(&relay, &body).await;
        assert_eq!(taken.status, StatusCode::CREATED, "{taken:?}");
        assert_eq!(upstream.calls()[0].body["title"], "Störung\nC:\\Platte voll");

        let id = id(&taken);
        let repaired = ["Windows-1252, since it is not UTF-8", "raw control characters escaped", "kept as backslashes"];
        let shown = told(&relay, &["events", "show", &id]).await;
        let (_, of) = shown.split_once("what was repaired in it:\n").unwrap_or_else(|| panic!("{shown}"));
        assert!(repaired.iter().all(|words| of.contains(words)), "{shown}");
        let event = relay.admin(&format!("/api/v1/events/{id}")).await.json;
        assert_eq!(event["repaired"], json!(["windows_1252", "control_character", "escape"]), "{event}");
        let page = relay.admin(&format!("/events/{id}")).await.json;
        assert!(page.as_str().is_some_and(|page| page.contains("Repaired to be read: read as Windows-1252")), "{page}");
        let sound = post(&relay, &alert("e2", b"fine")).await;
        let event = relay.admin(&format!("/api/v1/events/{}", sound.json["id"].as_str().unwrap())).await.json;
        assert!(event["received"].is_string() && event.get("repaired").is_none(), "{event}");
        let (code, raw, _) = gander(&relay, &["events", "show", &id, "--raw"]).await;
        assert_eq!((code, raw.as_slice()), (0, body.as_slice()), "byte by byte");

        std::fs::write(relay.directory.path().join("alert.json"), &body).unwrap();
        for arguments in [&["--event", &id][..], &["--source", "servicepilot", "alert.json"]] {
            let page = told(&relay, &[&["explain"], arguments].concat()).await;
            let (_, of) = page.split_once("repaired\n").unwrap_or_else(|| panic!("{page}"));
            assert!(repaired.iter().all(|words| of.contains(words)), "{page}");
            let object: Value =
                serde_json::from_str(&told(&relay, &[&["explain", "--json"], arguments].concat()).await).unwrap();
            assert_eq!(object["repaired"], json!(["windows_1252", "control_character", "escape"]), "{object}");
        }
        std::fs::write(relay.directory.path().join("fine.json"), payload("e1", "OK").to_string()).unwrap();
        let fine = told(&relay, &["explain", "--json", "--source", "servicepilot", "fine.json"]).await;
        assert!(!fine.contains("repaired"), "{fine}");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_replayed_mended_or_once_its_source_is_lenient() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &relay::Setup::default()).await;
        let line_break = id(&post(&relay, &alert("e1", b"a\nb")).await);
        let quote_body = alert("e2", b"expected \"200\"");
        let quote = id(&post(&relay, &quote_body).await);
        let taken = id(&post(&relay, &alert("e3", b"fine")).await);
        let replay = |id: &str, file: &str| {
            let arguments = ["events", "replay", id, "--payload", file, "--yes", "--wait"].map(str::to_owned);
            let relay = &relay;
            async move { gander(relay, &arguments.each_ref().map(String::as_str)).await }
        };
        let file = |name: &str, bytes: &[u8]| std::fs::write(relay.directory.path().join(name), bytes).unwrap();

        let shown = told(&relay, &["events", "show", &line_break]).await;
        assert!(shown.contains("With `json: lenient` the source would take it"), "{shown}");
        let shown = told(&relay, &["events", "show", &quote]).await;
        assert!(!shown.contains("would take it") && shown.contains("--raw"), "{shown}");
        let (_, raw, _) = gander(&relay, &["events", "show", &quote, "--raw"]).await;
        file("raw.json", &raw);
        let (code, out, err) = replay(&quote, "raw.json").await;
        let out = String::from_utf8(out).unwrap();
        assert!(code == 1 && out.contains("refused again: $: the body is not JSON: "), "{code} {out} {err}");

        let mended = String::from_utf8(raw).unwrap().replace("\"200\"", "\\\"200\\\"");
        file("mended.json", mended.as_bytes());
        let (code, _, err) = replay(&taken, "mended.json").await;
        assert_eq!(code, 1, "an event is sent as it was decided: {err}");
        let ids = ["events", "replay", &quote, &line_break, "--payload", "mended.json", "--yes"];
        let (code, _, err) = gander(&relay, &ids).await;
        assert!(code == 2 && err.contains("needs the id of one refused payload"), "{code} {err}");
        file("latin.json", b"\"\xff\"");
        let (code, _, err) = replay(&quote, "latin.json").await;
        assert!(code == 2 && err.contains("latin.json is not UTF-8"), "{code} {err}");
        let command = async |path: String, body: Value| commands::command(&relay, &path, &body).await;
        let answer = command(format!("/{quote}/discard"), json!({ "payload": "{}" })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        let answer = command(format!("/{quote}/replay"), json!({ "payload": {} })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        let answer = command(format!("/{taken}/replay"), json!({ "payload": "{}" })).await;
        assert_eq!(
            (answer.status, &answer.json["reason"]),
            (StatusCode::CONFLICT, &json!("not_refused")),
            "{answer:?}"
        );
        let answer = command(format!("/{quote}/replay"), json!({ "payload": " ".repeat(2 << 20) })).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{answer:?}");
        // Each of these is six bytes within the command.
        let answer = command(format!("/{quote}/replay"), json!({ "payload": "\u{1}".repeat(1 << 20) })).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        assert_eq!(upstream.calls().len(), 1, "nothing was sent");

        let (code, out, err) = replay(&quote, "mended.json").await;
        let out = String::from_utf8(out).unwrap();
        assert!(code == 0 && out.contains("queued (trigger of e2)"), "{code} {out} {err}");
        assert_eq!(upstream.calls()[1].body["title"], "expected \"200\"");
        let ended = relay.admin(&format!("/api/v1/events/{quote}")).await.json;
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("ended"), &json!("replayed")), "{ended}");
        assert_eq!(ended["received"].as_str().unwrap().as_bytes(), quote_body, "it stays as it came");
        let new = relay.admin(&format!("/api/v1/events/{}", ended["replayed_by"][0].as_str().unwrap())).await.json;
        assert_eq!((&new["received"], &new["replay_of"]), (&json!(mended), &json!(quote)), "{new}");

        let (code, _, _) = gander(&relay, &["events", "replay", &line_break, "--yes"]).await;
        assert_eq!(code, 1, "the source is strict");
        let directory = relay.stop().await;
        let setup = relay::Setup { source: vec!["json: lenient".into()], ..relay::Setup::default() };
        let relay = Relay::start_in(directory, &upstream, &setup).await;
        let page = told(&relay, &["explain", "--event", &line_break]).await;
        assert!(page.contains("repaired\n  raw control characters escaped in strings, left out elsewhere\n"), "{page}");
        let (code, _, err) = gander(&relay, &["events", "replay", &line_break, "--yes", "--wait"]).await;
        assert_eq!(code, 0, "{err}");
        assert_eq!(upstream.calls()[2].body["title"], "a\nb");
        relay.stop().await;
    })
    .await;
}
