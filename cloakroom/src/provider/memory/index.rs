//! An index of sessions: by their user, or by their labels.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;

use super::RandomState;
use crate::id::StoreKey;
use crate::record::{IndexEntry, IndexKind, Record};
use crate::sync::{Mutex, MutexGuard};

/// The number of parts of the index. Each has its own lock, so that two logins seldom meet.
const PARTS: usize = if cfg!(shuttle) { 1 } else { 64 };

/// The indexes of a store, one for each kind of entry.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    users: Index,
    labels: Index,
}

impl Indexes {
    /// Updates the indexes after a record was added, removed or replaced. The caller holds the lock of its shard.
    #[inline]
    pub(super) fn update(&self, key: &StoreKey, before: Option<&Record>, after: Option<&Record>) {
        // Most records have no fields, so nothing indexes them.
        if before.is_some_and(Record::has_fields) || after.is_some_and(Record::has_fields) {
            self.change(key, before, after);
        }
    }

    fn change(&self, key: &StoreKey, before: Option<&Record>, after: Option<&Record>) {
        if before.and_then(Record::user) != after.and_then(Record::user) {
            before.and_then(Record::user).inspect(|user| self.users.remove(user, key));
            after.and_then(Record::user).inspect(|user| self.users.add(user, key));
        }
        let has = |record: Option<&Record>, label| record.is_some_and(|record| record.has_label(label));
        for gone in before.into_iter().flat_map(Record::label_values).filter(|label| !has(after, label)) {
            self.labels.remove(gone, key);
        }
        for new in after.into_iter().flat_map(Record::label_values).filter(|label| !has(before, label)) {
            self.labels.add(new, key);
        }
    }

    /// Returns the `limit` keys of `entry` that follow `after` in their order, and true if there are more.
    pub(super) fn page(&self, entry: &IndexEntry, after: &str, limit: usize) -> (Vec<StoreKey>, bool) {
        let index = match entry.kind() {
            IndexKind::Principal => &self.users,
            IndexKind::Label => &self.labels,
        };
        index.page(entry.value().as_bytes(), after, limit)
    }
}

/// An index by one kind of entry. A session's shard is locked while the index changes, so the index is always up to date. The index's own
/// lock is taken last.
#[derive(Debug)]
struct Index {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
}

/// The keys of the sessions of each entry, by the entry's value.
type Part = HashMap<Box<[u8]>, EntryKeys, RandomState>;

/// The keys of the sessions of one entry. Most entries have one, which takes no allocation.
#[derive(Debug)]
enum EntryKeys {
    One(StoreKey),
    Several(BTreeSet<StoreKey>),
}

impl Default for Index {
    fn default() -> Self {
        Index {
            parts: std::iter::repeat_with(Mutex::default).take(PARTS).collect(),
            hasher: RandomState::default(),
        }
    }
}

impl Index {
    fn add(&self, value: &[u8], key: &StoreKey) {
        let mut part = self.part(value);
        match part.get_mut(value) {
            Some(keys) => keys.add(key),
            None => {
                part.insert(value.into(), EntryKeys::One(key.clone()));
            }
        }
    }

    fn remove(&self, value: &[u8], key: &StoreKey) {
        let mut part = self.part(value);
        if part.get_mut(value).is_some_and(|keys| keys.remove(key)) {
            part.remove(value);
        }
    }

    /// Returns the `limit` keys that follow `after` in their order, and true if there are more.
    fn page(&self, value: &[u8], after: &str, limit: usize) -> (Vec<StoreKey>, bool) {
        let part = self.part(value);
        let follows = |key: &&StoreKey| key.as_str() > after;
        let mut following: Vec<StoreKey> = match part.get(value) {
            None => Vec::new(),
            Some(EntryKeys::One(key)) => Some(key).filter(follows).into_iter().cloned().collect(),
            Some(EntryKeys::Several(keys)) => match after.parse::<StoreKey>() {
                Ok(after) => {
                    let rest = keys.range((Bound::Excluded(after), Bound::Unbounded));
                    rest.take(limit.saturating_add(1)).cloned().collect()
                }
                // No key's text: nothing but the start comes before every key.
                Err(_) => keys.iter().filter(follows).take(limit.saturating_add(1)).cloned().collect(),
            },
        };
        let more = following.len() > limit;
        following.truncate(limit);
        (following, more)
    }

    fn part(&self, value: &[u8]) -> MutexGuard<'_, Part> {
        // The maps take their positions from the low bits.
        self.parts[(self.hasher.hash_one(value) >> 32) as usize % PARTS].lock()
    }
}

impl EntryKeys {
    fn add(&mut self, key: &StoreKey) {
        match self {
            EntryKeys::Several(keys) => {
                keys.insert(key.clone());
            }
            EntryKeys::One(only) if only == key => {}
            EntryKeys::One(only) => *self = EntryKeys::Several(BTreeSet::from([only.clone(), key.clone()])),
        }
    }

    /// Removes `key`; answers whether none is left.
    fn remove(&mut self, key: &StoreKey) -> bool {
        match self {
            EntryKeys::One(only) => only == key,
            EntryKeys::Several(keys) => {
                keys.remove(key);
                match keys.len() {
                    0 => return true,
                    1 => {
                        if let Some(only) = keys.pop_first() {
                            *self = EntryKeys::One(only);
                        }
                    }
                    _ => {}
                }
                false
            }
        }
    }
}
