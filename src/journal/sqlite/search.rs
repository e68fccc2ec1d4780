//! Text search without an index: a bounded part of the journal at a time, newest first.
//!
//! The connection is released between two parts, so that other queries wait for one part at most.

use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use rusqlite::{Connection, OptionalExtension, Row};

use super::event_list::{Filter, Page, SUMMARY, Searched, Summary, TRACE, Texts, first_error, replays, summary};
use super::values::{event, sql, trace};
use super::{Error, Reader};
use crate::clock::WallTime;
use crate::event::EventId;
use crate::trace_context::TraceId;

/// The limits of one page of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) events: usize,
    pub(super) time: Duration,
}

/// The compiled search texts.
struct SearchPatterns {
    key: Option<Regex>,
    payload: Option<Regex>,
    request: Option<String>,
    /// The text for the request, if it may be the id of a trace, in letters of either case.
    trace: Option<TraceId>,
}

/// A row to search.
struct Candidate {
    id: EventId,
    found: Option<Summary>,
    received_at: WallTime,
    without_payload: bool,
}

impl Texts {
    pub fn is_empty(&self) -> bool {
        *self == Texts::default()
    }

    /// Describes the problem with a text that can't be searched for.
    pub fn check(&self) -> Result<(), String> {
        for (name, text) in [("key_contains", &self.key), ("search", &self.payload), ("request", &self.request)] {
            match text {
                Some(text) if text.is_empty() => return Err(format!("`{name}` takes a text; it is empty")),
                Some(text) if text.len() > TEXT_BYTES_MAX => {
                    return Err(format!("`{name}` takes at most {TEXT_BYTES_MAX} bytes; it has {}", text.len()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Reader {
    /// Lists the events that match a filter and contain its texts, newest first.
    pub fn search(&self, filter: &Filter) -> Result<Page, Error> {
        self.search_within(filter, Bounds { events: EVENTS_MAX, time: TIME_MAX })
    }

    pub(super) fn search_within(&self, filter: &Filter, bounds: Bounds) -> Result<Page, Error> {
        let (started, patterns) = (Instant::now(), SearchPatterns::new(&filter.texts)?);
        let limit = filter.limit();
        let mut filter = filter.clone();
        let mut events = Vec::new();
        let mut searched = Searched { looked_at: 0, without_payload: 0, back_to: None, stopped: false };
        loop {
            let most = EVENTS_PER_LOCK.min(bounds.events - searched.looked_at);
            let candidates = self.with(|connection| patterns.next_part(connection, &filter, most))?;
            let all = candidates.len() < most;
            for candidate in candidates {
                searched.looked_at += 1;
                searched.without_payload += usize::from(candidate.without_payload);
                searched.back_to = Some(candidate.received_at.rfc3339());
                filter.after = Some(candidate.id);
                events.extend(candidate.found);
                if events.len() == limit {
                    let next = filter.after.map(|last| last.to_string());
                    return Ok(Page { events, next, searched: Some(searched) });
                }
            }
            if all {
                return Ok(Page { events, next: None, searched: Some(searched) });
            }
            if searched.looked_at >= bounds.events || started.elapsed() >= bounds.time {
                searched.stopped = true;
                let next = filter.after.map(|last| last.to_string());
                return Ok(Page { events, next, searched: Some(searched) });
            }
        }
    }
}

impl SearchPatterns {
    fn new(texts: &Texts) -> Result<SearchPatterns, Error> {
        let pattern = |forms: Vec<String>| {
            let pattern: Vec<String> = forms.iter().map(|form| regex::escape(form)).collect();
            let built = RegexBuilder::new(&pattern.join("|")).case_insensitive(true).build();
            built.map_err(|error| Error::Fault(format!("the text can't be searched for: {error}")))
        };
        Ok(SearchPatterns {
            key: texts.key.clone().map(|text| pattern(vec![text])).transpose()?,
            payload: texts.payload.as_deref().map(|text| pattern(forms(text))).transpose()?,
            request: texts.request.clone(),
            trace: texts.request.as_deref().and_then(|text| text.to_ascii_lowercase().parse().ok()),
        })
    }

    /// The next events that match the filter, with those that contain the texts marked.
    fn next_part(
        &self,
        connection: &Connection,
        filter: &Filter,
        most: usize,
    ) -> Result<Vec<Candidate>, rusqlite::Error> {
        let query = format!(
            "SELECT {SUMMARY}, request, sender_request, raw_in, charset FROM event WHERE {} ORDER BY id DESC LIMIT ?9",
            filter.condition()
        );
        let mut statement = connection.prepare_cached(&query)?;
        let mut rows = statement.query(filter.parameters(i64::try_from(most).unwrap_or(i64::MAX)))?;
        let mut candidates = Vec::new();
        while let Some(row) = rows.next()? {
            candidates.push(self.candidate(connection, row)?);
        }
        Ok(candidates)
    }

    fn candidate(&self, connection: &Connection, row: &Row<'_>) -> Result<Candidate, rusqlite::Error> {
        let id = event(row.get(0)?);
        let text = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_str_or_null().unwrap_or_default());
        let holds = |pattern: &Option<Regex>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.is_match(text.as_bytes())))
        };
        let asked_for = |request: &String| {
            let is_request = [text(REQUEST)?, text(REQUEST + 1)?].contains(&Some(request.as_str()));
            let is_trace = self.trace.is_some() && trace(row, TRACE)?.map(|trace| trace.id()) == self.trace;
            Ok::<_, rusqlite::Error>(is_request || is_trace)
        };
        let mut candidate = Candidate {
            id,
            found: None,
            received_at: WallTime(row.get(RECEIVED_AT).unwrap_or(0)),
            without_payload: false,
        };
        if !holds(&self.key, text(INCIDENT_KEY)?) || !self.request.as_ref().map_or(Ok(true), asked_for)? {
            return Ok(candidate);
        }
        if let Some(pattern) = &self.payload {
            match payload(connection, pattern, id, event(row.get(REQUEST + 2).unwrap_or(0)), text(REQUEST + 3)?)? {
                Some(true) => {}
                Some(false) => return Ok(candidate),
                None => {
                    candidate.without_payload = true;
                    return Ok(candidate);
                }
            }
        }
        let mut found = summary(row)?;
        found.error = first_error(connection, &found)?;
        found.replayed_by = replays(connection, &found)?;
        candidate.found = Some(found);
        Ok(candidate)
    }
}

/// Returns true if the payload of an event contains the text; none if it is not kept. A batch's raw body says nothing
/// about a single event, so for those the sent body and the refused element are searched.
fn payload(
    connection: &Connection,
    pattern: &Regex,
    id: EventId,
    raw_in: EventId,
    charset: Option<&str>,
) -> Result<Option<bool>, rusqlite::Error> {
    let found = connection
        .prepare_cached("SELECT body, element, raw FROM content WHERE id = ?1")?
        .query_row([sql(id)], |row| {
            let bytes = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_bytes_or_null().unwrap_or_default());
            let holds = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| pattern.is_match(bytes));
            let is_element = bytes(1)?.is_some();
            let sent = holds(bytes(0)?) || holds(bytes(1)?);
            Ok((sent, !sent && !is_element && raw_in == id && holds_in(pattern, bytes(2)?, charset)))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((true, _)) => Ok(Some(true)),
        Some((false, raw)) => Ok(Some(raw && !is_shared(connection, id)?)),
    }
}

/// Returns true if the raw body contains the text, decoded by its charset.
fn holds_in(pattern: &Regex, raw: Option<&[u8]>, charset: Option<&str>) -> bool {
    let Some(raw) = raw else { return false };
    match charset.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes())) {
        Some(encoding) => pattern.is_match(encoding.decode(raw).0.as_bytes()),
        None => pattern.is_match(raw),
    }
}

/// Returns true if the raw body of this row belongs to more events: rows of one request are neighbours.
fn is_shared(connection: &Connection, id: EventId) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT (SELECT raw_in FROM event WHERE id > ?1 ORDER BY id LIMIT 1) = ?1 \
             OR (SELECT raw_in FROM event WHERE id < ?1 ORDER BY id DESC LIMIT 1) = ?1",
        )?
        .query_row([sql(id)], |row| Ok(row.get::<_, Option<bool>>(0)?.unwrap_or(false)))
}

/// The forms in which JSON may write the text: plain, with required escapes, and fully escaped.
fn forms(text: &str) -> Vec<String> {
    let escaped = serde_json::to_string(text).unwrap_or_default();
    let escaped = escaped.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    let ascii: String = escaped
        .chars()
        .map(|character| match character {
            '/' => "\\/".to_owned(),
            _ if character.is_ascii() => character.to_string(),
            _ => {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
        })
        .collect();
    let mut forms = vec![text.to_owned(), escaped, ascii];
    forms.dedup();
    forms
}

/// The index of a column of [`Summary`], and of the first one after them.
const INCIDENT_KEY: usize = 3;
const RECEIVED_AT: usize = 8;
const REQUEST: usize = TRACE + 1;

/// Longer than any title; the pattern compiles quickly.
const TEXT_BYTES_MAX: usize = 512;
/// Events searched under one lock: some milliseconds.
const EVENTS_PER_LOCK: usize = 500;
/// A million narrow rows, or as many payloads as two seconds allow.
const EVENTS_MAX: usize = 1_000_000;
const TIME_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sqlite::tests::{config, event, open};
    use crate::journal::{NewEvent, Raw};

    #[test]
    fn the_payload_of_a_batch_is_known_as_shared_in_whichever_row_it_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(&config(directory.path()));
        let mut batch = journal.begin().unwrap();
        let alone = batch.append(event("a", b"{}")).unwrap();
        let first = batch.append(event("b", b"{}")).unwrap();
        let second = batch.append(NewEvent { raw: Raw::In(first), ..event("c", b"{}") }).unwrap();
        batch.commit().unwrap();
        let shared = |id| is_shared(&journal.connection, id).unwrap();
        assert_eq!([alone, first, second].map(shared), [false, true, false]);
        let moved = "UPDATE event SET raw_in = ?1 WHERE raw_in = ?2";
        journal.connection.execute(moved, [sql(second), sql(first)]).unwrap();
        assert_eq!([alone, first, second].map(shared), [false, false, true]);
    }

    #[test]
    fn a_text_is_found_however_json_writes_it() {
        for (text, written) in [
            ("Disk full", r#"{"title":"DISK FULL"}"#),
            ("a \"b\"\n", r#"{"t":"a \"b\"\n"}"#),
            ("Zürich", "{\"t\":\"Zürich\"}"),
            ("zürich", r#"{"t":"Z\u00FCrich"}"#),
            ("a/b é", r#"{"t":"a\/b \u00e9"}"#),
            ("🔥", r#"{"t":"\ud83d\udd25"}"#),
            ("\"quoted", r#"["\"quoted"]"#),
        ] {
            let patterns = SearchPatterns::new(&Texts { payload: Some(text.to_owned()), ..Texts::default() }).unwrap();
            assert!(patterns.payload.unwrap().is_match(written.as_bytes()), "{text} in {written}");
        }
    }

    #[test]
    fn a_text_is_looked_for_as_it_is_and_not_as_a_pattern() {
        let patterns = SearchPatterns::new(&Texts { payload: Some("a.*b".to_owned()), ..Texts::default() }).unwrap();
        assert!(!patterns.payload.unwrap().is_match(b"axxb"));
    }

    #[test]
    fn the_longest_text_can_be_searched_for_and_a_longer_one_is_refused() {
        let longest = "é".repeat(TEXT_BYTES_MAX / 2);
        let texts = Texts { key: Some(longest.clone()), payload: Some(longest), request: None };
        assert!(texts.check().is_ok() && SearchPatterns::new(&texts).is_ok());
        for (text, said) in [(String::new(), "empty"), ("x".repeat(TEXT_BYTES_MAX + 1), "at most 512 bytes")] {
            let problem = Texts { request: Some(text), ..Texts::default() }.check().unwrap_err();
            assert!(problem.contains("`request`") && problem.contains(said), "{problem}");
        }
    }
}
