//! TLS as senders meet it: versions, protocols, and certificates of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gander::exports::credential::{Credential, SubjectName};
use gander::exports::inbound::auth::Policy;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Edge, PATIENCE, Setup, read_answer, sized_request, source, statuses};

fn alert() -> String {
    json!({"id": "k1", "state": "CRITICAL"}).to_string()
}

/// A client's TLS: versions, protocols offered, and a certificate if it has one.
struct Sender<'a> {
    version: &'static rustls::SupportedProtocolVersion,
    protocols: &'a [&'a [u8]],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl Sender<'_> {
    async fn connect(self, edge: &Edge) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(edge.ca()).unwrap()).unwrap();
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[self.version])
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match self.identity {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, edge.connect().await).await
    }
}

#[tokio::test]
async fn both_versions_of_tls_and_http_are_spoken() {
    let edge = Setup::new().start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (protocols, chosen) in [
            (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"h2".as_slice())),
            (&[b"http/1.1".as_slice()][..], Some(b"http/1.1".as_slice())),
            (&[][..], None),
        ] {
            let mut stream = Sender { version, protocols, identity: None }.connect(&edge).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
            if chosen != Some(b"h2") {
                stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
                let status = statuses(&read_answer(&mut stream).await)[0];
                assert!(status == 202 || status == 200, "{status}");
            }
        }
    }
}

#[tokio::test]
async fn a_sender_that_leaves_after_the_handshake_is_counted() {
    let edge = Setup::new().start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for protocols in [&[b"h2".as_slice()][..], &[b"http/1.1".as_slice()][..]] {
            let mut stream = Sender { version, protocols, identity: None }.connect(&edge).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    }
    assert_eq!(edge.alert(json!({"id": "k1", "state": "CRITICAL"})).await.status, 202);
    let refused = |reason| edge.metric(&format!("gander_connections_refused_total{{reason=\"{reason}\"}}"));
    tokio::time::timeout(PATIENCE, async {
        while refused("no_request") != "4" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("all are counted");
    assert_eq!(refused("tls_handshake"), "0", "each handshake was done");
}

#[tokio::test]
async fn a_sender_that_speaks_neither_protocol_is_turned_away_in_the_handshake() {
    let edge = Setup::new().start().await;
    let sender = Sender { version: &rustls::version::TLS12, protocols: &[b"imap"], identity: None };
    assert!(sender.connect(&edge).await.is_err());
}

/// A CA's certificate at `file`, and a function that issues client certificates of it.
fn authority(file: &Path) -> impl Fn() -> (CertificateDer<'static>, PrivateKeyDer<'static>) + use<> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    move || {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["sender".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

#[tokio::test]
async fn with_a_client_ca_only_its_certificates_may_post() {
    let directory = tempfile::tempdir().unwrap();
    let ours = authority(&directory.path().join("ca.pem"));
    let strangers = authority(&directory.path().join("stranger.pem"));
    let mut setup = Setup::new();
    setup.listen.tls.as_mut().unwrap().client_ca = Some(directory.path().join("ca.pem"));
    let edge = setup.start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let sender = |identity| Sender { version, protocols: &[b"http/1.1"], identity };
        let posted = async |identity| {
            let mut stream = sender(identity).connect(&edge).await?;
            stream.write_all(sized_request("", &alert()).as_bytes()).await?;
            Ok::<_, std::io::Error>(read_answer(&mut stream).await)
        };
        let answer = posted(Some(ours())).await.unwrap();
        assert!(matches!(statuses(&answer)[..], [200 | 202]), "{answer}");

        let answer = posted(None).await.unwrap();
        assert_eq!(statuses(&answer), [403], "{answer}");
        assert!(!answer.contains("ertificate"), "no hint what was wrong: {answer}");

        let mut refused = match sender(Some(strangers())).connect(&edge).await {
            Err(_) => continue,
            Ok(stream) => stream,
        };
        // In TLS 1.3 a client learns only from its next read that its certificate was refused.
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut refused, &mut byte).await;
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(edge.kept_count(), 1);
}

#[tokio::test]
async fn a_source_knows_its_senders_by_the_names_of_their_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let issued = authority(&directory.path().join("ca.pem"));
    let mut setup = Setup::new();
    setup.listen.tls.as_mut().unwrap().client_ca = Some(directory.path().join("ca.pem"));
    let named = |name: &str| Policy::AnyOf(vec![Credential::Certificate(vec![SubjectName::read(name).unwrap()])]);
    setup.source().auth = named("Sender");
    let mut other = source("other");
    other.auth = named("other.example");
    setup.sources.push(other);
    let edge = setup.start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let posted = async |path: &str, identity| {
            let sender = Sender { version, protocols: &[b"http/1.1"], identity };
            let mut stream = sender.connect(&edge).await.unwrap();
            let body = alert();
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            statuses(&read_answer(&mut stream).await)
        };
        assert!(matches!(posted("/hooks/servicepilot", Some(issued())).await[..], [200 | 202]));
        assert_eq!(posted("/hooks/other", Some(issued())).await, [401], "the name is another source's");
        assert_eq!(posted("/hooks/servicepilot", None).await, [403], "no certificate");
    }
    assert_eq!(edge.kept_count(), 1);
}
