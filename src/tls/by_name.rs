//! Chooses a listener's certificate by the name that a client asks for (SNI, RFC 6066, section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use yasna::models::ObjectIdentifier;
use yasna::{Tag, TagClass};

use super::Identity;

/// The pairs of a listener by their names.
#[derive(Debug)]
pub(super) struct ByName {
    /// For who asks by no name, by an address, or by one that no certificate has.
    first: Arc<CertifiedKey>,
    /// In lower case; a wildcard as it stands in the certificate.
    named: HashMap<String, Arc<CertifiedKey>>,
}

/// A pair, by its place in the list, that never answers for a name, or at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeverChosen {
    pub pair: usize,
    /// The name, and the pair before that answers for it; none: it has no name at all.
    pub taken: Option<(String, usize)>,
}

impl ByName {
    /// Of two pairs with the same name the first answers for it. `pairs` is not empty.
    pub(super) fn new(pairs: &[Identity]) -> ByName {
        let mut named = HashMap::new();
        for pair in pairs {
            for name in &pair.names {
                named.entry(name.clone()).or_insert_with(|| Arc::clone(&pair.key));
            }
        }
        ByName { first: Arc::clone(&pairs[0].key), named }
    }

    /// An exact name goes before a wildcard, which stands for one label (RFC 6125, section 6.4.3).
    fn choose(&self, asked: Option<&str>) -> &Arc<CertifiedKey> {
        let found = asked.and_then(|asked| {
            let asked = asked.to_ascii_lowercase();
            let wildcard = || self.named.get(&format!("*.{}", asked.split_once('.')?.1));
            self.named.get(&asked).or_else(wildcard)
        });
        found.unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name())))
    }
}

/// Tells the pairs that do not answer for what their certificates are for.
pub(crate) fn never_chosen(names: &[Vec<String>]) -> Vec<NeverChosen> {
    let mut owners: HashMap<&str, usize> = HashMap::new();
    let mut never = Vec::new();
    for (pair, names) in names.iter().enumerate() {
        if pair > 0 && names.is_empty() {
            never.push(NeverChosen { pair, taken: None });
        }
        for name in names {
            let owner = *owners.entry(name).or_insert(pair);
            if owner != pair {
                never.push(NeverChosen { pair, taken: Some((name.clone(), owner)) });
            }
        }
    }
    never
}

/// The DNS names of a certificate (RFC 5280, 4.2.1.6) in lower case; none if it can't be read.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let alternative_name = ObjectIdentifier::from_slice(&[2, 5, 29, 17]);
    let extensions = extensions(certificate).unwrap_or_default();
    let values = extensions.into_iter().filter(|(name, _)| *name == alternative_name).map(|(_, value)| value);
    let names = values.filter_map(|value| {
        yasna::parse_der(&value, |names| names.collect_sequence_of(|name| name.read_tagged_der())).ok()
    });
    let is_dns_name = |tag: Tag| tag == Tag { tag_class: TagClass::ContextSpecific, tag_number: 2 };
    let dns = names.flatten().filter(|name| is_dns_name(name.tag()));
    dns.filter_map(|name| Some(std::str::from_utf8(name.value()).ok()?.to_ascii_lowercase())).collect()
}

/// The extensions of a certificate, each by its name.
fn extensions(certificate: &[u8]) -> Option<Vec<(ObjectIdentifier, Vec<u8>)>> {
    let fields = yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|certificate| {
            let fields = certificate.next().read_sequence(|fields| {
                let mut all = Vec::new();
                while let Some(field) = fields.read_optional(|field| field.read_der())? {
                    all.push(field);
                }
                Ok(all)
            })?;
            for _algorithm_signature in 0..2 {
                certificate.next().read_der()?;
            }
            Ok(fields)
        })
    });
    // The last field of all.
    let extensions = fields.ok()?.pop()?;
    let read = yasna::parse_der(&extensions, |reader| {
        reader.read_tagged(Tag::context(3), |extensions| {
            extensions.collect_sequence_of(|extension| {
                extension.read_sequence(|parts| {
                    let name = parts.next().read_oid()?;
                    parts.read_optional(|critical| critical.read_bool())?;
                    Ok((name, parts.next().read_bytes()?))
                })
            })
        })
    });
    read.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = CertifiedKey::from_der(vec![certificate.der().clone()], private, &super::super::provider());
        Identity::of(Arc::new(key.unwrap()))
    }

    #[test]
    fn the_names_of_a_certificate_are_its_dns_names() {
        assert_eq!(
            pair(&["Gander.Example", "*.hooks.example", "192.0.2.7"]).names,
            ["gander.example", "*.hooks.example"]
        );
        assert_eq!(pair(&["192.0.2.7"]).names, [""; 0]);
        let whole = pair(&["gander.example"]).key.cert[0].clone();
        for length in 0..whole.len() {
            assert_eq!(dns_names(&CertificateDer::from(&whole[..length])), [""; 0], "{length} bytes");
        }
    }

    #[test]
    fn the_name_that_is_asked_for_chooses() {
        let pairs = [
            pair(&["first.example"]),
            pair(&["*.hooks.example", "second.example"]),
            pair(&["alerts.hooks.example", "second.example"]),
        ];
        let by_name = ByName::new(&pairs);
        for (claim, asked, chosen) in [
            ("no name, as of a client that calls an address", None, 0),
            ("the first one's own", Some("first.example"), 0),
            ("a name that none has", Some("other.example"), 0),
            ("a label below the wildcard", Some("a.hooks.example"), 1),
            ("letters of any case", Some("A.Hooks.Example"), 1),
            ("two labels are more than a wildcard is for", Some("a.b.hooks.example"), 0),
            ("nor is it for none", Some("hooks.example"), 0),
            ("an exact name goes before a wildcard", Some("alerts.hooks.example"), 2),
            ("of two with one name the first", Some("second.example"), 1),
            ("one label", Some("localhost"), 0),
            ("nothing", Some(""), 0),
        ] {
            assert!(Arc::ptr_eq(by_name.choose(asked), &pairs[chosen].key), "{claim}");
        }
    }

    #[test]
    fn a_pair_that_is_never_chosen_is_told() {
        let told = never_chosen(
            &[&["a", "b"][..], &["c", "a"], &[], &["c"]]
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()),
        );
        let taken = |pair, name: &str, by| NeverChosen { pair, taken: Some((name.to_owned(), by)) };
        assert_eq!(told, [taken(1, "a", 0), NeverChosen { pair: 2, taken: None }, taken(3, "c", 1)]);
    }
}
