//! Opens files named by a person, without blocking on a pipe.

use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Opens a file for reading. A named pipe or another special file is refused, since opening it may block; the pipes of
/// a shell, `/dev/stdin` and `/dev/fd/63`, are allowed.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() && !path.starts_with("/dev") && !path.starts_with("/proc") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", name(kind))));
    }
    File::open(path)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn nothing_is_opened_that_would_make_the_reader_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        std::os::unix::fs::symlink(path("pipe"), path("link")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for (name, told) in [
            ("pipe", "it is a named pipe, not a file"),
            ("link", "it is a named pipe, not a file"),
            ("socket", "it is a socket, not a file"),
        ] {
            assert_eq!(open(&path(name)).unwrap_err().to_string(), told);
        }
        assert_eq!(open(directory.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(open(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_shell_pipes_is_read() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        drop(cat.stdin.take());
        use std::os::fd::AsRawFd;
        let pipe = cat.stdout.take().unwrap();
        let mut text = String::new();
        open(&Path::new("/dev/fd").join(pipe.as_raw_fd().to_string())).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), cat.wait().unwrap().code()), ("", Some(0)));
    }
}
