//! What a listener shows senders and asks of them, as its files say; exchanged while it runs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::{Config, Error, Warning, load_identity, pem, server_config};
use crate::clock::WallTime;

/// The TLS of one listener. Each connection takes what is current when it begins.
#[derive(Debug)]
pub struct Served {
    config: Config,
    current: RwLock<Current>,
}

/// What the files held, and what was made of it.
#[derive(Debug)]
struct Current {
    held: Held,
    server: Arc<ServerConfig>,
}

#[derive(Debug, PartialEq, Eq)]
struct Held {
    chain: Vec<CertificateDer<'static>>,
    client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// What the files hold now and is not in use yet.
#[derive(Debug)]
pub struct Renewed {
    current: Current,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
}

impl Served {
    /// Reads the files that `config` names.
    pub fn load(config: Config, now: WallTime) -> Result<(Served, Vec<Warning>), Error> {
        let (renewed, warnings) = read(&config, now)?;
        Ok((Served { config, current: RwLock::new(renewed.current) }, warnings))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).server)
    }

    /// Clients are asked for a certificate.
    pub fn asks_certificate(&self) -> bool {
        self.config.client_ca.is_some()
    }

    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let Config { certificate, private_key, client_ca, .. } = &self.config;
        [Some(certificate), Some(private_key), client_ca.as_ref()].into_iter().flatten().map(|path| path.as_path())
    }

    /// Reads the files again and changes nothing; none where they hold what is in use. What is doubtful about them is told
    /// by whoever checks the configuration.
    pub fn read_again(&self, now: WallTime) -> Result<Option<Renewed>, Error> {
        match read(&self.config, now) {
            // A pair that could be made at a start is no reason to show another one now.
            Err(Error::PairMissing { .. }) if self.config.self_signed => Ok(None),
            Err(error) => Err(error),
            Ok((renewed, _)) => {
                let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
                Ok((renewed.current.held != current.held).then_some(renewed))
            }
        }
    }

    /// What connections that begin from now on meet.
    pub fn exchange(&self, renewed: Renewed) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed.current;
    }
}

fn read(config: &Config, now: WallTime) -> Result<(Renewed, Vec<Warning>), Error> {
    let (identity, warnings) = load_identity(config, now)?;
    let client_ca = config.client_ca.as_deref();
    let server = Arc::new(server_config(&identity, client_ca)?);
    let held = Held { chain: identity.key.cert.clone(), client_ca: client_ca.map(pem::certificates).transpose()? };
    Ok((Renewed { current: Current { held, server }, fingerprint: identity.fingerprint }, warnings))
}
