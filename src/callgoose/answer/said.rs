//! A reader for an answer's body: it finds the few fields that tell what the upstream did, even in a truncated body.
//!
//! It builds no tree and skips everything else, so that neither length nor depth costs anything. If a name occurs twice
//! the last one counts, as with most JSON readers.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The two parts of the documented body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) triggered: Part,
    pub(super) resolved: Part,
}

/// One part: done now, or done before. A missing or non-boolean field is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// `created` or `resolved`.
    pub(super) done: Option<bool>,
    pub(super) duplicate: Option<bool>,
    /// True if it was read to its end: a missing field then stays missing.
    pub(super) whole: bool,
}

/// The result of reading a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// One JSON value.
    Json(Said),
    /// The beginning of a JSON value, with the fields until it stopped.
    Beginning(Said),
    NotJson,
}

/// Reads a text, which must not be empty.
pub(super) fn read(text: &[u8]) -> Reading {
    let mut said = Said::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    match Node::Body(&mut said).deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => {
            // At the end of the body, a part that never came is complete too.
            said.triggered.whole = true;
            said.resolved.whole = true;
            Reading::Json(said)
        }
        Err(error) if error.is_eof() => Reading::Beginning(said),
        Err(_) => Reading::NotJson,
    }
}

/// A value in the body by its place, and the target for its content.
enum Node<'a> {
    Body(&'a mut Said),
    Part { part: &'a mut Part, done: &'static str },
    Flag(&'a mut Option<bool>),
    Other,
}

impl<'a> Node<'a> {
    /// The node for a member's value.
    fn member<'b>(&'b mut self, name: &str) -> Node<'b>
    where
        'a: 'b,
    {
        match self {
            Node::Body(said) => {
                let (part, done) = match name {
                    "triggered" => (&mut said.triggered, "created"),
                    "resolved" => (&mut said.resolved, "resolved"),
                    _ => return Node::Other,
                };
                *part = Part::default();
                Node::Part { part, done }
            }
            Node::Part { part, done } => {
                let flag = match name {
                    "duplicate" => &mut part.duplicate,
                    name if name == *done => &mut part.done,
                    _ => return Node::Other,
                };
                *flag = None;
                Node::Flag(flag)
            }
            Node::Flag(_) | Node::Other => Node::Other,
        }
    }

    /// Marks the value as read to its end.
    fn ended(self) {
        if let Node::Part { part, .. } = self {
            part.whole = true;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self {
            Node::Other => json.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            asked => json.deserialize_any(asked),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut members: M) -> Result<(), M::Error> {
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(self.member(&name))?;
        }
        self.ended();
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<(), S::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        self.ended();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        match self {
            Node::Flag(flag) => *flag = Some(value),
            other => other.ended(),
        }
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.ended();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.ended();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.ended();
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.ended();
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.ended();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The fields of the text parsed as a tree.
    fn in_tree(tree: &Value) -> Said {
        let part = |name: &str, done: &str| {
            let said = |word: &str| tree.get(name)?.get(word)?.as_bool();
            Part { done: said(done), duplicate: said("duplicate"), whole: true }
        };
        Said { triggered: part("triggered", "created"), resolved: part("resolved", "resolved") }
    }

    #[test]
    fn a_body_is_read_as_a_tree_of_it_would_be() {
        for body in [
            r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}}"#,
            r#"{"triggered":{"created":true,"created":false},"resolved":{}}"#,
            r#"{"triggered":{"created":true},"triggered":{"duplicate":true}}"#,
            r#"{"triggered":{"created":true},"triggered":null}"#,
            r#"{"triggered":{"created":true,"created":1}}"#,
            r#"{"tri\u0067gered":{"created":true}}"#,
            r#"{"triggered":[true,false]}"#,
            r#"[{"created":true},{"resolved":true}]"#,
            r#"[[true,false],[true,false]]"#,
            r#"{"triggered":{"created":"true","duplicate":true}}"#,
            r#"{"triggered":{"created":{"created":true},"resolved":true,"duplicate":[true]}}"#,
            r#"{"more":{"triggered":{"created":true}}}"#,
            r#"{"triggered":null,"resolved":{"resolved":null}}"#,
            r#"{"triggered":{"created":true},"more":[1,-1,1.5,"x",null,{}]}"#,
            " true\n",
            "null",
            "7",
            "-7",
            "7.5",
            r#""created""#,
        ] {
            let tree: Value = serde_json::from_str(body).unwrap();
            assert_eq!(read(body.as_bytes()), Reading::Json(in_tree(&tree)), "{body}");
        }
    }

    #[test]
    fn what_is_not_asked_for_may_be_as_deep_as_it_likes() {
        let deep = format!(r#"{{"a":{}{},"triggered":{{"created":true}}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let Reading::Json(said) = read(deep.as_bytes()) else { panic!("not read") };
        assert_eq!(said.triggered.done, Some(true));
        assert!(matches!(read("[".repeat(50_000).as_bytes()), Reading::Beginning(_)));
    }

    #[test]
    fn a_text_that_is_no_beginning_of_json_is_none() {
        for text in ["<html>", "OK", "{\"a\":1}}", "{} {}", "{a", "[1,]", "{\"a\" 1", "truth", "'x'"] {
            assert_eq!(read(text.as_bytes()), Reading::NotJson, "{text}");
        }
    }

    /// Bodies in which no name comes twice, with the members that count anywhere.
    fn body() -> impl Strategy<Value = String> {
        let other =
            prop_oneof![Just("null"), Just("1"), Just("\"}\\\"{\""), Just("[[],{}]"), Just("{\"created\":true}")];
        let flag = prop_oneof![4 => Just("true"), 4 => Just("false"), 1 => other.clone()];
        let part = |done: &'static str| {
            let members =
                (prop::option::of(flag.clone()), prop::option::of(flag.clone()), prop::option::of(other.clone()));
            members
                .prop_map(move |(first, second, more)| {
                    vec![(done, first), ("duplicate", second), ("more", more)]
                        .into_iter()
                        .filter_map(|(name, value)| Some(format!("\"{name}\": {}", value?)))
                        .collect::<Vec<_>>()
                })
                .prop_shuffle()
                .prop_map(|members| format!("{{{}}}", members.join(" , ")))
        };
        (prop::option::of(part("created")), prop::option::of(part("resolved")), prop::option::of(other))
            .prop_map(|(triggered, resolved, more)| {
                vec![("triggered", triggered), ("resolved", resolved), ("id", more.map(str::to_owned))]
                    .into_iter()
                    .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)))
                    .collect::<Vec<_>>()
            })
            .prop_shuffle()
            .prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    /// Returns true if the part that was read may still become the whole one.
    fn leads_to(part: Part, whole: Part) -> bool {
        let flag = |read: Option<bool>, whole| read.is_none() || read == whole;
        part == whole || !part.whole && flag(part.done, whole.done) && flag(part.duplicate, whole.duplicate)
    }

    proptest! {
        #[test]
        fn a_beginning_says_nothing_that_the_whole_takes_back(body in body()) {
            let Reading::Json(whole) = read(body.as_bytes()) else { panic!("not read: {body}") };
            prop_assert_eq!(whole, in_tree(&serde_json::from_str(&body).unwrap()));
            for end in 1..body.len() {
                let Reading::Beginning(said) = read(&body.as_bytes()[..end]) else { panic!("at {end}: {body}") };
                prop_assert!(leads_to(said.triggered, whole.triggered), "{} of {}", end, body);
                prop_assert!(leads_to(said.resolved, whole.resolved), "{} of {}", end, body);
            }
            for blank in 1..4 {
                prop_assert_eq!(read(format!("{body}{}", " ".repeat(blank)).as_bytes()), Reading::Json(whole));
            }
        }

        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 1..200)) {
            read(&text);
        }
    }
}
