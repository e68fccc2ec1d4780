//! `gander doctor`: each trouble on the way to the upstream is found where it is, with what to do.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::process;
use crate::proxies::{Does, ESTABLISHED, Proxy};
use crate::relay::{Relay, Setup, TOKEN, UPSTREAM_TOKEN, payload, within, write_configuration};
use crate::upstream::{Pair, Reply, Upstream};

/// How the command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// The check of this name.
    fn check(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let found = list.as_array().unwrap().iter().find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {list}")).clone()
    }

    /// The verdicts of these checks.
    fn verdicts<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        names.map(|name| self.check(name)["verdict"].as_str().unwrap().to_owned())
    }
}

async fn doctor_with(configuration: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.arg("doctor").args(arguments).arg("--config").arg(configuration);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let ended = Ended { code: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) };
    for secret in [TOKEN, UPSTREAM_TOKEN] {
        assert!(!format!("{ended:?}").contains(secret), "{ended:?}");
    }
    ended
}

async fn doctor(configuration: &Path, arguments: &[&str]) -> Ended {
    let variables = [("SERVICEPILOT_TOKEN", TOKEN), ("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)];
    doctor_with(configuration, arguments, &variables).await
}

/// The answer of an endpoint that takes nothing but POST.
fn not_allowed() -> Reply {
    Reply::status(405)
}

const UNMATCHED: &str =
    r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":false}}"#;

const WAY: [&str; 6] = ["dns", "proxy", "connect", "tls", "http", "clock"];

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_each_check_is_a_line_and_one_get_without_the_token_goes_out() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = write_configuration(folder.path(), &upstream, &Setup::default());
        let ended = doctor(&configuration, &[]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        let names: Vec<&str> = ended.out.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(
            names,
            [
                &["configuration", "relay", "data_dir", "disk", "listen.address", "admin.address", "listen.tls"][..],
                &WAY
            ]
            .concat()
        );
        assert!(ended.out.lines().all(|line| line.starts_with("ok ") && line.contains(" ms  ")), "{ended:?}");
        let address = upstream.address;
        for words in [
            "gander.yaml: 1 source".to_owned(),
            "data: the start makes it".to_owned(),
            "server.pem does not exist: the start makes a self-signed pair".to_owned(),
            format!("{address} takes connections"),
            "TLS 1.3, 1 certificate, valid until 4096-01-01".to_owned(),
            "answered 405".to_owned(),
            "0 s off the `Date`".to_owned(),
        ] {
            assert!(ended.out.contains(&words), "{words}: {}", ended.out);
        }
        let calls = upstream.calls();
        let [call] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!((&call.method, call.path_and_query.as_str()), (&Method::GET, "/sqibs-api/v1/process"));
        assert!(!call.headers.contains_key("authorization") && call.body.is_null(), "{call:?}");
        assert!(!folder.path().join("data").exists() && !folder.path().join("server.pem").exists(), "nothing is made");
    })
    .await;
}

/// A trouble on the way: what is configured, in which check it is found, and words of it and of its remedy.
struct Trouble {
    setup: Setup,
    check: &'static str,
    verdict: &'static str,
    found: &'static str,
    remedy: &'static str,
}

fn trouble(check: &'static str, found: &'static str, remedy: &'static str) -> Trouble {
    Trouble { setup: Setup::default(), check, verdict: "failed", found, remedy }
}

impl Trouble {
    fn url(mut self, url: &str) -> Trouble {
        self.setup.url = Some(url.to_owned());
        self
    }

    fn upstream(mut self, lines: &[&str]) -> Trouble {
        self.setup.upstream = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// What comes before is fine, it is found, and what comes after is not tried.
    async fn must_be_found(self, upstream: &Upstream) {
        let folder = tempfile::tempdir().unwrap();
        let configuration = write_configuration(folder.path(), upstream, &self.setup);
        let ended = doctor(&configuration, &["--json"]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""), "{ended:?}");
        let check = ended.check(self.check);
        assert_eq!(check["verdict"], self.verdict, "{check}");
        assert!(check["found"].as_str().unwrap().contains(self.found), "{check}");
        assert!(check["remedy"].as_str().unwrap().contains(self.remedy), "{check}");
        let at = WAY.iter().position(|name| *name == self.check).unwrap();
        for (index, verdict) in ended.verdicts(WAY).iter().enumerate().filter(|(index, _)| *index != at) {
            let expected = if index < at || self.verdict == "warning" { "ok" } else { "not_tried" };
            // A proxy, or that there is none, is known whatever is looked up.
            let expected = if self.check == "dns" && WAY[index] == "proxy" { "ok" } else { expected };
            assert_eq!(verdict, expected, "{} by {}: {}", WAY[index], self.check, ended.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trouble_is_found_where_it_is_and_what_comes_after_is_not_tried() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let refusing = Proxy::http(|_| Does::Say("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n".to_owned())).await;
        let silent = Proxy::http(|_| Does::Silence).await;
        let [refusing, silent] = [refusing, silent].map(|proxy| format!("proxy: http://{}", proxy.address));
        for trouble in [
            trouble("dns", "no..such", "the resolver of this machine")
                .url("http://no..such:1/")
                .upstream(&["insecure: true"]),
            trouble("connect", "refused", "firewall").url("https://localhost:1/"),
            trouble("proxy", "http://127.0.0.1:1: 127.0.0.1:1: ", "check that the proxy runs")
                .upstream(&["proxy: http://127.0.0.1:1"]),
            trouble("proxy", "it answered 407", "`upstream.proxy.credentials`").upstream(&[&refusing]),
            trouble("proxy", "no answer in time; the proxy is named by upstream.proxy", "check that the proxy runs")
                .upstream(&[&silent, "timeout: 500ms"]),
        ] {
            trouble.must_be_found(&upstream).await;
        }
        assert!(upstream.calls().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_upstream_that_does_not_verify_is_told_with_its_own_remedy() {
    within(async {
        let past = |parameters: &mut rcgen::CertificateParams| {
            (parameters.not_before, parameters.not_after) =
                (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        };
        let (right, other) = (Pair::signed_by_itself(|_| ()), Pair::signed_by_itself(|_| ()));
        let expired = Pair::signed_by_itself(past);
        for (pair, ca, line, remedy) in [
            (&expired, &expired.pem, "", "has expired"),
            (&right, &other.pem, "", "`upstream.tls.ca`"),
            (&right, &right.pem, "server_name: other.example", "`upstream.tls.server_name`"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let config = pair.server(|tls| tls.with_no_client_auth());
            let upstream = Upstream::start_with(listener, config, ca, |_, _| not_allowed()).await;
            let mut trouble = trouble("tls", "certificate", remedy);
            trouble.setup.tls = vec![line.to_owned()];
            trouble.must_be_found(&upstream).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_none_may_be_doubtful_and_may_show_that_a_clock_is_wrong() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::HangUp).await;
        trouble("http", "reset: ", "try again").must_be_found(&upstream).await;
        let page = |status, name: &'static str, value: &str| Reply::Answer {
            status,
            headers: vec![(name, value.to_owned())],
            body: "<html>log in</html>".to_owned(),
        };
        for (reply, check, found, remedy) in [
            (
                page(302, "location", "https://login.example/"),
                "http",
                "302, Location: https://login.example/",
                "`upstream.url`",
            ),
            (page(200, "content-type", "text/html"), "http", "answered 200, a page", "check proxy and firewall"),
            (page(405, "date", "Mon, 24 Nov 2025 16:00:00 GMT"), "clock", " d fast beside the `Date`", "set the clock"),
            (page(405, "date", "Fri, 24 Nov 2090 16:00:00 GMT"), "clock", " d slow beside the `Date`", "set the clock"),
        ] {
            upstream.follow(move |_, _| reply.clone());
            Trouble { verdict: "warning", ..trouble(check, found, remedy) }.must_be_found(&upstream).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_the_way_is_the_proxys() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let proxy = Proxy::http(|_| Does::Tunnel(ESTABLISHED)).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = write_configuration(folder.path(), &upstream, &Setup::default());
        let url = format!("http://user:s3cret@{}", proxy.address);
        let variables =
            [("SERVICEPILOT_TOKEN", TOKEN), ("CALLGOOSE_TOKEN", UPSTREAM_TOKEN), ("HTTPS_PROXY", url.as_str())];
        let ended = doctor_with(&configuration, &["--json"], &variables).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let port = upstream.address.port();
        let found = |name: &str| ended.check(name)["found"].as_str().unwrap().to_owned();
        let expected = format!("http://{}, named by HTTPS_PROXY, opened a tunnel to localhost:{port}", proxy.address);
        assert_eq!(found("proxy"), expected);
        assert_eq!(found("dns"), format!("localhost:{port}: the proxy looks it up"));
        assert!(!ended.out.contains("s3cret"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_sent_where_it_is_asked_for_with_an_empty_event_and_judged_by_the_answer() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = write_configuration(folder.path(), &upstream, &Setup::default());
        for (reply, code, verdict, words) in [
            (Reply::json(202, &serde_json::from_str(UNMATCHED).unwrap()), 0, "ok", "no filter matched: answered 202"),
            (Reply::Done, 1, "warning", "an incident was opened"),
            (Reply::status(200), 1, "warning", "does not say what came of the empty event: answered 200"),
            (Reply::status(401), 1, "failed", "answered 401"),
        ] {
            let before = upstream.calls().len();
            upstream.follow(move |call, _| if call.method == Method::GET { not_allowed() } else { reply.clone() });
            let ended = doctor(&configuration, &["--token", "--json"]).await;
            let check = ended.check("token");
            assert_eq!((ended.code, &check["verdict"]), (Some(code), &json!(verdict)), "{ended:?}");
            assert!(check["found"].as_str().unwrap().contains(words), "{check}");
            let remedy = check["remedy"].as_str().unwrap_or_default();
            assert_eq!(remedy.contains("environment variable CALLGOOSE_TOKEN"), verdict == "failed", "{check}");
            let said = format!("sending the token: POST {{}} to {}, from `gander doctor`\n", upstream.url());
            assert_eq!(ended.err, said);
            let [_, call] = &upstream.calls()[before..] else { panic!("{:?}", upstream.calls()) };
            assert_eq!((&call.method, &call.body), (&Method::POST, &json!({})));
            assert_eq!(call.path_and_query, "/sqibs-api/v1/process?from=gander%20doctor");
            assert_eq!(call.headers["authorization"], format!("Bearer {UPSTREAM_TOKEN}"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_takes_the_token_and_opens_no_incident() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::HangUp).await;
        let mut sandbox = Command::new(env!("CARGO_BIN_EXE_gander"))
            .args(["sandbox", "--listen", "127.0.0.1:0"])
            .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.split_once("upstream.url=")?.1.to_owned())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup { url: Some(url), ..Setup::default() };
        let ended = doctor(&write_configuration(folder.path(), &upstream, &setup), &["--json", "--token"]).await;
        let incidents = lines.filter(|line| line.contains("incident")).take(1);
        sandbox.kill().unwrap();
        sandbox.wait().unwrap();
        assert_eq!((ended.code, incidents.count()), (Some(0), 0), "{ended:?}");
        assert_eq!(ended.check("http")["found"], "answered 405");
        assert_eq!(ended.check("token")["found"], "it is taken, and no filter matched: answered 202");
        assert_eq!(ended.check("tls")["found"], "none: `upstream.url` begins with http://");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_relays_secrets_all_else_is_tried() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = write_configuration(folder.path(), &upstream, &Setup::default());
        let ended = doctor_with(&configuration, &["--token", "--json"], &[]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""), "{ended:?}");
        let check = ended.check("configuration");
        assert_eq!(check["verdict"], "warning", "{check}");
        assert!(check["found"].as_str().unwrap().contains("SERVICEPILOT_TOKEN is not set"), "{check}");
        assert_eq!(ended.check("token")["verdict"], "failed");
        assert_eq!(ended.verdicts(WAY), ["ok"; 6], "{ended:?}");
        assert_eq!(upstream.calls().len(), 1, "the GET alone");

        // What would be refused for the lack of them is not tried.
        let line = "proxy: { url: 'http://127.0.0.1:1', credentials: { env: PAIR } }".to_owned();
        let setup = Setup { upstream: vec![line], ..Setup::default() };
        let configuration = write_configuration(folder.path(), &upstream, &setup);
        let ended = doctor_with(&configuration, &["--json"], &[]).await;
        assert!(ended.check("proxy")["found"].as_str().unwrap().contains("not at hand"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_wrong_is_told_and_one_that_is_not_there_is_no_answer() {
    within(async {
        let upstream = Upstream::start(|_, _| not_allowed()).await;
        let folder = tempfile::tempdir().unwrap();
        // What is wrong elsewhere does not hide the way; what is wrong with the way does not hide this machine.
        let elsewhere = Setup { sections: vec!["nonsense: 1".to_owned()], ..Setup::default() };
        let there = Setup { upstream: vec!["timeout: never".to_owned()], ..Setup::default() };
        for (setup, way) in [(elsewhere, "ok"), (there, "not_tried")] {
            let configuration = write_configuration(folder.path(), &upstream, &setup);
            let ended = doctor(&configuration, &["--json"]).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let check = ended.check("configuration");
            assert_eq!(check["verdict"], "failed", "{check}");
            assert!(check["found"].as_str().unwrap().contains(": 1 error; "), "{check}");
            assert!(check["remedy"].as_str().unwrap().contains("`gander check`"), "{check}");
            assert_eq!(ended.verdicts(WAY), [way; 6], "{ended:?}");
            assert_eq!(ended.verdicts(["relay", "data_dir", "disk", "listen.address"]), ["ok"; 4], "{ended:?}");
        }

        // The relay does not start without it either.
        std::fs::remove_file(&upstream.ca).unwrap();
        let configuration = write_configuration(folder.path(), &upstream, &Setup::default());
        let ended = doctor(&configuration, &["--json"]).await;
        assert_eq!(ended.verdicts(["dns", "tls", "http"]), ["not_tried", "failed", "not_tried"], "{ended:?}");
        assert!(ended.check("tls")["found"].as_str().unwrap().contains("upstream.pem can't be read"), "{ended:?}");

        let ended = doctor(&folder.path().join("none.yaml"), &["--json"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.err.contains("none.yaml"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_relay_what_it_holds_is_its_own_and_what_it_says_is_told() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.method {
            Method::GET => not_allowed(),
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let configuration: PathBuf = relay.directory.path().join("gander.yaml");
        let (listen, admin) = relay.ports();
        let settings = [format!("listen.address=127.0.0.1:{listen}"), format!("admin.address=127.0.0.1:{admin}")];
        let arguments = ["--json", "--set", &settings[0], "--set", &settings[1]];
        let ended = doctor(&configuration, &arguments).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let found = |ended: &Ended, name: &str| ended.check(name)["found"].as_str().unwrap().to_owned();
        assert_eq!(found(&ended, "relay"), format!("runs at 127.0.0.1:{admin}, and takes events"));
        assert!(found(&ended, "data_dir").ends_with("data: a running relay uses it"), "{ended:?}");
        assert_eq!(found(&ended, "listen.address"), format!("127.0.0.1:{listen}: the running relay listens there"));
        assert!(found(&ended, "listen.tls").contains("server.pem, valid until "), "{ended:?}");

        // In another directory it is not this relay's.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = format!("data_dir={}", elsewhere.path().display());
        let ended = doctor(&configuration, &[&arguments[..], &["--set", &other]].concat()).await;
        assert!(found(&ended, "data_dir").ends_with("the relay that runs does not use it"), "{ended:?}");

        // By another address of its own the relay is not found, what it holds is.
        let ended = doctor(&configuration, &["--json", "--set", &settings[0]]).await;
        assert_eq!(ended.verdicts(["data_dir", "listen.address"]), ["warning", "failed"], "{ended:?}");

        upstream.follow(|call, _| if call.method == Method::GET { not_allowed() } else { Reply::status(401) });
        relay.post(&payload("e1", "CRITICAL")).await;
        relay.admin_once("/readyz", |ready| ready["degraded"][0]["reason"] == "upstream_auth").await;
        let ended = doctor(&configuration, &arguments).await;
        let check = ended.check("relay");
        assert_eq!((ended.code, &check["verdict"]), (Some(1), &json!("warning")), "{ended:?}");
        assert!(check["found"].as_str().unwrap().contains("upstream_auth since "), "{check}");
        assert!(
            check["remedy"].as_str().unwrap().starts_with("upstream_auth: check the token in `upstream.authorization`"),
            "{check}"
        );
    })
    .await;
}
