//! Signatures of a body that is still to come: what the head of a request claims, checked once the body is there.

use std::fmt;

use aws_lc_rs::hmac::{Context, Key};
use aws_lc_rs::{constant_time, digest};

/// One or more keyed hashes that a request shows, of which one must be that of its body.
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

/// Without what it holds: whoever reads that can send the request again.
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// A message, known again by its id and its body together: a sender that gave one id to two messages loses neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(u128);

impl MessageId {
    pub(crate) fn of(id: &[u8], body: &[u8]) -> MessageId {
        let mut hash = digest::Context::new(&digest::SHA256);
        // The length first, so that no id runs on into a body.
        hash.update(&(id.len() as u64).to_be_bytes());
        hash.update(id);
        hash.update(body);
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finish().as_ref()[..16]);
        MessageId(u128::from_be_bytes(first))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use http::{HeaderMap, HeaderName};

    use crate::clock::WallTime;
    use crate::credential::{Credential, Denied, RequestHead, Shown};

    /// None where a request with these headers and this body, at this second, shows the credential.
    pub(in crate::credential) fn denied(
        credential: &Credential,
        headers: &[(&str, &str)],
        body: &[u8],
        second: i64,
    ) -> Option<Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let head = RequestHead { now: WallTime(second * 1_000), ..RequestHead::of_headers(&map) };
        match credential.check_head(&head) {
            Ok(Shown::Signed(signature)) => (!signature.is_of(body)).then_some(Denied::Wrong),
            Ok(Shown::Right) => None,
            Err(denied) => Some(denied),
        }
    }

    /// The headers of a request with this body, signed at this second.
    pub(in crate::credential) fn signed(
        credential: &Credential,
        body: &[u8],
        id: &str,
        second: i64,
    ) -> Vec<(String, String)> {
        let mut request = http::Request::new(());
        credential.present_with_body(&mut request, body, id, WallTime(second * 1_000)).unwrap();
        let headers = request.headers().iter();
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }
}
