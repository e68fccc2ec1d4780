//! One connection from its first byte to its last: handshake, protocol, requests, and an end in time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::deadlines::{Activity, Order, Overdue, Timeouts};
use super::framing;
use super::stream::{Unreadable, WatchedStream};
use crate::inbound::{ClientCertificate, Ingest, Peer, Refusal};
use crate::tls;

/// What every connection of a listener shares.
pub(super) struct Server {
    pub(super) tls: Option<Arc<tls::Served>>,
    /// Whether senders must show a certificate.
    pub(super) certificate_asked: bool,
    pub(super) timeouts: Timeouts,
    pub(super) ingest: Ingest,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// As HTTP has it, or by the peer going away.
    Served,
    /// The TLS handshake failed, or took too long.
    Handshake(io::Error),
    Overdue(Overdue),
    /// By the accept loop's order.
    Closed,
}

/// Runs the streams of HTTP/2 connections as tasks that are waited for.
#[derive(Clone)]
struct Streams(TaskTracker);

/// A connection of either version of HTTP.
trait Conversation: Future<Output = hyper::Result<()>> {
    /// Asks for no more requests, and ends after those in flight.
    fn finish(self: Pin<&mut Self>);
}

impl Server {
    pub(super) fn new(
        tls: Option<Arc<tls::Served>>,
        certificate_asked: bool,
        timeouts: Timeouts,
        ingest: Ingest,
        tasks: TaskTracker,
    ) -> Server {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // It runs while the connection idles, too: the two limits are kept apart by `Activity`.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES)
            // A sender may end its side once it sent its request, and read the answer all the same.
            .half_close(true);
        let mut http2 = http2::Builder::new(Streams(tasks));
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES as u32)
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(RESET_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Server { tls, certificate_asked, timeouts, ingest, http1, http2 }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, address: std::net::IpAddr, activity: &Arc<Activity>) -> End {
        let Some(tls) = &self.tls else {
            let peer = Peer { address, certificate: ClientCertificate::NotAsked };
            return self.http1(stream, peer, activity).await;
        };
        let acceptor = TlsAcceptor::from(tls.current());
        let mut handshake = pin!(tokio::time::timeout(self.timeouts.header, acceptor.accept(stream)));
        let done = tokio::select! {
            done = handshake.as_mut() => done,
            order = activity.ordered() => match order {
                Order::Close => return End::Closed,
                Order::Finish => {
                    // For the conversation to hear, too.
                    activity.order(Order::Finish);
                    match tokio::time::timeout(FIRST_REQUEST, handshake).await {
                        Ok(done) => done,
                        Err(_) => return End::Closed,
                    }
                }
            },
        };
        let stream = match done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(problem) => return End::Handshake(problem),
        };
        let session = stream.get_ref().1;
        let certificate = match (self.certificate_asked, session.peer_certificates()) {
            (false, _) => ClientCertificate::NotAsked,
            (true, None) => ClientCertificate::Missing,
            (true, Some(_)) => ClientCertificate::Valid,
        };
        let peer = Peer { address, certificate };
        // By ALPN and nothing else: guessing by the first bytes would need a timeout of its own.
        if session.alpn_protocol() == Some(b"h2") {
            let wire = WatchedStream::http2(stream, Arc::clone(activity));
            let service = self.service(peer, activity, false);
            converse(self.http2.serve_connection(TokioIo::new(wire), service), activity, self.timeouts).await
        } else {
            self.http1(stream, peer, activity).await
        }
    }

    async fn http1<IO>(&self, io: IO, peer: Peer, activity: &Arc<Activity>) -> End
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = WatchedStream::http1(io, Arc::clone(activity), self.unreadable(peer));
        let service = self.service(peer, activity, true);
        converse(self.http1.serve_connection(TokioIo::new(wire), service), activity, self.timeouts).await
    }

    fn service(
        &self,
        peer: Peer,
        activity: &Arc<Activity>,
        scanned: bool,
    ) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static> + use<>
    {
        let ingest = self.ingest.clone();
        let activity = Arc::clone(activity);
        service_fn(move |request: Request<Incoming>| {
            let (ingest, activity) = (ingest.clone(), Arc::clone(&activity));
            let number = activity.request();
            async move {
                let _in_flight = activity.in_flight();
                let framing = if scanned { activity.framing_doubt(number) } else { None };
                let doubt = framing.or_else(|| framing::doubt(&request));
                Ok(ingest.answer(request, peer, doubt).await)
            }
        })
    }

    fn unreadable(&self, peer: Peer) -> Unreadable {
        let ingest = self.ingest.clone();
        Box::new(move |status| {
            let refusal = match status {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Refusal::HeadTooLarge,
                StatusCode::URI_TOO_LONG => Refusal::TargetTooLong,
                _ => Refusal::Framing("The request line or a header is malformed."),
            };
            spelled_out(&ingest.answer_unreadable(&refusal, peer))
        })
    }
}

/// Runs a connection, and ends it when something takes too long or the accept loop says so.
async fn converse(conversation: impl Conversation, activity: &Activity, timeouts: Timeouts) -> End {
    let mut conversation = pin!(conversation);
    let mut timer = pin!(tokio::time::sleep(LOOK));
    // Until when a connection that is to end is kept for its first request, which may be on its way: closed now, it
    // would be cut.
    let mut first_until = None;
    loop {
        let end = tokio::select! {
            biased;
            end = run(conversation.as_mut(), timer.as_mut(), activity, timeouts) => end,
            () = activity.first_request(), if first_until.is_some() => {
                first_until = None;
                conversation.as_mut().finish();
                continue;
            }
            () = until(first_until), if first_until.is_some() => {
                first_until = None;
                conversation.as_mut().finish();
                continue;
            }
            order = activity.ordered() => match order {
                Order::Close => return End::Closed,
                Order::Finish => {
                    activity.ending();
                    first_until = Some(tokio::time::Instant::now() + FIRST_REQUEST);
                    continue;
                }
            },
        };
        // A peer that may just be sending its next request is told that there will be no answer to it.
        if let End::Overdue(Overdue::Idle) = end {
            activity.ending();
            conversation.as_mut().finish();
            continue;
        }
        return end;
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Polls the connection, and its timer for whatever is due next at that moment.
async fn run(
    mut conversation: Pin<&mut impl Conversation>,
    mut timer: Pin<&mut Sleep>,
    activity: &Activity,
    timeouts: Timeouts,
) -> End {
    poll_fn(|context| {
        if let Poll::Ready(served) = conversation.as_mut().poll(context) {
            if let Err(problem) = served {
                debug!(%problem, "a connection broke");
            }
            return Poll::Ready(End::Served);
        }
        loop {
            let due = activity.due(timeouts);
            // A timer that fires too early costs a look; one that fires too late lets a slow peer stay.
            if let Some(due) = due
                && timer.deadline() > due.at.into()
            {
                timer.as_mut().reset(due.at.into());
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match due {
                Some(due) if due.at <= std::time::Instant::now() => return Poll::Ready(End::Overdue(due.what)),
                Some(due) => timer.as_mut().reset(due.at.into()),
                None => timer.as_mut().reset(tokio::time::Instant::now() + LOOK),
            }
        }
    })
    .await
}

/// An answer as HTTP/1.1 has it on the wire, the last of its connection.
fn spelled_out(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    text.extend_from_slice(format!("content-length: {}\r\ndate: {date}\r\n\r\n", response.body().len()).as_bytes());
    text.extend_from_slice(response.body());
    text
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl<IO, S> Conversation for http1::Connection<IO, S>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<IO, S> Conversation for http2::Connection<IO, S, Streams>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// At a stop, for a connection that has just been made to say what it was made for.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How long the timer rests while nothing is due.
const LOOK: Duration = Duration::from_secs(60);

/// Of a request line and headers; also the piece in which a body is read. No sender of alerts comes near it.
const HEAD_BYTES: usize = 16 * 1024;

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 64;

/// Streams that a peer opened and reset before they were looked at, and such as it broke: more than this is the
/// attack known as rapid reset.
const RESET_STREAMS: usize = 32;

/// What one request, and one connection, may send ahead of what was read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A peer that went away without a word is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
