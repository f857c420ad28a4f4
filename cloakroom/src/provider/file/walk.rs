//! Walks over all keys: the count, the pages of `scan`, and the collection of expired records.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::count::{CachedDeadline, CountStep};
use super::error::FileError;
use super::folder;
use super::locks;
use super::round::CollectionRound;
use super::store::FileStore;
use super::tree::{self, Tree};
use crate::clock::Millis;
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Collected, Cursor, Listed, Page};
use crate::record::Record;

/// The number of records that one step reads: about 50 ms if they are in the page cache.
pub(super) const RECORDS_PER_STEP: usize = 4096;

impl FileStore {
    /// Runs one step of a count, over the folders after the prefix `after` and before the prefix `until`.
    pub(super) fn count(&self, after: &str, until: Option<&str>) -> Result<CountStep> {
        let tree = self.tree()?;
        let (mut step, mut read) = (CountStep { count: 0, next: None }, 0);
        walk(tree.root(), after, &mut |leaf| {
            if leaf.prefix == after {
                return Ok(ControlFlow::Continue(()));
            }
            if read >= RECORDS_PER_STEP || until.is_some_and(|until| leaf.prefix.as_str() >= until) {
                return Ok(ControlFlow::Break(()));
            }
            step.count += self.count_leaf(&tree, leaf)?;
            read += leaf.keys.len();
            step.next = Some(leaf.prefix.clone());
            Ok(ControlFlow::Continue(()))
        })?;
        // The step has read fewer records than it may, so it has reached the end.
        step.next.take_if(|_| read < RECORDS_PER_STEP);
        Ok(step)
    }

    /// Counts the live sessions in one folder. A file whose time of change is the one of the last count is not read again.
    ///
    /// The deadlines of the folder are taken out of the cache meanwhile, so that its lock is not held during I/O.
    fn count_leaf(&self, tree: &Tree, leaf: &Leaf) -> Result<u64> {
        let known = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).take(&leaf.prefix);
        let mut deadlines = Vec::with_capacity(leaf.keys.len());
        for key in &leaf.keys {
            let stat = match fs::statat(&leaf.folder, key.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(FileError::io("counting the sessions")(error).into()),
            };
            let cached = match CachedDeadline::find(&known, &stat) {
                Some(cached) => cached,
                None => {
                    let found = self.read_key(tree, leaf, key)?.filter(|record| !record.is_tombstone());
                    CachedDeadline::new(&stat, found.map_or(Millis(0), |record| record.deadline()))
                }
            };
            deadlines.push(cached);
        }
        let now = self.now();
        let count = deadlines.iter().filter(|cached| cached.deadline > now).count() as u64;
        // On other file systems the time of change may come from another machine's clock.
        if tree.is_local() {
            deadlines.retain(CachedDeadline::is_reliable);
            self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).put_back(&leaf.prefix, deadlines);
        }
        Ok(count)
    }

    pub(super) fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page> {
        let tree = self.tree()?;
        let after = cursor.map_or("", Cursor::as_str);
        let (mut page, mut last, mut budget) = (Page::default(), after.to_owned(), RECORDS_PER_STEP);
        walk(tree.root(), after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                if budget == 0 {
                    page.next = Some(Cursor::new(last.as_str()));
                    return Ok(ControlFlow::Break(()));
                }
                budget -= 1;
                if let Some(record) =
                    self.read_key(&tree, leaf, key)?.filter(|record| self.is_live_session(record))
                {
                    if page.entries.len() == limit {
                        page.next = Some(Cursor::new(last.as_str()));
                        return Ok(ControlFlow::Break(()));
                    }
                    page.entries.push(Listed { key: key.clone(), meta: record.meta() });
                }
                last = key.as_str().to_owned();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
    }

    /// Runs one step of `round`. Returns the stripe as an error if its lock is taken.
    pub(super) fn delete_expired(
        &self,
        round: &mut CollectionRound,
        step: &mut CollectionStep,
    ) -> Result<Result<Collected, usize>> {
        let tree = self.tree()?;
        loop {
            let more = match self.collect(&tree, round, step)? {
                ControlFlow::Continue(()) if round.wrapped || round.start.is_empty() => {
                    *round = CollectionRound::default();
                    false
                }
                ControlFlow::Continue(()) => {
                    round.wrapped = true;
                    round.last.clear();
                    continue;
                }
                ControlFlow::Break(StepEnd::Locked(stripe)) => return Ok(Err(stripe)),
                ControlFlow::Break(StepEnd::BudgetSpent) => true,
                ControlFlow::Break(StepEnd::LimitReached) => {
                    *round = CollectionRound::from(&round.last);
                    true
                }
            };
            return Ok(Ok(Collected { removed: step.removed, more }));
        }
    }

    /// Collects up to the last key of all or, after the wrap, up to the key where the round began.
    fn collect(
        &self,
        tree: &Tree,
        round: &mut CollectionRound,
        step: &mut CollectionStep,
    ) -> Result<ControlFlow<StepEnd>> {
        let start = round.last.clone();
        let mut end = ControlFlow::Continue(());
        walk(tree.root(), &start, &mut |leaf| {
            folder::remove_old_temps(&leaf.folder, &leaf.others);
            for key in leaf.keys.iter().filter(|key| *key.as_str() > *start) {
                if round.wrapped && key.as_str() > round.start.as_str() {
                    return Ok(ControlFlow::Break(()));
                }
                if step.budget == 0 {
                    end = ControlFlow::Break(StepEnd::BudgetSpent);
                    return Ok(ControlFlow::Break(()));
                }
                step.budget -= 1;
                // Advance before the read, which may fail, so that the next step does not fail at the same record.
                let previous = std::mem::replace(&mut round.last, key.as_str().to_owned());
                let stripe = locks::stripe(key);
                if self.read_key(tree, leaf, key)?.is_none_or(|record| self.is_live(&record))
                    || step.skipped[stripe]
                {
                    continue;
                }
                if step.removed == step.limit {
                    round.last = previous;
                    end = ControlFlow::Break(StepEnd::LimitReached);
                    return Ok(ControlFlow::Break(()));
                }
                match self.remove_expired(tree, key)? {
                    Some(removed) => step.removed += usize::from(removed),
                    None => {
                        round.last = previous;
                        end = ControlFlow::Break(StepEnd::Locked(stripe));
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(end)
    }

    /// Removes the record of `key` if it has expired, and returns true if it was removed. Returns `None` if the lock is taken.
    pub(super) fn remove_expired(&self, tree: &Tree, key: &StoreKey) -> Result<Option<bool>> {
        let Some(_held) = self.try_lock(tree, key)? else { return Ok(None) };
        // A touch or a create since the first read keeps the record.
        let Some(record) =
            forgive_corrupt(tree.read_held(key, self.now()))?.filter(|record| !self.is_live(record))
        else {
            return Ok(Some(false));
        };
        tree.remove(key, &record, self.sync())?;
        Ok(Some(true))
    }

    /// Reads the record of a key for a walk. An unreadable file is logged and moved to the corrupt ones, and the walk goes on.
    fn read_key(&self, tree: &Tree, leaf: &Leaf, key: &StoreKey) -> Result<Option<Record>> {
        match tree::read(leaf.folder.as_fd(), key.as_str()) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if self.shares_folder && !tree.is_ours(key)? {
                    return Ok(None);
                }
                // If the lock is taken, its holder or the next walk moves the file.
                let Some(_held) = self.try_lock(tree, key)? else { return Ok(None) };
                forgive_corrupt(tree.read_held(key, self.now()))
            }
            answer => answer,
        }
    }
}

fn forgive_corrupt(answer: Result<Option<Record>>) -> Result<Option<Record>> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        answer => answer,
    }
}

/// The budget and the progress of one call of `delete_expired`.
pub(super) struct CollectionStep {
    limit: usize,
    removed: usize,
    /// The number of records that the step may still read.
    budget: usize,
    /// The number of retries left for locks that are taken.
    retries: u32,
    /// Stripes that are left to a later round, since their locks were taken for too long.
    skipped: [bool; locks::STRIPES],
}

impl CollectionStep {
    pub(super) fn of(limit: usize) -> Self {
        // By the pauses of `Backoff`, 20 retries take a quarter of a second.
        CollectionStep {
            limit,
            removed: 0,
            budget: RECORDS_PER_STEP,
            retries: 20,
            skipped: [false; locks::STRIPES],
        }
    }

    /// Returns true if the step should retry the lock of `stripe` after a pause. Otherwise it skips the keys of `stripe` from now on.
    pub(super) fn should_retry(&mut self, stripe: usize) -> bool {
        match self.retries.checked_sub(1) {
            Some(left) => self.retries = left,
            None => self.skipped[stripe] = true,
        }
        !self.skipped[stripe]
    }
}

/// The reason why a step of the collection stopped.
enum StepEnd {
    /// Another task or process holds the lock of this stripe.
    Locked(usize),
    /// The step has removed as many records as it may, and at least one more has expired.
    LimitReached,
    /// The step has read as many records as it may.
    BudgetSpent,
}

/// A folder that holds records.
pub(super) struct Leaf {
    pub(super) folder: OwnedFd,
    /// The two characters that its keys begin with.
    pub(super) prefix: String,
    /// The keys of the records, in order.
    pub(super) keys: Vec<StoreKey>,
    others: Vec<String>,
}

/// Visits the folders of records in the order of their keys, from the one that would hold `from`. One folder's names are in memory at a time.
pub(super) fn walk(
    root: &OwnedFd,
    from: &str,
    visit: &mut dyn FnMut(&Leaf) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let first = from.get(..1).unwrap_or_default();
    for one in branches(root)?.iter().filter(|one| one.as_str() >= first) {
        let Some(branch) = enter(root, one)? else { continue };
        for two in branches(&branch)? {
            let prefix = [one.as_str(), two.as_str()].concat();
            if prefix.as_str() < from.get(..2).unwrap_or(first) {
                continue;
            }
            let Some(folder) = enter(&branch, &two)? else { continue };
            let leaf = Leaf::read(folder, prefix)?;
            if visit(&leaf)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Leaf {
    fn read(folder: OwnedFd, prefix: String) -> Result<Leaf> {
        let names = folder::list(&folder).map_err(FileError::io("listing a folder"))?;
        let (mut keys, mut others) = (Vec::with_capacity(names.len()), Vec::new());
        for name in names {
            match name.parse::<StoreKey>() {
                Ok(key) if name.starts_with(&prefix) => keys.push(key),
                _ => others.push(name),
            }
        }
        Ok(Leaf { folder, prefix, keys, others })
    }
}

/// Returns the names of one character that a key may begin with. Other names are not the provider's.
fn branches(folder: &OwnedFd) -> Result<Vec<String>> {
    let mut names = folder::list(folder).map_err(FileError::io("listing a folder"))?;
    names.retain(|name| {
        matches!(name.as_bytes(), [byte] if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    Ok(names)
}

fn enter(above: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match folder::find_folder(above.as_fd(), name) {
        // The provider never puts a link or a file here, and it can hold no session.
        Err(error @ FileError::Branch { .. }) => {
            tracing::warn!(%error, "a walk skipped what is no session folder");
            Ok(None)
        }
        answer => Ok(answer?),
    }
}
