//! Locks on keys, within the process and between processes.
//!
//! A fixed set of files, never the record files: those change their inode under a lock. The kernel releases a lock when
//! its holder dies, so there are no stale ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, FlockOperation, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::error::FileError;
use super::folder::{self, Flush};
use crate::id::StoreKey;

/// Many more than threads that write at the same time on one disk. Part of the format: processes must agree on it.
const STRIPES: usize = 64;
const FOLDER: &str = ".locks";

pub(super) struct Locks([Mutex<Option<LockFile>>; STRIPES]);

struct LockFile {
    file: OwnedFd,
    stat: Stat,
}

/// The right to change the keys of one stripe, until dropped.
#[must_use]
pub(super) struct Held<'a>(MutexGuard<'a, Option<LockFile>>);

impl Locks {
    pub(super) fn new() -> Self {
        Locks(std::array::from_fn(|_| Mutex::new(None)))
    }

    /// Waits until nobody else holds the lock of `key`.
    pub(super) fn hold(&self, root: BorrowedFd<'_>, key: &StoreKey) -> Result<Held<'_>, FileError> {
        self.hold_stripe(root, stripe(key))
    }

    /// Waits for the locks of two keys, always in the same order so that two who want the same never wait for each other.
    pub(super) fn hold_both(
        &self,
        root: BorrowedFd<'_>,
        one: &StoreKey,
        other: &StoreKey,
    ) -> Result<(Held<'_>, Option<Held<'_>>), FileError> {
        let (one, other) = (stripe(one), stripe(other));
        let first = self.hold_stripe(root, one.min(other))?;
        let second = (one != other).then(|| self.hold_stripe(root, one.max(other))).transpose()?;
        Ok((first, second))
    }

    fn hold_stripe(&self, root: BorrowedFd<'_>, stripe: usize) -> Result<Held<'_>, FileError> {
        let fail = || FileError::io::<Errno>("locking a session");
        // A panic under the lock leaves at worst a lock file that is still locked, which its drop has seen to.
        let mut slot = self.0[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{stripe:02x}");
        let path = format!("{FOLDER}/{name}");
        loop {
            let lock = match slot.take() {
                Some(lock) => lock,
                None => {
                    let folder = folder::make_folder(root, FOLDER, Flush::Nothing)?;
                    let file = folder::make_empty(&folder, &name, Flush::Nothing).map_err(fail())?;
                    let stat = fs::fstat(&file).map_err(fail())?;
                    LockFile { file, stat }
                }
            };
            retry_on_intr(|| fs::flock(&lock.file, FlockOperation::LockExclusive)).map_err(fail())?;
            // The file may have been removed while we waited, and another process lock its successor.
            match fs::statat(root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if same_file(&stat, &lock.stat) => {
                    *slot = Some(lock);
                    return Ok(Held(slot));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error)),
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(lock) = &*self.0
            && retry_on_intr(|| fs::flock(lock.file.as_fd(), FlockOperation::Unlock)).is_err()
        {
            // Closing releases it as well.
            *self.0 = None;
        }
    }
}

fn stripe(key: &StoreKey) -> usize {
    crc32fast::hash(key.as_bytes()) as usize % STRIPES
}

pub(super) fn same_file(one: &Stat, other: &Stat) -> bool {
    one.st_ino == other.st_ino && one.st_dev == other.st_dev
}
