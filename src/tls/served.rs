//! The TLS of a listener: certificate, key and client CAs, replaceable while it runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::authority::is_self_signed;
use super::validity::expires_at;
use super::{Config, Error, Warning, load_identity, pem, server_config};
use crate::clock::WallTime;

/// The TLS of one listener. Each connection uses the pair that is current when it begins.
#[derive(Debug)]
pub struct Served {
    config: Config,
    current: ArcSwap<Current>,
}

/// The contents of the files, and the server configuration made from them.
#[derive(Debug)]
struct Current {
    held: Held,
    /// The time at which the first certificate of the chain expires; none if none has dates that can be read.
    expires_at: Option<WallTime>,
    server: Arc<ServerConfig>,
}

#[derive(Debug, PartialEq, Eq)]
struct Held {
    chain: Vec<CertificateDer<'static>>,
    client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// New contents that are not in use yet.
#[derive(Debug)]
pub struct Renewed {
    current: Current,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
}

impl Served {
    /// Reads the files of `config`.
    pub fn load(config: Config, now: WallTime) -> Result<(Served, Vec<Warning>), Error> {
        let (renewed, warnings) = read(&config, now)?;
        Ok((Served { config, current: ArcSwap::from_pointee(renewed.current) }, warnings))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// The time at which the first certificate of the chain expires.
    pub fn expires_at(&self) -> Option<WallTime> {
        self.current.load().expires_at
    }

    /// The file of the certificate in use, if that signed itself.
    pub fn self_signed(&self) -> Option<&Path> {
        let current = self.current.load();
        let is_self_signed = current.held.chain.first().is_some_and(is_self_signed);
        is_self_signed.then_some(self.config.certificate.as_path())
    }

    /// Returns true if clients are asked for a certificate.
    pub fn asks_certificate(&self) -> bool {
        self.config.client_ca.is_some()
    }

    /// The files to read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let Config { certificate, private_key, client_ca, .. } = &self.config;
        [Some(certificate), Some(private_key), client_ca.as_ref()].into_iter().flatten().map(|path| path.as_path())
    }

    /// Reads the files again and changes nothing; none if they did not change. Warnings come from the check of the
    /// configuration.
    pub fn read_again(&self, now: WallTime) -> Result<Option<Renewed>, Error> {
        match read(&self.config, now) {
            // If the files are missing, a self-signed pair stays in use until the next start.
            Err(Error::PairMissing { .. }) if self.config.self_signed => Ok(None),
            Err(error) => Err(error),
            Ok((renewed, _)) => Ok((renewed.current.held != self.current.load().held).then_some(renewed)),
        }
    }

    /// Uses the new contents for connections from now on.
    pub fn exchange(&self, renewed: Renewed) {
        self.current.store(Arc::new(renewed.current));
    }
}

fn read(config: &Config, now: WallTime) -> Result<(Renewed, Vec<Warning>), Error> {
    let (identity, warnings) = load_identity(config, now)?;
    let client_ca = config.client_ca.as_deref();
    let server = Arc::new(server_config(&identity, client_ca)?);
    let held = Held { chain: identity.key.cert.clone(), client_ca: client_ca.map(pem::certificates).transpose()? };
    let current = Current { expires_at: expires_at(&held.chain), held, server };
    Ok((Renewed { current, fingerprint: identity.fingerprint }, warnings))
}
