//! Connections to the relay on this machine, also where its listener takes none without a header of the PROXY protocol.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::server::{BoxError, LOCAL_PROXY_HEADER};

/// Connects, and says by the header, if one is wanted, that this connection is its own.
#[derive(Clone, Debug)]
pub(super) struct LocalConnector {
    connector: HttpConnector,
    proxy_protocol: bool,
}

impl LocalConnector {
    pub(super) fn new(connector: HttpConnector, proxy_protocol: bool) -> LocalConnector {
        LocalConnector { connector, proxy_protocol }
    }
}

impl Service<Uri> for LocalConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, proxy_protocol) = (self.connector.call(uri), self.proxy_protocol);
        Box::pin(async move {
            let mut stream = connecting.await?;
            if proxy_protocol {
                stream.inner_mut().write_all(&LOCAL_PROXY_HEADER).await?;
            }
            Ok(stream)
        })
    }
}
