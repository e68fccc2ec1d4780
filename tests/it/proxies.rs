//! Stand-ins for what is on the way to an upstream: proxies that behave as badly as they are told, and a forwarder that
//! forgets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a proxy does with a CONNECT.
#[derive(Clone, Debug)]
pub enum Does {
    /// Opens the tunnel, with this head for an answer.
    Tunnel(&'static str),
    /// Answers this, and nothing else.
    Say(String),
    /// Answers this and closes.
    SayAndClose(&'static str),
    /// Answers a byte at a time, for ever.
    Drip,
    Silence,
}

/// The usual answer.
pub const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy. It ends with the test's runtime.
pub struct Proxy {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

type Script = Arc<dyn Fn(&str) -> Does + Send + Sync>;

impl Proxy {
    /// Speaks CONNECT, and does as the script says by the request's head.
    pub async fn http(script: impl Fn(&str) -> Does + Send + Sync + 'static) -> Proxy {
        Proxy::start(None, Arc::new(script)).await
    }

    /// The same over TLS.
    pub async fn https(config: rustls::ServerConfig, script: impl Fn(&str) -> Does + Send + Sync + 'static) -> Proxy {
        Proxy::start(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(script)).await
    }

    async fn start(tls: Option<TlsAcceptor>, script: Script) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, noted) = (tls.clone(), Arc::clone(&script), Arc::clone(&noted));
                tokio::spawn(async move {
                    match tls {
                        None => connect(stream, script, noted).await,
                        Some(tls) => connect(tls.accept(stream).await.ok()?, script, noted).await,
                    }
                });
            }
        });
        Proxy { address, seen }
    }

    /// Speaks SOCKS5. Wants these credentials if there are any, and answers requests with this code.
    pub async fn socks5(credentials: Option<&'static str>, code: u8) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(socks5(stream, credentials, code, Arc::clone(&noted)));
            }
        });
        Proxy { address, seen }
    }

    /// What was asked for, as heads of CONNECT or as `HOST:PORT`.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn connect(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: Script,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    match script(&head) {
        Does::Tunnel(answer) => {
            let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
            let mut onward = TcpStream::connect(target).await.ok()?;
            stream.write_all(answer.as_bytes()).await.ok()?;
            let _ = copy_bidirectional(&mut stream, &mut onward).await;
        }
        Does::SayAndClose(answer) => stream.write_all(answer.as_bytes()).await.ok()?,
        Does::Say(answer) => {
            stream.write_all(answer.as_bytes()).await.ok()?;
            while stream.read_u8().await.is_ok() {}
        }
        Does::Drip => {
            for byte in "HTTP/1.1 200 OK\r\nx: ".bytes().chain(std::iter::repeat(b'x')) {
                stream.write_all(&[byte]).await.ok()?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        Does::Silence => while stream.read_u8().await.is_ok() {},
    }
    Some(())
}

/// RFC 1928 and 1929, as far as a client of the relay's kind needs it.
async fn socks5(
    mut stream: TcpStream,
    credentials: Option<&'static str>,
    code: u8,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    assert_eq!(stream.read_u8().await.ok()?, 5);
    let methods = counted(&mut stream).await?;
    let method = if credentials.is_some() { 2 } else { 0 };
    let known = methods.contains(&method);
    stream.write_all(&[5, if known { method } else { 0xff }]).await.ok()?;
    if !known {
        return None;
    }
    if let Some(credentials) = credentials {
        assert_eq!(stream.read_u8().await.ok()?, 1);
        let (user, password) = (counted(&mut stream).await?, counted(&mut stream).await?);
        let right = [user, password].join(&b':') == credentials.as_bytes();
        stream.write_all(&[1, u8::from(!right)]).await.ok()?;
        if !right {
            return None;
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(stream.read_u32().await.ok()?).to_string(),
        4 => format!("[{}]", std::net::Ipv6Addr::from(stream.read_u128().await.ok()?)),
        _ => String::from_utf8(counted(&mut stream).await?).unwrap(),
    };
    let target = format!("{host}:{}", stream.read_u16().await.ok()?);
    seen.lock().unwrap().push(target.clone());
    stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    if code == 0 {
        let mut onward = TcpStream::connect(target).await.ok()?;
        let _ = copy_bidirectional(&mut stream, &mut onward).await;
    }
    Some(())
}

async fn counted(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await.ok()?)];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// A way to an address that loses connections without a word, as a NAT does that forgot them.
pub struct Forwarder {
    pub address: SocketAddr,
    forgotten: watch::Sender<u64>,
}

impl Forwarder {
    pub async fn start(to: SocketAddr) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forgotten = watch::Sender::new(0);
        let told = forgotten.subscribe();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut told = told.clone();
                told.mark_unchanged();
                tokio::spawn(async move {
                    let mut onward = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut stream, &mut onward) => {}
                        // Both ends stay open, and nothing passes.
                        _ = told.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Forwarder { address, forgotten }
    }

    /// Loses every connection that there is.
    pub fn forget(&self) {
        self.forgotten.send_modify(|times| *times += 1);
    }
}
