//! Log lines: text on a terminal, JSON otherwise, always to standard error.
//!
//! Only Gander's own lines follow `log.level`. The libraries beneath stay at warnings whatever it is: at their finer
//! levels they write headers, and headers hold tokens.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The `log` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub level: Level,
    pub format: Format,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Starts logging for the whole process. A second call has no effect: what logs already goes on.
pub fn start(config: Config) {
    let terminal = io::stderr().is_terminal();
    let colour = terminal && !no_colour(std::env::var_os("NO_COLOR").as_deref());
    let format = match config.format {
        Format::Auto if terminal => Format::Text,
        Format::Auto => Format::Json,
        format => format,
    };
    let subscriber = subscriber(config.level, format, colour, io::stderr);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether colours are unwanted: `NO_COLOR` is set to anything but nothing (<https://no-color.org>).
pub fn no_colour(variable: Option<&std::ffi::OsStr>) -> bool {
    variable.is_some_and(|value| !value.is_empty())
}

fn subscriber<W>(level: Level, format: Format, colour: bool, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(format!("warn,gander={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Json => Box::new(
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).with_ansi(false).finish(),
        ),
        Format::Text | Format::Auto => Box::new(builder.with_target(false).with_ansi(colour).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
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
}
