//! Remembers the TLS error with which a connection ended.
//!
//! A peer that refuses a client certificate says so after the handshake (TLS 1.3). When that is read before the first
//! request is on its way, hyper tells the request that the connection is gone, and tells nobody why.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

use super::tls::{detail_of, problem_in};
use crate::callgoose::answer::HandshakeFault;

/// A connection whose end is remembered.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    stream: T,
    ending: Ending,
}

/// The TLS error with which a connection ended, if one did. It is found among the extras of the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<OnceLock<(HandshakeFault, String)>>);

impl<T> Watched<T> {
    pub(super) fn new(stream: T) -> Watched<T> {
        Watched { stream, ending: Ending::default() }
    }

    pub(super) fn stream(&self) -> &T {
        &self.stream
    }
}

impl Ending {
    /// The problem, and what the TLS library says of it.
    pub(crate) fn problem(&self) -> Option<(HandshakeFault, String)> {
        self.0.get().cloned()
    }

    fn see(&self, result: &Poll<io::Result<()>>) {
        if let Poll::Ready(Err(error)) = result
            && let Some(problem) = problem_in(error)
        {
            let _ = self.0.set((problem, detail_of(error)));
        }
    }
}

impl<T: Read + Unpin> Watched<T> {
    /// A peer that is gone may have said why before it went: after a failed write its last words are read.
    fn look_after<R>(&mut self, written: &Poll<io::Result<R>>, context: &mut Context<'_>) {
        if matches!(written, Poll::Ready(Err(_))) {
            let mut scratch = [0; 64];
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut self.stream).poll_read(context, buffer.unfilled());
            self.ending.see(&read);
        }
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.ending.clone())
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.ending.see(&result);
        result
    }
}

impl<T: Read + Write + Unpin> Write for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.look_after(&result, context);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        this.look_after(&result, context);
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.look_after(&result, context);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use rustls::{AlertDescription, Error as TlsError};

    use super::*;

    /// A connection that its peer has closed, with an alert that nobody has read yet.
    struct ClosedWithAlert;

    impl Read for ClosedWithAlert {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(TlsError::AlertReceived(AlertDescription::CertificateRequired))))
        }
    }

    impl Write for ClosedWithAlert {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The end of a connection on which this failed.
    fn ending_of<R>(
        call: impl FnOnce(Pin<&mut Watched<ClosedWithAlert>>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Option<HandshakeFault> {
        let mut watched = Watched::new(ClosedWithAlert);
        assert!(matches!(call(Pin::new(&mut watched), &mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_))));
        watched.ending.problem().map(|(fault, _)| fault)
    }

    #[test]
    fn an_alert_that_nobody_has_read_is_found_after_a_failed_write() {
        let refused = Some(HandshakeFault::ClientCertificate);
        assert_eq!(ending_of(|watched, context| watched.poll_write(context, b"x")), refused);
        assert_eq!(ending_of(|watched, context| watched.poll_write_vectored(context, &[])), refused);
        assert_eq!(ending_of(|watched, context| watched.poll_flush(context)), refused);
    }
}
