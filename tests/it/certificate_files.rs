//! Files of certificates and secrets of the real program: renewed under load, near their end, and gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process::{Process, setup};
use crate::relay::{self, HttpsClient, TOKEN, payload, within};
use crate::upstream::{Reply, Upstream};

/// An authority that issues certificates for `localhost`.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    /// It ends in so many days.
    fn until(days: i64) -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = in_days(days);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Certificate and key, PEM.
    fn issue(&self, days: i64) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = in_days(days);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn in_days(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::days(days)
}

/// A configuration in a directory, with an upstream.
struct Place {
    directory: tempfile::TempDir,
    configuration: PathBuf,
    upstream: Upstream,
}

impl Place {
    async fn new(setup: &relay::Setup) -> Place {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let configuration = relay::write_configuration(directory.path(), &upstream, setup);
        Place { directory, configuration, upstream }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a file in its place at once, as `mv` does.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn put_pair(&self, (certificate, key): &(String, String)) {
        self.put("server.key", key);
        self.put("server.pem", certificate);
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.configuration).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&self.configuration, text.replacen(from, to, 1)).unwrap();
    }
}

/// The entries of `/readyz` with this reason, once there are as many.
async fn degraded(process: &Process, reason: &str, count: usize) -> Vec<Value> {
    let of_reason = |ready: &Value| -> Vec<Value> {
        let entries = ready["degraded"].as_array().cloned().unwrap_or_default();
        entries.into_iter().filter(|entry| entry["reason"] == reason).collect()
    };
    of_reason(&process.admin_once("/readyz", |ready| of_reason(ready).len() == count).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_to_a_listener_that_wants_certificates_is_told_why_it_can_not_come() {
    within(async {
        let place = Place::new(&setup()).await;
        let authority = Authority::until(90);
        place.put("ca.pem", &authority.pem);
        place.put_pair(&authority.issue(90));
        let client_ca = place.path("ca.pem").display().to_string();
        place.edit("server.key' }\nadmin", &format!("server.key', client_ca: '{client_ca}' }}\nadmin"));
        let process = Process::start(place.configuration.clone()).await;
        let send = || {
            let mut command = crate::cli::gander(place.directory.path());
            command.args(["send", "--source", "servicepilot", "--config", "gander.yaml"]);
            command.arg("--set").arg(format!("listen.address=127.0.0.1:{}", process.port));
            command.env("SERVICEPILOT_TOKEN", TOKEN);
            command
        };
        let ended = crate::cli::fed(send(), payload("e1", "CRITICAL").to_string()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("listen.tls.client_ca"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_file_that_is_gone_is_told_and_its_last_value_is_used() {
    within(async {
        let place = Place::new(&relay::Setup { upstream_token: Some("{ file: token }".to_owned()), ..setup() }).await;
        let token = place.path("token").display().to_string();
        place.edit("{ file: token }", &format!("{{ file: {token} }}"));
        place.put("token", "a-token-of-the-upstream");
        let process = Process::start(place.configuration.clone()).await;
        fs::remove_file(place.path("token")).unwrap();
        let told = degraded(&process, "secret_file", 1).await;
        let detail = told[0]["detail"].as_str().unwrap();
        assert!(detail.contains("/token: ") && !detail.contains("a-token"), "{detail}");
        assert!(told[0]["remedy"].as_str().unwrap().contains("put the file back"), "{told:?}");
        let metrics = process.admin("/metrics").await.json.to_string();
        assert!(metrics.contains("gander_secret_files_unreadable 1"), "{metrics}");
        let answer = process.post(&payload("e1", "CRITICAL")).await;
        assert_eq!(answer.json["status"], "queued", "{answer:?}");
        place.put("token", "a-token-of-the-upstream");
        assert_eq!(degraded(&process, "secret_file", 0).await, [Value::Null; 0]);
        process.logged_with("a secret file can be used again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_is_gone_is_told_and_served_on_and_no_start_replaces_it() {
    within(async {
        let place = Place::new(&setup()).await;
        // One that signed itself, too, if it was not made by the relay.
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = (made.cert.pem(), made.signing_key.serialize_pem());
        place.put_pair(&pair);
        let process = Process::start(place.configuration.clone()).await;
        fs::remove_file(place.path("server.pem")).unwrap();
        fs::remove_file(place.path("server.key")).unwrap();
        let told = degraded(&process, "certificate_missing", 1).await;
        let detail = told[0]["detail"].as_str().unwrap();
        assert!(detail.contains("server.pem") && detail.contains("server.key"), "{detail}");
        process.logged_with("a certificate's file is gone");
        let answer = process.post(&payload("e1", "CRITICAL")).await;
        assert_eq!(answer.json["status"], "queued", "it is served on: {answer:?}");
        assert_eq!(process.terminate().await, Some(0));

        let path = place.configuration.clone();
        let start = async || {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Process::try_start(&path)).await.unwrap()
        };
        let Err(said) = start().await else { panic!("it started without the pair") };
        assert!(said.contains("are gone") && said.contains("put them back"), "{said}");
        assert!(!place.path("server.pem").exists(), "nothing was made");
        place.put_pair(&pair);
        let process = start().await.unwrap_or_else(|said| panic!("{said}"));
        assert_eq!(degraded(&process, "certificate_missing", 0).await, [Value::Null; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_was_made_is_made_again_and_for_other_names_if_they_are_others() {
    within(async {
        let place = Place::new(&setup()).await;
        let process = Process::start(place.configuration.clone()).await;
        assert!(process.started_with("made a self-signed certificate"));
        process.terminate().await;
        place.edit("server.key' }\nadmin", "server.key', names: [gander.example] }\nadmin");
        let process = Process::start(place.configuration.clone()).await;
        assert!(process.started_with("made a self-signed certificate"), "for the names, and no other reason");
        let url = format!("https://localhost:{}/hooks/servicepilot", process.ports().0);
        // The one before is no longer shown, and this one is.
        let client = HttpsClient::trusting(&place.path("server.pem"));
        assert_eq!(client.send(http::Method::GET, &url, &[], String::new()).await.status, 405);
        process.terminate().await;
        for name in ["server.pem", "server.key"] {
            fs::remove_file(place.path(name)).unwrap();
        }
        let process = Process::start(place.configuration.clone()).await;
        assert!(process.started_with("made a self-signed certificate"), "it was made here before");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_near_their_end_are_told_by_use_and_file_until_they_are_renewed() {
    within(async {
        let directory = tempfile::tempdir().unwrap();
        let [authority, old_authority] = [100, -1].map(Authority::until);
        let at = |name: &str| directory.path().join(name).display().to_string();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let client = authority.issue(5);
        write("client.pem", &client.0);
        write("client.key", &client.1);
        write("ca.pem", &old_authority.pem);
        let shown = [("client_certificate", "client.pem"), ("client_key", "client.key")];
        let tls = shown.map(|(key, name)| format!("{key}: '{}'", at(name))).to_vec();
        let place = Place::new(&relay::Setup { tls, ..setup() }).await;
        place.put_pair(&authority.issue(5));
        place.edit("server.key' }\nadmin", &format!("server.key', client_ca: '{}' }}\nadmin", at("ca.pem")));
        let process = Process::start(place.configuration.clone()).await;

        let mut told: Vec<String> = Vec::new();
        for (reason, count) in [("certificate_expiring", 2), ("certificate_expired", 1)] {
            for entry in degraded(&process, reason, count).await {
                let detail = entry["detail"].as_str().unwrap();
                told.push(format!("{reason} {}", detail.split_once(':').unwrap().0));
                assert!(entry["remedy"].as_str().unwrap().len() > 10, "{entry}");
            }
        }
        told.sort();
        let expected = [
            "certificate_expired listen.tls.client_ca",
            "certificate_expiring listen.tls",
            "certificate_expiring upstream.tls",
        ];
        assert_eq!(told, expected);
        let metrics = process.admin("/metrics").await.json.as_str().unwrap().to_owned();
        for (section, file) in [
            ("listen.tls", place.path("server.pem").display().to_string()),
            ("listen.tls.client_ca", at("ca.pem")),
            ("upstream.tls", at("client.pem")),
        ] {
            let line = format!("gander_certificate_expiry_timestamp_seconds{{section=\"{section}\",file=\"{file}\"}} ");
            assert!(metrics.contains(&line), "{line} is not in {metrics}");
        }

        place.put_pair(&authority.issue(-1));
        process.logged_with("a certificate has expired");
        degraded(&process, "certificate_expired", 2).await;
        place.put_pair(&authority.issue(90));
        write("ca.pem", &authority.pem);
        degraded(&process, "certificate_expired", 0).await;
        place.put_pair(&authority.issue(5));
        process.logged_with("a certificate expires soon");
    })
    .await;
}

/// The certificate that a new connection is shown.
async fn shown(port: u16, connector: &TlsConnector) -> CertificateDer<'static> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn trusting(authority: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Posts again and again until told to stop, by one kept connection or by a new one for each; each must be taken.
async fn load(client: impl Fn() -> HttpsClient, name: &str, port: u16, stop: &AtomicBool, sent: &AtomicUsize) {
    let url = format!("https://localhost:{port}/hooks/servicepilot");
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let body = payload(&format!("{name}{number}"), "CRITICAL").to_string();
        let answer = client().send(http::Method::POST, &url, &headers, body).await;
        assert_eq!(answer.status, 202, "{name} {number}: {answer:?}");
        sent.fetch_add(1, Ordering::Relaxed);
        // A steady load, not as much as this machine can write.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Renews the certificate as often as `GANDER_CERTIFICATE_ROTATIONS` says, 200 times for the full proof. Connections end
/// by age meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load_and_no_request_fails() {
    let asked = std::env::var("GANDER_CERTIFICATE_ROTATIONS").ok().map(|number| number.parse::<usize>().unwrap());
    let rotations = asked.unwrap_or(4);
    let place = Place::new(&setup()).await;
    let authority = Authority::until(100);
    let trusted = place.path("authority.pem");
    fs::write(&trusted, &authority.pem).unwrap();
    place.put_pair(&authority.issue(90));
    place.edit("listen:\n", "listen:\n  max_connection_age: 1s\n");
    place.edit("data_dir:", "journal: { max_events: 1000000 }\ndata_dir:");
    let process = Process::start(place.configuration.clone()).await;
    let (port, stop, sent) = (process.ports().0, AtomicBool::new(false), AtomicUsize::new(0));
    let connector = trusting(&trusted);
    let kept = HttpsClient::trusting(&trusted);
    let slowest = async {
        let mut slowest = Duration::ZERO;
        for round in 0..rotations {
            let next = authority.issue(90);
            if round % 10 == 1 {
                let before = shown(port, &connector).await;
                place.put("server.pem", &next.0);
                let reason = degraded(&process, "config_reload", 1).await;
                assert!(reason[0]["detail"].as_str().unwrap().contains("do not belong together"), "{reason:?}");
                assert!(shown(port, &connector).await == before, "a broken pair changes nothing");
            }
            let expected = CertificateDer::from_pem_slice(next.0.as_bytes()).unwrap();
            place.put_pair(&next);
            let began = Instant::now();
            while shown(port, &connector).await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            slowest = slowest.max(began.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        slowest
    };
    let all = async {
        tokio::join!(
            slowest,
            load(|| kept.clone(), "kept", port, &stop, &sent),
            load(|| HttpsClient::trusting(&trusted), "new", port, &stop, &sent),
        )
    };
    // A rotation takes some two seconds.
    let patience = Duration::from_secs(120 + 10 * rotations as u64);
    let (slowest, ..) = tokio::time::timeout(patience, all).await.expect("each is shown in the end");
    println!("{rotations} rotations, {sent:?} requests, slowest {slowest:?}");
    assert!(sent.load(Ordering::Relaxed) > 10 * rotations);
    // A machine that does much else may be late.
    assert!(asked.is_none() || slowest < Duration::from_secs(2), "{slowest:?}");
    drop(place.upstream);
}
