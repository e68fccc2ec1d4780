//! A refused payload, read back for a new decision.

use super::sum::{self, FIXED, FIXED_READ, Fixed};
use super::values::{bytes, shown, sql, trace};
use super::{Error, Reader, schema};
use crate::clock::WallTime;
use crate::event::EventId;
use crate::trace_context::TraceContext;

/// A refused payload for a new decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPayload {
    pub id: EventId,
    pub source: String,
    pub received_at: WallTime,
    /// The request's raw body; none if it is not kept any more.
    pub raw: Option<Vec<u8>>,
    /// The charset of `raw`; none for UTF-8.
    pub charset: Option<String>,
    /// The refused element of `raw`, as JSON; none if all of it was refused.
    pub element: Option<Vec<u8>>,
    /// The reason for which it was refused.
    pub reason: Option<String>,
    /// The trace of its request; none if an earlier version kept it.
    pub trace: Option<TraceContext>,
}

impl Reader {
    /// A refused payload, also one that ended since; none if it is not kept, is an event, or is damaged.
    pub fn refused(&self, id: EventId) -> Result<Option<RefusedPayload>, Error> {
        self.with(|connection| {
            let (fixed, of_trace) =
                (schema::of_event(connection, FIXED)?, schema::of_event(connection, "event.trace")?);
            let has_sums = schema::has_column(connection, "content", "raw_sum")?;
            let of = |column| if has_sums { sum::of_event_with_sum(column) } else { "NULL".to_owned() };
            let (raw_sum, own_sum) = (of("held.raw_sum"), of("own.sum"));
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {fixed}, held.raw, {raw_sum}, own.element, own.body, {own_sum}, event.reason, {of_trace} \
                 FROM event LEFT JOIN content AS held ON held.id = event.raw_in LEFT JOIN content AS own ON own.id = event.id \
                 WHERE event.id = ?1 AND event.action IS NULL"
            ))?;
            let mut rows = statement.query([sql(id)])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let Ok(fixed) = Fixed::read(row, 0) else {
                return Ok(None);
            };
            let (raw, raw_sum) = (bytes(row, FIXED_READ)?, row.get_ref(FIXED_READ + 1)?);
            let is_raw = |raw: &Vec<u8>| sum::is_sum(raw_sum, || sum::of_raw(fixed.request, raw));
            let (element, body) = (bytes(row, FIXED_READ + 2)?, bytes(row, FIXED_READ + 3)?);
            let own = || sum::of_content(id, body.as_deref().unwrap_or_default(), element.as_deref());
            if !sum::is_sum(row.get_ref(FIXED_READ + 4)?, own) {
                return Ok(None);
            }
            Ok(Some(RefusedPayload {
                id,
                source: fixed.source.to_owned(),
                received_at: WallTime(fixed.received_at),
                raw: raw.filter(is_raw),
                charset: fixed.charset.map(str::to_owned),
                element,
                // An end wrote over that of the row; an earlier version kept it nowhere else.
                reason: body.as_deref().and_then(refused_for).or(shown(row, FIXED_READ + 5)?),
                trace: trace(row, FIXED_READ + 6)?,
            }))
        })
    }
}

/// The reason of a refusal, from its errors.
fn refused_for(errors: &[u8]) -> Option<String> {
    let errors: serde_json::Value = serde_json::from_slice(errors).ok()?;
    errors[0]["reason"].as_str().map(str::to_owned)
}
