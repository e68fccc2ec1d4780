//! The seam between the server and the services above it: who asks, how they answer, and which heads they never see.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;

use super::addresses::{Doubt, Origin};
use super::request_body::RequestBody;
use crate::credential::SubjectName;

/// Answers the requests of one listener.
///
/// A 4xx answer has a Content-Type: one without is taken for hyper's own and replaced.
pub trait Service: Send + Sync + 'static {
    /// Answers a request whose framing is beyond doubt.
    fn answer(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> Answering;

    /// Answers a head that is refused. A connection of HTTP/1 ends with this answer.
    fn refuse(&self, head: BadHead, peer: Peer) -> Response<Bytes>;
}

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;

/// The body of an answer.
pub enum AnswerBody {
    Whole(Full<Bytes>),
    /// It comes piece by piece, for as long as it may take. Its request is in flight until it ends, and it has to end when
    /// the relay stops.
    Streamed(UnsyncBoxBody<Bytes, BoxError>),
}

/// The reason why a body breaks off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address, as the proxies that are trusted tell it; else the connection's.
    pub address: IpAddr,
    /// Present where a trusted proxy does not tell who its client is: then `address` is the proxy's, and says nothing of
    /// the client.
    pub doubt: Option<Doubt>,
    /// The address of the connection: the socket's, or the one that the PROXY protocol tells.
    pub connection: IpAddr,
    pub certificate: ClientCertificate,
    /// The names of its certificate, where that is valid.
    pub names: Arc<[SubjectName]>,
}

/// The client certificate that TLS saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No `client_ca` is configured.
    NotAsked,
    Missing,
    /// A configured CA signed it; TLS checked that.
    Valid,
}

impl Peer {
    /// The peer of a connection.
    pub fn of(connection: Origin, certificate: ClientCertificate) -> Peer {
        let Origin { address, doubt } = connection;
        Peer { address, doubt, connection: address, certificate, names: Arc::default() }
    }

    /// The peer of a request on the connection, whose origin `of_request` tells by the connection's.
    pub(super) fn asking(self, of_request: impl FnOnce(Origin) -> Origin) -> Peer {
        let Origin { address, doubt } = of_request(Origin { address: self.connection, doubt: self.doubt });
        Peer { address, doubt, ..self }
    }
}
/// Marks an answer, as an extension of it, to a request that showed a credential which is not right: after some of them the
/// server answers this address slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedAttempt;

/// Marks an answer, as an extension of it, to a request of somebody who may ask, whatever became of it: its connection is of
/// use, which those of strangers never are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authenticated;

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> AnswerBody {
        AnswerBody::Whole(Full::new(bytes))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            AnswerBody::Whole(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            AnswerBody::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(body) => body.is_end_stream(),
            AnswerBody::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(body) => body.size_hint(),
            AnswerBody::Streamed(body) => body.size_hint(),
        }
    }
}

/// Why the head of a request is refused before anybody looks at what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// It can be read in two ways, or asks for another protocol; the text says which.
    Framing(&'static str),
    TooLarge,
    TargetTooLong,
}

impl BadHead {
    pub const LABELS: [&str; 3] = ["framing", "head_too_large", "target_too_long"];

    /// The word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            BadHead::Framing(_) => "framing",
            BadHead::TooLarge => "head_too_large",
            BadHead::TargetTooLong => "target_too_long",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            BadHead::Framing(_) => StatusCode::BAD_REQUEST,
            BadHead::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            BadHead::TargetTooLong => StatusCode::URI_TOO_LONG,
        }
    }

    /// One sentence for whoever sent it.
    pub fn detail(self) -> &'static str {
        match self {
            BadHead::Framing(why) => why,
            BadHead::TooLarge => "The request line and headers are too many or too long.",
            BadHead::TargetTooLong => "The request target is too long.",
        }
    }

    /// For the status with which hyper answers a head that it can't read.
    pub(super) fn of_status(status: StatusCode) -> BadHead {
        match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => BadHead::TooLarge,
            StatusCode::URI_TOO_LONG => BadHead::TargetTooLong,
            _ => BadHead::Framing("The request line or a header is malformed."),
        }
    }
}
