//! Sessions in this process's memory: fast, and lost with the process.
//!
//! A store has 256 shards. The hash of a key selects its shard. A shard is locked before a part of the index, never the other way
//! round.
//!
//! | file | part |
//! |---|---|
//! | `shard.rs` | one shard: a table of records, and their deadlines in order |
//! | `index.rs` | the indexes, which find sessions by user and label |
//! | `counts.rs` | the numbers of sessions and tombstones, and their limits |
//! | `keys.rs` | the operations on one key |
//! | `collect.rs` | the removal of expired records, and evictions |
//! | `list.rs` | the pages of sessions |
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
//! may be under neither key, so the page is repeated while the keys differ, a bounded number of times.

mod collect;
mod counts;
mod index;
mod keys;
mod list;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

#[cfg(shuttle)]
use foldhash::fast::FixedState as RandomState;
#[cfg(not(shuttle))]
use foldhash::fast::RandomState;

use self::counts::MemoryCounts;
use self::index::Indexes;
use self::shard::Shard;
use super::{Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};
use crate::sync::AtomicUsize;

/// The number of shards: enough that two cores seldom meet and that a growing shard delays few calls, and few enough that an empty store
/// is small.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 256 };

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
    indexes: Indexes,
    clock: Clock,
    counts: MemoryCounts,
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
            indexes: Indexes::default(),
            clock: self.clock,
            counts: MemoryCounts::new(self.max_sessions),
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
