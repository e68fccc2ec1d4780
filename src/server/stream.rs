//! The I/O stream between one socket and hyper: scans the framing of requests, replaces hyper's own 4xx answers, and
//! closes so that the peer can read its last answer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::deadlines::Deadlines;
use super::framing::Scanner;
use super::service::{BadHead, Peer, Service};

/// A connection's bytes.
pub(super) struct WatchedStream<IO> {
    io: IO,
    deadlines: Arc<Deadlines>,
    /// None for HTTP/2, whose frames leave no doubt where a request ends.
    http1: Option<Http1>,
    /// An answer that stands instead of hyper's, not yet written.
    instead: Vec<u8>,
    /// Since our side ended: the time until the peer must have ended its own.
    lingering_close: Option<Pin<Box<Sleep>>>,
    /// Bytes that were read and dropped since then.
    dropped: usize,
}

/// Reads the heads of HTTP/1 beside hyper, and answers those that hyper can't read.
pub(super) struct Http1 {
    pub(super) scanner: Arc<Mutex<Scanner>>,
    pub(super) service: Arc<dyn Service>,
    pub(super) peer: Peer,
}

impl<IO> WatchedStream<IO> {
    pub(super) fn new(io: IO, deadlines: Arc<Deadlines>, http1: Option<Http1>) -> WatchedStream<IO> {
        WatchedStream { io, deadlines, http1, instead: Vec::new(), lingering_close: None, dropped: 0 }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> WatchedStream<IO> {
    /// Writes what stands instead of an answer of hyper's.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops what the peer still sends, until it ends its side, or has had its time or its bytes.
    ///
    /// Closing a socket with unread bytes in it resets the connection, and the reset can overtake the answer that was
    /// just written: the peer would never read why it was refused.
    fn poll_lingering_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.lingering_close.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIME)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut space = [0_u8; 4_096];
        while self.dropped < LINGER_BYTES {
            let mut space = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut space)) {
                Ok(()) if !space.filled().is_empty() => self.dropped += space.filled().len(),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.deadlines.hear();
        }
        if let Some(Http1 { scanner, .. }) = &self.http1 {
            let mut scanner = scanner.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = scanner.feed(&buffer.filled()[before..]) {
                // hyper takes no line feed there, in no part of the line, and the body breaks off.
                buffer.filled_mut()[before + at] = b'\n';
            }
            self.deadlines.head(scanner.in_head());
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let waiting = this.poll_instead(cx)?;
        this.deadlines.stalled(waiting.is_pending());
        ready!(waiting);
        if let Some(Http1 { service, peer, .. }) = &this.http1
            && let Some(status) = automatic_answer(bytes)
        {
            this.instead = spelled_out(&service.refuse(BadHead::of_status(status), peer.clone()));
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.deadlines.stalled(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = match this.poll_instead(cx)? {
            Poll::Ready(()) => Pin::new(&mut this.io).poll_flush(cx),
            Poll::Pending => Poll::Pending,
        };
        this.deadlines.stalled(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.deadlines.ending();
        if this.lingering_close.is_none() {
            ready!(this.poll_instead(cx))?;
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        ready!(this.poll_lingering_close(cx));
        Poll::Ready(Ok(()))
    }
}

/// The status of an answer that hyper gave by itself because it could not read a head. Hyper's say nothing; those of a
/// [`Service`] say of which type their text is.
fn automatic_answer(bytes: &[u8]) -> Option<StatusCode> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    if status[0] != b'4' {
        return None;
    }
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    let ours = head.windows(CONTENT_TYPE_LINE.len()).any(|window| window == CONTENT_TYPE_LINE);
    if ours { None } else { StatusCode::from_bytes(status).ok() }
}

/// An answer as HTTP/1.1 writes it, the last of its connection.
fn spelled_out(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != CONNECTION) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let (length, date) = (response.body().len(), httpdate::fmt_http_date(SystemTime::now()));
    let rest = format!("connection: close\r\ncontent-length: {length}\r\ndate: {date}\r\n\r\n");
    text.extend_from_slice(rest.as_bytes());
    text.extend_from_slice(response.body());
    text
}

const CONTENT_TYPE_LINE: &[u8] = b"\r\ncontent-type: ";

/// The time and the bytes that the contract grants a sender that is answered early.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_without_a_content_type_are_taken_for_hypers_own() {
        let rows: &[(&[u8], Option<u16>)] = &[
            (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n", Some(400)),
            (b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n", Some(431)),
            (b"HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\n\r\nno", None),
            (b"HTTP/1.1 400 Bad Request\r\n\r\nbody\r\ncontent-type: text/plain", Some(400)),
            (b"HTTP/1.1 202 Accepted\r\n\r\n", None),
            (b"HTTP/1.1 100 Continue\r\n\r\n", None),
            (b"{\"status\":\"queued\"}", None),
            (b"HTTP/1.1 4", None),
            (b"", None),
        ];
        for (bytes, status) in rows {
            assert_eq!(automatic_answer(bytes).map(|status| status.as_u16()), *status);
        }
    }
}
