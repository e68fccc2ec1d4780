//! Reads files with bad sectors: unreadable bytes count as zeros, which is damage like any other. An error would end
//! each start and each repair.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

/// Bytes read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Shorter than requested only at the end of the file.
    pub(super) bytes: Vec<u8>,
    /// True if no part had to be replaced by zeros.
    pub(super) is_whole: bool,
}

/// Reads up to `length` bytes.
pub(super) fn read_at<R: Read + Seek>(from: &mut R, at: u64, length: usize) -> io::Result<Piece> {
    let mut bytes = Vec::with_capacity(length);
    from.seek(SeekFrom::Start(at))?;
    match from.take(length as u64).read_to_end(&mut bytes) {
        Ok(_) => return Ok(Piece { bytes, is_whole: true }),
        Err(error) if is_unreadable(&error) => {}
        Err(error) => return Err(error),
    }
    // Again, sector by sector: the error may have passed, and most of it may be readable.
    bytes.clear();
    let mut is_whole = true;
    let end = from.seek(SeekFrom::End(0))?.min(at.saturating_add(length as u64));
    while let Some(left) = end.checked_sub(at + bytes.len() as u64).filter(|left| *left > 0) {
        let (begin, before) = (at + bytes.len() as u64, bytes.len());
        let asked = (SECTOR - begin % SECTOR).min(left);
        let whole = before + usize::try_from(asked).unwrap_or(0);
        from.seek(SeekFrom::Start(begin))?;
        match from.take(asked).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() < whole => break,
            Ok(_) => {}
            Err(error) if is_unreadable(&error) => {
                bytes.truncate(before);
                bytes.resize(whole, 0);
                is_whole = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Piece { bytes, is_whole })
}

/// Copies a file to a private one and syncs that.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(to)?;
    let mut at = 0;
    loop {
        let piece = read_at(&mut from, at, COPIED_AT_ONCE)?;
        if piece.bytes.is_empty() {
            return to.sync_all();
        }
        to.write_all(&piece.bytes)?;
        at += piece.bytes.len() as u64;
    }
}

/// Returns true if the disk or file system can't return these bytes. Other places may still be readable.
fn is_unreadable(error: &io::Error) -> bool {
    let errors = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::BADMSG, Errno::UCLEAN];
    errors.iter().any(|unreadable| error.raw_os_error() == Some(unreadable.raw_os_error()))
}

/// The least that the kernel reads of a file.
const SECTOR: u64 = 4_096;
const COPIED_AT_ONCE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file whose bytes 5,000 to 5,100 can't be read.
    struct Failing(Cursor<Vec<u8>>);

    impl Read for Failing {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let (at, end) = (self.0.position(), self.0.position() + bytes.len() as u64);
            if at < 5_100 && end > 5_000 && at < self.0.get_ref().len() as u64 {
                return Err(Errno::IO.into());
            }
            self.0.read(bytes)
        }
    }

    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn what_can_not_be_read_is_zeros_and_all_around_it_is_read() {
        let mut file = Failing(Cursor::new(vec![7; 12_000]));
        let piece = read_at(&mut file, 1_000, 20_000).unwrap();
        assert_eq!((piece.bytes.len(), piece.is_whole), (11_000, false));
        let zeros: Vec<usize> = (0..11_000).filter(|at| piece.bytes[*at] == 0).collect();
        assert_eq!(zeros, (3_096..7_192).collect::<Vec<_>>());
        let sound = read_at(&mut file, 9_000, 20_000).unwrap();
        assert_eq!(sound, Piece { bytes: vec![7; 3_000], is_whole: true });
        let behind = read_at(&mut file, 12_000, 10).unwrap();
        assert_eq!(behind, Piece { bytes: Vec::new(), is_whole: true });
    }
}
