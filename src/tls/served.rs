//! The TLS of a listener: certificates, keys and client CAs, replaceable while it runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;

use super::authority::is_self_signed;
use super::by_name::dns_names;
use super::{
    Config, Error, Expiry, Identity, InUse, Pair, Record, Warning, client_verifier, load_identity, load_pair, pem,
    server_config,
};
use crate::clock::WallTime;

/// The TLS of one listener. Each connection uses the pairs that are current when it begins.
#[derive(Debug)]
pub struct Served {
    config: Config,
    current: ArcSwap<Current>,
    /// Tells connections that the CAs may be others.
    exchanged: watch::Sender<()>,
}

/// The contents of the files, and the server configuration made from them.
#[derive(Debug)]
struct Current {
    held: Held,
    fingerprint: String,
    server: Arc<ServerConfig>,
    /// None if clients are not asked for a certificate.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// That of the first pair, and those of further ones.
    chains: Vec<Vec<CertificateDer<'static>>>,
    client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// New contents that are not in use yet.
#[derive(Debug)]
pub struct Renewed {
    current: Current,
    /// SHA-256 of the first pair's certificate.
    pub fingerprint: String,
}

impl Served {
    /// Reads the files of `config`.
    pub fn load(config: Config, now: WallTime) -> Result<(Served, Vec<Warning>), Error> {
        let (renewed, warnings) = read(&config, now)?;
        let current = ArcSwap::from_pointee(renewed.current);
        Ok((Served { config, current, exchanged: watch::Sender::new(()) }, warnings))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// The certificates in use, with their ends.
    pub fn in_use(&self, now: WallTime) -> Vec<InUse> {
        let current = self.current.load();
        let in_use = |file: &Path, is_client_ca, expiry: Option<Expiry>| {
            expiry.map(|expiry| InUse { file: file.to_owned(), is_client_ca, expiry })
        };
        let files =
            std::iter::once(&self.config.certificate).chain(self.config.more.iter().map(|pair| &pair.certificate));
        let chains = files.zip(&current.held.chains).map(|(file, chain)| in_use(file, false, Expiry::of_chain(chain)));
        let client_ca = self.config.client_ca.iter().zip(&current.held.client_ca);
        let client_ca = client_ca.map(|(file, ca)| in_use(file, true, Expiry::of_authorities(ca, now)));
        chains.chain(client_ca).flatten().collect()
    }

    /// The file of the first certificate in use, if that signed itself.
    pub fn self_signed(&self) -> Option<&Path> {
        let current = self.current.load();
        let first = current.held.chains.first().and_then(|chain| chain.first());
        first.is_some_and(is_self_signed).then_some(self.config.certificate.as_path())
    }

    /// Returns true if clients are asked for a certificate.
    pub fn asks_certificate(&self) -> bool {
        self.config.client_ca.is_some()
    }

    /// Returns true if a certificate that a client showed would be taken now.
    pub fn admits(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some(verifier) = self.current.load().verifier.clone() else {
            return true;
        };
        let verified =
            chain.split_first().map(|(own, others)| verifier.verify_client_cert(own, others, UnixTime::now()));
        verified.is_some_and(|verified| verified.is_ok())
    }

    /// Hears of each exchange from now on.
    pub fn exchanges(&self) -> watch::Receiver<()> {
        self.exchanged.subscribe()
    }

    /// The files to read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let Config { certificate, private_key, client_ca, more, .. } = &self.config;
        let own = [Some(certificate), Some(private_key), client_ca.as_ref()].into_iter().flatten();
        own.chain(more.iter().flat_map(Pair::files)).map(|path| path.as_path())
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
        self.exchanged.send_replace(());
    }

    /// The names of the configuration for which the first certificate is not.
    pub fn lacks_names(&self) -> Vec<&str> {
        let current = self.current.load();
        let has = |name: &String| current.held.chains.first().is_some_and(|chain| is_for(&chain[0], name));
        self.config.names.iter().filter(|name| !has(name)).map(String::as_str).collect()
    }

    /// Remembers the first pair in use for the next start.
    pub fn remember(&self, record: &Record) {
        record.served(&self.config, &self.current.load().fingerprint);
    }
}

/// Returns true if a certificate is for a name, or for an address. A wildcard is for itself here.
fn is_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    match ServerName::try_from(name) {
        Ok(name) => ParsedCertificate::try_from(certificate).is_ok_and(|read| verify_server_name(&read, &name).is_ok()),
        Err(_) => dns_names(certificate).iter().any(|found| found == name),
    }
}

/// Reads all pairs and checks each: one that is wrong refuses all of them.
fn read(config: &Config, now: WallTime) -> Result<(Renewed, Vec<Warning>), Error> {
    let mut pairs: Vec<Identity> = Vec::new();
    let mut warnings = Vec::new();
    let read = std::iter::once(load_identity(config, now)).chain(config.more.iter().map(|pair| load_pair(pair, now)));
    for pair in read {
        let (identity, doubts) = pair?;
        pairs.push(identity);
        warnings.extend(doubts);
    }
    let client_ca = config.client_ca.as_deref().map(|file| Ok((file, pem::certificates(file)?))).transpose()?;
    let verifier = client_ca.as_ref().map(|(file, ca)| client_verifier(file, ca)).transpose()?;
    let server = Arc::new(server_config(&pairs, verifier.as_ref(), config.profile)?);
    let chains = pairs.iter().map(|pair| pair.key.cert.clone()).collect();
    let held = Held { chains, client_ca: client_ca.map(|(_, ca)| ca) };
    let fingerprint = pairs[0].fingerprint.clone();
    Ok((
        Renewed { current: Current { held, fingerprint: fingerprint.clone(), server, verifier }, fingerprint },
        warnings,
    ))
}
