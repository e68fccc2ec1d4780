//! What a person does with dead letters and refused payloads: through the admin API and the command line.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::relay::{Answer, Relay, Setup, TOKEN, payload, within};
use crate::upstream::{Call, Gate, Reply, Upstream};

/// Refuses whatever comes until the gate is open: dead letters at once.
async fn refusing_until(gate: &Arc<AtomicBool>) -> Upstream {
    let gate = Arc::clone(gate);
    Upstream::start(move |_, _| if gate.load(Ordering::SeqCst) { Reply::Done } else { Reply::status(400) }).await
}

fn fast() -> Setup {
    Setup { upstream: vec!["rate_limit: { per_second: 10000, burst: 10000 }".into()], ..Setup::default() }
}

pub async fn command(relay: &Relay, path: &str, body: &Value) -> Answer {
    post(relay, &format!("events{path}"), body).await
}

async fn post(relay: &Relay, path: &str, body: &Value) -> Answer {
    let url = format!("http://127.0.0.1:{}/api/v1/{path}", relay.ports().1);
    relay.client.send(Method::POST, &url, &[("content-type", "application/json")], body.to_string()).await
}

async fn listed(relay: &Relay, query: &str) -> Vec<Value> {
    relay.admin(&format!("/api/v1/events?{query}")).await.json["events"].as_array().unwrap().clone()
}

fn id(event: &Value) -> String {
    event["id"].as_str().unwrap().to_owned()
}

fn short(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_and_delivered() {
    within(async {
        let open = Arc::default();
        let upstream = refusing_until(&open).await;
        let relay = Relay::start(&upstream, &fast()).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let dead = id(&answer.json);
        open.store(true, Ordering::SeqCst);

        let answer = command(&relay, &format!("/{dead}/replay"), &json!({})).await;
        assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("replayed")), "{answer:?}");
        let new = &answer.json["events"][0];
        assert_eq!(
            (&new["status"], &new["action"], &new["incident_key"]),
            (&json!("queued"), &json!("trigger"), &json!("e1"))
        );
        let new = id(new);
        let shown = relay.admin_once(&format!("/api/v1/events/{new}"), |event| event["state"] == "delivered").await;
        assert_eq!((&shown["outcome"], &shown["replay_of"]), (&json!("created"), &json!(dead)));
        assert_eq!(short(&upstream.calls()), ["e1 CRITICAL", "e1 CRITICAL"]);
        let old = relay.admin(&format!("/api/v1/events/{dead}")).await.json;
        assert_eq!(
            (&old["state"], &old["reason"], &old["replayed_by"]),
            (&json!("ended"), &json!("replayed"), &json!([new]))
        );

        let answer = command(&relay, &format!("/{dead}/replay"), &json!({})).await;
        assert_eq!((answer.status, &answer.json["reason"]), (StatusCode::CONFLICT, &json!("replayed")), "{answer:?}");
        let answer = command(&relay, &format!("/{dead}/replay"), &json!({ "force": true })).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = relay.post(&payload("e1", "CRITICAL")).await;
        assert_eq!(answer.json["status"], "duplicate", "what was replayed last is what is known");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_needs_its_content_type_and_says_what_is_wrong() {
    within(async {
        let gate = Gate::closed();
        let held = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(held.clone(), Box::new(Reply::Done))).await;
        let relay = Relay::start(&upstream, &fast()).await;
        let waiting = id(&relay.post(&payload("e1", "CRITICAL")).await.json);
        let base = format!("http://127.0.0.1:{}/api/v1/events", relay.ports().1);
        let json = ("content-type", "application/json");
        type Row<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
        let rows: &[Row<'_>] = &[
            ("no type", format!("/{waiting}/replay"), &[], "{}", 415, "Content-Type"),
            ("a form", format!("/{waiting}/replay"), &[("content-type", "text/plain")], "{}", 415, "Content-Type"),
            (
                "another site",
                format!("/{waiting}/replay"),
                &[json, ("origin", "https://evil.example")],
                "{}",
                403,
                "site",
            ),
            ("a page of another site", "/replay".into(), &[json, ("sec-fetch-site", "cross-site")], "{}", 403, "site"),
            ("no JSON", format!("/{waiting}/replay"), &[json], "{", 400, "JSON object"),
            ("a list", format!("/{waiting}/replay"), &[json], "[]", 400, "JSON object"),
            ("a word for a flag", format!("/{waiting}/replay"), &[json], r#"{"force": "yes"}"#, 400, "true or false"),
            ("a filter with an id", format!("/{waiting}/replay"), &[json], r#"{"key": "k"}"#, 400, "`force` only"),
            (
                "a dry run of one event",
                format!("/{waiting}/discard"),
                &[json],
                r#"{"dry_run": true}"#,
                400,
                "counts what a filter chooses",
            ),
            ("no event", "/17/replay".into(), &[json], "", 404, "kept"),
            ("no number", "/x/discard".into(), &[json], "", 404, "number"),
            ("what is queued", format!("/{waiting}/replay"), &[json], "", 409, "waits"),
            ("what is queued, by force", format!("/{waiting}/replay"), &[json], r#"{"force":true}"#, 409, "waits"),
            ("what is under way, discarded", format!("/{waiting}/discard"), &[json], "", 202, "under way"),
            ("everything", "/replay".into(), &[json], "{}", 400, "at least one of"),
            ("an unknown filter", "/replay".into(), &[json], r#"{"stat": "dead"}"#, 400, "stat"),
            (
                "a member twice",
                "/discard".into(),
                &[json],
                r#"{"state":"refused","state":"queued"}"#,
                400,
                "there twice",
            ),
            ("what waits", "/replay".into(), &[json], r#"{"state":"dead,queued"}"#, 400, "is sent anyway"),
            ("an unknown state", "/discard".into(), &[json], r#"{"state": "ded"}"#, 400, "`state` takes"),
            (
                "an age without a unit",
                "/discard".into(),
                &[json],
                r#"{"state":"dead","older_than":"1"}"#,
                400,
                "an age",
            ),
        ];
        for (claim, path, headers, body, status, said) in rows {
            let answer = relay.client.send(Method::POST, &format!("{base}{path}"), headers, (*body).to_owned()).await;
            assert_eq!(answer.status, *status, "{claim}: {answer:?}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{claim}: {answer:?}");
        }
        let answer = relay.admin("/api/v1/events/replay").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{answer:?}");
        gate.open();
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_worked_off_in_pages_and_never_meets_its_own_replays() {
    within(async {
        let no = json!({ "created": false, "resolved": false, "duplicate": false });
        let neither = json!({ "id": "1", "triggered": no, "resolved": no });
        let upstream = Upstream::start(move |_, _| Reply::json(202, &neither)).await;
        let relay = Relay::start(&upstream, &fast()).await;
        for at in 0..130 {
            relay.post(&payload(&format!("e{at}"), "CRITICAL")).await;
        }
        upstream.calls_once(130).await;
        let first = relay.admin_once("/api/v1/events?state=queued", |list| list["events"] == json!([])).await;
        assert_eq!(first["next"], Value::Null);

        let mut body = json!({ "outcome": "unmatched", "source": "servicepilot" });
        let counted = command(&relay, "/replay", &json!({ "outcome": "unmatched", "dry_run": true })).await;
        assert_eq!(counted.json["matching"], 130, "{counted:?}");
        let mut pages = Vec::new();
        loop {
            let answer = command(&relay, "/replay", &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let results = answer.json["results"].as_array().unwrap();
            assert!(results.iter().all(|result| result["status"] == "replayed"), "{results:?}");
            pages.push(results.len());
            match answer.json["next"].as_str() {
                Some(next) => body["after"] = json!(next),
                None => break,
            }
        }
        assert_eq!(pages, [100, 30]);
        // Each of these is unmatched again, and once.
        let calls = upstream.calls_once(260).await;
        let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
        calls.iter().for_each(|call| *by_key.entry(call.key().to_owned()).or_default() += 1);
        assert!(by_key.len() == 130 && by_key.values().all(|calls| *calls == 2), "{by_key:?}");

        // The originals were replayed by now, their replays were not.
        relay.admin_once("/api/v1/events?state=queued", |list| list["events"] == json!([])).await;
        let answer = command(&relay, "/replay", &json!({ "outcome": "unmatched", "limit": 3 })).await;
        let reasons: Vec<_> =
            answer.json["results"].as_array().unwrap().iter().map(|result| &result["reason"]).collect();
        assert_eq!(reasons, ["replayed"; 3], "{answer:?}");
        let detail = answer.json["results"][0]["detail"].as_str().unwrap();
        assert!(detail.ends_with(": delivered, unmatched; replay that one instead"), "{answer:?}");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matches_is_replayed_from_an_event_on_and_what_came_before_it_stays() {
    within(async {
        let open = Arc::default();
        let upstream = refusing_until(&open).await;
        let relay = Relay::start(&upstream, &fast()).await;
        let mut dead = Vec::new();
        for key in ["a", "b", "c", "d", "e"] {
            dead.push(id(&relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await.json));
        }
        open.store(true, Ordering::SeqCst);
        let from = &dead[2];
        let of_list: Vec<String> = listed(&relay, &format!("state=dead&from={from}")).await.iter().map(id).collect();
        assert_eq!(of_list, [&*dead[4], &dead[3], &dead[2]], "a list is newest first");
        let plan = command(&relay, "/replay", &json!({ "state": "dead", "from": from, "dry_run": true })).await;
        assert_eq!((&plan.json["matching"], plan.status), (&json!(3), StatusCode::OK), "{plan:?}");
        let (code, out, _) = gander(&relay, &["replay", "--state", "dead", "--from", from, "--dry-run"]).await;
        assert_eq!((code, out.trim()), (0, "3 events; nothing was done"));
        // Page by page, and cancelled after the first.
        let page = command(&relay, "/replay", &json!({ "state": "dead", "from": from, "limit": 1 })).await;
        assert_eq!(
            (page.json["results"].as_array().map(Vec::len), &page.json["results"][0]["id"]),
            (Some(1), &json!(from))
        );
        assert!(page.json["next"].is_string(), "{page:?}");
        let (code, out, said) = gander(&relay, &["replay", "--state", "dead", "--from", from, "--yes"]).await;
        let replayed: Vec<&str> =
            out.lines().filter_map(|line| line.split_once(" replayed: ").map(|(id, _)| id)).collect();
        assert_eq!((code, replayed), (0, vec![&*dead[3], &dead[4]]), "oldest first\n{out}{said}");
        let left: Vec<String> = listed(&relay, "state=dead").await.iter().map(id).collect();
        assert_eq!(left, [&*dead[1], &dead[0]]);
        let (code, _, said) = gander(&relay, &["replay", &dead[0], "--from", from]).await;
        assert!(code == 2 && said.contains("cannot be used with"), "{said}");
        relay.stop().await;
    })
    .await;
}

const STRICT: &str = "
version: 1
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
incident_key: [$.servicepilot_event_id]
emit: { servicepilot_event_id: $.servicepilot_event_id, state: { $by_action: { trigger: CRITICAL, resolve: OK } }, title: $.title }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_payload_is_decided_by_the_rules_that_are_loaded_now() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let setup = Setup { rules: Some(STRICT.to_owned()), ..fast() };
        let relay = Relay::start(&upstream, &setup).await;
        let refused = id(&relay.post(&payload("e1", "DEGRADED")).await.json);
        let noise = id(&relay.post(&payload("e2", "CALM")).await.json);
        let hopeless = id(&relay.post(&payload("e3", "STRANGE")).await.json);
        let old = id(&relay.post(&payload("e4", "DEGRADED")).await.json);
        relay.post_with(&payload("e4", "OK"), &[("prefer", "wait=10")]).await;
        let bearer = format!("Bearer {TOKEN}");
        let declared = [("authorization", bearer.as_str()), ("content-type", "text/plain; charset=utf-16le")];
        let text = json!({ "servicepilot_event_id": "e5", "state": "DEGRADED", "title": "Zürich" }).to_string();
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide = relay.client.send_bytes(Method::POST, &relay.hook("servicepilot"), &declared, wide).await;
        assert_eq!(wide.status, StatusCode::UNPROCESSABLE_ENTITY, "{wide:?}");
        let wide = id(&wide.json);

        let answer = command(&relay, &format!("/{refused}/replay"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        assert!(answer.json["errors"][0]["problem"].is_string(), "{answer:?}");
        assert_eq!(listed(&relay, "state=refused").await.len(), 5, "it stays as it was, and once");

        let directory = relay.stop().await;
        let rules = STRICT.replace("equals: CRITICAL", "one_of: [CRITICAL, DEGRADED]").replace(
            "incident_key",
            "  - { name: calm, when: { path: $.state, equals: CALM }, then: ignore }\nincident_key",
        );
        let relay = Relay::start_in(directory, &upstream, &Setup { rules: Some(rules), ..fast() }).await;
        let answer = command(&relay, "/replay", &json!({ "source": "servicepilot" })).await;
        let results = answer.json["results"].as_array().unwrap();
        let said: Vec<(String, &Value, &Value)> =
            results.iter().map(|result| (id(result), &result["status"], &result["events"][0]["status"])).collect();
        assert_eq!(
            said,
            [
                (refused.clone(), &json!("replayed"), &json!("queued")),
                (noise, &json!("replayed"), &json!("ignored")),
                (hopeless.clone(), &json!("refused"), &Value::Null),
                (old, &json!("declined"), &Value::Null),
                (wide, &json!("replayed"), &json!("queued")),
            ],
            "{answer:?}"
        );
        let new = id(&results[0]["events"][0]);
        let shown = relay.admin_once(&format!("/api/v1/events/{new}"), |event| event["state"] == "delivered").await;
        assert_eq!((&shown["replay_of"], &shown["rule"]), (&json!(refused), &json!("problem")));
        assert_eq!(shown["received"], payload("e1", "DEGRADED").to_string(), "as it came");
        let calls = upstream.calls_once(3).await;
        let mut titles: Vec<&str> = calls.iter().filter_map(|call| call.body["title"].as_str()).collect();
        titles.sort_unstable();
        assert_eq!(titles, ["High CPU Usage - e1", "High CPU Usage - e4", "Zürich"]);

        let answer = command(&relay, &format!("/{hopeless}/discard"), &json!({})).await;
        assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("discarded")));
        let ended = relay.admin(&format!("/api/v1/events/{hopeless}")).await.json;
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("ended"), &json!("discarded")));
        assert_eq!(ended["received"], payload("e3", "STRANGE").to_string());
        assert!(ended["errors"].is_array() && ended["sent"].is_null(), "{ended}");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_element_of_a_batch_is_replayed_within_its_batch() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let batches = "
version: 1
split: $.alerts[*]
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
incident_key: [$.id]
emit: { servicepilot_event_id: $.id, state: CRITICAL, title: $$.site }
";
        let relay = Relay::start(&upstream, &Setup { rules: Some(batches.to_owned()), ..fast() }).await;
        let alerts =
            json!([{ "id": "a", "state": "BAD" }, { "id": "b", "state": "CRITICAL" }, { "id": "c", "state": "BAD" }]);
        relay.post(&json!({ "site": "Berlin", "alerts": alerts })).await;
        relay
            .post(&json!({ "site": "Paris", "alerts": [{ "id": "d", "state": "BAD" }, { "id": "e", "state": "BAD" }] }))
            .await;
        upstream.calls_once(1).await;
        let shown =
            relay.admin(&format!("/api/v1/events/{}", id(&listed(&relay, "state=refused").await[0]))).await.json;
        assert_eq!(shown["element"], json!({ "id": "e", "state": "BAD" }), "{shown}");
        assert!(shown["received"].as_str().unwrap().contains("Paris"), "{shown}");

        let directory = relay.stop().await;
        let rules = batches.replace("equals: CRITICAL", "one_of: [CRITICAL, BAD]");
        let relay = Relay::start_in(directory, &upstream, &Setup { rules: Some(rules), ..fast() }).await;
        let answer = command(&relay, "/replay", &json!({ "state": "refused" })).await;
        assert_eq!(answer.json["results"].as_array().unwrap().len(), 4, "{answer:?}");
        let calls = upstream.calls_once(5).await;
        let mut sites: Vec<String> =
            calls.iter().map(|call| format!("{} {}", call.key(), call.body["title"].as_str().unwrap())).collect();
        sites.sort_unstable();
        assert_eq!(sites, ["a Berlin", "b Berlin", "c Berlin", "d Paris", "e Paris"]);
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_replays_discards_and_exports() {
    within(async {
        let open = Arc::default();
        let upstream = refusing_until(&open).await;
        let relay = Relay::start(&upstream, &fast()).await;
        for key in ["e1", "e2", "e3"] {
            relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
        }
        relay.post(&payload("e4", "STRANGE")).await;
        open.store(true, Ordering::SeqCst);
        let run = async |arguments: &[&str]| gander(&relay, arguments).await;
        let dead: Vec<String> = listed(&relay, "state=dead").await.iter().map(id).collect();
        assert_eq!(dead.len(), 3);

        let (code, out, err) = run(&["replay", "--state", "dead"]).await;
        assert!(code == 2 && out.is_empty() && err.contains("add --yes"), "{code} {out} {err}");
        let (code, _, err) = run(&["replay", "--yes"]).await;
        assert!(code == 2 && err.contains("by id or by filter"), "{code} {err}");
        let (code, _, err) = run(&["discard", &dead[0], "--key", "e1", "--yes"]).await;
        assert!(code == 2 && err.contains("cannot be used with"), "{code} {err}");
        let (code, _, err) = run(&["replay", "--state", "dead", "--older-than", "soon", "--yes"]).await;
        assert!(code == 2 && err.contains("write an age such as"), "{code} {err}");
        assert_eq!(listed(&relay, "state=dead").await.len(), 3, "nothing was done");

        let (code, out, err) = run(&["replay", "--key", "e1", "--yes"]).await;
        assert!(
            code == 0 && out.contains(" queued (trigger of e1)") && err.contains("1 replayed, 0 declined"),
            "{code} {out} {err}"
        );
        let (code, out, _) = run(&["replay", &dead[1], "17", "--yes", "--json"]).await;
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (code, &lines[0]["status"], &lines[1]["reason"]),
            (1, &json!("replayed"), &json!("not_kept")),
            "{out}"
        );
        let (code, out, err) = run(&["replay", "--state", "refused", "--yes"]).await;
        assert!(
            code == 1 && out.contains("refused again: ") && err.contains("0 replayed, 1 declined"),
            "{code} {out} {err}"
        );
        let (code, out, _) = run(&["discard", "--source", "servicepilot", "--since", "1h", "--yes"]).await;
        assert!(code == 0 && out.lines().count() == 2 && out.contains(" discarded"), "{code} {out}");

        let (code, out, err) = run(&["export", "--state", "ended"]).await;
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(code == 0 && err.contains("exported 4"), "{code} {err}");
        let reasons: Vec<&str> = lines.iter().map(|event| event["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["discarded", "discarded", "replayed", "replayed"], "newest first");
        assert!(lines.iter().all(|event| event["received"].is_string()), "{lines:?}");
        assert!(lines[1]["deliveries"][0]["status"] == 400 && lines[1]["sent"]["state"] == "CRITICAL", "{lines:?}");
        for (filter, count) in
            [(&["--state", "dead,ended"][..], 4), (&["--older-than", "1h"], 0), (&["--since", "1h", "--key", "e1"], 2)]
        {
            let (_, out, _) = run(&[&["list", "--json"], filter].concat()).await;
            let list: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(list["events"].as_array().unwrap().len(), count, "{filter:?}: {list}");
        }
        let (code, out, _) = run(&["show", &dead[2]]).await;
        assert!(code == 0 && out.contains("replayed_by:  "), "{out}");
        let (code, out, err) = run(&["log", "--event", "17"]).await;
        assert!(code == 0 && out.is_empty() && err.contains("there is no event 17"), "{code} {out} {err}");
        for arguments in [["log", "--event", "abc"].as_slice(), &["follow", "abc"], &["show", ""]] {
            let (code, out, err) = run(arguments).await;
            assert!(code == 2 && out.is_empty(), "{arguments:?}: {code} {out} {err}");
        }
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_past_is_tried_with_changed_rules() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let rules = |split: &str, key: &str, purple: &str, severity: &str| {
            format!(
                "version: 1
{split}rules:
  - {{ name: problem, when: {{ path: $.state, one_of: [CRITICAL{purple}] }}, then: trigger }}
  - {{ name: recovery, when: {{ path: $.state, equals: OK }}, then: resolve }}
incident_key: {key}
emit: {{ servicepilot_event_id: $.servicepilot_event_id, state: $.state, severity: {severity}, at: '{{{{ received_at }}}}' }}
"
            )
        };
        let id_key = "$.servicepilot_event_id";
        let before = rules("", id_key, "", "high");
        let relay = Relay::start(&upstream, &Setup { rules: Some(before.clone()), ..fast() }).await;
        let opened = id(&relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await.json);
        relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
        let refused = id(&relay.post(&payload("e2", "PURPLE")).await.json);
        relay.post(&json!("no object")).await;
        let kept = listed(&relay, "").await;
        assert_eq!(kept.len(), 4);
        let file = |name: &str, text: &str| std::fs::write(relay.directory.path().join(name), text).unwrap();
        file("same.yaml", &before);
        file("changed.yaml", &rules("", id_key, ", PURPLE", "low"));
        file("wrong.yaml", &before.replace("equals", "equal"));
        let run = async |arguments: &[&str]| gander(&relay, arguments).await;
        let against = ["replay", "--dry-run", "--since", "1h", "--against"];

        let (code, out, err) = run(&[&against[..], &["same.yaml"]].concat()).await;
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        assert!(err.contains("4 tried, 0 would be decided otherwise; nothing was written or sent"), "{err}");

        let (code, out, err) = run(&[&against[..], &["changed.yaml"]].concat()).await;
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("4 tried, 3 would be decided otherwise"), "{err}");
        assert!(out.contains("  body $.severity: \"high\", would be \"low\"\n"), "{out}");
        assert!(out.contains("  verdict: refused"), "{out}");
        let (code, out, _) = run(&[&against[..], &["changed.yaml", "--json"]].concat()).await;
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((code, lines.len()), (1, 3), "{out}");
        let of = |id: &str| lines.iter().find(|line| line["id"] == id).unwrap();
        let severity = json!([{"index": 0, "what": "body", "path": "$.severity", "is": "\"high\"", "would_be": "\"low\""}]);
        assert_eq!((&of(&opened)["rule"], &of(&opened)["differences"]), (&json!("problem"), &severity));
        assert_eq!(of(&refused)["differences"][0]["what"], "verdict");

        let (code, out, _) = run(&["replay", "--dry-run", "--against", "changed.yaml", "--json", &refused]).await;
        assert_eq!((code, out.lines().count()), (1, 1), "{out}");
        let (code, out, err) = run(&[&against[..], &["wrong.yaml"]].concat()).await;
        assert!(code == 2 && out.is_empty() && err.contains("wrong.yaml:4:"), "{err}");
        let (code, _, err) = run(&["replay", "--since", "1h", "--against", "same.yaml"]).await;
        assert!(code == 2 && err.contains("--dry-run"), "{err}");
        let (code, _, err) = run(&["replay", "--dry-run", "--against", "same.yaml", "1"]).await;
        assert!(code == 2 && err.contains("event 1: it is not kept"), "{err}");
        let (code, _, err) = run(&["replay", "--dry-run", "--against", "same.yaml", &refused, "1"]).await;
        assert!(code == 2 && err.contains("1 tried, 0 would") && err.contains("event 1: it is not kept"), "{err}");
        let (code, _, err) = run(&[&against[..], &["same.yaml", "--source", "servicepilto"]].concat()).await;
        assert!(code == 2 && err.contains("no event that is kept matches"), "{err}");
        let (code, out, err) = run(&["replay", "--dry-run", "--state", "refused"]).await;
        assert_eq!((code, out.as_str()), (0, "2 events; nothing was done\n"), "{err}");
        let (_, out, _) = run(&["replay", "--dry-run", "--state", "refused", "--json"]).await;
        assert_eq!(out, "{\"matching\":2,\"at_least\":false}\n");

        assert_eq!(listed(&relay, "").await, kept, "nothing was written");
        assert_eq!(upstream.calls().len(), 2, "nothing was sent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_deduplication_is_answered_or_says_what_is_wrong() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &fast()).await;
        let event = |more: Value| {
            let mut event = json!({"incident_key": "e1", "action": "trigger"});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"source": "servicepilot", "events": [event]})
        };
        let taken = id(&relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await.json);
        let answer = post(&relay, "dedup", &event(json!({}))).await;
        let said = &answer.json["events"][0];
        assert_eq!((&said["why"], &said["known"]["event"]), (&json!("update"), &json!(taken)), "{said}");
        for (question, told) in [
            (json!({"source": "servicepilot"}), "events"),
            (event(json!({"action": "open"})), "trigger or resolve"),
            (event(json!({"update_hash": -1})), "u64"),
            (event(json!({"colour": "red"})), "colour"),
        ] {
            let answer = post(&relay, "dedup", &question).await;
            assert_eq!(answer.status, 400, "{question}");
            assert!(answer.json["detail"].as_str().unwrap().contains(told), "{question}: {answer:?}");
        }
    })
    .await;
}

/// Each element of a list is an alert.
const BATCH: &str = "version: 1
split: $[*]
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
incident_key: $.id
emit: { servicepilot_event_id: $.id, state: $.state, n: $.n }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_payload_for_one_element_of_a_batch_holds_that_one_alone() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup { rules: Some(BATCH.to_owned()), ..fast() }).await;
        let element = |id: &str, state: &str| json!({"id": id, "n": 1, "state": state});
        relay.post(&json!([element("a", "CRITICAL"), element("b", "PURPLE")])).await;
        upstream.calls_once(1).await;
        let refused = id(&listed(&relay, "state=refused").await[0]);
        let path = format!("/{refused}/replay");
        let replay = async |mended: Value| command(&relay, &path, &json!({ "payload": mended.to_string() })).await;

        let both = replay(json!([element("a", "CRITICAL"), element("b", "CRITICAL")])).await;
        assert_eq!((both.status, &both.json["reason"]), (StatusCode::CONFLICT, &json!("several_elements")), "{both:?}");
        let bare = replay(element("b", "CRITICAL")).await;
        assert_eq!(bare.status, StatusCode::UNPROCESSABLE_ENTITY, "{bare:?}");
        assert_eq!(listed(&relay, "state=refused").await.len(), 1, "it stays as it was");
        let mended = replay(json!([element("b", "CRITICAL")])).await;
        assert_eq!((mended.status, &mended.json["status"]), (StatusCode::OK, &json!("replayed")), "{mended:?}");
        let keys: Vec<String> = upstream.calls_once(2).await.iter().map(|call| call.key().to_owned()).collect();
        assert_eq!(keys, ["a", "b"]);
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_of_a_recorded_batch_is_compared_with_itself() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup { rules: Some(BATCH.to_owned()), ..fast() }).await;
        let element = |id: &str, n: u32, state: &str| json!({"id": id, "n": n, "state": state});
        let batch = json!([element("a", 1, "CRITICAL"), element("b", 2, "PURPLE"), element("c", 3, "CRITICAL")]);
        relay.post(&batch).await;
        // The key of one element changes, one is ignored, and one that was refused is taken.
        let changed = BATCH
            .replace("incident_key: $.id", "incident_key: [$.id, $.n]")
            .replace("  - {", "  - { name: no, when: { path: $.id, equals: c }, then: ignore }\n  - {")
            .replace("equals: CRITICAL", "exists: true");
        std::fs::write(relay.directory.path().join("changed.yaml"), changed).unwrap();
        let arguments = ["replay", "--dry-run", "--since", "1h", "--json", "--against", "changed.yaml"];
        let (code, out, err) = gander(&relay, &arguments).await;
        assert_eq!(code, 1, "{err}");
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |line: &Value| {
            let one = &line["differences"][0];
            format!("{} {}: {} > {}", line["incident_key"], one["what"], one["is"], one["would_be"])
        };
        let told: Vec<String> = lines.iter().map(told).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|line| line == r#""a" "incident_key": "\"a\"" > "\"a/1\"""#), "{told:?}");
        assert!(told.iter().any(|line| line.starts_with(r#""c" "verdict": "trigger" > "ignored"#)), "{told:?}");
        assert!(told.iter().any(|line| line.starts_with(r#"null "verdict": "refused"#)), "{told:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_would_be_split_otherwise_is_told_as_it_would_be_decided() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup { rules: Some(BATCH.to_owned()), ..fast() }).await;
        let element = |id: &str| json!({"id": id, "n": 1, "state": "CRITICAL"});
        relay.post(&json!([element("a"), element("b"), element("c")])).await;
        let other = BATCH
            .replace("$.id", "$.n")
            .replace("  - {", "  - { name: no, when: { path: $.id, equals: c }, then: ignore }\n  - {");
        let alone =
            BATCH.replace("split: $[*]\n", "").replace("path: $.state, equals: CRITICAL", "path: $, exists: true");
        for (split, told) in [
            (BATCH.replace("$[*]", "$.alerts[*]"), "refused, $.alerts[*]: `split` selects nothing here"),
            (alone.replace("$.id", "'$[0].id'"), "\"a\""),
            (alone, "refused, $: is an array, not an object: `split: $[*]`"),
            (BATCH.replace("CRITICAL", "PURPLE"), "refused"),
            (other.replace("$[*]", "$[:-1]"), "none of the 2 elements makes this event"),
            (other.replace("$[*]", "$[2:]"), "ignored by the rule `no`"),
        ] {
            std::fs::write(relay.directory.path().join("changed.yaml"), &split).unwrap();
            let arguments = ["replay", "--dry-run", "--since", "1h", "--json", "--against", "changed.yaml"];
            let (code, out, err) = gander(&relay, &arguments).await;
            let mut lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let is_told =
                |line: &Value| line["differences"][0]["would_be"].as_str().is_some_and(|is| is.starts_with(told));
            assert!(code == 1 && lines.any(|line| is_told(&line)), "{told}: {out}{err}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_a_batch_that_share_a_key_are_told_apart() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let rules = BATCH.replace("emit:", "update_on: [$.n]\nemit:");
        let relay = Relay::start(&upstream, &Setup { rules: Some(rules.clone()), ..fast() }).await;
        let element = |n: u32| json!({"id": "a", "n": n, "state": "CRITICAL"});
        relay.post(&json!([element(1), element(2), element(3)])).await;
        let events = listed(&relay, "").await;
        assert_eq!(events.len(), 3);
        let file = |name: &str, text: &str| std::fs::write(relay.directory.path().join(name), text).unwrap();
        file("same.yaml", &rules);
        file("changed.yaml", &rules.replace("n: $.n", "n: { $path: $.n, $map: { '2': two } }"));
        let against = ["replay", "--dry-run", "--since", "1h", "--json", "--against"];
        let (code, out, err) = gander(&relay, &[&against[..], &["same.yaml"]].concat()).await;
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        let (code, out, err) = gander(&relay, &[&against[..], &["changed.yaml"]].concat()).await;
        assert_eq!((code, out.lines().count()), (1, 1), "{out}{err}");
        assert!(out.contains(r#""is":"2","would_be":"\"two\"""#), "{out}");
        // By name they come in any order: then only the body tells which is which.
        let mut oldest_first = vec!["replay", "--dry-run", "--against", "same.yaml"];
        let ids: Vec<String> = events.iter().rev().map(id).collect();
        oldest_first.extend(ids.iter().map(String::as_str));
        let (code, out, err) = gander(&relay, &oldest_first).await;
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        for (event, n) in events.iter().zip([3, 2, 1]) {
            let (code, out, err) = program(&relay, &["explain", "--json", "--event", &id(event)]).await;
            let explained: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
            let found = &explained["events"];
            assert_eq!((code, found.as_array().unwrap().len(), &found[0]["body"]["n"]), (0, 1, &json!(n)), "{out}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_another_charset_and_an_element_that_is_null_are_read_as_they_were() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup { rules: Some(BATCH.to_owned()), ..fast() }).await;
        let bearer = format!("Bearer {}", TOKEN);
        let latin = [("authorization", bearer.as_str()), ("content-type", "application/json; charset=iso-8859-1")];
        let body = b"[{\"id\":\"\xe9t\xe9\",\"n\":1,\"state\":\"CRITICAL\"},null]".to_vec();
        let answer = relay.client.send_bytes(Method::POST, &relay.hook("servicepilot"), &latin, body).await;
        let [taken, refused] = [0, 1].map(|index| id(&answer.json["events"][index]));
        std::fs::write(relay.directory.path().join("same.yaml"), BATCH).unwrap();
        let against = ["events", "replay", "--dry-run", "--since", "1h", "--against", "same.yaml"];
        let (code, out, err) = program(&relay, &against).await;
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        assert!(err.starts_with("2 tried, 0 would"), "{err}");
        for (event, elements, verdict) in [(&taken, 1, "events"), (&refused, 1, "refused")] {
            let (code, out, err) = program(&relay, &["explain", "--json", "--event", event]).await;
            let explained: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
            assert_eq!((code, &explained["verdict"]), (0, &json!(verdict)), "{out}");
            assert_eq!(explained["trace"].as_array().unwrap().len(), elements, "{out}");
        }
        // A replay reads it so too, and is left out where the past is tried.
        let (code, _, err) = program(&relay, &["events", "replay", "--force", "--yes", &taken]).await;
        assert_eq!(code, 0, "{err}");
        let replayed = listed(&relay, "limit=1").await.iter().map(id).next().unwrap();
        let (code, out, err) = program(&relay, &["explain", "--json", "--event", &replayed]).await;
        assert!(code == 0 && out.contains("été"), "{out}{err}");
        let (code, _, err) = program(&relay, &against).await;
        assert!(code == 0 && err.starts_with("2 tried, 1 replay left out, 0 would"), "{err}");
    })
    .await;
}

/// `gander events …` beside the relay: exit code, standard output, standard error.
async fn gander(relay: &Relay, arguments: &[&str]) -> (i32, String, String) {
    program(relay, &[&["events"], arguments].concat()).await
}

/// Any of its commands.
async fn program(relay: &Relay, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.current_dir(relay.directory.path()).env_clear().args(arguments);
    command.args(["--config", "gander.yaml", "--set"]).arg(format!("admin.address=127.0.0.1:{}", relay.ports().1));
    let run = move || command.stdin(Stdio::null()).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
