//! Storage of holds for the next start.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::batch::Batch;
use super::{Error, Journal};
use crate::clock::WallTime;
use crate::event::{HoldRecord, HoldTarget};

impl Journal {
    /// The holds in force, in the order of source and key. Invalid rows are ignored.
    pub fn holds(&self) -> Result<Vec<HoldRecord>, Error> {
        Ok(read(&self.connection)?)
    }
}

impl Batch<'_> {
    /// Stores a hold.
    pub(super) fn hold(&mut self, HoldRecord { target, since }: &HoldRecord) -> Result<(), Error> {
        self.prepare("INSERT OR REPLACE INTO hold (kind, source, incident_key, since) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                target.kind(),
                &*target.source,
                target.incident_key.as_deref().unwrap_or_default(),
                since.0
            ])?;
        Ok(())
    }

    /// Removes a hold.
    pub(super) fn release(&mut self, target: &HoldTarget) -> Result<(), Error> {
        self.prepare("DELETE FROM hold WHERE kind = ?1 AND source = ?2 AND incident_key = ?3")?.execute(params![
            target.kind(),
            &*target.source,
            target.incident_key.as_deref().unwrap_or_default()
        ])?;
        Ok(())
    }

    /// Replaces all stored holds by these.
    pub fn set_holds(&mut self, holds: &[HoldRecord]) -> Result<(), Error> {
        self.prepare("DELETE FROM hold")?.execute([])?;
        holds.iter().try_for_each(|hold| self.hold(hold))
    }
}

/// Reads the holds of a journal, also of one that was set aside.
pub(super) fn read(connection: &Connection) -> Result<Vec<HoldRecord>, rusqlite::Error> {
    let mut statement = connection
        .prepare_cached("SELECT kind, source, incident_key, since FROM hold ORDER BY source, kind, incident_key")?;
    let mut rows = statement.query([])?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |index| row.get_ref(index).ok()?.as_str().ok();
        let (Some(kind), Some(source), Some(key)) = (text(0), text(1), text(2)) else {
            continue;
        };
        let incident_key = match kind {
            "key" => Some(Arc::from(key)),
            "source" => None,
            _ => continue,
        };
        let target = HoldTarget { source: Arc::from(source), incident_key };
        holds.push(HoldRecord { target, since: WallTime(row.get(3).unwrap_or(0)) });
    }
    Ok(holds)
}
