//! What a command reads: a file, or standard input where none is named or `-` is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads all of it; a sentence for the reader where that fails.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (name, read) = match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            let opened = File::open(file);
            (file.display().to_string(), opened.and_then(|opened| opened.take(BYTES_MAX + 1).read_to_end(&mut bytes)))
        }
        None => ("standard input".to_owned(), io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("can't read {name}: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("{name} is larger than {} MiB", BYTES_MAX >> 20));
    }
    Ok(bytes)
}

/// The largest `listen.max_body`, which no payload exceeds.
const BYTES_MAX: u64 = 64 << 20;
