//! The TLS of a client: whom it trusts and what it shows, replaceable while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::pem;
use super::{Error, Expiry, InUse, provider, roots_of, system_roots};

/// The files and settings of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// CAs that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate to show, with its key.
    pub pair: Option<Pair>,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl Pair {
    /// Both files.
    pub fn files(&self) -> [&PathBuf; 2] {
        [&self.certificate, &self.private_key]
    }
}

/// The TLS of one client. Each connection uses the files' contents that are current when it begins.
#[derive(Debug)]
pub(crate) struct ClientTls {
    files: ClientFiles,
    alpn: Vec<Vec<u8>>,
    current: ArcSwap<RenewedClient>,
}

/// The contents of the files, in use or not yet.
#[derive(Debug)]
pub(crate) struct RenewedClient {
    held: Held,
    config: Arc<ClientConfig>,
}

#[derive(Debug, PartialEq, Eq)]
struct Held {
    ca: Option<Vec<CertificateDer<'static>>>,
    chain: Option<Vec<CertificateDer<'static>>>,
}

impl ClientTls {
    /// Reads the files.
    pub(crate) fn load(files: ClientFiles, alpn: &[&[u8]]) -> Result<ClientTls, Error> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let current = ArcSwap::from_pointee(read(&files, &alpn)?);
        Ok(ClientTls { files, alpn, current })
    }

    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// The certificate that is shown, with its end; none if none is.
    pub(crate) fn in_use(&self) -> Option<InUse> {
        let (pair, current) = (self.files.pair.as_ref()?, self.current.load());
        let expiry = Expiry::of_chain(current.held.chain.as_ref()?)?;
        Some(InUse { file: pair.certificate.clone(), is_client_ca: false, expiry })
    }

    /// The files that were named.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let ClientFiles { ca, pair, .. } = &self.files;
        ca.iter().chain(pair.iter().flat_map(Pair::files)).map(|path| path.as_path())
    }

    /// Reads the files again and changes nothing; none if they did not change.
    pub(crate) fn read_again(&self) -> Result<Option<RenewedClient>, Error> {
        let renewed = read(&self.files, &self.alpn)?;
        Ok((renewed.held != self.current.load().held).then_some(renewed))
    }

    /// Uses the new contents for connections from now on.
    pub(crate) fn exchange(&self, renewed: RenewedClient) {
        self.current.store(Arc::new(renewed));
    }
}

fn read(files: &ClientFiles, alpn: &[Vec<u8>]) -> Result<RenewedClient, Error> {
    let ca = files.ca.as_deref().map(pem::certificates).transpose()?;
    let roots = match (&files.ca, &ca) {
        (Some(file), Some(certificates)) => roots_of(file, certificates)?,
        _ => system_roots()?,
    };
    let key = files.pair.as_ref().map(|pair| super::load_key(&pair.certificate, &pair.private_key)).transpose()?;
    let held = Held { ca, chain: key.as_ref().map(|key| key.cert.clone()) };
    let mut config = client(roots, key, files.only_tls13)?;
    config.alpn_protocols = alpn.to_vec();
    Ok(RenewedClient { held, config: Arc::new(config) })
}

/// A client that trusts these roots, and shows this certificate.
pub(super) fn client(
    roots: RootCertStore,
    key: Option<Arc<CertifiedKey>>,
    only_tls13: bool,
) -> Result<ClientConfig, Error> {
    let both: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = if only_tls13 { &both[..1] } else { both };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(Error::Provider)?
        .with_root_certificates(roots);
    Ok(match key {
        None => builder.with_no_client_auth(),
        Some(key) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(key));
            builder.with_client_cert_resolver(shown)
        }
    })
}
