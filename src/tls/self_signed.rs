//! Makes a self-signed certificate on the first start, for trials and for senders that pin it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use zeroize::Zeroizing;

use super::{Config, Error, fingerprint};
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
    let names = names(hostname());
    let key = KeyPair::generate().map_err(Error::Generate)?;
    let certificate = parameters(&names, now)?.self_signed(&key).map_err(Error::Generate)?;
    write_new(&config.private_key, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
    write_new(&config.certificate, certificate.pem().as_bytes(), 0o644)?;
    Ok(Some(Made {
        certificate: config.certificate.clone(),
        private_key: config.private_key.clone(),
        fingerprint: fingerprint(certificate.der()),
        names,
    }))
}

fn exists(file: &Path) -> Result<bool, Error> {
    file.try_exists().map_err(|problem| Error::Unreadable { file: file.to_owned(), problem })
}

fn names(hostname: Option<String>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Some(hostname) = hostname.filter(|name| is_dns_name(name) && name != "localhost") {
        names.insert(1, hostname);
    }
    names
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
    parameters.distinguished_name.push(DnType::CommonName, "gander, self-signed");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now =
        time::OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1_000)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + LIFETIME;
    Ok(parameters)
}

/// Writes `content` beside `file` and moves it there once it is on disk; creates the directory if needed.
fn write_new(file: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let written = || -> io::Result<()> {
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut beside = file.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let moved = write_whole(&beside, content, mode).and_then(|()| std::fs::rename(&beside, file));
        if moved.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        moved?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|problem| Error::Unwritable { file: file.to_owned(), problem })
}

fn write_whole(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    open.write_all(content)?;
    open.sync_all()
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
            client_ca: None,
            self_signed: true,
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
            client_ca: None,
            self_signed,
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
            client_ca: None,
            self_signed: true,
        };
        let text = make_missing_pair(&config, WallTime::now()).unwrap_err().to_string();
        assert!(text.contains("certs/server"), "{text}");
    }

    #[test]
    fn only_a_host_name_that_a_certificate_can_hold_is_taken() {
        let with = |name: &str| names(Some(name.to_owned()));
        assert_eq!(with("gander-7f9.prod.example"), ["localhost", "gander-7f9.prod.example", "127.0.0.1", "::1"]);
        for odd in ["", "under_score", "-dash", "a..b", "localhost", &"x".repeat(64)] {
            assert_eq!(with(odd), ["localhost", "127.0.0.1", "::1"], "{odd:?}");
        }
    }
}
