//! The trace that an event belongs to, by W3C Trace Context Level 1 (https://www.w3.org/TR/trace-context-1/): read from
//! the headers of its sender, kept with the event, put on its calls.
//!
//! Only what was understood goes on, written anew: a header that the relay sends holds no byte that it did not check.
//! Headers that are not valid are as good as none. The relay records no spans: it takes the sampling as it comes, and
//! samples nothing of a trace that it begins.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The id of a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span, one piece of work within a trace: 8 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// A trace, with what its sender said of it. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    id: TraceId,
    /// The sender's span; none in a trace that the relay began.
    sender_span: Option<SpanId>,
    /// The sender may have recorded its span, and asks others to do so.
    is_sampled: bool,
    /// The sender's `tracestate`: checked, without optional spaces, at most [`STATE_BYTES_MAX`].
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Begins a trace. `random` is another number each time.
    pub fn begin(random: u128) -> TraceContext {
        let id = TraceId(random.max(1).to_be_bytes());
        TraceContext { id, sender_span: None, is_sampled: false, state: None }
    }

    /// The trace that a sender names; none if it names none, several, or one that is not valid.
    pub fn of_headers(headers: &HeaderMap) -> Option<TraceContext> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let context = traceparent(value.as_bytes().trim_ascii())?;
        let state = tracestate(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes));
        Some(TraceContext { state, ..context })
    }

    pub fn id(&self) -> TraceId {
        self.id
    }

    pub fn sender_span(&self) -> Option<SpanId> {
        self.sender_span
    }

    /// Puts the trace on a request, which is the work of `span`.
    pub fn put_on(&self, span: SpanId, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.traceparent(span)) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(Ok(value)) = self.state.as_deref().map(HeaderValue::from_str) {
            headers.insert(TRACESTATE, value);
        }
    }

    fn traceparent(&self, span: SpanId) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex::encode_to_slice(self.id.0, &mut text[3..35]).expect("two digits a byte");
        hex::encode_to_slice(span.0, &mut text[36..52]).expect("two digits a byte");
        text[54] += u8::from(self.is_sampled);
        text
    }

    /// Writes the trace for the journal: its id, and if a sender named it that one's span, the flags and `tracestate`.
    pub fn store<'b>(&self, buffer: &'b mut [u8; STORED_BYTES_MAX]) -> &'b [u8] {
        buffer[..16].copy_from_slice(&self.id.0);
        let Some(span) = self.sender_span else {
            return &buffer[..16];
        };
        buffer[16..24].copy_from_slice(&span.0);
        buffer[24] = u8::from(self.is_sampled);
        let state = self.state.as_deref().unwrap_or_default().as_bytes();
        let end = STORED_HEAD_BYTES + state.len();
        buffer[STORED_HEAD_BYTES..end].copy_from_slice(state);
        &buffer[..end]
    }

    /// Reads what [`TraceContext::store`] wrote; none if it is damaged beyond sense.
    pub fn of_stored(stored: &[u8]) -> Option<TraceContext> {
        let (id, rest) = stored.split_first_chunk()?;
        let id = TraceId::of(*id)?;
        if rest.is_empty() {
            return Some(TraceContext { id, sender_span: None, is_sampled: false, state: None });
        }
        let (span, rest) = rest.split_first_chunk()?;
        let (flags, state) = rest.split_first()?;
        let (sender_span, is_sampled) = (Some(SpanId::of(*span)?), flags & SAMPLED != 0);
        Some(TraceContext { id, sender_span, is_sampled, state: tracestate(std::iter::once(state)) })
    }

    /// The bytes of `tracestate`, which are on the heap.
    pub fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.len())
    }
}

impl TraceId {
    fn of(bytes: [u8; 16]) -> Option<TraceId> {
        (bytes != [0; 16]).then_some(TraceId(bytes))
    }
}

impl SpanId {
    fn of(bytes: [u8; 8]) -> Option<SpanId> {
        (bytes != [0; 8]).then_some(SpanId(bytes))
    }

    /// Makes an id. `random` is another number each time.
    pub fn new(random: u64) -> SpanId {
        SpanId(random.max(1).to_be_bytes())
    }
}

/// Reads a `traceparent`. Of a version that is not known yet the part that it shares with version 00 is used.
fn traceparent(value: &[u8]) -> Option<TraceContext> {
    let (fields, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let [version] = digits(&fields[..2])?;
    let is_whole = match version {
        0x00 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|next| *next == b'-'),
    };
    if !is_whole || [2, 35, 52].iter().any(|at| fields[*at] != b'-') {
        return None;
    }
    let [flags] = digits(&fields[53..])?;
    Some(TraceContext {
        id: TraceId::of(digits(&fields[3..35])?)?,
        sender_span: Some(SpanId::of(digits(&fields[36..52])?)?),
        // All other flags are reserved, and must be sent as zero.
        is_sampled: flags & SAMPLED != 0,
        state: None,
    })
}

/// The bytes that hexadecimal digits stand for, which must be in lower case.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Reads the values of `tracestate` as one list; none if it is empty, not valid, or longer than is passed on.
fn tracestate<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<Arc<str>> {
    let (mut list, mut keys) = (Vec::new(), Vec::new());
    let members = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    for member in members.filter(|member| !member.is_empty()) {
        let at = member.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&member[..at], &member[at + 1..]);
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MEMBERS_MAX {
            return None;
        }
        keys.push(key);
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(member);
        if list.len() > STATE_BYTES_MAX {
            return None;
        }
    }
    let list = std::str::from_utf8(&list).ok().filter(|list| !list.is_empty())?;
    Some(Arc::from(list))
}

/// The name of a system, or of a tenant and its system with `@` between them.
fn is_key(key: &[u8]) -> bool {
    let is_name = |name: &[u8], bytes_max: usize, may_begin: fn(&u8) -> bool| {
        let is_of_name = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        name.first().is_some_and(may_begin) && name.len() <= bytes_max && name.iter().all(is_of_name)
    };
    let tenant_begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match key.iter().position(|byte| *byte == b'@') {
        None => is_name(key, 256, u8::is_ascii_lowercase),
        Some(at) => is_name(&key[..at], 241, tenant_begins) && is_name(&key[at + 1..], 14, u8::is_ascii_lowercase),
    }
}

fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len()) && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(byte))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl serde::Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for SpanId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is written in a header.
impl FromStr for TraceId {
    type Err = ();

    fn from_str(text: &str) -> Result<TraceId, ()> {
        digits(text.as_bytes()).and_then(TraceId::of).ok_or(())
    }
}

/// The most that [`TraceContext::store`] writes.
pub const STORED_BYTES_MAX: usize = STORED_HEAD_BYTES + STATE_BYTES_MAX;
const STORED_HEAD_BYTES: usize = 16 + 8 + 1;
/// A `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;
/// As much of `tracestate` as everybody should pass on; a longer one may be dropped.
const STATE_BYTES_MAX: usize = 512;
const MEMBERS_MAX: usize = 32;
/// The bit of the flags that says so.
const SAMPLED: u8 = 0b1;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "12345678901234567890123456789012";
    const SPAN: &str = "1234567890123456";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        all.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    /// The headers that a call gets, for those of a request: the value of each, or an empty text.
    fn passed_on(all: &[(&'static str, &str)]) -> Option<[String; 2]> {
        let context = TraceContext::of_headers(&headers(all))?;
        let mut sent = HeaderMap::new();
        context.put_on(SpanId::new(0xabc), &mut sent);
        Some(["traceparent", "tracestate"].map(|name| {
            assert!(sent.get_all(name).iter().count() <= 1);
            sent.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        }))
    }

    /// The table of the W3C's own tests for services, with the rows that it lacks.
    #[test]
    fn a_traceparent_is_taken_as_the_recommendation_says_and_no_other() {
        let valid = format!("00-{ID}-{SPAN}-01");
        for (taken, value) in [
            (true, valid.clone()),
            (true, format!("\t {valid} \t")),
            (true, format!("cc-{ID}-{SPAN}-01")),
            (true, format!("cc-{ID}-{SPAN}-01-what-the-future-will-be-like")),
            (true, format!("01-{ID}-{SPAN}-01-")),
            (false, format!("cc-{ID}-{SPAN}-01.what-the-future-will-be-like")),
            (false, format!("cc-{ID}-{SPAN}-0")),
            (false, format!("ff-{ID}-{SPAN}-01")),
            (false, format!("00-{ID}-{SPAN}-01.")),
            (false, format!("00-{ID}-{SPAN}-01-what-the-future-will-be-like")),
            (false, format!(".0-{ID}-{SPAN}-01")),
            (false, format!("0.-{ID}-{SPAN}-01")),
            (false, format!("CC-{ID}-{SPAN}-01")),
            (false, format!("000-{ID}-{SPAN}-01")),
            (false, format!("0000-{ID}-{SPAN}-01")),
            (false, format!("0-{ID}-{SPAN}-01")),
            (false, format!("00-{}-{SPAN}-01", "0".repeat(32))),
            (false, format!("00-.{}-{SPAN}-01", &ID[1..])),
            (false, format!("00-{}.-{SPAN}-01", &ID[1..])),
            (false, format!("00-{}A-{SPAN}-01", &ID[1..])),
            (false, format!("00-{ID}3-{SPAN}-01")),
            (false, format!("00-{}-{SPAN}-01", &ID[1..])),
            (false, format!("00-{ID}-{}-01", "0".repeat(16))),
            (false, format!("00-{ID}-.{}-01", &SPAN[1..])),
            (false, format!("00-{ID}-{}.-01", &SPAN[1..])),
            (false, format!("00-{ID}-{}F-01", &SPAN[1..])),
            (false, format!("00-{ID}-{SPAN}7-01")),
            (false, format!("00-{ID}-{}-01", &SPAN[1..])),
            (false, format!("00-{ID}-{SPAN}-.0")),
            (false, format!("00-{ID}-{SPAN}-0.")),
            (false, format!("00-{ID}-{SPAN}-0A")),
            (false, format!("00-{ID}-{SPAN}-001")),
            (false, format!("00-{ID}-{SPAN}-1")),
            (false, format!("00_{ID}-{SPAN}-01")),
            (false, format!("00-{ID}_{SPAN}-01")),
            (false, format!("00-{ID}-{SPAN}_01")),
            (false, format!("{valid},{valid}")),
            (false, format!("00-{}é-{SPAN}-01", &ID[2..])),
            (false, String::new()),
        ] {
            let expected = taken.then(|| [format!("00-{ID}-0000000000000abc-01"), String::new()]);
            assert_eq!(passed_on(&[("traceparent", &value)]), expected, "{value:?}");
        }
        assert_eq!(passed_on(&[("traceparent", &valid), ("traceparent", &valid)]), None, "which of them?");
        assert_eq!(passed_on(&[("trace-parent", &valid)]), None);
        assert_eq!(passed_on(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn of_the_flags_only_the_sampling_goes_on() {
        for (flags, sent) in [("00", "00"), ("01", "01"), ("02", "00"), ("ff", "01"), ("fe", "00")] {
            let value = format!("00-{ID}-{SPAN}-{flags}");
            let [traceparent, _] = passed_on(&[("traceparent", &value)]).unwrap();
            assert!(traceparent.ends_with(&format!("-{sent}")), "{flags}: {traceparent}");
        }
    }

    /// The `tracestate` of a call, for those of a request.
    fn state_passed_on(values: &[&str]) -> String {
        let traceparent = format!("00-{ID}-{SPAN}-00");
        let states = values.iter().map(|value| ("tracestate", *value));
        let all: Vec<_> = std::iter::once(("traceparent", traceparent.as_str())).chain(states).collect();
        let [sent, state] = passed_on(&all).expect("the trace itself is not affected");
        assert!(sent.contains(ID), "{values:?}: {sent}");
        state
    }

    fn members(count: usize) -> String {
        (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",")
    }

    /// A valid list of so many bytes.
    fn long(bytes: usize) -> String {
        format!("a={},b={}", "x".repeat(256), "x".repeat(bytes - 256 - 5))
    }

    fn tenant(tenant: usize, system: usize) -> String {
        format!("{}@{}=1", "a".repeat(tenant), "b".repeat(system))
    }

    fn with_key(bytes: usize) -> String {
        format!("{}=1", "z".repeat(bytes))
    }

    #[test]
    fn a_tracestate_goes_on_if_it_is_valid_and_small() {
        for (values, sent) in [
            (&["foo=1,bar=2"][..], "foo=1,bar=2"),
            (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
            (&["\t foo=1 \t", "", " , "], "foo=1"),
            (&["foo=1,bar=2", "rojo=1"], "foo=1,bar=2,rojo=1"),
            (&["foo=  1"], "foo=  1"),
            (&[""], ""),
        ] {
            assert_eq!(state_passed_on(values), sent, "{values:?}");
        }
        let value: String = (' '..='~').filter(|character| !",=".contains(*character)).collect();
        let characters = format!("abcdefghijklmnopqrstuvwxyz0123456789_-*/={value}");
        let largest = [tenant(241, 14), with_key(256), members(32), long(512)];
        let ordinary = ["fw529@dt=FfRiJW5j", "5a@dt=1"].map(str::to_owned);
        for valid in [characters].iter().chain(&largest).chain(&ordinary) {
            assert_eq!(state_passed_on(&[valid]), *valid);
        }
        let too_large = [tenant(242, 1), tenant(1, 15), with_key(257), members(33), long(513), long(256 + 5 + 257)];
        for invalid in [
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "5foo=1",
            "foo=1=2",
            "foo=a\tb",
            "foo=é",
            "foo@=1,bar=2",
            "@foo=1,bar=2",
            "foo@@bar=1,bar=2",
            "foo@bar@baz=1,bar=2",
            "foo=1,foo=1",
            "foo=1,foo=2",
        ]
        .into_iter()
        .chain(too_large.iter().map(String::as_str))
        {
            assert_eq!(state_passed_on(&[invalid]), "", "{invalid}");
        }
        assert_eq!(state_passed_on(&["foo=1", "foo=2"]), "");
    }

    #[test]
    fn a_trace_that_the_relay_begins_is_valid_and_not_sampled() {
        for random in [0, 1, u128::MAX] {
            let context = TraceContext::begin(random);
            let mut sent = HeaderMap::new();
            context.put_on(SpanId::new(0), &mut sent);
            assert!(!sent.contains_key("tracestate"));
            let text = sent["traceparent"].to_str().unwrap();
            assert!(text.starts_with(&format!("00-{}-", context.id())) && text.ends_with("-00"), "{text}");
            let again = TraceContext::of_headers(&sent).expect("it is valid");
            assert_eq!((again.id(), again.sender_span()), (context.id(), Some(SpanId::new(1))));
            assert_eq!(context.id().to_string().parse(), Ok(context.id()));
        }
    }

    #[test]
    fn what_is_damaged_in_the_journal_is_no_trace_or_another_one_and_nothing_worse() {
        let whole = TraceContext::of_headers(&headers(&[
            ("traceparent", &format!("00-{ID}-{SPAN}-01")),
            ("tracestate", "foo=1"),
        ]))
        .unwrap();
        let mut buffer = [0; STORED_BYTES_MAX];
        let stored = whole.store(&mut buffer).to_vec();
        for length in 0..stored.len() {
            let read = TraceContext::of_stored(&stored[..length]);
            assert_eq!(read.is_some(), length == 16 || length >= STORED_HEAD_BYTES, "{length}");
        }
        let mut damaged = stored;
        *damaged.last_mut().unwrap() = b'\n';
        let read = TraceContext::of_stored(&damaged).unwrap();
        assert_eq!((read.id(), read.state_bytes()), (whole.id(), 0), "no line break gets into a header");
        assert_eq!(TraceContext::of_stored(&[0; 16]), None);
    }

    proptest! {
        #[test]
        fn what_is_sent_or_stored_is_read_as_the_same(
            id in 1..=u128::MAX,
            span in 1..=u64::MAX,
            sampled in any::<bool>(),
            state in prop::collection::btree_map("[a-z][a-z0-9_*/-]{0,9}(@[a-z])?", "[!-+\\--<>-~]{1,9}", 0..6),
        ) {
            let state = state.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
            let traceparent = format!("00-{id:032x}-{span:016x}-{:02x}", u8::from(sampled));
            let all = headers(&[("traceparent", &traceparent), ("tracestate", &state)]);
            let context = TraceContext::of_headers(&all).unwrap();
            let mut sent = HeaderMap::new();
            context.put_on(SpanId::new(span), &mut sent);
            prop_assert_eq!(&sent["traceparent"], &traceparent);
            prop_assert_eq!(sent.get("tracestate").map_or("", |value| value.to_str().unwrap()), &state);
            prop_assert_eq!(TraceContext::of_headers(&sent), Some(context.clone()));
            let mut buffer = [0; STORED_BYTES_MAX];
            prop_assert_eq!(TraceContext::of_stored(context.store(&mut buffer)), Some(context));
        }
    }
}
