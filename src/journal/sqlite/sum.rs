//! Checksums of stored rows, so that nothing altered by a disk or by memory is ever sent.
//!
//! CRC-32C detects every single changed bit and every burst of up to 32 bits, and misses one in four thousand million
//! other changes; a processor computes it faster than it copies. It is made for accidents: an attacker who can alter
//! the file can update the checksum too, and is kept out by file permissions.
//!
//! An event has two: one for the part of its row that never changes, and one for its state, so that an update sums a
//! few words. Both include the event's number, so that no row, state or body passes for another's.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::event::{Damage, EventId, Outcome, State};

/// The part of an event's or refused payload's row that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed<'r> {
    pub(super) id: EventId,
    pub(super) source: &'r str,
    pub(super) action: Option<&'r str>,
    pub(super) incident_key: Option<&'r str>,
    pub(super) rule: Option<&'r str>,
    pub(super) novelty: Option<&'r str>,
    /// Of an event the time of its acknowledgement; of a refused payload the time at which its request came.
    pub(super) received_at: i64,
    pub(super) request: &'r str,
    pub(super) update_hash: Option<i64>,
    pub(super) occurrence: Option<&'r str>,
    pub(super) past_occurrence: Option<&'r str>,
    pub(super) replay_of: Option<i64>,
    pub(super) charset: Option<&'r str>,
    pub(super) priority: Option<&'r str>,
    pub(super) sender_request: Option<&'r str>,
}

/// The part of a row that changes, without the count of duplicates, the row with its raw body and the later event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: State,
    pub(super) outcome: Option<Outcome>,
    pub(super) reason: Option<String>,
    pub(super) attempts: u32,
    pub(super) settled_at: Option<i64>,
    pub(super) tried_since: Option<i64>,
    pub(super) retry_at: Option<i64>,
    pub(super) tried_ms: Option<i64>,
    pub(super) asked_ms: Option<i64>,
    pub(super) bytes: u64,
}

/// The state of an incident key whose last event is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyState<'r> {
    pub(super) id: EventId,
    pub(super) source: &'r str,
    pub(super) incident_key: &'r str,
    pub(super) action: &'r str,
    pub(super) rule: Option<&'r str>,
    pub(super) received_at: i64,
    pub(super) update_hash: i64,
    pub(super) occurrence: Option<&'r str>,
    pub(super) past_occurrence: Option<&'r str>,
    pub(super) outcome: Option<&'r str>,
    pub(super) reason: Option<&'r str>,
    pub(super) attempts: u32,
    pub(super) settled_at: Option<i64>,
}

impl Fixed<'_> {
    /// Reads the columns [`FIXED`] of a row from index `first` on, and verifies their checksum.
    pub(super) fn read<'r>(row: &'r Row<'_>, first: usize) -> Result<Fixed<'r>, Damage> {
        Fixed::of(|column| row.get_ref(first + column).ok())
    }

    /// Reads [`FIXED`], and verifies its checksum. A row without one, written by an earlier version, must only be
    /// valid.
    pub(super) fn of<'r>(column: impl Fn(usize) -> Option<ValueRef<'r>>) -> Result<Fixed<'r>, Damage> {
        let fixed = Fixed::unchecked(&column).ok_or(Damage::Row)?;
        let sum = column(FIXED_COLUMNS).ok_or(Damage::Row)?;
        if is_sum(sum, || fixed.sum()) { Ok(fixed) } else { Err(Damage::Row) }
    }

    fn unchecked<'r>(column: &impl Fn(usize) -> Option<ValueRef<'r>>) -> Option<Fixed<'r>> {
        let text = |index| column(index)?.as_str().ok();
        let maybe = |index| column(index)?.as_str_or_null().ok();
        let number = |index| column(index)?.as_i64().ok();
        let maybe_number = |index| column(index)?.as_i64_or_null().ok();
        Some(Fixed {
            id: EventId(number(0)?.cast_unsigned()),
            source: text(1)?,
            action: maybe(2)?,
            incident_key: maybe(3)?,
            rule: maybe(4)?,
            novelty: maybe(5)?,
            received_at: number(6)?,
            request: text(7)?,
            update_hash: maybe_number(8)?,
            occurrence: maybe(9)?,
            past_occurrence: maybe(10)?,
            replay_of: maybe_number(11)?,
            charset: maybe(12)?,
            priority: maybe(13)?,
            sender_request: maybe(14)?,
        })
    }

    /// The checksum of these fields. An absent one adds nothing, so that a new column leaves the sums of older rows right.
    pub(super) fn sum(&self) -> i64 {
        Sum::of(b'e', self.id)
            .text(1, Some(self.source))
            .text(2, self.action)
            .text(3, self.incident_key)
            .text(4, self.rule)
            .text(5, self.novelty)
            .number(6, Some(self.received_at))
            .text(7, Some(self.request))
            .number(8, self.update_hash)
            .text(9, self.occurrence)
            .text(10, self.past_occurrence)
            .number(11, self.replay_of)
            .text(12, self.charset)
            .text(13, self.priority)
            .text(14, self.sender_request)
            .value()
    }
}

impl Standing {
    /// The state of a new row.
    pub(super) fn new(state: State, bytes: u64) -> Standing {
        Standing {
            state,
            outcome: None,
            reason: None,
            attempts: 0,
            settled_at: None,
            tried_since: None,
            retry_at: None,
            tried_ms: None,
            asked_ms: None,
            bytes,
        }
    }

    /// Reads the columns [`STANDING`] of a row from index `first` on, and verifies their checksum.
    pub(super) fn read(row: &Row<'_>, first: usize, id: EventId) -> Result<Standing, Damage> {
        Standing::of(id, |column| row.get_ref(first + column).ok())
    }

    /// Reads [`STANDING`], and verifies its checksum.
    pub(super) fn of<'r>(id: EventId, column: impl Fn(usize) -> Option<ValueRef<'r>>) -> Result<Standing, Damage> {
        let standing = Standing::unchecked(&column).ok_or(Damage::State)?;
        let sum = column(STANDING_COLUMNS).ok_or(Damage::State)?;
        if is_sum(sum, || standing.sum(id)) { Ok(standing) } else { Err(Damage::State) }
    }

    fn unchecked<'r>(column: &impl Fn(usize) -> Option<ValueRef<'r>>) -> Option<Standing> {
        let number = |index| column(index)?.as_i64().ok();
        let maybe_number = |index| column(index)?.as_i64_or_null().ok();
        let outcome = match column(1)?.as_str_or_null().ok()? {
            Some(word) => Some(word.parse().ok()?),
            None => None,
        };
        Some(Standing {
            state: column(0)?.as_str().ok()?.parse().ok()?,
            outcome,
            reason: column(2)?.as_str_or_null().ok()?.map(str::to_owned),
            attempts: number(3)?.try_into().ok()?,
            settled_at: maybe_number(4)?,
            tried_since: maybe_number(5)?,
            retry_at: maybe_number(6)?,
            tried_ms: maybe_number(7)?,
            asked_ms: maybe_number(8)?,
            bytes: number(9)?.try_into().ok()?,
        })
    }

    pub(super) fn sum(&self, id: EventId) -> i64 {
        Sum::of(b's', id)
            .text(1, Some(self.state.as_str()))
            .text(2, self.outcome.map(Outcome::as_str))
            .text(3, self.reason.as_deref())
            .number(4, Some(i64::from(self.attempts)))
            .number(5, self.settled_at)
            .number(6, self.tried_since)
            .number(7, self.retry_at)
            .number(8, Some(self.bytes.cast_signed()))
            .number(9, self.tried_ms)
            .number(10, self.asked_ms)
            .value()
    }
}

impl<'r> KeyState<'r> {
    /// The key's state after an event; none if the event can't set one.
    pub(super) fn of(fixed: &Fixed<'r>, standing: &'r Standing) -> Option<KeyState<'r>> {
        let (Some(action), Some(incident_key), State::Delivered) = (fixed.action, fixed.incident_key, standing.state)
        else {
            return None;
        };
        Some(KeyState {
            id: fixed.id,
            source: fixed.source,
            incident_key,
            action,
            rule: fixed.rule,
            received_at: fixed.received_at,
            update_hash: fixed.update_hash.unwrap_or(0),
            occurrence: fixed.occurrence,
            past_occurrence: fixed.past_occurrence,
            outcome: standing.outcome.map(Outcome::as_str),
            reason: standing.reason.as_deref(),
            attempts: standing.attempts,
            settled_at: standing.settled_at,
        })
    }

    /// Reads a row with the columns in the order of the fields and their checksum after them, and verifies it.
    pub(super) fn read(row: &'r Row<'_>) -> Result<KeyState<'r>, Damage> {
        KeyState::of_columns(|column| row.get_ref(column).ok())
    }

    /// Reads columns in the order of the fields with their checksum after them, and verifies it.
    pub(super) fn of_columns(column: impl Fn(usize) -> Option<ValueRef<'r>>) -> Result<KeyState<'r>, Damage> {
        let state = KeyState::unchecked(&column).ok_or(Damage::Row)?;
        let sum = column(KEY_STATE_COLUMNS).ok_or(Damage::Row)?;
        // Such rows always had a checksum.
        let matches = sum.as_i64().is_ok_and(|written| written == state.sum());
        if matches { Ok(state) } else { Err(Damage::Row) }
    }

    fn unchecked(column: &impl Fn(usize) -> Option<ValueRef<'r>>) -> Option<KeyState<'r>> {
        let text = |index| column(index)?.as_str().ok();
        let maybe = |index| column(index)?.as_str_or_null().ok();
        let number = |index| column(index)?.as_i64().ok();
        Some(KeyState {
            id: EventId(number(0)?.cast_unsigned()),
            source: text(1)?,
            incident_key: text(2)?,
            action: text(3)?,
            rule: maybe(4)?,
            received_at: number(5)?,
            update_hash: number(6)?,
            occurrence: maybe(7)?,
            past_occurrence: maybe(8)?,
            outcome: maybe(9)?,
            reason: maybe(10)?,
            attempts: number(11)?.try_into().ok()?,
            settled_at: column(12)?.as_i64_or_null().ok()?,
        })
    }

    /// An estimate of the row's size: its texts and about sixty bytes of numbers, on pages that are never quite full.
    pub(super) fn bytes(&self) -> u64 {
        let maybe = [self.rule, self.occurrence, self.past_occurrence, self.outcome, self.reason];
        let texts = [self.source, self.incident_key, self.action].into_iter().chain(maybe.into_iter().flatten());
        let bytes = 60 + texts.map(str::len).sum::<usize>() as u64;
        bytes + bytes / 4
    }

    pub(super) fn sum(&self) -> i64 {
        Sum::of(b'k', self.id)
            .text(1, Some(self.source))
            .text(2, Some(self.incident_key))
            .text(3, Some(self.action))
            .text(4, self.rule)
            .number(5, Some(self.received_at))
            .number(6, Some(self.update_hash))
            .text(7, self.occurrence)
            .text(8, self.past_occurrence)
            .text(9, self.outcome)
            .text(10, self.reason)
            .number(11, Some(i64::from(self.attempts)))
            .number(12, self.settled_at)
            .value()
    }
}

/// The checksum of a body; for a refused payload, of its errors and element.
pub(super) fn of_content(id: EventId, body: &[u8], element: Option<&[u8]>) -> i64 {
    Sum::of(b'c', id).bytes(1, Some(body)).bytes(2, element).value()
}

/// The checksum of a request's raw body. It moves between the rows of its request, so it includes the request's id.
pub(super) fn of_raw(request: &str, raw: &[u8]) -> i64 {
    Sum(crc32c::crc32c(b"r")).text(1, Some(request)).bytes(2, Some(raw)).value()
}

/// The checksum of a block of the search index, with the events that it stands for.
pub(super) fn of_search_block(events: [i64; 3], data: &[u8]) -> i64 {
    let [first, last, since] = events.map(Some);
    Sum(crc32c::crc32c(b"s")).number(1, first).number(2, last).number(3, since).bytes(4, Some(data)).value()
}

/// Returns true if the column holds this checksum, or none.
pub(super) fn is_sum(column: ValueRef<'_>, sum: impl FnOnce() -> i64) -> bool {
    match column {
        ValueRef::Null => true,
        ValueRef::Integer(written) => written == sum(),
        _ => false,
    }
}

/// The SQL for the checksum in a column of contents. A version without checksums made none for the event either: if
/// only one is missing, it was lost.
pub(super) fn of_event_with_sum(column: &str) -> String {
    format!("coalesce({column}, iif(event.sum IS NULL, NULL, {NO_SUM}))")
}

/// A sum over fields, each with its number and its length, so that no two rows give the same bytes.
#[derive(Clone, Copy)]
struct Sum(u32);

impl Sum {
    fn of(kind: u8, id: EventId) -> Sum {
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&id.0.to_le_bytes());
        Sum(crc32c::crc32c(&bytes))
    }

    fn text(self, field: u8, text: Option<&str>) -> Sum {
        self.bytes(field, text.map(str::as_bytes))
    }

    fn number(self, field: u8, number: Option<i64>) -> Sum {
        self.bytes(field, number.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn bytes(self, field: u8, bytes: Option<&[u8]>) -> Sum {
        let Some(bytes) = bytes else {
            return self;
        };
        let mut head = [field; 9];
        head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        Sum(crc32c::crc32c_append(crc32c::crc32c_append(self.0, &head), bytes))
    }

    fn value(self) -> i64 {
        i64::from(self.0)
    }
}

/// Returns true if an event became a dead letter by damage.
pub(super) fn is_reason_of_damage(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason.starts_with("damaged: "))
}

/// A value that matches no checksum: those have 32 bits and are positive.
pub(super) const NO_SUM: i64 = -1;
/// The columns of [`Fixed`] and their checksum.
pub(super) const FIXED: &str = "event.id, event.source, event.action, event.incident_key, event.rule, event.novelty, \
                                event.received_at, event.request, event.update_hash, event.occurrence, \
                                event.past_occurrence, event.replay_of, event.charset, event.priority, event.sender_request, \
                                event.sum";
const FIXED_COLUMNS: usize = 15;
pub(super) const FIXED_READ: usize = FIXED_COLUMNS + 1;
/// The columns of [`Standing`] and their checksum.
pub(super) const STANDING: &str = "event.state, event.outcome, event.reason, event.attempts, event.settled_at, \
                                   event.tried_since, event.retry_at, event.tried_ms, event.asked_ms, event.bytes, \
                                   event.state_sum";
const STANDING_COLUMNS: usize = 10;
const KEY_STATE_COLUMNS: usize = 13;
pub(super) const STANDING_READ: usize = STANDING_COLUMNS + 1;
