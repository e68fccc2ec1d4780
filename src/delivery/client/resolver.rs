//! The system's resolver with an error of its own, so that a failed look-up is told apart by type.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{error, fmt, io};

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tower_service::Service;

#[derive(Clone, Debug)]
pub(super) struct Resolver(GaiResolver);

/// The name can't be looked up.
#[derive(Debug)]
pub(super) struct LookupError(io::Error);

impl Resolver {
    pub(super) fn new() -> Resolver {
        Resolver(GaiResolver::new())
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = LookupError;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, LookupError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        self.0.poll_ready(context).map_err(LookupError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.0.call(name);
        Box::pin(async move { lookup.await.map_err(LookupError) })
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for LookupError {}
