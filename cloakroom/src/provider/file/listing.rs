//! Pages of the sessions of one index entry: a user or a label.

use std::os::fd::AsFd;

use super::locks::{self, LocalGuard, LockAttempt, LockGuard};
use super::store::FileStore;
use super::tree::Tree;
use super::walk::RECORDS_PER_STEP;
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Cursor, Listed, Page};
use crate::record::{IndexEntry, Record};

/// The most times that a page is read again because the index changed meanwhile.
const MAX_RESTARTS: usize = 64;

/// A page that is read in several steps.
pub(super) struct Listing {
    entry: IndexEntry,
    /// The key after which the page begins.
    after: String,
    limit: usize,
    /// The user's indexed keys after the cursor, in order.
    marked: Option<Vec<StoreKey>>,
    /// The number of `marked` keys that were read so far.
    checked: usize,
    found: Vec<Listed>,
    restarts: usize,
}

/// The reason why a step of a listing stopped before the page was complete.
pub(super) enum ListingPause {
    /// The step has read as many records as it may.
    BudgetSpent,
    /// Another task or process holds the lock of the next key, which is this stripe's.
    Locked(usize),
}

impl Listing {
    pub(super) fn new(entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Self {
        let after = cursor.map_or(String::new(), |cursor| cursor.as_str().to_owned());
        let (marked, found) = (None, Vec::new());
        Listing { entry: entry.clone(), after, limit, marked, checked: 0, found, restarts: 0 }
    }

    /// Returns true if the page reads no more records. Stale index entries count too, so that a page stays bounded.
    fn is_full(&self) -> bool {
        self.found.len() >= self.limit || self.checked >= self.limit.saturating_add(RECORDS_PER_STEP)
    }

    /// Returns the last key that was read.
    fn end(&self) -> Option<&StoreKey> {
        self.marked.as_ref()?.get(self.checked.checked_sub(1)?)
    }

    fn has_found(&self, key: &StoreKey) -> bool {
        self.found.binary_search_by(|listed| listed.key.cmp(key)).is_ok()
    }

    fn restart(&mut self, marked: Vec<StoreKey>) {
        self.marked = Some(marked);
        self.checked = 0;
        self.found.clear();
    }
}

impl FileStore {
    /// Runs one step of the listing. `guard` is the local lock of the next key, if the last step stopped there.
    pub(super) fn indexed(
        &self,
        listing: &mut Listing,
        guard: Option<LocalGuard>,
    ) -> Result<Result<Page, ListingPause>> {
        let tree = self.tree()?;
        let mut held = match guard.map(|guard| guard.try_lock_file(tree.root().as_fd())).transpose()? {
            Some(LockAttempt::Locked(held)) => Some(held),
            Some(LockAttempt::Busy(guard)) => return Ok(Err(ListingPause::Locked(guard.stripe()))),
            None => None,
        };
        let mut budget = RECORDS_PER_STEP;
        loop {
            let marked = self.marked(&tree, listing)?;
            while let Some(key) = marked.get(listing.checked).filter(|_| !listing.is_full()) {
                if budget == 0 {
                    listing.marked = Some(marked);
                    return Ok(Err(ListingPause::BudgetSpent));
                }
                budget -= 1;
                let held = match held.take() {
                    Some(held) if held.stripe() == locks::stripe(key) => Some(held),
                    _ => self.try_lock(&tree, key)?,
                };
                let Some(held) = held else {
                    let stripe = locks::stripe(key);
                    listing.marked = Some(marked);
                    return Ok(Err(ListingPause::Locked(stripe)));
                };
                let found = self.read_listed(&tree, &listing.entry, key, held)?;
                listing.found.extend(found);
                listing.checked += 1;
            }
            listing.marked = Some(marked);
            if let Some(page) = self.page(&tree, listing)? {
                return Ok(Ok(page));
            }
        }
    }

    /// Returns the indexed keys of this page: those of the last step, or newly read ones.
    fn marked(&self, tree: &Tree, listing: &mut Listing) -> Result<Vec<StoreKey>> {
        match listing.marked.take() {
            Some(marked) => Ok(marked),
            None => Ok(marked_behind(tree, listing)?),
        }
    }

    /// Returns the page if the index has not changed since it was read. Otherwise it restarts the listing.
    fn page(&self, tree: &Tree, listing: &mut Listing) -> Result<Option<Page>> {
        let now = marked_behind(tree, listing)?;
        let checked_keys = &listing.marked.as_deref().unwrap_or_default()[..listing.checked];
        // Sessions after the end of a full page belong to the next page.
        let end = listing.end().filter(|_| listing.is_full());
        let (here, rest) = match end {
            Some(end) => now.split_at(now.partition_point(|key| key <= end)),
            None if listing.is_full() => now.split_at(0),
            None => (&now[..], &[][..]),
        };
        // A rename beside this listing may move a session to a key that was not in the index yet, or to a key whose old session
        // had expired when it was read. The page would miss that session.
        let grown = here.iter().any(|key| match checked_keys.binary_search(key) {
            Ok(_) => !listing.has_found(key) && self.holds_session_of(tree, &listing.entry, key),
            Err(_) => true,
        });
        let lost = listing.found.iter().any(|listed| here.binary_search(&listed.key).is_err());
        if (grown || lost) && listing.restarts < MAX_RESTARTS {
            listing.restarts += 1;
            listing.restart(now);
            return Ok(None);
        }
        let next = (!rest.is_empty()).then(|| Cursor::new(end.map_or(&*listing.after, StoreKey::as_str)));
        Ok(Some(Page { entries: std::mem::take(&mut listing.found), next }))
    }

    /// Returns true if a live session of `entry` is under `key` now.
    fn holds_session_of(&self, tree: &Tree, entry: &IndexEntry, key: &StoreKey) -> bool {
        let is_theirs = |record: &Record| self.is_live_session(record) && record.is_indexed_by(entry);
        tree.read(key).ok().flatten().is_some_and(|record| is_theirs(&record))
    }

    /// Reads the record of `key` if it is a session of `entry`, and removes a stale index entry if not. The caller holds the lock, so no
    /// other step is between its change of the index and its change of the record.
    fn read_listed(
        &self,
        tree: &Tree,
        entry: &IndexEntry,
        key: &StoreKey,
        _held: LockGuard,
    ) -> Result<Option<Listed>> {
        let is_theirs = |record: &Record| record.is_indexed_by(entry);
        let found = match tree.read_held(key, self.now()) {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            answer => answer?.filter(is_theirs),
        };
        if found.is_none() {
            tree.unmark(entry, key);
        }
        let found = found.filter(|record| self.is_live_session(record));
        Ok(found.map(|record| Listed { key: key.clone(), meta: record.meta() }))
    }
}

fn marked_behind(tree: &Tree, listing: &Listing) -> Result<Vec<StoreKey>> {
    let mut marked = tree.marked(&listing.entry)?;
    let start = marked.partition_point(|key| key.as_str() <= listing.after.as_str());
    Ok(marked.split_off(start))
}
