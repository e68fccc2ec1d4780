//! The public face: sockets, TLS, HTTP/1.1 and HTTP/2, and the limits that hold before a byte is believed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::tls;

/// The `listen` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<tls::Config>,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
}
