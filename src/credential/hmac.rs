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
