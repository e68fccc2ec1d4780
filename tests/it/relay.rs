//! A whole relay in this process: real configuration, real TLS, real files, free ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gander::exports::config::{self, Inputs, Secrets};
use gander::exports::relay::{self, Running};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::upstream::Upstream;

pub const TOKEN: &str = "sender-canary-7d1f";
pub const UPSTREAM_TOKEN: &str = "upstream-canary-93ab";

/// A relay that runs, with its directory and a client that trusts it.
pub struct Relay {
    running: Running,
    pub directory: Arc<tempfile::TempDir>,
    pub client: HttpsClient,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub json: Value,
}

/// A client over TLS or not, whose trust is one certificate file.
#[derive(Clone)]
pub struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What a test changes in the relay's configuration.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines under `sources.servicepilot`, as `respond: delivered`.
    pub source: Vec<String>,
    /// Lines under `upstream`.
    pub upstream: Vec<String>,
    /// The secret that is shown to the upstream; from the environment if none.
    pub upstream_token: Option<String>,
    /// The `admin` section; a free port on loopback if none.
    pub admin: Option<String>,
    /// Whole sections.
    pub sections: Vec<String>,
    /// The rule file; the shipped one if none.
    pub rules: Option<String>,
    /// The URL of the upstream; the stub's if none.
    pub url: Option<String>,
    /// Lines under `upstream.tls`, beside `ca`.
    pub tls: Vec<String>,
    /// Variables of the environment.
    pub environment: Vec<(String, String)>,
}

impl Relay {
    /// Starts a relay in a new directory in front of `upstream`.
    pub async fn start(upstream: &Upstream, setup: &Setup) -> Relay {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Relay::start_in(directory, upstream, setup).await
    }

    /// Starts a relay over what another one left in its directory.
    pub async fn start_in(directory: Arc<tempfile::TempDir>, upstream: &Upstream, setup: &Setup) -> Relay {
        let path = write_configuration(directory.path(), upstream, setup);
        let mut environment = BTreeMap::from([
            ("SERVICEPILOT_TOKEN".to_owned(), TOKEN.to_owned()),
            ("CALLGOOSE_TOKEN".to_owned(), UPSTREAM_TOKEN.to_owned()),
        ]);
        environment.extend(setup.environment.iter().cloned());
        let inputs = Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Required };
        let loaded = match config::load(&inputs) {
            Ok(loaded) => loaded,
            Err(failure) => panic!("the test's configuration is wrong: {failure:?}"),
        };
        let running = relay::start(loaded.config, Default::default()).await.unwrap();
        let client = HttpsClient::trusting(&directory.path().join("server.pem"));
        Relay { running, directory, client }
    }

    /// Posts a payload as ServicePilot would.
    pub async fn post(&self, payload: &Value) -> Answer {
        self.post_with(payload, &[]).await
    }

    pub async fn post_with(&self, payload: &Value, headers: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let mut all = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.client.send(Method::POST, &self.hook("servicepilot"), &all, payload.to_string()).await
    }

    pub fn hook(&self, source: &str) -> String {
        format!("https://localhost:{}/hooks/{source}", self.running.listen.port())
    }

    /// The ports of senders and of operators.
    pub fn ports(&self) -> (u16, u16) {
        (self.running.listen.port(), self.running.admin.port())
    }

    /// Asks the admin API.
    pub async fn admin(&self, path: &str) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.running.admin.port());
        self.client.send(Method::GET, &url, &[], String::new()).await
    }

    /// Asks the admin API again and again until the answer is as wanted; the test's own time limit ends it.
    pub async fn admin_once(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let answer = self.admin(path).await;
            if wanted(&answer.json) {
                return answer.json;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Stops in order; returns the directory for the next one.
    pub async fn stop(self) -> Arc<tempfile::TempDir> {
        let Relay { running, directory, client } = self;
        drop(client);
        assert!(running.stop().await, "stopped within the limit");
        directory
    }
}

impl HttpsClient {
    pub fn trusting(certificate: &Path) -> HttpsClient {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(certificate).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().build();
        HttpsClient(Client::builder(TokioExecutor::new()).build(connector))
    }

    pub async fn send(&self, method: Method, url: &str, headers: &[(&str, &str)], body: String) -> Answer {
        self.send_bytes(method, url, headers, body.into_bytes()).await
    }

    pub async fn send_bytes(&self, method: Method, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = self.0.request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        let content_type = head.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        Answer { status: head.status, content_type, json }
    }
}

/// A payload in the shape of the guide's examples.
pub fn payload(id: &str, state: &str) -> Value {
    json!({
        "servicepilot_event_id": id,
        "source": "servicepilot",
        "state": state,
        "severity": "HIGH",
        "title": format!("High CPU Usage - {id}"),
        "description": "CPU > 90% for 5 minutes",
        "host": "payments-01",
        "service": "payments-service",
        "startTime": "2025-11-24T07:30:00Z",
        "tags": { "policy": "High CPU Alert", "policy_id": "pol-77" },
    })
}

/// No test may hang: everything in it ends within this, also on a slow machine that does much else.
pub async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(180), test).await.expect("the test hangs")
}

pub fn write_configuration(directory: &Path, upstream: &Upstream, setup: &Setup) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = match &setup.rules {
        Some(text) => text.clone(),
        None => std::fs::read_to_string(root.join("config/rules/servicepilot.yaml")).unwrap(),
    };
    std::fs::write(directory.join("rules.yaml"), rules).unwrap();
    let indented = |lines: &[String]| lines.iter().map(|line| format!("\n    {line}")).collect::<String>();
    let under_upstream = setup.upstream.iter().map(|line| format!("\n  {line}")).collect::<String>();
    let shown = directory.display();
    let text = format!(
        "listen:
  address: 127.0.0.1:0
  tls: {{ certificate: '{shown}/server.pem', private_key: '{shown}/server.key' }}
admin: {{ {admin} }}
data_dir: '{shown}/data'
sources:
  servicepilot:
    rules: rules.yaml
    from: ServicePilot
    auth:
      - bearer: {{ env: SERVICEPILOT_TOKEN }}
      - query: {{ name: token, secret: {{ env: SERVICEPILOT_TOKEN }} }}{source}
upstream:
  url: {url}
  authorization: {{ bearer: {token} }}
  tls:
    ca: '{ca}'{tls}{under_upstream}
{sections}
",
        admin = setup.admin.as_deref().unwrap_or("address: '127.0.0.1:0'"),
        source = indented(&setup.source),
        token = setup.upstream_token.as_deref().unwrap_or("{ env: CALLGOOSE_TOKEN }"),
        url = setup.url.clone().unwrap_or_else(|| upstream.url()),
        tls = indented(&setup.tls),
        ca = upstream.ca.display(),
        sections = setup.sections.join("\n"),
    );
    let path = directory.join("gander.yaml");
    std::fs::write(&path, text).unwrap();
    path
}
