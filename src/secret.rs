//! Secrets: held so that nothing can print them, and compared so that no clock can measure them.
//!
//! A [`Secret`] is a handle on a value that may change while the relay runs (a secret file that is
//! rotated); clones see the change. Reading files and environment is [`crate::config`]'s.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, digest};
use secrecy::{ExposeSecret, SecretString};

/// A secret value, shared and replaceable.
#[derive(Clone)]
pub struct Secret {
    held: Arc<ArcSwap<Held>>,
    origin: Option<Arc<Origin>>,
}

/// The place that a secret is read from, which a person may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment variable of this name, as the process started.
    Variable(String),
    /// Read again when it changes.
    File(PathBuf),
}

struct Held {
    /// None where only the hash is known (`sha256: …`).
    text: Option<SecretString>,
    sha256: [u8; 32],
}

impl Secret {
    /// A secret in clear text.
    pub fn new(text: String) -> Secret {
        Secret::holding(Held::of(text))
    }

    /// A secret of which only the SHA-256 is known: it can be checked, not sent.
    pub fn from_sha256(sha256: [u8; 32]) -> Secret {
        Secret::holding(Held { text: None, sha256 })
    }

    /// This value, with the place that it was read from.
    pub fn read_from(self, origin: Origin) -> Secret {
        Secret { origin: Some(Arc::new(origin)), ..self }
    }

    /// None where the secret is written out, or only its hash is known.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Takes another value, at once for every clone. Returns whether it differs from the one before.
    pub fn replace(&self, text: String) -> bool {
        let held = Arc::new(Held::of(text));
        self.held.swap(Arc::clone(&held)).sha256 != held.sha256
    }

    /// Compares `presented` with this secret. Both sides are hashed first, so that the time taken tells neither
    /// the content nor the length.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let presented = digest::digest(&digest::SHA256, presented);
        let expected = self.held.load().sha256;
        constant_time::verify_slices_are_equal(presented.as_ref(), &expected).is_ok()
    }

    /// The SHA-256 of the value of now, to notice another one.
    pub fn sha256(&self) -> [u8; 32] {
        self.held.load().sha256
    }

    /// The clear text, for the one place that sends it; none where only the hash is known.
    pub fn expose<T>(&self, with: impl FnOnce(&str) -> T) -> Option<T> {
        self.held.load().text.as_ref().map(|text| with(text.expose_secret()))
    }

    fn holding(held: Held) -> Secret {
        Secret { held: Arc::new(ArcSwap::from_pointee(held)), origin: None }
    }
}

impl Held {
    fn of(text: String) -> Held {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Held { text: Some(SecretString::from(text)), sha256 }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_matches() {
        let secret = Secret::new("correct horse".into());
        assert!(secret.matches(b"correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_checks_without_knowing_the_text() {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, b"s3cret").as_ref());
        let secret = Secret::from_sha256(sha256);
        assert!(secret.matches(b"s3cret"));
        assert_eq!(secret.expose(str::len), None);
    }

    #[test]
    fn a_replaced_value_is_seen_by_every_clone() {
        let secret = Secret::new("old".into());
        let clone = secret.clone();
        assert!(secret.replace("new".into()));
        assert!(!secret.replace("new".into()));
        assert!(clone.matches(b"new") && !clone.matches(b"old"));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    }
}
