//! Text search: a bounded part of the journal at a time, newest first.
//!
//! For a part of a key or of a title the search index says which events need not be read. For a text in payloads, and
//! where the index does not reach, each event is read. The connection is released between two parts, so that other
//! queries wait for one part at most.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use rusqlite::{Connection, OptionalExtension, Row};

use super::event_list::{Filter, Page, SUMMARY, Searched, Summary, TRACE, Texts, first_error, replays, summary};
use super::search_block::{BlockTexts, title_of};
use super::search_index::Unusable;
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
    key_or_title: Option<Regex>,
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
        for (name, text) in [
            ("key_contains", &self.key),
            ("key_or_title", &self.key_or_title),
            ("search", &self.payload),
            ("request", &self.request),
        ] {
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
        let mut search = Search {
            reader: self,
            patterns: SearchPatterns::new(&filter.texts)?,
            filter: filter.clone(),
            bounds,
            started: Instant::now(),
            events: Vec::new(),
            searched: Searched { looked_at: 0, by_index: 0, without_payload: 0, back_to: None, stopped: false },
        };
        search.run()?;
        let Search { events, searched, filter, .. } = search;
        let goes_on = searched.stopped || events.len() == filter.limit();
        let next = filter.after.filter(|_| goes_on).map(|last| last.to_string());
        Ok(Page { events, next, searched: Some(searched) })
    }
}

/// A search under way: everything from `filter.after` on was searched.
struct Search<'r> {
    reader: &'r Reader,
    patterns: SearchPatterns,
    filter: Filter,
    bounds: Bounds,
    started: Instant,
    events: Vec<Summary>,
    searched: Searched,
}

/// The result of a part of a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it was searched.
    Done,
    /// The page is full, or a bound was reached.
    Ended,
}

/// A stretch of neighbouring events that the index tells of.
struct Stretch {
    /// The newest block with events that are still to be searched.
    first: EventId,
    last: EventId,
    /// When its oldest event was received.
    since: WallTime,
    /// Its events that may match, as ranges, oldest first.
    ranges: Vec<RangeInclusive<EventId>>,
    ids: Vec<EventId>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let lowest = self.filter.from.unwrap_or(EventId(0));
        loop {
            let below = self.below();
            let stretch = self.stretch(below);
            // What is newer than the newest block, and what no block tells of.
            let above = stretch.as_ref().map_or(lowest, |stretch| EventId(stretch.last.0 + 1).max(lowest));
            if above < below && self.scan(above)? == Part::Ended {
                return Ok(());
            }
            match stretch.filter(|stretch| stretch.last >= lowest) {
                Some(stretch) if self.look_in(&stretch, lowest)? == Part::Done => {}
                _ => return Ok(()),
            }
        }
    }

    /// The event before which everything is still to be searched.
    fn below(&self) -> EventId {
        let until = self.filter.until.map_or(EventId(i64::MAX.cast_unsigned()), |until| EventId(until.0 + 1));
        self.filter.after.map_or(until, |after| after.min(until))
    }

    fn stretch(&self, below: EventId) -> Option<Stretch> {
        let pattern = self.patterns.indexed()?;
        self.reader.index()?.before(below, |block| {
            let texts = BlockTexts::read(block.data).ok_or(Unusable::Damaged)?;
            let since = WallTime(block.since);
            Ok(Stretch {
                first: block.first,
                last: block.last,
                since,
                ranges: texts.matching(pattern, below),
                ids: texts.ids(),
            })
        })
    }

    /// Searches a block: those of its events that may match.
    fn look_in(&mut self, stretch: &Stretch, lowest: EventId) -> Result<Part, Error> {
        let below = self.below();
        let (read, mut ended) = (self.searched.looked_at, Part::Done);
        for range in stretch.ranges.iter().rev() {
            if *range.end() < lowest {
                break;
            }
            self.filter.after = Some(below.min(EventId(range.end().0 + 1)));
            ended = self.scan((*range.start()).max(lowest))?;
            if ended == Part::Ended {
                break;
            }
        }
        if ended == Part::Done {
            self.filter.after = Some(below.min(stretch.first));
            self.searched.back_to = Some(stretch.since.rfc3339());
        }
        // Those that were read are among them.
        let reached = self.below();
        let searched = stretch.ids.iter().filter(|id| (reached..below).contains(id)).count();
        self.searched.by_index += searched;
        self.searched.looked_at = read + searched;
        Ok(if ended == Part::Done { self.stop_at_bounds() } else { ended })
    }

    /// Searches the events from this one to `filter.after` by reading them.
    fn scan(&mut self, from: EventId) -> Result<Part, Error> {
        loop {
            let left = self.bounds.events.saturating_sub(self.searched.looked_at);
            let most = EVENTS_PER_LOCK.min(left);
            let filter = Filter { from: Some(from), ..self.filter.clone() };
            let candidates = self.reader.with(|connection| self.patterns.next_part(connection, &filter, most))?;
            let all = candidates.len() < most;
            for candidate in candidates {
                self.searched.looked_at += 1;
                self.searched.without_payload += usize::from(candidate.without_payload);
                self.searched.back_to = Some(candidate.received_at.rfc3339());
                self.filter.after = Some(candidate.id);
                self.events.extend(candidate.found);
                if self.events.len() == self.filter.limit() {
                    return Ok(Part::Ended);
                }
            }
            if all {
                self.filter.after = Some(self.below().min(from));
                return Ok(Part::Done);
            }
            if self.stop_at_bounds() == Part::Ended {
                return Ok(Part::Ended);
            }
        }
    }

    fn stop_at_bounds(&mut self) -> Part {
        self.searched.stopped =
            self.searched.looked_at >= self.bounds.events || self.started.elapsed() >= self.bounds.time;
        if self.searched.stopped { Part::Ended } else { Part::Done }
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
            key_or_title: texts.key_or_title.clone().map(|text| pattern(vec![text])).transpose()?,
            payload: texts.payload.as_deref().map(|text| pattern(forms(text))).transpose()?,
            request: texts.request.clone(),
            trace: texts.request.as_deref().and_then(|text| text.to_ascii_lowercase().parse().ok()),
        })
    }

    /// The pattern for which the index has the texts.
    fn indexed(&self) -> Option<&Regex> {
        self.key.as_ref().or(self.key_or_title.as_ref())
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
        if let Some(pattern) = &self.key_or_title
            && !holds(&self.key_or_title, text(INCIDENT_KEY)?)
            && !is_in_title(connection, pattern, id)?
        {
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

/// Returns true if the title of what is sent contains the text. Of a refused payload nothing is sent.
fn is_in_title(connection: &Connection, pattern: &Regex, id: EventId) -> Result<bool, rusqlite::Error> {
    let title = connection
        .prepare_cached(
            "SELECT content.body FROM content JOIN event ON event.id = content.id \
             WHERE content.id = ?1 AND event.action IS NOT NULL",
        )?
        .query_row([sql(id)], |row| Ok(row.get_ref(0)?.as_bytes_or_null().unwrap_or_default().and_then(title_of)))
        .optional()?;
    Ok(title.flatten().is_some_and(|title| pattern.is_match(title.as_bytes())))
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
/// As many narrow rows, payloads or blocks of the index as two seconds allow.
const EVENTS_MAX: usize = 10_000_000;
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
        let texts = Texts { key: Some(longest.clone()), payload: Some(longest), ..Texts::default() };
        assert!(texts.check().is_ok() && SearchPatterns::new(&texts).is_ok());
        for (text, said) in [(String::new(), "empty"), ("x".repeat(TEXT_BYTES_MAX + 1), "at most 512 bytes")] {
            let problem = Texts { request: Some(text), ..Texts::default() }.check().unwrap_err();
            assert!(problem.contains("`request`") && problem.contains(said), "{problem}");
        }
    }
}
