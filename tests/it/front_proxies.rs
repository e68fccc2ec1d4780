//! The settings of `config/deploy/proxies`, run by the real proxies before a relay.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;

use crate::client_address::{RealProxy, SENT_THROUGH_A_PROXY, alert, plain_behind_a_proxy, setup, status_over, tls};
use crate::pages::read;
use crate::support::{Edge, PATIENCE, read_answer, sized_request, statuses};

const NGINX: [&str; 6] = ["nginx", "-e", "stderr", "-g", "daemon off; master_process off;", "-c"];
const HAPROXY: [&str; 3] = ["haproxy", "-db", "-f"];
/// What stands in a query of these tests and in no log.
const MARK: &str = "a-token-that-no-log-shows";

/// Shipped settings, with what is here in place of what stands there; each has to stand there.
fn shipped(file: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(read(&format!("config/deploy/proxies/{file}")), |text, (from, to)| {
        assert!(text.contains(from), "{file} has no {from}");
        text.replace(from, to)
    })
}

/// A certificate and its key for the proxy, as files in the relay's directory.
fn pair(edge: &Edge) -> (PathBuf, PathBuf) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = (edge.directory.path().join("fullchain.pem"), edge.directory.path().join("privkey.pem"));
    fs::write(&files.0, pair.cert.pem()).unwrap();
    fs::write(&files.1, pair.signing_key.serialize_pem()).unwrap();
    files
}

/// Sends alerts over TLS from several addresses, forged headers among them: the relay knows each sender as it is.
async fn knows_who_sends(edge: &Edge, proxy: &RealProxy) {
    for (from, headers, expected) in SENT_THROUGH_A_PROXY {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tls(&edge.directory.path().join("fullchain.pem"));
        let mut stream = connector.connect(name, proxy.connect(from).await).await.unwrap();
        let request = sized_request(headers, &alert());
        let request = request.replace("/hooks/servicepilot ", &format!("/hooks/servicepilot?x={MARK} "));
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!(statuses(&answer)[0], expected, "from {from} with {headers:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_as_shipped_tells_who_sends_and_logs_no_token() {
    let edge = plain_behind_a_proxy().start().await;
    let ((certificate, key), directory) = (pair(&edge), edge.directory.path().display().to_string());
    let relay = format!("server 127.0.0.1:{};", edge.address.port());
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {directory}/{name};"))
        .join(" ");
    let proxy = RealProxy::start(&edge, &NGINX, |port| {
        let server = shipped(
            "nginx.conf",
            &[
                ("server 127.0.0.1:8443;", &relay),
                ("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;")),
                ("/etc/letsencrypt/live/gander.example.com/fullchain.pem", certificate.to_str().unwrap()),
                ("/etc/letsencrypt/live/gander.example.com/privkey.pem", key.to_str().unwrap()),
                ("/var/log/nginx", &directory),
            ],
        );
        format!("pid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n{paths}\n{server}}}\n")
    })
    .await;
    knows_who_sends(&edge, &proxy).await;
    // The line of a request is there before the next one is read.
    let log = fs::read_to_string(edge.directory.path().join("gander.log")).unwrap();
    assert!(log.contains("\"POST /hooks/servicepilot\" 403") && !log.contains(MARK), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_as_shipped_for_http_tells_who_sends() {
    let edge = plain_behind_a_proxy().start().await;
    let (certificate, key) = pair(&edge);
    let both = edge.directory.path().join("both.pem");
    fs::write(&both, [fs::read(&certificate).unwrap(), fs::read(&key).unwrap()].concat()).unwrap();
    let relay = format!("127.0.0.1:{}", edge.address.port());
    let proxy = RealProxy::start(&edge, &HAPROXY, |port| {
        shipped(
            "haproxy-http.cfg",
            &[
                ("127.0.0.1:8443", &relay),
                ("bind :443", &format!("bind 127.0.0.1:{port}")),
                ("/etc/haproxy/gander.pem", both.to_str().unwrap()),
            ],
        )
    })
    .await;
    knows_who_sends(&edge, &proxy).await;
    let settings = shipped("haproxy-http.cfg", &[]);
    assert!(settings.contains("%HP") && !settings.contains("httplog"), "%HP is the path without the query");
}

/// A relay that lets in 127.0.0.9, as the PROXY protocol tells it.
async fn behind_the_proxy_protocol() -> Edge {
    let mut setup = setup(&["127.0.0.1/32"], true);
    setup.source().allow_from = vec!["127.0.0.9/32".parse().unwrap()];
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_as_shipped_for_tcp_tells_who_sends() {
    let edge = behind_the_proxy_protocol().await;
    let relay = format!("127.0.0.1:{}", edge.address.port());
    let proxy = RealProxy::start(&edge, &HAPROXY, |port| {
        shipped("haproxy-tcp.cfg", &[("127.0.0.1:8443", &relay), ("bind :443", &format!("bind 127.0.0.1:{port}"))])
    })
    .await;
    for (from, expected) in [("127.0.0.1", 403), ("127.0.0.9", 200)] {
        assert_eq!(status_over(&edge, proxy.connect(from).await).await, expected, "from {from}");
    }
}

/// Traefik with these routes before a relay, once they are in force: it listens before that.
async fn traefik(edge: &Edge, routes: &str, changes: &[(&str, &str)], certificate: &Path) -> RealProxy {
    let file = edge.directory.path().join("routes.yaml");
    let relay = format!("127.0.0.1:{}", edge.address.port());
    fs::write(&file, shipped(routes, &[&[("127.0.0.1:8443", &*relay)], changes].concat())).unwrap();
    let proxy = RealProxy::start_with(edge, &["traefik"], "--configFile=", "traefik.yaml", |port| {
        let address = format!("address: '127.0.0.1:{port}'");
        shipped("traefik.yaml", &[("address: ':443'", &address), ("/etc/traefik/gander.yaml", file.to_str().unwrap())])
    })
    .await;
    let name = ServerName::try_from("localhost").unwrap();
    let routed = async {
        while tls(certificate).connect(name.clone(), proxy.connect("127.0.0.1").await).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, routed).await.expect("its routes are in force");
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_as_shipped_for_http_tells_who_sends() {
    let edge = plain_behind_a_proxy().start().await;
    let (certificate, key) = pair(&edge);
    let changes = [
        ("/etc/letsencrypt/live/gander.example.com/fullchain.pem", certificate.to_str().unwrap()),
        ("/etc/letsencrypt/live/gander.example.com/privkey.pem", key.to_str().unwrap()),
    ];
    let proxy = traefik(&edge, "traefik-http.yaml", &changes, &certificate).await;
    knows_who_sends(&edge, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_as_shipped_for_tcp_tells_who_sends() {
    let edge = behind_the_proxy_protocol().await;
    let proxy = traefik(&edge, "traefik-tcp.yaml", &[], &edge.ca()).await;
    for (from, expected) in [("127.0.0.1", 403), ("127.0.0.9", 200)] {
        assert_eq!(status_over(&edge, proxy.connect(from).await).await, expected, "from {from}");
    }
}
