//! The names of a client's certificate, by which a source tells its senders from others of the same authority.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReaderSeq, Tag, TagClass};

use crate::credential::SubjectName;

/// The subject alternative names (RFC 5280, 4.2.1.6) of a certificate that TLS verified; none if it can't be read.
pub(crate) fn subject_names(certificate: &CertificateDer<'_>) -> Vec<SubjectName> {
    let names = yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|certificate| {
            let names = certificate.next().read_sequence(|fields| {
                // Version 1 omits the version field, and has no extensions.
                fields.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_der()))?;
                for _serial_signature_issuer_validity_subject_key in 0..6 {
                    fields.next().read_der()?;
                }
                let mut names = Vec::new();
                while let Some(field) = fields.read_optional(|field| field.read_tagged_der())? {
                    if is_context(field.tag(), EXTENSIONS) {
                        names = of_extensions(field.value())?;
                    }
                }
                Ok(names)
            })?;
            for _algorithm_signature in 0..2 {
                certificate.next().read_der()?;
            }
            Ok(names)
        })
    });
    names.unwrap_or_default()
}

fn of_extensions(extensions: &[u8]) -> ASN1Result<Vec<SubjectName>> {
    let values = yasna::parse_der(extensions, |reader| {
        reader.collect_sequence_of(|extension| extension.read_sequence(value_of))
    })?;
    values.into_iter().flatten().next().map_or(Ok(Vec::new()), |names| of_names(&names))
}

/// The value of one extension, if it holds the names.
fn value_of(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Option<Vec<u8>>> {
    let id = fields.next().read_oid()?;
    fields.read_optional(|critical| critical.read_bool())?;
    let value = fields.next().read_bytes()?;
    Ok((id.components().as_slice() == SUBJECT_ALTERNATIVE_NAME).then_some(value))
}

fn of_names(names: &[u8]) -> ASN1Result<Vec<SubjectName>> {
    let names = yasna::parse_der(names, |reader| {
        reader.collect_sequence_of(|name| {
            let name = name.read_tagged_der()?;
            if name.tag().tag_class != TagClass::ContextSpecific {
                return Err(ASN1Error::new(ASN1ErrorKind::Invalid));
            }
            let text = || str::from_utf8(name.value()).ok().filter(|text| text.is_ascii());
            Ok(match name.tag().tag_number {
                1 => text().map(SubjectName::email),
                2 => text().map(SubjectName::dns),
                6 => text().map(SubjectName::uri),
                7 => address(name.value()).map(SubjectName::Ip),
                _ => None,
            })
        })
    })?;
    Ok(names.into_iter().flatten().take(NAMES_MAX).collect())
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}

fn is_context(tag: Tag, number: u64) -> bool {
    tag == Tag::context(number)
}

const EXTENSIONS: u64 = 3;
/// Its object identifier, 2.5.29.17.
const SUBJECT_ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
/// More than any certificate of a sender has; each request is compared with all of them.
const NAMES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_names_of_each_kind_are_read_and_nothing_else() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        params.subject_alt_names = vec![
            SanType::DnsName("Sender.example".try_into().unwrap()),
            SanType::URI("spiffe://corp/servicepilot".try_into().unwrap()),
            SanType::Rfc822Name("ops@Example.org".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = subject_names(certificate.der());
        let written = ["sender.example", "spiffe://corp/servicepilot", "ops@example.org", "192.0.2.7", "2001:db8::7"];
        assert_eq!(read, written.map(|name| SubjectName::read(name).unwrap()));
    }

    #[test]
    fn a_certificate_without_names_has_none_and_one_that_is_cut_off_does_no_harm() {
        let key = KeyPair::generate().unwrap();
        let nameless = CertificateParams::new(Vec::<String>::new()).unwrap().self_signed(&key).unwrap();
        assert_eq!(subject_names(nameless.der()), []);
        let named = CertificateParams::new(vec!["sender.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let whole = named.der().to_vec();
        for at in 0..whole.len() {
            assert_eq!(subject_names(&whole[..at].to_vec().into()), [], "{at} bytes");
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = subject_names(&changed.into());
        }
    }
}
