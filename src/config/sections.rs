//! The small sections: `data_dir`, `dedup`, `delivery`, `journal`, `log`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Reader, Secrets, place_of};
use crate::delivery::staleness::{self, Then};
use crate::event::Superseded;
use crate::journal;
use crate::journal::Shares;
use crate::journal::dedup;
use crate::journal::{Size, TooSmall};
use crate::logging;
use crate::logging::Format;
use crate::yaml::{Fields, Node, fields};

impl Reader<'_> {
    pub(super) fn data_dir(&mut self, tree: &Node, top: &mut Fields<'_>) -> PathBuf {
        let directory = top.file("data_dir", &mut self.findings).unwrap_or_else(|| PathBuf::from("data"));
        let place = place_of(tree, &["data_dir"]);
        if directory.to_string_lossy().starts_with('~') {
            self.findings
                .error(place, "data_dir", "`~` is not expanded here")
                .help("write the whole path, such as /var/lib/gander");
            return directory;
        }
        // A client may be a user who can't see it, and has no need to.
        if self.inputs.secrets == Secrets::Required {
            match journal::inspect(&directory) {
                Ok(None) => {}
                Ok(Some(note)) => drop(self.findings.note(place, "data_dir", note).code("data-dir-shared")),
                Err(error) => {
                    let message = format!("{} can't be used: {}", error.path.display(), error.problem);
                    self.findings.error(place, "data_dir", message).help(error.remedy);
                }
            }
        }
        directory
    }

    pub(super) fn dedup(&mut self, top: &mut Fields<'_>) -> dedup::Settings {
        let findings = &mut self.findings;
        let mut section = top.section_or_empty("dedup", findings);
        let window = section.duration_within("window", Duration::ZERO..=30 * DAY, findings);
        let remind = section.boolean("remind", findings);
        let max_keys = section.integer("max_keys", 1..=100_000_000, findings);
        section.finish(findings);
        dedup::Settings {
            window: window.unwrap_or(Duration::from_secs(600)),
            remind: remind.unwrap_or(true),
            max_keys: max_keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(1_000_000),
        }
    }

    pub(super) fn delivery(&mut self, top: &mut Fields<'_>) -> (Option<staleness::Settings>, Superseded) {
        let findings = &mut self.findings;
        let mut section = top.section_or_empty("delivery", findings);
        let stale = section.section("stale", findings);
        let superseded = section.choice("superseded", &SUPERSEDED, findings);
        section.finish(findings);
        (self.stale(stale), superseded.unwrap_or_default())
    }

    /// None unless it is switched on: what is delivered late is nobody's surprise who did not ask for this.
    fn stale(&mut self, section: Option<Fields<'_>>) -> Option<staleness::Settings> {
        let findings = &mut self.findings;
        let mut section = section?;
        let (node, path) = (section.require("trigger", findings), section.path_of("trigger"));
        let trigger = node.and_then(|node| fields::duration_within(node, &path, MOMENT..=365 * DAY, findings));
        let then = section.choice("do", &STALE, findings).unwrap_or(Then::Mark);
        section.finish(findings);
        Some(staleness::Settings { trigger: trigger?, then })
    }

    pub(super) fn journal(
        &mut self,
        tree: &Node,
        top: &mut Fields<'_>,
        data_dir: PathBuf,
        shares: Shares,
    ) -> journal::Config {
        let findings = &mut self.findings;
        let mut section = top.section_or_empty("journal", findings);
        let max_events = section.integer("max_events", 1..=1_000_000_000, findings);
        let max_bytes = section.size_within("max_bytes", 1 << 20..=1 << 44, findings);
        let keep_delivered = section.duration_within("keep_delivered", Duration::ZERO..=3650 * DAY, findings);
        let keep_refused = section.integer("keep_refused", 0..=1_000_000_000, findings);
        let reserve = section.size_or_auto("reserve", 1 << 20..=1 << 40, findings);
        section.finish(findings);
        let config = journal::Config {
            data_dir,
            max_events: max_events.unwrap_or(1_000_000),
            max_bytes: max_bytes.unwrap_or(4 << 30),
            keep_delivered: keep_delivered.unwrap_or(7 * DAY),
            keep_refused: keep_refused.unwrap_or(10_000),
            shares,
            reserve,
        };
        // A client may be on another machine.
        if self.inputs.secrets == Secrets::Required {
            self.too_small(tree, &config);
        }
        config
    }

    fn too_small(&mut self, tree: &Node, config: &journal::Config) {
        let Some(TooSmall { volume, needed, max_bytes }) = journal::too_small(config) else {
            return;
        };
        let journal = tree.get("journal").filter(|journal| journal.get("max_bytes").is_some());
        let place = place_of(journal.unwrap_or(tree), if journal.is_some() { &["max_bytes"] } else { &["data_dir"] });
        let message = format!(
            "the volume of {} has {} and the journal may need {}, with its log and the reserve",
            config.data_dir.display(),
            Size(volume),
            Size(needed)
        );
        self.findings.warning(place, "journal.max_bytes", message).help(format!(
            "set it to {} or less, or give `data_dir` a larger volume; senders are answered 503 while there is no room",
            Size(max_bytes)
        ));
    }

    pub(super) fn log(&mut self, top: &mut Fields<'_>) -> logging::Config {
        let findings = &mut self.findings;
        let mut section = top.section_or_empty("log", findings);
        let level = section.choice("level", &LEVELS, findings);
        let format = section.choice("format", &FORMATS, findings);
        section.finish(findings);
        logging::Config { level: level.unwrap_or(tracing::Level::INFO), format: format.unwrap_or(Format::Auto) }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// The shortest duration that is one.
const MOMENT: Duration = Duration::from_millis(1);
const STALE: [(&str, Then); 2] = [("mark", Then::Mark), ("end", Then::End)];
const SUPERSEDED: [(&str, Superseded); 2] = [("send", Superseded::Send), ("end", Superseded::End)];
const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];
const FORMATS: [(&str, Format); 3] = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
