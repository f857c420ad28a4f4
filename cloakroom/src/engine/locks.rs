//! Locks by key, for tasks of one process that would otherwise conflict in the store.

use std::hash::BuildHasher;

use tokio::sync::{Mutex, MutexGuard};

use crate::sync::RandomState;

/// The number of mutexes. Two keys may share one, which costs waiting time only.
const LOCKS: usize = 64;

/// A fixed number of mutexes, chosen by the hash of a key.
#[derive(Debug)]
pub(crate) struct KeyedLocks {
    locks: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl KeyedLocks {
    pub(crate) fn new() -> Self {
        KeyedLocks {
            locks: std::iter::repeat_with(Mutex::default).take(LOCKS).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        self.locks[self.hasher.hash_one(key) as usize % LOCKS].lock().await
    }
}
