//! The contract's steps on one key or two, each under the key's lock.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::Durability;
use super::error::FileError;
use super::folder::Flush;
use super::lap::Lap;
use super::tree::{self, Tree};
use crate::clock::{Clock, Millis};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{Created, Listed, Renamed, Touched, Updated};
use crate::record::Record;

/// How often the list of a user's sessions is looked at again because it changed meanwhile.
const RELISTS: usize = 64;

#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    clock: Clock,
    durability: Durability,
    /// Files that are none of ours may lie beside those that are.
    pub(super) beside_others: bool,
    tree: RwLock<Arc<Tree>>,
    /// Where garbage collection goes on.
    pub(super) lap: Mutex<Lap>,
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
        Ok(Store { path, clock, durability, beside_others, tree, lap: Mutex::default() })
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

    /// How durable what lives and dies is.
    pub(super) fn sync(&self) -> Flush {
        match self.durability {
            Durability::Atomic => Flush::Nothing,
            Durability::Durable => Flush::All,
        }
    }

    pub(super) fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let bytes = tree::encode(record)?;
        let tree = self.tree()?;
        let _held = tree.hold(key)?;
        let before = tree.read_held(key, self.now())?;
        if before.as_ref().is_some_and(|before| self.lives(before)) {
            return Ok(Created::Taken);
        }
        tree.write(key, record, &bytes, before.as_ref(), self.sync())?;
        Ok(Created::Done)
    }

    pub(super) fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let tree = self.tree()?;
        let found = match tree.read(key) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let _held = tree.hold(key)?;
                tree.read_held(key, self.now())?
            }
            answer => answer?,
        };
        Ok(found.filter(|record| self.lives(record)))
    }

    /// [`load`](Self::load) where that waits for nothing; `None` where it may have to, or has more to do than to read.
    pub(super) fn load_at_hand(&self, key: &StoreKey) -> Option<Option<Record>> {
        let tree = Arc::clone(&*self.tree.try_read().ok()?);
        // The folder is open and on a disk of this machine, so that the kernel has its path at hand.
        let found = (tree.tells_at_hand() && tree.is_at(&self.path)).then(|| tree.read_at_hand(key))??;
        Some(found.filter(|record| self.lives(record)))
    }

    pub(super) fn update(&self, key: &StoreKey, record: &Record, expected: u64) -> Result<Updated> {
        let bytes = tree::encode(record)?;
        let tree = self.tree()?;
        let _held = tree.hold(key)?;
        let Some(before) = self.session(&tree, key)? else { return Ok(Updated::Gone) };
        if before.version() != expected {
            return Ok(Updated::Stale);
        }
        tree.write(key, record, &bytes, Some(&before), self.sync())?;
        Ok(Updated::Done)
    }

    pub(super) fn touch(
        &self,
        key: &StoreKey,
        at: SystemTime,
        deadline: SystemTime,
        expected: u64,
    ) -> Result<Touched> {
        let tree = self.tree()?;
        let _held = tree.hold(key)?;
        let Some(before) = self.session(&tree, key)? else { return Ok(Touched::Gone) };
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
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let bytes = tree::encode(record)?;
        let tombstone = tombstone.map(|stone| Ok::<_, Error>((stone, tree::encode(stone)?))).transpose()?;
        let tree = self.tree()?;
        let _held = tree.hold_both(old, new)?;
        let Some(before) = self.session(&tree, old)? else { return Ok(Renamed::Gone) };
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
            if matches!(self.session(&tree, old), Ok(Some(_))) {
                let _ = tree.remove(new, record, self.sync());
            }
            return Err(error.into());
        }
        Ok(Renamed::Done)
    }

    pub(super) fn delete(&self, key: &StoreKey) -> Result<bool> {
        let tree = self.tree()?;
        let _held = tree.hold(key)?;
        let Some(before) = self.session(&tree, key)? else { return Ok(false) };
        tree.remove(key, &before, self.sync())?;
        Ok(true)
    }

    pub(super) fn of_principal(&self, principal: &Principal) -> Result<Vec<Listed>> {
        let tree = self.tree()?;
        let mut marked = tree.marked(principal)?;
        let mut tries = 0;
        loop {
            let found = self.theirs(&tree, principal, &marked)?;
            let now = tree.marked(principal)?;
            // A session that is given another key meanwhile may be under neither of those that were looked at. A mark too many
            // was taken away by the look itself.
            let grown = now.iter().any(|key| !marked.contains(key));
            let lost =
                marked.iter().any(|key| !now.contains(key) && found.iter().any(|listed| listed.key == *key));
            if !(grown || lost) || tries == RELISTS {
                return Ok(found);
            }
            (marked, tries) = (now, tries + 1);
        }
    }

    fn theirs(&self, tree: &Tree, principal: &Principal, marked: &[StoreKey]) -> Result<Vec<Listed>> {
        let theirs = |record: &Record| tree::indexed(record).as_ref() == Some(principal);
        let mut listed = Vec::new();
        for key in marked {
            // Under the lock nobody is between the mark and the record, nor half-way to another key.
            let _held = tree.hold(key)?;
            let found = tree.read_held(key, self.now());
            if !matches!(&found, Ok(Some(record)) if theirs(record)) {
                tree.unmark(principal, key);
            }
            let found = match found {
                Err(error) if error.kind() == ErrorKind::Corrupt => None,
                answer => answer?,
            };
            if let Some(record) = found.filter(|record| theirs(record) && self.is_session(record)) {
                listed.push(Listed { key: key.clone(), meta: record.meta() });
            }
        }
        Ok(listed)
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
