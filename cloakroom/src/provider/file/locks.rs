//! Locks on keys, within the process and between processes.
//!
//! A lock has two parts: a local mutex, for which the tasks of this process queue, and an `flock` on a lock file, which other processes may
//! hold. No wait blocks a thread: the mutex is awaited, and the `flock` is retried after a pause. A stopped process that
//! holds a lock therefore blocks no threads here, and a dropped future stops waiting.
//!
//! Each key maps to one of a fixed set of lock files. A record's own file cannot be the lock, since every change replaces it by another
//! inode. The kernel releases the locks of a process that dies, so no lock is ever stale.

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

/// The number of lock files; far more than concurrent writers on one disk. All processes must use the same number, so it is part of the
/// stored format.
pub(super) const STRIPES: usize = 64;
const FOLDER: &str = ".locks";

/// The locks of one store. A slot holds its lock file once it has been opened.
pub(super) struct Locks([Arc<Mutex<Option<LockFile>>>; STRIPES]);

pub(super) struct LockFile {
    file: OwnedFd,
    /// The file's identity; `None` for the root folder, which replaces a lock file that cannot be created.
    stat: Option<Stat>,
}

/// The local part of a stripe's lock: no other task of this process may try the lock file.
#[must_use]
pub(super) struct LocalGuard {
    slot: OwnedMutexGuard<Option<LockFile>>,
    stripe: usize,
}

/// Both parts of a stripe's lock, released on drop.
#[must_use]
pub(super) struct LockGuard(LocalGuard);

/// The outcome of one attempt to lock.
pub(super) enum LockAttempt {
    Locked(LockGuard),
    /// Another process holds the lock file. Contains the local part, for the next attempt.
    Busy(LocalGuard),
}

impl Locks {
    pub(super) fn new() -> Self {
        Locks(std::array::from_fn(|_| Arc::default()))
    }

    /// Waits for the local part of a stripe's lock, in the order of the callers.
    pub(super) async fn lock_local(&self, stripe: usize) -> LocalGuard {
        LocalGuard { slot: Arc::clone(&self.0[stripe]).lock_owned().await, stripe }
    }

    /// Takes the local part if no other task holds it or waits for it.
    pub(super) fn try_lock_local(&self, stripe: usize) -> Option<LocalGuard> {
        let slot = Arc::clone(&self.0[stripe]).try_lock_owned().ok()?;
        Some(LocalGuard { slot, stripe })
    }

    /// Waits for two local parts. It holds neither while it waits, so a stuck lock delays no other stripe.
    pub(super) async fn lock_both_local(&self, one: usize, other: usize) -> (LocalGuard, LocalGuard) {
        let (mut first, mut second) = (one, other);
        loop {
            let guard = self.lock_local(first).await;
            if let Some(next) = self.try_lock_local(second) {
                return (guard, next);
            }
            drop(guard);
            (first, second) = (second, first);
        }
    }
}

impl LocalGuard {
    pub(super) fn stripe(&self) -> usize {
        self.stripe
    }

    /// Tries to lock the file, without waiting.
    pub(super) fn try_lock_file(mut self, root: BorrowedFd<'_>) -> Result<LockAttempt, FileError> {
        let fail = || FileError::io::<Errno>("locking a session");
        for _ in 0..folder::RETRIES {
            let lock = match self.slot.take() {
                Some(lock) => lock,
                None => match LockFile::open(root, self.stripe)? {
                    Some(lock) => lock,
                    None => return Ok(LockAttempt::Busy(self)),
                },
            };
            let free = flock(&lock.file).map_err(fail())?;
            // The lock file or the root may have been replaced. Another process could then hold the new file's lock.
            if !lock.is_current(root, self.stripe).map_err(fail())? {
                continue;
            }
            *self.slot = Some(lock);
            return Ok(if free { LockAttempt::Locked(LockGuard(self)) } else { LockAttempt::Busy(self) });
        }
        Err(fail()(Errno::NOENT))
    }
}

impl LockGuard {
    pub(super) fn stripe(&self) -> usize {
        self.0.stripe
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let slot = &mut self.0.slot;
        let unlocked = slot.as_ref().is_some_and(|lock| {
            lock.stat.is_some() && retry_on_intr(|| fs::flock(&lock.file, FlockOperation::Unlock)).is_ok()
        });
        if !unlocked {
            // Closing the file releases the lock too. The root folder replaces a lock file for one step only.
            **slot = None;
        }
    }
}

impl LockFile {
    /// Opens the lock file of a stripe, and creates it if it is missing. Returns `None` if another process is creating one now.
    fn open(root: BorrowedFd<'_>, stripe: usize) -> Result<Option<LockFile>, FileError> {
        if let Some(lock) = LockFile::find(root, stripe)? {
            return Ok(Some(lock));
        }
        // Lock files are created under a lock on the root folder. If one cannot be created, on a full disk for example, that lock replaces it.
        let fail = || FileError::io::<Errno>("locking a session");
        let stand_in = folder::open_again(root).map_err(fail())?;
        if !flock(&stand_in).map_err(fail())? {
            return Ok(None);
        }
        match make(root, stripe) {
            Ok(()) => LockFile::find(root, stripe),
            Err(error) if error.refuses_writes() => Ok(Some(LockFile { file: stand_in, stat: None })),
            Err(error) => Err(error),
        }
    }

    /// Opens the lock file of `stripe`; `None` if there is none.
    ///
    /// Anything but a regular file is an error, since another user's program could hold the lock through a link or a device.
    fn find(root: BorrowedFd<'_>, stripe: usize) -> Result<Option<LockFile>, FileError> {
        const ANY: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
        let fail = || FileError::io::<Errno>("locking a session");
        let path = path(stripe);
        // NFS locks only files opened for writing. A read-only file system refuses that, so the lock file is then opened for reading.
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

    /// Returns true if the open file is the one at its path. A stand-in is current as long as there is no lock file.
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

/// Creates all lock files if the file system accepts them. Later, on a full disk, it might not.
pub(super) fn make_all(root: &OwnedFd) -> Result<(), FileError> {
    let missing = |stripe: &usize| fs::statat(root, path(*stripe), AtFlags::SYMLINK_NOFOLLOW).is_err();
    let Some(first) = (0..STRIPES).find(missing) else { return Ok(()) };
    let lock = folder::open_again(root.as_fd()).map_err(FileError::io::<Errno>("locking a session"))?;
    // Another process is creating lock files now. Missing ones are created when they are needed.
    if !flock(&lock).map_err(FileError::io("locking a session"))? {
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

fn flock(file: &OwnedFd) -> Result<bool, Errno> {
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

/// The pauses between attempts to take a lock that another process holds. The first attempts yield only; later pauses grow.
#[derive(Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    const AT_ONCE: u32 = 3;
    /// The exponent of the longest pause, 16 ms. A healthy process holds a lock for some milliseconds, even if it syncs.
    const LONGEST: u32 = 4;

    pub(super) async fn pause(&mut self) {
        let guard = self.0;
        self.0 += 1;
        if guard < Self::AT_ONCE {
            return tokio::task::yield_now().await;
        }
        let pause = Duration::from_millis(1 << (guard - Self::AT_ONCE).min(Self::LONGEST));
        match Handle::try_current() {
            Ok(_) => tokio::time::sleep(pause).await,
            // Without tokio there is no timer.
            Err(_) => std::thread::sleep(pause),
        }
    }
}
