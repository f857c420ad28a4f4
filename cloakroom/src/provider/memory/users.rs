//! Which sessions belong to which user.

use std::collections::HashMap;

use crate::id::StoreKey;
use crate::principal::Principal;
use crate::sync::{Mutex, MutexGuard};

/// The index by user. It is changed with the session's shard locked, so it is never behind; its own lock is taken last.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashMap<Principal, Vec<StoreKey>>>);

impl Users {
    pub(super) fn add(&self, user: &Principal, key: &StoreKey) {
        self.lock().entry(user.clone()).or_default().push(key.clone());
    }

    pub(super) fn remove(&self, user: &Principal, key: &StoreKey) {
        let mut users = self.lock();
        let Some(keys) = users.get_mut(user) else { return };
        if let Some(place) = keys.iter().position(|known| known == key) {
            keys.swap_remove(place);
        }
        if keys.is_empty() {
            users.remove(user);
        }
    }

    pub(super) fn keys(&self, user: &Principal) -> Vec<StoreKey> {
        self.lock().get(user).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, Vec<StoreKey>>> {
        self.0.lock()
    }
}
