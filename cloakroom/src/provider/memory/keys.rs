//! The operations on one key: each locks the key's shard, a rename two.

use std::hash::BuildHasher;
use std::time::SystemTime;

use super::shard::{KeyState, Pair, ShardState};
use super::{SHARDS, Store};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

impl Store {
    pub(super) fn load(&self, key: &StoreKey) -> Option<Record> {
        let (hash, place) = self.place(key);
        let now = self.clock.recent();
        let mut shard = self.shards[place].lock();
        shard.live(hash, key, now).map(|entry| entry.record.clone())
    }

    pub(super) fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        // Look the key up before making room, so that a taken key is reported as taken even in a full store.
        let mut found = shard.place(hash, key, &self.clock);
        if found == KeyState::Taken {
            return Ok(Created::Taken);
        }
        let tombstone = record.is_tombstone();
        if tombstone {
            self.counts.add_tombstone();
        } else if !self.counts.add_session() {
            // Other records are removed first, and they may be in any shard.
            drop(shard);
            self.make_room(record)?;
            shard = self.shards[place].lock();
            found = shard.place(hash, key, &self.clock);
            if found == KeyState::Taken {
                self.counts.remove_session();
                return Ok(Created::Taken);
            }
        }
        self.put(&mut shard, found, hash, key, record);
        drop(shard);
        if tombstone {
            self.bound_tombstones();
        }
        Ok(Created::Done)
    }

    pub(super) fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Updated {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        let Some(entry) = shard.session(hash, key, self.clock.recent()) else { return Updated::Gone };
        if entry.record.version() != base.version() {
            return Updated::Stale;
        }
        let before = std::mem::replace(&mut entry.record, record.clone());
        self.indexes.update(key, Some(&before), Some(record));
        shard.note_replaced(hash, &before, record);
        if record.is_tombstone() {
            self.counts.remove_session();
            self.counts.add_tombstone();
            drop(shard);
            self.bound_tombstones();
        }
        Updated::Done
    }

    pub(super) fn touch(&self, key: &StoreKey, at: SystemTime) -> Touched {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        let Some(entry) = shard.session(hash, key, self.clock.recent()) else { return Touched::Gone };
        let before = entry.record.deadline();
        entry.record.touch(at);
        let (after, anonymous) = (entry.record.deadline(), entry.record.user().is_none());
        shard.note_touched(hash, anonymous, before, after);
        Touched::Done
    }

    pub(super) fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Renamed {
        let ((old_hash, old_place), (new_hash, new_place)) = (self.place(old), self.place(new));
        let now = self.clock.recent();
        let mut shards = Pair::lock(&self.shards, old_place, new_place);
        match shards.first().session(old_hash, old, now) {
            None => return Renamed::Gone,
            Some(entry) if entry.record.version() != expected => return Renamed::Stale,
            Some(_) => {}
        }
        let found = shards.second().place(new_hash, new, &self.clock);
        if found == KeyState::Taken {
            return Renamed::Taken;
        }
        let moved = shards.first().remove(old_hash, old);
        if let Some(tombstone) = tombstone {
            shards.first().insert(old_hash, old, tombstone);
            self.counts.add_tombstone();
        }
        self.put(shards.second(), found, new_hash, new, record);
        // Index the new key first, so that the user's list shows the session at every moment.
        self.indexes.update(old, moved.as_ref().map(|entry| &entry.record), None);
        drop(shards);
        if tombstone.is_some() {
            self.bound_tombstones();
        }
        Renamed::Done
    }

    pub(super) fn delete(&self, key: &StoreKey) -> bool {
        let (hash, place) = self.place(key);
        let removed = {
            let mut shard = self.shards[place].lock();
            if shard.session(hash, key, self.clock.recent()).is_none() {
                return false;
            }
            let removed = shard.remove(hash, key);
            self.indexes.update(key, removed.as_ref().map(|entry| &entry.record), None);
            removed
        };
        self.counts.remove_session();
        removed.is_some()
    }

    /// Puts a record in a place that is not taken.
    fn put(&self, shard: &mut ShardState, found: KeyState, hash: u64, key: &StoreKey, record: &Record) {
        let expired = if found == KeyState::Expired { shard.remove(hash, key) } else { None };
        if let Some(expired) = &expired {
            self.counts.remove(&expired.record);
            self.indexes.update(key, Some(&expired.record), None);
        }
        self.indexes.update(key, None, Some(record));
        shard.insert(hash, key, record);
    }

    #[inline]
    fn place(&self, key: &StoreKey) -> (u64, usize) {
        let hash = self.hasher.hash_one(key.as_bytes());
        // The table takes its positions from the low bits and its tags from the highest seven.
        (hash, (hash >> 32) as usize % SHARDS)
    }
}
