//! Standard Webhooks: HMAC-SHA256 over id, timestamp and body, in base64, of which a request may show several while its
//! sender changes keys.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::hmac::{check_age, seconds};
use super::{Denied, RequestHead, Signature, Unsendable, only};
use crate::clock::WallTime;
use crate::secret::Secret;

/// The key of a secret, which is base64, usually behind `whsec_`; none if it is anything else.
pub(crate) fn key_of(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = secret.strip_prefix(PREFIX).unwrap_or(secret);
    STANDARD_PAD_INDIFFERENT.decode(text).ok().map(Zeroizing::new).filter(|key| !key.is_empty())
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
pub(crate) const KEEP_MESSAGES: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::signature::tests::{denied, signed};
    use crate::credential::{Credential, MessageId, Shown};

    // The example of the reference implementations.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MESSAGE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECOND: i64 = 1_614_265_330;
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const RIGHT: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn credential(secret: &str) -> Credential {
        Credential::StandardWebhooks(Secret::new(secret.to_owned()))
    }

    #[test]
    fn the_published_example_is_taken_and_made() {
        let headers = [("webhook-id", MESSAGE), ("webhook-timestamp", "1614265330"), ("webhook-signature", RIGHT)];
        for secret in [SECRET, &SECRET["whsec_".len()..]] {
            assert_eq!(denied(&credential(secret), &headers, BODY, SECOND), None);
            let made = signed(&credential(secret), BODY, MESSAGE, SECOND);
            assert_eq!(made, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn everything_else_is_denied() {
        let wrong = format!("v1,{}", BASE64_STANDARD.encode([0; 32]));
        let [before, after, hex] = [
            format!("{wrong} v1a,AAAA {RIGHT}"),
            format!("{RIGHT} {wrong}"),
            format!("v1,{}", hex::encode(STANDARD_PAD_INDIFFERENT.decode(&RIGHT[3..]).unwrap())),
        ];
        let (at, id) = ("1614265330", MESSAGE);
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [u8], i64, Option<Denied>);
        let rows: &[Row<'_>] = &[
            ("the right one", &[id], &[at], &[RIGHT], BODY, 0, None),
            ("the right one after others", &[id], &[at], &[&before], BODY, 0, None),
            ("the right one before another", &[id], &[at], &[&after], BODY, 0, None),
            ("without padding", &[id], &[at], &[RIGHT.trim_end_matches('=')], BODY, 0, None),
            ("another key's", &[id], &[at], &[&wrong], BODY, 0, Some(Denied::Wrong)),
            ("another body", &[id], &[at], &[RIGHT], b"{}", 0, Some(Denied::Wrong)),
            ("another id", &["msg_x"], &[at], &[RIGHT], BODY, 0, Some(Denied::Wrong)),
            ("another timestamp", &[id], &["1614265331"], &[RIGHT], BODY, 0, Some(Denied::Wrong)),
            ("no id", &[], &[at], &[RIGHT], BODY, 0, Some(Denied::Missing)),
            ("no timestamp", &[id], &[], &[RIGHT], BODY, 0, Some(Denied::Missing)),
            ("no signature", &[id], &[at], &[], BODY, 0, Some(Denied::Missing)),
            ("an empty id", &[""], &[at], &[RIGHT], BODY, 0, Some(Denied::Malformed)),
            ("an empty signature", &[id], &[at], &[""], BODY, 0, Some(Denied::Malformed)),
            ("no version", &[id], &[at], &[&RIGHT[3..]], BODY, 0, Some(Denied::Malformed)),
            ("another version", &[id], &[at], &[&RIGHT.replace("v1", "v1a")], BODY, 0, Some(Denied::Malformed)),
            ("another encoding", &[id], &[at], &[&hex], BODY, 0, Some(Denied::Malformed)),
            ("cut off", &[id], &[at], &[&RIGHT[..RIGHT.len() - 8]], BODY, 0, Some(Denied::Malformed)),
            ("two headers", &[id], &[at], &[RIGHT, RIGHT], BODY, 0, Some(Denied::Repeated)),
            ("two ids", &[id, id], &[at], &[RIGHT], BODY, 0, Some(Denied::Repeated)),
            ("two timestamps", &[id], &[at, at], &[RIGHT], BODY, 0, Some(Denied::Repeated)),
            ("at the end of the window", &[id], &[at], &[RIGHT], BODY, 300, None),
            ("after the window", &[id], &[at], &[RIGHT], BODY, 301, Some(Denied::Expired)),
            ("at the beginning of the window", &[id], &[at], &[RIGHT], BODY, -300, None),
            ("before the window", &[id], &[at], &[RIGHT], BODY, -301, Some(Denied::Early)),
            (
                "a timestamp that overflows",
                &[id],
                &["99999999999999999999"],
                &[RIGHT],
                BODY,
                0,
                Some(Denied::Malformed),
            ),
            ("the largest timestamp", &[id], &["18446744073709551615"], &[RIGHT], BODY, 0, Some(Denied::Early)),
        ];
        for (claim, ids, timestamps, signatures, body, later, expected) in rows {
            let headers: Vec<_> = ids
                .iter()
                .map(|value| ("webhook-id", *value))
                .chain(timestamps.iter().map(|value| ("webhook-timestamp", *value)))
                .chain(signatures.iter().map(|value| ("webhook-signature", *value)))
                .collect();
            assert_eq!(denied(&credential(SECRET), &headers, body, SECOND + later), *expected, "{claim}");
        }
    }

    #[test]
    fn a_secret_is_base64() {
        for (secret, length) in [
            (SECRET, Some(24)),
            (&SECRET[6..], Some(24)),
            ("whsec_", None),
            ("", None),
            ("whsec_MfKQ9r8GKY!", None),
            ("whsk_MfKQ9r8G", None),
        ] {
            assert_eq!(key_of(secret).map(|key| key.len()), length, "{secret}");
        }
    }

    #[test]
    fn a_message_is_remembered_for_as_long_as_any_of_its_timestamps_is_good() {
        assert_eq!(KEEP_MESSAGES, TOLERANCE * 2);
        let headers = signed(&credential(SECRET), BODY, MESSAGE, SECOND);
        let mut map = HeaderMap::new();
        map.extend(headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        }));
        let head = RequestHead { now: WallTime(SECOND * 1_000), ..RequestHead::of_headers(&map) };
        let Ok(Shown::Signed(signature)) = credential(SECRET).check_head(&head) else { panic!() };
        assert_eq!(format!("{signature:?}"), "Signature(…)", "nothing that can be sent again");
        assert_eq!(signature.message(BODY), Some(MessageId::of(MESSAGE.as_bytes(), BODY)));
    }
}
