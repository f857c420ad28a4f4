//! A near cache: any provider, with copies of its records in this process.

mod copies;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::copies::{Copies, Found, Freshness};
use super::{
    Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated, Watched, Watcher,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

/// A [`Provider`] in front of another one that keeps copies of the records it has read, up to a bound.
///
/// Reads of sessions that are in use then cost no round trip. Everything else goes to the store, and commits stay exact: versions are
/// compared there, so a copy that is behind costs a retry and loses nothing. What a copy can be is *stale*: a session that was changed or ended
/// by another process is still read as it was, until this process hears of it.
///
/// - [`watching`](CachedBuilder::watching) a store that tells of changes, as a Redis server does: a copy is dropped as soon as the news comes in, and all
///   copies while there is no connection for news.
/// - [`within`](CachedBuilder::within) a bound on any store: a copy is used for so long and no longer.
///
/// What is not there is asked for every time, and a copy is not used past its record's deadline.
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

/// Settings for a [`Cached`] provider; begun by [`Cached::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is told how copies are kept fresh"]
pub struct CachedBuilder<P> {
    store: P,
    clock: Clock,
    max_bytes: u64,
}

/// Some hundred thousand small sessions.
const MAX_BYTES: u64 = 64 << 20;

impl<P: Provider> Cached<P> {
    /// Begins a near cache in front of `store`, for 64 MiB of copies.
    pub fn builder(store: P) -> CachedBuilder<P> {
        CachedBuilder { store, clock: Clock::system(), max_bytes: MAX_BYTES }
    }

    /// Drops every copy.
    ///
    /// ```
    /// # use cloakroom::{Cached, MemoryProvider};
    /// # use std::time::Duration;
    /// # let provider = MemoryProvider::new();
    /// let near = Cached::builder(provider).within(Duration::from_secs(1));
    /// near.clear();
    /// ```
    pub fn clear(&self) {
        self.copies.clear();
    }
}

impl<P: Provider> CachedBuilder<P> {
    /// The source of time; the system's by default. Give the manager the same.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The most bytes that copies take, their keys and what the cache itself needs included. The least used go first.
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

    /// Uses a copy for `staleness` and no longer: so late may this process notice what others changed or ended.
    pub fn within(self, staleness: Duration) -> Cached<P> {
        let copies = Arc::new(Copies::new(self.max_bytes, self.clock, Freshness::Within(staleness)));
        Cached { store: Arc::new(self.store), copies }
    }

    /// Uses a copy until the store tells that the session has changed, and none while it cannot be heard.
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
    /// Those of [`Watched::watch`].
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
    /// A handle on the same store and the same copies.
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
        let place = match self.copies.find(key) {
            Found::Copy(record) => return Ok(Some(record)),
            Found::Place(place) => place,
        };
        // Boxed, so that a hit does not carry a future as large as the store's about.
        let loaded = Box::pin(self.store.load(key)).await?;
        if let Some(record) = &loaded {
            place.keep(record);
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
