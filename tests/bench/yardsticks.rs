//! The bare server, the bare proxy, and the upstream that both the proxy and the relay deliver to.
//!
//! Each is a process of its own that prints its address and serves until it is killed.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{Result, Served, pki};

/// TLS in, 202, nothing else. The body is read, as it must be before the next request.
pub(crate) fn bare_server(served: &Served) -> Result<()> {
    runtime()?.block_on(serve(
        served,
        service_fn(async |request: Request<Incoming>| {
            request.into_body().collect().await?;
            answer(StatusCode::ACCEPTED, "")
        }),
    ))
}

/// TLS in, pooled TLS out; bodies stream through.
pub(crate) fn bare_proxy(served: &Served, upstream: SocketAddr) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(pki::client(&served.pki)?)
        .https_only()
        .enable_all_versions()
        .wrap_connector(connector);
    let runtime = runtime()?;
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let target: Uri = format!("https://localhost:{}/sqibs-api/v1/process", upstream.port()).parse()?;
    runtime.block_on(serve(
        served,
        service_fn(move |mut request: Request<Incoming>| {
            let (client, target) = (client.clone(), target.clone());
            async move {
                *request.uri_mut() = target;
                // The client sets the host of the upstream.
                request.headers_mut().remove(hyper::header::HOST);
                client.request(request).await
            }
        }),
    ))
}

/// Answers as Callgoose does to what opens an incident. How many it answered is told, as text, to whoever
/// connects to the second address that it prints.
pub(crate) fn upstream(served: &Served) -> Result<()> {
    const CREATED: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}}"#;
    let received = Arc::new(AtomicU64::new(0));
    let runtime = runtime()?;
    let counter = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("{}", counter.local_addr()?);
    let shown = Arc::clone(&received);
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = counter.accept().await {
            // Who asked and left will ask again.
            let _ = stream.write_all(shown.load(Ordering::Relaxed).to_string().as_bytes()).await;
        }
    });
    runtime.block_on(serve(
        served,
        service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                request.into_body().collect().await?;
                received.fetch_add(1, Ordering::Relaxed);
                answer(StatusCode::CREATED, CREATED)
            }
        }),
    ))
}

/// As many workers as cores are allowed, which is one.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn answer(status: StatusCode, body: &'static str) -> hyper::Result<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn serve<S, B>(served: &Served, service: S) -> Result<()>
where
    S: HttpService<Incoming, ResBody = B, Future: Send> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let tls = TlsAcceptor::from(pki::server(&served.pki, served.h2)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            // A connection that fails is the load's to count.
            let Ok(stream) = tls.accept(stream).await else { return Ok::<_, Infallible>(()) };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if h2 {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(stream, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
            }
            Ok(())
        });
    }
}
