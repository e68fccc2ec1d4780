//! A client of HTTP/2 that does as it pleases: it sends bare frames, acknowledges nothing, and goes on when it is told that
//! the connection ends.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Edge, PATIENCE};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection. Its streams are numbered as they are opened.
pub struct RawHttp2 {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
    next: u32,
    answered: HashSet<u32>,
}

impl RawHttp2 {
    pub async fn connect(edge: &Edge) -> RawHttp2 {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(edge.ca()).unwrap()).unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, edge.connect().await).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut connection = RawHttp2 { stream, read: Vec::new(), next: 1, answered: HashSet::new() };
        assert!(connection.frame(SETTINGS, 0, 0, &[]).await);
        connection
    }

    /// Writes one frame; false where the connection has ended.
    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Opens a stream with a request to the first source; none where the connection has ended.
    pub async fn ask(&mut self, method: &str, headers: &[(&str, &str)], has_body: bool) -> Option<u32> {
        let mut block = Vec::new();
        let pseudo =
            [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", "/hooks/servicepilot")];
        for (name, value) in pseudo.iter().chain(headers) {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let stream = self.next;
        self.next += 2;
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        self.frame(HEADERS, flags, stream, &block).await.then_some(stream)
    }

    /// Sends the body of a request, whole.
    pub async fn body(&mut self, stream: u32, body: &str) {
        assert!(self.frame(DATA, END_STREAM, stream, body.as_bytes()).await);
    }

    /// Gives a request up.
    pub async fn reset(&mut self, stream: u32) {
        assert!(self.frame(RESET, 0, stream, &8_u32.to_be_bytes()).await);
    }

    /// Waits for the answer to a request; false where the connection ends before it.
    pub async fn is_answered(&mut self, stream: u32) -> bool {
        while !self.answered.contains(&stream) {
            if self.read_frame().await.is_none() {
                return false;
            }
        }
        true
    }

    /// Reads until the connection has ended.
    pub async fn end(&mut self) {
        while self.read_frame().await.is_some() {}
    }

    async fn read_frame(&mut self) -> Option<()> {
        let length = |head: &[u8]| u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        while self.read.len() < 9 || self.read.len() < 9 + length(&self.read) {
            let mut piece = [0; 4_096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("a frame");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.read.extend_from_slice(&piece[..read]),
            }
        }
        let rest = self.read.split_off(9 + length(&self.read));
        let frame = std::mem::replace(&mut self.read, rest);
        if frame[3] == HEADERS {
            self.answered.insert(u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]));
        }
        Some(())
    }
}
