//! The steps on one value: each locks its file, since Beego and other processes change it too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FlockOperation, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::{BeegoFolder, format};
use crate::clock::Millis;
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::file::error::FileError;
use crate::provider::file::locks::same_file;
use crate::provider::file::tree::{self, KeyPath};
use crate::provider::file::{folder, root};
use crate::provider::foreign::{FoundValue, Life};
use crate::provider::{Created, Renamed, Touched, Updated};

/// Beego truncates a file and then writes it. A file found empty within this time of its last use is read again.
const WRITE_TIME: Duration = Duration::from_secs(1);
const READ_TRIES: u32 = 5;

/// The outcome of an attempt to run a step under the lock of a value.
pub(super) enum ValueStep<T> {
    Done(T),
    /// Another process or task holds the lock. Nothing was changed.
    Busy,
}

/// The outcome of an attempt to lock a value.
pub(super) enum ValueLock {
    Locked(LockedValue),
    Missing,
    Busy,
}

/// An open file of a value, locked until this is dropped.
pub(super) struct LockedValue {
    file: OwnedFd,
    pub(super) found: FoundValue,
}

impl BeegoFolder {
    pub(super) fn root(&self) -> Result<Arc<(OwnedFd, Stat)>, FileError> {
        let is_current =
            |root: &(OwnedFd, Stat)| fs::lstat(&self.path).is_ok_and(|stat| same_file(&stat, &root.1));
        let root = Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner));
        if is_current(&root) {
            return Ok(root);
        }
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        if !is_current(&root) {
            tracing::warn!(path = %self.path.display(), "the session folder was removed or replaced; opening it again");
            *root = Arc::new(root::open(&self.path).map_err(|cause| FileError::Lost(Box::new(cause)))?);
        }
        Ok(Arc::clone(&root))
    }

    pub(super) fn read(&self, key: &StoreKey) -> Result<Option<FoundValue>> {
        let root = self.root()?;
        for attempt in 1.. {
            let found =
                self.read_file(&root.0, &KeyPath::of(key).path())?.filter(|found| self.is_live(found));
            let being_written = found.as_ref().is_some_and(|found| {
                found.value.is_empty() && self.clock.millis().since(found.life.used) < WRITE_TIME
            });
            if !being_written || attempt == READ_TRIES {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt)));
        }
        Ok(None)
    }

    pub(super) fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<ValueStep<Created>> {
        let root = self.root()?;
        for _ in 0..folder::RETRIES {
            if format::make(&root.0, key, value, life.used, self.sync)? {
                return Ok(ValueStep::Done(Created::Done));
            }
            match self.lock_any(&root.0, key)? {
                ValueLock::Locked(held) if self.is_live(&held.found) => {
                    return Ok(ValueStep::Done(Created::Taken));
                }
                ValueLock::Locked(_expired) => {
                    format::replace(&root.0, key, value, life.used, self.sync)?;
                    return Ok(ValueStep::Done(Created::Done));
                }
                ValueLock::Missing => {}
                ValueLock::Busy => return Ok(ValueStep::Busy),
            }
        }
        Ok(ValueStep::Done(Created::Taken))
    }

    pub(super) fn swap(
        &self,
        key: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<ValueStep<Updated>> {
        let root = self.root()?;
        let _held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) if held.found.value == former => held,
            ValueLock::Locked(_) => return Ok(ValueStep::Done(Updated::Stale)),
            ValueLock::Missing => return Ok(ValueStep::Done(Updated::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        format::replace(&root.0, key, value, life.used, self.sync)?;
        Ok(ValueStep::Done(Updated::Done))
    }

    pub(super) fn touch(&self, key: &StoreKey, used: Millis) -> Result<ValueStep<Touched>> {
        let root = self.root()?;
        let held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) => held,
            ValueLock::Missing => return Ok(ValueStep::Done(Touched::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        format::set_used(&held.file, used.max(held.found.life.used))
            .map_err(FileError::io("noting the use of a session"))?;
        Ok(ValueStep::Done(Touched::Done))
    }

    pub(super) fn rename(
        &self,
        keys: [&StoreKey; 2],
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<ValueStep<Renamed>> {
        let root = self.root()?;
        let [old, new] = keys;
        let _held = match self.lock_live(&root.0, old)? {
            ValueLock::Locked(held) if held.found.value == former => held,
            ValueLock::Locked(_) => return Ok(ValueStep::Done(Renamed::Stale)),
            ValueLock::Missing => return Ok(ValueStep::Done(Renamed::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        match self.insert(new, value, life)? {
            ValueStep::Done(Created::Done) => {}
            ValueStep::Done(Created::Taken) => return Ok(ValueStep::Done(Renamed::Taken)),
            ValueStep::Busy => return Ok(ValueStep::Busy),
        }
        if let Err(error) = format::unlink(&root.0, old, self.sync) {
            // The caller keeps the old key. A session under the new key would have no owner to end it.
            let _ = format::unlink(&root.0, new, self.sync);
            return Err(error.into());
        }
        Ok(ValueStep::Done(Renamed::Done))
    }

    pub(super) fn remove(&self, key: &StoreKey) -> Result<ValueStep<bool>> {
        let root = self.root()?;
        let _held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) => held,
            ValueLock::Missing => return Ok(ValueStep::Done(false)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        format::unlink(&root.0, key, self.sync)?;
        Ok(ValueStep::Done(true))
    }

    pub(super) fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<ValueStep<()>> {
        let root = self.root()?;
        match self.lock_any(&root.0, key)? {
            ValueLock::Locked(held) if held.found.value == value => {
                tree::put_aside(&root.0, key, self.clock.millis())?;
                tracing::warn!("a Beego session cannot be read; it was moved to .corrupt");
                Ok(ValueStep::Done(()))
            }
            ValueLock::Locked(_) | ValueLock::Missing => Ok(ValueStep::Done(())),
            ValueLock::Busy => Ok(ValueStep::Busy),
        }
    }

    /// Locks and reads the value under `key` if it is live.
    fn lock_live(&self, root: &OwnedFd, key: &StoreKey) -> Result<ValueLock> {
        Ok(match self.lock_any(root, key)? {
            ValueLock::Locked(held) if !self.is_live(&held.found) => ValueLock::Missing,
            grip => grip,
        })
    }

    /// Locks and reads the value under `key`, expired or not.
    pub(super) fn lock_any(&self, root: &OwnedFd, key: &StoreKey) -> Result<ValueLock> {
        let fail = || FileError::io::<Errno>("locking a session");
        let path = KeyPath::of(key).path();
        for _ in 0..folder::RETRIES {
            let Some((file, _)) = folder::open_file(root.as_fd(), &path)? else {
                return Ok(ValueLock::Missing);
            };
            match retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(ValueLock::Busy),
                Err(error) => return Err(fail()(error).into()),
            }
            // The previous holder of the lock may have replaced the file.
            let stat = fs::fstat(&file).map_err(fail())?;
            match fs::statat(root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(present) if same_file(&present, &stat) => {
                    let size = usize::try_from(stat.st_size).unwrap_or(0);
                    return Ok(ValueLock::Locked(LockedValue { found: self.found(&file, size)?, file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error).into()),
            }
        }
        Ok(ValueLock::Busy)
    }

    /// Reads the value in the file at `path` below `dir`, expired or not.
    pub(super) fn read_file(&self, dir: &OwnedFd, path: &str) -> Result<Option<FoundValue>> {
        let Some((file, size)) = folder::open_file(dir.as_fd(), path)? else {
            return Ok(None);
        };
        self.found(&file, size).map(Some)
    }

    fn found(&self, file: &OwnedFd, size: usize) -> Result<FoundValue> {
        let value = folder::read_all(file, size)?;
        let stat = fs::fstat(file).map_err(FileError::io("reading a session"))?;
        Ok(FoundValue { value, life: self.life(format::used(&stat)) })
    }

    pub(super) fn is_live(&self, found: &FoundValue) -> bool {
        found.life.deadline > self.clock.millis()
    }

    fn life(&self, used: Millis) -> Life {
        Life { used, deadline: used.after(self.lifetime) }
    }
}
