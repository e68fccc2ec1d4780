//! The dates of a certificate: the TLS library checks those of the peer, but not the server's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use yasna::tags::TAG_UTCTIME;
use yasna::{ASN1Result, BERReader, Tag};

use super::Warning;
use crate::clock::WallTime;

/// The period in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub not_before: WallTime,
    pub not_after: WallTime,
}

/// The end of a certificate in use, and the time from which it should be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub at: WallTime,
    pub notice_at: WallTime,
}

/// The state of a certificate in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Valid,
    ExpiresSoon,
    Expired,
}

/// A file of certificates in use. Of several the one that expires first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    pub file: PathBuf,
    /// Clients are verified by it; else it is shown.
    pub is_client_ca: bool,
    pub expiry: Expiry,
}

impl Expiry {
    /// The first certificate of a chain to expire; none if none has dates that can be read.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Expiry> {
        dates(chain).map(Validity::expiry).min_by_key(|expiry| expiry.at)
    }

    /// The first of some authorities to expire, but for those that did: others are trusted beside them. If all did, the
    /// last one.
    pub(super) fn of_authorities(authorities: &[CertificateDer<'_>], now: WallTime) -> Option<Expiry> {
        let all = || dates(authorities).map(Validity::expiry);
        let next = all().filter(|expiry| expiry.at > now).min_by_key(|expiry| expiry.at);
        next.or_else(|| all().max_by_key(|expiry| expiry.at))
    }

    pub fn standing(self, now: WallTime) -> Standing {
        match self {
            Expiry { at, .. } if now >= at => Standing::Expired,
            Expiry { notice_at, .. } if now >= notice_at => Standing::ExpiresSoon,
            _ => Standing::Valid,
        }
    }
}

fn dates(chain: &[CertificateDer<'_>]) -> impl Iterator<Item = Validity> {
    chain.iter().filter_map(|certificate| Validity::of(certificate))
}

/// The expiry of a chain that was found to be right at `now`: one in it that has expired was not needed.
pub(crate) fn next_expiry(chain: &[CertificateDer<'_>], now: WallTime) -> Option<WallTime> {
    let dates = chain.iter().filter_map(|certificate| Validity::of(certificate)).map(|dates| dates.not_after);
    dates.filter(|not_after| *not_after > now).min()
}

/// Returns true if a certificate that expires at `at` should be replaced by now.
pub(crate) fn expires_soon(at: WallTime, now: WallTime) -> bool {
    at.since(now) < NOTICE
}

impl Validity {
    /// Reads the dates of a DER certificate (RFC 5280, 4.1) that rustls accepted: yasna is less strict about lengths.
    pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
        let validity = yasna::parse_der(certificate, |reader| {
            reader.read_sequence(|certificate| {
                let validity = certificate.next().read_sequence(|fields| {
                    // Version 1 omits the version field.
                    fields
                        .read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_der()))?;
                    for _serial_number_signature_issuer in 0..3 {
                        fields.next().read_der()?;
                    }
                    let validity = fields.next().read_sequence(|dates| {
                        Ok(Validity { not_before: date(dates.next())?, not_after: date(dates.next())? })
                    })?;
                    while fields.read_optional(|field| field.read_der())?.is_some() {}
                    Ok(validity)
                })?;
                for _algorithm_signature in 0..2 {
                    certificate.next().read_der()?;
                }
                Ok(validity)
            })
        });
        validity.ok()
    }

    /// Warns if senders refuse the certificate at `now`, or will soon.
    pub(super) fn date_warning(self, file: &Path, now: WallTime) -> Option<Warning> {
        let file = file.to_owned();
        if now < self.not_before {
            return Some(Warning::NotYetValid { file, from: self.not_before });
        }
        if now > self.not_after {
            return Some(Warning::Expired { file, at: self.not_after });
        }
        (now >= self.expiry().notice_at).then_some(Warning::ExpiresSoon { file, at: self.not_after })
    }

    /// A certificate for a day or a week is renewed by a program, which has not done so in time when a quarter is left.
    fn expiry(self) -> Expiry {
        let quarter = self.not_after.since(self.not_before) / 4;
        Expiry { at: self.not_after, notice_at: self.not_after.before(NOTICE.min(quarter)) }
    }
}

fn date(reader: BERReader<'_, '_>) -> ASN1Result<WallTime> {
    let date = match reader.lookahead_tag()? {
        TAG_UTCTIME => *reader.read_utctime()?.datetime(),
        _ => *reader.read_generalized_time()?.datetime(),
    };
    Ok(WallTime(date.unix_timestamp().saturating_mul(1_000)))
}

/// Long enough to act before senders are refused, and less than what is left when programs renew: a third of 90 days.
const NOTICE: Duration = Duration::from_secs(14 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_dates_of_both_forms_are_read() {
        let validity = Validity::of(&certificate((1999, 12, 31), (2050, 1, 2))).unwrap();
        assert_eq!(validity.not_before.rfc3339(), "1999-12-31T00:00:00.000Z");
        assert_eq!(validity.not_after.rfc3339(), "2050-01-02T00:00:00.000Z");
    }

    #[test]
    fn of_a_chain_that_is_right_the_first_that_is_still_valid_counts() {
        let chain = [(2050, 1, 2), (2049, 1, 2), (2001, 1, 2)].map(|to| certificate((2000, 1, 1), to).into());
        let now = WallTime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let year = |at: Option<WallTime>| at.map(|at| at.rfc3339()[..4].to_owned());
        assert_eq!(year(next_expiry(&chain, now)).as_deref(), Some("2049"));
        let end = |expiry: Option<Expiry>| year(expiry.map(|expiry| expiry.at));
        assert_eq!(end(Expiry::of_chain(&chain)).as_deref(), Some("2001"));
        assert_eq!(end(Expiry::of_authorities(&chain, now)).as_deref(), Some("2049"));
        assert_eq!(end(Expiry::of_authorities(&chain[2..], now)).as_deref(), Some("2001"));
        assert_eq!(next_expiry(&chain[2..], now), None);
    }

    #[test]
    fn notice_is_given_two_weeks_before_the_end_or_in_the_last_quarter() {
        const HOUR: i64 = 3_600_000;
        const DAY: i64 = 24 * HOUR;
        for (claim, lasts, before_end, standing) in [
            ("a year, in time", 365 * DAY, 14 * DAY + 1, Standing::Valid),
            ("a year, two weeks before", 365 * DAY, 14 * DAY, Standing::ExpiresSoon),
            ("a year, at the end", 365 * DAY, 0, Standing::Expired),
            ("a day, renewed when a third is left", DAY, 8 * HOUR, Standing::Valid),
            ("a day, not renewed", DAY, 6 * HOUR, Standing::ExpiresSoon),
            ("a day, an hour ago", DAY, -HOUR, Standing::Expired),
            ("its dates are swapped", -DAY, 1, Standing::Valid),
        ] {
            let not_after = WallTime(1_000 * DAY);
            let validity = Validity { not_before: WallTime(not_after.0 - lasts), not_after };
            assert_eq!(validity.expiry().standing(WallTime(not_after.0 - before_end)), standing, "{claim}");
        }
    }

    #[test]
    fn what_is_cut_off_has_no_dates_and_does_no_harm() {
        let whole = certificate((2020, 1, 1), (2040, 1, 1));
        for length in 0..whole.len().min(200) {
            assert_eq!(Validity::of(&whole[..length]), None, "{length} bytes");
        }
        for byte in 0..=255_u8 {
            let _ = Validity::of(&[byte; 64]);
            let _ = Validity::of(&[0x30, byte, 0x30, byte, 0xff, 0xff]);
        }
    }
}
