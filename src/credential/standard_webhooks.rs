//! Standard Webhooks: HMAC-SHA256 over id, timestamp and body, in base64, of which a request may show several while its
//! sender changes keys.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

use super::hmac::{check_age, seconds};
use super::{Denied, RequestHead, Signature, Unsendable, only};
use crate::clock::WallTime;
use crate::secret::Secret;

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

/// The key of a secret, which is base64, usually behind `whsec_`; none if it is anything else.
pub fn key_of(secret: &str) -> Option<Vec<u8>> {
    let text = secret.strip_prefix(PREFIX).unwrap_or(secret);
    STANDARD_PAD_INDIFFERENT.decode(text).ok().filter(|key| !key.is_empty())
}

/// The signatures that the head of a request shows.
pub(super) fn signature(secret: &Secret, head: &RequestHead<'_>) -> Result<Signature, Denied> {
    let shown = only(head.headers, &SIGNATURE)?;
    let id = only(head.headers, &ID)?;
    let timestamp = only(head.headers, &TIMESTAMP)?;
    if id.is_empty() {
        return Err(Denied::Malformed);
    }
    // Other versions stand beside these: `v1a,` is a signature of another kind.
    let ours = shown.split(|byte| *byte == b' ').filter_map(|one| one.strip_prefix(b"v1,"));
    let presented: Vec<Vec<u8>> = ours.filter_map(|text| STANDARD_PAD_INDIFFERENT.decode(text).ok()).collect();
    if !presented.iter().any(|one| one.len() == digest::SHA256_OUTPUT_LEN) {
        return Err(Denied::Malformed);
    }
    check_age(timestamp, head.now, TOLERANCE)?;
    let key = secret.expose(key_of).flatten().ok_or(Denied::Wrong)?;
    let before = [id, b".", timestamp, b"."].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    Ok(Signature { key, before, after: Vec::new(), presented, id: Some(id.to_vec()) })
}

/// Puts id, timestamp and signature on a request that is to be sent.
pub(super) fn sign(
    secret: &Secret,
    headers: &mut HeaderMap,
    body: &[u8],
    id: &str,
    now: WallTime,
) -> Result<(), Unsendable> {
    let key = secret.expose(key_of).flatten().ok_or(Unsendable)?;
    let timestamp = seconds(now);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Unsendable);
    let values = [value(id)?, value(&timestamp)?, value(&format!("v1,{}", BASE64_STANDARD.encode(tag)))?];
    headers.extend([ID, TIMESTAMP, SIGNATURE].into_iter().zip(values));
    Ok(())
}

const PREFIX: &str = "whsec_";
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A request is good for so long before and after its timestamp.
const TOLERANCE: Duration = Duration::from_secs(300);

/// A timestamp from the end of the window that is still to come is good until the end of the one after it: a message is
/// remembered for as long.
pub const KEEP_MESSAGES: Duration = Duration::from_secs(600);
