//! Reads the text files that a person writes: of bounded size, in UTF-8, with a message that says what to mend.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::confinement;
use crate::files;
use crate::yaml::Source;

/// A file that can't be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub path: PathBuf,
    /// The problem and what to do, without the path.
    pub problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't read {}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for Unreadable {}

/// Reads a YAML file as a text with a name.
pub(crate) fn read_source(path: &Path) -> Result<Arc<Source>, Unreadable> {
    let text = read_text(path, SOURCE_BYTES_MAX)?;
    Ok(Arc::new(Source::new(path.display().to_string(), text)))
}

/// Reads a text of at most `bytes_max`.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    String::from_utf8(read_bytes(path, bytes_max)?).map_err(|error| {
        let problem = format!("it is not UTF-8 (byte {})", error.utf8_error().valid_up_to() + 1);
        Unreadable { path: path.to_owned(), problem }
    })
}

/// Reads a file of at most `bytes_max`.
pub(crate) fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    let unreadable = |problem: String| Unreadable { path: path.to_owned(), problem };
    let file = files::open(path).map_err(|error| unreadable(explain(&error)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(explain(&error)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(unreadable(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The operating system's reason, in words for the one who must act.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied if confinement::limits_reading() => {
            "permission denied; the relay's user must be able to read it, and a running relay reads only the directories \
             of the files that it was started with (`confinement`): restart it, or put the file beside those"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied; the relay's user must be able to read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Ten thousand rules fit; a wrong file (a database, a device) does not.
const SOURCE_BYTES_MAX: u64 = 4 << 20;
