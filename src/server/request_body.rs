//! The body of a request as a service reads it: it tells when nothing of it is waited for any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::deadlines::Coming;

/// A body that comes from a peer.
pub struct RequestBody {
    body: Incoming,
    /// None where there is no body.
    coming: Option<Arc<Coming>>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, coming: Option<Arc<Coming>>) -> RequestBody {
        RequestBody { body, coming }
    }

    fn end(&self) {
        if let Some(coming) = &self.coming {
            coming.end();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.end();
    }
}
