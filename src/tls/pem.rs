//! Reads certificates and keys from PEM files.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{Error, Warning};
use crate::files;

/// All certificates in `file`, at least one, in order.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(file)?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        chain.push(certificate.map_err(|problem| Error::NotPem { file: file.to_owned(), problem })?);
    }
    if chain.is_empty() {
        let holds_key = PrivateKeyDer::from_pem_slice(&text).is_ok();
        return Err(Error::NoCertificate { file: file.to_owned(), holds_key });
    }
    Ok(chain)
}

/// The first private key in `file`; PKCS #8, PKCS #1 or SEC 1.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(file)?;
    // Both spellings: PKCS #8's own label, and the header line of the older formats.
    if text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(Error::KeyEncrypted { file: file.to_owned() });
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let holds_certificate = pem_kinds(&text).any(|kind| kind == SectionKind::Certificate);
            Err(Error::NoKey { file: file.to_owned(), holds_certificate })
        }
        Err(problem) => Err(Error::NotPem { file: file.to_owned(), problem }),
    }
}

/// Warns of a key that every user of the machine may read: whoever reads it can impersonate this server. A group may:
/// platforms mount keys so.
pub(super) fn exposed_key(file: &Path) -> Option<Warning> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| Warning::KeyExposed { file: file.to_owned(), mode })
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unreadable = |problem| Error::Unreadable { file: file.to_owned(), problem };
    let opened = files::open(file).map_err(unreadable)?;
    // The full capacity from the start: a growing buffer would leave copies of a key in memory.
    let bytes = opened.metadata().map_or(0, |found| found.len()).min(PEM_BYTES_MAX) as usize;
    let mut text = Zeroizing::new(Vec::with_capacity(bytes + 1));
    opened.take(PEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PEM_BYTES_MAX {
        let problem = format!("it is larger than {} MiB", PEM_BYTES_MAX >> 20);
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, problem)));
    }
    Ok(text)
}

fn pem_kinds(text: &[u8]) -> impl Iterator<Item = SectionKind> + '_ {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text).map_while(|section| section.ok().map(|(kind, _)| kind))
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";
/// Many times the size of all public roots.
const PEM_BYTES_MAX: u64 = 16 << 20;
