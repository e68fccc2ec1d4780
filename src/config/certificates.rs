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
                    self.doubt(&warning, place(key), format!("{path}.{key}"));
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
        if self.inputs.secrets == Secrets::Optional {
            return;
        }
        self.files.note(file);
        if let Err(error) = tls::client_config(Some(file)) {
            self.findings.error(place, path, error.to_string()).code("certificate-unusable");
        } else if tls::holds_no_authority(file) {
            let message =
                format!("{} holds a certificate that an authority issued, not the authority's", file.display());
            let finding = self.findings.warning(place, path, message).code("certificate-no-authority");
            finding.help(
                "name the file with the certificate of the authority that signed it; nothing is trusted by this one",
            );
        }
    }

    /// The pair that a client shows, of the section `tls` at `path`.
    pub(super) fn client_pair(&mut self, pair: &tls::Pair, tls: &Node, path: &str) {
        if self.inputs.secrets == Secrets::Optional {
            return;
        }
        self.files.note(&pair.certificate);
        self.files.note(&pair.private_key);
        match tls::check_pair(pair, WallTime::now()) {
            Ok(warnings) => {
                for warning in warnings {
                    let about_key = matches!(warning, tls::Warning::KeyExposed { .. });
                    let key = if about_key { "client_key" } else { "client_certificate" };
                    self.doubt(&warning, place_of(tls, &[key]), format!("{path}.{key}"));
                }
            }
            Err(error) => {
                let about_key = match &error {
                    Error::NoKey { .. } | Error::KeyEncrypted { .. } => true,
                    Error::Unreadable { file, .. } | Error::NotPem { file, .. } => *file == pair.private_key,
                    _ => false,
                };
                let key = if about_key { "client_key" } else { "client_certificate" };
                let finding = self.findings.error(place_of(tls, &[key]), format!("{path}.{key}"), error.to_string());
                finding.code("certificate-unusable");
            }
        }
    }

    fn doubt(&mut self, warning: &tls::Warning, place: Place, path: String) {
        let code = match warning {
            tls::Warning::KeyExposed { .. } => "file-exposed",
            tls::Warning::NotYetValid { .. } => "certificate-not-yet-valid",
            tls::Warning::Expired { .. } => "certificate-expired",
            tls::Warning::ExpiresSoon { .. } => "certificate-expiring",
        };
        self.findings.warning(place, path, warning.to_string()).code(code);
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
