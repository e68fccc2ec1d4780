//! The dates of a certificate: the one part of X.509 that is read here rather than by the TLS library, which
//! checks other people's dates and keeps silent on the server's own.

use std::path::Path;
use std::time::Duration;

use super::Warning;
use crate::clock::WallTime;

/// From when to when a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: WallTime,
    pub not_after: WallTime,
}

impl Validity {
    /// Reads the dates of a DER certificate; none if it is not built as RFC 5280 says.
    pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        // The version is left out in version 1.
        if rest.first() == Some(&EXPLICIT_0) {
            rest = element(rest, EXPLICIT_0)?.1;
        }
        let (_serial, rest) = element(rest, INTEGER)?;
        let (_signature, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, _) = element(rest, SEQUENCE)?;
        let (not_before, rest) = date(validity)?;
        let (not_after, _) = date(rest)?;
        Some(Validity { not_before, not_after })
    }

    /// What is wrong with these dates at `now`.
    pub(super) fn doubt(self, file: &Path, now: WallTime) -> Option<Warning> {
        let file = file.to_owned();
        if now < self.not_before {
            return Some(Warning::NotYetValid { file, from: self.not_before });
        }
        if now > self.not_after {
            return Some(Warning::Expired { file, at: self.not_after });
        }
        (self.not_after.since(now) < NOTICE).then_some(Warning::ExpiresSoon { file, at: self.not_after })
    }
}

/// The content of the DER element at the start of `bytes`, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let digits = usize::from(first & 0x7f);
        if digits == 0 || digits > 4 {
            return None;
        }
        let (big_endian, after) = rest.split_at_checked(digits)?;
        length = big_endian.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    (found == tag).then_some((content, after))
}

/// A UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime (`YYYYMMDDHHMMSSZ`), the only forms that RFC 5280 allows.
fn date(bytes: &[u8]) -> Option<(WallTime, &[u8])> {
    let (text, year_digits, rest) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, 2, rest),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, 4, rest))?,
    };
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let (year, text) = text.split_at_checked(year_digits)?;
    let (fields, zone) = text.split_at_checked(10)?;
    if zone != "Z" {
        return None;
    }
    let century = match (year_digits, year) {
        (2, year) if year < "50" => "20",
        (2, _) => "19",
        _ => "",
    };
    let field = |index: usize| fields.get(2 * index..2 * index + 2);
    let rfc3339 = format!("{century}{year}-{}-{}T{}:{}:{}Z", field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
    Some((WallTime::parse_rfc3339(&rfc3339)?, rest))
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

/// Long enough to act before senders are turned away, short enough that short-lived certificates that renew
/// themselves do not cause it.
const NOTICE: Duration = Duration::from_secs(10 * 24 * 3_600);

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
