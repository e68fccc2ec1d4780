//! Logging to standard error: text on a terminal, JSON otherwise. Nobody who logs ever waits for the reader.
//!
//! Only Gander's own lines follow `log.level`. Libraries stay at warnings: at finer levels they log headers, which hold
//! tokens.

mod lines;
mod panics;
mod throttle;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock::WallTime;

use lines::Dropped;
pub(crate) use lines::Lines;
pub(crate) use panics::panics;
pub(crate) use throttle::LogThrottle;

/// The `log` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub level: Level,
    pub format: Format,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// The queue before standard error; none until the start.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging for the whole process, including panics. A second call has no effect.
pub(crate) fn start(config: Config) -> io::Result<()> {
    if LINES.get().is_some() {
        return Ok(());
    }
    let terminal = io::stderr().is_terminal();
    let colour = terminal && !no_colour(std::env::var_os("NO_COLOR").as_deref());
    let format = match config.format {
        Format::Auto if terminal => Format::Text,
        Format::Auto => Format::Json,
        format => format,
    };
    // A descriptor of its own: the standard library's is locked while a write blocks.
    let sink = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let lines = Lines::start("log", sink, move |dropped| dropped_line(dropped, format))?;
    let lines = LINES.get_or_init(|| lines).clone();
    let subscriber = subscriber(config.level, format, colour, lines);
    let _ = tracing::subscriber::set_global_default(subscriber);
    panics::log_panics();
    Ok(())
}

/// Writes a line to standard error: through the log's queue if that was started, else directly.
pub(crate) fn say(line: &str) {
    match LINES.get() {
        Some(lines) => lines.put(format!("{line}\n").as_bytes()),
        // If standard error is closed, nobody can be told.
        None => drop(writeln!(io::stderr().lock(), "{line}")),
    }
}

/// Waits until the queue is written, since the end of the process would cut it off; only for a short time, since the
/// reader of the log may be stuck.
pub(crate) fn finish() {
    if let Some(lines) = LINES.get() {
        lines.flush(FINISH_MAX);
    }
}

/// The number of dropped log lines: the log could not be written, or was not read fast enough.
pub(crate) fn lines_dropped() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

/// Returns true if colours are unwanted: `NO_COLOR` is set and not empty (<https://no-color.org>).
pub(crate) fn no_colour(variable: Option<&std::ffi::OsStr>) -> bool {
    variable.is_some_and(|value| !value.is_empty())
}

fn subscriber<W>(level: Level, format: Format, colour: bool, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(format!("warn,gander={level}"));
    // Its own errors would go to standard error directly, and could block or panic there.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match format {
        Format::Json => Box::new(
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).with_ansi(false).finish(),
        ),
        Format::Text | Format::Auto => Box::new(builder.with_target(false).with_ansi(colour).finish()),
    }
}

/// The line that reports dropped lines, at any log level.
fn dropped_line(dropped: &Dropped, format: Format) -> String {
    const MESSAGE: &str =
        "lines of the log are missing here: it could not be written, or was not read as fast as they came";
    let Dropped { lines, error } = dropped;
    let (now, error) = (WallTime::now().rfc3339(), error.as_ref().map(ToString::to_string));
    match format {
        Format::Json => {
            let mut line = json!({"timestamp": now, "level": "WARN", "message": MESSAGE, "lines": lines});
            if let Some(error) = error {
                line["error"] = error.into();
            }
            format!("{line}\n")
        }
        Format::Text | Format::Auto => {
            let error = error.map(|error| format!(" error={error}")).unwrap_or_default();
            format!("{now}  WARN {MESSAGE} lines={lines}{error}\n")
        }
    }
}

/// Writes whole lines.
impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

pub(crate) struct LineWriter<'a>(&'a Lines);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Enough for a full queue on a slow disk, and little compared with the time that a relay has to stop.
const FINISH_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, format: Format, colour: bool, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(level, format, colour, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_and_its_span() {
        let text = logged(Level::INFO, Format::Json, false, || {
            let _span = tracing::info_span!("request", source = "s").entered();
            tracing::info!(key = "k", "queued");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["message"], &line["key"]), (&"queued".into(), &"k".into()), "{text}");
        assert_eq!((&line["level"], &line["span"]["source"]), (&"INFO".into(), &"s".into()), "{text}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn the_level_holds_for_our_lines_and_libraries_stay_at_warnings() {
        let log = || {
            tracing::debug!("ours");
            tracing::debug!(target: "hyper", "theirs, with a token");
            tracing::warn!(target: "hyper", "their warning");
        };
        let text = logged(Level::TRACE, Format::Text, false, log);
        assert!(text.contains("ours") && text.contains("their warning") && !text.contains("a token"), "{text}");
        assert!(!logged(Level::INFO, Format::Text, false, log).contains("ours"));
    }

    #[test]
    fn a_line_break_or_an_escape_in_a_field_forges_nothing() {
        for format in [Format::Text, Format::Json] {
            let text = logged(Level::INFO, format, false, || tracing::info!(key = "a\n\u{1b}[31mb", "queued"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn colour_only_where_it_is_asked_for() {
        assert!(logged(Level::INFO, Format::Text, true, || tracing::info!("x")).contains('\u{1b}'));
        assert!(!logged(Level::INFO, Format::Text, false, || tracing::info!("x")).contains('\u{1b}'));
        assert!(no_colour(Some("1".as_ref())) && !no_colour(Some("".as_ref())) && !no_colour(None));
    }

    #[test]
    fn missing_lines_are_told_in_the_form_of_the_others() {
        let dropped = Dropped { lines: 7, error: Some(io::ErrorKind::StorageFull.into()) };
        let json: serde_json::Value = serde_json::from_str(&dropped_line(&dropped, Format::Json)).unwrap();
        assert_eq!(
            (&json["lines"], &json["level"], &json["error"]),
            (&7.into(), &"WARN".into(), &"no storage space".into())
        );
        let text = dropped_line(&Dropped { lines: 7, error: None }, Format::Text);
        assert!(text.contains("Z  WARN lines of the log are missing here") && text.ends_with(" lines=7\n"), "{text}");
    }

    /// In a process of its own, since the panic hook belongs to the process.
    #[test]
    fn a_panic_is_counted_and_has_one_line_in_the_log() {
        const ALONE: &str = "GANDER_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            start(Config { level: Level::ERROR, format: Format::Json }).unwrap();
            let ended =
                std::thread::Builder::new().name("a part".into()).spawn(|| panic!("two\nlines")).unwrap().join();
            assert!(ended.is_err());
            say(&format!("panics: {}", panics()));
            finish();
            return;
        }
        let alone = ["--exact", "logging::tests::a_panic_is_counted_and_has_one_line_in_the_log", "--nocapture"];
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = process.args(alone).env(ALONE, "").env("RUST_BACKTRACE", "0").output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let (line, count) = said.split_once('\n').unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((&line["level"], &line["panic"]), (&"ERROR".into(), &"two\nlines".into()), "{line}");
        assert_eq!(line["thread"], "a part", "{line}");
        assert!(line["location"].as_str().unwrap().starts_with("src/logging.rs:"), "{line}");
        assert_eq!(count, "panics: 1\n");
    }
}
