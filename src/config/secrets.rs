//! Where secrets come from: an environment variable, a file, a hash, or, with a warning, the configuration itself.
//!
//! Messages name the variable or the file, never the value.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::text_file::read_text;
use super::{Reader, Secrets};
use crate::credential::key_of;
use crate::secret::{Origin, Secret};
use crate::yaml::{Fields, Node, Place, Value, fields};

/// The use of a secret, which says what characters it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The token of an `Authorization: Bearer` header.
    Bearer,
    /// The value of a header.
    Header,
    /// A query parameter, percent-encoded on its way.
    Query,
    /// `USER:PASSWORD` for a proxy.
    Proxy,
    /// The password of a user.
    Password,
    /// The key of a signature, as it is written.
    Key,
    /// The key of a signature in base64, as Standard Webhooks has it.
    WebhookKey,
}

/// The direction in which a secret travels: it is only compared with, or also sent, or signs, and never travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Checked,
    Sent,
    Signs,
}

/// The secrets that come from files.
#[derive(Debug, Default)]
pub struct SecretFiles(Vec<SecretFile>);

#[derive(Debug)]
struct SecretFile {
    path: PathBuf,
    used: Use,
    secret: Secret,
    /// The problem of the last reading, so that it is told once.
    problem: Option<String>,
}

/// The outcome of a new look at one secret file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The secret has another value now, at once for everyone who holds it.
    Changed { path: PathBuf },
    /// The file can't be used; the previous value stays in use. Told once for each problem.
    Failed { path: PathBuf, problem: String },
}

impl SecretFiles {
    /// Reads every file again; returns what differs from the last time.
    pub fn refresh(&mut self) -> Vec<Refreshed> {
        self.0.iter_mut().filter_map(SecretFile::refresh).collect()
    }

    /// The files that the last reading could not use, each with its problem.
    pub fn unreadable(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().filter_map(|file| Some((file.path.as_path(), file.problem.as_deref()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }
}

impl SecretFile {
    fn refresh(&mut self) -> Option<Refreshed> {
        match read_secret(&self.path, self.used) {
            Ok(text) => {
                self.problem = None;
                self.secret.replace(text).then(|| Refreshed::Changed { path: self.path.clone() })
            }
            Err(problem) if self.problem.as_ref() == Some(&problem) => None,
            Err(problem) => {
                self.problem = Some(problem.clone());
                Some(Refreshed::Failed { path: self.path.clone(), problem })
            }
        }
    }
}

impl Reader<'_> {
    /// A secret, from its node at `path`.
    pub(super) fn secret(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Secret> {
        let secret = match &node.value {
            Value::String(text) => self.literal(node, text, path, used),
            Value::Map(_) => self.referenced(node, path, used, direction),
            _ => {
                let message = format!("expected a secret, found {}", node.kind());
                self.error(node, path, message).help(HELP);
                None
            }
        };
        // The upstream chooses its own.
        let is_short = |text: &str| is_short(text, used);
        if direction != Direction::Sent && secret.as_ref().and_then(|secret| secret.expose(is_short)) == Some(true) {
            let message = format!("this secret is shorter than {SECRET_CHARS_MIN} characters, and can be guessed");
            self.findings.warning(node.place.clone(), path, message).code("secret-weak").help(WEAK_HELP);
        }
        secret
    }

    /// One secret, or a list of those that are good at the same time, as while one is replaced by another.
    pub(super) fn secrets(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Vec<Secret>> {
        let Value::List(items) = &node.value else {
            return self.secret(node, path, used, direction).map(|secret| vec![secret]);
        };
        if items.is_empty() {
            self.error(node, path, "the list is empty: nobody could send with it").help(HELP);
            return None;
        }
        let secret = |(index, item)| self.secret(item, &format!("{path}[{index}]"), used, direction);
        // Of each it is told what is wrong with it.
        items.iter().enumerate().map(secret).collect::<Vec<_>>().into_iter().collect()
    }

    /// A secret that is written out at `node`, as a whole or within something else.
    pub(super) fn literal(&mut self, node: &Node, text: &str, path: &str, used: Use) -> Option<Secret> {
        self.literal_else(node, text, path, used, HELP)
    }

    /// Like the one above, with another way to write it.
    pub(super) fn literal_else(
        &mut self,
        node: &Node,
        text: &str,
        path: &str,
        used: Use,
        help: &str,
    ) -> Option<Secret> {
        if text.starts_with("${") || text.starts_with("$(") {
            self.error(node, path, "variables are not expanded here").help("write { env: NAME }");
            return None;
        }
        if let Some(problem) = unusable(text, used) {
            self.error(node, path, format!("this secret {problem}"));
            return None;
        }
        match &node.place {
            Place::Flag(_) => {
                let message = "a secret on the command line can be seen by everyone on this machine";
                self.findings.warning(node.place.clone(), path, message).code("secret-written-out").help(help);
            }
            Place::Environment(_) => {}
            place => {
                let message = "a secret is written out in this file";
                self.findings.warning(node.place.clone(), path, message).code("secret-written-out").help(help);
                if let Place::Text { source, .. } = place {
                    self.look_at_mode(Path::new(&source.name), node, path);
                }
            }
        }
        Some(Secret::new(text.to_owned()))
    }

    fn referenced(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Secret> {
        let mut fields = Fields::of(node, path, &mut self.findings)?;
        let env = fields.take_some("env");
        let file = fields.take_some("file");
        let sha256 = fields.take_some("sha256");
        let misnamed = fields.misnamed();
        fields.finish(&mut self.findings);
        match one_of([env, file, sha256]) {
            Some((0, node)) => self.environment_secret(node, &format!("{path}.env"), used),
            Some((1, node)) => self.file_secret(node, &format!("{path}.file"), used),
            Some((_, node)) => self.hash_secret(node, &format!("{path}.sha256"), direction),
            None if misnamed => None,
            None => {
                self.error(node, path, "expected exactly one of `env`, `file` and `sha256`").help(HELP);
                None
            }
        }
    }

    fn environment_secret(&mut self, node: &Node, path: &str, used: Use) -> Option<Secret> {
        let name = fields::string(node, path, &mut self.findings)?;
        if !is_environment_variable(&name) {
            self.error(node, path, "this is no name of an environment variable")
                .help("`env` takes the variable's name, not its value");
            return None;
        }
        let problem = match self.inputs.environment.get(&name) {
            None if may_be_secret(&name) => {
                let problem = "the environment variable that is named here is not set".to_owned();
                return self.unavailable(node, path, name, problem, NAME_HELP);
            }
            None => format!("the environment variable {name} is not set"),
            Some(text) if text.is_empty() => format!("the environment variable {name} is empty"),
            Some(text) => match unusable(text, used) {
                None => {
                    self.secret_variables.insert(name.clone());
                    return Some(Secret::new(text.clone()).read_from(Origin::Variable(name)));
                }
                Some(problem) => format!("the value of the environment variable {name} {problem}"),
            },
        };
        self.unavailable(node, path, name, problem, "set it in the environment of this command, or use { file: PATH }")
    }

    fn file_secret(&mut self, node: &Node, path: &str, used: Use) -> Option<Secret> {
        let file = PathBuf::from(fields::string(node, path, &mut self.findings)?);
        match read_secret(&file, used) {
            Ok(text) => {
                self.look_at_mode(&file, node, path);
                let secret = Secret::new(text).read_from(Origin::File(file.clone()));
                self.secret_files.0.push(SecretFile { path: file, used, secret: secret.clone(), problem: None });
                Some(secret)
            }
            Err(problem) => {
                let problem = format!("the secret file {} can't be used: {problem}", file.display());
                self.unavailable(node, path, problem.clone(), problem, FILE_HELP)
            }
        }
    }

    /// A secret that every user of the machine may read is none. Group may: platforms mount secrets so.
    fn look_at_mode(&mut self, file: &Path, node: &Node, path: &str) {
        let mode = std::fs::metadata(file).map_or(0, |found| found.permissions().mode() & 0o777);
        if self.inputs.secrets == Secrets::Required && mode & 0o007 != 0 {
            let message =
                format!("every user of this machine may read the secret in {} (mode {mode:04o})", file.display());
            // A configuration may have several secrets written out.
            if self.findings.iter().any(|finding| finding.message == message) {
                return;
            }
            let help = format!("chmod o= {}", file.display());
            self.findings.warning(node.place.clone(), path, message).code("file-exposed").help(help);
        }
    }

    fn hash_secret(&mut self, node: &Node, path: &str, direction: Direction) -> Option<Secret> {
        let problem = match direction {
            Direction::Checked => None,
            Direction::Sent => Some("a hash can be checked against, but this secret must be sent"),
            Direction::Signs => Some("a hash can be checked against, but a signature is made with the secret itself"),
        };
        if let Some(problem) = problem {
            self.error(node, path, problem).help(HELP);
            return None;
        }
        let decoded = node.as_str().and_then(decode_sha256);
        if decoded.is_none() {
            self.error(node, path, "expected a SHA-256 as 64 hexadecimal digits")
                .help("printf %s \"$TOKEN\" | sha256sum");
        }
        decoded.map(Secret::from_sha256)
    }

    /// A secret that is not at hand: an error where it is needed, told once for each `what`; else one that matches nothing
    /// and can't be sent.
    fn unavailable(&mut self, node: &Node, path: &str, what: String, problem: String, help: &str) -> Option<Secret> {
        if self.inputs.secrets == Secrets::Optional {
            return Some(Secret::from_sha256([0; 32]));
        }
        if !self.missing.contains(&what) {
            self.error(node, path, problem).code("secret-missing").help(help);
            self.missing.push(what);
        }
        None
    }
}

/// The one that is set; of several, the one that a variable or flag laid over the file's.
pub(super) fn one_of<const N: usize>(alternatives: [Option<&Node>; N]) -> Option<(usize, &Node)> {
    let set: Vec<(usize, &Node)> =
        alternatives.into_iter().enumerate().filter_map(|(index, node)| Some((index, node?))).collect();
    let laid_over = |node: &Node| matches!(node.place, Place::Environment(_) | Place::Flag(_));
    match set.as_slice() {
        [only] => Some(*only),
        several => {
            let mut over = several.iter().filter(|(_, node)| laid_over(node));
            over.next().copied().filter(|_| over.next().is_none())
        }
    }
}

/// The key of a signature too: who sees one request tries keys on it at leisure.
fn is_short(secret: &str, used: Use) -> bool {
    let length = match used {
        Use::WebhookKey => key_of(secret).map_or(0, |key| key.len()),
        _ => secret.chars().count(),
    };
    length < SECRET_CHARS_MIN
}

/// The secret in a file, without the line break that editors and `echo` put behind it.
fn read_secret(path: &Path, used: Use) -> Result<String, String> {
    let mut text = read_text(path, SECRET_BYTES_MAX).map_err(|unreadable| unreadable.problem)?;
    let length = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(length);
    match unusable(&text, used) {
        None => Ok(text),
        Some(problem) => Err(format!("what it holds {problem}")),
    }
}

/// The reason why a text can't be such a secret, without the text; none if it can.
pub(super) fn unusable(text: &str, used: Use) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Some("is longer than 8192 bytes");
    }
    if text.contains(['\n', '\r', '\0']) {
        return Some("is more than one line");
    }
    if text.trim() != text {
        return Some("begins or ends with a blank");
    }
    match used {
        Use::Bearer if text.starts_with("Bearer ") || text.starts_with("bearer ") => {
            Some("begins with `Bearer`, which is added to it anyway")
        }
        Use::Bearer if !text.bytes().all(|b| b.is_ascii_graphic()) => {
            Some("holds characters that no bearer token can hold (only visible ASCII without blanks)")
        }
        Use::Header if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
            Some("holds characters that no header can hold (only visible ASCII)")
        }
        Use::WebhookKey if key_of(text).is_none() => Some("is no base64, with `whsec_` before it or without"),
        Use::Query | Use::Proxy | Use::Password if text.chars().any(char::is_control) => {
            Some("holds control characters")
        }
        Use::Proxy if !text.contains(':') => Some("has no `:` between user and password"),
        _ => None,
    }
}

/// Tells the name of an environment variable from a secret put in its place.
fn is_environment_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Tells the usual spelling of a variable, which may be shown, from what may be a secret in its place.
fn may_be_secret(name: &str) -> bool {
    let is_usual = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.len() > NAME_BYTES_MAX || !name.bytes().all(is_usual)
}

fn decode_sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

const HELP: &str = "write { env: NAME } or { file: PATH }";
const WEAK_HELP: &str = "take a long random one, such as `openssl rand -hex 32` makes";
/// With fewer characters, also random ones, a secret is within reach of those who try for long.
const SECRET_CHARS_MIN: usize = 16;
const NAME_HELP: &str = "`env` takes the variable's name, not its value: where this is the secret itself, put it into a \
                         variable and name that";
const FILE_HELP: &str = "the file holds the secret alone, readable by the relay's user";
/// More than names of variables have, and less than some tokens.
const NAME_BYTES_MAX: usize = 64;
/// Longer than any token; a header of more is refused by most servers.
const SECRET_BYTES_MAX: u64 = 8192;
