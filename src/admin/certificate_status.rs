//! The certificates in use: when they end, and which of their files are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::View;
use super::readiness::Degradation;
use crate::clock::WallTime;
use crate::delivery::client::Upstream;
use crate::tls::{InUse, Served, Standing};

/// A file of a certificate in use that does not exist any more. What was read from it is used on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingFile {
    /// The section that names it.
    pub section: &'static str,
    pub file: PathBuf,
    pub since: WallTime,
}

/// The certificates of `listeners`, their client CAs, and the certificate that the upstream is shown, each with the
/// section or key that names it.
pub(crate) fn certificates_in_use(
    listeners: &[(&'static str, Arc<Served>)],
    upstream: &Upstream,
    now: WallTime,
) -> Vec<(&'static str, InUse)> {
    let of_listener = |(section, served): &(&'static str, Arc<Served>)| {
        let section = *section;
        served.in_use(now).into_iter().map(move |one| (named_by(section, one.is_client_ca), one))
    };
    let listeners = listeners.iter().flat_map(of_listener);
    listeners.chain(upstream.tls().filter_map(|client| Some((UPSTREAM, client.in_use()?)))).collect()
}

/// The files of `listeners` and of the upstream, each with the section that names it.
pub(crate) fn certificate_files<'a>(
    listeners: &'a [(&'static str, Arc<Served>)],
    upstream: &'a Upstream,
) -> impl Iterator<Item = (&'static str, &'a Path)> {
    let of_listener = |(section, served): &'a (&'static str, Arc<Served>)| {
        let section = named_by(section, false);
        served.files().map(move |file| (section, file))
    };
    let of_upstream = upstream.tls().flat_map(|client| client.files().map(|file| (UPSTREAM, file)));
    listeners.iter().flat_map(of_listener).chain(of_upstream)
}

fn named_by(section: &'static str, is_client_ca: bool) -> &'static str {
    match (section, is_client_ca) {
        ("listen", false) => "listen.tls",
        ("listen", true) => "listen.tls.client_ca",
        (_, false) => "admin.tls",
        (_, true) => "admin.tls.client_ca",
    }
}

const UPSTREAM: &str = "upstream.tls";

impl View {
    /// The certificates that end, and the files that are gone.
    pub(super) fn certificate_degradations(&self, now: WallTime) -> Vec<Degradation> {
        let in_use = certificates_in_use(&self.certificates, &self.upstream, now);
        let missing = of_missing_files(&self.missing_files.borrow());
        in_use.into_iter().filter_map(|one| of_certificate(one, now)).chain(missing).collect()
    }
}

/// Events are taken as long as senders go on, so it makes nothing unready.
fn of_certificate((section, one): (&'static str, InUse), now: WallTime) -> Option<Degradation> {
    let InUse { file, is_client_ca, expiry } = one;
    let (reason, since, verb) = match expiry.standing(now) {
        Standing::Valid => return None,
        Standing::ExpiresSoon => ("certificate_expiring", expiry.notice_at, "expires"),
        Standing::Expired => ("certificate_expired", expiry.at, "expired"),
    };
    let remedy = match is_client_ca {
        true => {
            "who shows a certificate of this authority is refused from then on: put its next certificate into the file, \
                 beside this one; it is taken over by itself"
        }
        false => {
            "whoever checks it refuses it from then on: put a new pair into the same files, and it is taken over by \
                  itself (a self-signed pair: remove both files and restart)"
        }
    };
    Some(Degradation {
        reason,
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(format!("{section}: {} {verb} at {}", file.display(), expiry.at.rfc3339())),
        remedy: remedy.into(),
    })
}

/// Nothing is amiss until the relay stops, so it makes nothing unready.
fn of_missing_files(missing: &[MissingFile]) -> Option<Degradation> {
    let since = missing.iter().map(|file| file.since).min()?;
    let files: Vec<String> =
        missing.iter().map(|MissingFile { section, file, .. }| format!("{section}: {}", file.display())).collect();
    Some(Degradation {
        reason: "certificate_missing",
        since: since.rfc3339(),
        status: None,
        fault: None,
        detail: Some(format!("{}: no such file", files.join(", "))),
        remedy:
            "put it back: what was read from it is used until the relay stops, and can't be read again at its start"
                .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Expiry;

    #[test]
    fn a_certificate_is_told_from_its_notice_on_and_differently_from_its_end_on() {
        let expiry = Expiry { at: WallTime(2_000_000), notice_at: WallTime(1_000_000) };
        let one = |is_client_ca| InUse { file: PathBuf::from("a.pem"), is_client_ca, expiry };
        let told = |at| of_certificate(("listen.tls", one(false)), WallTime(at)).map(|told| told.reason);
        assert_eq!(
            [999_999, 1_000_000, 2_000_000].map(told),
            [None, Some("certificate_expiring"), Some("certificate_expired")]
        );
        let told = of_certificate(("admin.tls.client_ca", one(true)), WallTime(1_500_000)).unwrap();
        assert_eq!(told.detail.as_deref(), Some("admin.tls.client_ca: a.pem expires at 1970-01-01T00:33:20.000Z"));
        assert!(told.since == WallTime(1_000_000).rfc3339() && told.remedy.contains("authority"), "{told:?}");
    }
}
