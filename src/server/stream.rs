//! The I/O stream between one socket and hyper: scans the request framing on its way in, replaces hyper's own 4xx
//! answers, and lingers before it closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::deadlines::Activity;
use super::framing::Scanner;

/// Makes the answer to a head that hyper could not read, for the status that hyper chose.
pub(super) type Unreadable = Box<dyn Fn(StatusCode) -> Vec<u8> + Send>;

/// A connection's bytes.
pub(super) struct WatchedStream<IO> {
    io: IO,
    activity: Arc<Activity>,
    /// None for HTTP/2, whose frames leave no doubt where a request ends.
    http1: Option<Http1>,
    /// After the end of our side: the time until the peer must have ended its own.
    linger: Option<Pin<Box<Sleep>>>,
    /// What was read and dropped since then.
    dropped: usize,
}

struct Http1 {
    scanner: Scanner,
    unreadable: Unreadable,
    /// An answer that stands instead of hyper's, not yet written.
    instead: Vec<u8>,
}

impl<IO> WatchedStream<IO> {
    pub(super) fn http1(io: IO, activity: Arc<Activity>, unreadable: Unreadable) -> WatchedStream<IO> {
        let http1 = Http1 { scanner: Scanner::default(), unreadable, instead: Vec::new() };
        WatchedStream { io, activity, http1: Some(http1), linger: None, dropped: 0 }
    }

    pub(super) fn http2(io: IO, activity: Arc<Activity>) -> WatchedStream<IO> {
        WatchedStream { io, activity, http1: None, linger: None, dropped: 0 }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> WatchedStream<IO> {
    /// Writes what stands instead of an answer of hyper's.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(http1) = &mut self.http1 else { return Poll::Ready(Ok(())) };
        while !http1.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &http1.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            http1.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops what the peer still sends, until it ends its side, or has had its time or its bytes.
    ///
    /// Closing a socket with unread bytes in it resets the connection, and the reset can overtake the answer that
    /// was just written: the peer would never read why it was refused.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIME)));
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
        let this = &mut *self;
        if let Some(http1) = &mut this.http1 {
            http1.scanner.feed(&buffer.filled()[before..]);
            this.activity.scanned(&http1.scanner);
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let waiting = this.poll_instead(cx)?;
        this.activity.stalled(waiting.is_pending());
        ready!(waiting);
        if let Some(http1) = &mut this.http1
            && let Some(status) = automatic_answer(bytes)
        {
            http1.instead = (http1.unreadable)(status);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.activity.stalled(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = match this.poll_instead(cx)? {
            Poll::Ready(()) => Pin::new(&mut this.io).poll_flush(cx),
            Poll::Pending => Poll::Pending,
        };
        this.activity.stalled(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.activity.ending();
        if this.linger.is_none() {
            ready!(this.poll_instead(cx))?;
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        ready!(this.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

/// The status of an answer that hyper gave by itself because it could not read a head. Every answer of ours names
/// its request id; hyper's do not.
fn automatic_answer(bytes: &[u8]) -> Option<StatusCode> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    if status[0] != b'4' {
        return None;
    }
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    let ours = head.windows(REQUEST_ID_LINE.len()).any(|window| window == REQUEST_ID_LINE);
    if ours { None } else { StatusCode::from_bytes(status).ok() }
}

const REQUEST_ID_LINE: &[u8] = b"\r\nx-request-id: ";

/// What the contract grants a sender that is answered early.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_without_a_request_id_are_taken_for_hypers_own() {
        let rows: &[(&[u8], Option<u16>)] = &[
            (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n", Some(400)),
            (b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n", Some(431)),
            (b"HTTP/1.1 401 Unauthorized\r\nx-request-id: 01J\r\n\r\n{}", None),
            (b"HTTP/1.1 400 Bad Request\r\n\r\nbody\r\nx-request-id: 01J", Some(400)),
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
