//! The operator's face: health, readiness, metrics and the journal's API.

use std::net::SocketAddr;

use crate::secret::Secret;
use crate::tls;

/// The `admin` section.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    pub token: Option<Secret>,
    pub tls: Option<tls::Config>,
}
