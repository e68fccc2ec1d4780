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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use gander::exports::event::{Outcome, State};
use gander::exports::inbound::Respond;
use gander::exports::tls::{Pair, Profile};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::UnixTime;

use crate::support::{Edge, PATIENCE, Setup, read_answer, read_to_end, sized_request, source, statuses};

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
        let read = refused.read(&mut byte).await;
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(edge.kept_count(), 1);
}

/// Takes whatever certificate it is shown.
#[derive(Debug)]
struct Looks;

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn looking() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looks))
        .with_no_client_auth()
}

/// A pair for these names, which signed itself; returns its certificate.
fn put_pair(pair: &Pair, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
    std::fs::write(&pair.private_key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn pair_at(directory: &Path, name: &str) -> Pair {
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    Pair { certificate: file("pem"), private_key: file("key") }
}

#[tokio::test]
async fn the_name_that_a_sender_calls_chooses_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let [first, hooks, alerts] = ["first", "hooks", "alerts"].map(|name| pair_at(directory.path(), name));
    let mut shown = [
        put_pair(&first, &["gander.example", "127.0.0.1"]),
        put_pair(&hooks, &["*.hooks.example"]),
        put_pair(&alerts, &["alerts.hooks.example"]),
    ];
    let mut setup = Setup::new();
    let tls = setup.listen.tls.as_mut().unwrap();
    (tls.certificate, tls.private_key) = (first.certificate.clone(), first.private_key.clone());
    tls.more = vec![hooks.clone(), alerts];
    let edge = setup.start().await;
    let client = TlsConnector::from(Arc::new(looking()));
    let certificate = async |name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        let stream = client.connect(name, edge.connect().await).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let rows = [
        ("gander.example", 0),
        ("x.hooks.example", 1),
        ("X.HOOKS.example", 1),
        ("alerts.hooks.example", 2),
        ("hooks.example", 0),
        ("other.example", 0),
        ("127.0.0.1", 0),
    ];
    for (name, chosen) in rows {
        assert!(certificate(name).await == shown[chosen], "{name}");
    }
    // All are exchanged together, or none.
    let served = edge.tls.as_ref().unwrap();
    shown[1] = put_pair(&hooks, &["*.hooks.example"]);
    let before = std::fs::read(&first.private_key).unwrap();
    std::fs::write(&first.private_key, "no key").unwrap();
    let now = gander::exports::clock::WallTime::now;
    assert!(served.read_again(now()).unwrap_err().to_string().contains("first.key"));
    std::fs::write(&first.private_key, before).unwrap();
    served.exchange(served.read_again(now()).unwrap().expect("it has changed"));
    for (name, chosen) in rows {
        assert!(certificate(name).await == shown[chosen], "{name} after the exchange");
    }
}

#[tokio::test]
async fn the_modern_profile_speaks_tls_1_3_alone() {
    let mut setup = Setup::new();
    setup.listen.tls.as_mut().unwrap().profile = Profile::Modern;
    let edge = setup.start().await;
    let sender = |version| Sender { version, protocols: &[b"http/1.1"], identity: None }.connect(&edge);
    assert!(sender(&rustls::version::TLS12).await.is_err());
    assert!(sender(&rustls::version::TLS13).await.is_ok());
}

/// Waits for the upstream's answer, and lets connections grow no older than this.
fn setup_with_age(age: Duration) -> Setup {
    let mut setup = Setup::new();
    setup.listen.limits.connection_age_max = age;
    setup.source().respond = Respond::Delivered;
    setup.source().respond_timeout = PATIENCE;
    setup
}

const AGE: Duration = Duration::from_millis(500);

/// Between requests, so that they stay below the limit of the source.
const PACE: Duration = Duration::from_millis(5);

/// An event that the rules ignore, so that its answer waits for nobody.
fn noise() -> String {
    json!({"id": "n", "state": "INFO"}).to_string()
}

#[tokio::test]
async fn an_aged_connection_of_http_1_ends_with_an_answer_and_cuts_none_off() {
    let edge = setup_with_age(AGE).start().await;
    let connect = async || {
        let sender = Sender { version: &rustls::version::TLS13, protocols: &[b"http/1.1"], identity: None };
        sender.connect(&edge).await.unwrap()
    };
    // In flight while it becomes too old.
    let mut waiting = connect().await;
    waiting.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    let mut busy = connect().await;
    let last = tokio::time::timeout(PATIENCE, async {
        loop {
            busy.write_all(sized_request("", &noise()).as_bytes()).await.unwrap();
            let answer = read_answer(&mut busy).await;
            assert_eq!(statuses(&answer), [200], "{answer}");
            if answer.contains("connection: close") {
                return;
            }
            tokio::time::sleep(PACE).await;
        }
    });
    assert!(last.await.is_ok(), "one answer is the last");
    assert_eq!(read_to_end(&mut busy).await, "", "then it is closed");
    // The other one may have been given a longer life, by a fifth of it.
    tokio::time::sleep(AGE).await;
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    let answer = read_to_end(&mut waiting).await;
    assert!(statuses(&answer) == [201] && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn an_aged_connection_of_http_2_is_told_and_cuts_no_answer_off() {
    let edge = setup_with_age(AGE).start().await;
    let sender = Sender { version: &rustls::version::TLS13, protocols: &[b"h2"], identity: None };
    let stream = TokioIo::new(sender.connect(&edge).await.unwrap());
    let (mut requests, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |body: String| edge.post().body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
    let waiting = requests.send_request(request(alert()));
    let waiting = tokio::spawn(waiting);
    let ended = tokio::time::timeout(PATIENCE, async {
        // Each is answered, or not sent at all.
        while let Ok(answer) = requests.send_request(request(noise())).await {
            assert_eq!(answer.status(), 200);
            tokio::time::sleep(PACE).await;
        }
    });
    assert!(ended.await.is_ok(), "the connection takes no more requests");
    assert!(!waiting.is_finished());
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 201);
    assert!(connection.await.unwrap().is_ok(), "and ends as HTTP/2 has it");
}

#[tokio::test]
async fn a_changed_client_ca_ends_the_connections_that_it_no_longer_admits() {
    let directory = tempfile::tempdir().unwrap();
    let [file, old_file, new_file] = ["ca.pem", "old.pem", "new.pem"].map(|name| directory.path().join(name));
    let [old, new] = [authority(&old_file), authority(&new_file)];
    let [old_ca, new_ca] = [&old_file, &new_file].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&file, &old_ca).unwrap();
    let mut setup = setup_with_age(Duration::from_secs(3_600));
    setup.listen.tls.as_mut().unwrap().client_ca = Some(file.clone());
    let edge = setup.start().await;
    let connect = async |identity| {
        let sender = Sender { version: &rustls::version::TLS13, protocols: &[b"http/1.1"], identity: Some(identity) };
        sender.connect(&edge).await.unwrap()
    };
    let exchange = |text: String| {
        std::fs::write(&file, text).unwrap();
        let served = edge.tls.as_ref().unwrap();
        let renewed = served.read_again(gander::exports::clock::WallTime::now()).unwrap();
        served.exchange(renewed.expect("it has changed"));
    };
    let asked = async |stream: &mut TlsStream<_>| {
        stream.write_all(sized_request("", &noise()).as_bytes()).await.unwrap();
        statuses(&read_answer(stream).await)
    };
    let [mut idle, mut waiting] = [connect(old()).await, connect(old()).await];
    assert_eq!(asked(&mut idle).await, [200]);
    waiting.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    exchange(old_ca + &new_ca);
    let mut stays = connect(new()).await;
    assert_eq!([asked(&mut idle).await, asked(&mut stays).await], [[200], [200]], "both are admitted");

    exchange(new_ca);
    assert_eq!(read_to_end(&mut idle).await, "", "it is closed");
    assert_eq!(asked(&mut stays).await, [200]);
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    assert_eq!(statuses(&read_to_end(&mut waiting).await), [201], "answered, and closed");
    let mut refused = connect(old()).await;
    assert!(refused.read(&mut [0]).await.is_err(), "nor is it admitted anew");
    tokio::time::timeout(PATIENCE, async {
        while edge.metric("gander_connections_refused_total{reason=\"client_ca\"}") != "2" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("both are counted");
}

/// The certificate that was verified once may have expired since, or its authority may be trusted no longer.
#[tokio::test]
async fn a_session_with_a_client_certificate_is_never_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let issue = authority(&file);
    for (client_ca, version, kind) in [
        (None, &rustls::version::TLS13, rustls::HandshakeKind::Resumed),
        (Some(&file), &rustls::version::TLS12, rustls::HandshakeKind::Full),
        (Some(&file), &rustls::version::TLS13, rustls::HandshakeKind::Full),
    ] {
        let mut setup = Setup::new();
        setup.listen.tls.as_mut().unwrap().client_ca = client_ca.cloned();
        let edge = setup.start().await;
        let (certificate, key) = issue();
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Looks))
                .with_client_auth_cert(vec![certificate], key)
                .unwrap();
        let client = TlsConnector::from(Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = client.connect(name, edge.connect().await).await.unwrap();
            stream.write_all(sized_request("", &noise()).as_bytes()).await.unwrap();
            // Tickets come with the answer.
            assert_eq!(statuses(&read_answer(&mut stream).await), [200]);
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds[1], Some(kind), "{version:?}");
    }
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
