//! Room on the disk that is given up when the disk is full, so that sessions can still end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{self, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// The size in bytes: the log at its usual largest, 1,000 pages of 4 KiB, and half of that. A full disk begins to refuse writes when a
/// checkpoint has no room for the pages of the log. With this room the checkpoint succeeds, and later changes use the log's space again.
const SIZE: u64 = 6 << 20;

/// The least time between two attempts to get the room back.
const PAUSE: Duration = Duration::from_secs(1);

/// A file of zeros beside the database. While it is missing, the disk is taken as full, by every process.
pub(super) struct Reserve {
    path: PathBuf,
    tried: Option<Instant>,
}

impl Reserve {
    pub(super) fn beside(database: &Path) -> Reserve {
        let mut path = database.to_owned().into_os_string();
        path.push("-reserve");
        Reserve { path: path.into(), tried: None }
    }

    /// Returns true if the room is there, on the disk or inside of the database, or could be taken again now.
    pub(super) fn is_held(&mut self, free_bytes: impl FnOnce() -> u64) -> bool {
        if fs::lstat(&self.path).is_ok() || free_bytes() >= SIZE {
            return true;
        }
        if self.tried.is_some_and(|last| last.elapsed() < PAUSE) {
            return false;
        }
        self.tried = Some(Instant::now());
        match self.take() {
            Ok(()) | Err(Errno::EXIST) => true,
            // The file system cannot promise room, so there is none to give up.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => true,
            // Without the right to write, the change itself reports the reason.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT) => true,
            Err(error) => {
                tracing::warn!(%error, "the disk of the sessions database is full: no session begins or changes, and sessions can still end");
                false
            }
        }
    }

    fn take(&self) -> Result<(), Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
        let mode = fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
        let taken = mode.and_then(|()| fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE));
        if taken.is_err() {
            fs::unlink(&self.path)?;
        }
        taken
    }

    /// Gives the room up.
    pub(super) fn release(&mut self) {
        self.tried = Some(Instant::now());
        match fs::unlink(&self.path) {
            Ok(()) => tracing::warn!(
                "the disk of the sessions database is full; its reserve is given up, so that sessions can still end"
            ),
            Err(error) => tracing::debug!(%error, "the reserve of the sessions database was given up before"),
        }
    }
}
