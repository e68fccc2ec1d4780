//! Rules that change while the relay runs: by the real signal, by files, by links, and under load.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use gander::exports::inbound::RulesBySource;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::process::{Process, setup};
use crate::relay::{self, Setup, payload, within};
use crate::support::{self, TOKEN, read_answer};
use crate::upstream::{Reply, Upstream};

/// Triggers by the rule `name`, which is in the body that is sent.
fn rules(name: &str) -> String {
    format!(
        "version: 1
rules:
  - {{ name: {name}, when: {{ path: $.state, equals: CRITICAL }}, then: trigger }}
  - {{ name: recovery, when: {{ path: $.state, equals: OK }}, then: resolve }}
incident_key: $.servicepilot_event_id
emit: {{ servicepilot_event_id: $.servicepilot_event_id, state: $.state, rule: '{{{{ rule }}}}' }}
"
    )
}

/// A relay as a process of its own, whose rules are `rules("first")`.
struct World {
    process: Process,
    upstream: Upstream,
    directory: tempfile::TempDir,
}

impl World {
    async fn start() -> World {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup { rules: Some(rules("first")), ..setup() };
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup);
        let process = Process::start(configuration).await;
        World { process, upstream, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a file in its place at once, as `mv` does.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// The rule that decides a trigger now.
    async fn rule_for(&self, key: &str) -> String {
        let answer = self.process.post(&payload(key, "CRITICAL")).await;
        assert_eq!(answer.json["status"], "queued", "{answer:?}");
        let id = answer.json["id"].as_str().unwrap().to_owned();
        self.process.admin(&format!("/api/v1/events/{id}")).await.json["rule"].as_str().unwrap().to_owned()
    }

    /// A command beside the relay: exit code, standard output, standard error.
    async fn gander(&self, arguments: &[&str]) -> (i32, String, String) {
        let (listen, admin) = self.process.ports();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
        command.current_dir(self.directory.path()).env_clear().env("SERVICEPILOT_TOKEN", relay::TOKEN).args(arguments);
        command.args(["--config", "gander.yaml", "--set", &format!("listen.address=127.0.0.1:{listen}")]);
        command.args(["--set", &format!("admin.address=127.0.0.1:{admin}")]).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What `/api/v1/status` says of the reload once it says so.
    async fn reload_once(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.process.admin_once("/api/v1/status", |status| wanted(&status["reload"])).await["reload"].clone()
    }

    async fn reload_failed(&self) -> Value {
        self.reload_once(|reload| reload["successful"] == false).await
    }

    async fn reload_succeeded_after(&self, before: &Value) -> Value {
        self.reload_once(|reload| reload["successful"] == true && reload["read_at"] != before["read_at"]).await
    }

    async fn status(&self) -> Value {
        self.process.admin("/api/v1/status").await.json["reload"].clone()
    }

    async fn metric(&self, line: &str) -> String {
        let text = self.process.admin("/metrics").await.json.as_str().unwrap().to_owned();
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_beside_the_configuration_are_taken_over_and_wrong_ones_stop_nothing() {
    within(async {
        let world = World::start().await;
        let connect = async || world.process.admin("/connect").await.json.as_str().unwrap().to_owned();
        let before = world.status().await;
        assert!(connect().await.contains("by what the rules send"));
        let filters = "services: [{ name: payments, trigger: [{ urgency: high, keys: [{ key: state, contains: [CRITICAL] }] }] }]\n";
        world.put("callgoose-filters.yaml", filters);
        let after = world.reload_succeeded_after(&before).await;
        assert!(connect().await.contains("Service payments, trigger filter 1"));
        world.put("callgoose-filters.yaml", "services: 7\n");
        world.reload_succeeded_after(&after).await;
        assert!(connect().await.contains("can't be used"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_with_a_mistake_change_nothing_and_everyone_is_told_why() {
    within(async {
        let world = World::start().await;
        let started = world.status().await;
        assert_eq!((&started["successful"], &started["problems"]), (&json!(true), &json!([])), "{started}");
        assert_eq!(world.metric("gander_config_last_reload_successful").await, "1");
        let since: f64 = world.metric("gander_config_last_reload_success_timestamp_seconds").await.parse().unwrap();

        world.put("rules.yaml", &rules("second").replace("equals: CRITICAL", "equal: CRITICAL"));
        world.process.signal("HUP");
        let reload = world.reload_failed().await;
        let problem = reload["problems"][0].as_str().unwrap();
        let place = format!("{}:3:", world.path("rules.yaml").display());
        assert!(problem.starts_with(&place) && problem.contains("did you mean `equals`?"), "{problem}");
        assert_eq!(world.rule_for("e1").await, "first");

        let ready = world.process.admin("/readyz").await;
        assert_eq!((ready.status.as_u16(), &ready.json["ready"]), (200, &json!(true)), "events are taken");
        let degraded = &ready.json["degraded"][0];
        assert_eq!(degraded["reason"], "config_reload");
        assert!(degraded["detail"].as_str().unwrap().contains(problem), "{degraded}");
        assert!(degraded["since"].is_string() && degraded["remedy"].is_string(), "{degraded}");
        assert_eq!(world.metric("gander_config_last_reload_successful").await, "0");
        let still: f64 = world.metric("gander_config_last_reload_success_timestamp_seconds").await.parse().unwrap();
        assert!((still - since).abs() < f64::EPSILON, "what is in force was read at the start");
        world.process.logged(&format!("configuration: {problem}"));

        // Mended, it is taken without being told.
        world.put("rules.yaml", &rules("third"));
        let reload = world.reload_succeeded_after(&reload).await;
        assert_eq!((&reload["problems"], &reload["failing_since"]), (&json!([]), &json!(null)), "{reload}");
        assert_eq!(world.rule_for("e2").await, "third");
        assert_eq!(world.process.admin("/readyz").await.json["degraded"], json!([]));
        assert_eq!(world.metric("gander_config_last_reload_successful").await, "1");
        assert_eq!(world.metric(r#"gander_config_reloads_total{result="success"}"#).await, "1");
        assert_ne!(world.metric(r#"gander_config_reloads_total{result="failure"}"#).await, "0");
        world.process.logged("reloaded: these rules decide from now on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_can_not_be_read_are_no_passed_tests() {
    within(async {
        let world = World::start().await;
        let before = world.status().await;
        fs::create_dir(world.path("rules.test.yaml")).unwrap();
        world.process.signal("HUP");
        let problem = world.reload_failed().await["problems"][0].as_str().unwrap().to_owned();
        assert!(problem.contains("rules.test.yaml: it is a directory"), "{problem}");
        fs::remove_dir(world.path("rules.test.yaml")).unwrap();
        world.reload_succeeded_after(&before).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_whose_tests_fail_change_nothing() {
    within(async {
        let world = World::start().await;
        let test = |rule: &str| {
            format!(
                "rules: rules.yaml
tests:
  - name: it pages
    payload: {{ servicepilot_event_id: e1, state: CRITICAL }}
    expect: {{ events: [ {{ rule: {rule} }} ] }}
"
            )
        };
        world.put("rules.test.yaml", &test("first"));
        world.put("rules.yaml", &rules("second"));
        world.process.signal("HUP");
        let reload = world.reload_failed().await;
        let problem = reload["problems"][0].as_str().unwrap();
        let place = format!("{}:5:", world.path("rules.test.yaml").display());
        assert!(problem.starts_with(&place) && problem.contains("it pages"), "{problem}");
        assert_eq!(world.rule_for("e1").await, "first");

        // The test alone is mended: that too is a change.
        world.put("rules.test.yaml", &test("second"));
        world.reload_succeeded_after(&reload).await;
        assert_eq!(world.rule_for("e2").await, "second");

        // So is its payload.
        let by_file = test("second")
            .replace("payload: { servicepilot_event_id: e1, state: CRITICAL }", "payload_file: payload.json");
        world.put("rules.test.yaml", &by_file);
        let reload = world.reload_failed().await;
        assert!(reload["problems"][0].as_str().unwrap().contains("payload.json: no such file"), "{reload}");
        world.put("payload.json", &payload("e1", "CRITICAL").to_string());
        world.reload_succeeded_after(&reload).await;

        // A test that is none keeps rules out likewise.
        world.put("rules.test.yaml", "tests: [");
        let reload = world.reload_failed().await;
        assert!(reload["problems"][0].as_str().unwrap().contains("rules.test.yaml:1:"), "{reload}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_exchanged_under_load_and_no_request_is_lost() {
    within(async {
        let world = Arc::new(World::start().await);
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    for number in 0..50 {
                        let answer = world.process.post(&payload(&format!("e{sender}-{number}"), "CRITICAL")).await;
                        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (202, &json!("queued")));
                    }
                })
            })
            .collect();
        let mut before = world.status().await;
        for name in ["second", "third", "fourth"] {
            world.put("rules.yaml", &rules(name));
            world.process.signal("HUP");
            before = world.reload_succeeded_after(&before).await;
        }
        for sender in senders {
            sender.await.unwrap();
        }
        let calls = world.upstream.calls_once(8 * 50).await;
        let mut keys: Vec<&str> = calls.iter().map(crate::upstream::Call::key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 8 * 50, "every event is delivered");
        assert_eq!(world.rule_for("last").await, "fourth");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_turned_elsewhere_is_a_change_as_kubernetes_makes_it() {
    within(async {
        let world = World::start().await;
        // A ConfigMap as it is mounted: each file leads by `..data` into a folder of its version.
        for name in ["second", "third"] {
            fs::create_dir(world.path(name)).unwrap();
            fs::write(world.path(name).join("rules.yaml"), rules(name)).unwrap();
        }
        symlink("second", world.path("..data")).unwrap();
        symlink("..data/rules.yaml", world.path("link")).unwrap();
        let before = world.status().await;
        fs::rename(world.path("link"), world.path("rules.yaml")).unwrap();
        let before = world.reload_succeeded_after(&before).await;
        assert_eq!(world.rule_for("e1").await, "second");

        symlink("third", world.path("..data_tmp")).unwrap();
        fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
        fs::remove_dir_all(world.path("second")).unwrap();
        world.reload_succeeded_after(&before).await;
        assert_eq!(world.rule_for("e2").await, "third");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_can_not_be_read_change_nothing() {
    within(async {
        let world = World::start().await;
        type Spoil = fn(&Path);
        let spoilers: [(&str, Spoil); 5] = [
            // Nobody writes to it: whoever opens it waits.
            ("it is a named pipe, not a file", |path| {
                fs::remove_file(path).unwrap();
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }),
            ("no such file", |path| fs::remove_file(path).unwrap()),
            ("it is a directory", |path| fs::create_dir(path).unwrap()),
            ("not UTF-8", |path| {
                fs::remove_dir(path).unwrap();
                fs::write(path, b"\xff").unwrap();
            }),
            ("rules.yaml:1:1: this rule file is empty", |path| fs::write(path, "").unwrap()),
        ];
        for (number, (expected, spoil)) in spoilers.into_iter().enumerate() {
            spoil(&world.path("rules.yaml"));
            let told =
                |reload: &Value| reload["problems"][0].as_str().is_some_and(|problem| problem.contains(expected));
            world.reload_once(told).await;
            assert_eq!(world.rule_for(&format!("e{number}")).await, "first", "{expected}");
        }
        let configuration = fs::read_to_string(world.path("gander.yaml")).unwrap();
        fs::remove_file(world.path("gander.yaml")).unwrap();
        world.process.signal("HUP");
        let unreadable = |reload: &Value| {
            reload["problems"][0].as_str().is_some_and(|told| told.contains("gander.yaml: no such file"))
        };
        let reload = world.reload_once(unreadable).await;
        assert_eq!(world.rule_for("other").await, "first");

        world.put("rules.yaml", &rules("second"));
        world.put("gander.yaml", &configuration);
        world.reload_succeeded_after(&reload).await;
        assert_eq!(world.rule_for("last").await, "second");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_is_named_and_the_rest_is_checked() {
    within(async {
        let world = World::start().await;
        let configuration = fs::read_to_string(world.path("gander.yaml")).unwrap();

        // Another file of rules is taken over; other keys, also a whole source, are not.
        world.put("other.yaml", &rules("second"));
        let source = "  other: { rules: other.yaml, auth: none }\nupstream:\n  timeout: 7s";
        let changed = configuration.replace("rules: rules.yaml", "rules: other.yaml").replace("upstream:", source);
        let before = world.status().await;
        world.put("gander.yaml", &changed);
        world.process.signal("HUP");
        let reload = world.reload_succeeded_after(&before).await;
        assert_eq!(reload["restart_needed"], json!(["sources.other", "upstream.timeout"]), "{reload}");
        assert_eq!(world.rule_for("e1").await, "second");
        let told = world.process.admin("/readyz").await.json["degraded"].clone();
        assert_eq!(told[0]["reason"], "restart_needed", "{told}");
        let detail = "changed and not in force: sources.other, upstream.timeout";
        assert_eq!((told.as_array().unwrap().len(), &told[0]["detail"]), (1, &json!(detail)));
        let keys = &world
            .process
            .logged("only rules, certificates and the self check are reloaded: these keys were changed too, and wait for a restart")["keys"];
        assert_eq!(keys, "sources.other, upstream.timeout");

        // A mistake anywhere keeps all of it out; secrets are not shown.
        world.put(
            "gander.yaml",
            &changed.replace("timeout: 7s", "timeout: 7 s\n  authorisation: { bearer: canary-5a1 }"),
        );
        world.put("other.yaml", &rules("third"));
        world.process.signal("HUP");
        let reload = world.reload_failed().await;
        assert!(reload.to_string().contains("gander.yaml:") && !reload.to_string().contains("canary"), "{reload}");
        assert_eq!(world.rule_for("e2").await, "second");

        // Put back, nothing waits any more.
        world.put("gander.yaml", &configuration);
        let reload = world.reload_succeeded_after(&reload).await;
        assert_eq!(reload["restart_needed"], json!([]));
        assert_eq!(world.process.admin("/readyz").await.json["degraded"], json!([]));
        assert_eq!(world.rule_for("e3").await, "first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_began_before_the_exchange_ends_by_the_old_rules() {
    within(async {
        let edge = support::Setup::plain().start().await;
        let body = json!({ "id": "e1", "state": "CRITICAL" }).to_string();
        let head = format!(
            "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = edge.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // It waits for the body now.
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 100"));
        let resolving = support::RULES.replace("then: trigger", "then: resolve");
        edge.ingest.exchange_rules(&RulesBySource::from([(Arc::from("servicepilot"), support::rules(&resolving))]));
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.contains(r#""action":"trigger""#), "{answer}");
        assert_eq!(edge.alert(json!({ "id": "e2", "state": "CRITICAL" })).await.body["action"], "resolve");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_in_the_shadow_decide_nothing_and_tell_what_they_would() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let shadowed = Setup { rules: Some(rules("first")), source: vec!["rules_shadow: next.yaml".into()], ..setup() };
        let next = |state: &str| {
            let all = "  - { name: rest, when: { path: $.state, equals: PURPLE }, then: trigger }\n";
            rules("first")
                .replace("rule: '{{ rule }}'", &format!("rule: {state}"))
                .replace("incident_key:", &format!("{all}incident_key:"))
        };
        fs::write(directory.path().join("next.yaml"), next("second")).unwrap();
        let process = Process::start(relay::write_configuration(directory.path(), &upstream, &shadowed)).await;
        let world = World { process, upstream, directory };
        let count =
            |result: &str| format!("gander_shadow_decisions_total{{source=\"servicepilot\",result=\"{result}\"}}");

        let problem = world.process.post(&payload("e1", "CRITICAL")).await.json["id"].clone();
        let refused = world.process.post(&payload("e2", "PURPLE")).await.json["id"].clone();
        let listed = |wanted: usize| {
            let process = &world.process;
            async move {
                let found = |list: &Value| list["events"].as_array().is_some_and(|events| events.len() == wanted);
                process.admin_once("/api/v1/events?differs=true", found).await["events"].clone()
            }
        };
        let found = listed(2).await;
        let body = json!([{"index": 0, "what": "body", "path": "$.rule", "is": "\"first\"", "would_be": "\"second\""}]);
        assert_eq!((&found[1]["id"], &found[1]["differences"]), (&problem, &body), "{found}");
        assert_eq!(found[0]["id"], refused);
        assert_eq!(found[0]["differences"][0]["what"], "verdict", "{found}");
        let sent = world.upstream.calls_once(1).await;
        assert_eq!(sent[0].body["rule"], "first", "the shadow decides nothing");
        let details = world.process.admin(&format!("/api/v1/events/{}", problem.as_str().unwrap())).await;
        assert_eq!(details.json["differences"], body);
        assert_eq!(world.metric(&count("differs")).await, "2");

        // What is alike is counted and not recorded; the shadow is exchanged as the rules are.
        let before = world.status().await;
        world.put("next.yaml", &rules("first"));
        world.process.signal("HUP");
        world.reload_succeeded_after(&before).await;
        world.process.post(&payload("e3", "CRITICAL")).await;
        let same = count("same");
        while world.process.admin("/metrics").await.json.as_str().unwrap().lines().all(|line| !line.starts_with(&same))
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(listed(2).await, found);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_without_broken_shadow_rules_and_says_so() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let shadowed = Setup { rules: Some(rules("first")), source: vec!["rules_shadow: next.yaml".into()], ..setup() };
        fs::write(directory.path().join("next.yaml"), rules("second").replace("then:", "than:")).unwrap();
        let configuration = relay::write_configuration(directory.path(), &upstream, &shadowed);
        let process = Process::start(configuration).await;
        let world = World { process, upstream, directory };
        assert_eq!(world.rule_for("e1").await, "first", "the rules that decide are whole");
        let reload = world.reload_failed().await;
        let problem = reload["problems"][0].as_str().unwrap();
        assert!(problem.contains("next.yaml:3:") && problem.contains("`then` is required"), "{problem}");
        assert_eq!(world.metric("gander_config_last_reload_successful").await, "0");
        let ready = world.process.admin("/readyz").await;
        assert_eq!(ready.status, 200, "{ready:?}");

        world.put("next.yaml", &rules("second"));
        world.reload_succeeded_after(&reload).await;
        world.process.post(&payload("e2", "CRITICAL")).await;
        let found = |list: &Value| list["events"].as_array().is_some_and(|events| events.len() == 1);
        world.process.admin_once("/api/v1/events?differs=true", found).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_well_can_be_asked_whatever_the_files_say_now() {
    within(async {
        let world = World::start().await;
        let id = world.process.post(&payload("e1", "CRITICAL")).await.json["id"].as_str().unwrap().to_owned();
        let text = fs::read_to_string(world.path("gander.yaml")).unwrap();
        world.put("gander.yaml", &format!("{text}\nlog: {{ level: loud }}\nnothing: known\n"));
        world.put("rules.yaml", "version: 1\nrules: [");
        world.reload_failed().await;
        for arguments in [&["health", "--ready"][..], &["events", "list"], &["events", "show", &id]] {
            let (code, out, err) = world.gander(arguments).await;
            assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        }
        fs::write(world.path("alert.json"), payload("e2", "CRITICAL").to_string()).unwrap();
        let (code, out, err) = world.gander(&["send", "--source", "servicepilot", "alert.json"]).await;
        assert!(code == 0 && out.contains("trigger of e2: delivered"), "{out}{err}");
        let (code, _, err) = world.gander(&["send", "--source", "service-pilot", "alert.json"]).await;
        assert!(code == 2 && err.contains("did you mean `servicepilot`?"), "{err}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_where_the_relay_would_see_it_otherwise() {
    within(async {
        let world = World::start().await;
        fs::write(world.path("alert.json"), payload("e1", "CRITICAL").to_string()).unwrap();
        let explain = ["explain", "--source", "servicepilot", "--relay"];
        let (code, out, err) = world.gander(&[&explain[..], &["alert.json"]].concat()).await;
        assert!(code == 0 && out.contains("would be taken") && !out.contains("warning:"), "{out}{err}");

        fs::write(world.path("rules.test.yaml"), "rules: rules.yaml\ntests: [{ name: t, payload: {}, expect: {} }]\n")
            .unwrap();
        world.put("rules.yaml", &rules("second"));
        world.reload_failed().await;
        let mut large = payload("e1", "CRITICAL");
        large["text"] = "x".repeat(1 << 20).into();
        fs::write(world.path("large.json"), large.to_string()).unwrap();
        let (code, out, err) = world.gander(&[&explain[..], &["large.json"]].concat()).await;
        assert_eq!(code, 0, "{err}");
        let warnings: Vec<&str> = out.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert_eq!(warnings.len(), 2, "{out}");
        assert!(warnings[0].contains("decides by what it read before") && warnings[0].contains("rules.test.yaml:2"));
        assert!(warnings[1].contains("the relay would answer 413"), "{out}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    within(async {
        let world = World::start().await;
        let (url, before) =
            (format!("https://localhost:{}/hooks/servicepilot", world.process.ports().0), world.status().await);
        let answers_to = async |trusted: &Path| {
            let client = relay::HttpsClient::trusting(trusted);
            client.send(http::Method::GET, &url, &[], String::new()).await.status.as_u16()
        };
        let other = tempfile::tempdir().unwrap();
        let [old, new, key] = ["old.pem", "server.pem", "server.key"].map(|name| other.path().join(name));
        fs::copy(world.path("server.pem"), &old).unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        let pair = rcgen::KeyPair::generate().unwrap();
        fs::write(&new, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let expiry = format!(
            r#"gander_certificate_expiry_timestamp_seconds{{section="listen.tls",file="{}"}}"#,
            world.path("server.pem").display()
        );
        assert_eq!(world.rule_for("e1").await, "first");

        // One without the other belongs to nothing: the pair before it stays.
        world.put("server.pem", &fs::read_to_string(&new).unwrap());
        world.process.signal("HUP");
        let failed = world.reload_failed().await;
        let problem = failed["problems"][0].as_str().unwrap();
        assert!(problem.contains("server.key") && problem.contains("do not belong together"), "{problem}");
        assert_eq!(answers_to(&old).await, 405);
        assert_ne!(world.metric(&expiry).await, "2209075200.0");

        world.put("server.key", &fs::read_to_string(&key).unwrap());
        let reload = world.reload_succeeded_after(&failed).await;
        assert_eq!((&reload["restart_needed"], answers_to(&new).await), (&before["restart_needed"], 405));
        assert_eq!(world.rule_for("e2").await, "first", "a connection that was open goes on");
        assert_eq!(world.metric(&expiry).await, "2209075200.0", "of the pair that is shown now");
    })
    .await;
}
