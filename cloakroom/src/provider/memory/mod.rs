//! Sessions in this process's memory: fast, and lost with the process.
//!
//! A store has 256 shards. The hash of a key selects its shard. `shard.rs` has one shard, and `index.rs` finds sessions by user and
//! label. A shard is locked before a part of the index, never the other way round.
//!
//! | state | lock | changes |
//! |---|---|---|
//! | the records of a shard, their deadlines, its tombstones | the shard's | with each change of a record |
//! | the keys under each user or label | one of 64 parts of an index | only if the user or the labels of a record change |
//! | the numbers of sessions and tombstones in the store | none, atomic | shortly before or after the record, so they may be off for a moment |
//!
//! **No call waits.** No lock is held during I/O or across an `await`, so every future is ready at its first poll. The capabilities say
//! so (`never_waits`), and the manager then polls a call once and needs no future of its own.
//!
//! **A read copies no data.** A record is one buffer with a reference count. A load clones the reference, and a change puts another
//! record in its place. A request keeps the record that it loaded, whatever others store meanwhile.
//!
//! **A rename locks two shards** in the order of their numbers, so two renames cannot deadlock. Both keys change under these locks:
//! no request sees neither of them alive, or both.
//!
//! **Collection takes one record from each shard in turn,** so no shard is locked for long. A use leaves the entry in the heap of
//! deadlines as it is. When the entry comes up too early, it is put back at the present deadline.
//!
//! **A full store** (`max_sessions`) first removes expired records. Then a login may evict the anonymous session that would end first;
//! an anonymous session is refused. Tombstones count apart, with a limit of their own, and evict each other.
//!
//! **A list is read twice.** `indexed` reads the keys, then their records, then the keys again. A session that was renamed in between
//! may be under neither key, so the page is repeated while the keys differ, at most [`RELISTS`] times.

mod index;
mod shard;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::SystemTime;

#[cfg(shuttle)]
use foldhash::fast::FixedState as RandomState;
#[cfg(not(shuttle))]
use foldhash::fast::RandomState;

use self::index::Index;
use self::shard::{Pair, Place, Shard, Spare};
use super::{Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, Touched, Updated};
use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::record::{IndexEntry, IndexKind, Record};
use crate::sync::{AtomicUsize, Ordering};

/// The number of shards: enough that two cores seldom meet and that a growing shard delays few calls, and few enough that an empty store
/// is small.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 256 };

/// The maximum number of times that a page is read again because the index changed meanwhile.
const RELISTS: usize = 64;

/// The number of records collected at a time where room is needed.
const STEP: usize = 64;

/// The minimum number of tombstones that a store with a limit keeps. A small site has fewer logouts within the longest request.
const TOMBSTONES: usize = 1024;

/// A [`Provider`] that keeps sessions in this process's memory. A configuration string names it `memory`.
///
/// A clone is a handle on the same store. Other processes do not see the sessions, and a restart loses them. Use it for one server
/// whose sessions may be lost, for development and for tests. [The guide](crate::guide::memory) says what a session takes and how
/// to limit them.
///
/// Each operation locks one of 256 shards (a rename two) for some nanoseconds, and never across an `await`. Expired sessions are
/// found by their deadline, never by a scan.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
///
/// let provider = MemoryProvider::builder().max_sessions(1_000_000).build();
/// let sessions = Manager::builder(provider).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryProvider(Arc<Store>);

/// The store behind all clones of a provider. The shards hold the records, and the indexes find them by user and label.
#[derive(Debug)]
struct Store {
    shards: Box<[Shard]>,
    /// Hashes keys. A quick hasher is enough: every store seeds its own, and no visitor can choose a key.
    hasher: RandomState,
    users: Index,
    labels: Index,
    clock: Clock,
    max_sessions: usize,
    /// The number of sessions in all shards, including expired ones that were not collected.
    sessions: AtomicUsize,
    tombstones: AtomicUsize,
    /// The shard at which the next collection begins, so that small rounds reach every shard.
    next: AtomicUsize,
}

/// Sets up a [`MemoryProvider`]. [`MemoryProvider::builder`] returns one. No setting can fail.
///
/// ```
/// use cloakroom::{Manager, ManualClock, MemoryProvider};
///
/// let time = ManualClock::default();
/// let provider = MemoryProvider::builder().max_sessions(100_000).clock(time.clock()).build();
/// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryProviderBuilder {
    clock: Clock,
    max_sessions: usize,
}

impl MemoryProviderBuilder {
    /// Sets the source of time. Give the manager the same clock. Default: the system's.
    ///
    /// ```
    /// # use cloakroom::{Manager, ManualClock, MemoryProvider};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let time = ManualClock::default();
    /// let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// time.advance(Duration::from_secs(31 * 60));
    /// assert_eq!(sessions.active_sessions().await?, 0, "idle for over 30 minutes");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the maximum number of sessions. Default: no limit.
    ///
    /// At the limit, the store refuses a new anonymous session with an error of kind [`TooLarge`](ErrorKind::TooLarge). A login
    /// takes the place of an anonymous session as long as there is one. No session of a user is ever evicted. Expired sessions make
    /// room before anything is refused.
    ///
    /// Tombstones do not count. The store keeps as many of them as sessions, and at least 1,024. Beyond that the oldest are
    /// evicted. Keep the [revocations](crate::providers::CookieProviderBuilder::revocations) of a cookie provider in a store
    /// without a limit. Their marks are anonymous records, and an evicted mark lets a logged-out cookie work again.
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let provider = MemoryProvider::builder().max_sessions(1).build();
    /// let sessions = Manager::builder(provider).build()?;
    /// let (first, second) = (sessions.start(&http::HeaderMap::new()).await?, sessions.start(&http::HeaderMap::new()).await?);
    /// first.set("n", 1)?;
    /// first.save().await?;
    /// second.set("n", 2)?;
    /// assert_eq!(second.save().await.unwrap_err().kind(), ErrorKind::TooLarge);
    /// second.authenticate(Principal::new("alice")?)?;
    /// second.save().await?;    // the login takes the place of the first session
    /// assert_eq!(sessions.active_sessions().await?, 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Returns the provider, without any session.
    ///
    /// Clones of it are handles on the same store. Another call of `build` makes another store.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let builder = MemoryProvider::builder();
    /// let (provider, other) = (builder.clone().build(), builder.build());
    /// let _ = provider.clone().create(&"key-1".parse()?, &testkit::record(&Clock::system()).build()).await?;
    /// assert_eq!((provider.count().await?, other.count().await?), (1, 0));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn build(self) -> MemoryProvider {
        MemoryProvider(Arc::new(Store {
            shards: std::iter::repeat_with(|| Shard::new(self.max_sessions != usize::MAX))
                .take(SHARDS)
                .collect(),
            hasher: RandomState::default(),
            users: Index::default(),
            labels: Index::default(),
            clock: self.clock,
            max_sessions: self.max_sessions,
            sessions: AtomicUsize::new(0),
            tombstones: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        }))
    }
}

impl MemoryProvider {
    /// Returns an empty store without a limit, on the system's clock.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder, for a limit or another clock.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider};
    ///
    /// let provider = MemoryProvider::builder().max_sessions(100_000).build();
    /// let sessions = Manager::builder(provider).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn builder() -> MemoryProviderBuilder {
        MemoryProviderBuilder { clock: Clock::system(), max_sessions: usize::MAX }
    }
}

impl Default for MemoryProvider {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the provider that a configuration string names "memory".
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<MemoryProvider> {
    let found = match (config.provider_config(), config.durability()) {
        ("", None) => return Ok(MemoryProvider::new()),
        (_, None) => "providerConfig",
        (_, Some(_)) => "durability",
    };
    Err(Error::new(ErrorKind::Config, MemoryError::Config { found }))
}

impl Store {
    #[inline]
    fn place(&self, key: &StoreKey) -> (u64, usize) {
        let hash = self.hasher.hash_one(key.as_bytes());
        // The table takes its positions from the low bits and its tags from the highest seven.
        (hash, (hash >> 32) as usize % SHARDS)
    }

    /// Returns the counter of sessions or of tombstones, whichever counts `record`.
    #[inline]
    fn counter(&self, record: &Record) -> &AtomicUsize {
        if record.is_tombstone() { &self.tombstones } else { &self.sessions }
    }

    /// Makes room for a session that is already counted. If that fails, it is no longer counted.
    #[cold]
    fn make_room(&self, record: &Record) -> Result<()> {
        // Another thread may have made the room meanwhile.
        let fits = || self.sessions.load(Ordering::Relaxed) <= self.max_sessions;
        // The collected records may be tombstones, which make no room.
        while !fits() && self.collect(STEP).removed > 0 {}
        if fits() || (record.user().is_some() && self.evict(Spare::Anonymous)) {
            return Ok(());
        }
        let count_out = |sessions: usize| (sessions > self.max_sessions).then(|| sessions - 1);
        match self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_out) {
            Ok(_) => Err(Error::new(ErrorKind::TooLarge, MemoryError::Full { max: self.max_sessions })),
            Err(_) => Ok(()),
        }
    }

    /// Evicts a `spare` record: the one with the earliest deadline of the first shard that has any. Returns false if no shard has one.
    fn evict(&self, spare: Spare) -> bool {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shards = (0..SHARDS).map(|step| &self.shards[(start + step) % SHARDS]);
        let evicted = shards.find_map(|shard| shard.lock().evict(spare));
        if let Some(evicted) = &evicted {
            self.counter(&evicted.record).fetch_sub(1, Ordering::Relaxed);
        }
        evicted.is_some()
    }

    /// Evicts the oldest tombstones if there are too many. The caller holds no shard's lock.
    #[inline]
    fn bound_tombstones(&self) {
        let most = self.max_sessions.max(TOMBSTONES);
        while self.tombstones.load(Ordering::Relaxed) > most && self.evict(Spare::Tombstone) {}
    }

    /// Updates the indexes after a record was added, removed or replaced. The caller holds the lock of its shard.
    #[inline]
    fn index(&self, key: &StoreKey, before: Option<&Record>, after: Option<&Record>) {
        // Most records have no fields, so nothing indexes them.
        if before.is_some_and(Record::has_fields) || after.is_some_and(Record::has_fields) {
            self.reindex(key, before, after);
        }
    }

    fn reindex(&self, key: &StoreKey, before: Option<&Record>, after: Option<&Record>) {
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

    fn collect(&self, limit: usize) -> Collected {
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
    fn collect_one(&self, shard: &mut shard::Inner, now: Millis) -> Option<bool> {
        let Some(expired) = shard.take_expired(now)? else { return Some(false) };
        // Count while the lock is held, since a concurrent collection decides by the count.
        self.counter(&expired.record).fetch_sub(1, Ordering::Relaxed);
        self.index(&expired.key, Some(&expired.record), None);
        Some(true)
    }

    fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        // Look the key up before making room, so that a taken key is reported as taken even in a full store.
        let mut found = shard.place(hash, key, &self.clock);
        if found == Place::Taken {
            return Ok(Created::Taken);
        }
        let tombstone = record.is_tombstone();
        if tombstone {
            self.tombstones.fetch_add(1, Ordering::Relaxed);
        } else if self.sessions.fetch_add(1, Ordering::Relaxed) >= self.max_sessions {
            // Other records are removed first, and they may be in any shard.
            drop(shard);
            self.make_room(record)?;
            shard = self.shards[place].lock();
            found = shard.place(hash, key, &self.clock);
            if found == Place::Taken {
                self.sessions.fetch_sub(1, Ordering::Relaxed);
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

    /// Puts a record in a place that is not taken.
    fn put(&self, shard: &mut shard::Inner, found: Place, hash: u64, key: &StoreKey, record: &Record) {
        let expired = if found == Place::Expired { shard.remove(hash, key) } else { None };
        if let Some(expired) = &expired {
            self.counter(&expired.record).fetch_sub(1, Ordering::Relaxed);
            self.index(key, Some(&expired.record), None);
        }
        self.index(key, None, Some(record));
        shard.insert(hash, key, record);
    }

    fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Updated {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        let Some(entry) = shard.session(hash, key, self.clock.recent()) else { return Updated::Gone };
        if entry.record.version() != base.version() {
            return Updated::Stale;
        }
        let before = std::mem::replace(&mut entry.record, record.clone());
        self.index(key, Some(&before), Some(record));
        shard.note_replaced(hash, &before, record);
        if record.is_tombstone() {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            self.tombstones.fetch_add(1, Ordering::Relaxed);
            drop(shard);
            self.bound_tombstones();
        }
        Updated::Done
    }

    fn touch(&self, key: &StoreKey, at: SystemTime) -> Touched {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].lock();
        let Some(entry) = shard.session(hash, key, self.clock.recent()) else { return Touched::Gone };
        let before = entry.record.deadline();
        entry.record.touch(at);
        let (after, anonymous) = (entry.record.deadline(), entry.record.user().is_none());
        shard.note_touched(hash, anonymous, before, after);
        Touched::Done
    }

    fn rename(
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
        if found == Place::Taken {
            return Renamed::Taken;
        }
        let moved = shards.first().remove(old_hash, old);
        if let Some(tombstone) = tombstone {
            shards.first().insert(old_hash, old, tombstone);
            self.tombstones.fetch_add(1, Ordering::Relaxed);
        }
        self.put(shards.second(), found, new_hash, new, record);
        // Index the new key first, so that the user's list shows the session at every moment.
        self.index(old, moved.as_ref().map(|entry| &entry.record), None);
        drop(shards);
        if tombstone.is_some() {
            self.bound_tombstones();
        }
        Renamed::Done
    }

    fn delete(&self, key: &StoreKey) -> bool {
        let (hash, place) = self.place(key);
        let removed = {
            let mut shard = self.shards[place].lock();
            if shard.session(hash, key, self.clock.recent()).is_none() {
                return false;
            }
            let removed = shard.remove(hash, key);
            self.index(key, removed.as_ref().map(|entry| &entry.record), None);
            removed
        };
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        removed.is_some()
    }

    fn count(&self) -> u64 {
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

    /// A page holds the entries of one shard only, in the order of their keys. So the last key is enough to find the next page.
    fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page> {
        let bad = || Error::new(ErrorKind::Value, MemoryError::Cursor);
        let (mut place, mut last) = match cursor {
            None => (0, None),
            Some(cursor) => {
                let (place, last) = cursor.as_str().split_once(':').ok_or_else(bad)?;
                let last = Some(last).filter(|last| !last.is_empty());
                (place.parse().map_err(|_| bad())?, last.map(str::parse).transpose()?)
            }
        };
        let now = self.clock.recent();
        while place < SHARDS {
            let entries = self.shards[place].lock().page(now, last.as_ref(), limit);
            let next = match entries.last() {
                Some(listed) if entries.len() == limit => format!("{place}:{}", listed.key.as_str()),
                _ if place + 1 < SHARDS => format!("{}:", place + 1),
                _ => String::new(),
            };
            if !entries.is_empty() || next.is_empty() {
                return Ok(Page { entries, next: (!next.is_empty()).then(|| Cursor::new(next)) });
            }
            (place, last) = (place + 1, None);
        }
        Ok(Page::default())
    }

    fn load(&self, key: &StoreKey) -> Option<Record> {
        let (hash, place) = self.place(key);
        let now = self.clock.recent();
        let mut shard = self.shards[place].lock();
        shard.live(hash, key, now).map(|entry| entry.record.clone())
    }

    fn indexed(&self, entry: &IndexEntry, cursor: Option<&Cursor>, limit: usize) -> Page {
        let index = match entry.kind() {
            IndexKind::Principal => &self.users,
            IndexKind::Label => &self.labels,
        };
        let listed = |key: &StoreKey| {
            let record = self.load(key)?;
            record.is_indexed_by(entry).then(|| Listed { key: key.clone(), meta: record.meta() })
        };
        let after = cursor.map_or("", Cursor::as_str);
        let page = || index.page(entry.value().as_bytes(), after, limit);
        let mut looked = page();
        for _ in 0..RELISTS {
            let entries = looked.0.iter().filter_map(listed).collect();
            let now = page();
            // A session that was renamed meanwhile may be under neither of the keys that were read.
            if now == looked {
                return Page { entries, next: next_after(&looked, after) };
            }
            looked = now;
        }
        Page { entries: looked.0.iter().filter_map(listed).collect(), next: next_after(&looked, after) }
    }
}

/// Returns the cursor of the page after these keys, which follow `after`.
fn next_after((keys, more): &(Vec<StoreKey>, bool), after: &str) -> Option<Cursor> {
    more.then(|| Cursor::new(keys.last().map_or(after, StoreKey::as_str)))
}

impl Provider for MemoryProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("memory").never_waits::<MemoryProvider>().with_clock(self.0.clock.clone())
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.0.create(key, record)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        Ok(self.0.load(key))
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        Ok(self.0.update(key, record, base))
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        Ok(self.0.touch(key, at))
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        Ok(self.0.rename(old, new, record, expected, tombstone))
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        Ok(self.0.delete(key))
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.0.count())
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        Ok(self.0.collect(limit))
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.scan(cursor.as_ref(), limit)
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        Ok(self.0.indexed(entry, cursor.as_ref(), limit))
    }
}

#[derive(Debug, thiserror::Error)]
enum MemoryError {
    #[error("the memory provider takes no {found}; expected none")]
    Config { found: &'static str },
    #[error(
        "expected fewer than {max} sessions, found as many, and none that may be put out; try later, or raise max_sessions"
    )]
    Full { max: usize },
    #[error("the cursor is not one that this provider gave out")]
    Cursor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Millis};
    use crate::codec::Codec;
    use crate::principal::Principal;
    use crate::record::base;
    use crate::record::{Meta, Times};

    fn record(user: Option<&str>, deadline: Millis) -> Record {
        let times = Times {
            version: 1,
            created: Millis(0),
            issued: Millis(0),
            last_active: Millis(0),
            idle_deadline: deadline,
            absolute_deadline: Millis::NEVER,
            authenticated: None,
        };
        let principal = user.map(|user| Principal::new(user).unwrap());
        Record::new(&Meta::new(times, principal), Codec::MESSAGE_PACK, b"")
    }

    fn key(n: usize) -> StoreKey {
        format!("key-{n}").parse().unwrap()
    }

    #[test]
    fn a_full_store_refuses_visitors_and_evicts_no_user() {
        let time = ManualClock::default();
        let never = Millis::NEVER;
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(3).build().0;
        assert_eq!(store.create(&key(0), &record(Some("alice"), never)).unwrap(), Created::Done);
        assert_eq!(store.create(&key(1), &record(None, never)).unwrap(), Created::Done);
        assert_eq!(store.create(&key(2), &record(None, never)).unwrap(), Created::Done);
        assert_eq!(store.create(&key(3), &record(None, never)).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(store.create(&key(1), &record(None, never)).unwrap(), Created::Taken);
        for n in [4, 5] {
            assert_eq!(store.create(&key(n), &record(Some("bob"), never)).unwrap(), Created::Done);
        }
        assert_eq!(store.count(), 3);
        assert_eq!(
            store.create(&key(6), &record(Some("bob"), never)).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert!(store.load(&key(0)).is_some());
        assert!(store.delete(&key(4)));
        assert_eq!(store.create(&key(7), &record(None, never)).unwrap(), Created::Done);
    }

    #[test]
    fn expired_sessions_make_room_before_anyone_is_refused() {
        let time = ManualClock::default();
        let now = time.clock().millis();
        let second = std::time::Duration::from_secs(1);
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(1).build().0;
        assert_eq!(store.create(&key(0), &record(None, now.after(second))).unwrap(), Created::Done);
        time.advance(second);
        assert_eq!(store.create(&key(1), &record(None, Millis::NEVER)).unwrap(), Created::Done);
    }

    #[test]
    fn one_that_takes_the_place_of_an_expired_one_is_counted_once() {
        let time = ManualClock::default();
        let second = std::time::Duration::from_secs(1);
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(2).build().0;
        let brief = record(None, time.clock().millis().after(second));
        assert_eq!(store.create(&key(0), &brief).unwrap(), Created::Done);
        time.advance(second);
        for n in [0, 1] {
            assert_eq!(store.create(&key(n), &record(None, Millis::NEVER)).unwrap(), Created::Done, "{n}");
        }
        assert_eq!((store.count(), store.sessions.load(Ordering::Relaxed)), (2, 2));
    }

    #[test]
    fn of_many_that_expire_none_is_forgotten() {
        let time = ManualClock::default();
        let second = std::time::Duration::from_secs(1);
        let store = MemoryProvider::builder().clock(time.clock()).build().0;
        let deadline = time.clock().millis().after(second);
        for n in 0..50_000 {
            assert_eq!(store.create(&key(n), &record(None, deadline)).unwrap(), Created::Done);
        }
        time.advance(second);
        let mut removed = 0;
        loop {
            let collected = store.collect(1000);
            removed += collected.removed;
            if !collected.more {
                break;
            }
        }
        assert_eq!((removed, store.sessions.load(Ordering::Relaxed)), (50_000, 0));
    }

    #[test]
    fn sessions_that_come_and_go_leave_nothing_behind() {
        let store = MemoryProvider::new().0;
        for n in 0..100_000 {
            assert_eq!(store.create(&key(n), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
            assert!(store.delete(&key(n)));
        }
        let kept: usize = store.shards.iter().map(|shard| shard.lock().deadlines()).sum();
        assert!(kept < 100_000 / 2, "{kept} deadlines kept for no session");
        assert_eq!(store.users.page(b"alice", "", 10), (Vec::new(), false));
        assert_eq!(store.sessions.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_login_evicts_an_anonymous_session_wherever_it_is() {
        let time = ManualClock::default();
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(32_000).build().0;
        let soon = time.clock().millis().after(std::time::Duration::from_secs(60));
        // Over a hundred users in each shard end before the anonymous sessions do.
        for n in 0..30_000 {
            assert_eq!(store.create(&key(n), &record(Some("user"), soon)).unwrap(), Created::Done);
        }
        for n in 30_000..32_000 {
            assert_eq!(store.create(&key(n), &record(None, Millis::NEVER)).unwrap(), Created::Done);
        }
        for n in 32_000..34_000 {
            assert_eq!(store.create(&key(n), &record(Some("user"), soon)).unwrap(), Created::Done, "{n}");
        }
        let full = store.create(&key(34_000), &record(Some("user"), soon)).unwrap_err();
        assert_eq!((full.kind(), store.count()), (ErrorKind::TooLarge, 32_000));
    }

    #[test]
    fn a_touched_or_replaced_anonymous_session_can_be_evicted() {
        let time = ManualClock::default();
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(2).build().0;
        let first = record(None, time.clock().millis().after(std::time::Duration::from_secs(60)));
        assert_eq!(store.create(&key(0), &first).unwrap(), Created::Done);
        assert_eq!(store.create(&key(1), &first).unwrap(), Created::Done);
        time.advance(std::time::Duration::from_secs(30));
        assert_eq!(store.touch(&key(0), time.clock().now()), Touched::Done);
        let mut changed = first.clone();
        changed.edit(|meta| (meta.times.version, meta.times.idle_deadline) = (2, Millis::NEVER));
        assert_eq!(store.update(&key(1), &changed, &base(1)), Updated::Done);
        assert_eq!(store.create(&key(2), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
        assert_eq!(store.create(&key(3), &record(Some("bob"), Millis::NEVER)).unwrap(), Created::Done);
        assert!(store.load(&key(0)).is_none() && store.load(&key(1)).is_none());
        assert_eq!(store.count(), 2);
    }

    #[test]
    fn logouts_leave_room_for_logins() {
        use crate::record::Mark;

        let time = ManualClock::default();
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(10).build().0;
        let visit = record(None, Millis::NEVER);
        for n in 0..5_000 {
            assert_eq!(store.create(&key(n), &visit).unwrap(), Created::Done, "{n}");
            assert_eq!(
                store.update(&key(n), &visit.tombstone(&Mark::Ended, Millis(1), Millis::NEVER), &base(1)),
                Updated::Done
            );
        }
        let kept = |n: usize| store.load(&key(n)).is_some();
        assert_eq!((store.count(), (0..5_000).filter(|n| kept(*n)).count()), (0, TOMBSTONES));
        assert_eq!(store.create(&key(5_000), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
    }

    #[test]
    fn collected_tombstones_make_no_room_for_a_session() {
        use crate::record::Mark;

        let time = ManualClock::default();
        let second = std::time::Duration::from_secs(1);
        let store = MemoryProvider::builder().clock(time.clock()).max_sessions(1).build().0;
        assert_eq!(store.create(&key(0), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
        let forgotten = time.clock().millis().after(second);
        let mark = record(None, Millis::NEVER).tombstone(&Mark::Ended, Millis(1), forgotten);
        assert_eq!(store.create(&key(1), &mark).unwrap(), Created::Done);
        time.advance(second);
        let full = store.create(&key(2), &record(Some("bob"), Millis::NEVER)).unwrap_err();
        assert_eq!((full.kind(), store.count()), (ErrorKind::TooLarge, 1));
    }

    #[test]
    fn a_page_of_one_users_sessions_looks_at_no_more_than_it_holds() {
        let store = MemoryProvider::new().0;
        let alice = Principal::new("alice").unwrap();
        for n in 0..20_000 {
            assert_eq!(store.create(&key(n), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
        }
        let (mut found, mut cursor) = (0, None);
        loop {
            let page = store.indexed(&IndexEntry::from(&alice), cursor.as_ref(), 500);
            found += page.entries.len();
            assert!(page.entries.len() <= 500 && page.entries.is_sorted_by(|one, other| one.key < other.key));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, 20_000);
        let (keys, more) = store.users.page(b"alice", "", 500);
        assert_eq!((keys.len(), more), (500, true), "the index hands out a page and not the whole");
    }
}
