//! Configuration: one YAML file, environment variables and flags laid over it, checked as a whole.
//!
//! Four layers, of which the later wins: the defaults, the file, `GANDER_…` variables (`__` between levels), flags.
//! The merged tree is read once, and every mistake in it, in the rule files and in the certificates that it
//! names is a finding of the same list.
//!
//! Relative paths: a source's `rules` are relative to the configuration file, since both are written together;
//! certificates, keys, secret files and `data_dir` are relative to the working directory, since they belong to the
//! place where the relay runs.

mod admin;
mod certificates;
mod confirmation;
mod credential;
mod file_stamps;
mod filters_beside;
mod listen;
mod networks;
mod overrides;
mod partial;
mod proxy;
mod secrets;
mod sections;
mod self_check;
mod signature;
mod snapshot;
mod sources;
mod text_file;
mod tls;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::callgoose::filters::FiltersBeside;
use crate::delivery::dispatcher;
use crate::inbound;
use crate::journal;
use crate::journal::Shares;
use crate::journal::dedup;
use crate::logging;
use crate::rules::RuleSet;
use crate::secret::Secret;
use crate::yaml::{self, Fields, Findings, Node, Place, Value};
use sources::Sources;

pub(crate) use file_stamps::FileStamps;
pub(crate) use filters_beside::FILTERS_BESIDE;
pub(crate) use partial::{
    Addresses, LoadedRules, load_addresses, load_dedup, load_journal, load_policy, load_rules, load_sender,
    load_source_names, load_upstream,
};
pub(crate) use secrets::{Refreshed, SecretFiles};
pub(crate) use self_check::SelfCheckSection;
pub(crate) use snapshot::{SettingsTree, Snapshot};
pub(crate) use text_file::Unreadable;
pub(crate) use text_file::{read_bytes, read_source};

/// Everything the relay needs to run, checked.
#[derive(Debug)]
pub struct Config {
    pub listen: inbound::Config,
    pub admin: crate::admin::Config,
    pub sources: Vec<inbound::SourceConfig>,
    /// The sources of `kind: confirmation`.
    pub confirmations: Vec<inbound::ConfirmationSource>,
    pub upstream: crate::delivery::client::Config,
    pub dispatch: dispatcher::Config,
    pub dedup: dedup::Settings,
    pub journal: journal::Config,
    pub log: logging::Config,
    /// The process gives up what it does not need.
    pub confinement: bool,
    /// None: it is off.
    pub self_check: Option<SelfCheckSection>,
    /// The secrets that come from files and so may change while the relay runs.
    pub secret_files: SecretFiles,
    pub filters: FiltersBeside,
}

/// The file, environment and flags that a configuration is read from.
#[derive(Debug)]
pub struct Inputs {
    pub path: PathBuf,
    /// The process's environment, or what stands for it.
    pub environment: BTreeMap<String, String>,
    pub flags: Vec<Flag>,
    pub secrets: Secrets,
}

/// A setting given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As the operator knows it, without its value: `--listen`.
    pub name: String,
    /// The dotted path of the key that it sets.
    pub key: String,
    pub value: String,
}

/// The need of secrets, and of the certificates' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The relay itself: each one that is missing is an error.
    Required,
    /// A client of a running relay, often another user: what is missing is missed only when it is used.
    Optional,
}

/// A configuration that can be used, with warnings.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Findings,
    /// Findings about rules in the shadow of others. They decide nothing, so a relay can do without them: where one
    /// of these is an error, the source has none.
    pub shadow: Findings,
}

/// The reason why there is no configuration.
#[derive(Debug)]
pub enum Failure {
    /// The file itself can't be read.
    Unreadable(Unreadable),
    /// Errors, and the warnings among them.
    Invalid(Findings),
}

/// Reads and checks a configuration with everything that it names.
pub fn load(inputs: &Inputs) -> Result<Loaded, Failure> {
    read(inputs).0
}

/// Reads and checks a configuration, and takes a snapshot of what was read, whatever came of it.
pub(crate) fn read(inputs: &Inputs) -> (Result<Loaded, Failure>, Snapshot) {
    let mut reader = Reader::new(inputs);
    let mut settings = SettingsTree::default();
    let config = match reader.tree() {
        Ok(Some(tree)) => {
            settings = SettingsTree::of(&tree);
            reader.config(&tree)
        }
        Ok(None) => None,
        Err(failure) => return (Err(failure), Snapshot { files: reader.files, ..Snapshot::default() }),
    };
    let Reader { mut findings, shadow_findings: mut shadow, files, secret_variables, rules, .. } = reader;
    findings.sort();
    shadow.sort();
    let loaded = match config {
        Some(config) if !findings.has_errors() => Ok(Loaded { config, warnings: findings, shadow }),
        _ => {
            findings.extend(shadow);
            findings.sort();
            Err(Failure::Invalid(findings))
        }
    };
    let rules = rules.into_iter().filter_map(|(path, rules)| Some((path, rules?))).collect();
    (loaded, Snapshot { files, secret_variables, rules, settings })
}

/// A secret that stands alone, in a file of another kind; what is wrong with it is a finding.
pub(crate) fn secret(
    node: &Node,
    path: &str,
    environment: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Secret> {
    let inputs = Inputs {
        path: PathBuf::new(),
        environment: environment.clone(),
        flags: Vec::new(),
        secrets: Secrets::Required,
    };
    let mut reader = Reader::new(&inputs);
    let secret = reader.secret(node, path, secrets::Use::Bearer, secrets::Direction::Checked);
    findings.extend(reader.findings);
    secret
}

/// The file to read: the one asked for, else the one that the variable [`FILE_VARIABLE`] names, else the first of the
/// usual ones that is there. The error tells where was looked.
pub(crate) fn locate(asked: Option<&Path>, variable: Option<&OsStr>) -> Result<PathBuf, String> {
    if let Some(path) = asked {
        return Ok(path.to_owned());
    }
    // Set to nothing it counts as not set.
    if let Some(path) = variable.filter(|path| !path.is_empty()).map(Path::new) {
        let named = || format!("{FILE_VARIABLE} names {}, and nothing is there", path.display());
        return if path.exists() { Ok(path.to_owned()) } else { Err(named()) };
    }
    let found = USUAL_PATHS.iter().map(Path::new).find(|path| path.symlink_metadata().is_ok());
    found.map(Path::to_owned).ok_or_else(|| {
        let here = std::env::current_dir().map_or_else(|_| ".".to_owned(), |folder| folder.display().to_string());
        format!(
            "there is no configuration; looked in {here} for {}\n  `gander init` writes one here; --config FILE or \
             {FILE_VARIABLE} names one that is elsewhere",
            USUAL_PATHS.join(", ")
        )
    })
}

/// The reader of one configuration.
struct Reader<'a> {
    inputs: &'a Inputs,
    findings: Findings,
    /// Those about rules in the shadow of others.
    shadow_findings: Findings,
    secret_files: SecretFiles,
    /// The files that were read so far.
    files: FileStamps,
    /// The environment variables whose values are secrets.
    secret_variables: BTreeSet<String>,
    /// The environment variables and secret files that were reported missing: one report each is enough.
    missing: Vec<String>,
    /// Rule files that were read, so that two sources may share one.
    rules: BTreeMap<PathBuf, Option<Arc<RuleSet>>>,
}

impl<'a> Reader<'a> {
    fn new(inputs: &'a Inputs) -> Reader<'a> {
        Reader {
            inputs,
            findings: Findings::new(),
            shadow_findings: Findings::new(),
            secret_files: SecretFiles::default(),
            files: FileStamps::default(),
            secret_variables: BTreeSet::new(),
            missing: Vec::new(),
            rules: BTreeMap::new(),
        }
    }

    /// The file with environment and flags laid over it; none if it is not YAML.
    fn tree(&mut self) -> Result<Option<Node>, Failure> {
        self.files.note(&self.inputs.path);
        let source = Arc::new(read_source(&self.inputs.path).map_err(Failure::Unreadable)?.as_private());
        let Some(mut tree) = yaml::parse(&source, &mut self.findings) else {
            return Ok(None);
        };
        if tree.is_null() {
            tree.value = Value::Map(Vec::new());
        }
        overrides::lay_over(&mut tree, self.inputs, &mut self.findings);
        // Any of them may set a secret, or a URL with one; so may proxies, also those that are not used.
        let is_proxy = |name: &str| name.to_ascii_lowercase().ends_with("_proxy");
        let names = self.inputs.environment.keys().filter(|name| overrides::sets_a_key(name) || is_proxy(name));
        self.secret_variables.extend(names.cloned());
        Ok(Some(tree))
    }

    fn config(&mut self, tree: &Node) -> Option<Config> {
        let mut top = Fields::of(tree, "", &mut self.findings)?;
        let mut listen = self.listen(tree, &mut top);
        let mut admin = self.admin(tree, &mut top);
        if let (Some(listen), Some(admin)) = (&listen, &admin) {
            self.one_address_each(tree, listen.address, admin.address);
        }
        let data_dir = self.data_dir(tree, &mut top);
        if let (Some(listen), Some(admin)) = (&mut listen, &mut admin) {
            Reader::share_names(&mut listen.tls, &mut admin.tls);
            self.gone_pairs(tree, [("listen", listen.tls.as_ref()), ("admin", admin.tls.as_ref())], &data_dir);
        }
        let sources = self.sources(tree, &mut top);
        if let (Some(listen), Some(sources)) = (&listen, &sources) {
            self.certificates_are_asked_for(tree, listen, sources);
        }
        let (stale, superseded) = self.delivery(&mut top);
        let upstream = self.upstream(&mut top, stale, superseded);
        let dedup = self.dedup(&mut top);
        let shares = sources
            .iter()
            .flat_map(|sources| &sources.alerts)
            .map(|source| (Arc::clone(&source.name), source.max_queued));
        let journal = self.journal(tree, &mut top, data_dir, Shares::new(shares));
        let log = self.log(&mut top);
        let confinement = top.choice("confinement", &ON_OR_OFF, &mut self.findings);
        let self_check = self.self_check(tree, &mut top);
        top.finish(&mut self.findings);
        let (upstream, dispatch) = upstream?;
        let Sources { alerts: sources, confirmations } = sources?;
        Some(Config {
            listen: listen?,
            admin: admin?,
            sources,
            confirmations,
            upstream,
            dispatch,
            dedup,
            journal,
            log,
            confinement: confinement.unwrap_or(true),
            self_check,
            secret_files: std::mem::take(&mut self.secret_files),
            filters: self.filters(),
        })
    }

    /// An error at `node`.
    fn error(&mut self, node: &Node, path: &str, message: impl Into<String>) -> &mut yaml::Finding {
        self.findings.error(node.place.clone(), path, message)
    }
}

/// Where a finding about a key of the tree points: the key's value, or the mapping where it is absent.
fn place_of(tree: &Node, keys: &[&str]) -> Place {
    let mut node = tree;
    for key in keys {
        match node.get(key) {
            Some(next) => node = next,
            None => break,
        }
    }
    node.place.clone()
}

/// Words, since YAML 1.2 has no other truth than `true`.
const ON_OR_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
/// Where a configuration usually is, in the order of looking.
const USUAL_PATHS: [&str; 3] = ["gander.yaml", "config/gander.yaml", "/etc/gander/gander.yaml"];
/// The environment variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "GANDER_CONFIG";

#[cfg(test)]
mod tests;
