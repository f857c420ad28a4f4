//! One shard of the store: a table of sessions, and their deadlines in order.
//!
//! The store hashes each key once. The hash selects the shard and the place in its table. A shard keeps four things that change
//! together, under one lock: the table, a heap of deadlines for collection, the number of tombstones, and, if the store is limited,
//! the records in the order in which they are evicted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use hashbrown::HashTable;

use crate::clock::{Clock, Millis};
use crate::id::StoreKey;
use crate::provider::Listed;
use crate::record::Record;
use crate::sync::{Mutex, MutexGuard};

/// A table of sessions behind a lock. It is aligned to two cache lines, which processors fetch in pairs, so that threads on
/// neighbouring shards do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard(Mutex<ShardState>);

/// The state behind the lock of a shard. Its four parts change together.
#[derive(Debug, Default)]
pub(super) struct ShardState {
    table: HashTable<Box<Entry>>,
    /// The deadlines as (time, hash) in order. Every record has at least one item, whose time is not later than its deadline. A touch
    /// leaves the item in place: an item that comes up too early is put back at the present deadline. The hash is enough to find the record.
    deadlines: BinaryHeap<Reverse<(u64, u64)>>,
    tombstones: usize,
    /// The records that may be evicted. A store without a limit has none.
    order: Option<Box<EvictionOrder>>,
}

/// The records of a shard that may be evicted, by their deadlines. Each is in its set by its present deadline and hash.
#[derive(Debug, Default)]
struct EvictionOrder {
    anonymous: BTreeSet<(u64, u64)>,
    tombstones: BTreeSet<(u64, u64)>,
}

/// A kind of records that may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    Anonymous,
    Tombstone,
}

impl Spare {
    fn of(record: &Record) -> Option<Spare> {
        match record.user() {
            _ if record.is_tombstone() => Some(Spare::Tombstone),
            None => Some(Spare::Anonymous),
            Some(_) => None,
        }
    }
}

impl EvictionOrder {
    fn set(&mut self, spare: Spare) -> &mut BTreeSet<(u64, u64)> {
        match spare {
            Spare::Anonymous => &mut self.anonymous,
            Spare::Tombstone => &mut self.tombstones,
        }
    }

    fn add(&mut self, hash: u64, record: &Record) {
        if let Some(spare) = Spare::of(record) {
            self.set(spare).insert((record.deadline().0, hash));
        }
    }

    fn remove(&mut self, hash: u64, record: &Record) {
        if let Some(spare) = Spare::of(record) {
            self.set(spare).remove(&(record.deadline().0, hash));
        }
    }
}

/// The state of a key for a record that is to be stored there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    Free,
    Expired,
    Taken,
}

/// A record in the table. It is boxed there, so that the table moves pointers when it grows.
#[derive(Debug)]
pub(super) struct Entry {
    /// The hash of the key. The table and the deadlines find the entry by it.
    hash: u64,
    pub(super) key: StoreKey,
    pub(super) record: Record,
}

impl Shard {
    /// Returns an empty shard. If it is `limited`, it keeps the records in the order of their eviction.
    pub(super) fn new(limited: bool) -> Self {
        Shard(Mutex::new(ShardState { order: limited.then(Box::default), ..ShardState::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.0.lock()
    }
}

impl ShardState {
    fn find(&mut self, hash: u64, key: &StoreKey) -> Option<&mut Entry> {
        self.table.find_mut(hash, |entry| entry.key == *key).map(|entry| &mut **entry)
    }

    /// Returns the live record or tombstone under `key`.
    pub(super) fn live(&mut self, hash: u64, key: &StoreKey, now: Millis) -> Option<&mut Entry> {
        self.find(hash, key).filter(|entry| !entry.record.expired_at(now))
    }

    /// Returns whether a new record may be stored under `key`.
    pub(super) fn place(&mut self, hash: u64, key: &StoreKey, clock: &Clock) -> KeyState {
        match self.find(hash, key) {
            None => KeyState::Free,
            Some(entry) if entry.record.expired_at(clock.recent()) => KeyState::Expired,
            Some(_) => KeyState::Taken,
        }
    }

    /// Returns the live session under `key`.
    pub(super) fn session(&mut self, hash: u64, key: &StoreKey, now: Millis) -> Option<&mut Entry> {
        self.live(hash, key, now).filter(|entry| !entry.record.is_tombstone())
    }

    pub(super) fn insert(&mut self, hash: u64, key: &StoreKey, record: &Record) {
        self.tombstones += usize::from(record.is_tombstone());
        self.deadlines.push(Reverse((record.deadline().0, hash)));
        if let Some(order) = &mut self.order {
            order.add(hash, record);
        }
        let entry = Box::new(Entry { hash, key: key.clone(), record: record.clone() });
        self.table.insert_unique(hash, entry, |entry| entry.hash);
    }

    pub(super) fn remove(&mut self, hash: u64, key: &StoreKey) -> Option<Box<Entry>> {
        self.remove_where(hash, |entry| entry.key == *key)
    }

    fn remove_where(&mut self, hash: u64, which: impl Fn(&Entry) -> bool) -> Option<Box<Entry>> {
        let (entry, _) = self.table.find_entry(hash, |entry| which(entry)).ok()?.remove();
        self.tombstones -= usize::from(entry.record.is_tombstone());
        if let Some(order) = &mut self.order {
            order.remove(hash, &entry.record);
        }
        self.forget_some_deadlines();
        Some(entry)
    }

    /// Updates the indexes after another record, perhaps a tombstone, has replaced a session.
    pub(super) fn note_replaced(&mut self, hash: u64, session: &Record, by: &Record) {
        self.tombstones += usize::from(by.is_tombstone());
        if let Some(order) = &mut self.order {
            order.remove(hash, session);
            order.add(hash, by);
        }
        self.note_deadline(hash, session.deadline(), by.deadline());
    }

    /// Updates the indexes after a touch has moved a session's deadline.
    pub(super) fn note_touched(&mut self, hash: u64, anonymous: bool, before: Millis, after: Millis) {
        if anonymous && let Some(order) = &mut self.order {
            order.anonymous.remove(&(before.0, hash));
            order.anonymous.insert((after.0, hash));
        }
        self.note_deadline(hash, before, after);
    }

    /// Adds an item to `deadlines` for a record whose deadline came nearer.
    fn note_deadline(&mut self, hash: u64, before: Millis, after: Millis) {
        if after < before {
            self.deadlines.push(Reverse((after.0, hash)));
        }
    }

    /// Drops the items of removed records, once they are the majority.
    fn forget_some_deadlines(&mut self) {
        if self.deadlines.len() > 2 * self.table.len() + 64 {
            let table = &self.table;
            self.deadlines.retain(|Reverse((_, hash))| table.find(*hash, |_| true).is_some());
        }
    }

    pub(super) fn is_due(&self, now: Millis) -> bool {
        self.deadlines.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now.0)
    }

    /// Takes the next deadline that is due, and removes its record if that has expired. A session that was used since gets an item at its
    /// present deadline. Returns `None` if no deadline is due.
    pub(super) fn take_expired(&mut self, now: Millis) -> Option<Option<Box<Entry>>> {
        if !self.is_due(now) {
            return None;
        }
        let Reverse((_, hash)) = self.deadlines.pop()?;
        // The table compares only a few bits of the hash. Without the full comparison another record could be removed, and this one's item
        // would be lost.
        let expired = self.remove_where(hash, |entry| entry.record.expired_at(now) && entry.hash == hash);
        // Two records with one hash share the items.
        if expired.is_none()
            && let Some(entry) = self.table.find(hash, |entry| entry.hash == hash)
        {
            self.deadlines.push(Reverse((entry.record.deadline().0, hash)));
        }
        Some(expired)
    }

    /// Removes the `spare` record with the earliest deadline.
    pub(super) fn evict(&mut self, spare: Spare) -> Option<Box<Entry>> {
        let (_, hash) = self.order.as_mut()?.set(spare).pop_first()?;
        self.remove_where(hash, |entry| Spare::of(&entry.record) == Some(spare) && entry.hash == hash)
    }

    /// Returns the number of sessions, if nothing has expired.
    pub(super) fn sessions(&self) -> usize {
        self.table.len() - self.tombstones
    }

    /// Returns the next `limit` live sessions after `last`, in the order of keys.
    pub(super) fn page(&self, now: Millis, last: Option<&StoreKey>, limit: usize) -> Vec<Listed> {
        let alive = |record: &Record| !record.is_tombstone() && !record.expired_at(now);
        let rest = self.table.iter().filter(|entry| last.is_none_or(|last| entry.key > *last));
        let mut rest: Vec<&Entry> = rest.filter(|entry| alive(&entry.record)).map(|entry| &**entry).collect();
        rest.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let listed = |entry: &Entry| Listed { key: entry.key.clone(), meta: entry.record.meta() };
        rest.into_iter().take(limit).map(listed).collect()
    }

    #[cfg(test)]
    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }
}

/// The locked shards of two keys, which may be the same shard. They are locked in the order of their places, so that two renames never
/// deadlock.
pub(super) struct Pair<'a> {
    low: MutexGuard<'a, ShardState>,
    high: Option<MutexGuard<'a, ShardState>>,
    swapped: bool,
}

impl<'a> Pair<'a> {
    pub(super) fn lock(shards: &'a [Shard], first: usize, second: usize) -> Self {
        let low = shards[first.min(second)].lock();
        let high = (first != second).then(|| shards[first.max(second)].lock());
        Pair { low, high, swapped: second < first }
    }

    pub(super) fn first(&mut self) -> &mut ShardState {
        self.side(self.swapped)
    }

    pub(super) fn second(&mut self) -> &mut ShardState {
        self.side(!self.swapped)
    }

    fn side(&mut self, high: bool) -> &mut ShardState {
        match &mut self.high {
            Some(guard) if high => guard,
            _ => &mut self.low,
        }
    }
}
