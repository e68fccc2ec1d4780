//! Certificates: loading, checking, and making a self-signed pair on first start.

use std::path::PathBuf;

/// The `listen.tls` section, when TLS is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// When set, senders must present a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
    /// Make a pair at these paths when both are missing.
    pub self_signed: bool,
}
