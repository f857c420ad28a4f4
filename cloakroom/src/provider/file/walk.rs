//! Going over all keys: counting, listing page by page, and collecting what has expired.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use super::error::FileError;
use super::folder;
use super::lap::Lap;
use super::store::Store;
use super::tree::Tree;
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Collected, Cursor, Listed, Page};
use crate::record::Record;

/// How many records one step of garbage collection reads: about 50 ms where they are in the page cache.
const STEP: usize = 4096;

impl Store {
    pub(super) fn count(&self) -> Result<u64> {
        let tree = self.tree()?;
        let mut count = 0;
        walk(tree.root(), "", &mut |leaf| {
            for key in &leaf.keys {
                count += u64::from(self.look(&tree, key)?.is_some_and(|record| self.is_session(&record)));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    pub(super) fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page> {
        let tree = self.tree()?;
        let after = cursor.map_or("", Cursor::as_str);
        let mut page = Page::default();
        walk(tree.root(), after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                let Some(record) = self.look(&tree, key)?.filter(|record| self.is_session(record)) else {
                    continue;
                };
                if page.entries.len() == limit {
                    let last = page.entries.last().map_or(after, |listed| listed.key.as_str());
                    page.next = Some(Cursor::new(last));
                    return Ok(ControlFlow::Break(()));
                }
                page.entries.push(Listed { key: key.clone(), meta: record.meta() });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
    }

    pub(super) fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let tree = self.tree()?;
        // Two collections at the same time would read everything twice.
        let mut lap = self.lap.lock().unwrap_or_else(PoisonError::into_inner);
        let mut step = Step { limit, removed: 0, budget: STEP };
        loop {
            match self.collect(&tree, &mut lap, &mut step)? {
                ControlFlow::Continue(()) if lap.over_the_end || lap.origin.is_empty() => {
                    *lap = Lap::default();
                    return Ok(Collected { removed: step.removed, more: false });
                }
                ControlFlow::Continue(()) => {
                    lap.over_the_end = true;
                    lap.last.clear();
                }
                ControlFlow::Break(Pause::Tired) => {
                    return Ok(Collected { removed: step.removed, more: true });
                }
                ControlFlow::Break(Pause::Full) => {
                    *lap = Lap::from(&lap.last);
                    return Ok(Collected { removed: step.removed, more: true });
                }
            }
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
                if self.look(tree, key)?.is_none_or(|record| self.lives(&record)) {
                    continue;
                }
                if step.removed == step.limit {
                    lap.last = previous;
                    pause = ControlFlow::Break(Pause::Full);
                    return Ok(ControlFlow::Break(()));
                }
                step.removed += usize::from(self.remove_expired(tree, key)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(pause)
    }

    /// Removes what is under `key` if it has expired; whether it has.
    pub(super) fn remove_expired(&self, tree: &Tree, key: &StoreKey) -> Result<bool> {
        let _held = tree.hold(key)?;
        // Touched or created anew since it was looked at, it stays.
        let Some(record) =
            forgive_corrupt(tree.read_held(key, self.now()))?.filter(|record| !self.lives(record))
        else {
            return Ok(false);
        };
        tree.remove(key, &record, self.sync())?;
        Ok(true)
    }

    /// What is under a key met on the way. What cannot be read is put aside and reported, and the walk goes on.
    fn look(&self, tree: &Tree, key: &StoreKey) -> Result<Option<Record>> {
        match tree.read(key) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if self.beside_others && !tree.is_ours(key)? {
                    return Ok(None);
                }
                let _held = tree.hold(key)?;
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

struct Step {
    limit: usize,
    removed: usize,
    /// Records that may still be looked at.
    budget: usize,
}

enum Pause {
    /// As many are removed as was allowed, and one more is there.
    Full,
    /// The step has lasted long enough.
    Tired,
}

/// The last of the folders: those that hold records.
pub(super) struct Leaf {
    folder: OwnedFd,
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
            let leaf = Leaf::read(folder, &prefix)?;
            if visit(&leaf)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Leaf {
    fn read(folder: OwnedFd, prefix: &str) -> Result<Leaf> {
        let names = folder::list(&folder).map_err(FileError::io("listing a folder"))?;
        let (mut keys, mut others) = (Vec::with_capacity(names.len()), Vec::new());
        for name in names {
            match name.parse::<StoreKey>() {
                Ok(key) if name.starts_with(prefix) => keys.push(key),
                _ => others.push(name),
            }
        }
        Ok(Leaf { folder, keys, others })
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
