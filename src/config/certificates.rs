//! Looks at the certificates that a configuration names, so that a wrong one is a finding with its line.
//!
//! Nothing is made or kept here: whoever listens loads them again.

use std::path::Path;

use super::{Reader, Secrets, place_of};
use crate::clock::WallTime;
use crate::tls::{self, Error};
use crate::yaml::{Node, Place};

impl Reader<'_> {
    /// The server's pair and the senders' CA. Keys are the relay's: a client of it may not be able to read them.
    /// `tls` is the section that names them, or what stands around it, and `path` its path.
    pub(super) fn certificates(&mut self, config: &tls::Config, tls: &Node, path: &str) {
        if self.inputs.secrets == Secrets::Optional {
            return;
        }
        for file in [Some(&config.certificate), Some(&config.private_key), config.client_ca.as_ref()] {
            file.into_iter().for_each(|file| self.files.note(file));
        }
        let place = |key: &str| place_of(tls, &[key]);
        match tls::load_identity(config, WallTime::now()) {
            Ok((_, warnings)) => {
                for warning in warnings {
                    let key =
                        if matches!(warning, tls::Warning::KeyExposed { .. }) { PRIVATE_KEY } else { CERTIFICATE };
                    let code = match warning {
                        tls::Warning::KeyExposed { .. } => "file-exposed",
                        tls::Warning::NotYetValid { .. } => "certificate-not-yet-valid",
                        tls::Warning::Expired { .. } => "certificate-expired",
                        tls::Warning::ExpiresSoon { .. } => "certificate-expiring",
                    };
                    self.findings.warning(place(key), format!("{path}.{key}"), warning.to_string()).code(code);
                }
            }
            // It will be made when the relay starts.
            Err(Error::PairMissing { .. }) if config.self_signed => {}
            Err(error) => {
                let key = wrong_key(&error, config);
                self.findings
                    .error(place(key), format!("{path}.{key}"), error.to_string())
                    .code("certificate-unusable");
            }
        }
        if let Some(file) = &config.client_ca {
            self.roots(file, place("client_ca"), &format!("{path}.client_ca"));
        }
    }

    /// A file of trust anchors.
    pub(super) fn roots(&mut self, file: &Path, place: Place, path: &str) {
        if self.inputs.secrets == Secrets::Required
            && let Err(error) = tls::client_config(Some(file))
        {
            self.findings.error(place, path, error.to_string()).code("certificate-unusable");
        }
    }
}

/// Which of the two keys an error is about; the certificate's where it is about both.
fn wrong_key(error: &Error, config: &tls::Config) -> &'static str {
    match error {
        Error::KeyMissing { .. } | Error::NoKey { .. } | Error::KeyEncrypted { .. } => PRIVATE_KEY,
        Error::Unreadable { file, .. } | Error::NotPem { file, .. } if *file == config.private_key => PRIVATE_KEY,
        _ => CERTIFICATE,
    }
}

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private_key";
