//! The client for the upstream: one call, its answer, and whose fault a failure is.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use crate::secret::Secret;

/// The `upstream` section, as far as one call is concerned.
#[derive(Clone, Debug)]
pub struct Config {
    pub url: Uri,
    pub authorization: Authorization,
    /// For one whole attempt: connect, TLS, request and answer.
    pub timeout: Duration,
    /// PEM; stands instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// How many calls may be under way at once.
    pub concurrency: usize,
}

/// How the upstream knows us.
#[derive(Clone, Debug)]
pub enum Authorization {
    Bearer(Secret),
    Header { name: HeaderName, secret: Secret },
    Query { name: String, secret: Secret },
}
