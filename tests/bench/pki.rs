//! One throw-away certificate for 127.0.0.1 and localhost, its own root, and the TLS settings of both ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Result;

pub(crate) fn certificate(directory: &Path) -> PathBuf {
    directory.join("server.pem")
}

pub(crate) fn private_key(directory: &Path) -> PathBuf {
    directory.join("server.key")
}

/// Writes certificate and key into `directory`.
pub(crate) fn make(directory: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(certificate(directory), made.cert.pem())?;
    let mut key = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(private_key(directory))?;
    key.write_all(made.signing_key.serialize_pem().as_bytes())?;
    Ok(())
}

pub(crate) fn server(directory: &Path, h2: bool) -> Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(certificate(directory))?];
    let key = PrivateKeyDer::from_pem_file(private_key(directory))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

/// Without resumption: a new connection of the load is that of a sender that was never here before.
pub(crate) fn client(directory: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate(directory))?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
