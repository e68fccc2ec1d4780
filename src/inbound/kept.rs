//! The repairs of a payload that is kept, found out by reading it again as it was read then.

use super::payload::read_payload;
use super::refusal::UNREAD;
use super::{Accept, Decoded};
use crate::lenient_json::{JsonReading, Repairs};

/// The repairs without which a kept payload could not have been decided, whatever its source takes today; those in a text
/// that `unwrap` read are not among them. `refused_for`: the reason of its refusal, if it was refused. Some reasons say that
/// it was not read.
pub(crate) fn repairs_of_kept(raw: &[u8], charset: Option<&str>, refused_for: Option<&str>) -> Repairs {
    if refused_for.is_some_and(|reason| UNREAD.contains(&reason)) {
        return Repairs::NONE;
    }
    let accept = Accept { json: JsonReading::Lenient, form: true, ..Accept::default() };
    read_payload(raw, charset, accept).map_or(Repairs::NONE, |Decoded { repairs, .. }| repairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient_json::Repair;

    #[test]
    fn only_what_was_decided_was_repaired() {
        let broken = b"{\"id\": \"Ger\xe4t\",}";
        let repaired = [Repair::Windows1252, Repair::TrailingComma].as_slice();
        for (raw, charset, refused_for, expected) in [
            (broken.as_slice(), None, None, repaired),
            (broken.as_slice(), Some("windows-1252"), None, &repaired[1..]),
            (broken.as_slice(), None, Some("unprocessable"), repaired),
            // A dead letter's reason is about its delivery.
            (broken.as_slice(), None, Some("http_422"), repaired),
            (broken.as_slice(), None, Some("not_json"), &[]),
            (broken.as_slice(), None, Some("body_too_large"), &[]),
            (br#"{"id": "x"}"#, None, None, &[]),
            (b"id=x&state=DOWN", None, None, &[]),
        ] {
            let found: Vec<Repair> = repairs_of_kept(raw, charset, refused_for).iter().collect();
            assert_eq!(found, expected, "{} {charset:?} {refused_for:?}", raw.escape_ascii());
        }
    }
}
