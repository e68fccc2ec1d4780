//! HMAC over the body of a request, as many senders sign: the hash in a header, often with a timestamp that it covers.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Denied, RequestHead, Signature, Unsendable, only};
use crate::clock::WallTime;
use crate::secret::Secret;

/// A keyed hash of the body, and where and how a request shows it.
#[derive(Clone, Debug)]
pub struct Hmac {
    pub header: HeaderName,
    pub secret: Secret,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    /// Stands before the hash in its header.
    pub prefix: String,
    pub timestamp: Option<Timestamp>,
    pub signed: SignedText,
}

/// The time at which a request was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Holds it in seconds since 1970.
    pub header: HeaderName,
    /// A request is good for so long before it and after it.
    pub tolerance: Duration,
}

/// The hash under a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha1,
    Sha512,
}

/// The spelling of a hash in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
}

/// The text that is signed: the body, and what stands before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedText {
    before: Vec<Piece>,
    after: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Timestamp,
}

impl Hmac {
    /// The signature that the head of a request shows.
    pub(super) fn signature(&self, head: &RequestHead<'_>) -> Result<Signature, Denied> {
        let shown = only(head.headers, &self.header)?;
        let timestamp = match &self.timestamp {
            Some(Timestamp { header, .. }) => only(head.headers, header)?,
            None => &[],
        };
        let hash = shown.strip_prefix(self.prefix.as_bytes()).and_then(|hash| self.encoding.decode(hash));
        let hash = hash.filter(|hash| hash.len() == self.algorithm.hmac().tag_len()).ok_or(Denied::Malformed)?;
        if let Some(Timestamp { tolerance, .. }) = &self.timestamp {
            check_age(timestamp, head.now, *tolerance)?;
        }
        let SignedText { before, after } = &self.signed;
        let [before, after] = [before, after].map(|pieces| spelled(pieces, timestamp));
        Ok(Signature { key: self.key().ok_or(Denied::Wrong)?, before, after, presented: vec![hash], id: None })
    }

    /// Puts the signature on a request that is to be sent, and its timestamp.
    pub(super) fn sign(&self, headers: &mut HeaderMap, body: &[u8], now: WallTime) -> Result<(), Unsendable> {
        let timestamp = seconds(now);
        let SignedText { before, after } = &self.signed;
        let [before, after] = [before, after].map(|pieces| spelled(pieces, timestamp.as_bytes()));
        let tag = hmac::sign(&self.key().ok_or(Unsendable)?, &[&before, body, &after].concat());
        let shown = format!("{}{}", self.prefix, self.encoding.encode(tag.as_ref()));
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Unsendable);
        let (shown, timestamp) = (value(&shown)?, value(&timestamp)?);
        headers.insert(self.header.clone(), shown);
        if let Some(Timestamp { header, .. }) = &self.timestamp {
            headers.insert(header.clone(), timestamp);
        }
        Ok(())
    }

    /// None where only the hash of the secret is known.
    fn key(&self) -> Option<hmac::Key> {
        self.secret.expose(|text| hmac::Key::new(self.algorithm.hmac(), text.as_bytes()))
    }
}

impl Algorithm {
    /// As a configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            // Collisions of SHA-1 do not break HMAC with it, and some senders have nothing else.
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Encoding {
    /// As a configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
        }
    }

    fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => STANDARD_PAD_INDIFFERENT.decode(text).ok(),
        }
    }

    fn encode(self, hash: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(hash),
            Encoding::Base64 => BASE64_STANDARD.encode(hash),
        }
    }
}

impl SignedText {
    /// The body alone.
    pub fn body() -> SignedText {
        SignedText { before: Vec::new(), after: Vec::new() }
    }

    /// Reads a text with `{body}` once in it, and perhaps `{timestamp}`. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<SignedText, String> {
        let (mut before, mut pieces, mut rest) = (None, Vec::new(), text);
        while let Some((plain, placeholder)) = rest.split_once('{') {
            let (name, after) = placeholder.split_once('}').ok_or("a `{` in it is not closed")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.to_owned()));
            }
            match name {
                "timestamp" => pieces.push(Piece::Timestamp),
                "body" if before.is_none() => before = Some(std::mem::take(&mut pieces)),
                "body" => return Err("the body is in it twice".to_owned()),
                _ => return Err("it holds a placeholder that is not known here".to_owned()),
            }
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let before = before.ok_or("the body is not in it: such a signature would be right for any body")?;
        Ok(SignedText { before, after: pieces })
    }

    /// It covers the timestamp.
    pub fn has_timestamp(&self) -> bool {
        self.before.iter().chain(&self.after).any(|piece| *piece == Piece::Timestamp)
    }
}

/// As it was written: `{timestamp}.{body}`.
impl fmt::Display for SignedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = [&self.before, &self.after].map(|pieces| spelled(pieces, b"{timestamp}"));
        write!(f, "{}{{body}}{}", String::from_utf8_lossy(&before), String::from_utf8_lossy(&after))
    }
}

fn spelled(pieces: &[Piece], timestamp: &[u8]) -> Vec<u8> {
    let spelled = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.as_bytes(),
        Piece::Timestamp => timestamp,
    });
    spelled.collect::<Vec<_>>().concat()
}

/// A time as senders write it: in seconds since 1970.
pub(super) fn seconds(at: WallTime) -> String {
    at.0.div_euclid(1_000).to_string()
}

/// Checks that a timestamp in seconds since 1970 is no further from `now` than `tolerance`, to either side.
pub(super) fn check_age(timestamp: &[u8], now: WallTime, tolerance: Duration) -> Result<(), Denied> {
    // Digits alone: `parse` would take a sign too.
    let digits = str::from_utf8(timestamp).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let at: u64 = digits.and_then(|text| text.parse().ok()).ok_or(Denied::Malformed)?;
    // Wide enough for any timestamp: no difference of these overflows.
    let age_ms = i128::from(now.0) - i128::from(at) * 1_000;
    let tolerance_ms = i128::try_from(tolerance.as_millis()).unwrap_or(i128::MAX);
    match () {
        () if age_ms > tolerance_ms => Err(Denied::Expired),
        () if age_ms < -tolerance_ms => Err(Denied::Early),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::Credential;
    use crate::credential::signature::tests::{denied, signed};

    fn hmac(algorithm: Algorithm, secret: &str) -> Hmac {
        Hmac {
            header: HeaderName::from_static("x-signature"),
            secret: Secret::new(secret.to_owned()),
            algorithm,
            encoding: Encoding::Hex,
            prefix: String::new(),
            timestamp: None,
            signed: SignedText::body(),
        }
    }

    fn slack() -> Credential {
        Credential::Hmac(Hmac {
            header: HeaderName::from_static("x-slack-signature"),
            prefix: "v0=".to_owned(),
            timestamp: Some(Timestamp {
                header: HeaderName::from_static("x-slack-request-timestamp"),
                tolerance: Duration::from_secs(300),
            }),
            signed: SignedText::parse("v0:{timestamp}:{body}").unwrap(),
            ..hmac(Algorithm::Sha256, "8f742231b10e8888abcd99yyyzzz85a5")
        })
    }

    const SLACK_BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
        channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&\
        text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SLACK_SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const SLACK_SECOND: i64 = 1_531_420_618;

    /// RFC 4231, 4.2 and 4.3, and RFC 2202, 3, with the keys that are texts.
    #[test]
    fn the_hashes_of_the_specifications_are_right() {
        let rows = [
            (Algorithm::Sha256, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (Algorithm::Sha1, "b617318655057264e28bc0b6fb378c8ef146be00"),
            (
                Algorithm::Sha512,
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb\
                 61f1702e696c203a126854",
            ),
        ];
        for (algorithm, hash) in rows {
            let credential = Credential::Hmac(hmac(algorithm, &"\u{b}".repeat(20)));
            assert_eq!(denied(&credential, &[("x-signature", hash)], b"Hi There", 0), None, "{algorithm:?}");
        }
        let rows = [
            (Algorithm::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (Algorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                Algorithm::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d\
                 4a6b4b636e070a38bce737",
            ),
        ];
        for (algorithm, hash) in rows {
            let (credential, text) = (Credential::Hmac(hmac(algorithm, "Jefe")), b"what do ya want for nothing?");
            assert_eq!(denied(&credential, &[("x-signature", hash)], text, 0), None, "{algorithm:?}");
        }
    }

    #[test]
    fn the_published_examples_of_github_and_slack_are_taken() {
        let github = Credential::Hmac(Hmac {
            header: HeaderName::from_static("x-hub-signature-256"),
            prefix: "sha256=".to_owned(),
            ..hmac(Algorithm::Sha256, "It's a Secret to Everybody")
        });
        let shown = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(denied(&github, &[("x-hub-signature-256", shown)], b"Hello, World!", 0), None);
        let timestamp = SLACK_SECOND.to_string();
        let headers = [("x-slack-signature", SLACK_SIGNATURE), ("x-slack-request-timestamp", &timestamp)];
        assert_eq!(denied(&slack(), &headers, SLACK_BODY, SLACK_SECOND), None);
    }

    #[test]
    fn everything_else_is_denied() {
        let (right, at) = (SLACK_SIGNATURE, "1531420618");
        let hash = &right[3..];
        let [upper, cut, long, base64] = [
            hash.to_uppercase(),
            hash[..62].to_owned(),
            format!("{hash}00"),
            BASE64_STANDARD.encode(hex::decode(hash).unwrap()),
        ]
        .map(|hash| format!("v0={hash}"));
        let other = format!("v0={}", "0".repeat(64));
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [u8], i64, Option<Denied>);
        let rows: &[Row<'_>] = &[
            ("the right one", &[right], &[at], SLACK_BODY, 0, None),
            ("capitals, as some write hex", &[&upper], &[at], SLACK_BODY, 0, None),
            ("another body", &[right], &[at], b"{}", 0, Some(Denied::Wrong)),
            ("no body", &[right], &[at], b"", 0, Some(Denied::Wrong)),
            ("another hash", &[&other], &[at], SLACK_BODY, 0, Some(Denied::Wrong)),
            ("another timestamp", &[right], &["1531420619"], SLACK_BODY, 0, Some(Denied::Wrong)),
            ("the timestamp with a zero before it", &[right], &["01531420618"], SLACK_BODY, 0, Some(Denied::Wrong)),
            ("no signature", &[], &[at], SLACK_BODY, 0, Some(Denied::Missing)),
            ("no timestamp", &[right], &[], SLACK_BODY, 0, Some(Denied::Missing)),
            ("nothing", &[], &[], SLACK_BODY, 0, Some(Denied::Missing)),
            ("no prefix", &[hash], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("another prefix", &[&right.replace("v0=", "v1=")], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("the beginning of the hash", &[&cut], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("the hash and more", &[&long], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("the other encoding", &[&base64], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("an empty hash", &["v0="], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("an empty header", &[""], &[at], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("the signature twice", &[right, right], &[at], SLACK_BODY, 0, Some(Denied::Repeated)),
            ("the timestamp twice", &[right], &[at, at], SLACK_BODY, 0, Some(Denied::Repeated)),
            ("at the end of the window", &[right], &[at], SLACK_BODY, 300, None),
            ("after the window", &[right], &[at], SLACK_BODY, 301, Some(Denied::Expired)),
            ("at the beginning of the window", &[right], &[at], SLACK_BODY, -300, None),
            ("before the window", &[right], &[at], SLACK_BODY, -301, Some(Denied::Early)),
            ("a sign", &[right], &["+1531420618"], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("a time before 1970", &[right], &["-1"], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("a fraction", &[right], &["1531420618.0"], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("a blank", &[right], &[" "], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("no number", &[right], &[""], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("the largest number", &[right], &["18446744073709551615"], SLACK_BODY, 0, Some(Denied::Early)),
            ("a larger one", &[right], &["18446744073709551616"], SLACK_BODY, 0, Some(Denied::Malformed)),
            ("zero", &[right], &["0"], SLACK_BODY, 0, Some(Denied::Expired)),
        ];
        for (claim, signatures, timestamps, body, later, expected) in rows {
            let signatures = signatures.iter().map(|value| ("x-slack-signature", *value));
            let timestamps = timestamps.iter().map(|value| ("x-slack-request-timestamp", *value));
            let headers: Vec<_> = signatures.chain(timestamps).collect();
            assert_eq!(denied(&slack(), &headers, body, SLACK_SECOND + later), *expected, "{claim}");
        }
    }

    #[test]
    fn a_secret_of_which_only_the_hash_is_known_lets_nobody_in() {
        let unknown = Hmac { secret: Secret::from_sha256([0; 32]), ..hmac(Algorithm::Sha256, "") };
        let zeros = "0".repeat(64);
        assert_eq!(denied(&Credential::Hmac(unknown), &[("x-signature", &zeros)], b"{}", 0), Some(Denied::Wrong));
    }

    #[test]
    fn what_is_signed_is_read_as_it_is_written() {
        for text in [
            "{body}",
            "{timestamp}.{body}",
            "v0:{timestamp}:{body}",
            "{body}{timestamp}",
            "a{body}b",
            "{timestamp}{timestamp}{body}",
        ] {
            assert_eq!(SignedText::parse(text).unwrap().to_string(), text);
        }
        for (text, problem) in [
            ("", "not in it"),
            ("{timestamp}", "not in it"),
            ("body", "not in it"),
            ("{body}{body}", "twice"),
            ("{id}.{body}", "not known"),
            ("{Body}", "not known"),
            ("{body", "not closed"),
            ("{body}{", "not closed"),
        ] {
            assert!(SignedText::parse(text).unwrap_err().contains(problem), "{text}");
        }
    }

    proptest! {
        /// Also at the ends of what a clock can show and a header can hold.
        #[test]
        fn no_timestamp_overflows(text in "[0-9]{1,25}", now in any::<i64>(), tolerance in any::<u64>()) {
            let age = check_age(text.as_bytes(), WallTime(now), Duration::from_secs(tolerance));
            let is_number = text.parse::<u64>().is_ok();
            prop_assert_eq!(age == Err(Denied::Malformed), !is_number);
        }

        #[test]
        fn what_is_signed_is_right_for_its_body_alone(
            secret in "[!-~]{1,40}", body in prop::collection::vec(any::<u8>(), 0..100), at in 0_i64..4_000_000_000,
            flip in any::<prop::sample::Index>(), base64 in any::<bool>(),
        ) {
            let credential = Credential::Hmac(Hmac {
                encoding: if base64 { Encoding::Base64 } else { Encoding::Hex },
                timestamp: Some(Timestamp { header: HeaderName::from_static("x-at"), tolerance: Duration::from_secs(300) }),
                signed: SignedText::parse("{timestamp}.{body}").unwrap(),
                ..hmac(Algorithm::Sha512, &secret)
            });
            let headers = signed(&credential, &body, "", at);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            prop_assert_eq!(denied(&credential, &headers, &body, at), None);
            let mut altered = body.clone();
            match altered.is_empty() {
                true => altered.push(0),
                false => altered[flip.index(body.len())] ^= 1,
            }
            prop_assert_eq!(denied(&credential, &headers, &altered, at), Some(Denied::Wrong));
        }
    }
}
