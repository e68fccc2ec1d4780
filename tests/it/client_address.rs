//! Where a request comes from: by the PROXY protocol, by the headers of proxies that are trusted, and not by those of
//! anybody else.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gander::exports::server::{Addresses, LOCAL_PROXY_HEADER};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::cli::{fed, gander_beside};
use crate::process::Process;
use crate::relay::{self, Relay, payload, within};
use crate::support::{Edge, PATIENCE, Setup, client, read_answer, read_to_end, sized_request, statuses, write};
use crate::upstream::{Reply, Upstream};

/// The sender that is let in; its proxy is 127.0.0.1.
const SENDER: [u8; 4] = [203, 0, 113, 7];

/// A listener that trusts these, and a source that lets in [`SENDER`] alone.
pub fn setup(trusted: &[&str], proxy_protocol: bool) -> Setup {
    let mut setup = Setup::new();
    let trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
    setup.listen.addresses = Addresses { trusted_proxies, proxy_protocol };
    setup.source().allow_from = vec!["203.0.113.7/32".parse().unwrap()];
    setup
}

pub fn alert() -> String {
    json!({"id": "k1", "state": "INFO"}).to_string()
}

/// A header for a TCP connection from this address, with these extensions.
fn header(source: [u8; 4], extensions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + extensions.len()).unwrap().to_be_bytes();
    let addresses = [&source[..], &[10, 0, 0, 2, 0xd4, 0x31, 0x20, 0xfb]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, extensions].concat()
}

pub fn tls(certificate: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Sends an alert over TLS on a connection that began with something; returns the status of its answer.
pub async fn status_over(edge: &Edge, stream: TcpStream) -> u16 {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tls(&edge.ca()).connect(name, stream).await.unwrap();
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    statuses(&read_answer(&mut stream).await)[0]
}

/// A connection that begins with these bytes.
async fn beginning(edge: &Edge, bytes: &[u8]) -> TcpStream {
    let mut stream = edge.connect().await;
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn until_refused(edge: &Edge, reason: &str, count: &str) {
    let line = format!("gander_connections_refused_total{{reason=\"{reason}\"}}");
    let counted = async {
        while edge.metric(&line) != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("it is counted");
}

#[tokio::test]
async fn a_proxy_header_before_tls_tells_who_sends_and_is_taken_byte_for_byte() {
    let edge = setup(&[], true).start().await;
    // An extension of each kind of length, the longest within the cap.
    let extensions = [0x04, 0, 1, 9].iter().chain(&[0xe2, 0x0f, 0xe0]).chain(&[7; 0x0fe0]).copied().collect::<Vec<_>>();
    for (source, extensions, expected) in
        [(SENDER, &[][..], 200), (SENDER, &extensions, 200), ([203, 0, 113, 8], &[], 403)]
    {
        let whole = beginning(&edge, &header(source, extensions)).await;
        assert_eq!(status_over(&edge, whole).await, expected, "{source:?} in one piece");
    }
    // In one segment with the first bytes of TLS: what the relay reads too much would be missing there.
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let sent = async {
        let mut stream = edge.connect().await;
        let mut hello = vec![0; 16 * 1024];
        let read = near.read(&mut hello).await.unwrap();
        stream.write_all(&[&header(SENDER, &[])[..], &hello[..read]].concat()).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut stream).await;
    };
    let name = ServerName::try_from("localhost").unwrap();
    let asked = async {
        let mut stream = tls(&edge.ca()).connect(name, far).await.unwrap();
        stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
        statuses(&read_answer(&mut stream).await)
    };
    tokio::select! {
        () = sent => panic!("the connection broke"),
        found = asked => assert_eq!(found, [200]),
    }
}

#[tokio::test]
async fn a_proxy_header_may_come_byte_by_byte() {
    let edge = setup(&[], true).start().await;
    let mut stream = edge.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in header(SENDER, &[0x04, 0, 1, 9]) {
        stream.write_all(&[byte]).await.unwrap();
        // No wait for anything: only so that bytes tend to travel alone.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(status_over(&edge, stream).await, 200);
}

#[tokio::test]
async fn what_is_no_proxy_header_of_version_2_is_refused_and_counted() {
    let mut setup = setup(&[], true);
    setup.listen.limits.header_timeout = Duration::from_secs(1);
    let edge = setup.start().await;
    let long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\x01", &[0; 0x1001][..]].concat();
    let mut count = 0;
    for sent in [
        // Version 1, HTTP, TLS, another version of the binary one, a header beyond the cap, one that never ends, silence.
        &b"PROXY TCP4 203.0.113.7 10.0.0.2 54321 8443\r\n"[..],
        b"POST /hooks/servicepilot HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        &long,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb",
        b"",
    ] {
        let mut stream = edge.connect().await;
        write(&mut stream, sent).await;
        assert_eq!(read_to_end(&mut stream).await, "", "nothing is said to {sent:?}");
        count += 1;
        until_refused(&edge, "proxy_header", &count.to_string()).await;
    }
    assert_eq!(status_over(&edge, beginning(&edge, &header(SENDER, &[])).await).await, 200, "others are served");
}

#[tokio::test]
async fn only_proxies_that_are_listed_may_name_a_client_and_anybody_may_name_none() {
    let edge = setup(&["192.0.2.0/24"], true).start().await;
    let mut stream = beginning(&edge, &header(SENDER, &[])).await;
    assert_eq!(read_to_end(&mut stream).await, "");
    until_refused(&edge, "proxy_header", "1").await;
    // A probe counts by its own address, which is none that may send.
    assert_eq!(status_over(&edge, beginning(&edge, &LOCAL_PROXY_HEADER).await).await, 403);
    for edge in [setup(&["127.0.0.0/8"], true).start().await, setup(&["127.0.0.0/8", "10.0.0.0/8"], true).start().await]
    {
        assert_eq!(status_over(&edge, beginning(&edge, &header(SENDER, &[])).await).await, 200);
    }
}

#[tokio::test]
async fn a_connection_of_whose_client_nothing_is_told_is_not_taken_for_its_proxys() {
    let mut setup = setup(&["127.0.0.1/32"], true);
    setup.source().allow_from = vec!["127.0.0.1/32".parse().unwrap()];
    let edge = setup.start().await;
    assert_eq!(status_over(&edge, beginning(&edge, &LOCAL_PROXY_HEADER).await).await, 200, "the proxy itself");
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8", &[b'/'; 216][..]].concat();
    for untold in [&b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0"[..], &unix] {
        assert_eq!(status_over(&edge, beginning(&edge, untold).await).await, 403, "{untold:?}");
    }
}

#[tokio::test]
async fn connections_are_the_share_of_the_client_that_the_header_names() {
    for trusted in [&[][..], &["127.0.0.1/32"]] {
        let mut setup = setup(trusted, true);
        setup.listen.tls = None;
        setup.source().allow_from = Vec::new();
        setup.listen.limits.connections_of_address_max = Some(2);
        let edge = setup.start().await;
        let ask = async |source: [u8; 4]| {
            let mut stream = beginning(&edge, &header(source, &[])).await;
            stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
            assert_eq!(statuses(&read_answer(&mut stream).await), [200], "{source:?}");
            stream
        };
        let mut other = ask([203, 0, 113, 8]).await;
        let mut streams = [ask(SENDER).await, ask(SENDER).await, ask(SENDER).await];
        assert_eq!(read_to_end(&mut streams[0]).await, "", "the idlest of the same client gave way");
        until_refused(&edge, "evicted", "1").await;
        // While both of the others send a request there is no room for one more.
        for stream in &mut streams[1..] {
            let begun = "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse\r\n\
                         Content-Length: 9\r\nExpect: 100-continue\r\n\r\n";
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut said = [0; 25];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert_eq!(read_to_end(&mut beginning(&edge, &header(SENDER, &[])).await).await, "");
        until_refused(&edge, "address_limit", "1").await;
        other.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_answer(&mut other).await), [200], "another client");
    }
}

#[tokio::test]
async fn without_tls_the_header_comes_before_http() {
    let mut setup = setup(&[], true);
    setup.listen.tls = None;
    let edge = setup.start().await;
    let request = sized_request("Connection: close\r\n", &alert());
    let both = [header(SENDER, &[]), request.into_bytes()].concat();
    assert_eq!(statuses(&edge.raw(both).await), [200]);
}

#[tokio::test]
async fn plain_http_behind_a_proxy_header_is_told_that_this_port_speaks_tls() {
    let edge = setup(&[], true).start().await;
    let both = [header(SENDER, &[]), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()].concat();
    assert!(edge.raw(both).await.ends_with("this port speaks TLS: use https://\n"));
    until_refused(&edge, "tls_handshake", "1").await;
}

#[tokio::test]
async fn who_may_send_is_decided_by_the_address_that_a_trusted_proxy_forwards() {
    let edge = setup(&["127.0.0.1/32", "10.0.0.0/8"], false).start().await;
    for (headers, expected) in [
        (&[][..], 403),
        (&[("x-forwarded-for", "203.0.113.7")], 200),
        (&[("x-forwarded-for", "203.0.113.7, 10.1.2.3")], 200),
        (&[("x-forwarded-for", "203.0.113.7, 203.0.113.8")], 403),
        (&[("x-forwarded-for", "203.0.113.8, 203.0.113.7")], 200),
        (&[("x-forwarded-for", "203.0.113.7:54321")], 200),
        (&[("forwarded", "for=203.0.113.7;proto=https")], 200),
        (&[("forwarded", "for=\"203.0.113.7:54321\", for=\"[::ffff:10.0.0.1]:_x\"")], 200),
        (&[("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "203.0.113.7")], 200),
        (&[("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "203.0.113.8")], 403),
        (&[("forwarded", "for=unknown"), ("x-forwarded-for", "203.0.113.7")], 403),
    ] {
        for http2 in [true, false] {
            let request = headers.iter().fold(edge.post(), |request, (name, value)| request.header(*name, *value));
            let answer = edge.send_by(request, alert(), http2).await;
            assert_eq!(answer.status, expected, "{headers:?}, HTTP/2: {http2}");
        }
    }
}

#[tokio::test]
async fn each_request_of_a_connection_has_its_own_address() {
    let edge = setup(&["127.0.0.1/32"], false).start().await;
    let client = client(Some(&edge.ca()), true);
    let status = async |address: &str| {
        let request = edge.post().header("x-forwarded-for", address);
        client.request(request.body(alert().into()).unwrap()).await.unwrap().status().as_u16()
    };
    assert_eq!(
        [status("203.0.113.7").await, status("203.0.113.8").await, status("203.0.113.7").await],
        [200, 403, 200]
    );
}

#[tokio::test]
async fn whoever_is_not_trusted_forwards_nothing_and_a_doubt_never_passes_for_the_proxy() {
    let forwarded = |edge: &Edge, value: &str| edge.post().header("x-forwarded-for", value);
    for trusted in [&[][..], &["192.0.2.0/24"]] {
        let edge = setup(trusted, false).start().await;
        assert_eq!(edge.send(forwarded(&edge, "203.0.113.7"), alert()).await.status, 403);
    }
    // A network that the proxy itself belongs to: a sender that makes its address unreadable is not within it.
    let mut setup = setup(&["127.0.0.1/32"], false);
    setup.source().allow_from = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = setup.start().await;
    assert_eq!(edge.alert(json!({"id": "k1", "state": "INFO"})).await.status, 200, "the proxy's own");
    assert_eq!(edge.send(forwarded(&edge, "unknown"), alert()).await.status, 403);
    let both = forwarded(&edge, "203.0.113.7").header("forwarded", "for=x");
    assert_eq!(edge.send(both, alert()).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn gander_send_reaches_a_relay_that_requires_a_proxy_header() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let keys = [("PROXY_PROTOCOL", "required"), ("TRUSTED_PROXIES", "[192.0.2.1]")];
        let environment = keys.map(|(key, value)| (format!("GANDER_LISTEN__{key}"), value.to_owned()));
        let setup = relay::Setup { environment: environment.to_vec(), ..relay::Setup::default() };
        let relay = Relay::start(&upstream, &setup).await;
        let mut command = gander_beside(&relay, &["send", "--source", "servicepilot"]);
        command.envs(environment);
        let ended = fed(command, payload("e1", "CRITICAL").to_string()).await;
        assert!(ended.code == Some(0) && ended.out.contains("delivered, created"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_told_with_the_address_that_a_trusted_proxy_forwards_and_never_as_of_this_machine() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let admin = Some("address: '127.0.0.1:0', trusted_proxies: [127.0.0.1]".to_owned());
        let setup = relay::Setup { admin, ..relay::Setup::default() };
        let relay = Relay::start(&upstream, &setup).await;
        let url = format!("http://127.0.0.1:{}/api/v1/events/hold", relay.ports().1);
        let hold = async |who: &str, forwarded: &[(&str, &str)]| {
            let headers = [&[("content-type", "application/json")], forwarded].concat();
            let body = json!({"source": "servicepilot", "key": who}).to_string();
            relay.client.send(http::Method::POST, &url, &headers, body).await
        };
        for (forwarded, who) in [
            (&[][..], "loopback, 127.0.0.1"),
            (&[("x-forwarded-for", "203.0.113.7")], "no token, 203.0.113.7"),
            (&[("forwarded", "for=203.0.113.8")], "no token, 203.0.113.8"),
        ] {
            let answer = hold(who, forwarded).await;
            assert!(answer.status.is_success(), "{answer:?}");
            let commands = relay.admin("/api/v1/commands").await.json;
            assert_eq!(commands["commands"][0]["by"], who, "{commands}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_is_wrong_with_a_header_and_who_sends_behind_a_right_one() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let setup = relay::Setup { source: vec!["allow_from: [127.0.0.1]".into()], ..relay::Setup::default() };
        let path = relay::write_configuration(directory.path(), &upstream, &setup);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("listen:\n", "listen:\n  proxy_protocol: required\n", 1)).unwrap();
        let process = Process::start(path).await;
        let begin = async |bytes: &[u8]| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, process.ports().0)).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        };
        for (sent, hint) in [
            (&b"PROXY TCP4 203.0.113.7 10.0.0.2 54321 8443\r\n"[..], "is of version 1: let the proxy send version 2"),
            (b"\x16\x03\x01", "begins without a PROXY header: let the proxy send version 2 (HAProxy: send-proxy-v2)"),
        ] {
            read_to_end(&mut begin(sent).await).await;
            let line = process.logged("a connection began without a PROXY header that counts");
            assert!(line["peer"] == "127.0.0.1" && line["hint"].as_str().unwrap().contains(hint), "{line}");
        }
        drop(begin(&header(SENDER, &[])).await);
        assert_eq!(process.logged("a TLS handshake failed")["peer"], "203.0.113.7");

        for (header, hint) in [
            (header(SENDER, &[]), None),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0".to_vec(), Some("the proxy told no address of this connection")),
        ] {
            let (name, tls) = (ServerName::try_from("localhost").unwrap(), tls(&directory.path().join("server.pem")));
            let mut stream = tls.connect(name, begin(&header).await).await.unwrap();
            stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
            assert_eq!(statuses(&read_answer(&mut stream).await), [403]);
            let line = process.logged("refused a request");
            assert_eq!(
                (line["reason"].as_str(), line["peer"] == "203.0.113.7"),
                (Some("address"), hint.is_none()),
                "{line}"
            );
            let said = line["hint"].as_str();
            assert!(hint.map_or(said.is_none(), |hint| said.is_some_and(|said| said.contains(hint))), "{line}");
        }
    })
    .await;
}

/// A proxy of its own process, ended with the test.
pub struct RealProxy {
    child: Child,
    pub port: u16,
}

impl RealProxy {
    /// Starts a program that reads its settings from a file, which name the port that it listens on.
    pub async fn start(edge: &Edge, program: &[&str], settings: impl Fn(u16) -> String) -> RealProxy {
        RealProxy::start_with(edge, program, "", "proxy.conf", settings).await
    }

    /// The same for a program that wants a word before the path of the file, and a name of its own for that.
    pub async fn start_with(
        edge: &Edge,
        program: &[&str],
        word: &str,
        name: &str,
        settings: impl Fn(u16) -> String,
    ) -> RealProxy {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let file = edge.directory.path().join(name);
        std::fs::write(&file, settings(port)).unwrap();
        let mut command = Command::new(program[0]);
        let child = command.args(&program[1..]).arg(format!("{word}{}", file.display())).stdout(Stdio::null()).spawn();
        let mut proxy = RealProxy { child: child.unwrap_or_else(|_| panic!("{} is installed", program[0])), port };
        let listens = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                assert!(proxy.child.try_wait().unwrap().is_none(), "{} ended", program[0]);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it listens");
        proxy
    }

    /// A connection that comes from this address.
    pub async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, self.port).into()).await.unwrap()
    }

    /// Sends an alert from this address in plain HTTP, with whatever further headers.
    async fn status(&self, from: &str, headers: &str) -> u16 {
        let mut stream = self.connect(from).await;
        stream.write_all(sized_request(headers, &alert()).as_bytes()).await.unwrap();
        statuses(&read_answer(&mut stream).await)[0]
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_tells_who_sends_by_send_proxy_v2() {
    let mut setup = setup(&["127.0.0.1/32"], true);
    setup.source().allow_from = vec!["127.0.0.9/32".parse().unwrap()];
    let edge = setup.start().await;
    let relay = edge.address.port();
    let proxy = RealProxy::start(&edge, &["haproxy", "-db", "-f"], |port| {
        format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen webhooks\n  bind 127.0.0.1:{port}\n  \
             server gander 127.0.0.1:{relay} send-proxy-v2 proxy-v2-options unique-id,ssl,authority check inter 100ms\n"
        )
    })
    .await;
    for (from, expected) in [("127.0.0.1", 403), ("127.0.0.9", 200)] {
        assert_eq!(status_over(&edge, proxy.connect(from).await).await, expected, "from {from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_tells_who_sends_by_x_forwarded_for_whatever_the_sender_writes_there() {
    let edge = plain_behind_a_proxy().start().await;
    let (relay, directory) = (edge.address.port(), edge.directory.path().display().to_string());
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {directory}/{name};"))
        .join(" ");
    let program = ["nginx", "-e", "stderr", "-g", "daemon off; master_process off;", "-c"];
    let proxy = RealProxy::start(&edge, &program, |port| {
        format!(
            "pid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n  access_log off; {paths}\n  server {{\n    \
             listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://127.0.0.1:{relay};\n      \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      proxy_set_header Forwarded \"\";\n    \
             }}\n  }}\n}}\n"
        )
    })
    .await;
    for (from, headers, expected) in SENT_THROUGH_A_PROXY {
        assert_eq!(proxy.status(from, headers).await, expected, "from {from} with {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_tells_who_sends_by_forwardfor_whatever_the_sender_writes_there() {
    let edge = plain_behind_a_proxy().start().await;
    let relay = edge.address.port();
    let proxy = RealProxy::start(&edge, &["haproxy", "-db", "-f"], |port| {
        format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen webhooks\n  bind 127.0.0.1:{port}\n  option forwardfor\n  http-request del-header Forwarded\n  \
             server gander 127.0.0.1:{relay}\n"
        )
    })
    .await;
    for (from, headers, expected) in SENT_THROUGH_A_PROXY {
        assert_eq!(proxy.status(from, headers).await, expected, "from {from} with {headers:?}");
    }
}

/// A relay that speaks plain HTTP with the proxies on 127.0.0.1, and lets in 127.0.0.9.
pub fn plain_behind_a_proxy() -> Setup {
    let mut setup = setup(&["127.0.0.1/32"], false);
    setup.listen.tls = None;
    setup.source().allow_from = vec!["127.0.0.9/32".parse().unwrap()];
    setup
}

/// From where a sender connects, the headers that it writes, and the status of its answer.
pub const SENT_THROUGH_A_PROXY: [(&str, &str, u16); 5] = [
    ("127.0.0.9", "", 200),
    ("127.0.0.8", "", 403),
    ("127.0.0.8", "X-Forwarded-For: 127.0.0.9\r\n", 403),
    ("127.0.0.8", "Forwarded: for=127.0.0.9\r\n", 403),
    ("127.0.0.9", "X-Forwarded-For: \"\r\nForwarded: for=\"\r\n", 200),
];
