//! Going over all keys: counting, listing page by page, and collecting what has expired.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::error::FileError;
use super::folder;
use super::lap::Lap;
use super::locks;
use super::store::Store;
use super::tally::{Glance, Stretch};
use super::tree::{self, Tree};
use crate::clock::Millis;
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Collected, Cursor, Listed, Page};
use crate::record::Record;

/// How many records one step reads: about 50 ms where they are in the page cache.
pub(super) const STEP: usize = 4096;

impl Store {
    /// Counts the live sessions in some folders behind the one that holds `after`, and before the one that holds `until`.
    pub(super) fn count(&self, after: &str, until: Option<&str>) -> Result<Stretch> {
        let tree = self.tree()?;
        let (mut stretch, mut looked) = (Stretch { count: 0, next: None }, 0);
        walk(tree.root(), after, &mut |leaf| {
            if leaf.prefix == after {
                return Ok(ControlFlow::Continue(()));
            }
            if looked >= STEP || until.is_some_and(|until| leaf.prefix.as_str() >= until) {
                return Ok(ControlFlow::Break(()));
            }
            stretch.count += self.count_leaf(&tree, leaf)?;
            looked += leaf.keys.len();
            stretch.next = Some(leaf.prefix.clone());
            Ok(ControlFlow::Continue(()))
        })?;
        // Fewer than were allowed: the end was reached.
        stretch.next.take_if(|_| looked < STEP);
        Ok(stretch)
    }

    fn count_leaf(&self, tree: &Tree, leaf: &Leaf) -> Result<u64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).of(&leaf.prefix);
        let mut glances = Vec::with_capacity(leaf.keys.len());
        for key in &leaf.keys {
            let stat = match fs::statat(&leaf.folder, key.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(FileError::io("counting the sessions")(error).into()),
            };
            let glance = match Glance::find(&known, &stat) {
                Some(glance) => glance,
                None => {
                    let found = self.look(tree, leaf, key)?.filter(|record| !record.is_tombstone());
                    Glance::new(&stat, found.map_or(Millis(0), |record| record.deadline()))
                }
            };
            glances.push(glance);
        }
        let now = self.now();
        let count = glances.iter().filter(|glance| glance.deadline > now).count() as u64;
        // Elsewhere the times of files may be those of another machine.
        if tree.is_local() {
            glances.retain(Glance::is_firm);
            self.known.lock().unwrap_or_else(PoisonError::into_inner).keep(&leaf.prefix, glances);
        }
        Ok(count)
    }

    pub(super) fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page> {
        let tree = self.tree()?;
        let after = cursor.map_or("", Cursor::as_str);
        let (mut page, mut last, mut budget) = (Page::default(), after.to_owned(), STEP);
        walk(tree.root(), after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                if budget == 0 {
                    page.next = Some(Cursor::new(last.as_str()));
                    return Ok(ControlFlow::Break(()));
                }
                budget -= 1;
                if let Some(record) = self.look(&tree, leaf, key)?.filter(|record| self.is_session(record)) {
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

    /// Goes on with `lap` for one step; the stripe whose lock is taken, if that stopped it.
    pub(super) fn delete_expired(&self, lap: &mut Lap, step: &mut Step) -> Result<Result<Collected, usize>> {
        let tree = self.tree()?;
        loop {
            let more = match self.collect(&tree, lap, step)? {
                ControlFlow::Continue(()) if lap.over_the_end || lap.origin.is_empty() => {
                    *lap = Lap::default();
                    false
                }
                ControlFlow::Continue(()) => {
                    lap.over_the_end = true;
                    lap.last.clear();
                    continue;
                }
                ControlFlow::Break(Pause::Locked(stripe)) => return Ok(Err(stripe)),
                ControlFlow::Break(Pause::Tired) => true,
                ControlFlow::Break(Pause::Full) => {
                    *lap = Lap::from(&lap.last);
                    true
                }
            };
            return Ok(Ok(Collected { removed: step.removed, more }));
        }
    }

    /// One stretch of the lap: to the last key of all, or, once over the end, to where the lap began.
    fn collect(&self, tree: &Tree, lap: &mut Lap, step: &mut Step) -> Result<ControlFlow<Pause>> {
        let start = lap.last.clone();
        let mut pause = ControlFlow::Continue(());
        walk(tree.root(), &start, &mut |leaf| {
            folder::sweep_temps(&leaf.folder, &leaf.others);
            for key in leaf.keys.iter().filter(|key| *key.as_str() > *start) {
                if lap.over_the_end && key.as_str() > lap.origin.as_str() {
                    return Ok(ControlFlow::Break(()));
                }
                if step.budget == 0 {
                    pause = ControlFlow::Break(Pause::Tired);
                    return Ok(ControlFlow::Break(()));
                }
                step.budget -= 1;
                // Noted before what may fail: the next step does not stumble over the same record.
                let previous = std::mem::replace(&mut lap.last, key.as_str().to_owned());
                let stripe = locks::stripe(key);
                if self.look(tree, leaf, key)?.is_none_or(|record| self.lives(&record)) || step.stuck[stripe]
                {
                    continue;
                }
                if step.removed == step.limit {
                    lap.last = previous;
                    pause = ControlFlow::Break(Pause::Full);
                    return Ok(ControlFlow::Break(()));
                }
                match self.remove_expired(tree, key)? {
                    Some(removed) => step.removed += usize::from(removed),
                    None => {
                        lap.last = previous;
                        pause = ControlFlow::Break(Pause::Locked(stripe));
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(pause)
    }

    /// Removes what is under `key` if it has expired; whether it has. `None` if somebody else holds the lock.
    pub(super) fn remove_expired(&self, tree: &Tree, key: &StoreKey) -> Result<Option<bool>> {
        let Some(_held) = self.try_hold(tree, key)? else { return Ok(None) };
        // Touched or created anew since it was looked at, it stays.
        let Some(record) =
            forgive_corrupt(tree.read_held(key, self.now()))?.filter(|record| !self.lives(record))
        else {
            return Ok(Some(false));
        };
        tree.remove(key, &record, self.sync())?;
        Ok(Some(true))
    }

    /// What is under a key met on the way. What cannot be read is put aside and reported, and the walk goes on.
    fn look(&self, tree: &Tree, leaf: &Leaf, key: &StoreKey) -> Result<Option<Record>> {
        match tree::read(leaf.folder.as_fd(), key.as_str()) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if self.beside_others && !tree.is_ours(key)? {
                    return Ok(None);
                }
                // The holder of the lock puts it aside, or the next walk does.
                let Some(_held) = self.try_hold(tree, key)? else { return Ok(None) };
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

/// One call's part of a lap.
pub(super) struct Step {
    limit: usize,
    removed: usize,
    /// Records that may still be looked at.
    budget: usize,
    /// The number of further tries of a lock that somebody else holds.
    patience: u32,
    /// Stripes whose keys are left to a later lap, since their locks are held for too long.
    stuck: [bool; locks::STRIPES],
}

impl Step {
    pub(super) fn of(limit: usize) -> Self {
        // A quarter of a second, by `Pauses`.
        Step { limit, removed: 0, budget: STEP, patience: 20, stuck: [false; locks::STRIPES] }
    }

    /// True if the lock of `stripe` is tried again after a pause; its keys are passed over from now on if not.
    pub(super) fn waits_for(&mut self, stripe: usize) -> bool {
        match self.patience.checked_sub(1) {
            Some(left) => self.patience = left,
            None => self.stuck[stripe] = true,
        }
        !self.stuck[stripe]
    }
}

enum Pause {
    /// The lock of this stripe is held by somebody else.
    Locked(usize),
    /// As many are removed as was allowed, and one more is there.
    Full,
    /// The step has lasted long enough.
    Tired,
}

/// The last of the folders: those that hold records.
pub(super) struct Leaf {
    pub(super) folder: OwnedFd,
    /// The two characters that its keys begin with.
    pub(super) prefix: String,
    /// In order.
    pub(super) keys: Vec<StoreKey>,
    others: Vec<String>,
}

/// Visits the leaves in the order of their keys, from the one that would hold `from`; no more than one is in memory.
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

/// The names of one character that a key may begin with; anything else is not ours.
fn branches(folder: &OwnedFd) -> Result<Vec<String>> {
    let mut names = folder::list(folder).map_err(FileError::io("listing a folder"))?;
    names.retain(|name| {
        matches!(name.as_bytes(), [byte] if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    Ok(names)
}

fn enter(above: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match folder::find_folder(above.as_fd(), name) {
        // It takes a hand to put it there, and no session can be behind it.
        Err(error @ FileError::Branch { .. }) => {
            tracing::warn!(%error, "something foreign was passed over");
            Ok(None)
        }
        answer => Ok(answer?),
    }
}
