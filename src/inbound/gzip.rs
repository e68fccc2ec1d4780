//! Compressed bodies: the codings that a source takes, and the unpacking of gzip.

use std::io::Read;

use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::body::BufferedBody;
use super::refusal::Refusal;
use crate::event::Violation;

/// The coding of a body, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// Refuses any other coding, and gzip where the source does not take it.
    pub(super) fn of(headers: &HeaderMap, takes_gzip: bool) -> Result<Coding, Refusal> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter().filter(|coding| !is_identity(coding));
        match (codings.next(), codings.next()) {
            (None, _) => Ok(Coding::Identity),
            (Some(coding), None) if takes_gzip && is_named_gzip(coding) => Ok(Coding::Gzip),
            _ => Err(Refusal::ContentEncoding { gzip: takes_gzip }),
        }
    }
}

/// Tells gzip by the bytes with which it begins (RFC 1952, 2.3.1): the magic number and the only method that there is.
pub(super) fn looks_packed(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b, 8])
}

fn is_identity(coding: &HeaderValue) -> bool {
    coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity")
}

/// RFC 9110, 8.4.1.3: the one is an older name of the other.
fn is_named_gzip(coding: &HeaderValue) -> bool {
    let coding = coding.as_bytes();
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// The reason why a body is not unpacked.
#[derive(Debug)]
pub(super) enum StaysPacked {
    Refused(Refusal),
    /// It is not what its headers say, in a sentence.
    Broken(String),
}

/// Unpacks a body, or its beginning. What comes out is bounded as a body that comes as it is, however little went in.
pub(super) fn unpack(packed: &BufferedBody, bytes_max: usize) -> Result<BufferedBody, StaysPacked> {
    let mut unpacked = packed.beside();
    let mut decoder = GzDecoder::new(&packed.bytes[..]);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => match decoder.into_inner() {
                [] => return Ok(unpacked.end(false)),
                next if looks_packed(next) => decoder = GzDecoder::new(next),
                rest => {
                    let problem = format!("its gzip is whole, and {} bytes that are no gzip follow it", rest.len());
                    return Err(StaysPacked::Broken(problem));
                }
            },
            Ok(read) => match unpacked.push(&piece[..read], bytes_max) {
                Ok(true) => {}
                Ok(false) => return Ok(unpacked.end(true)),
                Err(refusal) => return Err(StaysPacked::Refused(refusal)),
            },
            Err(error) => {
                let problem = format!("it is not the gzip that its Content-Encoding names: {error}");
                return Err(StaysPacked::Broken(problem));
            }
        }
    }
}

/// Unpacks a payload that was kept compressed, because its source took no gzip then; leaves any other as it is.
pub(super) fn of_kept(raw: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, Violation> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    match MultiGzDecoder::new(&raw[..]).take(most.saturating_add(1)).read_to_end(&mut unpacked) {
        Ok(read) if read <= bytes_max => Ok(unpacked),
        Ok(_) => {
            let problem = format!("what comes out of it is larger than {bytes_max} bytes, the `listen.max_body`");
            Err(Violation { path: "$".to_owned(), problem, found: None })
        }
        Err(_) => Ok(raw),
    }
}

/// The reason why a payload that was kept compressed can't be used yet.
pub(super) fn not_taken(source: &str) -> Violation {
    let problem = format!(
        "it is gzip, which this source does not take: write `accept_encoding: [gzip]` under `sources.{source}`, restart the \
         relay, and replay it again"
    );
    Violation { path: "$".to_owned(), problem, found: None }
}

const PIECE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The decoded bytes, and that they are all.
    fn unpacked(packed: &[u8], bytes_max: usize) -> Result<(Vec<u8>, bool), String> {
        let body = BufferedBody::for_test(packed, 1 << 20);
        match unpack(&body, bytes_max) {
            Ok(unpacked) => Ok((unpacked.bytes.to_vec(), !unpacked.cut_off)),
            Err(StaysPacked::Refused(refusal)) => Err(refusal.label().to_owned()),
            Err(StaysPacked::Broken(problem)) => Err(problem),
        }
    }

    #[test]
    fn a_coding_is_taken_where_the_source_says_so() {
        let judged = |taken: bool, codings: &[&str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(CONTENT_ENCODING, coding.parse().unwrap());
            }
            Coding::of(&headers, taken).map(|coding| coding == Coding::Gzip).map_err(|refusal| refusal.label())
        };
        for (codings, taken, not) in [
            (&[] as &[&str], Ok(false), Ok(false)),
            (&[""], Ok(false), Ok(false)),
            (&["Identity"], Ok(false), Ok(false)),
            (&["gzip"], Ok(true), Err("content_encoding")),
            (&["X-GZIP"], Ok(true), Err("content_encoding")),
            (&["identity", "gzip"], Ok(true), Err("content_encoding")),
            (&["br"], Err("content_encoding"), Err("content_encoding")),
            (&["identity, gzip"], Err("content_encoding"), Err("content_encoding")),
            (&["gzip", "gzip"], Err("content_encoding"), Err("content_encoding")),
            (&["identity", "zstd"], Err("content_encoding"), Err("content_encoding")),
        ] {
            assert_eq!((judged(true, codings), judged(false, codings)), (taken, not), "{codings:?}");
        }
    }

    #[test]
    fn what_comes_out_is_what_went_in_and_no_larger_than_a_body() {
        let long = "{\"id\": 7} ".repeat(10_000).into_bytes();
        assert_eq!(unpacked(&gzip(&long), long.len()), Ok((long.clone(), true)));
        let beginning = long[..long.len() - 1].to_vec();
        assert_eq!(unpacked(&gzip(&long), beginning.len()), Ok((beginning, false)));
        assert_eq!(unpacked(&[gzip(b"one"), gzip(b"two")].concat(), 6), Ok((b"onetwo".to_vec(), true)));
        assert_eq!(unpacked(&gzip(b""), 0), Ok((Vec::new(), true)));
    }

    #[test]
    fn what_was_kept_compressed_comes_out_and_all_else_stays() {
        assert_eq!(of_kept(gzip(b"{}"), 2).unwrap(), b"{}");
        assert!(of_kept(gzip(b"{} "), 2).unwrap_err().problem.contains("larger than 2 bytes"));
        for raw in [&b""[..], b"{}", b"a=b"] {
            assert_eq!(of_kept(raw.to_vec(), 100).unwrap(), raw);
        }
    }

    #[test]
    fn what_is_no_gzip_is_told() {
        let whole = gzip(b"{\"id\": 7}");
        let mut altered = whole.clone();
        let checksum = altered.len() - 8;
        altered[checksum] ^= 1;
        let cut = &whole[..whole.len() - 1];
        let longer = [&whole[..], b"more"].concat();
        let problem = unpacked(&longer, 1_000).unwrap_err();
        assert_eq!(problem, "its gzip is whole, and 4 bytes that are no gzip follow it");
        let cut_later = [&whole[..], cut].concat();
        for (claim, packed) in [
            ("nothing", &b""[..]),
            ("JSON", b"{\"id\": 7}"),
            ("a part", cut),
            ("altered", &altered),
            ("a second one in part", &cut_later),
        ] {
            let problem = unpacked(packed, 1_000).expect_err(claim);
            assert!(problem.contains("not the gzip"), "{claim}: {problem}");
        }
    }

    #[test]
    fn what_comes_out_takes_the_memory_of_bodies() {
        let text = vec![b' '; 4_000];
        let packed = gzip(&text);
        let enough = BufferedBody::for_test(&packed, packed.len() + text.len());
        assert_eq!(unpack(&enough, 1 << 20).unwrap().bytes, text);
        let little = BufferedBody::for_test(&packed, packed.len() + text.len() - 1);
        let Err(StaysPacked::Refused(refusal)) = unpack(&little, 1 << 20) else { panic!("it fits") };
        assert_eq!(refusal, Refusal::BodiesFull);
    }
}
