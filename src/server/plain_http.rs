//! Plain HTTP on a port that speaks TLS: one sentence in plain text says so, where a broken handshake would say nothing.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stream::WatchedStream;

/// The client speaks HTTP: the first byte is the letter of a method, which begins no record of TLS. Nothing is taken from
/// the socket.
pub(super) async fn is_spoken_on(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0_u8];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic())
}

/// Answers without reading the request, and ends the connection so that the client can read that.
pub(super) async fn answer<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: WatchedStream<IO>) -> io::Result<()> {
    let (text, length) = (SENTENCE, SENTENCE.len());
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The end of such a connection, as TLS would call it.
pub(super) fn no_handshake() -> io::Error {
    let problem = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

const SENTENCE: &str = "this port speaks TLS: use https://\n";
