//! A near cache: any provider, with copies of its records in this process.
//!
//! A copy can be old, and nothing but a read may depend on it. So each method has one of three parts:
//!
//! | method | with the copies |
//! |---|---|
//! | `load` | returns a usable copy; otherwise asks the store and keeps the record |
//! | `create`, `update`, `touch`, `rename`, `delete` | asks the store, and drops the copy when the call ends, however it ends |
//! | `count`, `delete_expired`, `scan`, `indexed` | asks the store; the copies are neither used nor changed |
//!
//! An `update` on the base of an old copy is *stale*, since the store compares versions. The manager then loads again, past the dropped
//! copy, and replays the changes.
//!
//! `copies.rs` decides whether a copy may be used. Two races matter there:
//!
//! - **A load that began before a change and ends after it** would store the old record. The change removes the *place* of the load, so
//!   the load keeps nothing.
//! - **A report that was lost** would leave an old copy for ever. So each copy carries the number of the listening period in which
//!   its load was asked for, and is not used in any other.
//!
//! Absent records have no copies: a new session must be visible to other processes at once.

mod copies;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::copies::{Copies, CopyLookup, Freshness};
use super::{
    Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated, Watched, Watcher,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

/// A [`Provider`] in front of another one, which keeps copies of the records that it has read.
///
/// Reads of sessions in use then cost no round trip. Everything else goes to the store. Commits stay exact: the store compares
/// versions, so an old copy costs a retry and loses nothing. A copy can be *stale*: if another process changes or ends a session,
/// this process reads the old state until it learns of the change. There are two rules for how long:
///
/// - [`watching`](CachedBuilder::watching) needs a store that reports changes, such as a Redis server. A copy is dropped as soon as
///   its change is reported, and all copies are dropped while no reports come in.
/// - [`within`](CachedBuilder::within) works on any store. A copy is used for the given time and no longer.
///
/// An absent record is looked up every time. No copy is used past its record's deadline.
///
/// ```
/// # use std::time::Duration;
/// use cloakroom::{Cached, Manager, MemoryProvider};
///
/// # let provider = MemoryProvider::new();
/// let near = Cached::builder(provider).within(Duration::from_secs(1));
/// let sessions = Manager::builder(near).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
pub struct Cached<P> {
    store: Arc<P>,
    copies: Arc<Copies>,
}

/// Sets up a [`Cached`] provider. [`Cached::builder`] returns one.
///
/// It ends with the rule by which copies stay fresh: [`watching`](Self::watching) for a store that reports changes, or
/// [`within`](Self::within) for any store.
///
/// ```
/// # #[cfg(all(feature = "redis", unix))]
/// # async fn show() -> cloakroom::Result<()> {
/// use cloakroom::{Cached, Manager, RedisProvider};
///
/// let redis = RedisProvider::connect("redis://127.0.0.1/").await?;
/// let near = Cached::builder(redis).max_bytes(16 << 20).watching().await?;
/// let sessions = Manager::builder(near).build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is told how copies are kept fresh"]
pub struct CachedBuilder<P> {
    store: P,
    clock: Clock,
    max_bytes: u64,
}

/// The default size of all copies in bytes, enough for some hundred thousand small sessions.
const MAX_BYTES: u64 = 64 << 20;

impl<P: Provider> Cached<P> {
    /// Returns a builder of a near cache in front of `store`. Its copies take at most 64 MiB.
    ///
    /// ```
    /// use cloakroom::{Cached, Manager, MemoryProvider};
    /// use std::time::Duration;
    ///
    /// # let provider = MemoryProvider::new();
    /// let near = Cached::builder(provider).max_bytes(256 << 20).within(Duration::from_secs(1));
    /// let sessions = Manager::builder(near).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn builder(store: P) -> CachedBuilder<P> {
        CachedBuilder { store, clock: Clock::system(), max_bytes: MAX_BYTES }
    }

    /// Drops every copy, so that each session is read from the store again. The store is not changed.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Cached, Clock, MemoryProvider, Provider, testkit};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let near = Cached::builder(provider.clone()).within(Duration::from_secs(60));
    /// let key = "key-1".parse()?;
    /// let _ = near.create(&key, &testkit::record(&Clock::system()).build()).await?;
    /// assert!(near.load(&key).await?.is_some());    // this load makes a copy
    /// provider.delete(&key).await?;                 // another process ends the session
    /// assert!(near.load(&key).await?.is_some(), "the copy is used for a minute");
    /// near.clear();
    /// assert!(near.load(&key).await?.is_none());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn clear(&self) {
        self.copies.clear();
    }
}

impl<P: Provider> CachedBuilder<P> {
    /// Sets the source of time. Give the manager the same clock. Default: the system's.
    ///
    /// ```
    /// use cloakroom::{Cached, Manager, ManualClock, MemoryProvider};
    /// use std::time::Duration;
    ///
    /// let time = ManualClock::default();
    /// let store = MemoryProvider::builder().clock(time.clock()).build();
    /// let near = Cached::builder(store).clock(time.clock()).within(Duration::from_secs(1));
    /// let sessions = Manager::builder(near).clock(time.clock()).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the maximum size of all copies in bytes, including their keys and the cache's own tables. The least used copies are
    /// evicted first. Default: 64 MiB.
    ///
    /// ```
    /// # use cloakroom::{Cached, MemoryProvider};
    /// # use std::time::Duration;
    /// # let provider = MemoryProvider::new();
    /// let near = Cached::builder(provider).max_bytes(16 << 20).within(Duration::from_secs(1));
    /// ```
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Uses a copy for `staleness` after its load, and no longer. This process sees changes and logouts of other processes at most
    /// that much later.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Cached, Clock, ManualClock, MemoryProvider, Provider, testkit};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let time = ManualClock::default();
    /// # let store = MemoryProvider::builder().clock(time.clock()).build();
    /// let near = Cached::builder(store.clone()).clock(time.clock()).within(Duration::from_millis(500));
    /// # let key = "key-1".parse()?;
    /// # let _ = store.create(&key, &testkit::record(&time.clock()).build()).await?;
    /// assert!(near.load(&key).await?.is_some());
    /// store.delete(&key).await?;                     // a logout in another process
    /// assert!(near.load(&key).await?.is_some(), "seen half a second later");
    /// time.advance(Duration::from_millis(501));
    /// assert!(near.load(&key).await?.is_none());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn within(self, staleness: Duration) -> Cached<P> {
        let copies = Arc::new(Copies::new(self.max_bytes, self.clock, Freshness::Within(staleness)));
        Cached { store: Arc::new(self.store), copies }
    }

    /// Uses a copy until the store reports that the session has changed. While no reports come in, no copy is used.
    ///
    /// ```no_run
    /// # async fn show(provider: impl cloakroom::providers::Watched) -> cloakroom::Result<()> {
    /// use cloakroom::{Cached, Manager};
    ///
    /// let near = Cached::builder(provider).watching().await?;
    /// let sessions = Manager::builder(near).build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Watched::watch`].
    pub async fn watching(self) -> Result<Cached<P>>
    where
        P: Watched,
    {
        let copies = Arc::new(Copies::new(self.max_bytes, self.clock, Freshness::Told));
        let watcher: Arc<dyn Watcher> = Arc::clone(&copies) as _;
        self.store.watch(Arc::downgrade(&watcher)).await?;
        Ok(Cached { store: Arc::new(self.store), copies })
    }
}

impl<P> Clone for Cached<P> {
    /// Returns a handle on the same store and the same copies.
    fn clone(&self) -> Self {
        Cached { store: Arc::clone(&self.store), copies: Arc::clone(&self.copies) }
    }
}

impl<P: fmt::Debug> fmt::Debug for Cached<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&self.store).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: Provider> Provider for Cached<P> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let _changing = self.copies.changing(key);
        self.store.create(key, record).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let slot = match self.copies.find(key) {
            CopyLookup::Copy(record) => return Ok(Some(record)),
            CopyLookup::Slot(slot) => slot,
        };
        // Boxed, so that a hit does not carry a future as large as the store's about.
        let loaded = Box::pin(self.store.load(key)).await?;
        if let Some(record) = &loaded {
            slot.keep(record);
        }
        Ok(loaded)
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let _changing = self.copies.changing(key);
        self.store.update(key, record, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let _changing = self.copies.changing(key);
        self.store.touch(key, at).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let (_old, _new) = (self.copies.changing(old), self.copies.changing(new));
        self.store.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let _changing = self.copies.changing(key);
        self.store.delete(key).await
    }

    async fn count(&self) -> Result<u64> {
        self.store.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.store.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.store.scan(cursor, limit).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.store.indexed(entry, cursor, limit).await
    }
}
