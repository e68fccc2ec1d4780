//! The recorder's thread: takes all waiting messages, decides, appends, syncs once, and answers everyone.

mod bring_back;
mod coalesce;
mod command_work;
mod queue_backup;
mod remarks;
mod restore;
mod shares;
mod shortage;
mod tap_lines;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::progress::Progress;
use super::{
    Accepted, Commanded, Committed, Entry, Health, Message, QUEUE, Receipt, Recorded, Recorder, Settle, Submission,
    Tally, TurnedAway, Unavailable,
};
use crate::activity::Activity;
use crate::clock::{Clock, WallTime};
use crate::event::{EventId, HoldRecord, KeyId, Queued, Settlement, SourceNames, State, Superseded};
use crate::journal::dedup::{self, Dedup};
use crate::journal::{self, Damaged, FileStates, Held, Journal, Left, Lock, Mended, Mending, Rescue, Reserve, Tried};
use crate::metrics::Metrics;
use crate::tap::Tap;
use bring_back::Files;
use coalesce::Coalesce;
use queue_backup::QueueBackup;
use remarks::Remarks;
use restore::{Restored, holds_of, log_damaged, open_mended, open_writable, restore};
use shares::TurningAway;
use shortage::{REMOVAL_PAUSE, ROOM_INTERVAL, Shortage};
use work::{Owed, Work, settle, write_settlement};

pub use restore::recollect;

/// The owner of deduplication and the journal. It has a thread of its own, because a sync blocks.
#[derive(Debug)]
pub struct Writer {
    parts: WriterParts,
    journal: Journal,
    dedup: Dedup,
    sources: Arc<SourceNames>,
    messages: mpsc::Receiver<Message>,
    health: watch::Sender<Health>,
    turning_away: TurningAway,
    turned_away: watch::Sender<Vec<TurnedAway>>,
    remarks: Remarks,
    /// The holds, as they are on disk.
    holds: watch::Sender<Arc<Vec<HoldRecord>>>,
    /// Senders that wait for an event's settlement.
    followers: HashMap<EventId, Vec<oneshot::Sender<Settlement>>>,
    /// Duplicates counted since the last commit, by the event that they repeat.
    duplicates: HashMap<EventId, u64>,
    /// The newest event that was handed to the dispatcher.
    handed_over: EventId,
    queue_backup: QueueBackup,
    progress: Arc<Progress>,
    /// Settlements that wait to share a batch.
    coalesce: Coalesce,
    shortage: Shortage,
    fault: Option<Fault>,
    prune_at: Instant,
    /// The time of the next check of the files while nothing is written.
    look_at: Instant,
    /// Counts changes of modification times on intact files.
    false_alarms: u32,
    tap: Tap,
    activity: Activity,
}

/// The configuration, handles and channels of a writer.
#[derive(Debug)]
pub struct WriterParts {
    pub journal: journal::Config,
    pub lock: Lock,
    pub dedup: dedup::Settings,
    pub superseded: Superseded,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The dispatcher's channel for each commit.
    pub committed: mpsc::Sender<Committed>,
}

/// The state while the journal can't be written. Nothing is acknowledged until it was reopened and a write was synced.
#[derive(Debug)]
struct Fault {
    try_at: Instant,
    why: Unavailable,
    /// The state of the files when the fault began.
    found: FileStates,
    /// Settlements reported meanwhile: they are written when writing works again.
    held: VecDeque<Settle>,
    files: Files,
    /// Repairs of the files, logged when events are taken again.
    mended: Vec<(Mending, Mended)>,
    /// True if some of the open files' content may be lost.
    altered: bool,
    /// True if some of it is certainly lost.
    cut: bool,
    /// Events written again from memory; none if nothing was missing.
    rescue: Option<Rescue>,
    /// The last logged reason why the journal is not back yet.
    told: String,
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            try_at: Instant::now(),
            why: Unavailable::JournalFault,
            found: FileStates::INTACT,
            held: VecDeque::new(),
            files: Files::default(),
            mended: Vec::new(),
            altered: false,
            cut: false,
            rescue: None,
            told: String::new(),
        }
    }
}

impl Fault {
    /// Refuses messages while nothing can be written. Settlements are held: the deliveries happened, and are written
    /// later.
    fn refuse(&mut self, messages: &mut Vec<Message>) {
        let why = self.why;
        for message in messages.drain(..) {
            match message {
                Message::Record { reply, .. } => drop(reply.send(Err(why))),
                Message::Settle(end) => self.held.push_back(end),
                Message::Open { reply, .. } => drop(reply.send(None)),
                Message::Tally { reply, .. } => drop(reply),
                Message::Preview { reply, .. } => drop(reply.send(None)),
                Message::Command { reply, .. } => drop(reply.send(Err(why))),
                Message::Hold { reply, .. } => drop(reply.send(Err(why))),
                Message::Replace { reply, .. } => drop(reply.send(Err(why))),
                Message::Attempt(..) | Message::Differ(_) => {}
            }
        }
    }
}

impl Writer {
    /// Opens the journal and restores everything from it. `each` gets the undelivered events in order, with the state
    /// of their retries.
    pub fn open(
        parts: WriterParts,
        each: impl FnMut(Queued, Option<Tried>),
    ) -> Result<(Recorder, Writer), journal::OpenError> {
        let now = parts.clock.now().wall;
        let left = Left::in_directory(parts.lock.directory());
        if Reserve::make_way(parts.lock.directory(), parts.journal.reserve) {
            tracing::warn!("the volume of `data_dir` is full: the reserve was given up to open the journal");
        }
        let (journal, repairs) = open_mended(&parts, now)?;
        let salvaged = repairs.journal.is_some();
        let sources = Arc::new(SourceNames::default());
        let Restored { mut journal, dedup, last, damaged } = restore(&parts, journal, &sources, each)?;
        let (sender, messages) = mpsc::channel(QUEUE);
        let (health, watched) = watch::channel(Health::Taking);
        let (turned_away, crowd) = watch::channel(Vec::new());
        let (leave, queue_backup) = QueueBackup::new();
        let (mut remarks, remarked) = Remarks::new();
        remarks.repairs(&repairs, now);
        if let Some(lack) = journal.lack(&left, salvaged) {
            remarks.lack(lack, now);
        }
        let (holds, holds_watched) = watch::channel(Arc::new(holds_of(&parts, &journal)?));
        let (progress, tap, activity) = (Arc::new(Progress::new()), Tap::default(), Activity::default());
        let recorder = Recorder {
            messages: sender,
            health: watched,
            turned_away: crowd,
            remarks: remarked,
            holds: holds_watched,
            sources: Arc::clone(&sources),
            left: leave,
            progress: Arc::clone(&progress),
            tap: tap.clone(),
            activity: activity.clone(),
        };
        let shortage = Shortage::new(journal.space().map_err(|error| unreadable(&parts, &error))?);
        let mut writer = Writer {
            parts,
            journal,
            dedup,
            sources,
            messages,
            health,
            turning_away: TurningAway::default(),
            turned_away,
            remarks,
            holds,
            followers: HashMap::new(),
            duplicates: HashMap::new(),
            handed_over: last,
            queue_backup,
            progress,
            coalesce: Coalesce::default(),
            shortage,
            fault: None,
            prune_at: Instant::now(),
            look_at: Instant::now() + LOOK_INTERVAL,
            false_alarms: 0,
            tap,
            activity,
        };
        // A leftover log may end in a commit whose sync failed: nothing may be appended to that.
        match writer.journal.fold_log() {
            Ok(true) => {}
            Ok(false) => tracing::warn!("another process reads the journal; its log is folded later"),
            Err(error) => writer.enter_fault(&error),
        }
        if writer.fault.is_none()
            && let Err(error) = writer.set_aside(&damaged).and_then(|()| writer.recover_space().map(drop))
        {
            writer.enter_fault(&error);
        }
        writer.mark();
        writer.publish_state();
        Ok((recorder, writer))
    }

    /// Works until every [`Recorder`] is gone, then folds the log and closes the journal.
    pub fn run(mut self, runtime: &Handle) {
        let mut waiting = Vec::with_capacity(QUEUE);
        loop {
            let now = Instant::now();
            let patience = match &self.fault {
                Some(fault) => fault.try_at.saturating_duration_since(now),
                None => self.prune_at.min(self.look_at).saturating_duration_since(now).max(REMOVAL_PAUSE),
            };
            let patience = self.coalesce.until().map_or(patience, |at| patience.min(at.saturating_duration_since(now)));
            let patience = if self.turning_away.is_empty() { patience } else { patience.min(shares::CALM_AFTER) };
            // Where the volume is nearly full, a batch stays within the reserved room.
            let short = self.shortage.space.is_short();
            let most = if short { self.shortage.space.ends_at_once().min(QUEUE) } else { QUEUE };
            let received = runtime
                .block_on(async { tokio::time::timeout(patience, self.messages.recv_many(&mut waiting, most)).await });
            if received == Ok(0) {
                break;
            }
            if waiting.len() >= BUSY {
                // Under load more messages are coming: a short wait lets them share this sync.
                std::thread::sleep(BATCH_WAIT);
                while waiting.len() < most
                    && let Ok(message) = self.messages.try_recv()
                {
                    waiting.push(message);
                }
            }
            // Without room, the room that settlements free is needed at once.
            let at_once = self.fault.is_some() || short || self.journal.is_full();
            let followers = &self.followers;
            self.coalesce.sort_out(&mut waiting, Instant::now(), at_once, |event| followers.contains_key(&event));
            self.progress.begin();
            self.turn(&mut waiting);
            self.progress.end();
        }
        let mut last = self.coalesce.take();
        self.turn(&mut last);
        self.finish();
    }

    /// Writes pending counts and closes the journal. If its files are gone, it is brought back first.
    fn finish(mut self) {
        let end = Instant::now() + FINISH_MAX;
        loop {
            if self.fault.is_none() {
                match self.commit(&[]).and_then(|_| self.journal.verify_frames()) {
                    Ok(()) => break,
                    Err(error) => self.enter_fault(&error),
                }
            }
            let Some(fault) = self.fault.as_mut().filter(|fault| fault.why == Unavailable::JournalReplaced) else {
                // The queue is on disk.
                return;
            };
            fault.try_at = Instant::now();
            self.reopen();
            if self.fault.is_some() {
                if Instant::now() >= end {
                    tracing::error!(
                        "the journal could not be brought back to its place: its queue may be lost; the next start \
                         reports missing events"
                    );
                    return;
                }
                std::thread::sleep(FINISH_PAUSE);
            }
        }
        // A copy of the main file is then complete. A log that can't be folded now is folded at the next start.
        self.journal.close();
    }

    /// Handles all waiting messages as one batch.
    fn turn(&mut self, messages: &mut Vec<Message>) {
        self.reopen();
        if let Some(fault) = &mut self.fault {
            fault.refuse(messages);
            return;
        }
        let prune = Instant::now() >= self.prune_at;
        if messages.is_empty() && !prune {
            self.look();
            self.publish_turned_away();
            return;
        }
        match self.commit(messages) {
            Ok((owed, accepted)) => {
                self.acknowledge(messages, owed, accepted);
                self.fold_long_log();
            }
            Err(error) => {
                self.enter_fault(&error);
                self.fault.iter_mut().for_each(|fault| fault.refuse(messages));
            }
        }
        if prune
            && self.fault.is_none()
            && let Err(error) = self.prune()
        {
            self.enter_fault(&error);
        }
        if prune {
            self.notice_damage();
        }
        self.publish_state();
    }

    /// Makes dead letters of damaged rows, and logs each once.
    fn set_aside(&mut self, damaged: &[Damaged]) -> Result<(), journal::Error> {
        if damaged.is_empty() {
            return Ok(());
        }
        let now = self.parts.clock.now().wall;
        self.journal.set_aside(damaged, now)?;
        log_damaged(&self.parts.metrics, damaged);
        self.remarks.damaged(damaged.len() as u64, now);
        Ok(())
    }

    /// Checks the files from time to time while nothing is written: a restart must find the queue.
    fn look(&mut self) {
        if self.fault.is_none() && Instant::now() >= self.look_at {
            self.look_at = Instant::now() + LOOK_INTERVAL;
            if let Err(error) = self.journal.verify() {
                self.enter_fault(&error);
            } else if self.journal.is_mark_gone() {
                self.mark();
            }
            self.notice_damage();
        }
    }

    /// Repairs damage that a reader found like damage that the writer finds.
    fn notice_damage(&mut self) {
        if self.fault.is_none() && journal::is_marked_damaged(self.parts.lock.directory()) {
            self.enter_fault(&journal::Error::Damaged("a part of it could not be read".to_owned()));
        }
    }

    /// Updates `journal.id`, by which a start notices missing events. Events are taken even if this fails.
    fn mark(&mut self) {
        if let Err(error) = self.journal.mark(true) {
            tracing::warn!(%error, "can't write `journal.id` beside the journal; it is tried again");
        }
    }

    /// Writes all messages as one batch and syncs it; without messages, the pending counts.
    fn commit(&mut self, messages: &[Message]) -> Result<(Vec<Owed>, Vec<Accepted>), journal::Error> {
        let started = Instant::now();
        let now = self.parts.clock.now();
        let mut batch = self.journal.begin()?;
        let removed = self.shortage.make_room(&mut batch, &mut self.dedup, new_events(messages))?;
        let mut work = Work {
            dedup: &mut self.dedup,
            sources: &self.sources,
            superseded: self.parts.superseded,
            followers: &mut self.followers,
            duplicates: &mut self.duplicates,
            holds: Arc::clone(&self.holds.borrow()),
            batch,
            accepted: Vec::new(),
            wrote: removed,
            space: self.shortage.space,
            refusing: self.shortage.refusing,
            now,
        };
        let owed = messages.iter().map(|message| work.handle(message)).collect::<Result<Vec<_>, _>>()?;
        let Work { mut batch, dedup, accepted, wrote, duplicates, holds, space, refusing, .. } = work;
        (self.shortage.space, self.shortage.refusing) = (space, refusing);
        if !wrote && (duplicates.is_empty() || !messages.is_empty() && duplicates.len() < DUPLICATES_HELD) {
            // Only duplicates of events on disk: they need no sync. Their count is written with the next batch, or when
            // idle.
            return Ok((owed, accepted));
        }
        for (of, count) in duplicates.drain() {
            batch.count_duplicates(of, count)?;
        }
        for last in dedup.take_forgotten() {
            batch.drop_key_state(last)?;
        }
        batch.commit()?;
        self.parts.metrics.committed(started.elapsed());
        self.holds.send_if_modified(|known| std::mem::replace(known, Arc::clone(&holds)) != holds);
        Ok((owed, accepted))
    }

    /// Answers everyone after the commit.
    fn acknowledge(&mut self, messages: &mut Vec<Message>, owed: Vec<Owed>, accepted: Vec<Accepted>) {
        let ended = messages.iter().filter_map(|message| match message {
            Message::Settle(Settle { settlement, .. }) => Some(settlement.clone()),
            _ => None,
        });
        let ended = ended.collect::<Vec<_>>();
        self.tell_settled(&ended);
        self.hand_over(Committed { accepted, settled: ended, recall: None });
        for (message, owed) in messages.drain(..).zip(owed) {
            match (message, owed) {
                (Message::Record { submission, reply }, Owed::Receipts(receipts)) => {
                    if matches!(receipts, Err(Unavailable::SourceShare)) {
                        self.turn_away(&submission.source);
                    }
                    let _ = reply.send(receipts.and_then(|receipts| self.recorded(submission, receipts)));
                }
                (Message::Open { reply, .. }, Owed::Ids(ids)) => drop(reply.send(ids)),
                (Message::Tally { unmatched, reply }, _) => drop(reply.send(self.tally(&unmatched))),
                (Message::Preview { reply, .. }, Owed::Foresights(foresights)) => drop(reply.send(Some(foresights))),
                (Message::Command { ids, reply, .. }, Owed::Commanded(commanded)) => {
                    self.count_commanded(&ids, &commanded);
                    let _ = reply.send(Ok(commanded));
                }
                (Message::Hold { reply, .. }, Owed::Holding(holding)) => drop(reply.send(Ok(holding))),
                (Message::Replace { submission, reply, .. }, Owed::Replaced(replaced)) => {
                    let _ = reply.send(match replaced {
                        Ok(Ok(receipts)) => self.recorded(submission, receipts).map(Ok),
                        Ok(Err(declined)) => Ok(Err(declined)),
                        Err(why) => Err(why),
                    });
                }
                // Nobody waits for a reply to attempts and settlements, and no other pair is made.
                _ => {}
            }
        }
    }

    fn tally(&self, unmatched: &[(EventId, KeyId)]) -> Tally {
        let by_source = self.journal.held_by_source().map(|(source, held)| (Arc::clone(source), held));
        let is_last = |(id, key): &&(EventId, KeyId)| self.dedup.last(*key).is_none_or(|last| last <= *id);
        Tally {
            totals: self.journal.totals(),
            unmatched: unmatched.iter().filter(is_last).count(),
            open_incidents: self.dedup.open_len() - self.dedup.open_waiting(),
            open_waiting: self.dedup.open_waiting(),
            by_source: by_source.collect(),
        }
    }

    fn turn_away(&mut self, source: &Arc<str>) {
        if self.turning_away.note(source, self.parts.clock.now().wall, Instant::now()) {
            let Held { queued, dead, bytes } = self.journal.held(source);
            tracing::warn!(
                source = &**source,
                queued,
                dead,
                bytes,
                "this source has used up its share of the queue; its new events are refused with 503 until some \
                 are delivered or ended; events of other sources are taken"
            );
            // Published before the sender gets its answer.
            self.publish_turned_away();
        }
    }

    /// Counts the events of a committed submission, and pairs its entries with their receipts.
    fn recorded(&self, submission: Submission, receipts: Vec<Receipt>) -> Result<Vec<Recorded>, Unavailable> {
        let Submission { source, entries, .. } = submission;
        let (recorded, now) = (Recorded::pair(entries, receipts)?, self.parts.clock.now().wall);
        for recorded in &recorded {
            let Recorded { entry, receipt } = recorded;
            self.tap.tell(|| tap_lines::of_recorded(recorded, &source, now));
            match entry {
                Entry::Event { draft, .. } if receipt.duplicate => {
                    self.parts.metrics.event_duplicate(&source, draft.action);
                    self.activity.duplicate(&source, now);
                }
                Entry::Event { draft, .. } => {
                    self.parts.metrics.event_accepted(&source, draft.action);
                    self.activity.taken(&source, now);
                }
                Entry::Refused { .. } => {}
            }
        }
        Ok(recorded)
    }

    fn count_commanded(&self, ids: &[EventId], commanded: &[Commanded]) {
        for (id, one) in ids.iter().zip(commanded) {
            if let Some(line) = tap_lines::of_commanded(*id, one, self.parts.clock.now().wall) {
                self.tap.tell(|| line);
            }
            match one {
                Commanded::Replayed { source, action, .. } => {
                    self.parts.metrics.event_accepted(source, *action);
                    self.activity.taken(source, self.parts.clock.now().wall);
                }
                Commanded::Discarded { .. } => self.parts.metrics.event_ended(State::Ended.as_str(), "discarded"),
                Commanded::Declined(_) => {}
            }
        }
    }

    /// Tells followers which settlements are on disk.
    fn tell_settled(&mut self, ended: &[Settlement]) {
        for settlement in ended {
            if let Some(followers) = self.followers.remove(&settlement.id) {
                let settled = settlement.clone();
                for follower in followers {
                    let _ = follower.send(settled.clone());
                }
            }
            if settlement.is_damaged() {
                self.remarks.damaged(1, settlement.at);
            }
        }
    }

    /// Removes a few finished events that are too old or exceed the limits.
    fn prune(&mut self) -> Result<(), journal::Error> {
        let now = self.parts.clock.now().wall;
        let keep = i64::try_from(self.parts.journal.keep_delivered.as_millis()).unwrap_or(i64::MAX);
        let before = if self.journal.is_large()? { None } else { Some(WallTime(now.0.saturating_sub(keep))) };
        let dedup = &mut self.dedup;
        let mut batch = self.journal.begin()?;
        let pruned =
            batch.prune(before, PRUNED_AT_ONCE, |id, source, key| dedup.rests_on(KeyId::new(source, key), id))?;
        let removed = self.shortage.make_room(&mut batch, dedup, 0)?;
        batch.commit()?;
        let gave = self.recover_space()?;
        self.fold_long_log();
        let pause = match &self.shortage {
            _ if removed => REMOVAL_PAUSE,
            _ if pruned.more || gave => PRUNE_PAUSE,
            Shortage { space, refusing, .. } if *refusing || space.is_short() || !space.has_reserve() => ROOM_INTERVAL,
            _ => PRUNE_INTERVAL,
        };
        self.prune_at = Instant::now() + pause;
        self.forget_followers();
        Ok(())
    }

    /// Returns free pages to the volume, takes the reserve again if there is room for it, and ends the refusal of new
    /// events. Returns true if there may be more to return.
    fn recover_space(&mut self) -> Result<bool, journal::Error> {
        let gave = self.journal.give_back()?;
        let mut space = self.journal.space()?;
        if !space.has_reserve() && space.has_room_for_reserve() && Instant::now() >= self.shortage.reserve_at {
            self.shortage.reserve_at = Instant::now() + PRUNE_INTERVAL;
            match self.journal.take_reserve() {
                Ok(()) => tracing::debug!("the reserve is held"),
                Err(error) => tracing::warn!(%error, "the reserve can't be allocated although there is room"),
            }
            space = self.journal.space()?;
        }
        self.shortage.look(space);
        Ok(gave)
    }

    /// Folds a long log. If the main file has no room to grow, the reserve is given up; a log that can't be folded now
    /// is folded after a later batch.
    fn fold_long_log(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let short = self.shortage.space.is_short();
        let mut folded = self.journal.fold_long_log(short);
        if matches!(folded, Err(journal::Error::Full(_))) && self.give_up_reserve() {
            folded = self.journal.fold_long_log(short);
        }
        match folded {
            Err(error @ (journal::Error::Damaged(_) | journal::Error::Replaced(_))) => self.enter_fault(&error),
            Err(error) => tracing::debug!(%error, "the log of the journal can't be folded yet"),
            Ok(()) => {}
        }
    }

    /// Deletes the reserve. Returns true if there was one.
    fn give_up_reserve(&mut self) -> bool {
        let given_up = Reserve::in_directory(self.parts.lock.directory()).give_up();
        if given_up {
            // Taken again as soon as there is room.
            let at = Instant::now() + ROOM_INTERVAL;
            (self.prune_at, self.shortage.reserve_at) = (self.prune_at.min(at), at);
            tracing::warn!("the volume of `data_dir` is full: the reserve was given up, so that deliveries go on");
        }
        given_up
    }

    /// Handles a failed write. The batch may or may not be on disk, so it is not trusted: the journal is reopened and
    /// all state is restored from it before anything is acknowledged again.
    fn enter_fault(&mut self, error: &journal::Error) {
        let found = match error {
            journal::Error::Replaced(states) => *states,
            // Truncated files look damaged, and a missing file causes all kinds of errors.
            _ => self.journal.file_states(),
        };
        let replaced = !found.is_intact();
        let why = match error {
            _ if replaced => Unavailable::JournalReplaced,
            journal::Error::Full(_) => Unavailable::DiskFull,
            journal::Error::Damaged(_) => {
                journal::mark_damaged(self.parts.lock.directory());
                Unavailable::JournalFault
            }
            journal::Error::Fault(_) | journal::Error::Replaced(_) => Unavailable::JournalFault,
        };
        let reason = why.as_str();
        if replaced {
            tracing::error!(
                reason, error = %error,
                "another program changed the journal's files: nothing is acknowledged until the journal is back at its place; \
                 leave `data_dir` to the relay while it runs"
            );
        } else {
            tracing::error!(reason, error = %error, "the journal can't be written; events are refused with 503 until it can");
        }
        self.health.send_replace(Health::Refusing {
            why,
            detail: error.to_string(),
            since: self.parts.clock.now().wall,
        });
        // They may repeat events of a batch that was never written.
        self.duplicates.clear();
        // The open files are the only copy, and may vanish: the journal is brought back at once.
        let at_once = replaced || why == Unavailable::DiskFull && self.give_up_reserve();
        let try_at = if at_once { Instant::now() } else { Instant::now() + REOPEN_INTERVAL };
        let before = self.fault.take().unwrap_or_default();
        self.fault = Some(Fault { try_at, why, found, files: Files::default(), told: String::new(), ..before });
    }

    /// Reopens the journal after a fault, restores from it, and writes held settlements. On failure it is tried again.
    fn reopen(&mut self) {
        let Some(fault) = self.fault.as_mut().filter(|fault| Instant::now() >= fault.try_at) else {
            return;
        };
        fault.try_at = Instant::now() + REOPEN_INTERVAL;
        if let Err(error) = self.bring_back() {
            self.log_obstacle(&error);
            return;
        }
        let mut accepted = Vec::new();
        let (known, now) = (self.handed_over, self.parts.clock.now().monotonic);
        // The write test comes first, so that a large journal is not read again each second in vain.
        let opened = open_writable(&self.parts).and_then(|journal| self.restore_missing(journal));
        let restored = opened.and_then(|journal| {
            restore(&self.parts, journal, &self.sources, |event, _| {
                // A commit that was reported as failed may have reached the disk. Its sender was told that it failed:
                // its age counts from here.
                if event.id > known {
                    accepted.push(Accepted { event: Queued { acknowledged: now, ..event }, outgoing: None });
                }
            })
        });
        let Restored { mut journal, dedup, last, damaged } = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.log_obstacle(&error);
                return;
            }
        };
        journal.continue_after(&self.journal);
        journal.trust_times(self.false_alarms < FALSE_ALARMS_MAX);
        (self.journal, self.dedup) = (journal, dedup);
        // The reopened files are known from now on.
        if let Some(fault) = &mut self.fault {
            (fault.files, fault.found) = (Files::default(), FileStates::INTACT);
        }
        let written = self.set_aside(&damaged).and_then(|()| self.write_held()).and_then(|()| self.recover_space());
        if let Err(error) = written {
            tracing::debug!(error = %error, "the journal can't be written yet");
            if matches!(error, journal::Error::Damaged(_) | journal::Error::Replaced(_)) {
                self.enter_fault(&error);
            }
            return;
        }
        let Some(fault) = self.fault.take() else {
            return;
        };
        self.forget_followers();
        self.hand_over(Committed { accepted, ..Committed::default() });
        self.handed_over = self.handed_over.max(last);
        self.mark();
        self.log_mended(&fault);
        tracing::info!("the journal can be written again");
        self.publish_state();
    }

    /// Drops followers that stopped waiting.
    fn forget_followers(&mut self) {
        self.followers.retain(|_, followers| {
            followers.retain(|follower| !follower.is_closed());
            !followers.is_empty()
        });
    }

    /// Writes held settlements in parts: there may be thousands, and little room. Written ones are published at once,
    /// so that a later failure does not write them twice.
    fn write_held(&mut self) -> Result<(), journal::Error> {
        let space = self.journal.space()?;
        while let Some(fault) = self.fault.as_mut().filter(|fault| !fault.held.is_empty()) {
            let some = fault.held.len().min(space.ends_at_once());
            let mut batch = self.journal.begin()?;
            for Settle { attempt, settlement, key, .. } in fault.held.iter().take(some) {
                write_settlement(&mut batch, attempt.as_ref(), settlement, space.is_short())?;
                settle(&mut self.dedup, *key, settlement);
            }
            batch.commit()?;
            let ended: Vec<Settlement> = fault.held.drain(..some).map(|end| end.settlement).collect();
            self.tell_settled(&ended);
            self.hand_over(Committed { settled: ended, ..Committed::default() });
            self.journal.fold_long_log(true)?;
        }
        // Holds are as the person was told, whatever happened to the failed commit or the file.
        let mut batch = self.journal.begin()?;
        batch.set_holds(&self.holds.borrow())?;
        batch.commit()
    }

    /// Hands committed events to the dispatcher.
    fn hand_over(&mut self, committed: Committed) {
        if let Some(last) = committed.accepted.last() {
            self.handed_over = last.event.id;
        }
        if !committed.accepted.is_empty() || !committed.settled.is_empty() {
            // Fails only if the dispatcher has ended, while the process stops: the events are on disk.
            if let Err(mpsc::error::SendError(committed)) = self.parts.committed.blocking_send(committed) {
                self.queue_backup.note(committed);
            }
        }
    }

    /// The reason for refusing new events while the journal can be written; none if they are taken.
    fn refusing(&self) -> Option<(Unavailable, String)> {
        if self.shortage.refusing {
            let detail = format!("the volume of `data_dir` has no room for new events: {}", self.shortage.space);
            return Some((Unavailable::DiskFull, detail));
        }
        let detail = "`journal.max_events` or `journal.max_bytes` is reached".to_owned();
        self.journal.is_full().then_some((Unavailable::Backlog, detail))
    }

    /// Publishes the state for health, metrics and API.
    fn publish_state(&mut self) {
        if self.fault.is_none() {
            let refusing = self.refusing();
            let (since, taking) = (self.parts.clock.now().wall, refusing.is_none());
            self.health.send_if_modified(|health| {
                let before = match health {
                    Health::Taking => None,
                    Health::Refusing { why, .. } => Some(*why),
                };
                if before == refusing.as_ref().map(|(why, _)| *why) {
                    return false;
                }
                *health = match refusing {
                    None => Health::Taking,
                    Some((why, detail)) => {
                        tracing::error!(
                            reason = why.as_str(),
                            detail,
                            "new events are refused with 503 until there is room"
                        );
                        Health::Refusing { why, detail, since }
                    }
                };
                if taking {
                    tracing::info!("events are taken again");
                }
                true
            });
        }
        self.publish_turned_away();
        let metrics = &self.parts.metrics;
        for (source, held) in self.journal.held_by_source() {
            metrics.source_holds(source, held.events(), held.bytes);
        }
        self.remarks.log(&self.journal, self.parts.clock.now().wall);
        let totals = self.journal.totals();
        metrics.journal_used.set(self.journal.used());
        metrics.journal_database_bytes.set(i64::try_from(self.journal.database_bytes()).unwrap_or(i64::MAX));
        metrics.journal_log_bytes.set(i64::try_from(self.journal.log_bytes()).unwrap_or(i64::MAX));
        metrics.queue_events.set(i64::try_from(totals.queued).unwrap_or(i64::MAX));
        metrics.dead_letters.set(i64::try_from(totals.dead).unwrap_or(i64::MAX));
        metrics.dedup_keys.set(i64::try_from(self.dedup.len()).unwrap_or(i64::MAX));
        metrics.holds.set(i64::try_from(self.holds.borrow().len()).unwrap_or(i64::MAX));
        metrics.journal_writable.set(i64::from(self.fault.is_none()));
        metrics.journal_reserve.set(i64::from(self.shortage.space.has_reserve()));
        metrics.volume_free.set(i64::try_from(self.shortage.space.free()).unwrap_or(i64::MAX));
        metrics.volume_size.set(i64::try_from(self.shortage.space.size()).unwrap_or(i64::MAX));
        let forgotten = self.dedup.forgotten();
        metrics.keys_forgotten(forgotten.resolved, forgotten.open);
    }

    /// Publishes the sources that have used up their share.
    fn publish_turned_away(&mut self) {
        let (journal, turning_away) = (&self.journal, &mut self.turning_away);
        if turning_away.is_empty() && self.turned_away.borrow().is_empty() {
            return;
        }
        for source in turning_away.over(Instant::now(), |source| journal.admits_more_of(source)) {
            tracing::info!(source = &*source, "this source has room in the queue again; its events are taken");
        }
        let turned_away = turning_away.sources().map(|(source, since)| {
            let (source, held) = (Arc::clone(source), journal.held(source));
            TurnedAway { source, since, held }
        });
        self.turned_away.send_replace(turned_away.collect());
    }
}

/// The number of possibly new events in these messages.
fn new_events(messages: &[Message]) -> usize {
    let events = |message: &Message| match message {
        Message::Record { submission, .. } | Message::Replace { submission, .. } => submission.entries.len(),
        Message::Command { ids, .. } => ids.len(),
        _ => 0,
    };
    messages.iter().map(events).sum()
}

fn unreadable(parts: &WriterParts, error: &journal::Error) -> journal::OpenError {
    journal::OpenError {
        path: parts.lock.directory().to_owned(),
        problem: error.to_string(),
        remedy: "check that the disk of `data_dir` works",
    }
}

/// How often a failed journal is tried again: events are taken again well within five seconds.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// How often the files are checked while nothing is written: a kill meanwhile would lose the queue.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After so many changes of modification times without a write, the file system is not trusted to keep them.
const FALSE_ALARMS_MAX: u32 = 3;
/// How long a stop tries to bring back a journal whose files are gone.
const FINISH_MAX: Duration = Duration::from_secs(15);
const FINISH_PAUSE: Duration = Duration::from_millis(200);
/// Messages in one turn that are a sign of load.
const BUSY: usize = 8;
/// A commit costs as much as ten events, so under load a short wait pays; a sync takes as long on a good disk.
const BATCH_WAIT: Duration = Duration::from_millis(1);
/// How often old history is looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Few enough not to delay the next batch noticeably.
const PRUNED_AT_ONCE: usize = 100;
/// The pause between two rounds of pruning while there is more to prune.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);
/// Counts of duplicates held for the next commit.
const DUPLICATES_HELD: usize = 10_000;
