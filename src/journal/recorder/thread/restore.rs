//! Restores deduplication and the delivery queue from the journal: at a start, and after a fault.

use super::RecorderParts;
use crate::clock::{Now, WallTime};
use crate::event::{EventId, HoldRecord, Queued, SourceNames, State};
use crate::journal::dedup::{self, Dedup};
use crate::journal::request::StoredRetry;
use crate::journal::state::restore_key;
use crate::journal::{self, Damaged, Found, Journal, LogSalvage, Repairs, Reserve, RestoredEvent, Salvage};
use crate::metrics::Metrics;

/// Opens the journal at a start, repaired if it was damaged.
pub(super) fn open_repaired(parts: &RecorderParts, now: WallTime) -> Result<(Journal, Repairs), journal::OpenError> {
    if Reserve::make_way(parts.lock.directory(), parts.journal.reserve) {
        tracing::warn!("the volume of `data_dir` is full: the reserve was given up to open the journal");
    }
    let repairs = journal::repair(&parts.lock, now)?;
    log_repairs(&repairs);
    let opened = Journal::open(&parts.journal, &parts.lock, now).and_then(|journal| {
        // The holds are read first.
        holds_of(parts, &journal)?;
        Ok(journal)
    });
    match opened {
        Ok(journal) => Ok((journal, repairs)),
        // SQLite found damage that the check of the files did not.
        Err(_) if journal::is_marked_damaged(parts.lock.directory()) => {
            let repairs = journal::repair(&parts.lock, now)?;
            log_repairs(&repairs);
            Ok((Journal::open(&parts.journal, &parts.lock, now)?, repairs))
        }
        Err(error) => Err(error),
    }
}

/// Opens the journal anew, once a test write was synced.
pub(super) fn open_writable(parts: &RecorderParts) -> Result<Journal, journal::OpenError> {
    let now = parts.clock.now().wall;
    let mut journal = Journal::open(&parts.journal, &parts.lock, now)?;
    // Where the log itself filled the disk, checkpointing it frees the needed room.
    let probed = journal.checkpoint().and_then(|_| {
        let mut batch = journal.begin()?;
        batch.probe(now)?;
        batch.commit()
    });
    probed.map_err(|error| {
        note_damage(parts, &error);
        journal::OpenError {
            path: parts.lock.directory().to_owned(),
            problem: error.to_string(),
            remedy: "make room on the disk and check that it can be written",
        }
    })?;
    Ok(journal)
}

/// The state restored from a journal.
pub(super) struct Restored {
    pub(super) journal: Journal,
    pub(super) dedup: Dedup,
    /// The newest event.
    pub(super) last: EventId,
    /// Rows that must become dead letters.
    pub(super) damaged: Vec<Damaged>,
}

pub(super) fn restore(
    parts: &RecorderParts,
    mut journal: Journal,
    sources: &SourceNames,
    mut each: impl FnMut(Queued, Option<StoredRetry>),
) -> Result<Restored, journal::OpenError> {
    let now = parts.clock.now();
    let mut dedup = Dedup::new(parts.dedup);
    let mut last = EventId(0);
    let restored = journal.restore(|found| {
        let event = match found {
            Found::Event(event) => event,
            Found::Damaged(id) => {
                last = id;
                dedup.evict_all();
                return;
            }
        };
        last = event.id;
        restore_key(&mut dedup, &event, now);
        if event.state == State::Queued {
            let RestoredEvent { id, key, action, priority, reopening, acknowledged_at, tried, .. } = event;
            let source = sources.id(&event.source);
            // If the clock was turned back meanwhile, the event counts as new, which does not last.
            let acknowledged = now.monotonic.before(now.wall.since(acknowledged_at));
            // Its call may have been under way when the process ended, and have opened its incident.
            let continues = true;
            each(Queued { id, key, source, action, priority, reopening, continues, acknowledged }, tried);
        }
    });
    let damaged = restored.map_err(|error| {
        note_damage(parts, &error);
        journal::OpenError {
            path: parts.lock.directory().to_owned(),
            problem: error.to_string(),
            remedy: "start again: a damaged journal is set aside then; or restore it from a copy",
        }
    })?;
    dedup.take_evicted_counts();
    // The journal's rows of these keys are dropped by its sweep, before anything is pruned.
    dedup.take_evicted();
    Ok(Restored { journal, dedup, last, damaged })
}

/// The holds in a journal, in their search order.
pub(super) fn holds_of(parts: &RecorderParts, journal: &Journal) -> Result<Vec<HoldRecord>, journal::OpenError> {
    let mut holds = journal.holds().map_err(|error| {
        note_damage(parts, &error);
        journal::OpenError {
            path: parts.lock.directory().to_owned(),
            problem: error.to_string(),
            remedy: "start again: a damaged journal is set aside then; or restore it from a copy",
        }
    })?;
    holds.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(holds)
}

/// Logs repairs of damaged files.
pub(super) fn log_repairs(repairs: &Repairs) {
    if let Some(salvage) = &repairs.journal {
        let Salvage { aside, problem, events, queued, without_body, without_row, in_doubt, unreadable, left_out } =
            salvage;
        tracing::error!(
            aside = aside.as_deref().map(|aside| tracing::field::display(aside.display())),
            problem,
            events,
            queued,
            without_body,
            without_row,
            in_doubt,
            unreadable,
            left_out,
            "the journal was damaged: it was set aside whole, and the events that could be read were carried over; \
             `sqlite3 FILE .recover` may find more in it"
        );
        if *left_out > 0 {
            tracing::error!(
                events = left_out,
                "the volume of `data_dir` has no room for all of it: these finished events were carried over without \
                 payloads, bodies and calls"
            );
        }
    }
    let Some(log) = &repairs.log else {
        return;
    };
    let LogSalvage { aside, pages, damaged, events, states, in_doubt, unreadable } = log;
    match aside {
        Some(aside) => tracing::error!(
            aside = %aside.display(), pages, damaged, events, states, in_doubt, unreadable,
            "the log of the journal was damaged: it was set aside whole, and what follows the damage was recovered"
        ),
        None => tracing::warn!(
            pages,
            damaged,
            events,
            states,
            in_doubt,
            unreadable,
            "the last commit in the log of the journal was incomplete, as after a power cut: its readable events \
             were recovered"
        ),
    }
}

/// Logs events that became dead letters by damage.
pub(super) fn log_damaged(metrics: &Metrics, damaged: &[Damaged]) {
    for Damaged { id, damage } in damaged.iter().take(LOGGED_SINGLY) {
        tracing::error!(event = %id, reason = damage.reason(), "an event in the journal is damaged; it is never sent");
    }
    for Damaged { damage, .. } in damaged {
        metrics.event_damaged(damage.as_str());
    }
    tracing::error!(
        events = damaged.len(),
        "events in the journal are damaged: they became dead letters whose reason begins with \"damaged\"; \
         check the disk and the memory of this machine"
    );
}

/// Restores deduplication from a journal that no relay uses.
pub(crate) fn restore_dedup(
    reader: &journal::Reader,
    settings: dedup::Settings,
    now: Now,
) -> Result<Dedup, journal::Error> {
    let mut dedup = Dedup::new(settings);
    reader.restore(|found| match found {
        Found::Event(event) => restore_key(&mut dedup, &event, now),
        Found::Damaged(_) => dedup.evict_all(),
    })?;
    Ok(dedup)
}

pub(super) fn note_damage(parts: &RecorderParts, error: &journal::Error) {
    if matches!(error, journal::Error::Damaged(_)) {
        journal::mark_damaged(parts.lock.directory());
    }
}

/// As many as a person reads one by one.
const LOGGED_SINGLY: usize = 20;
