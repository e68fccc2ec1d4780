//! Mistakes in certificates and keys, in words for the operator who has to mend them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem;

use super::Config;
use crate::clock::WallTime;

/// The reason why a certificate, key or set of roots is unusable.
#[derive(Debug)]
pub enum Error {
    /// Neither file of the server's pair exists, and `self_signed` is off or not tried.
    PairMissing {
        config: Box<Config>,
    },
    /// Neither file exists, and one that a person put there was served before.
    PairGone {
        config: Box<Config>,
        /// The file that says so.
        record: PathBuf,
    },
    /// The key exists, its certificate does not.
    CertificateMissing {
        config: Box<Config>,
    },
    /// The certificate is there, its key is not.
    KeyMissing {
        config: Box<Config>,
    },
    Unreadable {
        file: PathBuf,
        problem: io::Error,
    },
    /// A file or directory for the new pair can't be written.
    Unwritable {
        file: PathBuf,
        problem: io::Error,
    },
    /// The text is not PEM, or cut off.
    NotPem {
        file: PathBuf,
        problem: pem::Error,
    },
    NoCertificate {
        file: PathBuf,
        holds_key: bool,
    },
    NoKey {
        file: PathBuf,
        holds_certificate: bool,
    },
    KeyEncrypted {
        file: PathBuf,
    },
    /// Both are well-formed but belong to different pairs.
    Mismatch {
        certificate: PathBuf,
        private_key: PathBuf,
    },
    /// The cryptography library rejects one of them.
    PairUnusable {
        certificate: PathBuf,
        private_key: PathBuf,
        problem: rustls::Error,
    },
    CaUnusable {
        file: PathBuf,
        problem: String,
    },
    /// This system has no trusted root certificates.
    NoSystemRoots {
        problem: Option<String>,
    },
    /// A self-signed certificate could not be made.
    Generate(rcgen::Error),
    /// The cryptography library refused its own defaults.
    Provider(rustls::Error),
}

/// A doubtful but usable certificate or key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Every user of the machine may read the private key.
    KeyExposed {
        file: PathBuf,
        mode: u32,
    },
    NotYetValid {
        file: PathBuf,
        from: WallTime,
    },
    Expired {
        file: PathBuf,
        at: WallTime,
    },
    ExpiresSoon {
        file: PathBuf,
        at: WallTime,
    },
}

impl Error {
    pub(super) fn pair(certificate: &Path, private_key: &Path, problem: rustls::Error) -> Error {
        let (certificate, private_key) = (certificate.to_owned(), private_key.to_owned());
        match problem {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch { certificate, private_key },
            problem => Error::PairUnusable { certificate, private_key, problem },
        }
    }

    pub(super) fn ca(file: &Path, problem: impl fmt::Display) -> Error {
        Error::CaUnusable { file: file.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::PairMissing { config } => write!(
                f,
                "neither the certificate {} nor the private key {} exists: put them there, or set `self_signed: true` \
                 to have a pair made",
                config.certificate.display(),
                config.private_key.display()
            ),
            Error::PairGone { config, record } => write!(
                f,
                "the certificate {} and its private key {} are gone, and were not made by Gander, which served them: \
                 put them back; only to have a self-signed pair made in their place, which senders do not trust, remove \
                 {}, which remembers them",
                config.certificate.display(),
                config.private_key.display(),
                record.display()
            ),
            Error::CertificateMissing { config } => write!(
                f,
                "the certificate {} does not exist, its private key {} does: put the certificate there, or, where \
                 Gander made the pair, remove the key to have a new one made",
                config.certificate.display(),
                config.private_key.display()
            ),
            Error::KeyMissing { config } => write!(
                f,
                "the private key {} does not exist, its certificate {} does: put the key there, or, where \
                 Gander made the pair, remove the certificate to have a new one made",
                config.private_key.display(),
                config.certificate.display()
            ),
            Error::Unreadable { file, problem } => write!(
                f,
                "{} can't be read: {problem}; check that it exists and that the user running this may read it",
                file.display()
            ),
            Error::Unwritable { file, problem } => write!(
                f,
                "{} can't be written: {problem}; make its directory writable for the user running this, or put a \
                 certificate and key of your own there",
                file.display()
            ),
            Error::NotPem { file, problem } => match problem {
                pem::Error::MissingSectionEnd { end_marker } => write!(
                    f,
                    "{} is cut off: the line `-----END {}-----` is missing; copy the file again, whole",
                    file.display(),
                    String::from_utf8_lossy(end_marker).trim_end()
                ),
                _ => write!(
                    f,
                    "{} is no valid PEM text; copy the file again, or convert it by `openssl x509 -inform DER` or \
                     `openssl pkey -inform DER`",
                    file.display()
                ),
            },
            Error::NoCertificate { file, holds_key: true } => write!(
                f,
                "{} holds a private key and no certificate: the paths may be swapped; it must begin with `-----BEGIN \
                 CERTIFICATE-----`",
                file.display()
            ),
            Error::NoCertificate { file, holds_key: false } => write!(
                f,
                "{} holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`); convert a binary one by \
                 `openssl x509 -inform DER -in FILE`",
                file.display()
            ),
            Error::NoKey { file, holds_certificate: true } => write!(
                f,
                "{} holds a certificate and no private key: the paths may be swapped; it must begin with `-----BEGIN \
                 PRIVATE KEY-----`",
                file.display()
            ),
            Error::NoKey { file, holds_certificate: false } => write!(
                f,
                "{} holds no private key in PEM form (`-----BEGIN PRIVATE KEY-----`); convert a binary one by \
                 `openssl pkey -inform DER -in FILE`",
                file.display()
            ),
            Error::KeyEncrypted { file } => write!(
                f,
                "the private key {} is protected by a passphrase, which nobody is there to type: write it without one \
                 by `openssl pkey -in FILE -out FILE.plain` and give that mode 0600",
                file.display()
            ),
            Error::Mismatch { certificate, private_key } => write!(
                f,
                "the certificate {} and the private key {} do not belong together: use the key the certificate was \
                 issued for, and put the key's own certificate first in the file, its issuers after it",
                certificate.display(),
                private_key.display()
            ),
            Error::PairUnusable { certificate, private_key, problem } => write!(
                f,
                "the certificate {} or its private key {} can't be used: {problem}; supported are X.509 v3 \
                 certificates with RSA, ECDSA or Ed25519 keys",
                certificate.display(),
                private_key.display()
            ),
            Error::CaUnusable { file, problem } => {
                write!(
                    f,
                    "the CA file {} can't be used: {problem}; it must hold CA certificates in PEM form",
                    file.display()
                )
            }
            Error::NoSystemRoots { problem } => {
                f.write_str("this system has no trusted root certificates")?;
                if let Some(problem) = problem {
                    write!(f, " ({problem})")?;
                }
                f.write_str(
                    "; install them (Debian: `apt install ca-certificates`), or name a CA file in `upstream.tls.ca`",
                )
            }
            Error::Generate(problem) => write!(f, "no self-signed certificate could be made: {problem}"),
            Error::Provider(problem) => write!(f, "the TLS library can't be set up: {problem}"),
        }
    }
}

impl std::error::Error for Error {}

impl Warning {
    pub fn problem(&self) -> String {
        match self {
            Warning::KeyExposed { file, mode } => {
                format!("every user of this machine may read the private key {} (mode {mode:04o})", file.display())
            }
            Warning::NotYetValid { file, from } => {
                format!("the certificate {} is not valid before {}", file.display(), from.rfc3339())
            }
            Warning::Expired { file, at } => {
                format!("the certificate {} expired at {}", file.display(), at.rfc3339())
            }
            Warning::ExpiresSoon { file, at } => {
                format!("the certificate {} expires at {}", file.display(), at.rfc3339())
            }
        }
    }

    /// Advice for a person.
    pub fn remedy(&self) -> &'static str {
        match self {
            Warning::KeyExposed { .. } => "`chmod 600` it",
            Warning::NotYetValid { .. } => "whoever checks it will refuse it; check this machine's clock",
            Warning::Expired { .. } => {
                "whoever checks it refuses it; replace it (a self-signed pair: remove both files and start again)"
            }
            Warning::ExpiresSoon { .. } => "replace it before that",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem(), self.remedy())
    }
}
