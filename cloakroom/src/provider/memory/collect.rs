//! Removal of records for room: expired ones, and those that a limit evicts.

use super::shard::{Shard, ShardState, Spare};
use super::{MemoryError, SHARDS, Store};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Collected;
use crate::record::Record;
use crate::sync::Ordering;

/// The number of records collected at a time where room is needed.
const STEP: usize = 64;

impl Store {
    /// Makes room for a session that is already counted. If that fails, it is no longer counted.
    #[cold]
    pub(super) fn make_room(&self, record: &Record) -> Result<()> {
        // Another thread may have made the room meanwhile. The collected records may be tombstones, which make no room.
        while !self.counts.fit() && self.collect(STEP).removed > 0 {}
        if self.counts.fit() || (record.user().is_some() && self.evict(Spare::Anonymous)) {
            return Ok(());
        }
        if self.counts.take_out_excess() {
            let max = self.counts.max_sessions;
            return Err(Error::new(ErrorKind::TooLarge, MemoryError::Full { max }));
        }
        Ok(())
    }

    /// Evicts the oldest tombstones if there are too many. The caller holds no shard's lock.
    #[inline]
    pub(super) fn bound_tombstones(&self) {
        while self.counts.has_spare_tombstones() && self.evict(Spare::Tombstone) {}
    }

    /// Evicts a `spare` record: the one with the earliest deadline of the first shard that has any. Returns false if no shard has one.
    fn evict(&self, spare: Spare) -> bool {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shards = (0..SHARDS).map(|step| &self.shards[(start + step) % SHARDS]);
        let evicted = shards.find_map(|shard| shard.lock().evict(spare));
        if let Some(evicted) = &evicted {
            self.counts.remove(&evicted.record);
        }
        evicted.is_some()
    }

    pub(super) fn collect(&self, limit: usize) -> Collected {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.millis();
        let (mut removed, mut due) = (0, true);
        while due && removed < limit {
            due = false;
            // Take one record from each shard in turn. A waiting thread then gets the shard within a microsecond, and need not sleep.
            for step in 0..SHARDS {
                let mut shard = self.shards[(start + step) % SHARDS].lock();
                match self.collect_one(&mut shard, now) {
                    None => continue,
                    Some(found) => (due, removed) = (true, removed + usize::from(found)),
                }
                drop(shard);
                if removed == limit {
                    break;
                }
            }
        }
        let more = removed == limit && self.shards.iter().any(|shard| shard.lock().is_due(now));
        Collected { removed, more }
    }

    /// Removes the record of `shard` that expired first. Returns `None` if none has expired, and false if its deadline has moved.
    fn collect_one(&self, shard: &mut ShardState, now: Millis) -> Option<bool> {
        let Some(expired) = shard.take_expired(now)? else { return Some(false) };
        // Count while the lock is held, since a concurrent collection decides by the count.
        self.counts.remove(&expired.record);
        self.indexes.update(&expired.key, Some(&expired.record), None);
        Some(true)
    }

    pub(super) fn count(&self) -> u64 {
        // Remove expired records first, one each time a shard is locked. A shard is counted while its lock shows that none is left.
        while self.collect(STEP * SHARDS).more {}
        let count = |shard: &Shard| loop {
            let mut shard = shard.lock();
            if self.collect_one(&mut shard, self.clock.millis()).is_none() {
                return shard.sessions() as u64;
            }
        };
        self.shards.iter().map(count).sum()
    }
}
