//! Looks at the certificates that a configuration names, so that a wrong one is a finding with its line.
//!
//! Nothing is made or kept here: whoever listens loads them again.

use std::path::Path;

use super::{Reader, Secrets, place_of};
use crate::clock::WallTime;
use crate::tls::{self, Error};
use crate::yaml::{Node, Place, Value};

impl Reader<'_> {
    /// The server's pairs and the senders' CA. Keys are the relay's: a client of it may not be able to read them.
    /// `tls` is the section that names them, or what stands around it, and `path` its path.
    pub(super) fn certificates(&mut self, config: &tls::Config, tls: &Node, path: &str) {
        if self.inputs.secrets == Secrets::Optional {
            return;
        }
        for file in [Some(&config.certificate), Some(&config.private_key), config.client_ca.as_ref()] {
            file.into_iter().for_each(|file| self.files.note(file));
        }
        let mut pairs = Vec::new();
        match tls::load_identity(config, WallTime::now()) {
            Ok((identity, warnings)) => {
                self.doubts(&warnings, tls, path, [CERTIFICATE, PRIVATE_KEY]);
                pairs.push((0, config.certificate.as_path(), identity.names));
            }
            // It will be made when the relay starts.
            Err(Error::PairMissing { .. }) if config.self_signed => {}
            Err(error) => {
                let key = wrong_key(&error, &config.private_key, [CERTIFICATE, PRIVATE_KEY]);
                self.unusable(&error, tls, path, key);
            }
        }
        let more = tls.get("more").map_or(&[][..], |more| match &more.value {
            Value::List(items) => items,
            _ => &[],
        });
        // Each pair has been read from an item of its own, unless there was an error in one.
        for (index, (pair, node)) in config.more.iter().zip(more).enumerate() {
            let path = format!("{path}.more[{index}]");
            if let Some(identity) = self.pair(pair, node, &path, [CERTIFICATE, PRIVATE_KEY]) {
                pairs.push((index + 1, pair.certificate.as_path(), identity.names));
            }
        }
        self.never_chosen(&pairs, more, path);
        if let Some(file) = &config.client_ca {
            self.roots(file, place_of(tls, &["client_ca"]), &format!("{path}.client_ca"));
        }
    }

    /// A pair that nobody makes, of the section `node` at `path`, by these keys of it.
    fn pair(&mut self, pair: &tls::Pair, node: &Node, path: &str, keys: [&'static str; 2]) -> Option<tls::Identity> {
        pair.files().into_iter().for_each(|file| self.files.note(file));
        match tls::load_pair(pair, WallTime::now()) {
            Ok((identity, warnings)) => {
                self.doubts(&warnings, node, path, keys);
                Some(identity)
            }
            Err(error) => {
                self.unusable(&error, node, path, wrong_key(&error, &pair.private_key, keys));
                None
            }
        }
    }

    /// Warns of pairs of `more` that answer for no name, or for none that another one does not answer for. A pair is
    /// given with its number, the first one's being 0, its certificate's file and its names.
    fn never_chosen(&mut self, pairs: &[(usize, &Path, Vec<String>)], more: &[Node], path: &str) {
        let names: Vec<Vec<String>> = pairs.iter().map(|(_, _, names)| names.clone()).collect();
        for never in tls::never_chosen(&names) {
            let (number, file, _) = &pairs[never.pair];
            let Some(node) = number.checked_sub(1).and_then(|index| more.get(index)) else { continue };
            let file = file.display();
            let message = match &never.taken {
                None => format!("{file} has no DNS name: nobody is shown it"),
                Some((name, by)) => {
                    let other = pairs[*by].1.display();
                    format!("{file} is not shown to who asks for {name}: {other} has this name, and stands before it")
                }
            };
            let (place, path) = (place_of(node, &[CERTIFICATE]), format!("{path}.more[{}].certificate", number - 1));
            let finding = self.findings.warning(place, path, message).code("certificate-never-chosen");
            finding.help("the name that a client asks for chooses the certificate; give each name to one pair");
        }
    }

    fn unusable(&mut self, error: &Error, node: &Node, path: &str, key: &str) {
        let finding = self.findings.error(place_of(node, &[key]), format!("{path}.{key}"), error.to_string());
        finding.code("certificate-unusable");
    }

    fn doubts(&mut self, warnings: &[tls::Warning], node: &Node, path: &str, [certificate, private_key]: [&str; 2]) {
        for warning in warnings {
            let key = if matches!(warning, tls::Warning::KeyExposed { .. }) { private_key } else { certificate };
            self.doubt(warning, place_of(node, &[key]), format!("{path}.{key}"));
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
        if self.inputs.secrets == Secrets::Required {
            self.pair(pair, tls, path, ["client_certificate", "client_key"]);
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

/// Which of the two keys of the configuration an error is about; the certificate's where it is about both.
fn wrong_key(error: &Error, file: &Path, [certificate, private_key]: [&'static str; 2]) -> &'static str {
    match error {
        Error::KeyMissing { .. } | Error::NoKey { .. } | Error::KeyEncrypted { .. } => private_key,
        Error::Unreadable { file: wrong, .. } | Error::NotPem { file: wrong, .. } if wrong == file => private_key,
        _ => certificate,
    }
}

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private_key";
