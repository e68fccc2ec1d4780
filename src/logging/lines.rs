//! A queue of lines for a reader that may be slow, stuck or gone: a writer never waits, and losses are reported.
//!
//! Lines go into a bounded queue, from which one thread writes. A line that finds no room, or can't be written, is
//! dropped and counted; the count is written as a line of its own as soon as writing works.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A handle on the queue, shared by its clones; the thread that writes ends with the process.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<Shared>);

/// The losses since the last report.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) lines: u64,
    /// The last error, if it was not a full queue.
    pub(crate) error: Option<io::Error>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notifies the writer of a new entry.
    came: Condvar,
    /// Notifies flushers of an empty queue.
    emptied: Condvar,
    dropped: AtomicU64,
}

/// Locked only for as long as it takes to move a line.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// The bytes of the waiting lines.
    bytes: usize,
    /// True while the writer writes a line.
    writing: bool,
    /// The reason why the last line could not be written; none after a success.
    failing: Option<ErrorKind>,
}

#[derive(Debug)]
enum Entry {
    Line(Box<[u8]>),
    /// The number of lines that found no room here.
    Dropped(u64),
}

/// The state of the thread.
struct Writer<S, T> {
    shared: Arc<Shared>,
    sink: S,
    tell: T,
    unreported: Dropped,
    /// True if the last line in the sink is incomplete, because a write failed in it.
    torn: bool,
}

impl Lines {
    /// Starts the thread that writes to `sink`. `tell` makes the line that reports dropped ones, with its end.
    pub(crate) fn start(
        name: &str,
        sink: impl Write + Send + 'static,
        tell: impl Fn(&Dropped) -> String + Send + 'static,
    ) -> io::Result<Lines> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            came: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let unreported = Dropped { lines: 0, error: None };
        let writer = Writer { shared: Arc::clone(&shared), sink, tell, unreported, torn: false };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())?;
        Ok(Lines(shared))
    }

    /// Queues a line, or drops it. Returns at once.
    pub(crate) fn put(&self, line: &[u8]) {
        let mut queue = self.0.queue();
        if queue.bytes + line.len() <= BYTES_MAX && queue.entries.len() < LINES_MAX {
            queue.bytes += line.len();
            queue.entries.push_back(Entry::Line(line.into()));
            self.0.came.notify_one();
            return;
        }
        match queue.entries.back_mut() {
            Some(Entry::Dropped(lines)) => *lines += 1,
            _ => queue.entries.push_back(Entry::Dropped(1)),
        }
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything is written, for at most `limit`; returns true if it is.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let waits = |queue: &mut Queue| queue.writing || !queue.entries.is_empty();
        let waited = self.0.emptied.wait_timeout_while(self.0.queue(), limit, waits);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The number of lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// The reason why the last line could not be written; none after a success.
    pub(crate) fn failing(&self) -> Option<ErrorKind> {
        self.0.queue().failing
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next entry; none if `until` comes first.
    fn next(&self, until: Option<Instant>) -> Option<Entry> {
        let mut queue = self.queue();
        queue.writing = false;
        loop {
            if let Some(entry) = queue.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    queue.bytes -= line.len();
                }
                queue.writing = true;
                return Some(entry);
            }
            queue.entries.shrink_to(LINES_KEPT);
            self.emptied.notify_all();
            let patience = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return None;
            }
            queue = self.came.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<S: Write, T: Fn(&Dropped) -> String> Writer<S, T> {
    fn run(mut self) {
        loop {
            let again = (self.unreported.lines > 0).then(|| Instant::now() + TRY_AGAIN);
            match self.shared.next(again) {
                Some(Entry::Line(line)) => {
                    if self.report_dropped() {
                        self.write_line(&line);
                    } else {
                        self.drop_line();
                    }
                }
                Some(Entry::Dropped(lines)) => {
                    self.unreported.lines += lines;
                    self.report_dropped();
                }
                None => drop(self.report_dropped()),
            }
        }
    }

    /// Reports dropped lines, if there are any; returns true if there are none to report any more.
    fn report_dropped(&mut self) -> bool {
        if self.unreported.lines == 0 {
            return true;
        }
        let mut line = (self.tell)(&self.unreported);
        if self.torn {
            line.insert(0, '\n');
        }
        match self.write(line.as_bytes()) {
            Ok(()) => {
                self.unreported = Dropped { lines: 0, error: None };
                true
            }
            Err(error) => {
                self.unreported.error = Some(error);
                false
            }
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        if let Err(error) = self.write(line) {
            self.unreported.error = Some(error);
            self.drop_line();
        }
    }

    fn drop_line(&mut self) {
        self.unreported.lines += 1;
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        let written = loop {
            match self.sink.write(rest) {
                Ok(0) if !rest.is_empty() => break Err(ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process may have made the shared pipe non-blocking. Only this thread may wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
                Err(error) => break Err(error),
            }
            if rest.is_empty() {
                break Ok(());
            }
        };
        if rest.len() < line.len() {
            self.torn = !rest.is_empty();
        }
        self.shared.queue().failing = written.as_ref().err().map(io::Error::kind);
        written
    }
}

/// The memory for waiting lines: some thousand of them.
const BYTES_MAX: usize = 1 << 20;
const LINES_MAX: usize = 8_192;
/// The capacity that an idle queue keeps.
const LINES_KEPT: usize = 64;
/// The interval at which a failing sink is tried again while there is no new line.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The interval at which a full non-blocking pipe is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A number of bytes that may be written, or an error.
    type Permit = Result<usize, ErrorKind>;

    /// A sink in which each write waits for a permit.
    struct Sink {
        permits: Receiver<Permit>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let permitted = self.permits.recv().unwrap_or(Ok(usize::MAX))?;
            let taken = bytes.len().min(permitted);
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The permits, the written text, and the queue. Once the sender of permits is gone everything may be written.
    fn lines() -> (SyncSender<Permit>, Arc<Mutex<Vec<u8>>>, Lines) {
        let (permit, permits) = sync_channel(0);
        let written = Arc::default();
        let sink = Sink { permits, written: Arc::clone(&written) };
        let tell = |dropped: &Dropped| {
            let error = dropped.error.as_ref().map(|error| format!("{:?}", error.kind()));
            format!("dropped {} {}\n", dropped.lines, error.as_deref().unwrap_or("for want of room"))
        };
        (permit, written, Lines::start("lines", sink, tell).unwrap())
    }

    /// Permits the next write, and waits until it is made.
    fn allow(permits: &SyncSender<Permit>, permit: Permit) {
        let end = Instant::now() + WAIT_MAX;
        while permits.try_send(permit).is_err() {
            assert!(Instant::now() < end, "nothing is written");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn text(written: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (permit, written, lines) = lines();
        drop(permit);
        (0..100).for_each(|number| lines.put(format!("{number}\n").as_bytes()));
        assert!(lines.flush(WAIT_MAX));
        assert_eq!(text(&written), (0..100).map(|number| format!("{number}\n")).collect::<String>());
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn who_puts_a_line_never_waits_and_what_found_no_room_is_told_where_it_is_missing() {
        let (permit, written, lines) = lines();
        let long = vec![b'x'; BYTES_MAX / 4];
        lines.put(&long);
        // The writer is blocked in writing it.
        while lines.0.queue().bytes > 0 {
            std::thread::yield_now();
        }
        (0..6).for_each(|_| lines.put(&long));
        assert_eq!(lines.dropped(), 2, "there is room for four");
        assert!(!lines.flush(Duration::from_millis(1)), "a flush has an end");
        drop(permit);
        assert!(lines.flush(WAIT_MAX));
        lines.put(b"after\n");
        assert!(lines.flush(WAIT_MAX));
        let text = text(&written);
        assert!(text.ends_with("xdropped 2 for want of room\nafter\n"), "{:?}", &text[text.len() - 60..]);
        assert_eq!(text.matches("dropped").count(), 1);
    }

    #[test]
    fn so_many_lines_wait_and_no_more_however_short_they_are() {
        let (_permit, _, lines) = lines();
        (0..2 * LINES_MAX).for_each(|_| lines.put(b"\n"));
        assert!(lines.dropped() >= LINES_MAX as u64 - 1, "{}", lines.dropped());
    }

    #[test]
    fn what_can_not_be_written_is_told_when_it_can_without_another_line() {
        let (permit, written, lines) = lines();
        lines.put(b"one\n");
        allow(&permit, Ok(usize::MAX));
        for line in [&b"two\n"[..], b"three\n"] {
            lines.put(line);
            allow(&permit, Err(ErrorKind::StorageFull));
        }
        assert!(lines.flush(WAIT_MAX));
        assert_eq!((lines.dropped(), lines.failing()), (2, Some(ErrorKind::StorageFull)));
        // The writer tries again by itself.
        allow(&permit, Ok(usize::MAX));
        drop(permit);
        lines.put(b"four\n");
        assert!(lines.flush(WAIT_MAX));
        assert_eq!(text(&written), "one\ndropped 2 StorageFull\nfour\n");
        assert_eq!(lines.failing(), None);
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next() {
        let (permit, written, lines) = lines();
        lines.put(b"cut off\n");
        allow(&permit, Ok(3));
        allow(&permit, Err(ErrorKind::StorageFull));
        drop(permit);
        lines.put(b"whole\n");
        assert!(lines.flush(WAIT_MAX));
        assert_eq!(text(&written), "cut\ndropped 1 StorageFull\nwhole\n");
    }

    #[test]
    fn a_write_that_is_put_off_is_made_again() {
        let (permit, written, lines) = lines();
        lines.put(b"whole\n");
        for permitted in [Err(ErrorKind::Interrupted), Ok(2), Err(ErrorKind::WouldBlock)] {
            allow(&permit, permitted);
        }
        drop(permit);
        assert!(lines.flush(WAIT_MAX));
        assert_eq!((text(&written).as_str(), lines.dropped()), ("whole\n", 0));
    }

    /// Longer than any step takes.
    const WAIT_MAX: Duration = Duration::from_secs(60);
}
