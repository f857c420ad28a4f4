//! The contract between the manager and a store.
//!
//! [`Provider`] is the contract. [`Capabilities`] say what a store can do. Each method has an outcome type, such as [`Created`] or
//! [`Updated`], so that a conflict is never taken for a success.
//!
//! | module | provider |
//! |---|---|
//! | `memory` | in this process |
//! | `file` | in a folder |
//! | `redis` | in Redis or Valkey |
//! | `sql` | in a SQL database |
//! | `cookie` | in the visitor's cookie |
//! | `cached` | copies in front of another provider |
//! | `sealed` | another provider with encrypted data |
//! | `foreign` | records in another library's layout, such as Beego's |
//! | `any` | a provider of any type |
//!
//! The stores never import each other. `cached` and `sealed` wrap any provider, and know only the contract.

mod any;
#[cfg(feature = "cached")]
pub(crate) mod cached;
mod capabilities;
#[cfg(feature = "cookie")]
pub(crate) mod cookie;
#[cfg(all(any(feature = "file", feature = "sqlite"), unix))]
pub(crate) mod durability;
#[cfg(all(feature = "file", unix))]
pub(crate) mod file;
#[cfg(all(
    feature = "beego",
    any(all(unix, any(feature = "file", feature = "redis")), feature = "mysql", feature = "postgres")
))]
pub(crate) mod foreign;
#[cfg(feature = "memory")]
pub(crate) mod memory;
mod outcome;
#[cfg(all(any(feature = "file", feature = "sqlite"), unix))]
pub(crate) mod private_folder;
#[cfg(all(feature = "redis", unix))]
pub(crate) mod redis;
mod sealed;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
pub(crate) mod sql;
mod tokens;
mod watch;

use std::future::Future;
use std::time::SystemTime;

use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

pub use any::AnyProvider;
pub use capabilities::Capabilities;
pub use outcome::{Collected, Created, Cursor, Listed, Page, Renamed, Touched, Updated};
pub use sealed::SealedProvider;
pub use tokens::SealedTokens;
pub use watch::{Watched, Watcher};

/// A store of sessions.
///
/// Implement this trait to keep sessions in a store of your own. Methods are plain `async fn`. The crate
/// `examples/custom_provider` is a complete implementation, and [`conformance!`](crate::conformance) tests one.
///
/// # Contract
///
/// The contract binds every provider, whether it is part of this crate or not.
///
/// - **Each method is one atomic step.** Other calls see the store before the step or after it. This holds for calls of this process
///   and, where [`Capabilities::shared`] is true, for calls of others.
/// - **An ended session stays ended.** Only [`create`](Self::create) and [`rename`](Self::rename) add a key, and only one that is free.
///   There is no upsert.
/// - **A record expires by its own deadline,** [`Record::expires`]. From that instant on it is absent for every method,
///   whether it was collected or not. `create` may take its place.
/// - **Tombstones** ([`Record::is_tombstone`]) are stored and loaded like any record. `update`, `touch` and `rename` treat them as absent.
///   `count`, `scan` and `indexed` leave them out. `delete` answers `false` and leaves them, so that a logout with a former id
///   still finds the session's present id.
/// - **An outcome is not an error.** An absent key, a conflict and a taken key are answers, and each answer is `#[must_use]`.
/// - **An error leaves the record either unchanged or fully updated.** [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) means that
///   the store failed. [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) means that the stored bytes cannot be read. The error
///   has its cause as its [source](std::error::Error::source).
/// - **A dropped future leaves the store consistent** and the provider usable. Whether the step happened is then unknown.
/// - **A provider knows records and deadlines,** and nothing of cookies and codecs.
///
/// A provider that cannot do something says so in its [`Capabilities`], and the method returns
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// # Wrappers
///
/// A wrapper forwards every method. The trait has no default methods, so none is bypassed by accident. A clone of a provider is a
/// handle on the same store.
#[doc(alias = "SessionStore")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session provider",
    note = "use MemoryProvider or FileProvider, or implement `cloakroom::Provider`; examples/custom_provider shows how"
)]
pub trait Provider: Send + Sync + 'static {
    /// Returns what this provider can do: the same answer every time, without I/O.
    ///
    /// ```
    /// use cloakroom::{MemoryProvider, Provider};
    ///
    /// let capabilities = MemoryProvider::new().capabilities();
    /// assert_eq!(capabilities.name, "memory");
    /// assert!(capabilities.lists && capabilities.tombstones && !capabilities.persistent);
    /// ```
    fn capabilities(&self) -> Capabilities;

    /// Stores `record` under `key`, if the key is free.
    ///
    /// A key is free if nothing is under it or what is there has expired. Otherwise the answer is [`Created::Taken`] and nothing
    /// changes. A tombstone takes its key like a session.
    ///
    /// ```
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::{Created, StoreKey}};
    /// # #[cfg(feature = "testkit")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let key: StoreKey = "key-1".parse()?;
    /// let record = cloakroom::testkit::record(&Clock::system()).value("n", 1).build();
    /// assert_eq!(provider.create(&key, &record).await?, Created::Done);
    /// assert_eq!(provider.create(&key, &record).await?, Created::Taken);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "insert")]
    #[doc(alias = "SessionInit")]
    fn create(&self, key: &StoreKey, record: &Record) -> impl Future<Output = Result<Created>> + Send;

    /// Returns the record under `key`, a tombstone too.
    ///
    /// The answer is `None` if nothing is under the key or what is there has expired.
    ///
    /// ```
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::StoreKey};
    /// # #[cfg(feature = "testkit")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let key: StoreKey = "key-1".parse()?;
    /// assert!(provider.load(&key).await?.is_none());
    /// let record = cloakroom::testkit::record(&Clock::system()).value("n", 1).build();
    /// let _ = provider.create(&key, &record).await?;
    /// assert_eq!(provider.load(&key).await?.unwrap().as_bytes(), record.as_bytes());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the stored bytes are no record. A store that can puts them aside, so that the next
    /// load finds nothing.
    #[doc(alias = "SessionRead")]
    #[doc(alias = "SessionExist")]
    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// Replaces the record under `key` by `record`, if it is still at the version of `base`.
    ///
    /// `base` is the record that the change was made from, as the caller loaded or last stored it. Most stores compare
    /// [`Record::version`]. A store without a place for a number may compare [`Record::data`] instead. A [`touch`](Self::touch) that came
    /// in between changes neither, and so does not make an update stale.
    ///
    /// `record` may be a tombstone: this is how a session ends while requests with it may be running.
    ///
    /// The answer is [`Updated::Gone`] if no live session is under the key, and [`Updated::Stale`] if the session is at another version.
    /// In both cases nothing changes.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::{StoreKey, Updated}, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let key: StoreKey = "key-1".parse()?;
    /// let version = |n| testkit::record(&Clock::system()).version(n).value("n", n).build();
    /// let _ = provider.create(&key, &version(1)).await?;
    /// assert_eq!(provider.update(&key, &version(2), &version(1)).await?, Updated::Done);
    /// // Another request had loaded version 1, too. It has to load again.
    /// assert_eq!(provider.update(&key, &version(2), &version(1)).await?, Updated::Stale);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    #[doc(alias = "save")]
    fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> impl Future<Output = Result<Updated>> + Send;

    /// Records that the session under `key` was used at `at`.
    ///
    /// The *stored* record decides how long the session lives on, as [`Record::touch`] describes. Data and version do not change. So a
    /// touch and any other change give the same result in either order, and a touch is never stale.
    ///
    /// The answer is [`Touched::Gone`] if no live session is under the key. A touch never adds a record.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::{StoreKey, Touched}, testkit};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let (clock, key) = (Clock::system(), "key-1".parse::<StoreKey>()?);
    /// let _ = provider.create(&key, &testkit::record(&clock).idle(Duration::from_secs(1800)).build()).await?;
    /// let later = clock.now() + Duration::from_secs(60);
    /// assert_eq!(provider.touch(&key, later).await?, Touched::Done);
    /// assert_eq!(provider.load(&key).await?.unwrap().expires(), later + Duration::from_secs(1800));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    fn touch(&self, key: &StoreKey, at: SystemTime) -> impl Future<Output = Result<Touched>> + Send;

    /// Moves the session under `old`, which is at version `expected`, to the free key `new`, and stores `record` there.
    ///
    /// `tombstone` then takes its place under `old`; without one the old key is free.
    ///
    /// A store that cannot do both at once makes the new record durable first. A crash between the two then leaves the session
    /// reachable.
    ///
    /// The answer is [`Renamed::Gone`] if no live session is under `old`, [`Renamed::Stale`] if it is at another version, and
    /// [`Renamed::Taken`] if `new` is not free. In each of these cases nothing changes.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::{Renamed, StoreKey}, testkit};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let (old, new): (StoreKey, StoreKey) = ("old".parse()?, "new".parse()?);
    /// let record = || testkit::record(&Clock::system()).principal("alice");
    /// let _ = provider.create(&old, &record().build()).await?;
    /// let mark = record().version(2).tombstone(&new, Duration::from_secs(30));
    /// let renamed = provider.rename(&old, &new, &record().version(2).build(), 1, Some(&mark)).await?;
    /// assert_eq!(renamed, Renamed::Done);
    /// assert!(provider.load(&old).await?.unwrap().is_tombstone());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    #[doc(alias = "cycle_id")]
    #[doc(alias = "SessionRegenerate")]
    fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> impl Future<Output = Result<Renamed>> + Send;

    /// Removes the live session under `key`.
    ///
    /// Returns true if there was one. An absent key, an expired record and a tombstone are `false`, which is no error.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, providers::StoreKey, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let key: StoreKey = "key-1".parse()?;
    /// let _ = provider.create(&key, &testkit::record(&Clock::system()).build()).await?;
    /// assert!(provider.delete(&key).await?);
    /// assert!(!provider.delete(&key).await?, "it is gone already");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    #[doc(alias = "remove")]
    #[doc(alias = "SessionDestroy")]
    fn delete(&self, key: &StoreKey) -> impl Future<Output = Result<bool>> + Send;

    /// Returns the number of live sessions, exactly.
    ///
    /// A store that looks at one key after the other may count a session that is being renamed twice or not at all.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// let record = || testkit::record(&Clock::system());
    /// let _ = provider.create(&"session".parse()?, &record().build()).await?;
    /// let _ = provider.create(&"tombstone".parse()?, &record().ended()).await?;
    /// assert_eq!(provider.count().await?, 1, "a tombstone is no session");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if [`Capabilities::lists`] is false. The same holds for `scan` and `indexed`.
    #[doc(alias = "SessionAll")]
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Removes at most `limit` expired records and tombstones, the oldest first where that is cheap.
    ///
    /// Nothing to remove is an answer of none, and no error.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{ManualClock, MemoryProvider, Provider, providers::Collected, testkit};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let time = ManualClock::default();
    /// let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// for key in ["a1", "a2", "a3"] {
    ///     let _ = provider.create(&key.parse()?, &testkit::record(&time.clock()).build()).await?;
    /// }
    /// time.advance(Duration::from_secs(31 * 60));
    /// assert_eq!(provider.delete_expired(100).await?, Collected { removed: 3, more: false });
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    #[doc(alias = "SessionGC")]
    #[doc(alias = "purge")]
    fn delete_expired(&self, limit: usize) -> impl Future<Output = Result<Collected>> + Send;

    /// Returns a page of at most `limit` live sessions, from the start or from where an earlier page ended.
    ///
    /// A walk through all pages meets each session that is there throughout at least once, even if its deadline moves back
    /// meanwhile. It may meet a session more than once, and may miss one that comes or goes. So do not count by a walk: use
    /// [`count`](Self::count). A cursor may be used again. An empty store has one page, empty and without a next one.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Provider, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// for key in ["a1", "a2", "a3"] {
    ///     let _ = provider.create(&key.parse()?, &testkit::record(&Clock::system()).build()).await?;
    /// }
    /// let (mut cursor, mut keys) = (None, Vec::new());
    /// loop {
    ///     let page = provider.scan(cursor, 2).await?;
    ///     keys.extend(page.entries.into_iter().map(|listed| listed.key));
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// keys.sort();
    /// keys.dedup();
    /// assert_eq!(keys.len(), 3);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    fn scan(&self, cursor: Option<Cursor>, limit: usize) -> impl Future<Output = Result<Page>> + Send;

    /// Returns a page of at most `limit` live sessions that have `entry` among their [index entries](Record::index_entries), in no
    /// particular order, from the start or from where an earlier page ended.
    ///
    /// Each page is one bounded step, however many sessions there are, and one consistent view: a session that is being renamed appears
    /// under its old key or under its new one. A rename between two pages may move a session past the cursor. So a caller that
    /// needs every session walks until two walks find the same.
    ///
    /// An entry that no session has gives an empty page without a next one.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, MemoryProvider, Principal, Provider, providers::IndexEntry, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let provider = MemoryProvider::new();
    /// for (key, user) in [("phone", "alice"), ("laptop", "alice"), ("desk", "bob")] {
    ///     let record = testkit::record(&Clock::system()).principal(user).build();
    ///     let _ = provider.create(&key.parse()?, &record).await?;
    /// }
    /// let alice = IndexEntry::from(&Principal::new("alice")?);
    /// let page = provider.indexed(&alice, None, 100).await?;
    /// assert_eq!((page.entries.len(), page.next), (2, None));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    fn indexed(
        &self,
        entry: &IndexEntry,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page>> + Send;
}
