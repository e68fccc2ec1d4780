//! One connection from its first byte to its last: handshake, protocol, requests, and an end in time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Limits;
use super::addresses::{Addresses, Origin};
use super::connection_table::Slot;
use super::deadlines::{Deadlines, InFlight, Overdue};
use super::framing::{self, Scanner};
use super::plain_http;
use super::proxy_header::Problem;
use super::proxy_protocol;
use super::request_body::RequestBody;
use super::retirement::{Due, Retirement, Shown};
use super::service::{AnswerBody, Authenticated, BadHead, ClientCertificate, Peer, Service};
use super::slow_answers::SlowAnswers;
use super::stream::{Http1, WatchedStream};
use crate::shutdown::Shutdown;
use crate::tls;

/// The state that every connection of a listener shares.
pub(super) struct Server {
    tls: Option<Arc<tls::Served>>,
    pub(super) addresses: Addresses,
    limits: Limits,
    service: Arc<dyn Service>,
    slow_answers: Arc<SlowAnswers>,
    shutdown: Shutdown,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

/// The end of a connection.
#[derive(Debug)]
pub(super) enum End {
    /// As HTTP has it, or by the peer going away.
    Served,
    /// It did not begin with a header of the PROXY protocol that counts.
    ProxyHeader(Problem),
    /// The TLS handshake failed, or took too long.
    Handshake(io::Error),
    /// The peer went away after the TLS handshake, without a byte: many a client looks only then whether the certificate is
    /// for the name that it called.
    Unasked,
    Overdue(Overdue),
    /// The client CA that is in force by now does not admit its certificate.
    NotAdmitted,
    /// It gave way to another one, or to the stop.
    Closed,
}

/// Runs the streams of HTTP/2 connections as tasks that are waited for.
#[derive(Clone)]
struct Streams(TaskTracker);

/// A connection of either version of HTTP.
trait Conversation: Future<Output = hyper::Result<()>> {
    /// The peer is told that the next answer is the last one, instead of an end at once: it may just be sending a
    /// request. HTTP/2 needs no such thing, since its end says which requests were taken.
    const ENDS_WITH_AN_ANSWER: bool;

    /// Asks for no more requests, and ends after those in flight.
    fn finish(self: Pin<&mut Self>);
}

impl Server {
    pub(super) fn new(
        tls: Option<Arc<tls::Served>>,
        addresses: Addresses,
        limits: Limits,
        service: Arc<dyn Service>,
        slow_answers: SlowAnswers,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) -> Server {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // It runs while the connection idles, too: `Deadlines` keeps the two limits apart.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES)
            // A sender may end its side once it sent its request, and read the answer all the same.
            .half_close(true);
        let mut http2 = http2::Builder::new(Streams(tasks));
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(HTTP2_HEAD_BYTES)
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(RESET_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Server { tls, addresses, limits, service, slow_answers: Arc::new(slow_answers), shutdown, http1, http2 }
    }

    /// The origin of a connection. Takes its header of the PROXY protocol where the listener asks for one, and nothing
    /// of what comes after it.
    pub(super) async fn origin(&self, stream: &mut TcpStream, socket: IpAddr) -> Result<Origin, End> {
        if !self.addresses.proxy_protocol {
            return Ok(Origin::known(socket));
        }
        let told = tokio::select! {
            told = timeout(self.limits.header_timeout, proxy_protocol::read(stream)) => told.unwrap_or(Err(Problem::Late)),
            () = self.told_to_stop(async { tokio::time::sleep(FIRST_REQUEST).await }) => return Err(End::Closed),
        };
        told.and_then(|told| self.addresses.of_connection(socket, told)).map_err(End::ProxyHeader)
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, origin: Origin, slot: &Slot) -> End {
        let deadlines = &slot.deadlines;
        if self.addresses.is_trusted(origin.address) {
            deadlines.of_many();
        }
        let Some(tls) = &self.tls else {
            let retirement = Retirement::new(self.limits.connection_age_max, None);
            let peer = Peer::of(origin, ClientCertificate::NotAsked);
            return self.http1(stream, peer, deadlines, retirement).await;
        };
        // Before the handshake, so that no exchange of the CA is missed.
        let exchanges = tls.exchanges();
        let handshake = timeout(self.limits.header_timeout, async {
            if !plain_http::is_spoken_on(&stream).await? {
                return slot.in_turns(TlsAcceptor::from(tls.current()).accept(stream)).await;
            }
            plain_http::answer(WatchedStream::new(stream, Arc::clone(deadlines), None)).await?;
            Err(plain_http::no_handshake())
        });
        let done = tokio::select! {
            done = handshake => done,
            () = self.told_to_stop(async { tokio::time::sleep(FIRST_REQUEST).await }) => return End::Closed,
        };
        let stream = match done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(problem) => return End::Handshake(problem),
        };
        let session = stream.get_ref().1;
        let (certificate, shown) = match (tls.asks_certificate(), session.peer_certificates()) {
            (false, _) => (ClientCertificate::NotAsked, None),
            (true, None) => (ClientCertificate::Missing, None),
            (true, Some(chain)) => (ClientCertificate::Valid, chain.first()),
        };
        let names = shown.map(tls::subject_names).unwrap_or_default().into();
        let peer = Peer { names, ..Peer::of(origin, certificate) };
        let shown = session.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
        let shown = shown.map(|chain| Shown { tls: Arc::clone(tls), chain, exchanges });
        let retirement = Retirement::new(self.limits.connection_age_max, shown);
        // By ALPN and nothing else: guessing by the first bytes would need a timeout of its own.
        let end = if session.alpn_protocol() == Some(b"h2") {
            self.http2(stream, peer, deadlines, retirement).await
        } else {
            self.http1(stream, peer, deadlines, retirement).await
        };
        match end {
            End::Served if !deadlines.was_heard() && !self.shutdown.has_begun() => End::Unasked,
            end => end,
        }
    }

    async fn http1<IO>(&self, io: IO, peer: Peer, deadlines: &Arc<Deadlines>, retirement: Retirement) -> End
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let scanner = Arc::new(Mutex::new(Scanner::default()));
        let http1 = Http1 { scanner: Arc::clone(&scanner), service: Arc::clone(&self.service), peer: peer.clone() };
        let stream = WatchedStream::new(io, Arc::clone(deadlines), Some(http1));
        let service = service_fn(|request| {
            let framing = scanner.lock().unwrap_or_else(PoisonError::into_inner).request();
            self.answer(request, peer.clone(), framing, deadlines)
        });
        self.converse(self.http1.serve_connection(TokioIo::new(stream), service), deadlines, retirement).await
    }

    async fn http2<IO>(&self, io: IO, peer: Peer, deadlines: &Arc<Deadlines>, retirement: Retirement) -> End
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = WatchedStream::new(io, Arc::clone(deadlines), None);
        let service = service_fn(|request| self.answer(request, peer.clone(), None, deadlines));
        self.converse(self.http2.serve_connection(TokioIo::new(stream), service), deadlines, retirement).await
    }

    /// Begins to answer a request, or refuses it for its head.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        framing: Option<&'static str>,
        deadlines: &Arc<Deadlines>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<> {
        let mut in_flight = deadlines.request();
        let coming = (!request.body().is_end_stream()).then(|| in_flight.await_body());
        let request = request.map(|body| RequestBody::new(body, coming));
        let peer = peer.asking(|connection| self.addresses.of_request(connection, request.headers()));
        let (service, slow_answers) = (Arc::clone(&self.service), Arc::clone(&self.slow_answers));
        let (address, version) = (peer.address, request.version());
        // hyper leaves it out by itself in HTTP/1.
        let is_http2 = request.version() == Version::HTTP_2;
        let without_body = request.method() == Method::HEAD && is_http2;
        let scheme = if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        async move {
            let response = match framing.or_else(|| framing::doubt(&request, &scheme)) {
                // Over HTTP/1 hyper finds it by itself.
                None if is_http2 && framing::head_bytes(&request) > HEAD_BYTES => {
                    service.refuse(BadHead::TooLarge, peer).map(AnswerBody::from)
                }
                None => service.answer(request, peer).await,
                Some(doubt) => {
                    let mut response = service.refuse(BadHead::Framing(doubt), peer);
                    if !is_http2 {
                        // Nobody can tell where the next request begins.
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    response.map(AnswerBody::from)
                }
            };
            in_flight.answered();
            let deadlines = &in_flight.deadlines;
            if response.extensions().get::<Authenticated>().is_some() {
                deadlines.achieve();
            } else if is_refusal(response.status()) {
                deadlines.refuse();
            }
            let response = slow_answers.pace(response, address, version, &in_flight).await;
            let mut response = if without_body { head_of(response) } else { response };
            if !is_http2 && deadlines.is_retired() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| in_flight_while_streamed(body, in_flight)))
        }
    }

    /// Runs a connection, and ends it when something takes too long, when it is to retire, or the stop is told.
    async fn converse<C: Conversation>(
        &self,
        conversation: C,
        deadlines: &Deadlines,
        mut retirement: Retirement,
    ) -> End {
        let mut conversation = pin!(conversation);
        let mut timer = pin!(tokio::time::sleep(TIMER_MAX));
        // A first request may be on its way: a connection that is closed now would be cut.
        let mut told_to_stop = pin!(self.told_to_stop(async {
            deadlines.ending();
            let _ = timeout(FIRST_REQUEST, deadlines.first_request()).await;
        }));
        let (mut finishing, mut admitted) = (false, true);
        loop {
            tokio::select! {
                biased;
                end = run(conversation.as_mut(), timer.as_mut(), deadlines, self.limits) => match end {
                    // A peer that may just be sending its next request is told that there will be no answer to it.
                    End::Overdue(Overdue::Idle) => deadlines.ending(),
                    End::Served | End::Overdue(_) if !admitted => return End::NotAdmitted,
                    end => return end,
                },
                due = retirement.due(), if !finishing => match due {
                    Due::Age if C::ENDS_WITH_AN_ANSWER => {
                        deadlines.retire();
                        continue;
                    }
                    Due::Age => deadlines.ending(),
                    Due::NotAdmitted => {
                        admitted = false;
                        deadlines.ending();
                    }
                },
                () = told_to_stop.as_mut(), if !finishing => {}
            }
            finishing = true;
            conversation.as_mut().finish();
        }
    }

    /// Waits for the stop, and then for what is still to be done.
    async fn told_to_stop(&self, then: impl Future<Output = ()>) {
        self.shutdown.begun().await;
        then.await;
    }
}

/// An answer tells somebody who did not show that they may ask that they may not, or not like this. Others, as to a probe or
/// for want of room, say nothing of who asks.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    )
}

/// Keeps a request in flight until its streamed body has ended: a connection that sends one is not idle.
fn in_flight_while_streamed(body: AnswerBody, in_flight: InFlight) -> AnswerBody {
    match body {
        AnswerBody::Whole(_) => body,
        AnswerBody::Streamed(pieces) => {
            let kept = pieces.map_frame(move |frame| {
                let _ = &in_flight;
                frame
            });
            AnswerBody::Streamed(kept.boxed_unsync())
        }
    }
}

/// Polls the connection, and its timer for the deadline that is next at that moment.
async fn run(
    mut conversation: Pin<&mut impl Conversation>,
    mut timer: Pin<&mut Sleep>,
    deadlines: &Deadlines,
    limits: Limits,
) -> End {
    poll_fn(|context| {
        if let Poll::Ready(served) = conversation.as_mut().poll(context) {
            if let Err(problem) = served {
                debug!(%problem, "a connection broke");
            }
            return Poll::Ready(End::Served);
        }
        loop {
            let next = deadlines.next(limits);
            // A timer that fires too early costs a poll; one that fires too late lets a slow peer stay.
            if let Some(due) = next
                && timer.deadline() > due.at.into()
            {
                timer.as_mut().reset(due.at.into());
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match next {
                Some(due) if due.at <= std::time::Instant::now() => return Poll::Ready(End::Overdue(due.what)),
                Some(due) => timer.as_mut().reset(due.at.into()),
                None => timer.as_mut().reset(tokio::time::Instant::now() + TIMER_MAX),
            }
        }
    })
    .await
}

/// The answer to HEAD: what GET is answered, without the body.
fn head_of(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
    response.map(|_| Bytes::new().into())
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl<IO, S> Conversation for http1::Connection<IO, S>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<AnswerBody>, Error = Infallible>,
{
    const ENDS_WITH_AN_ANSWER: bool = true;

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<IO, S> Conversation for http2::Connection<IO, S, Streams>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<AnswerBody>,
            Error = Infallible,
            Future: Send + 'static,
        >,
{
    const ENDS_WITH_AN_ANSWER: bool = false;

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// At a stop, for the first request of a connection that has just been made.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The sleep of the timer while nothing is due.
const TIMER_MAX: Duration = Duration::from_secs(60);

/// Of a request line and headers; also the piece in which a body is read. No sender of alerts comes near it.
const HEAD_BYTES: usize = 16 * 1024;

/// Of a head that h2 reads whole: one beyond [`HEAD_BYTES`] is answered as over HTTP/1, and let go at once. A larger one h2
/// refuses by itself, with nothing in the log.
const HTTP2_HEAD_BYTES: u32 = 64 * 1024;

/// Requests at once on one HTTP/2 connection: as many as clients open before they know the limit, and the least that
/// RFC 9113, section 6.5.2, recommends. With fewer the surplus of a burst is refused.
const STREAMS: u32 = 100;

/// Streams that a peer opened and reset before they were looked at, and such as it broke: more than this is the
/// attack known as rapid reset.
const RESET_STREAMS: usize = 32;

/// The bytes that one request, and one connection, may send ahead of those that were read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A peer that went away without a word is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
