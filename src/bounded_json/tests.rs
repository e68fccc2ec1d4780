use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The most memory that this takes at once.
fn memory(what: impl FnOnce()) -> usize {
    usize::try_from(allocation_counter::measure(what).bytes_max).unwrap()
}

/// Texts of about so many bytes that are as dense as can be.
fn dense(bytes: usize) -> Vec<(&'static str, String)> {
    let list = |item: &str| format!("[{}]", vec![item; bytes / (item.len() + 1)].join(","));
    let members = |count: usize| (0..count).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",");
    let nested = format!("{}{}", "[".repeat(126), "]".repeat(126));
    vec![
        ("numbers", list("0")),
        ("empty lists", list("[]")),
        ("empty objects", list("{}")),
        ("empty strings", list("\"\"")),
        ("lists of one", list("[0]")),
        ("objects of one", list("{\"a\":0}")),
        ("objects of four", list("{\"a\":0,\"b\":0,\"c\":0,\"d\":0}")),
        ("objects of eight", list(&format!("{{{}}}", members(8)))),
        ("objects of fifteen", list(&format!("{{{}}}", members(15)))),
        ("one object", format!("{{{}}}", members(bytes / 9))),
        ("one name again and again", format!("{{{}}}", vec!["\"a\":0"; bytes / 6].join(","))),
        ("nested lists", list(&nested)),
        ("nested objects", list(&format!("{}0{}", "{\"\":".repeat(126), "}".repeat(126)))),
        ("readings", list("[1700000000,1.5]")),
        ("labels", list("{\"name\":\"host\",\"value\":\"db-1\"}")),
        ("a long string", json!(["x".repeat(bytes)]).to_string()),
        ("a long string of escapes", format!("[\"{}\"]", "\\n".repeat(bytes / 2))),
        ("many strings of escapes", list(&format!("\"{}\"", "\\n".repeat(500)))),
        ("a long number", format!("[{}]", "1".repeat(300))),
        ("a long fraction", format!("[0.{}]", "1".repeat(bytes))),
        ("a long word", "x".repeat(bytes)),
        ("an open string", format!("[\"{}", "x".repeat(bytes))),
        ("open lists", format!("[{}", "[],".repeat(bytes / 3))),
        ("much too deep", "[".repeat(bytes)),
        ("closed more often than opened", "]".repeat(bytes)),
    ]
}

#[test]
fn no_text_takes_more_than_ten_times_its_size() {
    for bytes in [256 * 1024, 1024 * 1024] {
        for (claim, text) in dense(bytes) {
            let took = memory(|| drop(read(text.as_bytes(), Room::of(text.len()))));
            assert!(took <= Room::of(text.len()).0, "{claim}: {took} bytes for {}", text.len());
        }
    }
}

#[test]
fn a_short_text_takes_no_more_than_the_room_of_a_short_one_however_dense_it_is() {
    for (claim, text) in dense(ROOM_MIN / WORST - 300) {
        let took = memory(|| drop(read(text.as_bytes(), Room::of(text.len()))));
        assert!(took <= ROOM_MIN, "{claim}: {took}");
        assert!(!matches!(read(text.as_bytes(), Room::of(text.len())), Err(Unread::TooDense { .. })), "{claim}");
    }
}

#[test]
fn no_text_of_up_to_25_kib_is_too_dense() {
    for (claim, text) in dense(25 * 1024 - 300) {
        assert!(text.len() <= 25 * 1024, "{claim}: {}", text.len());
        assert!(!matches!(read(text.as_bytes(), Room::of(text.len())), Err(Unread::TooDense { .. })), "{claim}");
    }
}

#[test]
fn a_long_list_of_small_objects_as_alerts_have_them_is_read() {
    let object = r#"{"a":"web-01","b":"disk /var","c":"91 percent"}"#;
    assert_eq!(object.len(), 47);
    for count in [2_000, 20_000] {
        let text = format!("[{}]", vec![object; count].join(","));
        let mut read_it = false;
        let took = memory(|| read_it = read(text.as_bytes(), Room::of(text.len())).is_ok());
        assert!(read_it && took <= Room::of(text.len()).0, "{count}: {took} bytes for {}", text.len());
    }
}

#[test]
fn what_is_refused_is_told_by_the_byte_up_to_which_there_is_room() {
    for (claim, text) in dense(256 * 1024) {
        let Err(Unread::TooDense { at }) = read(text.as_bytes(), Room::of(text.len())) else { continue };
        assert!(at > text.len() / 20 && at < text.len(), "{claim}: {at} of {}", text.len());
    }
    let refused = |text: &str| matches!(read(text.as_bytes(), Room::of(text.len())), Err(Unread::TooDense { .. }));
    let told: Vec<&str> = dense(256 * 1024).iter().filter(|(_, text)| refused(text)).map(|(claim, _)| *claim).collect();
    assert!(
        told.contains(&"numbers") && told.contains(&"objects of one") && !told.contains(&"a long string"),
        "{told:?}"
    );
    assert!(read(b"[0,0]", Room(0)).is_err(), "nothing is left");
}

#[test]
fn a_value_leaves_the_text_in_it_what_it_does_not_take_itself() {
    for (_, text) in dense(20_000) {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
        let (mut weight, mut least) = (0, 0);
        weigh(&value, &mut weight, &mut least);
        let took = memory(|| drop(std::hint::black_box(value.clone())));
        assert!(weight >= took, "{weight} for {took}: {:.40}", text);
        assert!(least <= text.len() || value.is_object(), "{least} of {}: {:.40}", text.len(), text);
    }
    let text = format!("[{}]", "{\"a\":0},".repeat(40_000)).replace(",]", "]");
    let value = json!({"Message": text});
    let took = memory(|| drop(read(text.as_bytes(), Room::within(&value))));
    assert!(took + text.len() <= Room::of(text.len() + 14).0, "{took}");
    let wrapped = json!({"Message": "{\"a\": 1}"});
    assert_eq!(read(b"{\"a\": 1}", Room::within(&wrapped)).unwrap(), json!({"a": 1}));
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![any::<String>(), "[\"\\\\/,:{}\\[\\] a]{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 9, move |inner| {
        let members = prop::collection::vec((text.clone(), inner.clone()), 0..20);
        prop_oneof![
            prop::collection::vec(inner, 0..20).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Reads with sizes, however short the text is.
fn counted(text: &[u8]) -> Option<Value> {
    let sizes = sizes(text, Room(usize::MAX)).unwrap();
    let mut sizes = sizes.iter();
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Tree(&mut sizes).deserialize(&mut json).ok()?;
    json.end().ok().map(|()| value)
}

proptest! {
    #[test]
    fn it_reads_what_serde_json_reads_each_container_in_its_exact_size(value in values()) {
        for text in [value.to_string(), format!("{value:#}")] {
            let mut read = None;
            let bound = {
                let room = Room(usize::MAX);
                let mut count = Count { sizes: Vec::new(), open: Vec::new(), left: room.0, scratch: 0 };
                let mut at = 0;
                while let Some(byte) = text.as_bytes().get(at) {
                    let rest = &text.as_bytes()[at..];
                    at += match byte {
                        b' ' | b'\n' | b':' => 1,
                        b'[' | b'{' => count.begin(*byte == b'{').unwrap(),
                        b']' | b'}' => count.end().unwrap(),
                        b',' => count.next().unwrap(),
                        b'"' => count.string(rest).unwrap(),
                        _ => count.word(rest).unwrap(),
                    };
                }
                room.0 - count.left
            };
            let took = memory(|| read = counted(text.as_bytes()));
            prop_assert!(took <= bound + COUNTING, "{} of {}: {}", took, bound, text);
            prop_assert_eq!(read, serde_json::from_str(&text).ok());
        }
    }

    #[test]
    fn it_refuses_what_serde_json_refuses(text in "([\\[\\]{},:\"\\\\0e.\\- ]|true|nul|\"a\":){0,30}") {
        prop_assert_eq!(counted(text.as_bytes()), serde_json::from_str(&text).ok());
    }
}
