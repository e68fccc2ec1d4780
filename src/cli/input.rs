//! Reads the input of a command: a file, or standard input where none is named or `-` is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Stop;
use super::terminal::Terminal;
use crate::config::{FILTERS_BESIDE, Unreadable, read_source};
use crate::inbound::{Accept, Decoded, NotJson, read_payload};
use crate::rules::RuleSet;
use crate::yaml::{Findings, Source};

/// Reads all of it; a sentence for the reader where that fails.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (name, read) = match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            let opened = File::open(file);
            (
                file.display().to_string(),
                opened.and_then(|opened| opened.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)),
            )
        }
        None => ("standard input".to_owned(), io::stdin().lock().take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("can't read {name}: {error}"))?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("{name} is larger than {} MiB", BYTES_MAX >> 20));
    }
    Ok(bytes)
}

/// A JSON document.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    payload(bytes, Accept::default()).map(|decoded| decoded.value)
}

/// A payload as the relay reads it, with a byte order mark or without; a sentence for the reader where it is no JSON.
pub(crate) fn payload(bytes: &[u8], accept: Accept) -> Result<Decoded, String> {
    read_payload(bytes, None, accept).map_err(|not_json| {
        let NotJson { problem, line, column, remedy, .. } = not_json;
        let remedy = remedy.map_or_else(String::new, |remedy| format!("\n  {remedy}"));
        format!("{problem} at line {line} column {column}{remedy}")
    })
}

/// A rule file that is no source's; its warnings are said.
pub(crate) fn rules(file: &Path, terminal: &mut Terminal) -> Result<Arc<RuleSet>, Stop> {
    let mut findings = Findings::new();
    match RuleSet::compile(&read_source(file)?, &mut findings) {
        Some(rules) => {
            terminal.say_findings(&findings);
            Ok(Arc::new(rules))
        }
        None => Err(Stop::Invalid(findings)),
    }
}

/// The filters that were asked for, else those beside the configuration, if there are any.
pub(super) fn filters(asked: Option<&Path>, configuration: Option<&Path>) -> Result<Option<Arc<Source>>, Unreadable> {
    let beside = configuration.map(|path| path.with_file_name(FILTERS_BESIDE));
    let beside = beside.filter(|path| path.symlink_metadata().is_ok());
    asked.or(beside.as_deref()).map(read_source).transpose()
}

/// The largest `listen.max_body`, which no payload exceeds.
pub(super) const BYTES_MAX: usize = 64 << 20;
