//! A session provider of one's own, in a crate of its own: the first example of the provider guide.
//!
//! [`OwnProvider`] keeps everything in one map behind one lock. That makes each method one atomic step, which is the
//! hardest sentence of the contract, at the price that only one runs at a time. A store of your own puts its transactions,
//! scripts or compare-and-swap in the place of the lock; the order of the checks in each method stays as it is here.
//!
//! To choose it by name, as a configuration file does, register a constructor once at the start:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use cloakroom::{Clock, Manager};
//! use custom_provider::OwnProvider;
//!
//! cloakroom::register("own", |_config| async { Ok(OwnProvider::new(Clock::system())) })?;
//! let sessions = Manager::new("own", r#"{"cookieName":"gosessionid","gclifetime":3600}"#).await?;
//! assert_eq!(sessions.active_sessions().await?, 0);
//! # Ok::<(), cloakroom::Error>(()) }).unwrap();
//! ```
//!
//! `tests/conformance.rs` runs the whole conformance suite and the model test on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cloakroom::{
    Clock, Provider, Result,
    providers::{
        Capabilities, Collected, Created, Cursor, IndexEntry, Listed, Page, Record, Renamed, StoreKey,
        Touched, Updated,
    },
};

/// Sessions in one map behind one lock.
///
/// ```
/// use cloakroom::{Clock, Provider};
/// use custom_provider::OwnProvider;
///
/// let provider = OwnProvider::new(Clock::system());
/// assert_eq!(provider.capabilities().name, "own");
/// ```
#[derive(Debug)]
pub struct OwnProvider {
    // Expiry goes by the clock that is handed in, so that tests can set it.
    clock: Clock,
    // A lock of the standard library is right here: it is never held across an `await`.
    sessions: Mutex<Sessions>,
}

impl OwnProvider {
    /// An empty store that goes by `clock`: [`Clock::system`] in an application.
    pub fn new(clock: Clock) -> Self {
        OwnProvider { clock, sessions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // A poisoned lock does no harm: this file never panics between two changes that belong together.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider for OwnProvider {
    fn capabilities(&self) -> Capabilities {
        // In this process, can end and list sessions: what `new` says is just right.
        Capabilities::new("own")
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let mut sessions = self.lock();
        // A tombstone holds its key too; an expired record does not, whether or not it was collected.
        if sessions.load(key, self.clock.now()).is_some() {
            return Ok(Created::Taken);
        }
        sessions.put(key, record.clone());
        Ok(Created::Done)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        Ok(self.lock().load(key, self.clock.now()).cloned())
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let mut sessions = self.lock();
        match sessions.session(key, self.clock.now()) {
            // Never an upsert: what has ended stays ended.
            None => Ok(Updated::Gone),
            Some(present) if present.version() != base.version() => Ok(Updated::Stale),
            Some(_) => {
                sessions.put(key, record.clone());
                Ok(Updated::Done)
            }
        }
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let mut sessions = self.lock();
        let Some(mut record) = sessions.session(key, self.clock.now()).cloned() else {
            return Ok(Touched::Gone);
        };
        // The record knows its idle time and its absolute deadline.
        record.touch(at);
        sessions.put(key, record);
        Ok(Touched::Done)
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let mut sessions = self.lock();
        let now = self.clock.now();
        match sessions.session(old, now) {
            None => return Ok(Renamed::Gone),
            Some(present) if present.version() != expected => return Ok(Renamed::Stale),
            Some(_) => {}
        }
        if sessions.load(new, now).is_some() {
            return Ok(Renamed::Taken);
        }
        sessions.put(new, record.clone());
        match tombstone {
            Some(mark) => sessions.put(old, mark.clone()),
            None => drop(sessions.take(old)),
        }
        Ok(Renamed::Done)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let mut sessions = self.lock();
        // A tombstone stays: it leads whoever ends a session by its former id to the present one.
        let was_there = sessions.session(key, self.clock.now()).is_some();
        if was_there {
            sessions.take(key);
        }
        Ok(was_there)
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.lock().live(Bound::Unbounded, self.clock.now()).count() as u64)
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let mut sessions = self.lock();
        let now = self.clock.now();
        let dead = sessions.records.iter().filter(|(_, record)| record.is_expired(now));
        // One more than may go tells whether any remain.
        let mut dead: Vec<StoreKey> =
            dead.map(|(key, _)| key.clone()).take(limit.saturating_add(1)).collect();
        let more = dead.len() > limit;
        dead.truncate(limit);
        for key in &dead {
            sessions.take(key);
        }
        Ok(Collected { removed: dead.len(), more })
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        // The cursor is the last key of the page before: a place in the order, which stays one when that key goes.
        let after: Option<StoreKey> = cursor.map(|cursor| cursor.as_str().parse()).transpose()?;
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let sessions = self.lock();
        let entries: Vec<Listed> = sessions.live(from, self.clock.now()).take(limit).collect();
        let full = entries.len() == limit;
        let next = entries.last().filter(|_| full).map(|last| Cursor::new(last.key.as_str()));
        Ok(Page { entries, next })
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let after: Option<StoreKey> = cursor.map(|cursor| cursor.as_str().parse()).transpose()?;
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let sessions = self.lock();
        let now = self.clock.now();
        let keys = sessions.index.get(entry).into_iter();
        let keys = keys.flat_map(|keys| keys.range::<StoreKey, _>((from, Bound::Unbounded)));
        let theirs = keys.filter_map(|key| sessions.session(key, now).map(|record| listed(key, record)));
        let entries: Vec<Listed> = theirs.take(limit).collect();
        let full = entries.len() == limit;
        let next = entries.last().filter(|_| full).map(|last| Cursor::new(last.key.as_str()));
        Ok(Page { entries, next })
    }
}

/// The records, and an index of them that [`put`](Self::put) and [`take`](Self::take) keep in step.
#[derive(Debug, Default)]
struct Sessions {
    records: BTreeMap<StoreKey, Record>,
    index: BTreeMap<IndexEntry, BTreeSet<StoreKey>>,
}

impl Sessions {
    /// Returns the live session or tombstone under `key`.
    fn load(&self, key: &StoreKey, now: SystemTime) -> Option<&Record> {
        self.records.get(key).filter(|record| !record.is_expired(now))
    }

    /// The live session under `key`: a tombstone is none.
    fn session(&self, key: &StoreKey, now: SystemTime) -> Option<&Record> {
        self.load(key, now).filter(|record| !record.is_tombstone())
    }

    /// The live sessions in the order of their keys.
    fn live(&self, from: Bound<&StoreKey>, now: SystemTime) -> impl Iterator<Item = Listed> {
        let records = self.records.range::<StoreKey, _>((from, Bound::Unbounded));
        let alive = move |record: &Record| !record.is_tombstone() && !record.is_expired(now);
        records.filter(move |(_, record)| alive(record)).map(|(key, record)| listed(key, record))
    }

    /// Stores `record` in the place of whatever is under `key`.
    fn put(&mut self, key: &StoreKey, record: Record) {
        self.take(key);
        for entry in record.index_entries() {
            self.index.entry(entry).or_default().insert(key.clone());
        }
        self.records.insert(key.clone(), record);
    }

    fn take(&mut self, key: &StoreKey) -> Option<Record> {
        let record = self.records.remove(key)?;
        for entry in record.index_entries() {
            let Some(keys) = self.index.get_mut(&entry) else { continue };
            keys.remove(key);
            if keys.is_empty() {
                self.index.remove(&entry);
            }
        }
        Some(record)
    }
}

fn listed(key: &StoreKey, record: &Record) -> Listed {
    Listed { key: key.clone(), meta: record.meta() }
}
