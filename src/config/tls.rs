//! A `tls` section of a listener: its pairs, the names of one that is made, and how strict it is.

use std::path::Path;

use super::{Reader, place_of};
use crate::tls;
use crate::yaml::{Fields, Node, Value, fields, shown};

impl Reader<'_> {
    /// A `tls` section within `around`, and the certificates that it names.
    pub(super) fn tls(&mut self, node: Option<&Node>, around: &Node, path: &str) -> Option<tls::Config> {
        let defaults = tls::Config::default();
        let Some(node) = node else {
            self.certificates(&defaults, around, path);
            return Some(defaults);
        };
        if !matches!(node.value, Value::Map(_)) {
            let expected = "a mapping with `certificate` and `private_key`, or `off`";
            let finding = fields::not_a_mapping(node, path, expected, &mut self.findings);
            if finding.help.is_none() {
                finding.help("`tls: off` is plain HTTP");
            }
            return None;
        }
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let findings = &mut self.findings;
        let [certificate, private_key, client_ca] =
            ["certificate", "private_key", "client_ca"].map(|name| section.file(name, findings));
        let self_signed = section.boolean("self_signed", findings);
        let profile = section.choice("profile", &PROFILES, findings);
        let names = self.names(&mut section);
        let more = self.more(&mut section);
        section.finish(&mut self.findings);
        let config = tls::Config {
            certificate: certificate.unwrap_or(defaults.certificate),
            private_key: private_key.unwrap_or(defaults.private_key),
            client_ca,
            self_signed: self_signed.unwrap_or(defaults.self_signed),
            names,
            more,
            profile: profile.unwrap_or_default(),
        };
        self.certificates(&config, node, path);
        Some(config)
    }

    /// The names of a pair that is made, in lower case, each once.
    fn names(&mut self, section: &mut Fields<'_>) -> Vec<String> {
        let path = section.path_of("names");
        let mut names = Vec::new();
        for (index, item) in self.items(section, "names", "a list of names").iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item.as_str().filter(|name| tls::is_certificate_name(name)) {
                Some(name) => names.push(name.to_ascii_lowercase()),
                None => {
                    let message = format!("expected a host's name or an address, found {}", shown(item, &path, &[]));
                    self.error(item, &path, message)
                        .help("such as [gander.example.com, '*.hooks.example.com', 192.0.2.7]");
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Further pairs.
    fn more(&mut self, section: &mut Fields<'_>) -> Vec<tls::Pair> {
        let path = section.path_of("more");
        let items = self.items(section, "more", "a list of pairs, each `{ certificate, private_key }`");
        let mut pairs = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let findings = &mut self.findings;
            let Some(mut fields) = Fields::of(item, format!("{path}[{index}]"), findings) else { continue };
            let files = ["certificate", "private_key"].map(|name| {
                fields.require(name, findings).and_then(|node| fields::file(node, &fields.path_of(name), findings))
            });
            fields.finish(findings);
            if let [Some(certificate), Some(private_key)] = files {
                pairs.push(tls::Pair { certificate, private_key });
            }
        }
        pairs
    }

    /// The items of a list that may be absent.
    fn items<'n>(&mut self, section: &mut Fields<'n>, name: &'static str, expected: &str) -> &'n [Node] {
        let path = section.path_of(name);
        let Some(node) = section.take_some(name) else {
            return &[];
        };
        match &node.value {
            Value::List(items) if items.len() <= ITEMS_MAX => items,
            Value::List(items) => {
                self.error(node, &path, format!("expected at most {ITEMS_MAX}, found {}", items.len()));
                &[]
            }
            _ => {
                self.error(node, &path, format!("expected {expected}, found {}", node.kind()));
                &[]
            }
        }
    }

    /// Two listeners that share the first pair share the names with which it is made.
    pub(super) fn share_names(listen: &mut Option<tls::Config>, admin: &mut Option<tls::Config>) {
        if let (Some(listen), Some(admin)) = (listen, admin)
            && listen.certificate == admin.certificate
        {
            listen.names.append(&mut admin.names);
            listen.names.sort();
            listen.names.dedup();
            admin.names.clone_from(&listen.names);
        }
    }

    /// An error where a start would not make a self-signed pair in place of one that is gone.
    pub(super) fn gone_pairs(
        &mut self,
        tree: &Node,
        sections: [(&'static str, Option<&tls::Config>); 2],
        data_dir: &Path,
    ) {
        if self.inputs.secrets == super::Secrets::Optional {
            return;
        }
        let record = tls::Record::in_directory(data_dir);
        for (section, config) in sections {
            let Some(Err(error)) = config.map(|config| record.refuse_where_another_was_served(config)) else {
                continue;
            };
            let place = place_of(tree, &[section, "tls", "certificate"]);
            let path = format!("{section}.tls.certificate");
            self.findings.error(place, path, error.to_string()).code("certificate-unusable");
        }
    }
}

const PROFILES: [(&str, tls::Profile); 2] =
    [("intermediate", tls::Profile::Intermediate), ("modern", tls::Profile::Modern)];

/// Of further pairs, and of names of one that is made: each is looked at in every check.
const ITEMS_MAX: usize = 100;
