//! Handshakes: a sender that wants a text of its payload back before it sends alerts.

use serde_json::{Value, json};

use crate::rules::budget::Budget;
use crate::rules::path::{JsonPath, Scope};

/// The `handshake` of a source.
#[derive(Debug)]
pub struct Handshake {
    /// Where the text is. A payload without it is decided by the rules.
    pub path: JsonPath,
    /// The member of a JSON object in which the text goes back; none sends it as it is.
    pub member: Option<String>,
}

/// The text that a sender wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    Text(String),
    Json(String),
}

impl Handshake {
    /// Tells a payload that is answered without being decided.
    pub fn is_asked_for(&self, payload: &Value) -> bool {
        self.echo(payload).is_some()
    }

    /// The answer to a payload that asks for one: a single text of bearable length at the path.
    pub(super) fn echo(&self, payload: &Value) -> Option<Echo> {
        let budget = Budget::new(STEPS_MAX);
        let nodes = self.path.select(Scope { element: payload, root: payload, budget: &budget });
        let [Value::String(text)] = nodes.as_slice() else {
            return None;
        };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        Some(match &self.member {
            None => Echo::Text(text.clone()),
            Some(member) => Echo::Json(json!({ member.as_str(): text }).to_string()),
        })
    }
}

/// Challenges have some tens of characters.
const TEXT_BYTES_MAX: usize = 4_096;
const STEPS_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(path: &str, member: Option<&str>) -> Handshake {
        Handshake { path: JsonPath::parse(path).unwrap(), member: member.map(str::to_owned) }
    }

    #[test]
    fn the_text_at_the_path_goes_back() {
        let plain = handshake("$.challenge", None);
        let asks = json!({"type": "url_verification", "challenge": "3eZbrw1a"});
        assert_eq!(plain.echo(&asks), Some(Echo::Text("3eZbrw1a".into())));
        let within = handshake("$[0].data.validationCode", Some("validationResponse"));
        let asks = json!([{"data": {"validationCode": "a\"b"}}]);
        assert_eq!(within.echo(&asks), Some(Echo::Json(r#"{"validationResponse":"a\"b"}"#.into())));
    }

    #[test]
    fn an_alert_is_no_handshake() {
        for payload in [
            json!({"id": "e1", "state": "CRITICAL"}),
            json!({"challenge": null}),
            json!({"challenge": ""}),
            json!({"challenge": 7}),
            json!({"challenge": {"a": "b"}}),
            json!({"challenge": "x".repeat(TEXT_BYTES_MAX + 1)}),
            json!(["challenge"]),
        ] {
            assert_eq!(handshake("$.challenge", None).echo(&payload), None, "{payload}");
        }
        assert_eq!(handshake("$..challenge", None).echo(&json!([{"challenge": "a"}, {"challenge": "b"}])), None);
    }
}
