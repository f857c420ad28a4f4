//! The contract's steps on one key or two, each under the key's lock, which the caller holds.

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::Durability;
use super::error::FileError;
use super::folder::Flush;
use super::lanes::Lanes;
use super::lap::Lap;
use super::locks::{self, Attempt, Held, Locks, Turn};
use super::tally::{Known, Tally};
use super::tree::{self, Tree};
use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use crate::id::StoreKey;
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

pub(super) struct Store {
    path: PathBuf,
    clock: Clock,
    durability: Durability,
    /// Files that are none of ours may lie beside those that are.
    pub(super) beside_others: bool,
    tree: RwLock<Arc<Tree>>,
    pub(super) locks: Locks,
    pub(super) lanes: Lanes,
    pub(super) tally: Tally,
    pub(super) known: Mutex<Known>,
    /// Where garbage collection goes on.
    pub(super) lap: Arc<tokio::sync::Mutex<Lap>>,
}

/// The outcome of a step that needs one lock or two.
pub(super) enum Tried<T, S> {
    Done(T),
    /// Another process holds this turn's lock, and the step was not begun.
    Busy(Turn, S),
}

impl Store {
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        clock: Clock,
        beside_others: bool,
    ) -> Result<Store, FileError> {
        // A later change of the working directory must not move the store. Collecting the components takes a slash
        // off the end, behind which a symbolic link would hide.
        let path: PathBuf = std::path::absolute(path)
            .map_err(|cause| FileError::Root { path: path.to_owned(), cause })?
            .components()
            .collect();
        let tree = RwLock::new(Arc::new(Tree::open(&path)?));
        let (locks, lanes) = (Locks::new(), Lanes::new());
        let (tally, known, lap) = (Tally::default(), Mutex::default(), Arc::default());
        Ok(Store { path, clock, durability, beside_others, tree, locks, lanes, tally, known, lap })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.millis()
    }

    /// The tree at the root's path. If the folder was removed or replaced since, the one that is there now, or a new one.
    pub(super) fn tree(&self) -> Result<Arc<Tree>, FileError> {
        let current = Arc::clone(&self.tree.read().unwrap_or_else(PoisonError::into_inner));
        if current.is_at(&self.path) {
            return Ok(current);
        }
        let mut current = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        if !current.is_at(&self.path) {
            tracing::warn!(path = %self.path.display(), "the session folder is another one or gone; opening it anew");
            // It was fit for use when the store was opened: what is wrong now is no configuration error but an outage.
            let opened = Tree::open(&self.path).map_err(|cause| FileError::Lost(Box::new(cause)))?;
            *current = Arc::new(opened);
        }
        Ok(Arc::clone(&current))
    }

    /// Does `step` under the lock of `turn`, unless another process holds that.
    pub(super) fn under<T, S>(&self, turn: Turn, step: S) -> Result<Tried<T, S>>
    where
        S: FnOnce(&Store, &Tree) -> Result<T>,
    {
        let tree = self.tree()?;
        match turn.lock(tree.root().as_fd())? {
            Attempt::Held(_held) => step(self, &tree).map(Tried::Done),
            Attempt::Busy(turn) => Ok(Tried::Busy(turn, step)),
        }
    }

    /// The same under the locks of two turns.
    pub(super) fn under_both<T, S>(&self, (one, other): (Turn, Turn), step: S) -> Result<Tried<T, S>>
    where
        S: FnOnce(&Store, &Tree) -> Result<T>,
    {
        let tree = self.tree()?;
        let _one = match one.lock(tree.root().as_fd())? {
            Attempt::Held(held) => held,
            Attempt::Busy(turn) => return Ok(Tried::Busy(turn, step)),
        };
        match other.lock(tree.root().as_fd())? {
            Attempt::Held(_other) => step(self, &tree).map(Tried::Done),
            Attempt::Busy(turn) => Ok(Tried::Busy(turn, step)),
        }
    }

    /// The lock of `key`, if it can be had at once.
    pub(super) fn try_hold(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Held>, FileError> {
        let Some(turn) = self.locks.try_turn(locks::stripe(key)) else { return Ok(None) };
        match turn.lock(tree.root().as_fd())? {
            Attempt::Held(held) => Ok(Some(held)),
            Attempt::Busy(_) => Ok(None),
        }
    }

    /// How durable what lives and dies is.
    pub(super) fn sync(&self) -> Flush {
        match self.durability {
            Durability::Atomic => Flush::Nothing,
            Durability::Durable => Flush::All,
        }
    }

    pub(super) fn create(&self, tree: &Tree, key: &StoreKey, record: &Record) -> Result<Created> {
        let bytes = tree::encode(record)?;
        let before = tree.read_held(key, self.now())?;
        if before.as_ref().is_some_and(|before| self.lives(before)) {
            return Ok(Created::Taken);
        }
        tree.write(key, record, &bytes, before.as_ref(), self.sync())?;
        Ok(Created::Done)
    }

    /// Needs no lock. What cannot be read is left where it is, for one who holds the lock.
    pub(super) fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        Ok(self.tree()?.read(key)?.filter(|record| self.lives(record)))
    }

    /// The same under the lock: what cannot be read is put aside.
    pub(super) fn load_held(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Record>> {
        Ok(tree.read_held(key, self.now())?.filter(|record| self.lives(record)))
    }

    /// [`load`](Self::load) where that waits for nothing; `None` where it may have to, or has more to do than to read.
    pub(super) fn load_at_hand(&self, key: &StoreKey) -> Option<Option<Record>> {
        let tree = Arc::clone(&*self.tree.try_read().ok()?);
        // The folder is open and on a disk of this machine, so that the kernel has its path at hand.
        let found = (tree.tells_at_hand() && tree.is_at(&self.path)).then(|| tree.read_at_hand(key))??;
        Some(found.filter(|record| self.lives(record)))
    }

    pub(super) fn update(
        &self,
        tree: &Tree,
        key: &StoreKey,
        record: &Record,
        expected: u64,
    ) -> Result<Updated> {
        let bytes = tree::encode(record)?;
        let Some(before) = self.session(tree, key)? else { return Ok(Updated::Gone) };
        if before.version() != expected {
            return Ok(Updated::Stale);
        }
        tree.write(key, record, &bytes, Some(&before), self.sync())?;
        Ok(Updated::Done)
    }

    pub(super) fn touch(
        &self,
        tree: &Tree,
        key: &StoreKey,
        at: SystemTime,
        deadline: SystemTime,
        expected: u64,
    ) -> Result<Touched> {
        let Some(before) = self.session(tree, key)? else { return Ok(Touched::Gone) };
        if before.version() != expected {
            return Ok(Touched::Stale);
        }
        let mut record = before.clone();
        record.touch(at, deadline);
        // A lost touch does no harm, a lost session would: so its content is made durable, the exchange of names is not.
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
        if there.as_ref().is_some_and(|there| self.lives(there)) {
            return Ok(Renamed::Taken);
        }
        let done =
            tree.write(new, record, &bytes, there.as_ref(), self.sync()).and_then(|()| match &tombstone {
                Some((stone, bytes)) => tree.write(old, stone, bytes, Some(&before), self.sync()),
                None => tree.remove(old, &before, self.sync()),
            });
        if let Err(error) = done {
            // While the old one lives the caller keeps its key, and nobody would ever end the session under the new one.
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

    /// The session under `key`, if one is there that can be changed. The lock is held.
    fn session(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Record>> {
        Ok(tree.read_held(key, self.now())?.filter(|record| self.is_session(record)))
    }

    /// Whether a record or tombstone is there for anybody.
    pub(super) fn lives(&self, record: &Record) -> bool {
        !record.expired_at(self.now())
    }

    pub(super) fn is_session(&self, record: &Record) -> bool {
        self.lives(record) && !record.is_tombstone()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}
