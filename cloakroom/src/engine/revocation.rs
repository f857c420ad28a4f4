//! The end of a session, by its key.

use std::sync::Arc;

use super::ids::Ids;
use super::records::Records;
use super::storage::Storage;
use super::tombstones::{MOST_ROTATIONS, Tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{About, EventKind};
use crate::id::{Named, StoreKey};
use crate::provider::{Provider, Updated};
use crate::record::{Mark, Record};

/// The number of conflicts after which a session is deleted without a look at its version. Also the largest number of tombstones that
/// are followed from a key to its session.
pub(super) const MOST_CONFLICTS: usize = 64;

/// Ends sessions: with a tombstone if the store takes one, else by deleting the record.
#[derive(Debug)]
pub(crate) struct Revocation {
    storage: Storage,
    records: Arc<Records>,
    ids: Arc<Ids>,
    tombstones: Tombstones,
}

impl Revocation {
    pub(crate) fn new(
        storage: Storage,
        records: Arc<Records>,
        ids: Arc<Ids>,
        tombstones: Tombstones,
    ) -> Self {
        Revocation { storage, records, ids, tombstones }
    }

    /// Ends the session under `key`, or the one that its tombstones lead to. Returns false if there is none.
    ///
    /// It works as long as the store can do anything: if it refuses a tombstone or cannot load the session, the record is deleted.
    pub(crate) async fn end(&self, key: &StoreKey) -> Result<bool> {
        if self.ids.token_is_record() {
            return self.storage.provider.delete(key).await;
        }
        let mut latest = key.clone();
        for _ in 0..MOST_CONFLICTS {
            let (live, record) = match self.live(&latest).await {
                Ok(Some(found)) => found,
                // A sealed record that no key of the ring opens is loaded as none. It would be back with its key.
                Ok(None) => return self.storage.provider.delete(&latest).await,
                // An unreadable record, or a store that cannot load, must not keep a user from ending a session.
                Err(error) => return self.delete_despite(&latest, error).await,
            };
            match self.write_tombstone(&live, &record).await? {
                Updated::Done => {
                    let about = About { record: Some(&record), ..About::from(&live) };
                    self.storage.events.report(EventKind::Destroyed, about);
                    return Ok(true);
                }
                // Another request has changed, renamed or ended it.
                Updated::Stale | Updated::Gone => latest = live,
            }
        }
        // Endless changes by other requests must not keep it alive.
        let deleted = self.storage.provider.delete(&latest).await?;
        if deleted {
            self.storage.events.report(EventKind::Destroyed, &latest);
        }
        Ok(deleted)
    }

    /// Ends the session that a request presents by `key`, or the one that a rotated id leads to during its grace.
    ///
    /// The session of a later login stays: whoever holds an id from before the login may have planted that id.
    pub(crate) async fn end_presented(&self, key: &StoreKey) -> Result<bool> {
        let mut key = key.clone();
        for _ in 0..MOST_ROTATIONS {
            let Ok(Some(record)) = self.records.load_any(&key).await else { return self.end(&key).await };
            match record.mark() {
                None => return self.end(&self.ids.own_key(&record).unwrap_or(key)).await,
                Some(Mark::Rotated { successor, until }) if self.storage.now() < until => key = successor,
                Some(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Returns the keys by which a logout ends the sessions of `names`. This build need not be able to read their data.
    pub(crate) async fn keys_to_end(&self, names: impl Iterator<Item = Named>) -> Result<Vec<StoreKey>> {
        let mut keys = Vec::new();
        for name in names {
            let own =
                if self.ids.token_is_record() { self.records.load_any(name.key()).await? } else { None };
            keys.push(own.and_then(|record| self.ids.own_key(&record)).unwrap_or_else(|| name.key().clone()));
        }
        Ok(keys)
    }

    /// Returns the live session under `key`, or the one that its tombstones lead to.
    pub(crate) async fn live(&self, key: &StoreKey) -> Result<Option<(StoreKey, Record)>> {
        self.follow(key, Mark::successor).await
    }

    /// Returns true if only routine rotation lies between `key` and a live session. Beyond a login, the holder of an earlier id may have
    /// planted that id, and must not end the user's sessions with it.
    pub(crate) async fn is_only_rotated(&self, key: &StoreKey) -> Result<bool> {
        let rotated = |mark| match mark {
            Mark::Rotated { successor, .. } => Some(successor),
            Mark::Replaced { .. } | Mark::Ended => None,
        };
        Ok(self.follow(key, rotated).await?.is_some())
    }

    /// Follows the tombstones from `key` to a live session. `next` returns the key that a mark leads to.
    async fn follow(
        &self,
        key: &StoreKey,
        next: impl Fn(Mark) -> Option<StoreKey>,
    ) -> Result<Option<(StoreKey, Record)>> {
        let mut key = key.clone();
        for _ in 0..MOST_CONFLICTS {
            let Some(record) = self.records.load_any(&key).await? else { return Ok(None) };
            let Some(mark) = record.mark() else { return Ok(Some((key, record))) };
            let Some(successor) = next(mark) else { return Ok(None) };
            key = successor;
        }
        Ok(None)
    }

    /// Replaces `record` with a tombstone; deletes it if the store holds none or takes none.
    pub(crate) async fn write_tombstone(&self, key: &StoreKey, record: &Record) -> Result<Updated> {
        let mut refused = None;
        if let Some(tombstone) = self.tombstones.of_end(record, self.storage.now()) {
            match self.storage.provider.update(key, &tombstone, record).await {
                Err(error) => refused = Some(error),
                answer => return answer,
            }
        }
        match (self.storage.provider.delete(key).await, refused) {
            (Ok(true), Some(error)) => {
                tracing::warn!(%error, "the store took no tombstone for an ended session; its record was deleted");
                Ok(Updated::Done)
            }
            (Ok(true), None) => Ok(Updated::Done),
            (Ok(false), _) => Ok(Updated::Gone),
            (Err(error), refused) => Err(refused.unwrap_or(error)),
        }
    }

    /// Deletes the record under `key` after `error`. Returns that error if there was nothing to delete.
    async fn delete_despite(&self, key: &StoreKey, error: Error) -> Result<bool> {
        match self.storage.provider.delete(key).await {
            Ok(true) => {
                self.storage.events.report(EventKind::Destroyed, key);
                Ok(true)
            }
            // The provider has put an unreadable record aside, so the key is free.
            Ok(false) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible) => Ok(false),
            Ok(false) | Err(_) => Err(error),
        }
    }
}
