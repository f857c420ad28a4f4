//! Locks on keys, within the process and between processes.
//!
//! A lock has two halves: a turn, for which the tasks of this process queue, and an `flock` on a file, which other processes
//! may hold. Neither half is waited for on a blocked thread: turns are awaited, and the file is tried again. So a process that was
//! stopped while it held a lock costs its waiters no threads, and dropping a waiter's future ends its wait.
//!
//! The files are a fixed set, never the record files: those change their inode under a lock. The kernel releases a lock when its
//! holder dies, so there are no stale ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::FileError;
use super::folder::{self, Flush};
use crate::id::StoreKey;

/// Many more than threads that write at the same time on one disk. Part of the format: processes must agree on it.
pub(super) const STRIPES: usize = 64;
const FOLDER: &str = ".locks";

/// The locks of one store. Each slot holds its lock file once that was opened.
pub(super) struct Locks([Arc<Mutex<Option<LockFile>>>; STRIPES]);

pub(super) struct LockFile {
    file: OwnedFd,
    /// `None` for the root folder, which stands in for a lock file that cannot be made.
    stat: Option<Stat>,
}

/// The right to try a stripe's lock file: no other task of this process may.
#[must_use]
pub(super) struct Turn {
    slot: OwnedMutexGuard<Option<LockFile>>,
    stripe: usize,
}

/// The right to change the keys of one stripe, until dropped.
#[must_use]
pub(super) struct Held(Turn);

/// The outcome of one try of a lock.
pub(super) enum Attempt {
    Held(Held),
    /// Another process holds it; the turn is handed back.
    Busy(Turn),
}

impl Locks {
    pub(super) fn new() -> Self {
        Locks(std::array::from_fn(|_| Arc::default()))
    }

    /// Waits until no other task of this process has the turn, first come, first served.
    pub(super) async fn turn(&self, stripe: usize) -> Turn {
        Turn { slot: Arc::clone(&self.0[stripe]).lock_owned().await, stripe }
    }

    /// The turn, if no task has it or waits for it.
    pub(super) fn try_turn(&self, stripe: usize) -> Option<Turn> {
        let slot = Arc::clone(&self.0[stripe]).try_lock_owned().ok()?;
        Some(Turn { slot, stripe })
    }

    /// Waits for two turns. Whoever waits holds none meanwhile, so a stuck lock holds up no other.
    pub(super) async fn turns(&self, one: usize, other: usize) -> (Turn, Turn) {
        let (mut first, mut second) = (one, other);
        loop {
            let turn = self.turn(first).await;
            if let Some(next) = self.try_turn(second) {
                return (turn, next);
            }
            drop(turn);
            (first, second) = (second, first);
        }
    }
}

impl Turn {
    pub(super) fn stripe(&self) -> usize {
        self.stripe
    }

    /// Tries the lock file, and never waits for another process.
    pub(super) fn lock(mut self, root: BorrowedFd<'_>) -> Result<Attempt, FileError> {
        let fail = || FileError::io::<Errno>("locking a session");
        for _ in 0..folder::RETRIES {
            let lock = match self.slot.take() {
                Some(lock) => lock,
                None => match LockFile::open(root, self.stripe)? {
                    Some(lock) => lock,
                    None => return Ok(Attempt::Busy(self)),
                },
            };
            let free = try_lock(&lock.file).map_err(fail())?;
            // The file, or the whole root, may have been replaced, and another process have locked the successor.
            if !lock.is_current(root, self.stripe).map_err(fail())? {
                continue;
            }
            *self.slot = Some(lock);
            return Ok(if free { Attempt::Held(Held(self)) } else { Attempt::Busy(self) });
        }
        Err(fail()(Errno::NOENT))
    }
}

impl Held {
    pub(super) fn stripe(&self) -> usize {
        self.0.stripe
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let slot = &mut self.0.slot;
        let unlocked = slot.as_ref().is_some_and(|lock| {
            lock.stat.is_some() && retry_on_intr(|| fs::flock(&lock.file, FlockOperation::Unlock)).is_ok()
        });
        if !unlocked {
            // Closing releases it as well. The root stands in for one time only.
            **slot = None;
        }
    }
}

impl LockFile {
    /// The lock file of a stripe; `None` if it has to be made, and another process is about to.
    fn open(root: BorrowedFd<'_>, stripe: usize) -> Result<Option<LockFile>, FileError> {
        if let Some(lock) = LockFile::find(root, stripe)? {
            return Ok(Some(lock));
        }
        // Lock files are made under the lock of the root. So where one cannot be made, on a full disk say, that lock stands in for it.
        let fail = || FileError::io::<Errno>("locking a session");
        let stand_in = folder::open_again(root).map_err(fail())?;
        if !try_lock(&stand_in).map_err(fail())? {
            return Ok(None);
        }
        match make(root, stripe) {
            Ok(()) => LockFile::find(root, stripe),
            Err(error) if error.refuses_writes() => Ok(Some(LockFile { file: stand_in, stat: None })),
            Err(error) => Err(error),
        }
    }

    fn find(root: BorrowedFd<'_>, stripe: usize) -> Result<Option<LockFile>, FileError> {
        const ANY: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
        let fail = || FileError::io::<Errno>("locking a session");
        let path = path(stripe);
        // NFS locks only what is open for writing; a read-only file system opens nothing for it.
        let opened = match folder::open_below(root, &path, ANY | OFlags::RDWR) {
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                folder::open_below(root, &path, ANY | OFlags::RDONLY)
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(FileError::LockFile { found: "a symbolic link" }),
            Err(Errno::ISDIR) => return Err(FileError::LockFile { found: "a folder" }),
            Err(Errno::NOTDIR) => return Err(FileError::Branch { found: "is no folder" }),
            Err(error) => return Err(fail()(error)),
        };
        let stat = fs::fstat(&file).map_err(fail())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FileError::LockFile { found: "a pipe, a socket or a device" });
        }
        Ok(Some(LockFile { file, stat: Some(stat) }))
    }

    fn is_current(&self, root: BorrowedFd<'_>, stripe: usize) -> Result<bool, Errno> {
        let present = match fs::statat(root, path(stripe), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(present) => Some(present),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => return Err(error),
        };
        Ok(match (&self.stat, present) {
            (Some(own), Some(present)) => same_file(own, &present),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        })
    }
}

/// Makes all lock files, if the file system takes them: later, on a full disk, it might not.
pub(super) fn make_all(root: &OwnedFd) -> Result<(), FileError> {
    let missing = |stripe: &usize| fs::statat(root, path(*stripe), AtFlags::SYMLINK_NOFOLLOW).is_err();
    let Some(first) = (0..STRIPES).find(missing) else { return Ok(()) };
    let lock = folder::open_again(root.as_fd()).map_err(FileError::io::<Errno>("locking a session"))?;
    // If another process is making one, the rest is made when it is needed.
    if !try_lock(&lock).map_err(FileError::io("locking a session"))? {
        return Ok(());
    }
    for stripe in (first..STRIPES).filter(missing) {
        match make(root.as_fd(), stripe) {
            Err(error) if error.refuses_writes() => break,
            answer => answer?,
        }
    }
    Ok(())
}

fn make(root: BorrowedFd<'_>, stripe: usize) -> Result<(), FileError> {
    let folder = folder::make_folder(root, FOLDER, Flush::Nothing)?;
    let name = format!("{stripe:02x}");
    folder::make_empty(&folder, &name, Flush::Nothing).map_err(FileError::io("making a lock file"))?;
    Ok(())
}

fn try_lock(file: &OwnedFd) -> Result<bool, Errno> {
    match retry_on_intr(|| fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

fn path(stripe: usize) -> String {
    format!("{FOLDER}/{stripe:02x}")
}

pub(super) fn stripe(key: &StoreKey) -> usize {
    crc32fast::hash(key.as_bytes()) as usize % STRIPES
}

pub(super) fn same_file(one: &Stat, other: &Stat) -> bool {
    one.st_ino == other.st_ino && one.st_dev == other.st_dev
}

/// The pauses between two tries of a lock that another process holds: none at first, then longer and longer ones.
#[derive(Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    const AT_ONCE: u32 = 3;
    /// A lock is held for some milliseconds at most, on a disk that syncs.
    const LONGEST: u32 = 4;

    pub(super) async fn next(&mut self) {
        let turn = self.0;
        self.0 += 1;
        if turn < Self::AT_ONCE {
            return tokio::task::yield_now().await;
        }
        let pause = Duration::from_millis(1 << (turn - Self::AT_ONCE).min(Self::LONGEST));
        match Handle::try_current() {
            Ok(_) => tokio::time::sleep(pause).await,
            // Other executors have no timer of ours.
            Err(_) => std::thread::sleep(pause),
        }
    }
}
