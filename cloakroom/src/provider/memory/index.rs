//! An index of sessions: by their user, or by their labels.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;

use super::RandomState;
use crate::id::StoreKey;
use crate::sync::{Mutex, MutexGuard};

/// The number of parts of the index. Each has its own lock, so that two logins seldom meet.
const PARTS: usize = if cfg!(shuttle) { 1 } else { 64 };

/// An index by one kind of entry. A session's shard is locked while the index changes, so the index is always up to date. The index's own
/// lock is taken last.
#[derive(Debug)]
pub(super) struct Index {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
}

/// The keys of the sessions of each entry, by the entry's value.
type Part = HashMap<Box<[u8]>, Keys, RandomState>;

/// The keys of the sessions of one entry. Most entries have one, which takes no allocation.
#[derive(Debug)]
enum Keys {
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
    pub(super) fn add(&self, user: &[u8], key: &StoreKey) {
        let mut part = self.part(user);
        match part.get_mut(user) {
            Some(keys) => keys.add(key),
            None => {
                part.insert(user.into(), Keys::One(key.clone()));
            }
        }
    }

    pub(super) fn remove(&self, user: &[u8], key: &StoreKey) {
        let mut part = self.part(user);
        if part.get_mut(user).is_some_and(|keys| keys.remove(key)) {
            part.remove(user);
        }
    }

    /// Returns the `limit` keys that follow `after` in their order, and true if there are more.
    pub(super) fn page(&self, user: &[u8], after: &str, limit: usize) -> (Vec<StoreKey>, bool) {
        let part = self.part(user);
        let follows = |key: &&StoreKey| key.as_str() > after;
        let mut following: Vec<StoreKey> = match part.get(user) {
            None => Vec::new(),
            Some(Keys::One(key)) => Some(key).filter(follows).into_iter().cloned().collect(),
            Some(Keys::Several(keys)) => match after.parse::<StoreKey>() {
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

    fn part(&self, user: &[u8]) -> MutexGuard<'_, Part> {
        // The maps take their positions from the low bits.
        self.parts[(self.hasher.hash_one(user) >> 32) as usize % PARTS].lock()
    }
}

impl Keys {
    fn add(&mut self, key: &StoreKey) {
        match self {
            Keys::Several(keys) => {
                keys.insert(key.clone());
            }
            Keys::One(only) if only == key => {}
            Keys::One(only) => *self = Keys::Several(BTreeSet::from([only.clone(), key.clone()])),
        }
    }

    /// Removes `key`; answers whether none is left.
    fn remove(&mut self, key: &StoreKey) -> bool {
        match self {
            Keys::One(only) => only == key,
            Keys::Several(keys) => {
                keys.remove(key);
                match keys.len() {
                    0 => return true,
                    1 => {
                        if let Some(only) = keys.pop_first() {
                            *self = Keys::One(only);
                        }
                    }
                    _ => {}
                }
                false
            }
        }
    }
}
