//! Makes a self-signed certificate on the first start, for trials and for senders that pin it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use zeroize::Zeroizing;

use super::authority::MADE_HERE;
use super::whole_file::write_new;
use super::{Config, Error, Record, fingerprint, pem};
use crate::clock::WallTime;

/// A pair that was just written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// The names for which the certificate is valid.
    pub names: Vec<String>,
}

/// Makes a self-signed pair if configured and neither file exists; returns its description.
///
/// The key is readable by its owner alone from its first byte, and neither file is ever visible half-written.
pub fn make_missing_pair(config: &Config, now: WallTime) -> Result<Option<Made>, Error> {
    if !config.self_signed || exists(&config.certificate)? || exists(&config.private_key)? {
        return Ok(None);
    }
    let key = KeyPair::generate().map_err(Error::Generate)?;
    write_new(&config.private_key, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
    certify(config, &key, now).map(Some)
}

/// Makes the pair that a start needs; returns its description, or none if there is nothing to make.
///
/// That is a pair where neither file exists and none that a person put there was served before ([`Record`]), or another
/// certificate, for the same key, in place of one that was made here with other names.
pub(crate) fn make_pair(config: &Config, record: &Record, now: WallTime) -> Result<Option<Made>, Error> {
    record.refuse_where_another_was_served(config)?;
    let made = match make_missing_pair(config, now)? {
        Some(made) => made,
        None if has_other_names(config, record) => {
            let key = pem::private_key(&config.private_key)?;
            certify(config, &KeyPair::try_from(&key).map_err(Error::Generate)?, now)?
        }
        None => return Ok(None),
    };
    record.made(config, &made.fingerprint);
    Ok(Some(made))
}

/// Tells a certificate that was made here, as its fingerprint proves, with other names than those that are configured.
fn has_other_names(config: &Config, record: &Record) -> bool {
    let made_with = || {
        let chain = pem::certificates(&config.certificate).ok()?;
        record.names_of_made(config, &fingerprint(chain.first()?))
    };
    config.self_signed && made_with().is_some_and(|names| names != config.names)
}

/// Signs a certificate by its own key, and writes it.
fn certify(config: &Config, key: &KeyPair, now: WallTime) -> Result<Made, Error> {
    let names = names(hostname(), &config.names);
    let certificate = parameters(&names, now)?.self_signed(key).map_err(Error::Generate)?;
    write_new(&config.certificate, certificate.pem().as_bytes(), 0o644)?;
    Ok(Made {
        certificate: config.certificate.clone(),
        private_key: config.private_key.clone(),
        fingerprint: fingerprint(certificate.der()),
        names,
    })
}

fn exists(file: &Path) -> Result<bool, Error> {
    file.try_exists().map_err(|problem| Error::Unreadable { file: file.to_owned(), problem })
}

fn names(hostname: Option<String>, more: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Some(hostname) = hostname.filter(|name| is_dns_name(name) && name != "localhost") {
        names.insert(1, hostname);
    }
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Tells what a certificate can be for: an IP address, or a DNS name, which may begin with `*.`.
pub(crate) fn is_certificate_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || is_dns_name(name.strip_prefix("*.").unwrap_or(name))
}

/// The kernel's name for this machine or container; none if it has none.
fn hostname() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_ascii_lowercase)
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn parameters(names: &[String], now: WallTime) -> Result<CertificateParams, Error> {
    let mut parameters = CertificateParams::new(names.to_vec()).map_err(Error::Generate)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, MADE_HERE);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now =
        time::OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1_000)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + LIFETIME;
    Ok(parameters)
}

/// A sender's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3_600);

/// Ten years: users pin this certificate by hand, and nothing renews it.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_and_a_made_directory_are_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            certificate: directory.path().join("deep/certs/server.pem"),
            private_key: directory.path().join("deep/keys/server.key"),
            ..Config::default()
        };
        make_missing_pair(&config, WallTime::now()).unwrap().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&config.private_key), 0o600);
        assert_eq!(mode(config.private_key.parent().unwrap()), 0o700);
        assert_eq!(
            std::fs::read_dir(config.private_key.parent().unwrap()).unwrap().count(),
            1,
            "nothing left beside it"
        );
    }

    #[test]
    fn nothing_is_made_unless_asked_for_and_both_are_missing() {
        let directory = tempfile::tempdir().unwrap();
        let config = |self_signed| Config {
            certificate: directory.path().join("server.pem"),
            private_key: directory.path().join("server.key"),
            self_signed,
            ..Config::default()
        };
        assert_eq!(make_missing_pair(&config(false), WallTime::now()).unwrap(), None);
        std::fs::write(directory.path().join("server.key"), "a key").unwrap();
        assert_eq!(make_missing_pair(&config(true), WallTime::now()).unwrap(), None);
        assert!(!config(true).certificate.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("certs"), "a file in the way").unwrap();
        let config = Config {
            certificate: directory.path().join("certs/server.pem"),
            private_key: directory.path().join("certs/server.key"),
            ..Config::default()
        };
        let text = make_missing_pair(&config, WallTime::now()).unwrap_err().to_string();
        assert!(text.contains("certs/server"), "{text}");
    }

    #[test]
    fn names_stand_beside_the_hosts_and_each_once() {
        let more = ["gander.example", "*.hooks.example", "192.0.2.7", "::1"].map(str::to_owned);
        let names = names(None, &more);
        assert_eq!(names, ["localhost", "127.0.0.1", "::1", "gander.example", "*.hooks.example", "192.0.2.7"]);
        for (name, valid) in
            [("gander.example", true), ("*.a.example", true), ("::1", true), ("a.*.example", false), ("a b", false)]
        {
            assert_eq!(is_certificate_name(name), valid, "{name}");
        }
    }

    #[test]
    fn only_a_host_name_that_a_certificate_can_hold_is_taken() {
        let with = |name: &str| names(Some(name.to_owned()), &[]);
        assert_eq!(with("gander-7f9.prod.example"), ["localhost", "gander-7f9.prod.example", "127.0.0.1", "::1"]);
        for odd in ["", "under_score", "-dash", "a..b", "localhost", &"x".repeat(64)] {
            assert_eq!(with(odd), ["localhost", "127.0.0.1", "::1"], "{odd:?}");
        }
    }
}
