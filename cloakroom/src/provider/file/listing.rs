//! The sessions of one user, a page at a time.

use std::os::fd::AsFd;

use super::locks::{self, Attempt, Held, Turn};
use super::store::Store;
use super::tree::{self, Tree};
use super::walk::STEP;
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{Cursor, Listed, Page};
use crate::record::Record;

/// The most times that a page is read again because the user's list changed meanwhile.
const RELISTS: usize = 64;

/// A page that is being read, in some steps.
pub(super) struct Listing {
    principal: Principal,
    /// The cursor that the page begins behind.
    after: String,
    limit: usize,
    /// The marked keys behind the cursor, in order, and how many of them were looked at.
    marked: Option<Vec<StoreKey>>,
    looked: usize,
    found: Vec<Listed>,
    relists: usize,
}

/// Why a listing is not at its end.
pub(super) enum Stop {
    /// The step was long enough.
    Tired,
    /// The lock of the next key is held by somebody else.
    Locked(usize),
}

impl Listing {
    pub(super) fn new(principal: &Principal, cursor: Option<Cursor>, limit: usize) -> Self {
        let after = cursor.map_or(String::new(), |cursor| cursor.as_str().to_owned());
        let (marked, found) = (None, Vec::new());
        Listing { principal: principal.clone(), after, limit, marked, looked: 0, found, relists: 0 }
    }

    /// True if no more records are read for this page. Marks of sessions that have ended count, too, or a page could be long.
    fn is_full(&self) -> bool {
        self.found.len() >= self.limit || self.looked >= self.limit.saturating_add(STEP)
    }

    /// The last key that was looked at.
    fn end(&self) -> Option<&StoreKey> {
        self.marked.as_ref()?.get(self.looked.checked_sub(1)?)
    }

    fn has_found(&self, key: &StoreKey) -> bool {
        self.found.binary_search_by(|listed| listed.key.cmp(key)).is_ok()
    }

    fn restart(&mut self, marked: Vec<StoreKey>) {
        self.marked = Some(marked);
        self.looked = 0;
        self.found.clear();
    }
}

impl Store {
    /// Reads on. `turn` is for the lock of the next key, if the listing has stopped there.
    pub(super) fn of_principal(
        &self,
        listing: &mut Listing,
        turn: Option<Turn>,
    ) -> Result<Result<Page, Stop>> {
        let tree = self.tree()?;
        let mut held = match turn.map(|turn| turn.lock(tree.root().as_fd())).transpose()? {
            Some(Attempt::Held(held)) => Some(held),
            Some(Attempt::Busy(turn)) => return Ok(Err(Stop::Locked(turn.stripe()))),
            None => None,
        };
        let mut budget = STEP;
        loop {
            let marked = self.marked(&tree, listing)?;
            while let Some(key) = marked.get(listing.looked).filter(|_| !listing.is_full()) {
                if budget == 0 {
                    listing.marked = Some(marked);
                    return Ok(Err(Stop::Tired));
                }
                budget -= 1;
                let held = match held.take() {
                    Some(held) if held.stripe() == locks::stripe(key) => Some(held),
                    _ => self.try_hold(&tree, key)?,
                };
                let Some(held) = held else {
                    let stripe = locks::stripe(key);
                    listing.marked = Some(marked);
                    return Ok(Err(Stop::Locked(stripe)));
                };
                let found = self.theirs(&tree, &listing.principal, key, held)?;
                listing.found.extend(found);
                listing.looked += 1;
            }
            listing.marked = Some(marked);
            if let Some(page) = self.page(&tree, listing)? {
                return Ok(Ok(page));
            }
        }
    }

    /// The keys that this page is about, those of an earlier step if there was one.
    fn marked(&self, tree: &Tree, listing: &mut Listing) -> Result<Vec<StoreKey>> {
        match listing.marked.take() {
            Some(marked) => Ok(marked),
            None => Ok(marked_behind(tree, listing)?),
        }
    }

    /// The page, if the list of the user is still what it was.
    fn page(&self, tree: &Tree, listing: &mut Listing) -> Result<Option<Page>> {
        let now = marked_behind(tree, listing)?;
        let looked_at = &listing.marked.as_deref().unwrap_or_default()[..listing.looked];
        // Sessions behind a full page belong to the next one.
        let end = listing.end().filter(|_| listing.is_full());
        let (here, rest) = match end {
            Some(end) => now.split_at(now.partition_point(|key| key <= end)),
            None if listing.is_full() => now.split_at(0),
            None => (&now[..], &[][..]),
        };
        // A session that is given another key meanwhile may be under neither of those that were looked at; or it has come to one where an
        // expired one was.
        let grown = here.iter().any(|key| match looked_at.binary_search(key) {
            Ok(_) => !listing.has_found(key) && self.has_come(tree, &listing.principal, key),
            Err(_) => true,
        });
        let lost = listing.found.iter().any(|listed| here.binary_search(&listed.key).is_err());
        if (grown || lost) && listing.relists < RELISTS {
            listing.relists += 1;
            listing.restart(now);
            return Ok(None);
        }
        let next = (!rest.is_empty()).then(|| Cursor::new(end.map_or(&*listing.after, StoreKey::as_str)));
        Ok(Some(Page { entries: std::mem::take(&mut listing.found), next }))
    }

    /// True if a session of `principal` is under `key` now.
    fn has_come(&self, tree: &Tree, principal: &Principal, key: &StoreKey) -> bool {
        let theirs =
            |record: &Record| self.is_session(record) && tree::indexed(record).as_ref() == Some(principal);
        tree.read(key).ok().flatten().is_some_and(|record| theirs(&record))
    }

    /// Reads the record of `key`, if that is a session of `principal`; its mark goes if not. Under the lock nobody is between the mark and
    /// the record, nor half-way to another key.
    fn theirs(
        &self,
        tree: &Tree,
        principal: &Principal,
        key: &StoreKey,
        _held: Held,
    ) -> Result<Option<Listed>> {
        let theirs = |record: &Record| tree::indexed(record).as_ref() == Some(principal);
        let found = match tree.read_held(key, self.now()) {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            answer => answer?.filter(theirs),
        };
        if found.is_none() {
            tree.unmark(principal, key);
        }
        let found = found.filter(|record| self.is_session(record));
        Ok(found.map(|record| Listed { key: key.clone(), meta: record.meta() }))
    }
}

fn marked_behind(tree: &Tree, listing: &Listing) -> Result<Vec<StoreKey>> {
    let mut marked = tree.marked(&listing.principal)?;
    let start = marked.partition_point(|key| key.as_str() <= listing.after.as_str());
    Ok(marked.split_off(start))
}
