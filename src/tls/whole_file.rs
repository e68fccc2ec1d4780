//! Writes a file whole: it is never seen half-written, and is on disk when the call returns.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Writes `content` beside `file` and moves it there once it is on disk; creates the directory if needed.
pub(super) fn write_new(file: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let written = || -> io::Result<()> {
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut beside = file.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let moved = write_whole(&beside, content, mode).and_then(|()| std::fs::rename(&beside, file));
        if moved.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        moved?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|problem| Error::Unwritable { file: file.to_owned(), problem })
}

fn write_whole(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    open.write_all(content)?;
    open.sync_all()
}
