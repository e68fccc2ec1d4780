//! Tells certificates of authorities from those that they issued.

use rustls::pki_types::CertificateDer;
use yasna::Tag;

/// Tells a certificate that another one issued and that may issue none: as a root nothing is trusted by it, not even
/// itself. One that signed itself is no such certificate, whatever it may issue.
pub(super) fn is_issued_leaf(certificate: &CertificateDer<'_>) -> bool {
    read(certificate).is_some_and(|read| !read.signed_itself && !read.may_issue)
}

/// Tells a certificate that signed itself: nobody trusts it who was not told to.
pub(super) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    read(certificate).is_some_and(|read| read.signed_itself)
}

/// Tells a certificate that signed itself, with the subject that is given to those made here.
pub(super) fn says_made_here(certificate: &CertificateDer<'_>) -> bool {
    read(certificate).is_some_and(|read| read.signed_itself && only_common_name(&read.subject) == Some(MADE_HERE))
}

/// The common name of a distinguished name (RFC 5280, 4.1.2.4), in DER, that has no other part.
fn only_common_name(name: &[u8]) -> Option<&str> {
    // The headers of two sequences and a set, of two bytes each, as all of them are short.
    let part = name.get(6..)?.strip_prefix(COMMON_NAME)?;
    let [UTF8_STRING, length, text @ ..] = part else { return None };
    str::from_utf8(text).ok().filter(|_| usize::from(*length) == text.len())
}

/// The statements of a certificate about who issued it and whether it may issue others.
struct Standing {
    signed_itself: bool,
    /// The distinguished name, in DER.
    subject: Vec<u8>,
    may_issue: bool,
}

/// None if it can't be read.
fn read(certificate: &CertificateDer<'_>) -> Option<Standing> {
    let read = yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|certificate| {
            let standing = certificate.next().read_sequence(|fields| {
                fields.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_der()))?;
                for _serial_signature in 0..2 {
                    fields.next().read_der()?;
                }
                let issuer = fields.next().read_der()?;
                fields.next().read_der()?;
                let subject = fields.next().read_der()?;
                let mut rest = Vec::new();
                while let Some(field) = fields.read_optional(|field| field.read_der())? {
                    rest.extend(field);
                }
                Ok(Standing { signed_itself: issuer == subject, subject, may_issue: may_issue(&rest) })
            })?;
            for _algorithm_signature in 0..2 {
                certificate.next().read_der()?;
            }
            Ok(standing)
        })
    });
    read.ok()
}

/// Looks for the basic constraints (RFC 5280, 4.2.1.9) with `cA`, in DER.
fn may_issue(extensions: &[u8]) -> bool {
    let after_name = |at: usize| extensions.get(at + BASIC_CONSTRAINTS.len()..).unwrap_or_default();
    let mut named = extensions.windows(BASIC_CONSTRAINTS.len()).enumerate();
    named.any(|(at, name)| {
        let value = after_name(at);
        let value = value.strip_prefix(TRUE).unwrap_or(value);
        // The header of an octet string, and that of the sequence in it, of two bytes each.
        name == BASIC_CONSTRAINTS && value.get(4..).is_some_and(|value| value.starts_with(TRUE))
    })
}

/// The common name, and nothing else, is the subject of each certificate that is made here.
pub(super) const MADE_HERE: &str = "gander, self-signed";
/// The object identifier of a common name, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
/// The tag of a text.
const UTF8_STRING: u8 = 0x0c;
/// The object identifier of basic constraints, 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x13];
const TRUE: &[u8] = &[0x01, 0x01, 0xff];

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn named(name: &str, is_ca: IsCa) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params
    }

    #[test]
    fn only_what_was_issued_and_issues_nothing_is_a_leaf() {
        let unlimited = || IsCa::Ca(BasicConstraints::Unconstrained);
        let root = named("root", unlimited());
        let key = KeyPair::generate().unwrap();
        assert!(!is_issued_leaf(root.self_signed(&key).unwrap().der()), "an authority");
        let own = named("own", IsCa::NoCa).self_signed(&key).unwrap();
        assert!(!is_issued_leaf(own.der()) && is_self_signed(own.der()), "it signed itself");
        let issuer = Issuer::new(root, key);
        for (is_ca, is_leaf) in [
            (IsCa::NoCa, true),
            (IsCa::ExplicitNoCa, true),
            (unlimited(), false),
            (IsCa::Ca(BasicConstraints::Constrained(0)), false),
        ] {
            let key = KeyPair::generate().unwrap();
            let certificate = named("issued", is_ca).signed_by(&key, &issuer).unwrap();
            assert_eq!(is_issued_leaf(certificate.der()), is_leaf, "{is_ca:?}");
            assert!(!is_self_signed(certificate.der()), "{is_ca:?}");
        }
        let mut longer = named(MADE_HERE, IsCa::NoCa);
        longer.distinguished_name.push(DnType::OrganizationName, "Example");
        let key = KeyPair::generate().unwrap();
        assert!(says_made_here(named(MADE_HERE, IsCa::NoCa).self_signed(&key).unwrap().der()));
        assert!(!says_made_here(longer.self_signed(&key).unwrap().der()), "another subject");
        assert!(!says_made_here(named("gander", IsCa::NoCa).self_signed(&key).unwrap().der()), "another name");
        let issuer = Issuer::new(named(MADE_HERE, unlimited()), KeyPair::generate().unwrap());
        assert!(!says_made_here(named("issued", IsCa::NoCa).signed_by(&key, &issuer).unwrap().der()), "issued by it");
        assert!(!is_issued_leaf(&CertificateDer::from(&[0x30, 0x03, 0x02, 0x01, 0x01][..])), "it can't be read");
    }
}
