//! The process as its neighbours on the machine see it: its environment, what the kernel lets it do, and what the service
//! manager hears from it.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::process::{Process, setup};
use crate::relay::{self, TOKEN, UPSTREAM_TOKEN, within};
use crate::support::PATIENCE;
use crate::upstream::{Reply, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_gone_from_the_environment_that_neighbours_see_and_the_confinement_is_shown() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(201)).await;
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(relay::write_configuration(directory.path(), &upstream, &setup())).await;
        assert_eq!(process.post(&relay::payload("a", "CRITICAL")).await.status, 202);
        let seen = |file: &str| std::fs::read(format!("/proc/{}/{file}", process.id())).unwrap();
        let environment = String::from_utf8_lossy(&seen("environ")).into_owned();
        assert!(environment.contains("CALLGOOSE_TOKEN="), "this is not its environment: {environment}");
        for secret in [TOKEN, UPSTREAM_TOKEN] {
            assert!(!environment.contains(secret), "{environment}");
        }
        let status = String::from_utf8_lossy(&seen("status")).into_owned();
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
        let shown = process.admin("/api/v1/status").await.json["confinement"].clone();
        assert_eq!((&shown["system_calls"], &shown["memory"]), (&json!("enforced"), &json!("enforced")), "{shown}");
        assert_eq!(process.terminate().await, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_names_a_file_elsewhere_is_refused_with_the_remedy_and_changes_nothing() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(201)).await;
        let directory = tempfile::tempdir().unwrap();
        // The directories above those of its files may be read, too: one of them is that of temporary files.
        let elsewhere = tempfile::tempdir_in("/var/tmp").unwrap();
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration.clone()).await;
        if process.admin("/api/v1/status").await.json["confinement"]["files"] == "not supported" {
            return;
        }
        let rules = elsewhere.path().join("rules.yaml");
        std::fs::copy(directory.path().join("rules.yaml"), &rules).unwrap();
        let text = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, text.replace("rules: rules.yaml", &format!("rules: '{}'", rules.display())))
            .unwrap();
        let refused = process.logged_with("permission denied");
        assert!(refused["message"].as_str().unwrap().contains("restart it, or put the file beside those"), "{refused}");
        assert_eq!(process.post(&relay::payload("a", "CRITICAL")).await.status, 202);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_elsewhere_is_read_again_also_where_a_link_leads_to_another_directory() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| elsewhere.path().join(name);
        for (version, token) in [("1", "the-first-token-of-all"), ("2", "the-second-token-of-all")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("token"), token).unwrap();
        }
        std::os::unix::fs::symlink("1", at("now")).unwrap();
        let mut setup = setup();
        setup.upstream_token = Some(format!("{{ file: '{}' }}", at("now/token").display()));
        let process = Process::start(relay::write_configuration(directory.path(), &upstream, &setup)).await;
        assert_eq!(process.post(&relay::payload("a", "CRITICAL")).await.status, 202);
        assert_eq!(upstream.calls_once(1).await[0].headers["authorization"], "Bearer the-first-token-of-all");
        std::os::unix::fs::symlink("2", at("new")).unwrap();
        std::fs::rename(at("new"), at("now")).unwrap();
        let mut shown = String::new();
        for count in 2.. {
            assert_eq!(process.post(&relay::payload(&format!("b{count}"), "CRITICAL")).await.status, 202);
            shown = format!("{:?}", upstream.calls_once(count).await[count - 1].headers["authorization"]);
            if shown.contains("second") || count > 600 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(shown.contains("the-second-token-of-all"), "{shown}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_confinement_the_log_says_so_and_a_file_elsewhere_is_read() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(201)).await;
        let directory = tempfile::tempdir().unwrap();
        let mut setup = setup();
        setup.sections.push("confinement: off".to_owned());
        let process = Process::start(relay::write_configuration(directory.path(), &upstream, &setup)).await;
        assert!(process.started_with("not confined"));
        assert!(process.admin("/api/v1/status").await.json["confinement"].is_null());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hands_over_sockets_and_hears_when_it_is_ready_reloads_lives_and_stops() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(201)).await;
        let directory = tempfile::tempdir().unwrap();
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let told = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = bound.local_addr().unwrap().port();
        // As a service manager does it: the socket is descriptor 3, and the variable names the process.
        let script = "exec 3<&0; exec 0</dev/null; LISTEN_PID=$$ exec \"$0\" run --config \"$1\"";
        let mut child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_gander")])
            .arg(&configuration)
            .env("LISTEN_FDS", "1")
            .env("NOTIFY_SOCKET", directory.path().join("notify"))
            .env("WATCHDOG_USEC", "200000")
            .env("SERVICEPILOT_TOKEN", TOKEN)
            .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
            .env("NO_PROXY", "*")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(bound)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let heard = |wanted: &str| {
            let mut message = [0; 1_024];
            loop {
                let length = told.recv(&mut message).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.contains(wanted) {
                    return text;
                }
            }
        };
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
        };
        assert!(heard("READY=1").contains("STATUS=taking events"));
        let client = relay::HttpsClient::trusting(&directory.path().join("server.pem"));
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let url = format!("https://localhost:{port}/hooks/servicepilot");
        let payload = relay::payload("a", "CRITICAL").to_string();
        assert_eq!(client.send(http::Method::POST, &url, &headers, payload).await.status, 202);
        heard("WATCHDOG=1");
        signal("-HUP");
        assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
        heard("READY=1");
        signal("-TERM");
        heard("STOPPING=1");
        assert!(child.wait().unwrap().success());
    })
    .await;
}
