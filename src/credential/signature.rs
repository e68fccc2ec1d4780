//! Signatures of a body that is still to come: what the head of a request claims, checked once the body is there.

use aws_lc_rs::constant_time;
use aws_lc_rs::hmac::{Context, Key};

use super::standard_webhooks::MessageId;

/// One or more keyed hashes that a request shows, of which one must be that of its body.
#[derive(Debug)]
pub struct Signature {
    pub(super) key: Key,
    /// The signed bytes before the body and after it.
    pub(super) before: Vec<u8>,
    pub(super) after: Vec<u8>,
    pub(super) presented: Vec<Vec<u8>>,
    /// The id of the message, where the signature covers one.
    pub(super) id: Option<Vec<u8>>,
}

impl Signature {
    /// Compares all that is presented with the hash of the whole body as it came, in a time that does not tell which is
    /// right or how nearly.
    pub fn is_of(&self, body: &[u8]) -> bool {
        let mut context = Context::with_key(&self.key);
        [&self.before, body, &self.after].into_iter().for_each(|part| context.update(part));
        let tag = context.sign();
        let is_tag = |presented: &Vec<u8>| constant_time::verify_slices_are_equal(tag.as_ref(), presented).is_ok();
        self.presented.iter().fold(false, |any, presented| is_tag(presented) | any)
    }

    /// The message by which a repeat of it is known, once the signature was found to be right.
    pub fn message(&self, body: &[u8]) -> Option<MessageId> {
        self.id.as_deref().map(|id| MessageId::of(id, body))
    }
}
