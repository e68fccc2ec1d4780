//! The reserve: a file that holds room on the volume, and is given up when a write finds the disk full.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{TO_OPEN, look};
use crate::journal::space::{SLACK, Split};

/// The file in the data directory that reserves room.
#[derive(Clone, Debug)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    pub(crate) fn in_directory(directory: &Path) -> Reserve {
        Reserve(directory.join(RESERVE))
    }

    /// Deletes the reserve if there may be too little room to open the journal. Returns true if there was one.
    pub(crate) fn make_way(directory: &Path, asked: Option<u64>) -> bool {
        let (free, size) = look(directory);
        let reserve = Reserve::in_directory(directory);
        free < Split::of(asked, size).log_max() + SLACK && reserve.give_up_whole()
    }

    /// Deletes the reserve. Returns true if there was one.
    pub(in crate::journal::sqlite) fn give_up_whole(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    /// Shrinks the reserve to the room needed to open the journal: another program that fills the disk must not prevent
    /// the next start. Returns true if it was larger.
    pub(crate) fn give_up(&self) -> bool {
        let mut options = OpenOptions::new();
        let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = options.write(true).custom_flags(no_link).open(&self.0);
        let length = |file: &fs::File| file.metadata().map_or(0, |file| file.len());
        file.is_ok_and(|file| length(&file) > TO_OPEN && file.set_len(TO_OPEN).is_ok())
    }

    /// The bytes that it reserves. `tells_blocks`: the file system reports allocated blocks, which not every one does.
    pub(super) fn held(&self, tells_blocks: bool) -> u64 {
        let file = fs::symlink_metadata(&self.0).ok().filter(fs::Metadata::is_file);
        // A sparse copy, as tools make it, reserves less than its length.
        file.map_or(0, |file| if tells_blocks { file.len().min(file.blocks() * 512) } else { file.len() })
    }

    /// Allocates the room, all or none.
    pub(in crate::journal::sqlite) fn take(&self, bytes: u64) -> io::Result<()> {
        let _ = fs::remove_file(&self.0);
        let taken = self.fill(bytes);
        if taken.is_err() {
            let _ = fs::remove_file(&self.0);
        }
        taken
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        // An existing path may be a link to another user's file.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&self.0)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => return Err(io::ErrorKind::StorageFull.into()),
            // Not every file system supports it.
            Err(_) => {}
        }
        // Compressing file systems would store zeros in no room.
        let (mut piece, mut left) = (vec![0; PIECE_BYTES], bytes);
        while left > 0 {
            fastrand::fill(&mut piece);
            let length = left.min(PIECE_BYTES as u64);
            file.write_all(&piece[..usize::try_from(length).unwrap_or(PIECE_BYTES)])?;
            left -= length;
        }
        file.sync_all()
    }
}

const RESERVE: &str = "reserve";
/// The size of a write where the file system can't allocate room.
const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_reserve_keeps_the_room_that_it_says() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::in_directory(directory.path());
        assert_eq!(reserve.held(true), 0);
        reserve.take(MIB).unwrap();
        assert_eq!(reserve.held(true), MIB);
        let file = fs::metadata(directory.path().join(RESERVE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!(reserve.held(true), TO_OPEN);

        // A sparse copy.
        fs::remove_file(directory.path().join(RESERVE)).unwrap();
        fs::File::create(directory.path().join(RESERVE)).unwrap().set_len(MIB).unwrap();
        assert_eq!((reserve.held(true), reserve.held(false)), (0, MIB));
        // Another user's file is not overwritten through a link.
        let theirs = directory.path().join("theirs");
        fs::write(&theirs, "dear").unwrap();
        fs::remove_file(directory.path().join(RESERVE)).unwrap();
        std::os::unix::fs::symlink(&theirs, directory.path().join(RESERVE)).unwrap();
        reserve.take(MIB).unwrap();
        assert_eq!((reserve.held(true), fs::read(&theirs).unwrap()), (MIB, b"dear".to_vec()));
    }
}
