//! Certificates: loads and checks them, makes a self-signed pair on first start, and loads CAs and certificates for the
//! upstream.
//!
//! It reads files on request and opens no connection. The cryptography is always aws-lc-rs, named explicitly, so that
//! no other crate's choice of a provider can change or break it.

mod authority;
mod by_name;
mod client;
mod error;
mod pem;
mod pinned;
mod record;
mod self_signed;
mod served;
mod subject_names;
mod validity;
mod whole_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
pub(crate) use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::clock::WallTime;

use by_name::ByName;
pub(crate) use by_name::never_chosen;
pub(crate) use client::ClientFiles;
pub use client::Pair;
pub(crate) use client::{ClientTls, RenewedClient};
pub(crate) use error::{Error, Warning};
pub(crate) use pinned::pinned_client;
pub(crate) use record::Record;
pub use self_signed::make_missing_pair;
pub(crate) use self_signed::{is_certificate_name, make_pair};
pub(crate) use served::Renewed;
pub use served::Served;
pub(crate) use subject_names::subject_names;
use validity::Validity;
pub(crate) use validity::{Expiry, InUse, Standing};
pub(crate) use validity::{expires_soon, next_expiry};

/// The `listen.tls` section, when TLS is on; by default as it is when nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// CAs for client certificates; if set, senders must present a certificate signed by one of them.
    pub client_ca: Option<PathBuf>,
    /// Make a pair at these paths if both are missing.
    pub self_signed: bool,
    /// The names of a pair that is made, beside those of the host.
    pub names: Vec<String>,
    /// Further pairs, chosen by the name that a client asks for.
    pub more: Vec<Pair>,
    pub profile: Profile,
}

/// The versions and cipher suites of a listener, as Mozilla's guidelines name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

/// A certificate chain with the private key that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub key: Arc<CertifiedKey>,
    /// The SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
    /// The DNS names for which the first certificate is valid, in lower case; one may begin with `*.`.
    pub names: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            certificate: PathBuf::from("certs/server.pem"),
            private_key: PathBuf::from("certs/server.key"),
            client_ca: None,
            self_signed: true,
            names: Vec::new(),
            more: Vec::new(),
            profile: Profile::default(),
        }
    }
}

impl Identity {
    fn of(key: Arc<CertifiedKey>) -> Identity {
        let (fingerprint, names) = (fingerprint(&key.cert[0]), by_name::dns_names(&key.cert[0]));
        Identity { key, fingerprint, names }
    }
}

/// Loads the server's pair and checks that both belong together. Doubts are returned as warnings.
pub(crate) fn load_identity(config: &Config, now: WallTime) -> Result<(Identity, Vec<Warning>), Error> {
    match (config.certificate.try_exists(), config.private_key.try_exists()) {
        (Ok(false), Ok(false)) => return Err(Error::PairMissing { config: Box::new(config.clone()) }),
        (Ok(false), Ok(true)) => return Err(Error::CertificateMissing { config: Box::new(config.clone()) }),
        (Ok(true), Ok(false)) => return Err(Error::KeyMissing { config: Box::new(config.clone()) }),
        _ => {}
    }
    let key = load_key(&config.certificate, &config.private_key)?;
    let warnings = doubts(&key, &config.certificate, &config.private_key, now);
    Ok((Identity::of(key), warnings))
}

/// Loads a further pair of the server, or the one that a client shows, which nobody makes.
pub(crate) fn load_pair(pair: &Pair, now: WallTime) -> Result<(Identity, Vec<Warning>), Error> {
    let key = load_key(&pair.certificate, &pair.private_key)?;
    let warnings = doubts(&key, &pair.certificate, &pair.private_key, now);
    Ok((Identity::of(key), warnings))
}

/// A certificate chain with its key, which belong together.
fn load_key(certificate: &Path, private_key: &Path) -> Result<Arc<CertifiedKey>, Error> {
    let chain = pem::certificates(certificate)?;
    let key = pem::private_key(private_key)?;
    let key = CertifiedKey::from_der(chain, key, &provider());
    key.map(Arc::new).map_err(|problem| Error::pair(certificate, private_key, problem))
}

fn doubts(key: &CertifiedKey, certificate: &Path, private_key: &Path, now: WallTime) -> Vec<Warning> {
    let dates = Validity::of(&key.cert[0]).and_then(|validity| validity.date_warning(certificate, now));
    pem::exposed_key(private_key).into_iter().chain(dates).collect()
}

/// The TLS for senders, with HTTP/2 and HTTP/1.1 by ALPN; the certificate is chosen by the name that is asked for.
///
/// With a `client_ca`, a certificate that it did not sign ends the handshake with a TLS alert, sent by rustls's
/// verifier. A sender without any certificate passes the handshake and gets a 403 from [`crate::inbound`]: in TLS 1.3 a
/// client finishes the handshake before the server has verified its certificate, so an alert would look like a
/// connection broken in the middle of a request.
fn server_config(
    pairs: &[Identity],
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
    profile: Profile,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(server_provider()))
        .with_protocol_versions(&profile.versions())
        .map_err(Error::Provider)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(pairs)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if verifier.is_some() {
        // A resumed session is not verified again: an expired certificate, or one of a CA that is trusted no longer,
        // would be good for as long as its ticket is.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // With tickets, a sender with a connection per request skips the signature, and the server keeps no state.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Provider)?;
    }
    Ok(config)
}

/// Verifies the certificates of clients by the CAs of a file.
fn client_verifier(file: &Path, ca: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(file, ca)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|problem| Error::ca(file, problem))
}

impl Profile {
    fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Profile::Intermediate => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            Profile::Modern => vec![&rustls::version::TLS13],
        }
    }
}

/// The cryptography of listeners: suites by name, so that no default of a later library adds one.
fn server_provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() }
}

/// A client that trusts the CAs of `ca` if given, else the system's roots.
pub fn client_config(ca: Option<&Path>) -> Result<ClientConfig, Error> {
    let roots = match ca {
        Some(file) => roots_in(file)?,
        None => system_roots()?,
    };
    client::client(roots, None, false)
}

/// Tells a file of roots that holds no authority's certificate, but only such as one issued: nothing is trusted by it.
pub(crate) fn holds_no_authority(file: &Path) -> bool {
    pem::certificates(file).is_ok_and(|certificates| certificates.iter().all(authority::is_issued_leaf))
}

/// A client that trusts nobody, for a connector that only uses plain HTTP.
pub(crate) fn untrusting_client() -> Result<ClientConfig, Error> {
    client::client(RootCertStore::empty(), None, true)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots_in(file: &Path) -> Result<RootCertStore, Error> {
    roots_of(file, &pem::certificates(file)?)
}

fn roots_of(file: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|problem| Error::ca(file, problem))?;
    }
    Ok(roots)
}

/// Some broken files among the system's roots are common and harmless; no root at all is an error.
fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let problem = found.errors.first().map(ToString::to_string);
        return Err(Error::NoSystemRoots { problem });
    }
    Ok(roots)
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// Mozilla's "intermediate" of version 5.7, without its two suites of finite-field Diffie-Hellman: every exchange of keys
/// is by elliptic curves, every cipher authenticates. Those of TLS 1.3 are "modern".
const SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a self-signed pair in it.
    fn made() -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            certificate: directory.path().join("certs/server.pem"),
            private_key: directory.path().join("certs/server.key"),
            ..Config::default()
        };
        make_missing_pair(&config, WallTime::now()).unwrap().unwrap();
        (directory, config)
    }

    fn load(config: &Config) -> Result<(Identity, Vec<Warning>), Error> {
        load_identity(config, WallTime::now())
    }

    #[test]
    fn a_made_pair_loads_without_a_warning() {
        let (_directory, config) = made();
        let (identity, warnings) = load(&config).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(identity.fingerprint.len(), 32 * 3 - 1);
        let server = server_config(&[identity], None, Profile::Intermediate).unwrap();
        assert_eq!(server.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_pair_that_exists_is_left_alone() {
        let (_directory, config) = made();
        let before = std::fs::read(&config.certificate).unwrap();
        assert!(make_missing_pair(&config, WallTime::now()).unwrap().is_none());
        assert_eq!(std::fs::read(&config.certificate).unwrap(), before);
    }

    #[test]
    fn each_mistake_is_named_with_its_file_and_remedy() {
        type Spoil = fn(&Config);
        let rows: &[(&str, Spoil, &[&str])] = &[
            (
                "no pair",
                |c| {
                    remove(&c.certificate);
                    remove(&c.private_key);
                },
                &["server.pem", "server.key", "self_signed"],
            ),
            ("no certificate", |c| remove(&c.certificate), &["server.pem does not exist", "server.key"]),
            ("no key", |c| remove(&c.private_key), &["server.key does not exist", "server.pem"]),
            ("an empty certificate", |c| write(&c.certificate, b""), &["server.pem", "holds no certificate"]),
            (
                "a key where the certificate should be",
                |c| copy(&c.private_key, &c.certificate),
                &["server.pem", "private key", "certificate"],
            ),
            (
                "a certificate where the key should be",
                |c| copy(&c.certificate, &c.private_key),
                &["server.key", "holds a certificate"],
            ),
            ("DER instead of PEM", |c| write(&c.certificate, b"\x30\x82\x01\x0a"), &["server.pem", "PEM", "openssl"]),
            (
                "an encrypted key",
                |c| {
                    write(
                        &c.private_key,
                        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                    );
                },
                &["server.key", "passphrase", "openssl pkey"],
            ),
            ("a truncated key", truncate_key, &["server.key", "-----END"]),
            (
                "a certificate that is none",
                |c| write(&c.certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                &["server.pem"],
            ),
            (
                "a key that is none",
                |c| write(&c.private_key, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
                &["server.key"],
            ),
            ("another pair's key", other_key, &["server.key", "server.pem", "do not belong together", "first"]),
            (
                "a directory",
                |c| {
                    remove(&c.certificate);
                    std::fs::create_dir(&c.certificate).unwrap();
                },
                &["server.pem", "can't be read"],
            ),
        ];
        for (claim, spoil, expected) in rows {
            let (_directory, config) = made();
            spoil(&config);
            let text = load(&config).expect_err(claim).to_string();
            for word in *expected {
                assert!(text.contains(word), "{claim}: {word:?} is not in {text:?}");
            }
        }
    }

    fn remove(file: &Path) {
        std::fs::remove_file(file).unwrap();
    }

    fn write(file: &Path, content: &[u8]) {
        std::fs::write(file, content).unwrap();
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::copy(from, to).unwrap();
    }

    fn truncate_key(config: &Config) {
        let pem = std::fs::read(&config.private_key).unwrap();
        write(&config.private_key, &pem[..pem.len() / 2]);
    }

    fn other_key(config: &Config) {
        let (_directory, other) = made();
        copy(&other.private_key, &config.private_key);
    }

    #[test]
    fn a_key_that_others_can_read_is_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, config) = made();
        for (mode, warned) in [(0o600, false), (0o400, false), (0o640, false), (0o604, true), (0o644, true)] {
            std::fs::set_permissions(&config.private_key, std::fs::Permissions::from_mode(mode)).unwrap();
            let (_, warnings) = load(&config).unwrap();
            assert_eq!(!warnings.is_empty(), warned, "{mode:o}");
            if let Some(warning) = warnings.first() {
                assert!(warning.to_string().contains("chmod 600"), "{warning}");
            }
        }
    }

    #[test]
    fn dates_that_senders_will_refuse_are_a_warning() {
        let (_directory, config) = made();
        let day = 24 * 3_600 * 1_000;
        let validity = Validity::of(&load(&config).unwrap().0.key.cert[0]).unwrap();
        for (claim, at, word) in [
            ("long before", validity.not_before.0 - 30 * day, "not valid before"),
            ("within its dates", validity.not_before.0 + day, ""),
            ("a week before its end", validity.not_after.0 - 7 * day, "expires"),
            ("after its end", validity.not_after.0 + day, "expired"),
        ] {
            let (_, warnings) = load_identity(&config, WallTime(at)).unwrap();
            let text: String = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(text.is_empty(), word.is_empty(), "{claim}: {text}");
            assert!(text.contains(word), "{claim}: {text}");
        }
    }

    #[test]
    fn a_ca_file_stands_instead_of_the_systems_roots() {
        let (directory, config) = made();
        assert!(client_config(Some(&config.certificate)).unwrap().alpn_protocols.is_empty());
        let missing = directory.path().join("ca.pem");
        let text = client_config(Some(&missing)).unwrap_err().to_string();
        assert!(text.contains("ca.pem"), "{text}");
    }
}
