//! The steps of the provider contract on one key or two. The caller holds the locks of the keys.

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::count::{Counter, DeadlineCache};
use super::error::FileError;
use super::folder::Flush;
use super::locks::{self, LocalGuard, LockAttempt, LockGuard, Locks};
use super::round::CollectionRound;
use super::threads::ThreadLimits;
use super::tree::{self, Tree};
use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use crate::id::StoreKey;
use crate::provider::durability::Durability;
use crate::provider::private_folder::FolderError;
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

/// The store behind all clones of a provider: the open folder, the locks, and the progress of its walks.
pub(super) struct FileStore {
    path: PathBuf,
    pub(super) clock: Clock,
    durability: Durability,
    /// True if another library's files may be in the same folder.
    pub(super) shares_folder: bool,
    tree: RwLock<Arc<Tree>>,
    pub(super) locks: Locks,
    pub(super) threads: ThreadLimits,
    pub(super) counter: Counter,
    pub(super) deadlines: Mutex<DeadlineCache>,
    /// The position of garbage collection.
    pub(super) round: Arc<tokio::sync::Mutex<CollectionRound>>,
}

/// The outcome of an attempt to run a step under one lock or two.
pub(super) enum LockedStep<T, S> {
    Done(T),
    /// Another process holds this lock, and the step has not begun.
    Busy(LocalGuard, S),
}

impl FileStore {
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        clock: Clock,
        shares_folder: bool,
    ) -> Result<FileStore, FileError> {
        // The path is absolute, so that a later change of the working directory does not move the store. Collecting the components
        // removes a final slash, with which a symbolic link would be followed.
        let path: PathBuf = std::path::absolute(path)
            .map_err(|cause| FolderError::Unusable { path: path.to_owned(), cause })?
            .components()
            .collect();
        let tree = RwLock::new(Arc::new(Tree::open(&path)?));
        let (locks, threads) = (Locks::new(), ThreadLimits::new());
        let (counter, deadlines, round) = (Counter::default(), Mutex::default(), Arc::default());
        Ok(FileStore {
            path,
            clock,
            durability,
            shares_folder,
            tree,
            locks,
            threads,
            counter,
            deadlines,
            round,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.millis()
    }

    /// Returns the tree at the root's path. If the folder was removed or replaced, it opens the one that is there now or creates one.
    pub(super) fn tree(&self) -> Result<Arc<Tree>, FileError> {
        let current = Arc::clone(&self.tree.read().unwrap_or_else(PoisonError::into_inner));
        if current.is_at(&self.path) {
            return Ok(current);
        }
        let mut current = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        if !current.is_at(&self.path) {
            tracing::warn!(path = %self.path.display(), "the session folder was removed or replaced; opening it again");
            // The folder was usable when the store was opened, so a failure now is an outage and no configuration error.
            let opened = Tree::open(&self.path).map_err(|cause| FileError::Lost(Box::new(cause)))?;
            *current = Arc::new(opened);
        }
        Ok(Arc::clone(&current))
    }

    /// Runs `step` under the lock of `guard`, unless another process holds the lock file.
    pub(super) fn under<T, S>(&self, guard: LocalGuard, step: S) -> Result<LockedStep<T, S>>
    where
        S: FnOnce(&FileStore, &Tree) -> Result<T>,
    {
        let tree = self.tree()?;
        match guard.try_lock_file(tree.root().as_fd())? {
            LockAttempt::Locked(_held) => step(self, &tree).map(LockedStep::Done),
            LockAttempt::Busy(guard) => Ok(LockedStep::Busy(guard, step)),
        }
    }

    /// Runs `step` under two locks, unless another process holds one of the lock files.
    pub(super) fn under_both<T, S>(
        &self,
        (one, other): (LocalGuard, LocalGuard),
        step: S,
    ) -> Result<LockedStep<T, S>>
    where
        S: FnOnce(&FileStore, &Tree) -> Result<T>,
    {
        let tree = self.tree()?;
        let _one = match one.try_lock_file(tree.root().as_fd())? {
            LockAttempt::Locked(held) => held,
            LockAttempt::Busy(guard) => return Ok(LockedStep::Busy(guard, step)),
        };
        match other.try_lock_file(tree.root().as_fd())? {
            LockAttempt::Locked(_other) => step(self, &tree).map(LockedStep::Done),
            LockAttempt::Busy(guard) => Ok(LockedStep::Busy(guard, step)),
        }
    }

    /// Takes the lock of `key` if it is free.
    pub(super) fn try_lock(&self, tree: &Tree, key: &StoreKey) -> Result<Option<LockGuard>, FileError> {
        let Some(guard) = self.locks.try_lock_local(locks::stripe(key)) else { return Ok(None) };
        match guard.try_lock_file(tree.root().as_fd())? {
            LockAttempt::Locked(held) => Ok(Some(held)),
            LockAttempt::Busy(_) => Ok(None),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durability == Durability::Durable
    }

    /// Returns the sync that creates, changes and deletes need.
    pub(super) fn sync(&self) -> Flush {
        match self.durability {
            Durability::Atomic => Flush::Nothing,
            Durability::Durable => Flush::All,
        }
    }

    pub(super) fn create(&self, tree: &Tree, key: &StoreKey, record: &Record) -> Result<Created> {
        let bytes = tree::encode(record)?;
        let before = tree.read_held(key, self.now())?;
        if before.as_ref().is_some_and(|before| self.is_live(before)) {
            return Ok(Created::Taken);
        }
        tree.write(key, record, &bytes, before.as_ref(), self.sync())?;
        Ok(Created::Done)
    }

    /// Loads the record of `key` without a lock. It leaves an unreadable file in its place for [`load_held`](Self::load_held).
    pub(super) fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        Ok(self.tree()?.read(key)?.filter(|record| self.is_live(record)))
    }

    /// Loads the record of `key` under its lock, and moves an unreadable file to the corrupt ones.
    pub(super) fn load_held(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Record>> {
        Ok(tree.read_held(key, self.now())?.filter(|record| self.is_live(record)))
    }

    /// Loads the record of `key` if the kernel has it in memory. Returns `None` if a load might wait, or if the file is unreadable.
    pub(super) fn load_cached(&self, key: &StoreKey) -> Option<Option<Record>> {
        let tree = Arc::clone(&*self.tree.try_read().ok()?);
        // The folder is open and local, so the kernel has its path in memory and `is_at` does not wait.
        let found = (tree.reports_cached() && tree.is_at(&self.path)).then(|| tree.read_cached(key))??;
        Some(found.filter(|record| self.is_live(record)))
    }

    pub(super) fn update(
        &self,
        tree: &Tree,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Result<Updated> {
        let bytes = tree::encode(record)?;
        let Some(before) = self.session(tree, key)? else { return Ok(Updated::Gone) };
        if before.version() != base.version() {
            return Ok(Updated::Stale);
        }
        tree.write(key, record, &bytes, Some(&before), self.sync())?;
        Ok(Updated::Done)
    }

    pub(super) fn touch(&self, tree: &Tree, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let Some(before) = self.session(tree, key)? else { return Ok(Touched::Gone) };
        let mut record = before.clone();
        record.touch(at);
        // A lost touch does no harm, but a lost session would. So the content is synced and the folder entry is not.
        let sync = match self.sync() {
            Flush::All => Flush::Content,
            other => other,
        };
        tree.write(key, &record, &tree::encode(&record)?, Some(&before), sync)?;
        Ok(Touched::Done)
    }

    pub(super) fn rename(
        &self,
        tree: &Tree,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let bytes = tree::encode(record)?;
        let tombstone = tombstone.map(|stone| Ok::<_, Error>((stone, tree::encode(stone)?))).transpose()?;
        let Some(before) = self.session(tree, old)? else { return Ok(Renamed::Gone) };
        if before.version() != expected {
            return Ok(Renamed::Stale);
        }
        let there = tree.read_held(new, self.now())?;
        if there.as_ref().is_some_and(|there| self.is_live(there)) {
            return Ok(Renamed::Taken);
        }
        let done =
            tree.write(new, record, &bytes, there.as_ref(), self.sync()).and_then(|()| match &tombstone {
                Some((stone, bytes)) => tree.write(old, stone, bytes, Some(&before), self.sync()),
                None => tree.remove(old, &before, self.sync()),
            });
        if let Err(error) = done {
            // The caller keeps the old key while the old session lives. A session under the new key would have no owner to end it.
            if matches!(self.session(tree, old), Ok(Some(_))) {
                let _ = tree.remove(new, record, self.sync());
            }
            return Err(error.into());
        }
        Ok(Renamed::Done)
    }

    pub(super) fn delete(&self, tree: &Tree, key: &StoreKey) -> Result<bool> {
        let Some(before) = self.session(tree, key)? else { return Ok(false) };
        tree.remove(key, &before, self.sync())?;
        Ok(true)
    }

    /// Returns the live session under `key`. The caller holds the lock.
    fn session(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Record>> {
        Ok(tree.read_held(key, self.now())?.filter(|record| self.is_live_session(record)))
    }

    /// Returns true if a record or tombstone has not expired.
    pub(super) fn is_live(&self, record: &Record) -> bool {
        !record.expired_at(self.now())
    }

    pub(super) fn is_live_session(&self, record: &Record) -> bool {
        self.is_live(record) && !record.is_tombstone()
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}
